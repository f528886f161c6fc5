package sweep

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var kinds = kind.Builtin()

func item(obj change.Object) Item {
	resource := kind.Pods
	switch obj.(type) {
	case *batchv1.Job:
		resource = kind.Jobs
	case *corev1.ConfigMap:
		resource = kind.ConfigMaps
	case *corev1.Namespace:
		resource = kind.Namespaces
	}
	if obj.GetResourceVersion() == "" {
		obj.SetResourceVersion("7")
	}
	return Item{kinds.ByResource(resource), obj}
}

func each(objs ...change.Object) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for _, obj := range objs {
			if !yield(item(obj)) {
				return
			}
		}
	}
}

// unread yields the keys of objects that nobody here can read.
func unread(keys ...change.Key) iter.Seq[change.Key] { return slices.Values(keys) }

// A namespace waits for what only a newer program can remove, and says so.
func TestNamespaceWithUnreadObjects(t *testing.T) {
	t.Parallel()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "old", DeletionTimestamp: &metav1.Time{Time: now}},
		Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
	fleet := change.Resource("fleets.sampan.dev").Key("old", "f")
	set := Namespace(now, item(ns), each(), unread(fleet), Others{})
	if got := tell(set); !strings.Contains(got, "update namespaces/old") {
		t.Fatalf("got %s", got)
	}
	next := set.Writes[0].Object.(*corev1.Namespace)
	if len(next.Spec.Finalizers) != 1 || next.Status.Conditions[3].Message != "Some resources are remaining: fleets.sampan.dev has 1 resource instances" {
		t.Errorf("%+v", next)
	}
	if again := Namespace(now, item(next), each(), unread(fleet), Others{}); !again.Empty() {
		t.Errorf("it is said again: %s", tell(again))
	}
	if got := tell(Namespace(now, item(next), each(), unread(), Others{})); !strings.Contains(got, "delete namespaces/old") && !strings.Contains(got, "update namespaces/old") {
		t.Errorf("nothing holds it any more: %s", got)
	}
}

// tell words a set, one write a line.
func tell(set change.Set) string {
	var lines []string
	for _, w := range set.Writes {
		line := "delete " + w.Key.String()
		if w.Op == change.Create {
			line = "create " + w.Key.String()
		}
		if w.Op == change.Update {
			line = "update " + w.Key.String()
			if w.Object.GetDeletionTimestamp() != nil {
				line += fmt.Sprintf(" deleting grace=%d", ptr.Deref(w.Object.GetDeletionGracePeriodSeconds(), -1))
			}
			line += fmt.Sprintf(" finalizers=%v owners=%d", w.Object.GetFinalizers(), len(w.Object.GetOwnerReferences()))
		}
		if w.Op != change.Create && w.Rev != 7 {
			line += fmt.Sprintf(" AT REVISION %d", w.Rev)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

const jobUID = types.UID("job-uid")

func job(edit ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j", UID: jobUID}}
	for _, e := range edit {
		e(j)
	}
	return j
}

func deleting(finalizers ...string) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.DeletionTimestamp, j.Finalizers = &metav1.Time{Time: now}, finalizers
	}
}

func ended(at time.Time, ttl *int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Spec.TTLSecondsAfterFinished = ttl
		j.Status.Conditions = []batchv1.JobCondition{{
			Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at),
		}}
	}
}

// jobPod is a tracked pod of the job, running unless edit says otherwise.
func jobPod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID(name), Finalizers: []string{batchv1.JobTrackingFinalizer},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "batch/v1", Kind: "Job", Name: "j", UID: jobUID, Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
			}},
		},
		Spec:   corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: ptr.To(int64(30))},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func done(p *corev1.Pod) { p.Status.Phase, p.Finalizers = corev1.PodSucceeded, nil }

// alsoOf gives a pod another owner.
func alsoOf(cm *corev1.ConfigMap) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: cm.Name, UID: cm.UID})
	}
}

