package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/manifest"
	"github.com/sampan-batch/sampan/internal/place"
)

// fit refuses pods that this machine could never run, however little else runs.
func (p *planner) fit(it *item) {
	spec := &it.pod.Spec
	if spec.NodeName != "" && spec.NodeName != p.Node.Name {
		it.refuse(it.spec("nodeName"), "this machine is %q, and there is no other", p.Node.Name)
	}
	if s := spec.SchedulerName; s != "" && s != corev1.DefaultSchedulerName {
		it.refuse(it.spec("schedulerName"), "there is no scheduler %q here that could place the pods", s)
	}
	if spec.OS != nil && spec.OS.Name != "linux" {
		it.refuse(it.spec("os.name"), "is %s, and this machine runs linux", spec.OS.Name)
	}
	p.place(it)
	p.volumes(it)
	class := p.class(spec)
	it.containers(func(at string, c *corev1.Container) {
		if class == "host" && len(c.Command) == 0 {
			it.refuse(at+".command", "has to be set: the runtime class host runs commands of this machine, and uses no image")
		}
		if why := p.noImage(c.Image); why != "" && class != "host" {
			it.refuse(at+".image", "%q: %s", c.Image, why)
		}
	})
	if len(spec.ResourceClaims) > 0 {
		it.refuse(it.spec("resourceClaims"), "there are no devices here that could be claimed")
	}
}

// noImage says why a text, which validation has found not empty, names no image.
func (p *planner) noImage(text string) string {
	if why := manifest.Unfilled(text); why != "" {
		return why
	}
	if err := p.ImageName(text); text != "" && err != nil {
		why := "is no name of an image, as registry.example.com/team/app:1.2 is"
		repository, _, _ := strings.Cut(text, "@")
		for part := range strings.SplitSeq(repository, "/") {
			if name, _, _ := strings.Cut(part, ":"); name != strings.ToLower(name) {
				return why + ": it has capitals (" + part + ")"
			}
		}
		return why
	}
	return ""
}

// place asks the core that places pods.
func (p *planner) place(it *item) {
	pod := &corev1.Pod{ObjectMeta: *it.pod.ObjectMeta.DeepCopy(), Spec: *it.pod.Spec.DeepCopy()}
	p.scheme.Default(pod) // limits are requests, too
	reasons := place.Never(p.Node, pod)
	if pod.Spec.NodeSelector != nil || pod.Spec.Affinity != nil { // which is looked at first, and alone
		rest := pod.DeepCopy()
		rest.Spec.NodeSelector, rest.Spec.Affinity = nil, nil
		reasons = append(reasons, place.Never(p.Node, rest)...)
		slices.Sort(reasons)
		reasons = slices.Compact(reasons)
	}
	for _, why := range reasons {
		name, lacking := strings.CutPrefix(why, "Insufficient ")
		switch {
		case lacking:
			want := resource.PodRequests(pod, resource.PodResourcesOptions{})[corev1.ResourceName(name)]
			has := "none"
			if q, ok := p.Node.Status.Allocatable[corev1.ResourceName(name)]; ok {
				has = q.String()
			}
			it.refuse(it.spec("containers"), "a pod asks for %s of %s, and this machine has %s", want.String(), name, has)
		case strings.Contains(why, "affinity/selector") && len(pod.Spec.NodeSelector) > 0:
			it.refuse(it.spec("nodeSelector"), "this machine does not match; its labels are %s", labelsOf(p.Node.Labels))
		case strings.Contains(why, "affinity/selector"):
			it.refuse(it.spec("affinity.nodeAffinity"), "this machine does not match; its labels are %s", labelsOf(p.Node.Labels))
		default:
			it.refuse(it.spec(""), "this machine does not fit: %s", why)
		}
	}
}

func labelsOf(labels map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, key+"="+labels[key])
	}
	return strings.Join(all, ", ")
}

