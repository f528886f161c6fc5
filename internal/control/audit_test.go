package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// audit follows every write, at the time at which it is committed, keeps books
// of its own, and says when what must always hold does not.
type audit struct {
	world *world
	watch sync.WaitGroup

	mu       sync.Mutex
	failure  string
	story    []string // one line for each write
	writes   int
	reasons  map[string]int // events, by their reason
	endings  map[string]int // of Jobs
	objects  map[change.Key]change.Object
	pods     map[types.UID]map[string]*corev1.Pod // by the Job that controls them
	started  map[types.UID]map[string]types.UID   // by CronJob: the Jobs that were started, by slot
	indexes  map[types.UID]map[int32]bool         // by Job: what succeeded
	touched  map[types.UID]time.Time              // by CronJob: when it or a Job of it was last written
	upset    time.Time                            // when the engine started, or the clock was set
	move     move
	latest   time.Duration // that a slot was started after its time
	finished int
}

// move is what one set does to the pods of one Job. The Job itself, if it is
// written, comes last.
type move struct {
	job      types.UID
	created  []*corev1.Pod
	released []*corev1.Pod // as they were before the tracking finalizer was taken off
	unowned  []*corev1.Pod // that are gone: adopted and released at once, or deleted by a user
}

func newAudit(w *world) *audit {
	return &audit{
		world: w, reasons: make(map[string]int), endings: make(map[string]int),
		objects: make(map[change.Key]change.Object), pods: make(map[types.UID]map[string]*corev1.Pod),
		started: make(map[types.UID]map[string]types.UID), indexes: make(map[types.UID]map[int32]bool),
		touched: make(map[types.UID]time.Time),
	}
}

func (a *audit) fail(format string, args ...any) {
	if a.failure == "" {
		a.failure = fmt.Sprintf(format, args...)
	}
}

// verdict returns what was found, with the part of the story that is about it.
func (a *audit) verdict() (failure string, story []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure, a.story
}

// disturb: what should have happened at its time may be late.
func (a *audit) disturb() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.upset = a.world.now()
}

// attach follows the store of an engine that has just been opened. It must hold
// all that the last one had acknowledged, but for Events.
func (a *audit) attach(s *store.Store) {
	a.disturb()
	view := s.View()
	n := 0
	for _, resource := range []string{pods, jobs, cronJobs} {
		for obj := range view.List(resource, "") {
			n++
			have := a.objects[a.world.kindOf(obj).KeyOf(obj)]
			if have == nil || have.GetResourceVersion() != obj.GetResourceVersion() {
				a.fail("%s %s is on disk at revision %s, and was not before", resource, obj.GetName(), obj.GetResourceVersion())
			}
		}
	}
	if n != len(a.objects) {
		a.fail("the disk holds %d objects, %d were acknowledged", n, len(a.objects))
	}
	w, err := s.Watch("", view.Rev())
	if err != nil {
		a.world.t.Fatal(err)
	}
	a.watch.Go(func() {
		for {
			events, _, err := w.Next(context.Background())
			if err != nil {
				return // closed
			}
			a.mu.Lock()
			for _, ev := range events {
				a.see(ev)
			}
			a.mu.Unlock()
		}
	})
}

// detach waits until a store that was closed has been followed to its end.
func (a *audit) detach() { a.watch.Wait() }

// see takes one write to the books.
func (a *audit) see(ev store.Event) {
	a.writes++
	if event, ok := ev.Object.(*corev1.Event); ok {
		if ev.Op != change.Delete {
			before := int32(0)
			if ev.Prev != nil {
				before = ev.Prev.(*corev1.Event).Count
			}
			a.reasons[event.Reason] += int(event.Count - before)
		}
		return
	}
	a.story = append(a.story, a.line(ev))
	if ev.Op == change.Update {
		a.checkObject(ev.Prev, ev.Object)
	}
	switch obj := ev.Object.(type) {
	case *corev1.Pod:
		a.seePod(ev, obj)
	case *batchv1.Job:
		a.seeJob(ev, obj)
	case *batchv1.CronJob:
		a.closeMove()
		a.seeCronJob(ev, obj)
	default:
		a.closeMove()
		return
	}
	if ev.Op == change.Delete {
		delete(a.objects, ev.Key)
	} else {
		a.objects[ev.Key] = ev.Object
	}
}

