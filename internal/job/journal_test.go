package job

import (
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// TestStepwise lives through the lives of Jobs whose sets are not carried out as a
// whole: whoever does it dies between two writes now and then. All the same every
// pod is counted once.
func TestStepwise(t *testing.T) {
	t.Parallel()
	deaths, ends := 0, make(map[string]int)
	for seed := uint64(1); seed <= 1500; seed++ {
		w := newWorld(seed)
		w.calm, w.jumps = true, false
		w.job().Spec.Suspend, w.job().Spec.PodFailurePolicy = ptr.To(false), nil
		w.job().Spec.Parallelism = ptr.To(1 + *w.job().Spec.Parallelism)
		l := stepwise{world: w, ended: make(map[types.UID]corev1.PodPhase)}
		if err := l.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		deaths += l.deaths
		j := w.job()
		ends[string(j.Status.Conditions[len(j.Status.Conditions)-1].Type)]++
	}
	t.Logf("%d deaths between two writes; the Jobs ended as %v", deaths, ends)
	if deaths < 1000 || ends["Complete"] < 200 || ends["Failed"] < 200 {
		t.Error("the simulation does not reach what it is for")
	}
}

type stepwise struct {
	*world
	ended   map[types.UID]corev1.PodPhase // tracked pods that have ended
	created int
	deaths  int
}

func (l *stepwise) run() error {
	for step := 0; !finished(l.job()); step++ {
		if step == 5000 {
			return fmt.Errorf("the Job does not come to an end: %+v", l.job().Status)
		}
		l.act()
		for _, pod := range l.pods() {
			if kind.PodEnded(pod) && tracked(pod) {
				l.ended[pod.UID] = pod.Status.Phase
			}
		}
		s := l.state()
		s.Stepwise = true
		if err := l.carryOut(Decide(l.now, s)); err != nil {
			return err
		}
	}
	return l.check()
}

// carryOut does the writes of a set one after the other, and may die before each.
func (l *stepwise) carryOut(set change.Set) error {
	l.complete(&set)
	for i, x := range set.Writes {
		if i > 0 && l.chance(4) {
			l.deaths++
			return nil
		}
		if x.Op == change.Create {
			l.created++
		}
		if err := l.apply(change.Set{Writes: []change.Write{x}}); err != nil {
			return err
		}
	}
	return nil
}

// check: what the status says is what became of the pods.
func (l *stepwise) check() error {
	j := l.job()
	var succeeded, failed int32
	for _, phase := range l.ended {
		if phase == corev1.PodSucceeded {
			succeeded++
		} else {
			failed++
		}
	}
	if kind.JobEnd(j).Type == batchv1.JobFailed { // with all that still ran, though it may have succeeded since
		succeeded, failed = j.Status.Succeeded, int32(l.created)-j.Status.Succeeded
	}
	if indexed(j) {
		succeeded = ParseIndexes(j.Status.CompletedIndexes, *j.Spec.Completions).Len()
	}
	if u := j.Status.UncountedTerminatedPods; j.Status.Succeeded != succeeded || j.Status.Failed != failed || len(u.Succeeded)+len(u.Failed) > 0 {
		return fmt.Errorf("%d succeeded and %d failed, the status says %d and %d, and lists %+v", succeeded, failed, j.Status.Succeeded, j.Status.Failed, u)
	}
	for _, pod := range l.pods() {
		if limit := j.Spec.BackoffLimitPerIndex; limit != nil && earlierFailures(pod) > *limit {
			return fmt.Errorf("%s is tried after %d failures, its limit is %d", pod.Name, earlierFailures(pod), *limit)
		}
		if tracked(pod) && kind.PodEnded(pod) {
			return fmt.Errorf("%s is not released", pod.Name)
		}
	}
	return nil
}
