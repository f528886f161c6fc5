package kind

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// A Job whose update is refused is told by which fields, and how it can be replaced.
func TestAdviseReplacing(t *testing.T) {
	t.Parallel()
	const way = " cannot be changed: to delete the Job with its pods and create it anew, use kubectl replace --force -f FILE"
	for _, test := range []struct {
		name   string
		change func(*batchv1.Job)
		want   string
	}{
		{"image and labels", func(job *batchv1.Job) {
			job.Spec.Template.Spec.Containers[0].Image = "other"
			job.Spec.Template.Labels["app.kubernetes.io/name"] = "x"
		}, "spec.template.metadata.labels[app.kubernetes.io/name], spec.template.spec.containers[0].image" + way},
		{"another container", func(job *batchv1.Job) {
			job.Spec.Template.Spec.Containers = append(job.Spec.Template.Spec.Containers, corev1.Container{Name: "second", Image: "x"})
		}, "spec.template.spec.containers" + way},
		{"completions", func(job *batchv1.Job) {
			job.Spec.Completions = ptr.To[int32](2)
			job.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
		}, "spec.completionMode" + way},
		{"many", func(job *batchv1.Job) {
			for i := range maxAdvised + 2 {
				job.Spec.Template.Labels[string(rune('a'+i))] = "x"
			}
		}, "spec.template.metadata.labels.a, spec.template.metadata.labels.b, spec.template.metadata.labels.c, spec.template.metadata.labels.d, spec.template.metadata.labels.e, " +
			"spec.template.metadata.labels.f, spec.template.metadata.labels.g, spec.template.metadata.labels.h and 2 more" + way},
		{"what may change, but not so", func(job *batchv1.Job) { job.Spec.BackoffLimit = ptr.To[int32](-1) }, ""},
		{"the name", func(job *batchv1.Job) { job.Name = "other" }, ""},
	} {
		old := created(t, baseJob)
		job := old.DeepCopy()
		test.change(job)
		errs := validateJobUpdate(job, old)
		if len(errs) == 0 {
			t.Errorf("%s: it is valid", test.name)
		}
		if got := strings.Join(Job().Update.Advise(job, old, errs), "\n"); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}