// line tells of a write in one line.
func (a *audit) line(ev store.Event) string {
	text := fmt.Sprintf("%s %d %s %s", a.world.now().Format("01-02 15:04:05.000"), ev.Rev,
		map[change.Op]string{change.Create: "create", change.Update: "update", change.Delete: "delete"}[ev.Op], ev.Key)
	if ev.Object.GetDeletionTimestamp() != nil {
		text += fmt.Sprintf(" leaving %v", ev.Object.GetFinalizers())
	}
	switch obj := ev.Object.(type) {
	case *corev1.Pod:
		text += fmt.Sprintf(" %s on %q, tracked %v", obj.Status.Phase, obj.Spec.NodeName, tracked(obj))
	case *batchv1.Job:
		s := &obj.Status
		text += fmt.Sprintf(" active %d succeeded %d %s failed %d %s of %d, parallelism %d, suspended %v, %v", s.Active, s.Succeeded, s.CompletedIndexes,
			s.Failed, ptr.Deref(s.FailedIndexes, ""), ptr.Deref(obj.Spec.Completions, -1), *obj.Spec.Parallelism, *obj.Spec.Suspend, conditionsOf(obj))
	case *batchv1.CronJob:
		text += fmt.Sprintf(" %q %s suspended %v, last %v, %d active", obj.Spec.Schedule, obj.Spec.ConcurrencyPolicy, *obj.Spec.Suspend,
			obj.Status.LastScheduleTime, len(obj.Status.Active))
	}
	return text
}

// checkObject: what holds for every object.
func (a *audit) checkObject(old, next change.Object) {
	switch {
	case old.GetUID() != next.GetUID() || !old.GetCreationTimestamp().Time.Equal(next.GetCreationTimestamp().Time):
		a.fail("%s is another object", next.GetName())
	case old.GetDeletionTimestamp() != nil && next.GetDeletionTimestamp() == nil:
		a.fail("%s is not deleted any more", next.GetName())
	}
}

// seePod books a pod under its Job, and checks its life.
func (a *audit) seePod(ev store.Event, pod *corev1.Pod) {
	old, _ := ev.Prev.(*corev1.Pod)
	if old == nil {
		old = &corev1.Pod{}
	}
	was, is, gone := jobOf(old), jobOf(pod), ev.Op == change.Delete
	delete(a.pods[was], pod.Name)
	if is != "" && !gone {
		if a.pods[is] == nil {
			a.pods[is] = make(map[string]*corev1.Pod)
		}
		a.pods[is][pod.Name] = pod
	}
	move := a.moveOf(cmp.Or(was, is, types.UID(pod.Labels[batchv1.ControllerUidLabel])))
	switch {
	case ev.Op == change.Create && is != "":
		move.created = append(move.created, pod)
	case was != "" && tracked(old) && (gone || is == was && !tracked(pod)), was == "" && is != "" && !tracked(pod):
		move.released = append(move.released, old)
	case was == "" && gone:
		move.unowned = append(move.unowned, old)
	case was == is:
		a.closeMove() // somebody else's write
	}
	if ev.Op == change.Update {
		switch {
		case terminal(old) && pod.Status.Phase != old.Status.Phase:
			a.fail("pod %s was %s, and is %s", pod.Name, old.Status.Phase, pod.Status.Phase)
		case old.Spec.NodeName != "" && pod.Spec.NodeName != old.Spec.NodeName:
			a.fail("pod %s moves from %s to %q", pod.Name, old.Spec.NodeName, pod.Spec.NodeName)
		}
	}
	if pod.Spec.NodeName != "" && old.Spec.NodeName == "" && !gone {
		a.checkRoom(ev.Key, pod)
	}
}

