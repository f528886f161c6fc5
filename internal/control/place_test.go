package control

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/place"
)

// TestVacancy: a pod is bound unseen if the node has room and nobody there minds, whatever has ended there.
func TestVacancy(t *testing.T) {
	t.Parallel()
	const most = 100 // pods of the node
	node := func(name string, is corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(most, resource.DecimalSI)},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: is}},
		}}
	}
	pods := func(n int, phase corev1.PodPhase, edit func(*corev1.Pod)) (all []change.Object) {
		for i := range n {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(phase, i)}, Spec: corev1.PodSpec{NodeName: "one"}}
			pod.Status.Phase = phase
			if edit != nil {
				edit(pod)
			}
			all = append(all, pod)
		}
		return all
	}
	repels := func(pod *corev1.Pod) {
		pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{}}
	}
	one := []change.Object{node("one", corev1.ConditionTrue)}
	for _, test := range []struct {
		name    string
		objects []change.Object
		want    bool
	}{
		{"an empty node", one, true},
		{"some run", append(pods(most/2-1, corev1.PodRunning, nil), one...), true},
		{"half of the node runs", append(pods(most/2, corev1.PodRunning, nil), one...), false},
		{"many have ended", append(pods(2*most, corev1.PodSucceeded, nil), one...), true},
		{"one keeps others away", append(pods(1, corev1.PodRunning, repels), one...), false},
		{"one did", append(pods(1, corev1.PodFailed, repels), one...), true},
		{"no node", nil, false},
		{"the node is not ready", []change.Object{node("one", corev1.ConditionFalse)}, false},
		{"another is not ready", append([]change.Object{node("two", corev1.ConditionUnknown)}, one...), true},
		{"two nodes", append([]change.Object{node("two", corev1.ConditionTrue)}, one...), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := vacancyOf(shelve(kind.Builtin(), test.objects...))
			pod := &corev1.Pod{Spec: corev1.PodSpec{SchedulerName: place.Component}}
			if got := v.node.Node != nil && place.Trivial(pod, v.node); got != test.want {
				t.Errorf("bound unseen: %v, want %v (%d pods are counted)", got, test.want, v.node.Count)
			}
		})
	}
}
