package podstate

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestObserveEphemeral has ephemeral containers come to a pod in whatever order a patch puts
// them: what is known of one stays with its name.
func TestObserveEphemeral(t *testing.T) {
	t.Parallel()
	p := newPod("init:i main:a ephemeral:e", corev1.RestartPolicyAlways)
	p.set("a=running e=exited:3")
	next := p.Object.DeepCopy()
	next.Spec.EphemeralContainers = slices.Insert(next.Spec.EphemeralContainers, 0, corev1.EphemeralContainer{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "d", Image: "j"}})
	p.Observe(next)
	var names []string
	for i := range p.Containers {
		names = append(names, p.Containers[i].Spec.Name)
	}
	if want := []string{"i", "a", "e", "d"}; !slices.Equal(names, want) {
		t.Fatalf("got %v, want %v", names, want)
	}
	e, d := &p.Containers[2], &p.Containers[3]
	if e.Phase != Exited || e.Target != "a" || d.Phase != Waiting || d.Target != "" || d.Attempt != -1 || d.Spec.Image != "j" {
		t.Errorf("got %+v and %+v", e, d)
	}
	if len(p.mains()) != 1 || p.mains()[0].Phase != Running {
		t.Errorf("the main containers are %+v", p.mains())
	}
}
