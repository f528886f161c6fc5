package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/sampan-batch/sampan/internal/board"
	"github.com/sampan-batch/sampan/internal/kind"
)

// history is a fake API: a watch of Jobs from revision 5 on replays events.
func history(t *testing.T, now []runtime.Object, events ...watch.Event) *fake.Clientset {
	client := fake.NewClientset(now...)
	client.PrependWatchReactor("jobs", func(a clienttesting.Action) (bool, watch.Interface, error) {
		w := watch.NewFakeWithChanSize(len(events), false)
		if from := a.(clienttesting.WatchActionImpl).ListOptions.ResourceVersion; from != "5" {
			t.Logf("a watch from %q", from)
			return true, w, nil
		}
		for _, ev := range events {
			w.Action(ev.Type, ev.Object)
		}
		return true, w, nil
	})
	return client
}

func followed5() *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j", UID: "u-j", ResourceVersion: "5"}}
}

func follow(t *testing.T, client *fake.Clientset, jobs ...*batchv1.Job) ([]board.WorkResult, string, error) {
	var notes bytes.Buffer
	out := &console{lines: &notes, notes: &notes}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f := newFollower(client, newLogReaders(ctx, out, logOutput{}), false)
	for _, job := range jobs {
		f.add(started{job, time.Now()})
	}
	defer f.Close()
	err := f.Run(ctx)
	return f.board.Results(time.Now()), notes.String(), err
}

// A Job that ended and was deleted before anybody could watch is known by its
// history, which began when it was created.
func TestFollowingAJobThatHasEndedAndIsGone(t *testing.T) {
	t.Parallel()
	created := followed5()
	ended := created.DeepCopy()
	ended.ResourceVersion = "8"
	ended.Status.Succeeded = 1
	ended.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	got, notes, err := follow(t, history(t, nil, watch.Event{Type: watch.Deleted, Object: ended}), created)
	if err != nil || got[0].Status != "Complete" {
		t.Errorf("got %+v, %v", got, err)
	}
	if !strings.Contains(notes, "no log of job/j") {
		t.Errorf("a log that could not be read is not mentioned:\n%s", notes)
	}
}

func TestFollowingAJobThatIsDeleted(t *testing.T) {
	t.Parallel()
	created := followed5()
	gone := created.DeepCopy()
	gone.ResourceVersion = "6"
	got, _, err := follow(t, history(t, nil, watch.Event{Type: watch.Deleted, Object: gone}), created)
	if err != nil || got[0].Status != "Deleted" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Where the history is too short, what is there now has to do.
func TestFollowingBeyondTheHistory(t *testing.T) {
	t.Parallel()
	expired := watch.Event{Type: watch.Error, Object: &apierrors.NewResourceExpired("too old resource version: 5 (9)").ErrStatus}
	created := followed5()

	got, notes, err := follow(t, history(t, nil, expired), created)
	if err != nil || got[0].Status != "Deleted" || !strings.Contains(notes, "does not remember any more how it ended") {
		t.Errorf("one that is gone: got %+v, %v\n%s", got, err, notes)
	}

	ended := created.DeepCopy()
	ended.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}
	got, _, err = follow(t, history(t, []runtime.Object{ended}, expired), created)
	if err != nil || got[0].Status != "Failed" {
		t.Errorf("one that is there: got %+v, %v", got, err)
	}

	replaced := created.DeepCopy()
	replaced.UID = "another"
	got, _, err = follow(t, history(t, []runtime.Object{replaced}, expired), created)
	if err != nil || got[0].Status != "Deleted" {
		t.Errorf("one whose name another has: got %+v, %v", got, err)
	}
}

func TestFollowingWithoutPermission(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "batch", Resource: "jobs"}, "", nil)
	client.PrependWatchReactor("jobs", func(clienttesting.Action) (bool, watch.Interface, error) { return true, nil, forbidden })
	_, _, err := follow(t, client, followed5())
	if status, ok := err.(apierrors.APIStatus); !ok || status.Status().Code != http.StatusForbidden {
		t.Errorf("got %v", err)
	}
}

