package statefulset

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

const (
	retain = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	remove = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
)

func (w *world) status(want string) {
	w.t.Helper()
	if got := w.String(); got != want {
		w.t.Errorf("the status is %s, want %s", got, want)
	}
}

// TestOneAfterTheOther: pods come in the order of their ordinals, and go in the other.
func TestOneAfterTheOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSet())
	w.expect("+db-0", "")
	w.status("1 pods, 0 ready, 0 available, 1 current, 1 updated")
	w.ready("db-0")
	w.expect("+db-1", "")
	w.unready("db-0")
	w.ready("db-1")
	w.expect("", "")
	w.ready("db-0")
	w.expect("+db-2", "")
	w.ready("db-2")
	w.expect("", "")
	w.status("3 pods, 3 ready, 3 available, 3 current, 3 updated")

	w.change(replicas(1))
	w.expect("-db-2", "")
	w.gone("db-2")
	w.unready("db-0")
	w.expect("", "")
	w.ready("db-0")
	w.expect("-db-1")
	w.gone("db-1")
	w.expect("", "")
	w.status("1 pods, 1 ready, 1 available, 1 current, 1 updated")
	if want := "SuccessfulDelete: Delete Pod db-1 in StatefulSet db successful"; !slices.Contains(w.events, want) {
		t.Errorf("no event %q in %q", want, w.events)
	}
}

// TestTheWeakestGoes: of pods that are too many, one that does not serve holds up the
// others only if it is not the first of those.
func TestTheWeakestGoes(t *testing.T) {
	t.Parallel()
	w := started(t, newSet())
	w.unready("db-2")
	w.change(replicas(1))
	w.expect("-db-2")
	w.gone("db-2")
	w.expect("-db-1")
}

// TestTooManyHaveEnded: pods that are too many, and have ended, are not waited for.
func TestTooManyHaveEnded(t *testing.T) {
	t.Parallel()
	w := started(t, newSet(replicas(4)))
	for name, phase := range map[string]corev1.PodPhase{"db-1": corev1.PodFailed, "db-2": corev1.PodSucceeded} {
		w.edit(name, func(pod *corev1.Pod) { pod.Status.Phase, pod.Status.Conditions = phase, nil })
	}
	w.unready("db-3")
	w.change(replicas(1))
	w.expect("") // it may come to be ready
	w.ready("db-3")
	w.expect("-db-3")
	w.gone("db-3")
	w.expect("-db-2", "-db-1", "")
	w.status("1 pods, 1 ready, 1 available, 1 current, 1 updated")
}

// TestParallel: nobody waits for another.
func TestParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSet(parallel))
	w.expect("+db-0 +db-1 +db-2", "")
	w.change(replicas(1))
	w.expect("-db-2 -db-1", "") // no node has them: they are gone at once
	w.status("1 pods, 0 ready, 0 available, 1 current, 1 updated")
}

// TestTwoBillion: what a set wants takes no memory and no time before it is there, however much it is.
func TestTwoBillion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSet(replicas(math.MaxInt32)))
	w.expect("+db-0", "")
	w.ready("db-0")
	w.expect("+db-1", "")
	w.ready("db-1")
	w.change(image("db:2"), func(set *appsv1.StatefulSet) { set.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To[int32](1) })
	w.expect("+db-2", "")
	w.change(replicas(1))
	w.expect("-db-2", "-db-1")
	w.gone("db-1")
	w.expect("")

	last := newWorld(t, newSet(parallel, replicas(math.MaxInt32), func(set *appsv1.StatefulSet) {
		set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: math.MaxInt32 - 1}
	}))
	last.expect("+db-2147483646 +db-2147483647", "") // none that would not be known as the set's

	all := newWorld(t, newSet(parallel, replicas(math.MaxInt32)))
	if did := strings.Fields(all.decide()); len(did) != batch || did[batch-1] != fmt.Sprint("+db-", batch-1) {
		t.Fatalf("it did %d things", len(did))
	}
	all.status(fmt.Sprintf("%d pods, 0 ready, 0 available, %[1]d current, %[1]d updated", batch))
	if set := Decide(all.now, all.state()); !set.WakeAt.Equal(all.now) {
		t.Errorf("the others wait until %v", set.WakeAt)
	}
	refused := all.state()
	refused.Refused = errors.New("there is no room")
	if set := Decide(all.now, refused); len(set.Writes) != 0 || len(set.Notes) != 1 || !set.WakeAt.Equal(all.now.Add(retry)) {
		t.Errorf("without room: %+v", set)
	}
	all.change(replicas(0), image("db:2"))
	if did := strings.Fields(all.decide()); len(did) != batch {
		t.Errorf("it did %d things", len(did))
	}
}

