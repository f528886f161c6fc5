// Package autoscale is the core of HorizontalPodAutoscalers: how many replicas a target is to
// have, from what its pods use. It follows Kubernetes' own controller, whose arithmetic cannot
// be had without its clients and informers.
//
// What it recommended and did before is a Memory, which the shell keeps from one decision to the
// next: without it a load that comes and goes would be followed to and fro. As on Kubernetes it
// is kept in memory only. A new engine begins with the size that it finds.
//
// Metrics of pods (Resource, ContainerResource) are known. The other types come from metrics
// APIs (custom.metrics.k8s.io, external.metrics.k8s.io), which nobody serves here; they fail
// as on a cluster that has no adapter for them.
package autoscale

import (
	"errors"
	"fmt"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Component is the name under which autoscalers report.
const Component = "horizontal-pod-autoscaler"

// Period is how often an autoscaler looks at its pods: --horizontal-pod-autoscaler-sync-period.
const Period = 15 * time.Second

// State is what Decide reads.
type State struct {
	Autoscaler *autoscalingv2.HorizontalPodAutoscaler
	Target     Target
	// Pods are those of the namespace that the target's selector matches.
	Pods []*corev1.Pod
	// Rivals are the autoscalers that select some of these, with this one: namespace/name.
	Rivals []string
	// Usage is what the pods use, if Measures.
	Usage  Usage
	Memory Memory
}

// decision is a decision on its way.
type decision struct {
	State
	now   time.Time
	next  *autoscalingv2.HorizontalPodAutoscaler
	set   change.Set
	scale *autoscalingv1.Scale
	least int32
}

// Measures reports whether a decision depends on what the pods use.
func (s *State) Measures() bool {
	scale, err := s.Target.scale()
	if err != nil || s.selectorFault(scale) != nil {
		return false
	}
	measured := false
	for i := range s.Autoscaler.Spec.Metrics {
		switch s.Autoscaler.Spec.Metrics[i].Type {
		case autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType:
			measured = true
		}
	}
	_, _, decided := s.bounds(scale.Spec.Replicas)
	return measured && !decided
}

// Decide gives the target another size if it should have one, and says in the autoscaler's
// status why, or why not. It returns what is to be remembered once the set is carried out.
func Decide(now time.Time, s State) (change.Set, Memory) {
	d := &decision{State: s, now: now, next: s.Autoscaler.DeepCopy(), least: minReplicas(s.Autoscaler)}
	d.Memory = s.Memory.clone()
	d.set.Wake(now.Add(Period))
	d.decide()
	if !equality.Semantic.DeepEqual(s.Autoscaler.Status, d.next.Status) {
		d.set.Update(kind.HorizontalPodAutoscalers.Key(d.next.Namespace, d.next.Name), change.RevOf(s.Autoscaler), d.next)
	}
	return d.set, d.Memory
}

func minReplicas(a *autoscalingv2.HorizontalPodAutoscaler) int32 {
	return ptr.Deref(a.Spec.MinReplicas, 1)
}

func (d *decision) decide() {
	var err error
	if d.scale, err = d.Target.scale(); err != nil {
		d.warn(reason.FailedGetScale, err.Error())
		d.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, reason.FailedGetScale, fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err))
		return
	}
	d.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current := d.scale.Spec.Replicas
	d.Memory.begin(current, d.now)
	desired, why, decided := d.bounds(current)
	var statuses []autoscalingv2.MetricStatus
	switch {
	case decided && current == 0:
		d.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
	case !decided:
		var err error
		if desired, why, statuses, err = d.measured(current); err != nil {
			d.status(current, d.next.Status.DesiredReplicas, statuses)
			d.warn(reason.FailedComputeMetricsReplicas, err.Error())
			return
		}
	}
	if desired != current {
		d.rescale(current, desired, why)
	}
	d.status(current, desired, statuses)
}

// bounds returns how many replicas there are to be if that does not depend on what the pods use.
func (s *State) bounds(current int32) (desired int32, why string, decided bool) {
	least := minReplicas(s.Autoscaler)
	switch {
	case current == 0:
		byItself := zeroed(s.Autoscaler) && (least != 0 || hasOutsideMetric(s.Autoscaler))
		return 0, "", !byItself
	case current > s.Autoscaler.Spec.MaxReplicas:
		return s.Autoscaler.Spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas", true
	case current < least:
		return least, "Current number of replicas below Spec.MinReplicas", true
	}
	return 0, "", false
}

// measured returns how many replicas there are to be by what the pods use.
func (d *decision) measured(current int32) (desired int32, why string, statuses []autoscalingv2.MetricStatus, err error) {
	proposal, metric, statuses, err := d.proposal()
	if err != nil {
		return 0, "", statuses, err
	}
	desired = max(proposal, 0)
	switch {
	case desired > current:
		why = metric + " above target"
	case desired < current:
		why = "All metrics below target"
	}
	if d.next.Spec.Behavior == nil {
		desired = d.normalize(current, desired)
	} else {
		desired = d.normalizeByBehavior(current, desired)
	}
	if current == 0 && d.least != 0 && zeroed(d.Autoscaler) && desired < d.least {
		desired = d.least
		if why == "" {
			why = "Current number of replicas below Spec.MinReplicas"
		}
	}
	return desired, why, statuses, nil
}

