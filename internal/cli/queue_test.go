package cli

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// queuedJob is a Job of so many pods at a time.
func queuedJob(name string, parallelism int32) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("u-" + name)},
		Spec:       batchv1.JobSpec{Parallelism: &parallelism, Completions: ptr.To(2 * parallelism)},
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	job := func(change func(*batchv1.Job)) *batchv1.Job {
		j := queuedJob("j", 4)
		change(j)
		return j
	}
	for _, c := range []struct {
		name string
		obj  kind.Object
		want int32
	}{
		{"what it asks for", job(func(*batchv1.Job) {}), 4},
		{"one if it says nothing", &batchv1.Job{}, 1},
		{"no more than are left", job(func(j *batchv1.Job) { j.Status.Succeeded = 6 }), 2},
		{"none when all have succeeded", job(func(j *batchv1.Job) { j.Status.Succeeded = 9 }), 0},
		{"a work queue", job(func(j *batchv1.Job) { j.Spec.Completions, j.Status.Succeeded = nil, 1 }), 4},
		{"one that waits to try again", job(func(j *batchv1.Job) { j.Status.Failed = 1 }), 0},
		{"one that tries again", job(func(j *batchv1.Job) {
			j.Status = batchv1.JobStatus{Failed: 1, Active: 2, Terminating: ptr.To[int32](1)}
		}), 3},
		{"one that has ended", job(func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}
		}), 0},
		{"a pod", &corev1.Pod{}, 1},
		{"a pod that has ended", &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}, 0},
	} {
		if got := loadOf(c.obj); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// The turns come in order, as there is room, and what ends makes room.
func TestQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var began string
		var turns []*turn
		jobs := []*batchv1.Job{queuedJob("a", 2), queuedJob("b", 1), queuedJob("c", 3), queuedJob("d", 1)}
		for _, j := range jobs {
			turns = append(turns, &turn{obj: j, begin: func(context.Context) (kind.Object, error) { return j, nil }})
		}
		q := newQueue(t.Context(), 3, turns)
		step := func(want string) {
			t.Helper()
			q.next(time.Now())
			for q.calls > 0 {
				b := <-q.done
				q.calls--
				if q.seen(b.obj) == nil || q.seen(b.obj) != nil {
					t.Errorf("%s is not seen once", b.obj.GetName())
				}
				began += b.obj.GetName()
			}
			if sorted := fmt.Sprint(len(began), q.load); sorted != want {
				t.Errorf("began and load are %s, want %s (%s)", sorted, want, began)
			}
		}
		step("2 3")
		jobs[0].Status.Succeeded = 3
		q.weigh(jobs[0], false)
		step("3 5") // of c one pod has room, and the node holds the others back
		q.weigh(jobs[1], true)
		step("3 4")
		q.weigh(queuedJob("stranger", 7), false)
		jobs[0].Status.Succeeded = 4
		q.weigh(jobs[0], false)
		step("3 3")
		jobs[2].Status.Succeeded = 4
		q.weigh(jobs[2], false)
		q.close()
		step("3 2")
	})
}

// Without a limit, and with ten thousand, no step looks at more than those that begin.
func TestQueueOfMany(t *testing.T) {
	t.Parallel()
	const n = 10000
	synctest.Test(t, func(t *testing.T) {
		var turns []*turn
		for i := range n {
			j := queuedJob(fmt.Sprint("j", i), 1)
			turns = append(turns, &turn{obj: j, begin: func(context.Context) (kind.Object, error) { return j, nil }})
		}
		q := newQueue(t.Context(), 0, turns)
		for seen := 0; seen < n; seen++ {
			q.next(time.Now())
			if q.calls > callsAtATime {
				t.Fatalf("%d calls at a time", q.calls)
			}
			b := <-q.done
			q.calls--
			q.seen(b.obj)
		}
		if q.load != n || len(q.unseen) > 0 || q.calls > 0 {
			t.Errorf("got load %d, %d unseen, %d calls", q.load, len(q.unseen), q.calls)
		}
	})
}