// TestOrdinals: where they start, and what happens when that moves.
func TestOrdinals(t *testing.T) {
	t.Parallel()
	w := started(t, newSet(replicas(2), func(set *appsv1.StatefulSet) { set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5} }))
	if w.state().Pod("db-5") == nil || w.state().Pod("db-6") == nil || len(w.pods()) != 2 {
		t.Fatalf("the pods are %v", w.pods())
	}
	w.change(func(set *appsv1.StatefulSet) { set.Spec.Ordinals = nil })
	w.expect("+db-0")
	w.ready("db-0")
	w.expect("+db-1")
	w.ready("db-1")
	w.expect("-db-6")
}

// TestEndedPod: one that has ended, however, is replaced when it is gone.
func TestEndedPod(t *testing.T) {
	t.Parallel()
	for _, phase := range []corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded} {
		w := started(t, newSet())
		w.edit("db-1", func(pod *corev1.Pod) { pod.Status.Phase = phase })
		w.expect("-db-1", "+db-1", "")
	}
}

// TestUpdate: from the highest ordinal down, one that is missing at a time.
func TestUpdate(t *testing.T) {
	t.Parallel()
	w := started(t, newSet())
	first := w.set.Status.UpdateRevision
	w.change(image("db:2"))
	w.expect("-db-2", "")
	w.status("3 pods, 3 ready, 3 available, 2 current, 0 updated")
	w.gone("db-2")
	w.expect("+db-2", "")
	w.ready("db-2")
	w.expect("-db-1", "")
	w.gone("db-1")
	w.expect("+db-1")
	w.ready("db-1")
	w.expect("-db-0")
	w.gone("db-0")
	if w.set.Status.CurrentRevision != first {
		t.Errorf("it is over too early: %+v", w.set.Status)
	}
	w.expect("+db-0")
	w.ready("db-0")
	w.expect("", "")
	w.status("3 pods, 3 ready, 3 available, 3 current, 3 updated")
	if w.set.Status.CurrentRevision == first || w.set.Status.CurrentRevision != w.set.Status.UpdateRevision {
		t.Errorf("it is not over: %+v", w.set.Status)
	}
	w.change(image("db:1"))
	w.expect("-db-2")
	if w.set.Status.UpdateRevision != first {
		t.Errorf("what was before has another revision: %+v", w.set.Status)
	}
}

// TestPartition: below it nothing is updated, and what is lost comes back as it was.
func TestPartition(t *testing.T) {
	t.Parallel()
	w := started(t, newSet(func(set *appsv1.StatefulSet) { set.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To[int32](2) }))
	old := w.set.Status.UpdateRevision
	w.change(image("db:2"))
	w.expect("-db-2")
	w.gone("db-2")
	w.expect("+db-2")
	w.ready("db-2")
	w.expect("", "")
	w.edit("db-0", func(pod *corev1.Pod) { pod.DeletionTimestamp = ptr.To(pod.CreationTimestamp) })
	w.gone("db-0")
	w.expect("+db-0")
	if pod := w.state().Pod("db-0"); revisionOf(pod) != old || pod.Spec.Containers[0].Image != "db:1" {
		t.Errorf("db-0 came back as %s of %s", revisionOf(pod), pod.Spec.Containers[0].Image)
	}
}

