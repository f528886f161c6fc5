package deployment

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

const (
	minimumAvailable = "Available True MinimumReplicasAvailable"
	lessAvailable    = "Available False MinimumReplicasUnavailable"
)

// TestBegin: a new Deployment gets a ReplicaSet under Kubernetes' name and with its labels.
func TestBegin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newDeployment(annotated("who", "me"), annotated(corev1.LastAppliedConfigAnnotation, "{}")))
	w.expect(nil, "+1:4")
	set := w.set("1")
	if want := map[string]string{"who": "me", kind.DeploymentRevision: "1", kind.DeploymentDesiredReplicas: "4", kind.DeploymentMaxReplicas: "5"}; !reflect.DeepEqual(set.Annotations, want) {
		t.Errorf("the set has the annotations %v", set.Annotations)
	}
	// The hash is Kubernetes': podset's test and kubediff compare it.
	if hash := set.Labels[hashLabel]; len(hash) < 5 || !metav1.IsControlledBy(set, w.d) || set.Labels["app"] != "web" || !reflect.DeepEqual(set.Labels, set.Spec.Template.Labels) {
		t.Errorf("the set is %+v", set.ObjectMeta)
	}
	if got := w.status(); got != "4 pods, 4 updated, 4 ready, 4 available, 0 missing, generation 1" {
		t.Error(got)
	}
	if got := w.said(); got != minimumAvailable+", Progressing True NewReplicaSetAvailable" {
		t.Error(got)
	}
	if c := condition(w.d.Status, appsv1.DeploymentProgressing); c.Message != fmt.Sprintf("ReplicaSet %q has successfully progressed.", set.Name) {
		t.Error(c.Message)
	}
	if want := []string{"ScalingReplicaSet: Scaled up replica set " + set.Name + " from 0 to 4"}; !slices.Equal(w.events, want) {
		t.Errorf("events %q", w.events)
	}
	if w.d.Labels[hashLabel] != "" || w.d.Spec.Template.Labels[hashLabel] != "" || w.d.Spec.Selector.MatchLabels[hashLabel] != "" || !w.wakeAt.IsZero() {
		t.Errorf("the Deployment was changed: %+v; it wakes at %v", w.d, w.wakeAt)
	}
}

// TestRoll: the steps of rollouts. Those of Kubernetes' controller are the same.
func TestRoll(t *testing.T) {
	t.Parallel()
	none := map[string]int32{"2": 0}
	for _, c := range []struct {
		name      string
		edits     []func(*appsv1.Deployment)
		available map[string]int32
		want      []string
	}{
		{"a quarter more, a quarter less", nil, nil, []string{"+2:1 1:4>3", "2:1>2", "1:3>1", "2:2>4", "1:1>0"}},
		{"one more, none less", []func(*appsv1.Deployment){replicas(2), rolling("1", "0")}, nil, []string{"+2:1", "1:2>1", "2:1>2", "1:1>0"}},
		{"none more, one less", []func(*appsv1.Deployment){replicas(2), rolling("0", "1")}, nil, []string{"+2:0 1:2>1", "2:0>1", "1:1>0", "2:1>2"}},
		{"all at once", []func(*appsv1.Deployment){rolling("100%", "0")}, nil, []string{"+2:4", "1:4>0"}},
		{"percentages that are none", []func(*appsv1.Deployment){replicas(1), rolling("0", "1%")}, nil, []string{"+2:0 1:1>0", "2:0>1"}},
		{"new pods do not work", nil, none, []string{"+2:1 1:4>3", "2:1>2"}},
		{"new pods do not work, none may be missing", []func(*appsv1.Deployment){rolling("1", "0")}, none, []string{"+2:1"}},
		{"old pods do not work", []func(*appsv1.Deployment){rolling("1", "0")}, map[string]int32{"1": 1}, []string{"+2:1", "1:4>3", "2:1>2", "1:3>2", "2:2>3", "1:2>1", "2:3>4", "1:1>0"}},
		{"no pods", []func(*appsv1.Deployment){replicas(0)}, nil, []string{"+2:0"}},
		{"as many more as can be written", []func(*appsv1.Deployment){rolling("2147483647", "0")}, nil, []string{"+2:4", "1:4>0"}},
		{"a share that can hardly be written", []func(*appsv1.Deployment){rolling("2147483647%", "0")}, nil, []string{"+2:4", "1:4>0"}},
		{"as many less as can be written", []func(*appsv1.Deployment){rolling("0", "2147483647%")}, nil, []string{"+2:0 1:4>0", "2:0>4"}},
		{"as many pods as can be counted", []func(*appsv1.Deployment){replicas(math.MaxInt32), rolling("0", "100%")}, nil,
			[]string{"+2:0 1:2147483647>0", "2:0>2147483647"}},
		{"and a quarter more", []func(*appsv1.Deployment){replicas(2_000_000_000), rolling("25%", "100%")}, nil,
			[]string{"+2:147483647 1:2000000000>0", "2:147483647>2000000000"}},
		{"none of the old beside the new", []func(*appsv1.Deployment){recreates}, nil, []string{"1:4>0", "+2:4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := rolled(t, newDeployment(c.edits...))
			if w.d.Status.AvailableReplicas > 0 && c.available["1"] > 0 {
				w.follow(c.available)
			}
			w.change(image("2"))
			w.expect(c.available, c.want...)
		})
	}
}

