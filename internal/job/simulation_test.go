package job

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run the simulation of this seed only")
	lives   = flag.Uint64("lives", 6000, "simulate so many Jobs")
)

// TestSimulation lives through the lives of random Jobs, and checks after every
// commit what must hold whatever happens.
func TestSimulation(t *testing.T) {
	t.Parallel()
	from, to := uint64(1), *lives
	if testing.Short() {
		to = min(to, 400)
	}
	if *oneSeed != 0 {
		from, to = *oneSeed, *oneSeed
	}
	ends := make(map[string]int)
	for seed := from; seed <= to; seed++ {
		s := &simulation{world: newWorld(seed), dirty: true}
		err := s.run()
		if err == nil && s.failure != "" {
			err = fmt.Errorf("%s", s.failure)
		}
		if err != nil {
			t.Fatalf("go test -run Simulation -seed %d: %v\n%s", seed, err, strings.Join(s.story, "\n"))
		}
		ends[s.ending()]++
	}
	t.Logf("seeds %d to %d ended as %v", from, to, ends)
	if to-from >= 1000 {
		for _, end := range []string{"Complete/CompletionsReached", "Complete/SuccessPolicy", "Failed/BackoffLimitExceeded",
			"Failed/DeadlineExceeded", "Failed/PodFailurePolicy", "Failed/FailedIndexes", "Failed/MaxFailedIndexesExceeded", "deleted"} {
			if ends[end] == 0 {
				t.Errorf("no Job ended as %s: the simulation does not reach it", end)
			}
		}
	}
}

// simulation is a world with an engine in it.
type simulation struct {
	*world
	dirty   bool
	wakeAt  time.Time
	over    *batchv1.Job // as it was when it was over
	lastEnd time.Time    // of the last failure since a success
	story   []string
	failure string
}

func (s *simulation) fail(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf(format, args...)
	}
}

func (s *simulation) run() error {
	for step := 0; s.failure == ""; step++ {
		if step == 150 { // users leave, and ask for nothing more
			s.calm = true
			j := s.job().DeepCopy()
			j.Spec.Suspend = ptr.To(false)
			if *j.Spec.Parallelism == 0 {
				j.Spec.Parallelism = ptr.To[int32](1)
				if indexed(j) && *j.Spec.Completions == 0 {
					j.Spec.Completions = ptr.To[int32](1)
				}
			}
			s.store(jobKey(j), j)
			s.dirty = true
		}
		if step > 150 && s.settled() {
			return nil
		}
		if step == 20000 {
			return fmt.Errorf("the Job does not come to an end")
		}
		s.step()
	}
	return nil
}

// settled: the Job is over or gone for good, and no pod is left to account for.
func (s *simulation) settled() bool {
	j := s.job()
	if s.dirty || !finished(j) && j.DeletionTimestamp == nil {
		return false
	}
	for _, pod := range s.pods() {
		if metav1.IsControlledBy(pod, j) && !kind.PodEnded(pod) && pod.Labels != nil && (tracked(pod) || j.DeletionTimestamp == nil) {
			return false
		}
		if tracked(pod) && metav1.IsControlledBy(pod, j) {
			s.fail("%s keeps its finalizer", pod.Name)
		}
	}
	return true
}

func (s *simulation) ending() string {
	j := s.job()
	if !finished(j) {
		return "deleted"
	}
	c := j.Status.Conditions[len(j.Status.Conditions)-1]
	return string(c.Type) + "/" + c.Reason
}

// step: something happens, and the engine may look at it; sometimes late, with
// the world moving on before it writes.
func (s *simulation) step() {
	rev := s.rev
	s.act()
	s.dirty = s.dirty || s.rev != rev
	due := !s.wakeAt.IsZero() && !s.wakeAt.After(s.now)
	if !s.dirty && !due {
		if !s.jumps {
			s.expectNothing()
		}
		return
	}
	if s.chance(4) {
		return // the engine is slow, or being restarted
	}
	view, now, seen := s.state(), s.now, s.rev
	var before []*corev1.Pod
	if s.chance(16) {
		for _, pod := range view.Pods {
			before = append(before, pod.DeepCopy())
		}
	}
	set := Decide(now, view)
	if before != nil && !equality.Semantic.DeepEqual(before, view.Pods) {
		s.fail("a pod that was read was modified")
	}
	if s.chance(10) {
		s.act()
	}
	moved := s.rev != seen
	s.story = append(s.story, fmt.Sprintf("%s %v %v", s.now.Sub(t0), summary(set), reasons(set)))
	if err := s.apply(set); err != nil {
		s.dirty = true
		return
	}
	s.dirty = moved || len(set.Writes) > 0
	s.wakeAt = set.WakeAt
	s.check(view, set, now)
	if revs := s.rev; s.chance(3) && s.now.Equal(now) {
		s.expectRest(revs)
	}
}

