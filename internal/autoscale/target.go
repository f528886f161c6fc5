package autoscale

import (
	"errors"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Target is what an autoscaler scales, or why that cannot be found.
type Target struct {
	Kind   *kind.Kind
	Object change.Object
	Err    error
}

func (t Target) scale() (*autoscalingv1.Scale, error) {
	if t.Err != nil {
		return nil, t.Err
	}
	return t.Kind.Scale.Of(t.Object)
}

// Look gathers what is known of an autoscaler without measuring anything. rows are the kinds
// that there are.
func Look(rows []*kind.Kind, view kind.Getter, a *autoscalingv2.HorizontalPodAutoscaler) State {
	s := State{Autoscaler: a, Target: target(rows, view, a)}
	selector := s.Target.selector()
	if selector == nil {
		return s
	}
	for obj := range view.List(kind.Pods, a.Namespace) {
		if pod := obj.(*corev1.Pod); selector.Matches(labels.Set(pod.Labels)) {
			s.Pods = append(s.Pods, pod)
		}
	}
	for obj := range view.List(kind.HorizontalPodAutoscalers, a.Namespace) {
		other := obj.(*autoscalingv2.HorizontalPodAutoscaler)
		if other.Name == a.Name {
			s.Rivals = append(s.Rivals, a.Namespace+"/"+a.Name)
			continue
		}
		if theirs := target(rows, view, other).selector(); theirs != nil && matchesAny(theirs, s.Pods) {
			s.Rivals = append(s.Rivals, other.Namespace+"/"+other.Name)
		}
	}
	return s
}

func matchesAny(selector labels.Selector, pods []*corev1.Pod) bool {
	for _, pod := range pods {
		if selector.Matches(labels.Set(pod.Labels)) {
			return true
		}
	}
	return false
}

// selector is what selects the target's pods; nil if nothing does.
func (t Target) selector() labels.Selector {
	scale, err := t.scale()
	if err != nil || scale.Status.Selector == "" {
		return nil
	}
	selector, err := labels.Parse(scale.Status.Selector)
	if err != nil {
		return nil
	}
	return selector
}

// target finds what an autoscaler names, of whatever version.
func target(rows []*kind.Kind, view kind.Getter, a *autoscalingv2.HorizontalPodAutoscaler) Target {
	ref := a.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return Target{Err: err}
	}
	for _, k := range rows {
		if k.GVK.Group != gv.Group || k.GVK.Kind != ref.Kind {
			continue
		}
		obj, ok := view.Get(k.Key(a.Namespace, ref.Name))
		switch {
		case k.Scale == nil:
			return Target{Err: errors.New("the server could not find the requested resource")}
		case !ok:
			return Target{Err: apierrors.NewNotFound(k.GR(), ref.Name)}
		}
		return Target{Kind: k, Object: obj}
	}
	return Target{Err: fmt.Errorf("no matches for kind %q in group %q", ref.Kind, gv.Group)}
}