// TestRevisions: what an older template is brought back under, and what is kept.
func TestRevisions(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment(), "2", "3")
	if got := w.revisions(); got != "1 is 1, 2 is 2, 3 is 3; now 3" {
		t.Error(got)
	}
	w.change(image("1"))
	w.run(nil)
	w.change(image("2"))
	w.run(nil)
	w.change(image("1"))
	w.run(nil)
	if got := w.revisions(); got != "1 is 6 after 1,4, 2 is 5 after 2, 3 is 3; now 6" {
		t.Error(got)
	}
	w.change(func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = ptr.To[int32](1) })
	w.expect(nil, "-3")
	w.change(func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = ptr.To[int32](0) })
	w.expect(nil, "-2")
	w.change(image("5"))
	if got := w.run(nil); got[len(got)-1] != "-1" || len(w.sets) != 1 {
		t.Errorf("%q, and %d sets are kept", got, len(w.sets))
	}
}

// TestHistoryIsBounded: so many earlier revisions are kept as fit.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ history, want string }{
		{strings.Repeat("1234,", 399) + "12", strings.Repeat("1234,", 399) + "12,1"},     // 1997 and 2
		{strings.Repeat("1234,", 399) + "1234", strings.Repeat("1234,", 398) + "1234,1"}, // 1999 and 2
		{strings.Repeat("9", historyLimit), "1"},
	} {
		w := rolled(t, newDeployment(), "2")
		set := w.set("1").DeepCopy()
		set.Annotations[kind.DeploymentRevisionHistory] = c.history
		w.sets[set.Name] = set
		w.change(image("1"))
		w.run(nil)
		if got := w.set("1").Annotations[kind.DeploymentRevisionHistory]; got != c.want || len(got) > historyLimit {
			t.Errorf("%d characters: %s", len(got), got)
		}
	}
}

// TestScale: a Deployment in the middle of a rollout is scaled in proportion.
func TestScale(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		to   int32
		want string
	}{
		{"up", 20, "1:8>14 2:5>9"},
		{"down", 5, "1:8>5 2:5>3"},
		{"to none", 0, "1:8>0 2:5>0"},
		{"by one", 11, "1:8>9 2:5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := rolled(t, newDeployment(replicas(10), rolling("3", "2")))
			w.change(image("2"))
			w.expect(map[string]int32{"2": 0}, "+2:3 1:10>8", "2:3>5")
			w.change(replicas(c.to))
			if got := w.decide(); got != c.want {
				t.Errorf("it did %q, want %q", got, c.want)
			}
		})
	}
	t.Run("without a rollout", func(t *testing.T) {
		t.Parallel()
		w := rolled(t, newDeployment())
		w.change(replicas(7))
		w.expect(nil, "1:4>7")
		w.change(replicas(0))
		w.expect(nil, "1:7>0")
		w.change(replicas(2))
		w.expect(nil, "1:0>2")
		if a := w.set("1").Annotations; a[kind.DeploymentDesiredReplicas] != "2" || a[kind.DeploymentMaxReplicas] != "3" {
			t.Errorf("the set says %v", a)
		}
		if want := "ScalingReplicaSet: Scaled down replica set " + w.set("1").Name + " from 7 to 0"; !slices.Contains(w.events, want) {
			t.Errorf("events %q lack %q", w.events, want)
		}
	})
}