// In a namespace with thousands of pods the list of them comes later than the
// end of a short Job.
func TestFollowingAJobThatEndsBeforeItsPodsAreListed(t *testing.T) {
	t.Parallel()
	created := followed5()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j-x", OwnerReferences: []metav1.OwnerReference{{UID: created.UID}}}}
	pod.Spec.Containers = []corev1.Container{{Name: "c"}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "c", ContainerID: "id", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}},
	}}
	ended := created.DeepCopy()
	ended.ResourceVersion = "8"
	ended.Status.Succeeded = 1
	ended.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	client := history(t, []runtime.Object{pod}, watch.Event{Type: watch.Modified, Object: ended})
	client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		time.Sleep(500 * time.Millisecond)
		return false, nil, nil
	})
	_, notes, err := follow(t, client, created)
	if err != nil || !strings.Contains(notes, "fake logs") || strings.Contains(notes, "warning") {
		t.Errorf("got %v\n%s", err, notes)
	}
}

// A run that is to end does so, whatever the API can still do.
func TestEndingWhenNothingCanBeStored(t *testing.T) {
	t.Parallel()
	refuse := func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewInternalError(errors.New("no space left on device"))
	}
	accept := func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, nil }
	for _, c := range []struct {
		name, want string
		remove     clienttesting.ReactionFunc
		lasts      time.Duration
	}{
		{"the Job cannot be deleted", "warning: delete j: Internal error occurred: no space left on device; killing the pods\n", refuse, 0},
		{"its pods do not end", "warning: the pods have not ended within 40s; killing them\n", accept, 40 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				job := followed5()
				client := history(t, []runtime.Object{job})
				client.PrependReactor("delete", "jobs", c.remove)
				var notes bytes.Buffer
				out := &console{lines: &notes, notes: &notes}
				began := time.Now()
				f := newFollower(client, newLogReaders(t.Context(), out, logOutput{}), true, started{job, began})
				defer f.Close()
				(&running{client: client, stops: &signals{end: t.Context(), kill: t.Context()}, console: out, follower: f}).end(f.settle(t.Context()))
				if got := time.Since(began); got != c.lasts || !strings.HasSuffix(notes.String(), c.want) {
					t.Errorf("after %s: %s", got, notes.String())
				}
			})
		})
	}
}

// A Job that is being begun when the run is interrupted is in the result as one that has begun.
func TestInterruptedWhileBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		job := followed5()
		client := history(t, []runtime.Object{job})
		var notes bytes.Buffer
		out := &console{lines: &notes, notes: &notes}
		f := newFollower(client, newLogReaders(t.Context(), out, logOutput{}), true)
		defer f.Close()
		r := &running{client: client, stops: &signals{end: t.Context(), kill: t.Context()}, console: out, follower: f}
		f.await(newQueue(t.Context(), 0, []*turn{{obj: job, begin: func(context.Context) (kind.Object, error) {
			time.Sleep(time.Second)
			return job, nil
		}}}), "5")
		watched, interrupt := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second/2, func() { interrupt(errInterrupted) })
		res, err := r.toEnd(watched)
		if err != nil || len(res.Jobs) != 1 || res.Jobs[0].Status != "Stopped" {
			t.Errorf("got %+v, %v", res.Jobs, err)
		}
	})
}

// The last words of a container are text, of a line that was written over what was written
// last, and not more than a few lines.
func TestLastWords(t *testing.T) {
	t.Parallel()
	var l life
	for i := range 10 {
		l.keep(fmt.Appendf(nil, "line %d", i))
	}
	l.keep([]byte(strings.Repeat("10 %\r", 1000) + "done \x1b[31mred\x1b[0m\x1b[2J\r"))
	l.keep(bytes.Repeat([]byte("x"), 1000))
	r := &reading{logReaders: newLogReaders(t.Context(), nil, logOutput{mute: true}), of: l}
	r.end()
	want := []string{"line 7", "line 8", "line 9", "done red", strings.Repeat("x", 300)}
	if !slices.Equal(r.of.Last, want) || r.of.Bytes != 60+5000+22+1000 {
		t.Errorf("got %q, %d bytes", r.of.Last, r.of.Bytes)
	}
}
