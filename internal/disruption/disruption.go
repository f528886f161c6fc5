// Package disruption is the core of PodDisruptionBudgets: how many of the pods that one selects
// are healthy, how many have to be, and how many may be evicted now. It follows Kubernetes'
// disruption controller.
//
// The API asks this status when somebody evicts a pod, and takes one off what is allowed in the
// very set that begins the pod's deletion (kind.Spend). So there is no moment at which two
// evictions count on the same pod.
package disruption

import (
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	budgethelper "k8s.io/component-helpers/apps/poddisruptionbudget"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Component is the name under which budgets report.
const Component = "controllermanager"

// deletionTimeout is how long after its eviction a pod that is still there counts as being on
// its way.
const deletionTimeout = 2 * time.Minute

// State is what Decide reads.
type State struct {
	Budget *policyv1.PodDisruptionBudget
	// Pods are those that it selects.
	Pods []*corev1.Pod
	// Others has the objects that the pods are controlled by, and what these are.
	Others kind.Getter
}

// Decide brings the status of a budget up to date.
func Decide(now time.Time, s State) change.Set {
	var set change.Set
	next := *s.Budget // shares everything but the status
	s.Budget.Status.DeepCopyInto(&next.Status)
	if len(s.Pods) == 0 {
		s.note(&set, corev1.EventTypeNormal, reason.NoPods, "No matching pods found")
	}
	expected, desired, unmanaged, err := s.expectation()
	if err != nil {
		s.note(&set, corev1.EventTypeWarning, reason.CalculateExpectedPodCountFailed, fmt.Sprintf("Failed to calculate the number of expected pods: %v", err))
		failSafe(&next, err, now)
	} else {
		if unmanaged {
			s.note(&set, corev1.EventTypeWarning, reason.UnmanagedPods, fmt.Sprintf("Pods selected by this PodDisruptionBudget (selector: %v) were found "+
				"to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
				"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", s.Budget.Spec.Selector))
		}
		s.reckon(&next, expected, desired, now, &set)
	}
	if !equality.Semantic.DeepEqual(s.Budget.Status, next.Status) {
		set.Update(kind.PodDisruptionBudgets.Key(next.Namespace, next.Name), change.RevOf(s.Budget), &next)
	}
	return set
}

func (s State) note(set *change.Set, kind, reason, message string) {
	set.Note(change.Note{Regarding: corev1.ObjectReference{
		APIVersion: policyv1.SchemeGroupVersion.String(), Kind: "PodDisruptionBudget",
		Namespace: s.Budget.Namespace, Name: s.Budget.Name, UID: s.Budget.UID, ResourceVersion: s.Budget.ResourceVersion,
	}, Component: Component, Type: kind, Reason: reason, Message: message})
}

// reckon writes down what is known of the pods.
func (s State) reckon(next *policyv1.PodDisruptionBudget, expected, desired int32, now time.Time, set *change.Set) {
	disrupted := s.disrupted(now, set)
	var healthy int32
	for _, pod := range s.Pods {
		if _, going := disrupted[pod.Name]; !going && pod.DeletionTimestamp == nil && kind.PodReady(pod) {
			healthy++
		}
	}
	allowed := max(healthy-desired, 0)
	if expected <= 0 { // its first pods may be on their way
		allowed = 0
	}
	old := &s.Budget.Status
	next.Status = policyv1.PodDisruptionBudgetStatus{
		CurrentHealthy: healthy, DesiredHealthy: desired, ExpectedPods: expected, DisruptionsAllowed: allowed,
		DisruptedPods: disrupted, ObservedGeneration: s.Budget.Generation, Conditions: slices.Clone(old.Conditions),
	}
	if len(disrupted) == 0 && len(old.DisruptedPods) == 0 {
		next.Status.DisruptedPods = old.DisruptedPods
	}
	allowedCondition(next, now)
}

// allowedCondition sets the condition DisruptionAllowed, also of a new generation to which
// nothing new applies, with our time.
func allowedCondition(next *policyv1.PodDisruptionBudget, now time.Time) {
	before := apimeta.FindStatusCondition(next.Status.Conditions, policyv1.DisruptionAllowedCondition)
	var status metav1.ConditionStatus
	if before != nil {
		status = before.Status
	}
	budgethelper.UpdateDisruptionAllowedCondition(next)
	if c := apimeta.FindStatusCondition(next.Status.Conditions, policyv1.DisruptionAllowedCondition); c.Status != status {
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	}
}

// failSafe allows no disruption as long as nobody knows how many there may be.
func failSafe(next *policyv1.PodDisruptionBudget, err error, now time.Time) {
	next.Status.DisruptionsAllowed = 0
	apimeta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason,
		Message: err.Error(), ObservedGeneration: next.Status.ObservedGeneration, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	})
}