// checkRoom: a node is not given more than it has.
func (a *audit) checkRoom(key change.Key, bound *corev1.Pod) {
	obj, ok := a.world.store.View().Get(change.Key{Resource: nodes, Name: bound.Spec.NodeName})
	if !ok {
		a.fail("pod %s is bound to %s, which is not there", bound.Name, bound.Spec.NodeName)
		return
	}
	count, cpu := int64(1), bound.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
	for other, obj := range a.objects {
		pod, ok := obj.(*corev1.Pod)
		if !ok || other == key || pod.Spec.NodeName != bound.Spec.NodeName || terminal(pod) {
			continue
		}
		count++
		cpu += pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
	}
	room := obj.(*corev1.Node).Status.Allocatable
	if count > room.Pods().Value() || cpu > room.Cpu().MilliValue() {
		a.fail("%s has %d pods with %dm CPU", bound.Spec.NodeName, count, cpu)
	}
}

// seeJob checks what was decided about a Job, and how it ends.
func (a *audit) seeJob(ev store.Event, j *batchv1.Job) {
	a.touched[cronOf(j)] = a.world.now()
	if a.move.job != j.UID || ev.Op != change.Update {
		a.closeMove()
	}
	if ev.Op == change.Create {
		a.checkSlot(j)
		return
	}
	if ev.Op == change.Delete {
		return
	}
	old := ev.Prev.(*batchv1.Job)
	done := finishedAs(old)
	if equality.Semantic.DeepEqual(old.Status, j.Status) {
		a.closeMove()
		return
	}
	switch {
	case done != "":
		a.fail("%s was %s, and has changed", j.Name, done)
	case j.Spec.ManagedBy != nil:
		a.fail("%s is managed by somebody else", j.Name)
	}
	a.settle(old, j)
	a.move = move{}
	if end := finishedAs(j); end != "" {
		a.checkEnd(j, end)
	}
}

// moveOf returns the move that goes on, or a new one if it is another Job's.
func (a *audit) moveOf(job types.UID) *move {
	if a.move.job != job {
		a.closeMove()
		a.move.job = job
	}
	return &a.move
}

// closeMove: a set that does not write the Job has nothing to count.
func (a *audit) closeMove() {
	m := a.move
	a.move = move{}
	if len(m.created)+len(m.released) == 0 {
		return
	}
	for _, obj := range a.objects {
		if j, ok := obj.(*batchv1.Job); ok && j.UID == m.job {
			a.move = m
			a.settle(j, j)
			a.move = move{}
			return
		}
	}
	if len(m.created) > 0 {
		a.fail("%s is created for a Job that is not there", m.created[0].Name)
	}
}

// settle checks that the set which takes a Job from old to next counts each pod
// that it releases as what it was, and starts no pod that the Job may not have.
func (a *audit) settle(old, next *batchv1.Job) {
	var succeeded, failed, extra int32
	if finishedAs(old) == "" {
		succeeded, failed = a.count(next, a.move.released)
		for _, i := range expand(ptr.Deref(old.Status.FailedIndexes, "")) {
			delete(a.indexes[next.UID], i) // an index ends once
		}
		_, extra = a.count(next, a.move.unowned)
	}
	if got := next.Status.Failed - old.Status.Failed; got < failed || got > failed+extra {
		a.fail("%s counts %d failures, %d pods failed", next.Name, got, failed)
	}
	if !isIndexed(next) {
		if got := next.Status.Succeeded - old.Status.Succeeded; got != succeeded {
			a.fail("%s counts %d successes, %d pods succeeded", next.Name, got, succeeded)
		}
	} else if old != next {
		a.checkIndexes(next)
	}
	if len(a.move.created) > 0 {
		a.checkStart(next)
	}
}

