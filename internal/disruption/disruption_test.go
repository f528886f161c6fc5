package disruption

import (
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world has the objects that control pods.
type world map[change.Key]change.Object

func (w world) Get(key change.Key) (change.Object, bool) { obj, ok := w[key]; return obj, ok }

func (w world) List(change.Resource, string) iter.Seq[change.Object] { return kind.None{}.List("", "") }

func meta(name string, owner *metav1.OwnerReference) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"}
	if owner != nil {
		m.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return m
}

func owned(version, kind, name string) *metav1.OwnerReference {
	return &metav1.OwnerReference{APIVersion: version, Kind: kind, Name: name, UID: types.UID("uid-" + name), Controller: ptr.To(true)}
}

// pods returns ready pods of an owner, and others that are not.
func pods(owner *metav1.OwnerReference, ready, unready int) (all []*corev1.Pod) {
	for i := range ready + unready {
		p := &corev1.Pod{ObjectMeta: meta(fmt.Sprint("p", i), owner)}
		if i < ready {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		all = append(all, p)
	}
	return all
}

func budget(minAvailable, maxUnavailable string) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: meta("b", nil)}
	b.Generation = 3
	if minAvailable != "" {
		b.Spec.MinAvailable = ptr.To(intstr.Parse(minAvailable))
	}
	if maxUnavailable != "" {
		b.Spec.MaxUnavailable = ptr.To(intstr.Parse(maxUnavailable))
	}
	return b
}

func TestDecide(t *testing.T) {
	t.Parallel()
	rs := &appsv1.ReplicaSet{ObjectMeta: meta("rs", nil), Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](10)}}
	of := &appsv1.ReplicaSet{ObjectMeta: meta("of", owned("apps/v1", "Deployment", "d")), Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](1)}}
	d := &appsv1.Deployment{ObjectMeta: meta("d", nil), Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](4)}}
	others := world{
		kind.ReplicaSets.Key("default", "rs"): rs, kind.ReplicaSets.Key("default", "of"): of, kind.Deployments.Key("default", "d"): d,
		kind.StatefulSets.Key("default", "s"):           &appsv1.StatefulSet{ObjectMeta: meta("s", nil), Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](3)}},
		kind.ReplicationControllers.Key("default", "c"): &corev1.ReplicationController{ObjectMeta: meta("c", nil)},
	}
	set, dep := owned("apps/v1", "ReplicaSet", "rs"), owned("apps/v1", "ReplicaSet", "of")
	for _, tc := range []struct {
		name   string
		budget *policyv1.PodDisruptionBudget
		pods   []*corev1.Pod
		want   string // allowed, healthy/desired of expected, condition
		events string
	}{
		{"nobody there", budget("1", ""), nil, "0, 0/1 of 0, False InsufficientPods", "NoPods"},
		{"a number", budget("2", ""), pods(nil, 3, 1), "1, 3/2 of 4, True SufficientPods", ""},
		{"too few", budget("5", ""), pods(set, 3, 0), "0, 3/5 of 3, False InsufficientPods", ""},
		{"a part of ten", budget("55%", ""), pods(set, 8, 0), "2, 8/6 of 10, True SufficientPods", ""},
		{"some of ten may be missing", budget("", "3"), pods(set, 9, 0), "2, 9/7 of 10, True SufficientPods", ""},
		{"a part may be missing, rounded up", budget("", "11%"), pods(set, 10, 0), "2, 10/8 of 10, True SufficientPods", ""},
		{"a Deployment's", budget("", "1"), pods(dep, 4, 0), "1, 4/3 of 4, True SufficientPods", ""},
		{"a StatefulSet's", budget("", "1"), pods(owned("apps/v1", "StatefulSet", "s"), 3, 0), "1, 3/2 of 3, True SufficientPods", ""},
		{"a ReplicationController's", budget("", "1"), pods(owned("v1", "ReplicationController", "c"), 1, 0), "1, 1/0 of 1, True SufficientPods", ""},
		{"of two sets", budget("", "50%"), append(pods(set, 6, 0), pods(dep, 4, 0)...), "3, 10/7 of 14, True SufficientPods", ""},
		{"nobody's", budget("50%", ""), pods(nil, 2, 0), "0, 2/0 of 0, False InsufficientPods", "UnmanagedPods"},
		{"a Job's", budget("50%", ""), pods(owned("batch/v1", "Job", "j"), 2, 0), "0, 0/0 of 0, False SyncFailed", "CalculateExpectedPodCountFailed"},
		{"of a set that is gone", budget("", "1"), pods(owned("apps/v1", "ReplicaSet", "x"), 2, 0), "0, 0/0 of 0, False SyncFailed", "CalculateExpectedPodCountFailed"},
		{"neither", budget("", ""), pods(set, 2, 0), "0, 2/0 of 0, False InsufficientPods", ""},
	} {
		got := Decide(t0, State{Budget: tc.budget, Pods: tc.pods, Others: others})
		if len(got.Writes) != 1 {
			t.Errorf("%s: %d writes", tc.name, len(got.Writes))
			continue
		}
		next := got.Writes[0].Object.(*policyv1.PodDisruptionBudget)
		if s := said(next); s != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, s, tc.want)
		}
		var events []string
		for _, n := range got.Notes {
			events = append(events, n.Reason)
		}
		if strings.Join(events, ",") != tc.events {
			t.Errorf("%s: events %v", tc.name, events)
		}
		if again := Decide(t0.Add(time.Second), State{Budget: next, Pods: tc.pods, Others: others}); len(again.Writes) > 0 {
			t.Errorf("%s: written again", tc.name)
		}
	}
}

func said(b *policyv1.PodDisruptionBudget) string {
	s := b.Status
	text := fmt.Sprintf("%d, %d/%d of %d", s.DisruptionsAllowed, s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods)
	for _, c := range s.Conditions {
		text += fmt.Sprintf(", %s %s", c.Status, c.Reason)
	}
	return text
}

// A pod that was evicted does not count, as long as it can be taken to be going.
func TestDisruptedPods(t *testing.T) {
	t.Parallel()
	b := budget("1", "")
	all := pods(nil, 3, 0)
	b.Status.DisruptedPods = map[string]metav1.Time{"p0": metav1.NewTime(t0), "gone": metav1.NewTime(t0)}
	set := Decide(t0.Add(time.Minute), State{Budget: b, Pods: all})
	next := set.Writes[0].Object.(*policyv1.PodDisruptionBudget)
	if next.Status.DisruptionsAllowed != 1 || len(next.Status.DisruptedPods) != 1 || !set.WakeAt.Equal(t0.Add(2*time.Minute)) {
		t.Errorf("%+v, wakes at %s", next.Status, set.WakeAt)
	}
	set = Decide(t0.Add(2*time.Minute), State{Budget: next, Pods: all})
	last := set.Writes[0].Object.(*policyv1.PodDisruptionBudget)
	if last.Status.DisruptionsAllowed != 2 || len(last.Status.DisruptedPods) != 0 || len(set.Notes) != 1 || set.Notes[0].Reason != "NotDeleted" {
		t.Errorf("%+v, %+v", last.Status, set.Notes)
	}
	all[0].DeletionTimestamp = ptr.To(metav1.NewTime(t0))
	set = Decide(t0.Add(time.Minute), State{Budget: next, Pods: all})
	if s := set.Writes[0].Object.(*policyv1.PodDisruptionBudget).Status; s.DisruptionsAllowed != 1 || len(s.DisruptedPods) != 0 {
		t.Errorf("while it goes: %+v", s)
	}
}
