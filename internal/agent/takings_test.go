package agent

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestUnscheduled: of pods that come at once, bound by nobody but their manifests, those run that there is
// room for, after a restart, too; who has been scheduled was looked at.
func TestUnscheduled(t *testing.T) {
	story(t, func(b *bench) {
		port := []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080, Protocol: corev1.ProtocolTCP}}
		want := func(running int) {
			t.Helper()
			n := 0
			for i := range 6 {
				switch s := b.get(fmt.Sprint("p", i)).Status; {
				case s.Phase == corev1.PodRunning:
					n++
				case s.Phase != corev1.PodFailed || s.Reason != "NodePorts":
					t.Errorf("p%d is %s: %s", i, s.Phase, s.Reason)
				}
			}
			if n != running {
				t.Errorf("%d pods run", n)
			}
		}
		b.stop()
		b.allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")}
		b.boot()
		after(time.Second)
		for i := range 6 {
			b.put(testPod(fmt.Sprint("p", i), func(p *corev1.Pod) {
				p.Status.Conditions, p.Spec.Containers[0].Ports = nil, port
			}))
		}
		after(time.Second)
		want(1)
		b.stop()
		b.boot()
		after(time.Second)
		want(1)
		b.put(testPod("bound", func(p *corev1.Pod) { p.Spec.Containers[0].Ports = port }))
		after(time.Second)
		b.want("bound", corev1.PodRunning, "c", "running ready=true restarts=0")
	})
}
