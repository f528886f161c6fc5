package job

import (
	"math"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// decision is one Decide under way: the pods sorted out, the status that is
// being worked out, and the set that is being filled.
type decision struct {
	State
	now    time.Time
	second metav1.Time // now as the API keeps it: whole seconds
	set    change.Set

	// The Job's spec with its defaults.
	indexed, perIndex bool
	completions       int32 // math.MaxInt32 for a work queue
	parallelism       int32

	// The pods, sorted out by census. Pods that need no look are in none.
	adopted     map[*corev1.Pod]bool
	active      []*corev1.Pod      // run or are about to, and nobody deletes them
	terminating []*corev1.Pod      // are being deleted, but have not ended yet
	succeeded   []*corev1.Pod      // succeeded, not counted yet
	failed      []*corev1.Pod      // failed as the Job sees it, not counted yet
	strays      []*corev1.Pod      // ended, tracked, but not to be counted: of no index of the Job, or listed
	listed      map[types.UID]bool // what takeOver has counted
	running     Indexes            // of an Indexed Job: what active has
	distinct    bool               // and whether each of active has one of its own

	// What the Job has got to, the pods not counted yet included.
	successes, failures int32
	done                Indexes // of an Indexed Job: what has succeeded
	lost                Indexes // with perIndex: what has failed for good
	streak              streak
	held                map[int32]*corev1.Pod // with perIndex: see hold

	// What this set does.
	status    batchv1.JobStatus // the next one; shares what does not change
	started   int32             // pods created
	removed   []*corev1.Pod     // active pods deleted
	lingering int32             // how many of these stay a while as terminating
	waiting   Indexes           // with perIndex: what waits for its back-off
	settled   int               // pods counted or released
	counted   struct{ succeeded, failed []*corev1.Pod }
	more      bool // pods are left over for the next set
}

func newDecision(now time.Time, s State) *decision {
	spec := &s.Job.Spec
	return &decision{
		State: s, now: now, second: metav1.NewTime(now.Truncate(time.Second)),
		indexed: indexed(s.Job), perIndex: perIndex(s.Job),
		completions: ptr.Deref(spec.Completions, math.MaxInt32),
		parallelism: ptr.Deref(spec.Parallelism, 1),
		status:      s.Job.Status,
	}
}

// decide is the whole of it, for a Job that is not over yet.
func (d *decision) decide() {
	d.takeOver()
	d.census()
	d.progress()
	if d.status.StartTime == nil && !suspended(d.Job) {
		d.status.StartTime = &d.second
	}
	v := d.verdict()
	if v.none() {
		d.manage()
		if v = d.complete(); v.none() {
			d.suspension()
		}
	} else {
		d.remove(d.active)
	}
	d.account(v)
	d.adoptRest()
	d.conclude(v)
	d.write(v)
}

// takeOver counts the pods that a controller which counts in several steps left
// in status.uncountedTerminatedPods. Those of them that are still there are only
// released.
func (d *decision) takeOver() {
	u := d.status.UncountedTerminatedPods
	if u == nil || len(u.Succeeded)+len(u.Failed) == 0 {
		return
	}
	d.status.Succeeded += int32(len(u.Succeeded))
	d.status.Failed += int32(len(u.Failed))
	d.status.UncountedTerminatedPods = nil // conclude makes the empty one
	listed := u.Failed
	if !d.indexed { // an index that is completed is not counted again anyway
		listed = slices.Concat(listed, u.Succeeded)
	}
	d.listed = make(map[types.UID]bool)
	for _, uid := range listed {
		d.listed[uid] = true
	}
}

// census sorts out the pods: whose they are, and what they are to the Job.
func (d *decision) census() {
	selects := selector(d.Job)
	for _, pod := range d.Pods {
		if !d.claim(pod, selects) {
			continue
		}
		switch {
		case kind.PodEnded(pod):
			if tracked(pod) || d.adopted[pod] { // otherwise it has been counted
				d.sortEnded(pod)
			}
		case pod.DeletionTimestamp == nil:
			if d.active == nil {
				d.active = make([]*corev1.Pod, 0, len(d.Pods))
			}
			d.active = append(d.active, pod)
		default:
			d.terminating = append(d.terminating, pod)
			// Whoever deletes a pod makes it fail: it may never say so itself.
			if tracked(pod) && !ReplacesOnlyFailed(d.Job) {
				d.sortEnded(pod)
			}
		}
	}
	if d.indexed {
		d.running, d.distinct = d.indexesOf(d.active)
	}
	// The order in which pods were listed must not show.
	byName := func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(d.succeeded, byName)
	slices.SortFunc(d.failed, byName)
}

// sortEnded takes a pod that is over and is still to be released.
func (d *decision) sortEnded(pod *corev1.Pod) {
	switch {
	case d.indexed && indexOf(pod, d.completions) == noIndex, d.listed[pod.UID]:
		d.strays = append(d.strays, pod)
	case pod.Status.Phase == corev1.PodSucceeded:
		d.succeeded = append(d.succeeded, pod)
	default:
		d.failed = append(d.failed, pod)
	}
}

// claim reports whether the pod is the Job's: it has been, or it is adopted. A
// pod that no longer matches the selector is let go.
func (d *decision) claim(pod *corev1.Pod, selects func(map[string]string) bool) bool {
	leaving := d.Job.DeletionTimestamp != nil
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		switch {
		case owner.UID != d.Job.UID:
			return false
		case selects(pod.Labels):
			return true
		case !leaving:
			d.letGo(pod)
		case tracked(pod):
			d.release(pod) // the Job could not go before it
		}
		return false
	}
	if leaving || pod.DeletionTimestamp != nil || !selects(pod.Labels) {
		return false
	}
	if d.adopted == nil {
		d.adopted = make(map[*corev1.Pod]bool)
	}
	d.adopted[pod] = true
	return true
}