// ownersIn looks owners up among objects.
func ownersIn(objs ...change.Object) func(change.Object) []Owner {
	return func(obj change.Object) (all []Owner) {
		for _, ref := range obj.GetOwnerReferences() {
			o := Owner{Ref: ref}
			for _, obj := range objs {
				if obj.GetUID() == ref.UID {
					o.Object = obj
				}
			}
			all = append(all, o)
		}
		return all
	}
}

func TestDependents(t *testing.T) {
	t.Parallel()
	keeper := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "cm"}}
	for _, tc := range []struct {
		name  string
		owner *batchv1.Job
		owned []change.Object
		want  string
	}{
		{"not being deleted", job(), []change.Object{jobPod("a")}, ""},
		{"background leaves them to be found", job(deleting("x.y/z")), []change.Object{jobPod("a")}, ""},
		{
			"foreground deletes them first", job(deleting(metav1.FinalizerDeleteDependents)),
			[]change.Object{jobPod("a"), jobPod("b", done)},
			"delete pods/ns/b\nupdate pods/ns/a deleting grace=30 finalizers=[batch.kubernetes.io/job-tracking] owners=1",
		},
		{
			"foreground lets the owner go when none is left", job(deleting(metav1.FinalizerDeleteDependents)), nil,
			"delete jobs.batch/ns/j",
		},
		{
			"foreground does not wait for one that does not block", job(deleting(metav1.FinalizerDeleteDependents)),
			[]change.Object{jobPod("a", func(p *corev1.Pod) { p.OwnerReferences[0].BlockOwnerDeletion = nil })},
			"delete jobs.batch/ns/j\nupdate pods/ns/a deleting grace=30 finalizers=[batch.kubernetes.io/job-tracking] owners=1",
		},
		{
			"foreground leaves what another owner has, and does not wait for it", job(deleting(metav1.FinalizerDeleteDependents)),
			[]change.Object{jobPod("a", alsoOf(keeper))},
			"delete jobs.batch/ns/j\nupdate pods/ns/a finalizers=[] owners=1",
		},
		{
			"foreground deletes what another owner has that is gone", job(deleting(metav1.FinalizerDeleteDependents)),
			[]change.Object{jobPod("a", done, alsoOf(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "gone", UID: "gone"}}))},
			"delete pods/ns/a",
		},
		{
			"another finalizer still holds the owner", job(deleting(metav1.FinalizerDeleteDependents, "x.y/z")), nil,
			"update jobs.batch/ns/j deleting grace=-1 finalizers=[x.y/z] owners=0",
		},
		{
			"orphans stay, without reference and tracking", job(deleting(metav1.FinalizerOrphanDependents)),
			[]change.Object{jobPod("a"), jobPod("b", done)},
			"delete jobs.batch/ns/j\nupdate pods/ns/a finalizers=[] owners=0\nupdate pods/ns/b finalizers=[] owners=0",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := tell(Dependents(now, item(tc.owner), each(tc.owned...), ownersIn(tc.owner, keeper))); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestLargeSweepsGoInParts(t *testing.T) {
	t.Parallel()
	var pods []change.Object
	for i := range batch + 3 {
		pods = append(pods, jobPod(fmt.Sprintf("p%04d", i)))
	}
	for _, finalizer := range []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents} {
		set := Dependents(now, item(job(deleting(finalizer))), each(pods...), nil)
		if len(set.Writes) != batch || !set.WakeAt.Equal(now) {
			t.Errorf("%s: %d writes, wake at %v", finalizer, len(set.Writes), set.WakeAt)
		}
	}
}