// volumes refuses those that this machine has not. What is no source at all, validation
// says.
func (p *planner) volumes(it *item) {
	for i := range it.pod.Spec.Volumes {
		v := &it.pod.Spec.Volumes[i]
		switch s := v.VolumeSource; {
		case s.Image != nil && p.class(&it.pod.Spec) == "host":
			it.refuse(it.spec("volumes[%d].image", i), "the runtime class host has no file system of its own, and mounts no image")
		case s.Image != nil:
			if why := p.noImage(s.Image.Reference); why != "" {
				it.refuse(it.spec("volumes[%d].image.reference", i), "%q: %s", s.Image.Reference, why)
			}
		case s.EmptyDir != nil, s.HostPath != nil, s.ConfigMap != nil, s.Secret != nil, s.DownwardAPI != nil, s.Projected != nil, s == corev1.VolumeSource{}:
		default:
			it.refuse(it.spec("volumes[%d]", i), "volumes of this type are not here; emptyDir, hostPath, configMap, secret, downwardAPI, projected, image and persistentVolumeClaim are")
		}
	}
}

// idle refuses what somebody would have to let go on, for nobody will.
func (p *planner) idle(it *item) {
	prefix := strings.TrimSuffix(it.path+".spec", ".spec")
	if prefix != "" {
		prefix += "."
	}
	if gates := it.pod.Spec.SchedulingGates; len(gates) > 0 {
		it.refuse(it.spec("schedulingGates"), "nobody removes the gate %q here, so that the pod would wait for ever", gates[0].Name)
	}
	job, ok := it.obj.(*batchv1.Job)
	if !ok {
		return
	}
	s := &job.Spec
	if s.Suspend != nil && *s.Suspend {
		it.refuse(prefix+"spec.suspend", "the Job is suspended, and nobody resumes it here; remove the field to run it")
	}
	if s.Parallelism != nil && *s.Parallelism == 0 {
		it.refuse(prefix+"spec.parallelism", "is 0, so that no pod would ever start")
	}
	if s.ManagedBy != nil && *s.ManagedBy != batchv1.JobControllerName {
		it.refuse(prefix+"spec.managedBy", "the Job is left to %q, which is not here; remove the field to run it", *s.ManagedBy)
	}
}

// noEffect lists what the pods ask for and get nothing of. What would have them wait for another
// node, which there is not, is taken off.
func (p *planner) noEffect(it *item) {
	say := func(path, why string) {
		what := path + ": " + why
		if p.ineffect[what] == nil {
			p.ineffect[what] = &ineffective{first: fmt.Sprintf("%s: %s: %s", it.in.At(path), it.origin, what)}
			p.ineffects = append(p.ineffects, p.ineffect[what])
		} else {
			p.ineffect[what].others++
		}
	}
	spec := &it.pod.Spec
	if a := spec.Affinity; a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil) {
		say(it.spec("affinity"), "all pods run on this machine, beside each other")
		a.PodAffinity, a.PodAntiAffinity = nil, nil
	}
	if len(spec.TopologySpreadConstraints) > 0 {
		say(it.spec("topologySpreadConstraints"), "all pods run on this machine")
		spec.TopologySpreadConstraints = nil
	}
	if pod, ok := it.obj.(*corev1.Pod); ok {
		pod.Spec = *spec
	}
	if job, ok := it.obj.(*batchv1.Job); ok && job.Spec.TTLSecondsAfterFinished != nil && it.path == "" {
		say("spec.ttlSecondsAfterFinished", "whatever is left is removed when the run ends")
	}
	class := p.class(spec)
	it.containers(func(at string, c *corev1.Container) {
		if class == "host" && c.Image != "" {
			say(at+".image", "the runtime class host uses no image")
		}
		if class == "host" && len(c.Ports) > 0 {
			say(at+".ports", "the runtime class host has the machine's network: a port is that of the machine")
		}
	})
}

// class is the runtime class of a pod.
func (p *planner) class(spec *corev1.PodSpec) string {
	return ptr.Deref(spec.RuntimeClassName, p.Runtime)
}

// ineffective is what has no effect in one object or more: ten thousand lines of a template ask
// for the same ten thousand times.
type ineffective struct {
	first  string // where, and why
	others int
}

func (i *ineffective) String() string {
	if i.others == 0 {
		return i.first
	}
	return fmt.Sprintf("%s (and %s)", i.first, count(i.others, "other object"))
}