// selector returns the test for the Job's own pods.
func selector(job *batchv1.Job) func(map[string]string) bool {
	s := job.Spec.Selector
	if s == nil {
		return func(map[string]string) bool { return false }
	}
	if len(s.MatchExpressions) == 0 && len(s.MatchLabels) > 0 {
		return func(have map[string]string) bool {
			for k, v := range s.MatchLabels {
				if got, ok := have[k]; !ok || got != v {
					return false
				}
			}
			return true
		}
	}
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil { // validation lets none pass
		return func(map[string]string) bool { return false }
	}
	return func(have map[string]string) bool { return parsed.Matches(labels.Set(have)) }
}

// progress works out how far the Job has got with the pods that ended since.
func (d *decision) progress() {
	d.failures = d.status.Failed
	for _, pod := range d.failed {
		if judge(d.Job.Spec.PodFailurePolicy, pod).counted() {
			d.failures++
		}
	}
	if !d.indexed {
		d.successes = d.status.Succeeded + int32(len(d.succeeded))
	} else {
		d.progressOfIndexes()
	}
	if !d.perIndex {
		d.streak = parseStreak(d.Job.Annotations[BackoffAnnotation]).after(d.succeeded, d.failed, d.now)
	}
}

// letGo releases a pod that the selector no longer matches.
func (d *decision) letGo(pod *corev1.Pod) {
	if len(d.set.Writes) == batch {
		d.more = true
		return
	}
	next := *pod
	next.OwnerReferences = d.otherOwners(pod)
	next.Finalizers = withoutTracking(pod)
	d.put(pod, &next)
	d.note(corev1.EventTypeNormal, "PodReleased", "Released pod "+pod.Name+": its labels do not match the selector any more")
}

// otherOwners are the pod's owners without the Job.
func (d *decision) otherOwners(pod *corev1.Pod) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(pod.OwnerReferences),
		func(r metav1.OwnerReference) bool { return r.UID == d.Job.UID })
}

// adoption returns the pod as the Job's own, if it is being adopted. Only what
// differs is copied: the objects of a View are never changed.
func (d *decision) adoption(pod *corev1.Pod) *corev1.Pod {
	next := *pod
	if d.adopted[pod] {
		delete(d.adopted, pod)
		d.note(corev1.EventTypeNormal, "PodAdopted", "Adopted pod "+pod.Name+": it has no owner, and its labels match the selector")
		next.OwnerReferences = append(d.otherOwners(pod), controllerRef(d.Job))
		if !tracked(pod) {
			next.Finalizers = append(slices.Clone(pod.Finalizers), batchv1.JobTrackingFinalizer)
		}
	}
	return &next
}

// adoptRest writes the adopted pods that nothing else is done about.
func (d *decision) adoptRest() {
	if len(d.adopted) == 0 {
		return
	}
	for n, i := 0, 0; i < len(d.Pods); i++ {
		if pod := d.Pods[i]; d.adopted[pod] {
			if n++; n > batch {
				d.more = true
				return
			}
			d.put(pod, d.adoption(pod))
		}
	}
}

// release takes the tracking finalizer off a pod that is accounted for, or
// that nobody will account for.
func (d *decision) release(pod *corev1.Pod) {
	next := d.adoption(pod)
	next.Finalizers = withoutTracking(pod)
	d.put(pod, next)
}

// end deletes an active pod, and releases it.
func (d *decision) end(pod *corev1.Pod) {
	next := d.adoption(pod)
	next.Finalizers = withoutTracking(pod)
	d.note(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name)
	// An active pod's deletion has not begun, so that it always does now.
	w, _ := d.PodKind.Removal(next, change.RevOf(pod), d.now, nil)
	if w.Op == change.Update {
		d.lingering++
	}
	d.removed = append(d.removed, pod)
	d.set.Writes = append(d.set.Writes, w)
}

// put writes next over pod.
func (d *decision) put(pod, next *corev1.Pod) {
	d.set.Writes = append(d.set.Writes, kind.Settle(change.Write{
		Op: change.Update, Key: podKey(pod.Namespace, pod.Name), Rev: change.RevOf(pod), Object: next,
	}))
}

// releaseLeftovers frees the pods that still wait for a Job that is over.
func (d *decision) releaseLeftovers() {
	for _, pod := range d.Pods {
		if !tracked(pod) || !metav1.IsControlledBy(pod, d.Job) {
			continue
		}
		if len(d.set.Writes) == batch {
			d.set.Wake(d.now)
			break
		}
		d.release(pod)
	}
	d.guardJob()
}

// guardJob makes the set depend on the Job being as it was read, when it does
// not write it anyway.
func (d *decision) guardJob() {
	if len(d.set.Writes) > 0 {
		d.set.Guards = append(d.set.Guards, change.Guard{Key: jobKey(d.Job), Rev: change.RevOf(d.Job)})
	}
}

// note leaves an event about the Job.
func (d *decision) note(eventType, reason, message string) {
	d.set.Note(change.Note{
		Regarding: corev1.ObjectReference{
			APIVersion: "batch/v1", Kind: "Job", Namespace: d.Job.Namespace, Name: d.Job.Name,
			UID: d.Job.UID, ResourceVersion: d.Job.ResourceVersion,
		},
		Component: Component, Type: eventType, Reason: reason, Message: message,
	})
}