// count tells how many of the pods, as they were when they were released,
// succeeded and failed.
func (a *audit) count(j *batchv1.Job, pods []*corev1.Pod) (succeeded, failed int32) {
	selector, _ := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	failing := conditionTrue(j, batchv1.JobFailureTarget)
	onlyFailed := j.Spec.PodFailurePolicy != nil || *j.Spec.PodReplacementPolicy == batchv1.Failed
	for _, pod := range pods {
		index := indexOf(pod, j)
		lost := pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil && !onlyFailed
		switch {
		case !selector.Matches(labels.Set(pod.Labels)): // let go
		case isIndexed(j) && index < 0:
		case pod.Status.Phase == corev1.PodSucceeded:
			succeeded++
			if isIndexed(j) {
				if a.indexes[j.UID] == nil {
					a.indexes[j.UID] = make(map[int32]bool)
				}
				a.indexes[j.UID][index] = true
			}
		case (lost || failing) && !ignored(j.Spec.PodFailurePolicy, pod):
			failed++
		}
	}
	return succeeded, failed
}

// checkIndexes: completedIndexes are those of the pods that succeeded.
func (a *audit) checkIndexes(j *batchv1.Job) {
	done := a.indexes[j.UID]
	for i := range done {
		if i >= *j.Spec.Completions {
			delete(done, i) // the Job has been made smaller
		}
	}
	got := expand(j.Status.CompletedIndexes)
	for _, i := range got {
		if !done[i] {
			a.fail("%s has completed index %d, of which no pod succeeded", j.Name, i)
		}
	}
	if len(got) != len(done) || int(j.Status.Succeeded) != len(done) {
		a.fail("%s has completed %q, succeeded %d; these succeeded: %v", j.Name, j.Status.CompletedIndexes, j.Status.Succeeded, done)
	}
	for _, i := range expand(ptr.Deref(j.Status.FailedIndexes, "")) {
		if done[i] {
			a.fail("index %d of %s has failed and is completed", i, j.Name)
		}
	}
}

// checkStart: pods are created only when, and as many as, the Job may have.
func (a *audit) checkStart(j *batchv1.Job) {
	spec, st := &j.Spec, &j.Status
	switch {
	case *spec.Suspend || j.DeletionTimestamp != nil || finishedAs(j) != "":
		a.fail("a pod is created for %s, which is suspended, being deleted or over", j.Name)
	case st.Active > *spec.Parallelism:
		a.fail("%s has %d active pods, parallelism is %d", j.Name, st.Active, *spec.Parallelism)
	case spec.Completions != nil && st.Active+st.Succeeded > *spec.Completions:
		a.fail("%s has %d active pods, %d succeeded, completions is %d", j.Name, st.Active, st.Succeeded, *spec.Completions)
	case spec.Completions == nil && st.Succeeded > 0:
		a.fail("a pod is created for %s, a work queue that is done", j.Name)
	case st.Failed > *spec.BackoffLimit:
		a.fail("a pod is created for %s after %d failures, backoffLimit is %d", j.Name, st.Failed, *spec.BackoffLimit)
	case spec.ActiveDeadlineSeconds != nil && !a.world.now().Before(st.StartTime.Add(time.Duration(*spec.ActiveDeadlineSeconds)*time.Second)):
		a.fail("a pod is created for %s after its deadline", j.Name)
	case *spec.PodReplacementPolicy == batchv1.Failed && spec.Completions != nil && st.Active+*st.Terminating > *spec.Parallelism:
		a.fail("%s has %d active and %d terminating pods, parallelism is %d", j.Name, st.Active, *st.Terminating, *spec.Parallelism)
	}
	for _, pod := range a.move.created {
		if !tracked(pod) {
			a.fail("%s is created without its finalizer", pod.Name)
		}
		if !isIndexed(j) {
			continue
		}
		for _, other := range a.pods[j.UID] {
			if other.Name != pod.Name && !strings.HasPrefix(other.Name, "stray-") && !terminal(other) && other.DeletionTimestamp == nil && indexOf(other, j) == indexOf(pod, j) {
				a.fail("%s and %s run the same index", other.Name, pod.Name)
			}
		}
		if failures, _ := strconv.Atoi(pod.Annotations[batchv1.JobIndexFailureCountAnnotation]); spec.BackoffLimitPerIndex != nil && failures > int(*spec.BackoffLimitPerIndex) {
			a.fail("%s is created after %d failures of its index, its limit is %d", pod.Name, failures, *spec.BackoffLimitPerIndex)
		}
	}
}

