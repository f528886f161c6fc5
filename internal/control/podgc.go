package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// podController keeps the number of terminated pods bounded. Each look is at all
// pods, so that one at each end would be too many. Kubernetes looks every 20 s; here
// far more pods can end in that time.
func podController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(pods)
	all := change.Key{Resource: "podgc"}
	return Controller{
		Name:  "pod-gc",
		Every: time.Second,
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			pod, ok := ev.Object.(*corev1.Pod)
			if ok && ev.Op == change.Update && kind.PodEnded(pod) && view.Len(pods) > sweep.TerminatedPodThreshold {
				add(all)
			}
		},
		Decide: func(now time.Time, view change.View, _ change.Key, _ error) change.Set {
			each := func(yield func(change.Key, change.Object) bool) {
				for obj := range view.List(pods, "") {
					if !yield(k.KeyOf(obj), obj) {
						return
					}
				}
			}
			return sweep.TerminatedPods(now, kinds.ByResource, each, sweep.TerminatedPodThreshold)
		},
	}
}