// TestMaxUnavailable: how many may be missing.
func TestMaxUnavailable(t *testing.T) {
	t.Parallel()
	missing := func(v string) func(*appsv1.StatefulSet) {
		return func(set *appsv1.StatefulSet) {
			set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.Parse(v))
		}
	}
	for v, want := range map[string]string{"2": "-db-1 -db-2", "70%": "-db-1 -db-2", "10%": "-db-2"} {
		w := started(t, newSet(missing(v)))
		w.change(image("db:2"))
		w.expect(want, "")
	}
	// In a Parallel set what does not serve goes first, and costs nothing.
	w := started(t, newSet(missing("2"), parallel))
	w.unready("db-0")
	w.change(image("db:2"))
	w.expect("-db-0 -db-2", "")
}

// TestOnDelete: an update waits until somebody deletes a pod.
func TestOnDelete(t *testing.T) {
	t.Parallel()
	w := started(t, newSet(func(set *appsv1.StatefulSet) {
		set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
	}))
	w.change(image("db:2"))
	w.expect("", "")
	w.edit("db-1", func(pod *corev1.Pod) { pod.DeletionTimestamp = ptr.To(pod.CreationTimestamp) })
	w.gone("db-1")
	w.expect("+db-1")
	if got := w.state().Pod("db-1").Spec.Containers[0].Image; got != "db:2" {
		t.Errorf("it is of %s", got)
	}
}

// TestMinReady: ready is not available yet.
func TestMinReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSet(func(set *appsv1.StatefulSet) { set.Spec.MinReadySeconds = 10 }))
	w.expect("+db-0")
	w.ready("db-0")
	w.expect("")
	if at := Decide(w.now, w.state()).WakeAt; !at.Equal(t0.Add(10 * time.Second)) {
		t.Errorf("it wakes at %v", at)
	}
	w.now = t0.Add(10 * time.Second)
	w.expect("+db-1")
}

// TestClaims: each ordinal has its own, which outlive its pod.
func TestClaims(t *testing.T) {
	t.Parallel()
	w := started(t, newSet(withClaims, replicas(2)))
	for _, name := range []string{"data-db-0", "data-db-1"} {
		if c := w.state().Claim(name); c == nil || len(c.OwnerReferences) > 0 || c.Labels["app"] != "db" {
			t.Errorf("claim %s is %+v", name, c)
		}
	}
	if v := w.state().Pod("db-1").Spec.Volumes; len(v) != 1 || v[0].PersistentVolumeClaim.ClaimName != "data-db-1" {
		t.Errorf("its volumes are %+v", v)
	}
	if want := "SuccessfulCreate: Create Claim data-db-0 Pod db-0 in StatefulSet db success"; !slices.Contains(w.events, want) {
		t.Errorf("no event %q in %q", want, w.events)
	}
	w.change(replicas(1))
	w.expect("-db-1")
	w.gone("db-1")
	w.change(replicas(2))
	w.expect("+db-1") // with its old claim

	w.edit("db-1", func(pod *corev1.Pod) { pod.DeletionTimestamp = ptr.To(pod.CreationTimestamp) })
	w.gone("db-1")
	claim := w.state().Claim("data-db-1").DeepCopy()
	claim.DeletionTimestamp = ptr.To(claim.CreationTimestamp)
	w.objects[kind.PersistentVolumeClaims.Key("ns", claim.Name)] = claim
	w.expect("")
	if want := "FailedCreate: Create Pod db-1 in StatefulSet db failed error: pvc data-db-1 is being deleted"; !slices.Contains(w.events, want) {
		t.Errorf("no event %q in %q", want, w.events)
	}
}