// expectNothing: before it wants to be woken, and as long as nothing changes,
// there is nothing to decide.
func (s *simulation) expectNothing() {
	if set := Decide(s.now, s.state()); !set.Empty() {
		s.fail("at %s, before it wanted to wake at %s, it decides %v %v", s.now.Sub(t0), s.wakeAt.Sub(t0), summary(set), reasons(set))
	}
}

// expectRest: deciding again and again at the same moment comes to rest.
func (s *simulation) expectRest(rev uint64) {
	for range 5 {
		view := s.state()
		set := Decide(s.now, view)
		if set.Empty() {
			s.dirty, s.wakeAt = false, set.WakeAt
			return
		}
		if err := s.apply(set); err != nil {
			s.fail("an undisturbed decision is refused: %v", err)
		}
		s.story = append(s.story, fmt.Sprintf("  again %v %v", summary(set), reasons(set)))
		s.check(view, set, s.now)
	}
	s.fail("it does not come to rest")
}

// check compares what a set did with an account of its own.
func (s *simulation) check(view State, set change.Set, now time.Time) {
	old, next := view.Job, s.job()
	if s.over != nil && !equality.Semantic.DeepEqual(s.over.Status, next.Status) {
		s.fail("the Job was over, and has changed")
	}
	if finished(next) && s.over == nil {
		s.over = next.DeepCopy()
		s.checkEnd(next)
	}
	if old.Generation != next.Generation || finished(old) {
		return
	}
	s.checkCounts(view, set, next)
	if created(set) > 0 {
		s.checkStart(old, next, now)
	}
	s.checkIndexes(next)
}

func created(set change.Set) int {
	n := 0
	for _, w := range set.Writes {
		if w.Op == change.Create {
			n++
		}
	}
	return n
}

// checkCounts: every pod that loses its finalizer is counted, as what it was,
// and nothing else is.
func (s *simulation) checkCounts(view State, set change.Set, next *batchv1.Job) {
	failing := kind.JobCondition(&next.Status, batchv1.JobFailureTarget) != nil
	var succeeded, failed int32
	var success time.Time
	var failures []time.Time
	for _, w := range set.Writes {
		i := slices.IndexFunc(view.Pods, func(p *corev1.Pod) bool { return w.Key == kind.Pods.Key(p.Namespace, p.Name) })
		if w.Op == change.Create || i < 0 {
			continue
		}
		pod := view.Pods[i]
		after, _ := w.Object.(*corev1.Pod)
		// Whose labels do not match is let go, and was deleted by somebody else;
		// a pod without an owner that is deleted outright was adopted first.
		owned := metav1.IsControlledBy(pod, next) || after == nil || metav1.IsControlledBy(after, next)
		if !owned || pod.Labels == nil || after != nil && (tracked(after) || !metav1.IsControlledBy(after, next)) {
			continue
		}
		if !tracked(pod) && metav1.IsControlledBy(pod, next) {
			continue // was given up before
		}
		lost := pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil && !ReplacesOnlyFailed(next)
		switch valid := !indexed(next) || indexOf(pod, *next.Spec.Completions) != noIndex; {
		case !valid:
		case pod.Status.Phase == corev1.PodSucceeded:
			succeeded++
			if end := endOf(pod); end.After(success) {
				success = end
			}
		case (lost || failing) && judge(next.Spec.PodFailurePolicy, pod).counted():
			failed++
			failures = append(failures, endOf(pod))
		}
	}
	if succeeded > 0 {
		s.lastEnd = time.Time{}
	}
	for _, end := range failures {
		if end.After(success) && end.After(s.lastEnd) {
			s.lastEnd = end
		}
	}
	if got := next.Status.Failed - view.Job.Status.Failed; got != failed {
		s.fail("%d failures are counted, %d pods failed", got, failed)
	}
	if got := next.Status.Succeeded - view.Job.Status.Succeeded; !indexed(next) && got != succeeded {
		s.fail("%d successes are counted, %d pods succeeded", got, succeeded)
	}
	if u := next.Status.UncountedTerminatedPods; u == nil || len(u.Failed)+len(u.Succeeded) > 0 {
		s.fail("uncounted pods: %v", u)
	}
}

