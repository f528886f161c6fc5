package replicaset

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

// TestDecide decides each case for a ReplicaSet, and for the ReplicationController that
// is the same.
func TestDecide(t *testing.T) {
	t.Parallel()
	three := []*corev1.Pod{newPod("a"), newPod("b"), newPod("c")}
	with := func(pods ...*corev1.Pod) []*corev1.Pod { return append(pods, three...) }
	for _, c := range []struct {
		name   string
		set    *appsv1.ReplicaSet
		pods   []*corev1.Pod
		did    string
		status string
	}{
		{"a new set", newSet(), nil, "+ + +", "3 pods, 3 labeled, 0 ready, 0 available, 0 go"},
		{"all are there", newSet(), three, "", "3 pods, 3 labeled, 3 ready, 3 available, 0 go"},
		{"one is not ready, and one has a label less", newSet(), []*corev1.Pod{newPod("a", unready), newPod("b", bare), newPod("c")}, "", "3 pods, 2 labeled, 2 ready, 2 available, 0 go"},
		{"one goes", newSet(), []*corev1.Pod{newPod("a", leaving), newPod("b"), newPod("c")}, "+", "3 pods, 3 labeled, 2 ready, 2 available, 1 go"},
		{"one has failed", newSet(), with(newPod("z", ended(corev1.PodFailed)))[:3], "+", "3 pods, 3 labeled, 2 ready, 2 available, 0 go"},
		{"one has succeeded, and goes", newSet(), with(newPod("z", ended(corev1.PodSucceeded), leaving)), "", "3 pods, 3 labeled, 3 ready, 3 available, 0 go"},
		{"one is nobody's", newSet(), []*corev1.Pod{newPod("a", orphan), newPod("b"), newPod("c")}, "~a", "3 pods, 3 labeled, 3 ready, 3 available, 0 go"},
		{"one more is nobody's", newSet(), with(newPod("z", orphan, unready)), "-z", "3 pods, 3 labeled, 3 ready, 3 available, 1 go"},
		{"nobody's that goes, or has ended", newSet(), with(newPod("y", orphan, leaving), newPod("z", orphan, ended(corev1.PodFailed))), "", "3 pods, 3 labeled, 3 ready, 3 available, 0 go"},
		{"another's", newSet(), with(newPod("z", others)), "", "3 pods, 3 labeled, 3 ready, 3 available, 0 go"},
		{"one has lost its label", newSet(), []*corev1.Pod{newPod("a", strange), newPod("b"), newPod("c")}, "a~ +", "3 pods, 3 labeled, 2 ready, 2 available, 0 go"},
		{"one has lost its label, and goes", newSet(), []*corev1.Pod{newPod("a", strange, leaving), newPod("b"), newPod("c")}, "+", "3 pods, 3 labeled, 2 ready, 2 available, 0 go"},
		{"one has lost its label, and has ended", newSet(), with(newPod("z", strange, ended(corev1.PodFailed))), "", "3 pods, 3 labeled, 3 ready, 3 available, 0 go"},
		{"fewer", newSet(replicas(1)), []*corev1.Pod{newPod("a"), newPod("b", unready), newPod("c", unbound)}, "-c! -b", "1 pods, 1 labeled, 1 ready, 1 available, 1 go"},
		{"none", newSet(replicas(0)), three, "-a -b -c", "0 pods, 0 labeled, 0 ready, 0 available, 3 go"},
		{"is being deleted", newSet(replicas(1), deleted), with(newPod("y", orphan), newPod("z", strange)), "", "3 pods, 3 labeled, 3 ready, 3 available, 0 go"},
		{"is being deleted, and has none", newSet(deleted), nil, "", "0 pods, 0 labeled, 0 ready, 0 available, 0 go"},
		{"refused before", newSet(failing), three, "", "3 pods, 3 labeled, 3 ready, 3 available, 0 go"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, obj := range []change.Object{c.set, controller(c.set)} {
				s, want := state(obj, c.pods...), c.status
				before := obj.DeepCopyObject()
				if _, isController := obj.(*corev1.ReplicationController); isController {
					want, _, _ = strings.Cut(want, " available")
					want += " available" // it does not tell of those that go
				}
				if did, status := summary(t, s, Decide(t0, s)); did != c.did || status != want {
					t.Errorf("%T: it did %q, and says %q; want %q and %q", obj, did, status, c.did, want)
				}
				if !reflect.DeepEqual(obj, before) {
					t.Errorf("%T: what was read was changed", obj)
				}
			}
		})
	}
}

// TestWhoGoes: the order is podset's; what a set adds is the pods of its siblings, and
// that nobody is asked for them when all go.
func TestWhoGoes(t *testing.T) {
	t.Parallel()
	pods := []*corev1.Pod{newPod("crowded", on("a")), newPod("alone", on("b")), newPod("cheap", on("b"), costs("-1"))}
	siblings := append(slices.Clone(pods), newPod("s1", on("a")), newPod("s2", on("a")))
	s := state(newSet(replicas(1)), pods...)
	s.Related = func() []*corev1.Pod { return siblings }
	if did, _ := summary(t, s, Decide(t0, s)); did != "-cheap -crowded" {
		t.Errorf("it did %q", did)
	}
	s = state(newSet(replicas(0)), pods...)
	s.Related = func() []*corev1.Pod { t.Error("siblings are asked for"); return nil }
	Decide(t0, s)
}