// disrupted returns the pods that were evicted and are not going yet; set is woken when the
// first of them has taken too long.
func (s State) disrupted(now time.Time, set *change.Set) map[string]metav1.Time {
	still := map[string]metav1.Time{}
	for _, pod := range s.Pods {
		at, listed := s.Budget.Status.DisruptedPods[pod.Name]
		if !listed || pod.DeletionTimestamp != nil {
			continue
		}
		if due := at.Add(deletionTimeout); due.After(now) {
			still[pod.Name] = at
			set.Wake(due)
			continue
		}
		set.Note(change.Note{
			Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
			Component: Component, Type: corev1.EventTypeWarning, Reason: reason.NotDeleted,
			Message: fmt.Sprintf("Pod was expected by PDB %s/%s to be deleted but it wasn't", s.Budget.Namespace, s.Budget.Namespace),
		})
	}
	return still
}

// expectation returns how many pods there should be, how many of them have to be healthy, and
// whether there are some that nobody controls.
func (s State) expectation() (expected, desired int32, unmanaged bool, err error) {
	spec := &s.Budget.Spec
	switch {
	case spec.MaxUnavailable != nil:
		if expected, unmanaged, err = s.scale(); err != nil {
			return expected, desired, unmanaged, err
		}
		most, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(expected), true)
		return expected, max(expected-int32(most), 0), unmanaged, err
	case spec.MinAvailable == nil:
		return 0, 0, false, nil
	case spec.MinAvailable.Type == intstr.Int:
		return int32(len(s.Pods)), spec.MinAvailable.IntVal, false, nil
	}
	if expected, unmanaged, err = s.scale(); err != nil {
		return expected, desired, unmanaged, err
	}
	least, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(expected), true)
	return expected, int32(least), unmanaged, err
}

// scale is how many pods all those want together who control one that is selected.
func (s State) scale() (sum int32, unmanaged bool, err error) {
	scales := map[types.UID]int32{}
	for _, pod := range s.Pods {
		ref := metav1.GetControllerOfNoCopy(pod)
		if ref == nil {
			unmanaged = true
			continue
		}
		if _, known := scales[ref.UID]; known {
			continue
		}
		uid, replicas, err := s.scaleOf(ref, pod)
		if err != nil {
			return 0, unmanaged, err
		}
		scales[uid] = replicas
	}
	for _, uid := range slices.Sorted(maps.Keys(scales)) {
		sum += scales[uid]
	}
	return sum, unmanaged, nil
}

// scaleOf is how many pods the object wants that controls pod, or that controls this object.
func (s State) scaleOf(ref *metav1.OwnerReference, pod *corev1.Pod) (types.UID, int32, error) {
	find := func(resource change.Resource, ref *metav1.OwnerReference) change.Object {
		obj, ok := s.Others.Get(resource.Key(pod.Namespace, ref.Name))
		if !ok || obj.GetUID() != ref.UID {
			return nil
		}
		return obj
	}
	gv, _ := schema.ParseGroupVersion(ref.APIVersion)
	switch gv.WithKind(ref.Kind).GroupKind().String() {
	case "ReplicationController":
		if obj := find(kind.ReplicationControllers, ref); obj != nil {
			return ref.UID, ptr.Deref(obj.(*corev1.ReplicationController).Spec.Replicas, 1), nil
		}
	case "StatefulSet.apps":
		if obj := find(kind.StatefulSets, ref); obj != nil {
			return ref.UID, ptr.Deref(obj.(*appsv1.StatefulSet).Spec.Replicas, 1), nil
		}
	case "ReplicaSet.apps":
		obj := find(kind.ReplicaSets, ref)
		if obj == nil {
			break
		}
		above := metav1.GetControllerOfNoCopy(obj)
		if above == nil || above.Kind != "Deployment" {
			return ref.UID, ptr.Deref(obj.(*appsv1.ReplicaSet).Spec.Replicas, 1), nil
		}
		if d := find(kind.Deployments, above); d != nil {
			return above.UID, ptr.Deref(d.(*appsv1.Deployment).Spec.Replicas, 1), nil
		}
	case "Job.batch", "DaemonSet.apps":
		resource := map[string]change.Resource{"Job": kind.Jobs, "DaemonSet": kind.DaemonSets}[ref.Kind]
		return "", 0, fmt.Errorf("%s does not implement the scale subresource", resource)
	}
	return "", 0, fmt.Errorf("found no controllers for pod %q", pod.Name)
}
