package replicaset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// t0 is when everything happens.
var t0 = time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)

// newSet returns the ReplicaSet web of three pods as the API would store it, then as edits
// make it.
func newSet(edits ...func(*appsv1.ReplicaSet)) *appsv1.ReplicaSet {
	labels := map[string]string{"app": "web"}
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "set-uid", ResourceVersion: "10", Generation: 1},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To[int32](3), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "tier": "front"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "web:1"}}},
			},
		},
	}
	for _, edit := range edits {
		edit(set)
	}
	return set
}

// controller is a set as the ReplicationController that it would be.
func controller(set *appsv1.ReplicaSet) *corev1.ReplicationController {
	c := withStatus(&corev1.ReplicationController{ObjectMeta: set.ObjectMeta}, set.Status).(*corev1.ReplicationController)
	c.Spec = corev1.ReplicationControllerSpec{
		Replicas: set.Spec.Replicas, MinReadySeconds: set.Spec.MinReadySeconds, Selector: set.Spec.Selector.MatchLabels, Template: &set.Spec.Template,
	}
	return c
}

func replicas(n int32) func(*appsv1.ReplicaSet) {
	return func(set *appsv1.ReplicaSet) { set.Spec.Replicas = &n }
}

func failing(set *appsv1.ReplicaSet) {
	set.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "before"}}
}

func deleted(set *appsv1.ReplicaSet) { set.DeletionTimestamp = ptr.To(metav1.NewTime(t0)) }

// newPod returns a pod of the set newSet that runs and has been ready for a minute, then
// as edits make it.
func newPod(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID(name), ResourceVersion: "11", CreationTimestamp: metav1.NewTime(t0.Add(-time.Hour)),
			Labels:          map[string]string{"app": "web", "tier": "front"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "set-uid", Controller: ptr.To(true)}},
		},
		Spec: corev1.PodSpec{NodeName: "node", TerminationGracePeriodSeconds: ptr.To[int64](30)},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(t0.Add(-time.Minute))},
		}},
	}
	for _, edit := range edits {
		edit(pod)
	}
	return pod
}

func unready(pod *corev1.Pod) { pod.Status.Conditions = nil }
func orphan(pod *corev1.Pod)  { pod.OwnerReferences = nil }
func others(pod *corev1.Pod)  { pod.OwnerReferences[0].UID = "another" }
func strange(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "else"} }
func bare(pod *corev1.Pod)    { delete(pod.Labels, "tier") }
func leaving(pod *corev1.Pod) {
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(t0)), ptr.To[int64](30)
}
func unbound(pod *corev1.Pod) {
	pod.Spec.NodeName, pod.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
}
func ended(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = phase }
}
func on(node string) func(*corev1.Pod) { return func(pod *corev1.Pod) { pod.Spec.NodeName = node } }
func costs(n string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations = map[string]string{corev1.PodDeletionCost: n} }
}
func readySince(seconds int) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(t0.Add(-time.Duration(seconds) * time.Second))
	}
}

// state is what is decided from.
func state(set change.Object, pods ...*corev1.Pod) State {
	return State{Set: set, Pods: pods, PodKind: kind.Pod(), Related: func() []*corev1.Pod { return pods }}
}

// summary is what a set does: "+" for each pod that is created, "-a" deleted, "-a!" at
// once, "~a" adopted, "a~" released; and the status that it writes, if any.
func summary(t *testing.T, s State, set change.Set) (did, status string) {
	t.Helper()
	var words []string
	for _, w := range set.Writes {
		switch obj := w.Object.(type) {
		case *corev1.Pod:
			switch ref := metav1.GetControllerOfNoCopy(obj); {
			case w.Op == change.Create:
				words = append(words, "+")
			case obj.DeletionTimestamp != nil:
				words = append(words, "-"+obj.Name)
			case ref == nil:
				words = append(words, obj.Name+"~")
			default:
				words = append(words, "~"+obj.Name)
			}
		case nil:
			words = append(words, "-"+w.Key.Name+"!")
		default:
			if w.Key.Name != "web" || w.Rev != 10 || w.Object == s.Set {
				t.Errorf("it writes %s at %d", w.Key, w.Rev)
			}
			_, next := read(obj)
			status = statusText(next.Status)
		}
	}
	guarded := slices.ContainsFunc(set.Guards, func(g change.Guard) bool { return g.Key.Name == "web" && g.Rev == 10 })
	if len(set.Writes) > 0 && status == "" && !guarded {
		t.Error("what is written does not depend on the set")
	}
	return strings.Join(words, " "), status
}

func statusText(st appsv1.ReplicaSetStatus) string {
	text := fmt.Sprintf("%d pods, %d labeled, %d ready, %d available", st.Replicas, st.FullyLabeledReplicas, st.ReadyReplicas, st.AvailableReplicas)
	if st.TerminatingReplicas != nil {
		text += fmt.Sprintf(", %d go", *st.TerminatingReplicas)
	}
	for _, c := range st.Conditions {
		text += fmt.Sprintf("; %s %s %s: %s", c.Type, c.Status, c.Reason, c.Message)
	}
	return text
}
