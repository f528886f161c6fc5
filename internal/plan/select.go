package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/manifest"
)

// builtIn are Kubernetes' own kinds in groups to which nobody else adds any: another
// kind in one of them is a mistake. The versions are those that were ever served.
var builtIn = map[string][]string{
	"": {"Binding", "ConfigMap", "Endpoints", "Event", "LimitRange", "Namespace", "Node", "PersistentVolume", "PersistentVolumeClaim", "Pod",
		"PodTemplate", "ReplicationController", "ResourceQuota", "Secret", "Service", "ServiceAccount"},
	"apps":        {"ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"},
	"autoscaling": {"HorizontalPodAutoscaler"},
	"batch":       {"CronJob", "Job"},
	"extensions":  {"DaemonSet", "Deployment", "Ingress", "NetworkPolicy", "PodSecurityPolicy", "ReplicaSet"},
	"policy":      {"PodDisruptionBudget", "PodSecurityPolicy"},
}

// needed reports whether a run takes objects of the kind: those that run, what they refer
// to, by what they find each other, and what they may reach. Not those that the engine writes
// itself, those that say who may do what, since no pod of a run reaches the API, and those that
// only a cluster makes something of.
func needed(k *kind.Kind) bool {
	switch k.Resource {
	case kind.Namespaces, kind.ConfigMaps, kind.Secrets, kind.ServiceAccounts, kind.PriorityClasses, kind.Pods, kind.Jobs, kind.CronJobs,
		kind.Services, kind.EndpointsOf, kind.EndpointSlices, kind.NetworkPolicies:
		return true
	}
	return slices.Contains(workloads, k.Resource)
}

// take makes an item of an object; nil when it is left out, or refused.
func (p *planner) take(in manifest.Object) *item {
	gvk := in.GroupVersionKind()
	k := p.kinds.ByGVK(gvk)
	name := nameOf(gvk.Kind, in.GetName(), in.GetGenerateName())
	switch {
	case p.sets.makes(in), hookOf(in), everywhere(in):
		p.skipped = append(p.skipped, name)
		return nil
	case gvk.Group == "" && gvk.Kind == "PersistentVolumeClaim":
		p.claim(in)
		return nil
	case p.OnlyJobs && k != nil && slices.Contains(workloads, k.Resource):
	case k != nil && needed(k):
		it := p.decode(in, k, name)
		if it != nil && it.role == Companion && p.OnlyJobs {
			p.skipped = append(p.skipped, name)
			return nil
		}
		return it
	}
	if k == nil {
		if wrong := misnamed(p.served(), gvk); wrong != "" {
			p.errs = append(p.errs, fmt.Errorf("%s: %s: %s", in.At("kind"), name, wrong))
			return nil
		}
	}
	p.skipped = append(p.skipped, name)
	return nil
}

// served are the kinds of which something comes in a run.
func (p *planner) served() []schema.GroupVersionKind {
	var all []schema.GroupVersionKind
	for _, k := range p.kinds.All() {
		if k.NoEffect == "" {
			all = append(all, k.GVKs()...)
		}
	}
	return all
}

// misnamed says what a kind should be that nobody has: "" for one that only is not here.
func misnamed(served []schema.GroupVersionKind, gvk schema.GroupVersionKind) string {
	in := gvk.GroupVersion().String()
	for _, k := range served {
		// The same kind, in a group or version that it was in once, or never.
		if strings.EqualFold(k.Kind, gvk.Kind) && (builtIn[gvk.Group] != nil || strings.HasPrefix(gvk.Group, "batch.k8s")) {
			return fmt.Sprintf("there is no kind %q in %s: did you mean kind %s in %s?", gvk.Kind, in, k.Kind, k.GroupVersion())
		}
		// The kind, in a group that is misspelt.
		if k.Kind == gvk.Kind && gvk.Group != "" && k.Group != "" && Distance(k.Group, gvk.Group) <= 2 {
			return fmt.Sprintf("there is no kind %q in %s: did you mean %s?", gvk.Kind, in, k.GroupVersion())
		}
	}
	known := builtIn[gvk.Group]
	if known == nil || slices.Contains(known, gvk.Kind) {
		return ""
	}
	text := fmt.Sprintf("there is no kind %q in %s", gvk.Kind, in)
	best, near := "", 3
	for group, kinds := range builtIn {
		for _, k := range kinds {
			if d := Distance(strings.ToLower(k), strings.ToLower(gvk.Kind)); d < near || d == near && best != "" && group == gvk.Group {
				best, near = k, d
			}
		}
	}
	if best != "" {
		text += fmt.Sprintf(": did you mean %s?", best)
	}
	return text
}

