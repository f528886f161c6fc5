package job

import (
	"math"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// indexVariable is how a container of an Indexed Job learns its index.
const indexVariable = "JOB_COMPLETION_INDEX"

// createRetry is how long a Job waits whose pods are refused: what refuses them
// is no object that would wake it.
const createRetry = 10 * time.Second

// modelPod is what a pod that s.Job starts looks like: what the API would make of a
// client's pod, with its defaults and admitted. The error says why that is
// forbidden.
func modelPod(now time.Time, s State) (*corev1.Pod, error) {
	model := ownerOf(s.Job).Make()
	model.CreationTimestamp = *wholeSeconds(now)
	s.PodKind.Default(model)
	var account *corev1.ServiceAccount
	if s.Account != nil {
		account = s.Account(kind.AccountKey(model))
	}
	if err := kind.AdmitAccount(model, account); err != nil {
		return model, err
	}
	return model, kind.AdmitPod(model)
}

// podOfIndex makes pod, which it may change, the Job's next pod of a completion index,
// noIndex in a Job without. prior is the failed pod of that index that it takes the
// place of, nil if there is none.
func podOfIndex(job *batchv1.Job, pod *corev1.Pod, index int32, prior *corev1.Pod) *corev1.Pod {
	if index == noIndex {
		return pod
	}
	text := strconv.Itoa(int(index))
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, batchv1.JobCompletionIndexAnnotation, text)
	metav1.SetMetaDataLabel(&pod.ObjectMeta, batchv1.JobCompletionIndexAnnotation, text)
	if perIndex(job) {
		failures, ignored := inherit(job, prior)
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, batchv1.JobIndexFailureCountAnnotation, strconv.Itoa(int(failures)))
		if ignored > 0 {
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, batchv1.JobIndexIgnoredFailureCountAnnotation, strconv.Itoa(int(ignored)))
		}
	}
	pod.GenerateName = indexPrefix(job.Name, text)
	pod.Spec.Hostname = job.Name + "-" + text
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			addIndexVariable(&list[i])
		}
	}
	return pod
}

// inherit returns the counts of failures that the pod after prior starts with.
func inherit(job *batchv1.Job, prior *corev1.Pod) (failures, ignored int32) {
	if prior == nil {
		return 0, 0
	}
	failures, ignored = earlierFailures(prior), earlierIgnored(prior)
	if judge(job.Spec.PodFailurePolicy, prior).counted() {
		return inc(failures), ignored
	}
	return failures, inc(ignored)
}

func inc(n int32) int32 {
	if n == math.MaxInt32 {
		return n
	}
	return n + 1
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

func podKey(namespace, name string) change.Key {
	return change.Key{Resource: "pods", Namespace: namespace, Name: name}
}

func jobKey(job *batchv1.Job) change.Key {
	return change.Key{Resource: "jobs.batch", Namespace: job.Namespace, Name: job.Name}
}
