package control

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// move is what one set does to the pods of one Job. The Job itself, if it is
// written, comes last.
type move struct {
	job      types.UID
	at       time.Time
	created  []*corev1.Pod
	released []*corev1.Pod // as they were before the tracking finalizer was taken off
	unowned  []*corev1.Pod // that are gone: adopted and released at once, or deleted by a user
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
		case kind.PodEnded(old) && pod.Status.Phase != old.Status.Phase:
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
	obj, ok := a.world.store.View().Get(change.Key{Resource: kind.Nodes, Name: bound.Spec.NodeName})
	if !ok {
		a.fail("pod %s is bound to %s, which is not there", bound.Name, bound.Spec.NodeName)
		return
	}
	count, cpu := int64(1), bound.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
	for other, obj := range a.objects {
		pod, ok := obj.(*corev1.Pod)
		if !ok || other == key || pod.Spec.NodeName != bound.Spec.NodeName || kind.PodEnded(pod) {
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
	a.checkSuccess(old, j)
	if end := finishedAs(j); end != "" {
		a.checkEnd(j, end)
	}
}

// moveOf returns the move that goes on, or a new one if it is another Job's.
func (a *audit) moveOf(job types.UID) *move {
	if a.move.job != job {
		a.closeMove()
		a.move.job, a.move.at = job, a.world.now()
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
	case spec.ActiveDeadlineSeconds != nil && !a.move.at.Before(st.StartTime.Add(time.Duration(*spec.ActiveDeadlineSeconds)*time.Second)):
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
			if other.Name != pod.Name && !strings.HasPrefix(other.Name, "stray-") && !kind.PodEnded(other) && other.DeletionTimestamp == nil && indexOf(other, j) == indexOf(pod, j) {
				a.fail("%s and %s run the same index", other.Name, pod.Name)
			}
		}
		if failures, _ := strconv.Atoi(pod.Annotations[batchv1.JobIndexFailureCountAnnotation]); spec.BackoffLimitPerIndex != nil && failures > int(*spec.BackoffLimitPerIndex) {
			a.fail("%s is created after %d failures of its index, its limit is %d", pod.Name, failures, *spec.BackoffLimitPerIndex)
		}
	}
}

// checkSuccess: a Job has as many successes as it wants when it says so. It has said so for good: who
// wants more of an elastic one afterwards, while its last pods end, does not get more.
func (a *audit) checkSuccess(old, j *batchv1.Job) {
	if conditionTrue(old, batchv1.JobSuccessCriteriaMet) {
		return
	}
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobSuccessCriteriaMet && c.Reason == batchv1.JobReasonCompletionsReached && j.Status.Succeeded < ptr.Deref(j.Spec.Completions, 1) {
			a.fail("%s says with %d successes that these are all", j.Name, j.Status.Succeeded)
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
		if !kind.PodEnded(pod) && selector.Matches(labels.Set(pod.Labels)) {
			a.fail("%s is over, and %s is not", j.Name, pod.Name)
		}
	}
	complete := end == batchv1.JobComplete
	switch {
	case complete != conditionTrue(j, batchv1.JobSuccessCriteriaMet), complete == conditionTrue(j, batchv1.JobFailureTarget), complete != (st.CompletionTime != nil):
		a.fail("%s ended as %v at %v", j.Name, conditionsOf(j), st.CompletionTime)
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
		case kind.PodEnded(pod):
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

// The audit's own reading of Kubernetes' rules, as plain as can be.

func jobOf(pod *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOf(pod); ref != nil && ref.Kind == "Job" {
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