func TestDependent(t *testing.T) {
	t.Parallel()
	ref := jobPod("x").OwnerReferences[0]
	other := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "c", UID: "cm"}
	both := func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{ref, other} }
	for _, tc := range []struct {
		name   string
		obj    change.Object
		owners []Owner
		want   string
	}{
		{"owner is there", jobPod("a"), []Owner{{Ref: ref, Object: job()}}, ""},
		{
			"owner is gone: a running pod is ended, and counted by nobody", jobPod("a"), []Owner{{Ref: ref}},
			"update pods/ns/a deleting grace=30 finalizers=[] owners=1",
		},
		{"owner is gone: an ended pod goes", jobPod("a", done), []Owner{{Ref: ref}}, "delete pods/ns/a"},
		{
			"one owner of two is gone", jobPod("a", both),
			[]Owner{{Ref: ref}, {Ref: other, Object: &corev1.ConfigMap{}}},
			"update pods/ns/a finalizers=[] owners=1",
		},
		{"an owner of an unknown kind counts as there", jobPod("a", both, func(p *corev1.Pod) { p.Finalizers = nil }), []Owner{{Ref: ref}, {Ref: other, Unknown: true}}, "update pods/ns/a finalizers=[] owners=1"},
		{
			"owner waits in the foreground", jobPod("a"),
			[]Owner{{Ref: ref, Object: job(deleting(metav1.FinalizerDeleteDependents))}},
			"update pods/ns/a deleting grace=30 finalizers=[batch.kubernetes.io/job-tracking] owners=1",
		},
		{
			"one owner of two waits in the foreground", jobPod("a", both),
			[]Owner{{Ref: ref, Object: job(deleting(metav1.FinalizerDeleteDependents))}, {Ref: other, Object: &corev1.ConfigMap{}}},
			"update pods/ns/a finalizers=[] owners=1",
		},
		{
			"a pod that lost its Job by hand is released", jobPod("a", func(p *corev1.Pod) { p.OwnerReferences = nil }), nil,
			"update pods/ns/a finalizers=[] owners=0",
		},
		{
			"a pod that something else controls keeps what it waits for", jobPod("a"),
			[]Owner{{Ref: metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Controller: ptr.To(true)}, Unknown: true}}, "",
		},
		{
			"a pod that is being deleted and lost its Job goes", jobPod("a", func(p *corev1.Pod) {
				p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now}, ptr.To(int64(0))
			}), []Owner{{Ref: ref}},
			"delete pods/ns/a",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := tell(Dependent(now, item(tc.obj), tc.owners)); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestExpiredJob(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, tc := range []struct {
		name string
		job  *batchv1.Job
		want string
		wake time.Time
	}{
		{"no time to live", job(ended(ago(time.Hour), nil)), "", time.Time{}},
		{"not finished", job(func(j *batchv1.Job) { j.Spec.TTLSecondsAfterFinished = ptr.To(int32(0)) }), "", time.Time{}},
		{"not yet", job(ended(ago(time.Second), ptr.To(int32(10)))), "", now.Add(9 * time.Second)},
		{
			"over", job(ended(ago(10*time.Second), ptr.To(int32(10)))),
			"update jobs.batch/ns/j deleting grace=0 finalizers=[foregroundDeletion] owners=0", time.Time{},
		},
		{"at once", job(ended(now, ptr.To(int32(0)))), "update jobs.batch/ns/j deleting grace=0 finalizers=[foregroundDeletion] owners=0", time.Time{}},
		{"already going", job(ended(ago(time.Hour), ptr.To(int32(1))), deleting("x.y/z")), "", time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			set := ExpiredJob(now, item(tc.job))
			if got := tell(set); got != tc.want || !set.WakeAt.Equal(tc.wake) {
				t.Errorf("got %q, wake %v; want %q, %v", got, set.WakeAt, tc.want, tc.wake)
			}
		})
	}
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	ns := func(going bool) *corev1.Namespace {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}}}
		if going {
			n.DeletionTimestamp = &metav1.Time{Time: now}
		}
		return n
	}
	held := job(func(j *batchv1.Job) { j.Finalizers, j.DeletionTimestamp = []string{"x.y/z"}, &metav1.Time{Time: now} })
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}}
	for _, tc := range []struct {
		name     string
		ns       *corev1.Namespace
		contents []change.Object
		want     string
	}{
		{"stays", ns(false), []change.Object{job()}, ""},
		{"is emptied of its pods first", ns(true), []change.Object{job(), jobPod("a"), config},
			"update namespaces/ns deleting grace=-1 finalizers=[] owners=0\nupdate pods/ns/a deleting grace=30 finalizers=[batch.kubernetes.io/job-tracking] owners=1"},
		{"is emptied then", ns(true), []change.Object{config}, "delete configmaps/ns/c\nupdate namespaces/ns deleting grace=-1 finalizers=[] owners=0"},
		{"is emptied at once of pods that go at once", ns(true), []change.Object{job(), jobPod("a", func(p *corev1.Pod) { p.Spec.NodeName, p.Finalizers = "", nil })},
			"delete jobs.batch/ns/j\ndelete pods/ns/a\nupdate namespaces/ns deleting grace=-1 finalizers=[] owners=0"},
		{"goes when it is empty", ns(true), nil, "delete namespaces/ns"},
		{"says what it waits for", ns(true), []change.Object{held}, "update namespaces/ns deleting grace=-1 finalizers=[] owners=0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := tell(Namespace(now, item(tc.ns), each(tc.contents...), unread(), Others{})); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
	words := func(set change.Set) string {
		var all []string
		for _, c := range set.Writes[len(set.Writes)-1].Object.(*corev1.Namespace).Status.Conditions {
			all = append(all, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
		}
		return strings.Join(all, "\n")
	}
	const well = "NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered\n" +
		"NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed\n" +
		"NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization\n"
	said := Namespace(now, item(ns(true)), each(held, held, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", Finalizers: []string{"a.b/c"}}}), unread(), Others{})
	if got, want := words(said), well+"NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: configmaps. has 1 resource instances, jobs.batch has 2 resource instances\n"+
		"NamespaceFinalizersRemaining=True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: a.b/c in 1 resource instances, x.y/z in 2 resource instances"; got != want {
		t.Errorf("conditions\n%s\nwant\n%s", got, want)
	}
	later := said.Writes[len(said.Writes)-1].Object.(*corev1.Namespace)
	if again := Namespace(now, item(later), each(held, held), unread(), Others{}); !strings.Contains(words(again), "remaining: jobs.batch has 2") {
		t.Errorf("fewer are left: %s", words(again))
	}
	one := Namespace(now, item(ns(true)), each(held), unread(), Others{}).Writes[0].Object.(*corev1.Namespace)
	if again := Namespace(now.Add(time.Minute), item(one), each(held), unread(), Others{}); !again.Empty() {
		t.Errorf("said again: %s", tell(again))
	}
	pods := Namespace(now, item(ns(true)), each(jobPod("a"), held), unread(), Others{})
	if got, want := words(pods), well+"NamespaceContentRemaining=False ContentRemoved: All content successfully removed\nNamespaceFinalizersRemaining=False ContentHasNoFinalizers: All content-preserving finalizers finished"; got != want {
		t.Errorf("while there are pods\n%s\nwant\n%s", got, want)
	}
}

// A namespace waits for what other servers keep in it, says so, and asks again.
func TestNamespaceWithOthers(t *testing.T) {
	t.Parallel()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", DeletionTimestamp: &metav1.Time{Time: now}},
		Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
	const stale = "Discovery failed for some groups, 1 failing: …"
	for _, tc := range []struct {
		name     string
		others   Others
		contents []change.Object
		want     string // the conditions that are True; "": it goes
		wake     time.Duration
	}{
		{"nothing", Others{Left: map[change.Resource][][]string{}}, nil, "", 0},
		{"not discovered", Others{Undiscovered: stale}, nil, "NamespaceDeletionDiscoveryFailure DiscoveryFailed: " + stale, othersRetry},
		{"not discovered, and there are pods", Others{Undiscovered: stale, Unasked: true}, []change.Object{jobPod("a")}, "NamespaceDeletionDiscoveryFailure DiscoveryFailed: " + stale, -1},
		{"left, and not deleted", Others{Left: map[change.Resource][][]string{"boats.x.y": {{"a.b/c"}, nil}}, Failures: []string{"no", "never"}}, nil,
			"NamespaceDeletionContentFailure ContentDeletionFailed: Failed to delete all resource types, 2 remaining: never, no\n" +
				"NamespaceContentRemaining SomeResourcesRemain: Some resources are remaining: boats.x.y has 2 resource instances\n" +
				"NamespaceFinalizersRemaining SomeFinalizersRemain: Some content in the namespace has finalizers remaining: a.b/c in 1 resource instances", othersRetry},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			set := Namespace(now, item(ns), each(tc.contents...), unread(), tc.others)
			var said []string
			for _, w := range set.Writes {
				if ns, ok := w.Object.(*corev1.Namespace); ok {
					for _, c := range ns.Status.Conditions {
						if c.Status == corev1.ConditionTrue {
							said = append(said, fmt.Sprintf("%s %s: %s", c.Type, c.Reason, c.Message))
						}
					}
				}
			}
			if got := strings.Join(said, "\n"); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			if gone := tell(set) == "delete namespaces/ns"; gone != (tc.want == "") {
				t.Errorf("decided\n%s", tell(set))
			}
			if want := now.Add(tc.wake); tc.wake > 0 && !set.WakeAt.Equal(want) || tc.wake <= 0 && !set.WakeAt.IsZero() {
				t.Errorf("it is decided again at %v", set.WakeAt)
			}
		})
	}
	if set := Namespace(now, item(ns), each(), unread(), Others{Unasked: true}); !set.Empty() || !set.WakeAt.Equal(now) {
		t.Errorf("nobody was asked: %s, again at %v", tell(set), set.WakeAt)
	}
}

func TestUnscheduledPod(t *testing.T) {
	t.Parallel()
	unbound := func(p *corev1.Pod) { p.Spec.NodeName = "" }
	leaving := func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(now)), ptr.To[int64](0)
	}
	for _, c := range []struct {
		name string
		pod  *corev1.Pod
		want corev1.PodPhase // "": nothing is written
	}{
		{"nobody deletes it", jobPod("a", unbound), ""},
		{"its node ends it", jobPod("a", leaving), ""},
		{"it has ended", jobPod("a", leaving, unbound, done), ""},
		{"no node will ever end it", jobPod("a", leaving, unbound), corev1.PodFailed},
	} {
		set := UnscheduledPod(item(c.pod))
		got := corev1.PodPhase("")
		if len(set.Writes) == 1 && set.Writes[0].Op == change.Update {
			got = set.Writes[0].Object.(*corev1.Pod).Status.Phase
		}
		if got != c.want || len(set.Writes) > 1 {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestOrphanedPods: a pod whose node does not exist fails and is gone, at once or when its Job has
// counted it.
func TestOrphanedPods(t *testing.T) {
	t.Parallel()
	bare := func(name string, edit func(*corev1.Pod)) *corev1.Pod {
		p := jobPod(name, func(p *corev1.Pod) {
			p.Finalizers, p.OwnerReferences, p.Spec.NodeName, p.Status.Phase = nil, nil, "gone", corev1.PodRunning
		})
		if edit != nil {
			edit(p)
		}
		return p
	}
	deleting := func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now}, ptr.To[int64](30)
	}
	held := func(p *corev1.Pod) { p.Finalizers = []string{batchv1.JobTrackingFinalizer} }
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"runs":                 {bare("p", nil), "delete pods/ns/p"},
		"is deleted":           {bare("p", deleting), "delete pods/ns/p"},
		"has ended":            {bare("p", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), "delete pods/ns/p"},
		"is its Job's":         {bare("p", held), "update pods/ns/p"},
		"is its Job's, and so": {bare("p", func(p *corev1.Pod) { held(p); deleting(p) }), "update pods/ns/p"},
	} {
		set := OrphanedPods(now, "gone", each(test.pod))
		if got := tell(set); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
		if len(set.Notes) != 1 || set.Notes[0].Message != "PodGC: node gone no longer exists" {
			t.Errorf("%s: %+v", name, set.Notes)
		}
		if next, ok := set.Writes[0].Object.(*corev1.Pod); ok {
			c := next.Status.Conditions[len(next.Status.Conditions)-1]
			if next.Status.Phase != corev1.PodFailed || *next.DeletionGracePeriodSeconds != 0 || c.Type != corev1.DisruptionTarget || c.Reason != "DeletionByPodGC" {
				t.Errorf("%s: %+v", name, next)
			}
			if again := OrphanedPods(now, "gone", each(next)); !again.Empty() {
				t.Errorf("%s: once more: %s", name, tell(again))
			}
		}
	}
	var many []change.Object
	for i := range batch + 1 {
		many = append(many, bare(fmt.Sprint("p", i), nil))
	}
	if set := OrphanedPods(now, "gone", each(many...)); len(set.Writes) != batch || !set.WakeAt.Equal(now) {
		t.Errorf("%d writes, wake at %v", len(set.Writes), set.WakeAt)
	}
}

