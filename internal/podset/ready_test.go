package podset

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestAvailable(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)
	ready := func(status corev1.ConditionStatus, since time.Time) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(since)},
		}}}
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		min  int32
		want bool
		at   time.Time
	}{
		"says nothing":           {pod: &corev1.Pod{}},
		"is not ready":           {pod: ready(corev1.ConditionFalse, now.Add(-time.Hour))},
		"is ready":               {pod: ready(corev1.ConditionTrue, now), want: true},
		"is ready since when":    {pod: ready(corev1.ConditionTrue, time.Time{}), min: 10},
		"is ready for too short": {pod: ready(corev1.ConditionTrue, now.Add(-9*time.Second)), min: 10, at: now.Add(time.Second)},
		"is ready for so long":   {pod: ready(corev1.ConditionTrue, now.Add(-10*time.Second)), min: 10, want: true},
	} {
		if got, at := Available(c.pod, c.min, now); got != c.want || !at.Equal(c.at) {
			t.Errorf("a pod that %s: %v, at %v; want %v, %v", name, got, at, c.want, c.at)
		}
	}
}

// TestHash: the values are those of Kubernetes' ComputeHash, with which kubediff compares
// more.
func TestHash(t *testing.T) {
	t.Parallel()
	template := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "web:1"}}}}
	if got := Hash(template, nil); got != "5b5759cdd8" {
		t.Errorf("the hash is %s", got)
	}
	if got := Hash(template, ptr.To[int32](1)); got != "786c679ffc" {
		t.Errorf("the hash after a collision is %s", got)
	}
	if got := Harmless(1034567892); got != "54789bcdf6" {
		t.Errorf("harmless is %s", got)
	}
}
