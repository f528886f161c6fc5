package job

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// indexVariable is how a container of an Indexed Job learns its index.
const indexVariable = "JOB_COMPLETION_INDEX"

// createRetry is how long a Job waits whose pods are refused: what refuses them
// is no object that would wake it.
const createRetry = 10 * time.Second

// create starts n pods, those of indexes if the Job is Indexed. They are what
// the API would make of a client's pod: with its defaults, admitted, prepared.
func (d *decision) create(n int32, indexes []int32) {
	if n == 0 {
		return
	}
	model := d.newPod()
	d.PodKind.Default(model)
	err := kind.AdmitAccount(model, d.serviceAccount(model))
	if err == nil {
		err = kind.AdmitPod(model)
	}
	if err != nil {
		d.note(corev1.EventTypeWarning, "FailedCreate",
			fmt.Sprintf("Error creating: pods %q is forbidden: %v", model.GenerateName, err))
		d.set.Wake(d.now.Add(createRetry))
		return
	}
	names := namer{job: d.Job, taken: d.Taken}
	for i := range n {
		pod := model
		if i < n-1 {
			pod = model.DeepCopy()
		}
		if d.indexed {
			d.giveIndex(pod, indexes[i])
			delete(d.held, indexes[i]) // inherited from: it can be counted now
		}
		d.PodKind.PrepareCreate(pod)
		pod.Name = names.next(pod.GenerateName)
		d.set.Create(podKey(pod.Namespace, pod.Name), pod)
		d.note(corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+pod.Name)
	}
	d.started = n
}

// serviceAccount is what pod runs as, nil if there is none.
func (d *decision) serviceAccount(pod *corev1.Pod) *corev1.ServiceAccount {
	if d.Account == nil {
		return nil
	}
	return d.Account(kind.AccountKey(pod))
}

// newPod returns a pod of the Job's template. Its uid is for the shell to give.
func (d *decision) newPod() *corev1.Pod {
	t := &d.Job.Spec.Template
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         d.Job.Namespace,
			GenerateName:      d.Job.Name + "-",
			CreationTimestamp: d.second,
			Labels:            maps.Clone(t.Labels),
			Annotations:       maps.Clone(t.Annotations),
			Finalizers:        slices.Clone(t.Finalizers),
			OwnerReferences:   []metav1.OwnerReference{controllerRef(d.Job)},
		},
	}
	t.Spec.DeepCopyInto(&pod.Spec)
	if !tracked(pod) {
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	return pod
}

// giveIndex makes pod the one of a completion index.
func (d *decision) giveIndex(pod *corev1.Pod, index int32) {
	text := strconv.Itoa(int(index))
	set := func(m *map[string]string, key, value string) {
		if *m == nil {
			*m = make(map[string]string, 1)
		}
		(*m)[key] = value
	}
	set(&pod.Annotations, batchv1.JobCompletionIndexAnnotation, text)
	set(&pod.Labels, batchv1.JobCompletionIndexAnnotation, text)
	if d.perIndex {
		failures, ignored := d.inherit(index)
		set(&pod.Annotations, batchv1.JobIndexFailureCountAnnotation, strconv.Itoa(int(failures)))
		if ignored > 0 {
			set(&pod.Annotations, batchv1.JobIndexIgnoredFailureCountAnnotation, strconv.Itoa(int(ignored)))
		}
	}
	pod.GenerateName = indexPrefix(d.Job.Name, text)
	pod.Spec.Hostname = d.Job.Name + "-" + text
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			addIndexVariable(&list[i])
		}
	}
}

// addIndexVariable leaves a variable of that name alone if there is one.
func addIndexVariable(c *corev1.Container) {
	if slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == indexVariable }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{
		Name: indexVariable,
		ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
			APIVersion: "v1",
			FieldPath:  "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']",
		}},
	})
}

// An API server makes a name of up to 63 characters out of generateName: what
// fits of it, and 5 random ones.
const (
	nameLimit    = 63
	suffixLength = 5
	prefixLimit  = nameLimit - suffixLength
	alphabet     = "bcdfghjklmnpqrstvwxz2456789"
)

// indexPrefix is the generateName of an index's pods. The index always fits.
func indexPrefix(job, index string) string {
	tail := "-" + index + "-"
	return job[:min(len(job), prefixLimit-len(tail))] + tail
}

// namer makes names of pods as an API server does from generateName, but with
// the cause in the place of chance: the Job at the revision that the decision
// was made from, and the ordinal of the pod in it. A decision that is taken
// twice collides with itself.
type namer struct {
	job     *batchv1.Job
	taken   func(string) bool
	given   map[string]bool
	ordinal uint64
}

func (n *namer) next(prefix string) string {
	prefix = prefix[:min(len(prefix), prefixLimit)]
	for {
		name := prefix + suffix(n.job, n.ordinal)
		n.ordinal++
		if n.given[name] || n.taken != nil && n.taken(name) {
			continue
		}
		if n.given == nil {
			n.given = make(map[string]bool)
		}
		n.given[name] = true
		return name
	}
}

// suffix is five characters of Kubernetes' own alphabet for names.
func suffix(job *batchv1.Job, ordinal uint64) string {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for _, s := range []string{string(job.UID), job.ResourceVersion} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
		h = (h ^ 0xff) * prime
	}
	// The finalizer of splitmix64 lets every bit of the ordinal reach every
	// character.
	h += ordinal * 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	var out [suffixLength]byte
	for i := range out {
		out[i] = alphabet[h%uint64(len(alphabet))]
		h /= uint64(len(alphabet))
	}
	return string(out[:])
}

func controllerRef(job *batchv1.Job) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID,
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	}
}

func withoutTracking(pod *corev1.Pod) []string {
	if !tracked(pod) {
		return pod.Finalizers
	}
	return slices.DeleteFunc(slices.Clone(pod.Finalizers), func(f string) bool { return f == batchv1.JobTrackingFinalizer })
}

func podKey(namespace, name string) change.Key {
	return change.Key{Resource: "pods", Namespace: namespace, Name: name}
}

func jobKey(job *batchv1.Job) change.Key {
	return change.Key{Resource: "jobs.batch", Namespace: job.Namespace, Name: job.Name}
}