// TestMinReadySeconds: a pod is available when it has been ready for so long, of which no
// write tells.
func TestMinReadySeconds(t *testing.T) {
	t.Parallel()
	set := newSet(func(set *appsv1.ReplicaSet) { set.Spec.MinReadySeconds = 10 })
	s := state(set, newPod("a", readySince(10)), newPod("b", readySince(9)), newPod("c", readySince(3)))
	decided := Decide(t0, s)
	if _, status := summary(t, s, decided); status != "3 pods, 3 labeled, 3 ready, 1 available, 0 go" || !decided.WakeAt.Equal(t0.Add(time.Second)) {
		t.Errorf("%s; wakes at %v", status, decided.WakeAt)
	}
}

// TestSettled: what has been decided is not decided again.
func TestSettled(t *testing.T) {
	t.Parallel()
	pods := []*corev1.Pod{newPod("a"), newPod("b", leaving), newPod("c", unready), newPod("d")}
	for _, obj := range []change.Object{newSet(), controller(newSet())} {
		first := Decide(t0, state(obj, pods...))
		next := first.Writes[len(first.Writes)-1].Object
		next.SetResourceVersion("10")
		if again := Decide(t0, state(next, pods...)); len(first.Writes) != 1 || !again.Empty() || !again.WakeAt.IsZero() {
			t.Errorf("%T: %+v, then %+v", obj, first, again)
		}
	}
}

// TestEvents: what is said, and of what.
func TestEvents(t *testing.T) {
	t.Parallel()
	for _, obj := range []change.Object{newSet(), controller(newSet())} {
		f, _ := read(obj)
		set := Decide(t0, state(obj, newPod("a"), newPod("b"), newPod("c", unready), newPod("d", bare, unbound)))
		set.Notes = append(set.Notes, Decide(t0, state(obj, newPod("a"), newPod("b"))).Notes...)
		var said []string
		for _, n := range set.Notes {
			if n.NameOf != nil {
				n.Message += "NAME"
			}
			said = append(said, fmt.Sprintf("%s %s %s %s %s: %s", n.Regarding.APIVersion, n.Regarding.Kind, n.Component, n.Type, n.Reason, n.Message))
		}
		who := f.gvk.GroupVersion().String() + " " + f.gvk.Kind + " " + f.component
		if want := []string{who + " Normal SuccessfulDelete: Deleted pod: d", who + " Normal SuccessfulCreate: Created pod: NAME"}; !slices.Equal(said, want) {
			t.Errorf("it says %q, want %q", said, want)
		}
	}
}

// TestRefused: the API takes none of the pods that are missing, or not all.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		set         *appsv1.ReplicaSet
		room        int
		did, status string
		notes       int
	}{
		{"none", newSet(), 0, "", "0 pods, 0 labeled, 0 ready, 0 available, 0 go; ReplicaFailure True FailedCreate: no quota", 1},
		{"one", newSet(), 1, "+", "1 pods, 1 labeled, 0 ready, 0 available, 0 go; ReplicaFailure True FailedCreate: no quota", 2},
		{"one, again", newSet(failing), 1, "+", "1 pods, 1 labeled, 0 ready, 0 available, 0 go; ReplicaFailure True FailedCreate: before", 2},
		{"there is room by now", newSet(failing), 3, "+ + +", "3 pods, 3 labeled, 0 ready, 0 available, 0 go", 3},
	} {
		s := state(c.set)
		s.Refused, s.Room = errors.New("no quota"), c.room
		set := Decide(t0, s)
		did, status := summary(t, s, set)
		if did != c.did || status != c.status || len(set.Notes) != c.notes {
			t.Errorf("%s: it did %q, says %q and %d notes", c.name, did, status, len(set.Notes))
		}
		if last := set.Notes[len(set.Notes)-1]; c.room < 3 && (last.Reason != "FailedCreate" || last.Message != "Error creating: no quota" || !set.WakeAt.Equal(t0.Add(refusedRetry))) {
			t.Errorf("%s: %+v, wakes at %v", c.name, last, set.WakeAt)
		}
	}
}

// TestBatch: a set of any size is done in parts.
func TestBatch(t *testing.T) {
	t.Parallel()
	set := Decide(t0, state(newSet(replicas(1200))))
	if len(set.Writes) != batch+1 || !set.WakeAt.Equal(t0) {
		t.Errorf("%d writes, wakes at %v", len(set.Writes), set.WakeAt)
	}
	var many []*corev1.Pod
	for i := range 1200 {
		many = append(many, newPod(fmt.Sprintf("p%d", i)))
	}
	set = Decide(t0, state(newSet(replicas(3)), many...))
	if len(set.Writes) != batch+1 || !set.WakeAt.Equal(t0) {
		t.Errorf("%d writes, wakes at %v", len(set.Writes), set.WakeAt)
	}
}

// TestConditionsStay: those of others are left alone.
func TestConditionsStay(t *testing.T) {
	t.Parallel()
	set := newSet(failing, func(set *appsv1.ReplicaSet) {
		set.Status.Conditions = append(set.Status.Conditions, appsv1.ReplicaSetCondition{Type: "Theirs", Status: "True", LastTransitionTime: metav1.NewTime(t0)})
	})
	s := state(set, newPod("a"), newPod("b"), newPod("c"))
	if _, status := summary(t, s, Decide(t0, s)); status != "3 pods, 3 labeled, 3 ready, 3 available, 0 go; Theirs True : " {
		t.Errorf("it says %q", status)
	}
}