// TestPause: while it is paused nothing is rolled out, but it is scaled, and cleaned up;
// the time does not count.
func TestPause(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment(), "2", "3")
	w.change(paused(true), image("4"), func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = ptr.To[int32](2) })
	w.expect(nil, "-1")
	if got := w.said(); got != minimumAvailable+", Progressing Unknown DeploymentPaused" {
		t.Error(got)
	}
	w.change(replicas(6))
	w.expect(nil, "3:4>6")
	w.now = w.now.Add(time.Hour)
	w.change(paused(false))
	w.decide()
	if c := condition(w.d.Status, appsv1.DeploymentProgressing); c.Reason != newReplicaSetCreated || !c.LastUpdateTime.Equal(ptr.To(metav1.NewTime(w.now))) {
		t.Errorf("resumed: %+v", c)
	}
	w.run(nil)
	if got := w.said(); got != minimumAvailable+", Progressing True NewReplicaSetAvailable" {
		t.Error(got)
	}
}

// TestDeadline: a rollout that does not get on is called so, and goes on all the same.
func TestDeadline(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment(rolling("1", "0")))
	w.now = w.now.Add(time.Hour)
	w.change(image("2"))
	w.expect(map[string]int32{"2": 0}, "+2:1")
	due := w.now.Add(600 * time.Second)
	if !w.wakeAt.Equal(due) {
		t.Fatalf("it wakes at %v, want %v", w.wakeAt, due)
	}
	w.now = due.Add(-time.Second)
	w.expect(map[string]int32{"2": 0})
	if got := w.said(); got != minimumAvailable+", Progressing True ReplicaSetUpdated" {
		t.Error(got)
	}
	w.now = due
	w.expect(map[string]int32{"2": 0})
	if got := w.said(); got != minimumAvailable+", Progressing False ProgressDeadlineExceeded" || !w.wakeAt.IsZero() {
		t.Errorf("%s; it wakes at %v", got, w.wakeAt)
	}
	if c := condition(w.d.Status, appsv1.DeploymentProgressing); c.Message != fmt.Sprintf("ReplicaSet %q has timed out progressing.", w.set("2").Name) {
		t.Error(c.Message)
	}
	// A pause does not make that unsaid.
	w.change(paused(true))
	w.run(map[string]int32{"2": 0})
	if got := w.said(); !strings.Contains(got, "ProgressDeadlineExceeded") {
		t.Error(got)
	}
	w.change(paused(false))
	w.run(nil)
	if got := w.said(); got != minimumAvailable+", Progressing True NewReplicaSetAvailable" {
		t.Error(got)
	}
	// Without a deadline nothing is said.
	w.change(func(d *appsv1.Deployment) { d.Spec.ProgressDeadlineSeconds = nil })
	w.run(nil)
	if got := w.said(); got != minimumAvailable {
		t.Error(got)
	}
}

// TestCrashAfterRollout: a pod that fails long after a rollout has nothing to do with it.
func TestCrashAfterRollout(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment())
	w.now = w.now.Add(time.Hour)
	w.follow(map[string]int32{"1": 2})
	w.expect(map[string]int32{"1": 2})
	if got := w.said(); got != "Progressing True NewReplicaSetAvailable, "+lessAvailable || !w.wakeAt.IsZero() {
		t.Errorf("%s; it wakes at %v", got, w.wakeAt)
	}
	if got := w.status(); got != "4 pods, 4 updated, 2 ready, 2 available, 2 missing, generation 1" {
		t.Error(got)
	}
}

