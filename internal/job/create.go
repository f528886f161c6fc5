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

// prefixLimit is how much an API server keeps of generateName.
const prefixLimit = 58

// indexPrefix is the generateName of an index's pods. The index always fits.
func indexPrefix(job, index string) string {
	tail := "-" + index + "-"
	return job[:min(len(job), prefixLimit-len(tail))] + tail
}

func jobKey(job *batchv1.Job) change.Key {
	return kind.Jobs.Key(job.Namespace, job.Name)
}