// checkEnd: a Job that is over has what its last condition says, and no pod runs
// for it.
func (a *audit) checkEnd(j *batchv1.Job, end batchv1.JobConditionType) {
	a.finished++
	last := j.Status.Conditions[len(j.Status.Conditions)-1]
	a.endings[string(end)+"/"+last.Reason]++
	st := &j.Status
	if st.Active != 0 || *st.Terminating != 0 || *st.Ready != 0 || st.UncountedTerminatedPods == nil ||
		len(st.UncountedTerminatedPods.Succeeded)+len(st.UncountedTerminatedPods.Failed) > 0 {
		a.fail("%s is over with %+v", j.Name, st)
	}
	selector, _ := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	for _, pod := range a.pods[j.UID] {
		if !terminal(pod) && selector.Matches(labels.Set(pod.Labels)) {
			a.fail("%s is over, and %s is not", j.Name, pod.Name)
		}
	}
	complete := end == batchv1.JobComplete
	switch {
	case complete != conditionTrue(j, batchv1.JobSuccessCriteriaMet), complete == conditionTrue(j, batchv1.JobFailureTarget), complete != (st.CompletionTime != nil):
		a.fail("%s ended as %v at %v", j.Name, conditionsOf(j), st.CompletionTime)
	case last.Reason == batchv1.JobReasonCompletionsReached && st.Succeeded < ptr.Deref(j.Spec.Completions, 1):
		a.fail("%s is complete with %d successes", j.Name, st.Succeeded)
	}
}

// checkSlot: a slot's Job is started once, in time, alone if it must be, and at
// once if nothing stood in the way.
func (a *audit) checkSlot(j *batchv1.Job) {
	stamp := j.Annotations[batchv1.CronJobScheduledTimestampAnnotation]
	ref := metav1.GetControllerOf(j)
	if stamp == "" || ref == nil {
		return
	}
	c, _ := a.objects[change.Key{Resource: cronJobs, Namespace: j.Namespace, Name: ref.Name}].(*batchv1.CronJob)
	slot, err := time.Parse(time.RFC3339, stamp)
	if err != nil || c == nil || c.UID != ref.UID {
		a.fail("%s is started at %q by a CronJob that is not there", j.Name, stamp)
		return
	}
	started := a.started[c.UID]
	if started == nil {
		started = make(map[string]types.UID)
		a.started[c.UID] = started
	}
	at := slot.UTC().String()
	now, deadline, last := a.world.now(), c.Spec.StartingDeadlineSeconds, c.Status.LastScheduleTime
	switch {
	case started[at] != "":
		a.fail("%s of %s is started again", at, c.Name)
	case j.Name != fmt.Sprintf("%s-%d", c.Name, slot.Unix()/60):
		a.fail("the Job of %s is called %s", at, j.Name)
	case slot.After(now):
		a.fail("%s is started early, at %s", j.Name, now)
	case deadline != nil && now.Sub(slot) > time.Duration(*deadline)*time.Second:
		a.fail("%s is started at %s, its deadline is %ds", j.Name, now, *deadline)
	case *c.Spec.Suspend || c.DeletionTimestamp != nil:
		a.fail("%s is started by a CronJob that is suspended or being deleted", j.Name)
	case last != nil && !slot.After(last.Time):
		a.fail("%s is started after %s", j.Name, last)
	case !isSlot(&c.Spec, slot):
		a.fail("%s is started at %s, which is no slot of %q", j.Name, at, c.Spec.Schedule)
	}
	for _, obj := range a.objects {
		other, ok := obj.(*batchv1.Job)
		if !ok || finishedAs(other) != "" || !metav1.IsControlledBy(other, c) || other.Annotations[batchv1.CronJobScheduledTimestampAnnotation] == "" {
			continue
		}
		switch c.Spec.ConcurrencyPolicy {
		case batchv1.ForbidConcurrent:
			a.fail("%s is started beside %s", j.Name, other.Name)
		case batchv1.ReplaceConcurrent:
			if other.DeletionTimestamp == nil {
				a.fail("%s is started, and %s is left", j.Name, other.Name)
			}
		}
	}
	if slot.After(a.touched[c.UID]) && slot.After(a.upset) {
		if a.latest = max(a.latest, now.Sub(slot)); now.Sub(slot) > 100*time.Millisecond {
			a.fail("%s is started %s late", j.Name, now.Sub(slot))
		}
	}
	started[at] = j.UID
}