// Distance is how many letters have to be put in, left out or changed to make b of a.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// everywhere: each cluster makes the object by itself, and this one its own.
func everywhere(in manifest.Object) bool {
	switch in.GetKind() {
	case "ConfigMap":
		return in.GetName() == "kube-root-ca.crt"
	case "Service", "Endpoints", "EndpointSlice":
		return in.GetName() == "kubernetes" && in.GetLabels()["provider"]+in.GetLabels()[discoveryv1.LabelServiceName]+in.GetLabels()[discoveryv1.LabelSkipMirror] != "" ||
			in.GetLabels()["endpoints.kubernetes.io/managed-by"] != "" || in.GetLabels()[discoveryv1.LabelManagedBy] == "endpointslice-controller.k8s.io"
	}
	return false
}

// hookOf: Helm runs the object at another time than at an installation.
func hookOf(in manifest.Object) bool {
	hooks, set := in.GetAnnotations()["helm.sh/hook"]
	if !set {
		return false
	}
	for hook := range strings.SplitSeq(hooks, ",") {
		hook = strings.TrimSpace(hook)
		if !strings.HasPrefix(hook, "test") && !strings.HasSuffix(hook, "-delete") && !strings.HasSuffix(hook, "-rollback") {
			return false
		}
	}
	return true
}

// sets are the objects of the input that make others, as another API had them.
type sets map[types.UID]bool

func newSets(input []manifest.Object) sets {
	s := sets{}
	for _, in := range input {
		if uid := in.GetUID(); uid != "" {
			s[uid] = true
		}
	}
	return s
}

// makes: the object is made again by one of the input.
func (s sets) makes(in manifest.Object) bool {
	owner := metav1.GetControllerOfNoCopy(in)
	return owner != nil && s[owner.UID]
}

// companions are pods, and what makes pods, that never end; without work they are what
// cannot be run.
func (p *planner) companions(items []*item) {
	for _, it := range items {
		if it.role == Work {
			p.work++
		}
	}
	var beside []string
	for _, it := range items {
		_, pod := it.obj.(*corev1.Pod)
		switch {
		case it.role != Companion:
		case p.work > 0 && pod:
			p.note("%s runs as long as the others do (restartPolicy Always)", it.origin)
		case p.work > 0:
			beside = append(beside, it.origin)
		case pod:
			it.refuse(it.spec("restartPolicy"), "is Always, which is the default, so that the pod never ends; OnFailure or Never let it")
		case !p.Partial:
			it.refuse("kind", "a %s never ends, and there is no Job, CronJob or Pod here that does; \"sampan serve\" and \"sampan apply\" run it", it.kind.GVK.Kind)
		}
		if it.role == Companion && p.work == 0 {
			p.errs = append(p.errs, it.errs...)
			it.errs = nil
		}
	}
	if len(beside) > 0 {
		p.note("%s run%s as long as the others do", some(beside), singular(len(beside)))
	}
}

// singular is what the verb of one thing ends with.
func singular(n int) string {
	if n == 1 {
		return "s"
	}
	return ""
}

// leftOut says what is not run, or refuses that.
func (p *planner) leftOut(taken int) {
	say := p.note
	if p.Strict {
		say = func(format string, args ...any) { p.errs = append(p.errs, fmt.Errorf("--strict: "+format, args...)) }
	}
	if n := len(p.skipped); n > 0 {
		say("skipped %s that a run does not need: %s", count(n, "object"), some(p.skipped))
	}
	if p.work == 0 && len(p.errs) == 0 && !p.Partial {
		text := "there is nothing to run: no Job, CronJob or Pod is among the " + count(taken+len(p.skipped), "object")
		if len(p.skipped) > 0 {
			text += "; a run does not need " + some(p.skipped)
		}
		p.errs = append(p.errs, errors.New(text))
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// some names a few of many.
func some(names []string) string {
	const few = 6
	if len(names) <= few+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