// TestRefused: the API takes no ReplicaSet, or no pods of one.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newDeployment())
	w.refused = errors.New("no quota")
	if did := w.decide(); did != "" || w.said() != "Progressing False ReplicaSetCreateError" || !w.wakeAt.Equal(t0.Add(refusedRetry)) {
		t.Errorf("it did %q, says %s, wakes at %v", did, w.said(), w.wakeAt)
	}
	if len(w.events) != 1 || !strings.HasPrefix(w.events[0], `ReplicaSetCreateError: Failed to create new replica set "web-`) || !strings.HasSuffix(w.events[0], `": no quota`) {
		t.Errorf("events %q", w.events)
	}
	w.refused = nil
	w.expect(nil, "+1:4")

	set := w.set("1").DeepCopy()
	set.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: "True", Reason: "FailedCreate", Message: "no room"}}
	w.sets[set.Name] = set
	w.run(map[string]int32{"1": 3})
	if c := condition(w.d.Status, appsv1.DeploymentReplicaFailure); c == nil || c.Status != "True" || c.Reason != "FailedCreate" || c.Message != "no room" {
		t.Errorf("says %s", w.said())
	}
	set = w.set("1").DeepCopy()
	set.Status.Conditions = nil
	w.sets[set.Name] = set
	w.run(nil)
	if condition(w.d.Status, appsv1.DeploymentReplicaFailure) != nil {
		t.Errorf("says %s", w.said())
	}
}

// TestCollision: when a stranger has the name of the new ReplicaSet, it gets another.
func TestCollision(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newDeployment())
	w.decide()
	stranger := w.set("1").DeepCopy()
	stranger.OwnerReferences[0].UID = "another"
	w = newWorld(t, newDeployment())
	w.sets[stranger.Name] = stranger
	if did := w.decide(); did != "" || *w.d.Status.CollisionCount != 1 {
		t.Fatalf("it did %q", did)
	}
	w.expect(nil, "+1:4")
	if len(w.sets) != 2 || *w.d.Status.CollisionCount != 1 {
		t.Errorf("there are %d sets, after %d collisions", len(w.sets), *w.d.Status.CollisionCount)
	}
}

// TestStrangers: ReplicaSets that only look like its own, and those that do not any more.
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment(), "2")
	set := w.set("1").DeepCopy()
	set.OwnerReferences = nil
	w.sets[set.Name] = set
	w.expect(nil, "1:0")
	if !metav1.IsControlledBy(w.set("1"), w.d) {
		t.Error("it is not adopted")
	}
	set = w.set("1").DeepCopy()
	set.Labels = map[string]string{"app": "else"}
	w.sets[set.Name] = set
	w.expect(nil, "1:0")
	if len(w.set("1").OwnerReferences) != 0 {
		t.Error("it is not let go")
	}
	// The present template is somebody's already: it is taken as it is.
	orphan := w.set("2").DeepCopy()
	orphan.OwnerReferences = nil
	fresh := newWorld(t, newDeployment(image("2"), func(d *appsv1.Deployment) { d.UID = "next" }))
	fresh.sets[orphan.Name] = orphan
	fresh.expect(nil, "2:4")
	if got := fresh.said(); got != minimumAvailable+", Progressing True NewReplicaSetAvailable" {
		t.Error(got)
	}
}

// TestRecreateWaits: until the last pod of the old template has ended, though its set does
// not tell of it any more.
func TestRecreateWaits(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment(recreates))
	old := w.set("1").UID
	w.pods[old] = []*corev1.Pod{{Status: corev1.PodStatus{Phase: corev1.PodRunning}}}
	w.change(image("2"))
	w.expect(nil, "1:4>0")
	if got := w.status(); got != "0 pods, 0 updated, 0 ready, 0 available, 0 missing, generation 2" {
		t.Error(got)
	}
	w.pods[old] = []*corev1.Pod{{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}}
	w.expect(nil, "+2:4")
}

// TestRecreateFromTheMiddle: of a rolling update that becomes a recreation, and is scaled.
func TestRecreateFromTheMiddle(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment())
	w.change(image("2"))
	w.expect(map[string]int32{"2": 0}, "+2:1 1:4>3", "2:1>2")
	w.change(recreates, replicas(1))
	w.expect(nil, "1:3>0", "2:2>1")
}

// TestStale: a set that has not followed its last change yet is not judged by what it says.
func TestStale(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment())
	w.change(image("2"))
	if did := w.decide(); did != "+2:1 1:4>3" {
		t.Fatalf("it did %q", did)
	}
	for range 3 { // the first set still says that it has four, as nobody let it follow
		if did := w.decide(); did != "" {
			t.Fatalf("it did %q", did)
		}
	}
	w.expect(nil, "2:1>2", "1:3>1", "2:2>4", "1:1>0")

	// One that is being deleted does not follow: it is not waited for.
	w.change(image("3"))
	w.decide()
	leaving := w.set("2").DeepCopy()
	leaving.DeletionTimestamp = ptr.To(metav1.NewTime(w.now))
	w.sets[leaving.Name] = leaving
	if did := w.decide(); did != "3:1>2" {
		t.Fatalf("it did %q", did)
	}
}

