package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

// An answer goes by what the Job controls, not by all that its selector finds.
func TestExplainReadsTheJobsOwnPods(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"app": "a"}
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j", UID: "u-j"},
		Spec:       batchv1.JobSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Parallelism: ptr.To[int32](1), Completions: ptr.To[int32](1)},
		Status:     batchv1.JobStatus{StartTime: ptr.To(metav1.Now()), Active: 1},
	}
	own := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "own", Labels: labels, CreationTimestamp: metav1.Now(),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))}}}
	stray := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "stray", Labels: labels}}
	var notes bytes.Buffer
	reader := explainer{client: fake.NewClientset(job, own, stray), namespace: "ns", notes: &notes}
	answer, err := reader.explain(t.Context(), target{kind: kindJob, name: "j"})
	if text := answer.String(); err != nil || !strings.Contains(text, "pod own waits for a node") || strings.Contains(text, "stray") {
		t.Errorf("got %v\n%s", err, text)
	}
}

// Who may not read events is told what the objects say, and that this is all.
func TestExplainWithoutEvents(t *testing.T) {
	t.Parallel()
	c := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", CreationTimestamp: metav1.NewTime(time.Now())},
		Spec:       batchv1.CronJobSpec{Schedule: "0 0 31 2 *"},
	}
	client := fake.NewClientset(c)
	client.PrependReactor("list", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", nil)
	})
	var notes bytes.Buffer
	reader := explainer{client: client, namespace: "ns", notes: &notes}
	for range 2 {
		answer, err := reader.explain(t.Context(), target{kind: kindCronJob, name: "c"})
		if err != nil || answer.State != "Never" {
			t.Errorf("got %+v, %v", answer, err)
		}
	}
	if n := strings.Count(notes.String(), "warning: without events, as "); n != 1 {
		t.Errorf("%d warnings: %s", n, &notes)
	}
}
