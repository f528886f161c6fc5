package cli

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

func TestNextName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 63)
	for _, tc := range []struct{ name, want string }{
		{"a", "a-rerun-1"},
		{"a-rerun-1", "a-rerun-2"},
		{"a-rerun-99", "a-rerun-100"},
		{"a-rerun-01", "a-rerun-01-rerun-1"},
		{"-rerun-1", "-rerun-1-rerun-1"},
		{"a-rerun-9999999999", "a-rerun-9999999999-rerun-1"},
		{long, long[:55] + "-rerun-1"},
		{long[:54] + "-bcdefghi", long[:54] + "-rerun-1"}, // no two hyphens
	} {
		if got := nextName(tc.name); got != tc.want {
			t.Errorf("nextName(%q) = %q, want %q", tc.name, got, tc.want)
		}
	}
}

// What a rerun is made of is what its user wrote, and nothing that the API or
// a controller did.
func TestAgain(t *testing.T) {
	t.Parallel()
	generated := map[string]string{
		"batch.kubernetes.io/controller-uid": "u", "controller-uid": "u",
		"batch.kubernetes.io/job-name": "old", "job-name": "old", "app": "mine",
	}
	old := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: "old", Namespace: "ns", UID: "u", ResourceVersion: "7", Generation: 3, Labels: generated,
			Finalizers: []string{"example.com/f"}, OwnerReferences: []metav1.OwnerReference{{Kind: "JobSet", Name: "s", UID: "s"}},
			Annotations: map[string]string{
				corev1.LastAppliedConfigAnnotation: "{}", "sampan.dev/carried-indexes": "1", "sampan.dev/backoff": "1",
				"cronjob.kubernetes.io/instantiate": "manual", "note": "mine",
			},
		},
		Spec: batchv1.JobSpec{
			Suspend: ptr.To(true), ManualSelector: ptr.To(true), Completions: ptr.To[int32](3), BackoffLimit: ptr.To[int32](1),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"controller-uid": "u"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: generated}, Spec: corev1.PodSpec{RestartPolicy: "Never"}},
		},
		Status: batchv1.JobStatus{Failed: 2, Active: 1},
	}
	if _, err := again(old); err == nil || err.Error() != "job/old has not finished yet" {
		t.Errorf("of a Job that runs: %v", err)
	}
	old.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}
	before, _ := yaml.Marshal(old)
	got, err := again(old)
	if err != nil {
		t.Fatal(err)
	}
	want := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Labels: map[string]string{"app": "mine"},
			Annotations: map[string]string{"note": "mine", "sampan.dev/rerun-of": "old"},
		},
		Spec: batchv1.JobSpec{
			Completions: ptr.To[int32](3), BackoffLimit: ptr.To[int32](1),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "mine"}}, Spec: corev1.PodSpec{RestartPolicy: "Never"}},
		},
	}
	a, _ := yaml.Marshal(got)
	b, _ := yaml.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
	if after, _ := yaml.Marshal(old); string(after) != string(before) {
		t.Error("the old Job was changed")
	}
}

func TestCarried(t *testing.T) {
	t.Parallel()
	old := func(end batchv1.JobConditionType, completed string) *batchv1.Job {
		return &batchv1.Job{
			Spec: batchv1.JobSpec{CompletionMode: ptr.To(batchv1.IndexedCompletion), Completions: ptr.To[int32](5)},
			Status: batchv1.JobStatus{CompletedIndexes: completed, Conditions: []batchv1.JobCondition{
				{Type: end, Status: corev1.ConditionTrue},
			}},
		}
	}
	if done, err := carried(old(batchv1.JobFailed, "0,2-3")); err != nil || done.String() != "0,2,3" {
		t.Errorf("got %v, %v", done, err)
	}
	if done, err := carried(old(batchv1.JobFailed, "")); err != nil || done.Len() != 0 {
		t.Errorf("nothing done: got %v, %v", done, err)
	}
	if _, err := carried(old(batchv1.JobComplete, "0-4")); err == nil {
		t.Error("a Complete Job has failed indexes")
	}
	plain := old(batchv1.JobFailed, "")
	plain.Spec.CompletionMode = nil
	if _, err := carried(plain); err == nil {
		t.Error("a Job without indexes has failed ones")
	}
}
