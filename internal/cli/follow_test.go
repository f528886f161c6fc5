package cli

import (
	"context"
	"io"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// A Job that was deleted before the watch began is nowhere reported; following
// it must end all the same.
func TestFollowingAJobThatIsGone(t *testing.T) {
	t.Parallel()
	gone := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "gone", UID: "1"}}
	replaced := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "replaced", UID: "2"}}
	another := replaced.DeepCopy()
	another.UID = "3"
	out := &console{lines: io.Discard, notes: io.Discard, width: func() int { return 80 }}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f := newFollower(ctx, fake.NewClientset(another), out, false, []*batchv1.Job{gone, replaced})
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, r := range f.results() {
		if r.Status != "Deleted" {
			t.Errorf("job %s is %s, want Deleted", r.Name, r.Status)
		}
	}
}
