package control

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
)

// jobController runs Jobs. stepwise says that the source carries out the writes of a
// set one after the other.
func jobController(kinds *kind.Kinds, stepwise bool) Controller {
	k, podKind := kinds.ByResource(kind.Jobs), kinds.ByResource(kind.Pods)
	return Controller{
		Name: "job",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case kind.Jobs:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case kind.Pods:
				jobsOf(view, k, ev, add)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			j := obj.(*batchv1.Job)
			return job.Decide(now, job.State{Job: j, Pods: podsOf(view, j), PodKind: podKind, Refused: refused, Stepwise: stepwise})
		},
	}
}

// podsOf returns the Job's pods that are still of interest to it, and those of
// its namespace that have no controller.
func podsOf(view change.View, j *batchv1.Job) []*corev1.Pod {
	var found []*corev1.Pod
	for obj := range view.Index(kind.Pods, kind.LivePods(j.UID)) {
		found = append(found, obj.(*corev1.Pod))
	}
	for obj := range view.Index(kind.Pods, kind.StrayPods(j.Namespace)) {
		found = append(found, obj.(*corev1.Pod))
	}
	return found
}

// jobsOf adds the Jobs that a pod's write concerns: its controller, the one
// that it had before, and, when it has none, those whose selector matches it.
func jobsOf(view change.View, k *kind.Kind, ev change.Event, add func(change.Key)) {
	controllersOf(k, ev, add)
	pod := ev.Object
	if metav1.GetControllerOf(pod) != nil || len(pod.GetLabels()) == 0 {
		return
	}
	have := labels.Set(pod.GetLabels())
	for obj := range view.List(kind.Jobs, ev.Key.Namespace) {
		s := obj.(*batchv1.Job).Spec.Selector
		// Nearly every Job asks for a uid that the pod does not have: that is
		// found out without parsing each selector.
		if s == nil || !labels.SelectorFromValidatedSet(s.MatchLabels).Matches(have) {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err == nil && !selector.Empty() && selector.Matches(have) {
			add(k.KeyOf(obj))
		}
	}
}
