package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/explain"
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
	reader := explainer{client: fake.NewClientset(job, own, stray), notes: &notes}
	answer, err := reader.explain(t.Context(), target{kindJob, "ns", "j"})
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
	reader := explainer{client: client, notes: &notes}
	for range 2 {
		answer, err := reader.explain(t.Context(), target{kindCronJob, "ns", "c"})
		if err != nil || answer.State != "Never" {
			t.Errorf("got %+v, %v", answer, err)
		}
	}
	if n := strings.Count(notes.String(), "warning: without events, as "); n != 1 {
		t.Errorf("%d warnings: %s", n, &notes)
	}
}

// All objects of a kind take a few lists, not calls for each.
func TestExplainReadsLists(t *testing.T) {
	t.Parallel()
	var all []runtime.Object
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "u-c"}, Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *"}}
	all = append(all, cron)
	for i := range 30 {
		name := fmt.Sprintf("j%d", i)
		job := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("u-" + name), OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cron, batchv1.SchemeGroupVersion.WithKind("CronJob"))}},
			Spec:       batchv1.JobSpec{Selector: &metav1.LabelSelector{}, Parallelism: ptr.To[int32](1), Completions: ptr.To[int32](1)},
			Status:     batchv1.JobStatus{StartTime: ptr.To(metav1.Now()), Active: 1},
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p-" + name, UID: types.UID("p-" + name),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))}}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
		event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "e-" + name}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", UID: pod.UID},
			Reason: "FailedScheduling", Message: "no room for " + name}
		all = append(all, job, pod, event)
	}
	for _, c := range []struct {
		kind  string
		lists int
		says  string // of the last
	}{
		{kindPod, 2, "no room for j9"}, {kindJob, 3, "no room for j9"}, {kindCronJob, 3, "cronjob/c"},
	} {
		client := fake.NewClientset(all...)
		reader := &explainer{client: client, notes: io.Discard}
		targets, err := reader.readAll(t.Context(), "ns", c.kind, "")
		if err != nil || len(targets) == 0 {
			t.Fatalf("%s: %v, %v", c.kind, targets, err)
		}
		var last explain.Answer
		for _, at := range targets {
			if last, err = reader.explain(t.Context(), at); err != nil {
				t.Error(err)
			}
		}
		if !strings.Contains(last.String(), c.says) || len(client.Actions()) != c.lists {
			t.Errorf("%s: %d calls, want %d\n%s", c.kind, len(client.Actions()), c.lists, last)
		}
	}
}
