package cli

import (
	"errors"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

// failedJob is an Indexed Job of which index 1 failed, a child of a CronJob.
func failedJob() *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "old", Namespace: "ns", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "batch/v1", Kind: "CronJob", Name: "c", UID: "u-c", Controller: ptr.To(true)},
		}},
		Spec: batchv1.JobSpec{CompletionMode: ptr.To(batchv1.IndexedCompletion), Completions: ptr.To[int32](3)},
		Status: batchv1.JobStatus{CompletedIndexes: "0,2", Conditions: []batchv1.JobCondition{
			{Type: batchv1.JobFailed, Status: corev1.ConditionTrue},
		}},
	}
}

func TestRerunFailedIndexes(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(failedJob(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "old-rerun-1", Namespace: "ns"}},
		&batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "ns", UID: "u-c"}})
	if _, err := rerunJob(t.Context(), client, "ns", "old", "", true); err != nil {
		t.Fatal(err)
	}
	got, err := client.BatchV1().Jobs("ns").Get(t.Context(), "old-rerun-2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *got.Spec.Suspend || got.Status.CompletedIndexes != "0,2" || got.Status.Succeeded != 2 {
		t.Errorf("suspend %v, status %+v", *got.Spec.Suspend, got.Status)
	}
	if len(got.OwnerReferences) != 1 || got.OwnerReferences[0].UID != "u-c" || got.OwnerReferences[0].BlockOwnerDeletion != nil {
		t.Errorf("owners %+v", got.OwnerReferences)
	}
	var order []string
	for _, a := range client.Actions() {
		if a.GetVerb() != "get" {
			order = append(order, a.GetVerb()+" "+a.GetSubresource())
		}
	}
	// The name that is taken, then the new Job, its status, and only then its start.
	want := []string{"create ", "create ", "patch status", "patch "}
	if len(order) != len(want) {
		t.Fatalf("got %q, want %q", order, want)
	}
	for i := range want {
		if order[i] != want[i] {
			t.Fatalf("got %q, want %q", order, want)
		}
	}
}

// A CronJob of that name that is another one owns nothing: a Job whose owner is
// gone would be deleted at once.
func TestRerunOfAnOrphan(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(failedJob(), &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "ns", UID: "another"}})
	got, err := rerunJob(t.Context(), client, "ns", "old", "again", false)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "again" || len(got.OwnerReferences) != 0 || got.Spec.Suspend != nil {
		t.Errorf("got %s, owners %+v, suspend %v", got.Name, got.OwnerReferences, got.Spec.Suspend)
	}
}

// Who may not write the status of Jobs leaves no suspended Job behind.
func TestRerunWithoutPermission(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(failedJob())
	forbidden := errors.New("jobs.batch/status is forbidden")
	client.PrependReactor("patch", "jobs", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return a.GetSubresource() == "status", nil, forbidden
	})
	if _, err := rerunJob(t.Context(), client, "ns", "old", "", true); !errors.Is(err, forbidden) {
		t.Fatalf("got %v", err)
	}
	list, err := client.BatchV1().Jobs("ns").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("%d Jobs are left, %v", len(list.Items), err)
	}
}

func TestFollowerConcerns(t *testing.T) {
	t.Parallel()
	job := failedJob()
	job.UID = "u-old"
	f := newFollower(nil, newLogReaders(t.Context(), nil, logOutput{}), true, started{job, job.CreationTimestamp.Time})
	f.namespace = "ns"
	about := func(kind, name, uid string) *corev1.Event {
		ev := &corev1.Event{}
		ev.InvolvedObject.Kind, ev.InvolvedObject.Name = kind, name
		ev.InvolvedObject.UID = "u-" + "other"
		if uid != "" {
			ev.InvolvedObject.UID = job.UID
		}
		return ev
	}
	for _, tc := range []struct {
		ev   *corev1.Event
		want bool
	}{
		{about("Job", "old", "mine"), true},
		{about("Job", "old", ""), false}, // one that had this name before
		{about("Pod", "old-x7k2p", ""), true},
		{about("Pod", "older-x7k2p", ""), false},
		{about("CronJob", "c", ""), false},
	} {
		if got := f.concerns(tc.ev); got != tc.want {
			t.Errorf("%s/%s: got %v", tc.ev.InvolvedObject.Kind, tc.ev.InvolvedObject.Name, got)
		}
	}
}