// isSlot: the schedule has that slot. (Those of @every count from the last.)
func isSlot(spec *batchv1.CronJobSpec, slot time.Time) bool {
	schedule, err := kind.ParseSchedule(spec.Schedule)
	if err != nil || strings.HasPrefix(spec.Schedule, "@every") {
		return err == nil
	}
	zone := time.Local
	if spec.TimeZone != nil {
		if zone, err = time.LoadLocation(*spec.TimeZone); err != nil {
			return false
		}
	}
	return schedule.Next(slot.Add(-time.Second).In(zone)).Equal(slot)
}

func (a *audit) seeCronJob(ev store.Event, c *batchv1.CronJob) {
	a.touched[c.UID] = a.world.now()
	if old, ok := ev.Prev.(*batchv1.CronJob); ok {
		if was, is := old.Status.LastScheduleTime, c.Status.LastScheduleTime; was != nil && (is == nil || is.Before(was)) {
			a.fail("lastScheduleTime of %s goes from %v to %v", c.Name, was, is)
		}
	}
}

// checkRest looks at everything when the engine has come to rest: each status
// says how it is, and no controller has anything left to do.
func (a *audit) checkRest() {
	w := a.world
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closeMove()
	view := w.store.View()
	for obj := range view.List(jobs, "") {
		a.checkStatus(obj.(*batchv1.Job))
	}
	for obj := range view.List(cronJobs, "") {
		a.checkHistory(view, obj.(*batchv1.CronJob))
	}
	if what := w.undecided(); what != "" {
		a.fail("at rest, %s", what)
	}
}

// checkStatus: the numbers are those of the pods.
func (a *audit) checkStatus(j *batchv1.Job) {
	if j.Spec.ManagedBy != nil || finishedAs(j) != "" || j.DeletionTimestamp != nil {
		return
	}
	var active, terminating, isReady int32
	for _, pod := range a.pods[j.UID] {
		switch {
		case terminal(pod):
		case pod.DeletionTimestamp != nil:
			terminating++
		default:
			active++
			if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady }) {
				isReady++
			}
		}
	}
	st := &j.Status
	if st.Active != active || ptr.Deref(st.Terminating, 0) != terminating || ptr.Deref(st.Ready, 0) != isReady {
		a.fail("%s says %d active, %d terminating, %d ready; there are %d, %d and %d", j.Name,
			st.Active, ptr.Deref(st.Terminating, 0), ptr.Deref(st.Ready, 0), active, terminating, isReady)
	}
	deadline := j.Spec.ActiveDeadlineSeconds
	switch {
	case *j.Spec.Suspend && active > 0 || j.Spec.Completions != nil && active > *j.Spec.Parallelism:
		a.fail("%s has %d active pods, parallelism is %d, suspended %v", j.Name, active, *j.Spec.Parallelism, *j.Spec.Suspend)
	case deadline != nil && st.StartTime != nil && !*j.Spec.Suspend && len(st.Conditions) == 0 && a.world.now().After(st.StartTime.Add(time.Duration(*deadline)*time.Second)):
		a.fail("%s goes on after its deadline", j.Name)
	}
}