// TestRollback: an older client asks for a revision by an annotation.
func TestRollback(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, revision, image, event string }{
		{"to one", "1", "web:1", `DeploymentRollback: Rolled back deployment "web" to revision 1`},
		{"to the last", "0", "web:2", `DeploymentRollback: Rolled back deployment "web" to revision 2`},
		{"to the present", "3", "web:3", `DeploymentRollbackTemplateUnchanged: The rollback revision contains the same template as current deployment "web"`},
		{"to none", "9", "web:3", "DeploymentRollbackRevisionNotFound: Unable to find the revision to rollback to."},
		{"to nonsense", "x", "web:3", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := rolled(t, newDeployment(annotated("cause", "first")))
			w.change(image("2"), annotated("cause", "second"))
			w.run(nil)
			w.change(image("3"), annotated("cause", "third"))
			w.run(nil)
			w.events = nil
			generation := w.d.Generation
			w.change(annotated(appsv1.DeprecatedRollbackTo, c.revision))
			w.decide()
			if got := strings.Join(w.events, "; "); got != c.event {
				t.Errorf("events %q", got)
			}
			if _, left := w.d.Annotations[appsv1.DeprecatedRollbackTo]; left != (c.event == "") {
				t.Errorf("annotations %v", w.d.Annotations)
			}
			want := map[string]string{"web:1": "first", "web:2": "second", "web:3": "third"}[c.image]
			if got := w.d.Spec.Template.Spec.Containers[0].Image; got != c.image || w.d.Annotations["cause"] != want || w.d.Spec.Template.Labels[hashLabel] != "" {
				t.Errorf("it has %s, because of %s", got, w.d.Annotations["cause"])
			}
			if changed := w.d.Generation > generation+1; changed != (c.image != "web:3") {
				t.Errorf("generation %d after %d", w.d.Generation, generation)
			}
		})
	}
	w := rolled(t, newDeployment())
	w.change(annotated(appsv1.DeprecatedRollbackTo, "0"))
	if w.decide(); !slices.Equal(w.events, []string{"DeploymentRollbackRevisionNotFound: Unable to find last revision."}) {
		t.Errorf("events %q", w.events)
	}
}

// TestDeleted: a Deployment that is being deleted only counts.
func TestDeleted(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment())
	w.change(image("2"), replicas(1), func(d *appsv1.Deployment) { d.DeletionTimestamp = ptr.To(metav1.NewTime(t0)) })
	w.expect(nil)
	if got := w.status(); got != "4 pods, 0 updated, 4 ready, 4 available, 0 missing, generation 2" {
		t.Error(got)
	}
}

// TestFollows: what the new ReplicaSet has from the Deployment is kept up to date.
func TestFollows(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment())
	w.change(annotated("who", "you"), func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 7 })
	w.expect(nil, "1:4")
	if set := w.set("1"); set.Spec.MinReadySeconds != 7 || set.Annotations["who"] != "you" || set.Generation != 2 {
		t.Errorf("the set is %+v", set)
	}
}

// TestNothingIsChangedInPlace: the objects of a View are never changed.
func TestNothingIsChangedInPlace(t *testing.T) {
	t.Parallel()
	w := rolled(t, newDeployment(annotated("a", "b")), "2")
	w.change(image("3"), paused(true), replicas(9))
	before := w.state()
	d, sets := before.Deployment.DeepCopy(), make(map[types.UID]*appsv1.ReplicaSet)
	for _, s := range before.Sets {
		sets[s.UID] = s.DeepCopy()
	}
	for _, is := range []bool{true, false} {
		before.Deployment.Spec.Paused, d.Spec.Paused = is, is
		Decide(w.now, before)
		if !reflect.DeepEqual(before.Deployment, d) {
			t.Error("the Deployment was changed")
		}
		for _, s := range before.Sets {
			if !reflect.DeepEqual(s, sets[s.UID]) {
				t.Errorf("the set %s was changed", s.Name)
			}
		}
	}
}