func TestEvictedPodsGoFirst(t *testing.T) {
	t.Parallel()
	old := jobPod("old", done)
	old.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
	evicted := jobPod("evicted", done)
	evicted.CreationTimestamp = metav1.NewTime(now)
	evicted.Status.Phase, evicted.Status.Reason = corev1.PodFailed, "Evicted"
	if got, want := tell(TerminatedPods(now, each(old, evicted), 1)), "delete pods/ns/evicted"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTerminatedPods(t *testing.T) {
	t.Parallel()
	var pods []change.Object
	for i := range 5 {
		p := jobPod(fmt.Sprint("p", i), done)
		p.CreationTimestamp = metav1.NewTime(now.Add(-time.Duration(i) * time.Minute))
		pods = append(pods, p)
	}
	pods = append(pods, jobPod("running"))
	if got, want := tell(TerminatedPods(now, each(pods...), 3)), "delete pods/ns/p3\ndelete pods/ns/p4"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The token of a default account is mounted if its plan says so, or its owner.
func TestDefaultAccount(t *testing.T) {
	t.Parallel()
	plan := Plan{}
	if got := plan.Account("ns").AutomountServiceAccountToken; got == nil || *got {
		t.Errorf("by itself: %v", got)
	}
	plan.Automount = true
	if got := plan.Account("ns").AutomountServiceAccountToken; got != nil {
		t.Errorf("as in Kubernetes: %v", *got)
	}
}

// A namespace has an account and is told the authority, each by a decision of its own.
func TestFurnish(t *testing.T) {
	t.Parallel()
	plan, former := Plan{RootCA: []byte("now")}, Plan{RootCA: []byte("before")}
	ns, going := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", DeletionTimestamp: &metav1.Time{Time: now}}}
	stale := former.CA("ns")
	stale.ResourceVersion = "7"
	for name, test := range map[string]struct {
		set  change.Set
		want string
	}{
		"gets its account":          {plan.Furnish(ns, nil), "create serviceaccounts/ns/default"},
		"has its account":           {plan.Furnish(ns, plan.Account("ns")), ""},
		"needs no account any more": {plan.Furnish(going, nil), ""},
		"is told the authority":     {plan.Publish(ns, nil), "create configmaps/ns/kube-root-ca.crt"},
		"knows the authority":       {plan.Publish(ns, plan.CA("ns")), ""},
		"is told another authority": {plan.Publish(ns, stale), "update configmaps/ns/kube-root-ca.crt finalizers=[] owners=0"},
		"need not know any more":    {plan.Publish(going, nil), ""},
		"has none to be told":       {(&Plan{}).Publish(ns, nil), ""},
	} {
		if got := tell(test.set); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
