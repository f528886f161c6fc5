package daemonset

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
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/history"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// t0 is when everything happens.
var t0 = time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)

// newSet returns the DaemonSet log as the API would store it, then as edits make it.
func newSet(edits ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	labels := map[string]string{"app": "log"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "log", UID: "set-uid", ResourceVersion: "10", Generation: 1,
			Annotations: map[string]string{appsv1.DeprecatedTemplateGeneration: "1"}},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels}, RevisionHistoryLimit: ptr.To[int32](10),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "log:1"}}},
			},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type:          appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(1)), MaxSurge: ptr.To(intstr.FromInt32(0))},
			},
		},
	}
	for _, edit := range edits {
		edit(ds)
	}
	return ds
}

func unavailable(v string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.Parse(v))
	}
}

func surge(v string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(0))
		ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge = ptr.To(intstr.Parse(v))
	}
}

func onDelete(ds *appsv1.DaemonSet) {
	ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
}

func minReady(seconds int32) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = seconds }
}

func observed(generation int64, backoff string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Status.ObservedGeneration = generation
		ds.Annotations[BackoffAnnotation] = backoff
	}
}

// newNode returns a node, then as edits make it.
func newNode(name string, edits ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
	for _, edit := range edits {
		edit(n)
	}
	return n
}

func taint(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}

func label(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

// revision returns the revision of an image of the set's template.
func revision(image string, number int64) *appsv1.ControllerRevision {
	ds := newSet(withImage(image))
	b := history.Open(ownerOf(ds), nil)
	hash := podset.Hash(&ds.Spec.Template, nil)
	r := b.New("log-"+hash, history.Patch(&ds.Spec.Template), number, hashLabel, hash)
	r.UID, r.ResourceVersion = types.UID("uid-"+image), "15"
	return r
}

func withImage(image string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = image }
}

// newPod returns the pod of a node that runs and is ready since t0, of the image log:1,
// then as edits make it.
func newPod(name, node string, edits ...func(*corev1.Pod)) *corev1.Pod {
	pod := ownerOf(newSet()).Make()
	pod.Name, pod.UID, pod.ResourceVersion = name, types.UID("uid-"+name), "20"
	pod.CreationTimestamp = metav1.NewTime(t0)
	pod.Spec.NodeName = node
	pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](30)
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(t0)}}
	of("log:1")(pod)
	for _, edit := range edits {
		edit(pod)
	}
	return pod
}

func of(image string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Labels[hashLabel] = podset.Hash(&newSet(withImage(image)).Spec.Template, nil)
	}
}

func waiting(pod *corev1.Pod) {
	pod.Spec.Affinity = pin(nil, pod.Spec.NodeName)
	pod.Spec.NodeName, pod.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
}
func unready(pod *corev1.Pod)  { pod.Status.Conditions = nil }
func failed(pod *corev1.Pod)   { pod.Status.Phase, pod.Status.Conditions = corev1.PodFailed, nil }
func complete(pod *corev1.Pod) { pod.Status.Phase, pod.Status.Conditions = corev1.PodSucceeded, nil }
func orphan(pod *corev1.Pod)   { pod.OwnerReferences = nil }
func relabelled(pod *corev1.Pod) {
	pod.Labels["app"] = "other"
}
func deleted(pod *corev1.Pod) {
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(t0.Add(30*time.Second))), ptr.To[int64](30)
}
func younger(pod *corev1.Pod) { pod.CreationTimestamp = metav1.NewTime(t0.Add(time.Minute)) }

// state returns a state of the set; objects are nodes, pods and revisions.
func state(ds *appsv1.DaemonSet, objects ...change.Object) State {
	s := State{Set: ds, PodKind: kind.Pod(), RevisionKind: kind.ControllerRevision()}
	all := map[string]*appsv1.ControllerRevision{}
	for _, obj := range objects {
		switch obj := obj.(type) {
		case *corev1.Node:
			s.Nodes = append(s.Nodes, obj)
		case *corev1.Pod:
			s.Pods = append(s.Pods, obj)
		case *appsv1.ControllerRevision:
			s.Revisions = append(s.Revisions, obj)
			all[obj.Name] = obj
		}
	}
	s.Revision = func(name string) *appsv1.ControllerRevision { return all[name] }
	return s
}

// summary spells the writes of a set: "+" created and on which node, "-" deleted, "-…"
// deletion begun, "~" written otherwise.
func summary(set change.Set) string {
	var out []string
	for _, w := range set.Writes {
		pod, isPod := w.Object.(*corev1.Pod)
		switch {
		case w.Key.Resource == kind.DaemonSets:
		case isPod && w.Op == change.Create:
			out = append(out, "+"+nodeOf(pod))
		case w.Key.Resource == kind.ControllerRevisions && w.Op == change.Create:
			out = append(out, fmt.Sprintf("+revision %d", w.Object.(*appsv1.ControllerRevision).Revision))
		case w.Key.Resource == kind.ControllerRevisions && w.Op == change.Update:
			out = append(out, fmt.Sprintf("~revision %d", w.Object.(*appsv1.ControllerRevision).Revision))
		case w.Key.Resource == kind.ControllerRevisions:
			out = append(out, "-revision")
		case w.Op == change.Delete:
			out = append(out, "-"+w.Key.Name)
		case pod.DeletionTimestamp != nil:
			out = append(out, "-"+w.Key.Name+"…")
		default:
			out = append(out, "~"+w.Key.Name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func reasons(set change.Set) string {
	var out []string
	for _, n := range set.Notes {
		out = append(out, n.Reason)
	}
	return strings.Join(out, " ")
}

// nextSet returns the DaemonSet as the decision leaves it.
func nextSet(t *testing.T, s State, set change.Set) *appsv1.DaemonSet {
	t.Helper()
	for _, w := range set.Writes {
		if w.Key == keyOf(s.Set) {
			if w.Op != change.Update || w.Rev != 10 {
				t.Fatalf("the DaemonSet is written as %+v", w)
			}
			return w.Object.(*appsv1.DaemonSet)
		}
	}
	return s.Set
}