// checkHistory: no more finished Jobs are kept than the limits say, and what is
// active has not ended.
func (a *audit) checkHistory(view *store.View, c *batchv1.CronJob) {
	kept := make(map[batchv1.JobConditionType]int32)
	for _, obj := range view.Owned(c.UID) {
		if j, ok := obj.(*batchv1.Job); ok && j.DeletionTimestamp == nil && metav1.IsControlledBy(j, c) {
			kept[finishedAs(j)]++
		}
	}
	if kept[batchv1.JobComplete] > *c.Spec.SuccessfulJobsHistoryLimit || kept[batchv1.JobFailed] > *c.Spec.FailedJobsHistoryLimit {
		a.fail("%s keeps %v finished Jobs", c.Name, kept)
	}
	for _, ref := range c.Status.Active {
		obj, ok := view.Get(change.Key{Resource: jobs, Namespace: c.Namespace, Name: ref.Name})
		if !ok || obj.GetUID() != ref.UID || finishedAs(obj.(*batchv1.Job)) != "" {
			a.fail("%s is active in %s, but has ended or is gone", ref.Name, c.Name)
		}
	}
}

// The audit's own reading of Kubernetes' rules, as plain as can be.

func jobOf(pod *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOf(pod); ref != nil && ref.Kind == "Job" {
		return ref.UID
	}
	return ""
}

func cronOf(j *batchv1.Job) types.UID {
	if ref := metav1.GetControllerOf(j); ref != nil {
		return ref.UID
	}
	return ""
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

func isIndexed(j *batchv1.Job) bool { return *j.Spec.CompletionMode == batchv1.IndexedCompletion }

// indexOf returns the completion index of a pod, -1 if it has none of the Job's.
func indexOf(pod *corev1.Pod, j *batchv1.Job) int32 {
	i, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || i < 0 || j.Spec.Completions == nil || i >= int(*j.Spec.Completions) {
		return -1
	}
	return int32(i)
}

// ignored: the first rule that matches a failed pod says Ignore.
func ignored(policy *batchv1.PodFailurePolicy, pod *corev1.Pod) bool {
	if policy == nil {
		return false
	}
	for _, rule := range policy.Rules {
		var matches bool
		if rule.OnExitCodes != nil {
			for _, s := range pod.Status.ContainerStatuses {
				matches = matches || s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 && slices.Contains(rule.OnExitCodes.Values, s.State.Terminated.ExitCode)
			}
		}
		for _, want := range rule.OnPodConditions {
			matches = matches || slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == want.Type && c.Status == want.Status
			})
		}
		if matches {
			return rule.Action == batchv1.PodFailurePolicyActionIgnore
		}
	}
	return false
}

// expand spells out "1,3-5".
func expand(text string) []int32 {
	var all []int32
	for item := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(item, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		last := first
		if isRange {
			last, _ = strconv.Atoi(to)
		}
		for i := first; i <= last; i++ {
			all = append(all, int32(i))
		}
	}
	return all
}

func conditionTrue(j *batchv1.Job, t batchv1.JobConditionType) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
}

func conditionsOf(j *batchv1.Job) []string {
	var all []string
	for _, c := range j.Status.Conditions {
		all = append(all, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
	}
	return all
}

// finishedAs returns Complete or Failed, or "".
func finishedAs(j *batchv1.Job) batchv1.JobConditionType {
	for _, t := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
		if conditionTrue(j, t) {
			return t
		}
	}
	return ""
}