// TestRetention: whom claims go with.
func TestRetention(t *testing.T) {
	t.Parallel()
	owner := func(w *world, name string) string {
		refs := w.state().Claim(name).OwnerReferences
		if len(refs) != 1 {
			return ""
		}
		return refs[0].Kind
	}
	for _, c := range []struct {
		deleted, scaled appsv1.PersistentVolumeClaimRetentionPolicyType
		kept, condemned string
	}{
		{retain, retain, "", ""}, {remove, retain, "StatefulSet", "StatefulSet"},
		{retain, remove, "", "Pod"}, {remove, remove, "StatefulSet", "Pod"},
	} {
		w := started(t, newSet(retains(c.deleted, c.scaled), replicas(2)))
		w.change(replicas(1))
		w.decide()
		if kept, condemned := owner(w, "data-db-0"), owner(w, "data-db-1"); kept != c.kept || condemned != c.condemned {
			t.Errorf("deleted %s, scaled %s: claims are of %q, and of %q; want %q and %q", c.deleted, c.scaled, kept, condemned, c.kept, c.condemned)
		}
	}
	// The ordinal comes back before its claim has gone.
	w := started(t, newSet(retains(retain, remove), replicas(2)))
	w.change(replicas(1))
	w.decide()
	w.gone("db-1")
	w.change(replicas(2))
	w.expect("", "")
	delete(w.objects, kind.PersistentVolumeClaims.Key("ns", "data-db-1"))
	w.expect("+data-db-1 +db-1")
}

// TestStrangers: pods that only look like the set's.
func TestStrangers(t *testing.T) {
	t.Parallel()
	pod := func(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
		p := ownerOf(newSet()).Make()
		p.Name, p.Namespace, p.Spec.Hostname, p.OwnerReferences = name, "ns", name, nil
		p.Labels[appsv1.StatefulSetPodNameLabel] = name
		for _, edit := range edits {
			edit(p)
		}
		return p
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"of the name, and nobody's":       {pod("db-0"), "~db-0"},
		"of the name, and not its labels": {pod("db-0", func(p *corev1.Pod) { p.Labels = map[string]string{appsv1.StatefulSetPodNameLabel: "db-0"} }), ""},
		"of another name":                 {pod("web-0"), "+db-0"},
		"of a name that is not quite one": {pod("db-00"), "+db-0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newSet())
			w.objects[kind.Pods.Key("ns", c.pod.Name)] = c.pod
			w.expect(c.want)
		})
	}
}

// TestRefused: the API takes no pod of the template.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSet(parallel))
	s := w.state()
	s.Refused = errors.New("no quota")
	set := Decide(t0, s)
	if len(set.Notes) != 1 || set.Notes[0].Message != "Create Pod db-0 in StatefulSet db failed error: no quota" || !set.WakeAt.Equal(t0.Add(retry)) {
		t.Errorf("%+v, wakes at %v", set.Notes, set.WakeAt)
	}
}

// TestDeleted: a set that is being deleted only counts.
func TestDeleted(t *testing.T) {
	t.Parallel()
	w := started(t, newSet())
	w.change(replicas(0), func(set *appsv1.StatefulSet) { set.DeletionTimestamp = ptr.To(set.CreationTimestamp) })
	w.edit("db-2", func(pod *corev1.Pod) { pod.DeletionTimestamp = ptr.To(pod.CreationTimestamp) })
	w.gone("db-2")
	w.expect("", "")
	w.status("2 pods, 2 ready, 2 available, 2 current, 2 updated")
}

// TestHistory: revisions beyond the limit go, unless a pod is of one.
func TestHistory(t *testing.T) {
	t.Parallel()
	w := started(t, newSet(func(set *appsv1.StatefulSet) { set.Spec.RevisionHistoryLimit = ptr.To[int32](1) }))
	for _, name := range []string{"db:2", "db:3", "db:4"} {
		w.change(image(name), parallel)
		for range 20 {
			w.decide()
			for _, pod := range w.pods() {
				if pod.DeletionTimestamp != nil {
					w.gone(pod.Name)
				} else {
					w.ready(pod.Name)
				}
			}
		}
	}
	if n := len(w.state().Revisions); n != 2 {
		t.Errorf("there are %d revisions, want the present one and one more", n)
	}
	w.status("3 pods, 3 ready, 3 available, 3 current, 3 updated")
}
