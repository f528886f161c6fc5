package place

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/sampan-batch/sampan/internal/change"
)

// BenchmarkFull is a decision while thousands wait for a place on a node that has none left,
// as they do in `sampan run -j 8`.
func BenchmarkFull(b *testing.B) {
	for name, edit := range map[string]func(*corev1.Pod){"place": func(*corev1.Pod) {}, "cpu": cpu("100m")} {
		b.Run(name, func(b *testing.B) {
			full := node("node", "2", func(n *corev1.Node) {
				n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("8")
			})
			var running, waiting []*corev1.Pod
			for i := range 8 {
				running = append(running, pod(fmt.Sprint("running-", i), edit))
			}
			for i := range 5000 {
				waiting = append(waiting, pod(fmt.Sprint("waiting-", i), edit))
			}
			for at := 0; at < len(waiting); { // everyone is told, once
				set := decide(waiting[at:], with(full, running...))
				for i := range set.Writes {
					waiting[at+i] = set.Writes[i].Object.(*corev1.Pod)
				}
				at += len(set.Writes)
			}
			var set change.Set
			for b.Loop() {
				set = decide(waiting, with(full, running...))
			}
			if len(set.Writes) > 0 {
				b.Fatalf("%d are told again", len(set.Writes))
			}
		})
	}
}