// checkStart: pods are only created when, and as many as, the Job may have.
func (s *simulation) checkStart(old, next *batchv1.Job, now time.Time) {
	spec, st := &next.Spec, &next.Status
	switch {
	case suspended(next), next.DeletionTimestamp != nil, finished(next):
		s.fail("a pod is created for a Job that is suspended, being deleted or over")
	case st.Active > *spec.Parallelism:
		s.fail("%d pods are active, parallelism is %d", st.Active, *spec.Parallelism)
	case spec.Completions != nil && st.Active+st.Succeeded > *spec.Completions:
		s.fail("%d pods are active and %d succeeded, completions is %d", st.Active, st.Succeeded, *spec.Completions)
	case st.Failed > *spec.BackoffLimit:
		s.fail("a pod is created after %d failures, backoffLimit is %d", st.Failed, *spec.BackoffLimit)
	case spec.Completions == nil && st.Succeeded > 0:
		s.fail("a pod is created for a work queue that is done")
	case !s.jumps && !perIndex(next) && !s.lastEnd.IsZero() && now.Before(s.lastEnd.Add(firstBackoff)):
		s.fail("a pod is created at %s, but one failed at %s", now.Sub(t0), s.lastEnd.Sub(t0))
	case ReplacesOnlyFailed(next) && spec.Completions != nil && st.Active+*st.Terminating > *spec.Parallelism:
		s.fail("%d active and %d terminating pods, and one is created", st.Active, *st.Terminating)
	}
}

// checkIndexes: no index has two pods of the engine's making, or is tried more
// often than it may be.
func (s *simulation) checkIndexes(j *batchv1.Job) {
	if !indexed(j) {
		return
	}
	completions := *j.Spec.Completions
	running := make(map[int32]string)
	done := ParseIndexes(j.Status.CompletedIndexes, completions)
	lost := ParseIndexes(ptr.Deref(j.Status.FailedIndexes, ""), completions)
	if done.Len() != j.Status.Succeeded {
		s.fail("%s are %d indexes, succeeded is %d", done, done.Len(), j.Status.Succeeded)
	}
	for _, pod := range s.pods() {
		i := indexOf(pod, completions)
		if i == noIndex || !metav1.IsControlledBy(pod, j) || strings.HasPrefix(pod.Name, "stray") {
			continue
		}
		if limit := j.Spec.BackoffLimitPerIndex; limit != nil && earlierFailures(pod) > *limit {
			s.fail("index %d is tried after %d failures, its limit is %d", i, earlierFailures(pod), *limit)
		}
		if kind.PodEnded(pod) || pod.DeletionTimestamp != nil {
			continue
		}
		if other := running[i]; other != "" {
			s.fail("%s and %s run index %d", other, pod.Name, i)
		}
		running[i] = pod.Name
	}
	if limit := j.Spec.MaxFailedIndexes; limit != nil && lost.Len() > *limit && kind.JobCondition(&j.Status, batchv1.JobFailureTarget) == nil &&
		kind.JobCondition(&j.Status, batchv1.JobSuccessCriteriaMet) == nil {
		s.fail("%d indexes have failed, %d may", lost.Len(), *limit)
	}
}

// checkEnd: when a Job is over, it has what its last condition says.
func (s *simulation) checkEnd(j *batchv1.Job) {
	st := &j.Status
	if st.Active != 0 || *st.Terminating != 0 || *st.Ready != 0 {
		s.fail("the Job is over with %d active, %d terminating, %d ready pods", st.Active, *st.Terminating, *st.Ready)
	}
	if _, ok := j.Annotations[BackoffAnnotation]; ok {
		s.fail("the Job is over, and still backs off")
	}
	complete := kind.JobCondition(&j.Status, batchv1.JobComplete)
	if (complete != nil) != (st.CompletionTime != nil) || (complete != nil) == (kind.JobCondition(&j.Status, batchv1.JobFailed) != nil) {
		s.fail("the Job ended as %v, at %v", conditions(j), st.CompletionTime)
	}
	if (complete != nil) != (kind.JobCondition(&j.Status, batchv1.JobSuccessCriteriaMet) != nil) || (complete == nil) != (kind.JobCondition(&j.Status, batchv1.JobFailureTarget) != nil) {
		s.fail("the Job ended as %v", conditions(j))
	}
	for _, pod := range s.pods() {
		if metav1.IsControlledBy(pod, j) && !kind.PodEnded(pod) && pod.Labels != nil {
			s.fail("the Job is over, and %s is not", pod.Name)
		}
	}
}