// rescale writes the target's new size.
func (d *decision) rescale(current, desired int32, why string) {
	obj := d.Target.Object.DeepCopyObject().(change.Object)
	d.Target.Kind.Scale.Set(obj, desired)
	obj.SetGeneration(obj.GetGeneration() + 1)
	d.set.Update(d.Target.Kind.KeyOf(obj), change.RevOf(d.Target.Object), obj)
	d.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", desired))
	d.note(corev1.EventTypeNormal, reason.SuccessfulRescale, fmt.Sprintf("New size: %d; reason: %s", desired, why))
	d.Memory.rescaled(d.next.Spec.Behavior, current, desired, d.now)
	d.next.Status.LastScaleTime = ptr.To(d.stamp())
	if current > 0 && desired == 0 && d.least == 0 && hasOutsideMetric(d.Autoscaler) {
		d.condition(autoscalingv2.ScaledToZero, corev1.ConditionTrue, "ScaledToZero", "the HPA controller scaled the workload to zero")
		return
	}
	d.condition(autoscalingv2.ScaledToZero, corev1.ConditionFalse, "NotScaledToZero", "the HPA controller did not scale the workload to zero")
}

// hasOutsideMetric reports whether there is a metric that needs no pods to be measured.
func hasOutsideMetric(a *autoscalingv2.HorizontalPodAutoscaler) bool {
	for i := range a.Spec.Metrics {
		if t := a.Spec.Metrics[i].Type; t == autoscalingv2.ObjectMetricSourceType || t == autoscalingv2.ExternalMetricSourceType {
			return true
		}
	}
	return false
}

// zeroed reports whether it was the autoscaler that left the target without replicas.
func zeroed(a *autoscalingv2.HorizontalPodAutoscaler) bool {
	for _, c := range a.Status.Conditions {
		if c.Type == autoscalingv2.ScaledToZero {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (d *decision) status(current, desired int32, metrics []autoscalingv2.MetricStatus) {
	st := &d.next.Status
	st.CurrentReplicas, st.DesiredReplicas, st.CurrentMetrics = current, desired, metrics
	st.ObservedGeneration = ptr.To(d.next.Generation)
}

// condition sets a condition; it has changed when its status has.
func (d *decision) condition(of autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) {
	next := autoscalingv2.HorizontalPodAutoscalerCondition{Type: of, Status: status, Reason: reason, Message: message, LastTransitionTime: d.stamp()}
	conditions := d.next.Status.Conditions
	for i := range conditions {
		if conditions[i].Type != of {
			continue
		}
		if conditions[i].Status == status {
			next.LastTransitionTime = conditions[i].LastTransitionTime
		}
		conditions[i] = next
		return
	}
	d.next.Status.Conditions = append(conditions, next)
}

func (d *decision) stamp() metav1.Time { return metav1.NewTime(d.now.Truncate(time.Second)) }

func (d *decision) warn(reason, message string) { d.note(corev1.EventTypeWarning, reason, message) }

func (d *decision) note(eventType, reason, message string) {
	a := d.Autoscaler
	d.set.Note(change.Note{Regarding: corev1.ObjectReference{
		APIVersion: autoscalingv2.SchemeGroupVersion.String(), Kind: "HorizontalPodAutoscaler",
		Namespace: a.Namespace, Name: a.Name, UID: a.UID, ResourceVersion: a.ResourceVersion,
	}, Component: Component, Type: eventType, Reason: reason, Message: message})
}

// fault is why the pods of a target cannot be told: an Event's reason and message, and what the
// condition says.
type fault struct{ event, message, reason, condition string }

// selectorFault returns what is wrong with the selector of a scale; nil if nothing is.
func (s *State) selectorFault(scale *autoscalingv1.Scale) *fault {
	selector := scale.Status.Selector
	if selector == "" {
		return &fault{reason.SelectorRequired, "selector is required", reason.InvalidSelector, "the HPA target's scale is missing a selector"}
	}
	if _, err := labels.Parse(selector); err != nil {
		text := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		return &fault{reason.InvalidSelector, text, reason.InvalidSelector, text}
	}
	if len(s.Rivals) > 1 {
		text := fmt.Sprintf("pods by selector %v are controlled by more than one HPA (e.g. %v)", selector, s.Rivals[:2])
		return &fault{reason.AmbiguousSelector, text, reason.AmbiguousSelector, text}
	}
	return nil
}

// selectable returns an error, and says so, if the pods of the target cannot be told.
func (d *decision) selectable() error {
	f := d.selectorFault(d.scale)
	if f == nil {
		return nil
	}
	d.warn(f.event, f.message)
	d.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, f.reason, f.condition)
	return errors.New(f.message)
}
