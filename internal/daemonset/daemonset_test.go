package daemonset

import (
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

func objects(all ...change.Object) []change.Object { return all }

// TestPlaces: which nodes get a pod, and which keep theirs.
func TestPlaces(t *testing.T) {
	t.Parallel()
	selects := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "ssd"} }
	named := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeName = "b" }
	hostNetwork := func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.HostNetwork = true }
	rev := revision("log:1", 1)
	for name, c := range map[string]struct {
		set     *appsv1.DaemonSet
		objects []change.Object
		want    string
	}{
		"a new set has a revision, and a pod on each node": {newSet(), objects(newNode("a"), newNode("b")), "+a +b +revision 1"},
		"no nodes":                        {newSet(), objects(rev), ""},
		"all is well":                     {newSet(), objects(rev, newNode("a"), newPod("p", "a")), ""},
		"a pod that waits for its node":   {newSet(), objects(rev, newNode("a"), newPod("p", "a", waiting)), ""},
		"a node is new":                   {newSet(), objects(rev, newNode("a"), newNode("b"), newPod("p", "a")), "+b"},
		"a node selector":                 {newSet(selects), objects(newNode("a", label("disk", "ssd")), newNode("b")), "+a +revision 1"},
		"a node lost its label":           {newSet(selects), objects(newNode("a"), newPod("p", "a")), "+revision 1 -p…"},
		"a node by name":                  {newSet(named), objects(newNode("a"), newNode("b")), "+b +revision 1"},
		"a taint":                         {newSet(), objects(rev, newNode("a", taint("k", corev1.TaintEffectNoSchedule))), ""},
		"a taint that pods may stay with": {newSet(), objects(rev, newNode("a", taint("k", corev1.TaintEffectNoSchedule)), newPod("p", "a")), ""},
		"a taint that pods must go for":   {newSet(), objects(rev, newNode("a", taint("k", corev1.TaintEffectNoExecute)), newPod("p", "a")), "-p…"},
		"a node that is out of something": {newSet(), objects(rev,
			newNode("a", taint(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule), taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule))), "+a"},
		"a node that is not ready keeps its pod": {newSet(), objects(rev,
			newNode("a", taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)), newPod("p", "a")), ""},
		"a node without a network": {newSet(), objects(rev, newNode("a", taint(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule))), ""},
		"a node without a network, for what needs none": {newSet(hostNetwork),
			objects(newNode("a", taint(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule))), "+a +revision 1"},
		"two pods on a node":                             {newSet(), objects(rev, newNode("a"), newPod("q", "a"), newPod("p", "a", younger)), "-p…"},
		"two pods on a node, one of which waits":         {newSet(), objects(rev, newNode("a"), newPod("q", "a", younger), newPod("p", "a", waiting)), "-p"},
		"a pod of a node that is gone waits in vain":     {newSet(), objects(rev, newPod("p", "a", waiting)), "-p"},
		"a pod on a node that is gone is left to others": {newSet(), objects(rev, newPod("p", "a")), ""},
		"a pod that is being deleted has its place":      {newSet(), objects(rev, newNode("a"), newPod("p", "a", deleted)), ""},
		"unless it has ended":                            {newSet(), objects(rev, newNode("a"), newPod("p", "a", deleted, failed)), "+a"},
		"a pod that has succeeded":                       {newSet(), objects(rev, newNode("a"), newPod("p", "a", complete)), "-p"},
		"a stranger without an owner":                    {newSet(), objects(rev, newNode("a"), newPod("p", "a", orphan)), "~p"},
		"a stranger that is one too many":                {newSet(), objects(rev, newNode("a"), newPod("o", "a"), newPod("p", "a", orphan)), "-p…"},
		"a pod that was relabelled":                      {newSet(), objects(rev, newNode("a"), newPod("p", "a", relabelled)), "+a ~p"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := summary(Decide(t0, state(c.set, c.objects...))); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRollout: how pods of another template give way.
func TestRollout(t *testing.T) {
	t.Parallel()
	type edit = func(*appsv1.DaemonSet)
	second := func(edits ...edit) *appsv1.DaemonSet { return newSet(append([]edit{withImage("log:2")}, edits...)...) }
	three := objects(revision("log:1", 1), revision("log:2", 2), newNode("a"), newNode("b"), newNode("c"))
	with := func(pods ...change.Object) []change.Object { return append(three[:len(three):len(three)], pods...) }
	a, b, c := newPod("a1", "a"), newPod("b1", "b"), newPod("c1", "c")
	for name, test := range map[string]struct {
		set     *appsv1.DaemonSet
		objects []change.Object
		want    string
	}{
		"a template is new":                 {newSet(withImage("log:3")), with(a, b, c), "+revision 3 -a1…"},
		"one at a time":                     {second(), with(a, b, c), "-a1…"},
		"not one more":                      {second(), with(newPod("a1", "a", deleted), b, c), ""},
		"until it is back":                  {second(), with(newPod("a2", "a", of("log:2"), unready), b, c), ""},
		"the next":                          {second(), with(newPod("a2", "a", of("log:2")), b, c), "-b1…"},
		"two at a time":                     {second(unavailable("2")), with(a, b, c), "-a1… -b1…"},
		"a percentage is rounded up":        {second(unavailable("34%")), with(a, b, c), "-a1… -b1…"},
		"what is of no use goes at once":    {second(), with(a, newPod("b1", "b", unready), newPod("c1", "c", unready)), "-b1… -c1…"},
		"ready is not available":            {second(minReady(10)), with(newPod("a2", "a", of("log:2")), b, c), "-b1… -c1…"},
		"first the missing pods":            {second(), with(a, b), "+c"},
		"on delete, none goes":              {second(onDelete), with(a, b, c), ""},
		"on delete, what is missing is new": {second(onDelete), with(a, b), "+c"},
		"back to the first":                 {newSet(), with(newPod("a2", "a", of("log:2")), b, c), "-a2… ~revision 3"},
		"neither unavailable nor surge":     {second(surge("0")), with(a, b, c), "-a1…"},

		"surge: a second pod first":                 {second(surge("1")), with(a, b, c), "+a"},
		"surge: a percentage":                       {second(surge("50%")), with(a, b, c), "+a +b"},
		"surge: wait":                               {second(surge("1")), with(a, newPod("a2", "a", of("log:2"), unready), b, c), ""},
		"surge: wait to be available":               {second(surge("1"), minReady(10)), with(a, newPod("a2", "a", of("log:2")), b, newPod("b2", "b", of("log:2"), younger), c, newPod("c2", "c", of("log:2"))), ""},
		"surge: then the old one goes":              {second(surge("1")), with(a, newPod("a2", "a", of("log:2")), b, c), "-a1…"},
		"surge: one that does not serve is no loss": {second(surge("1")), with(newPod("a1", "a", unready), newPod("b1", "b", unready), c), "+a +b +c"},
		"surge: and need not be waited with":        {second(surge("1")), with(newPod("a1", "a", unready), newPod("a2", "a", of("log:2"), unready), b, c), "-a1…"},
		"surge: three are too many":                 {second(surge("1")), with(a, newPod("a2", "a", of("log:2"), unready), newPod("a3", "a", of("log:2"), younger), b, c), "-a3…"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := summary(Decide(t0, state(test.set, test.objects...))); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestStatus: the status is that of the moment after the decision.
func TestStatus(t *testing.T) {
	t.Parallel()
	rev := revision("log:1", 1)
	text := func(st appsv1.DaemonSetStatus) string {
		return fmt.Sprintf("desired %d current %d misscheduled %d ready %d updated %d available %d unavailable %d generation %d",
			st.DesiredNumberScheduled, st.CurrentNumberScheduled, st.NumberMisscheduled, st.NumberReady, st.UpdatedNumberScheduled,
			st.NumberAvailable, st.NumberUnavailable, st.ObservedGeneration)
	}
	for name, c := range map[string]struct {
		set     *appsv1.DaemonSet
		objects []change.Object
		want    string
		wake    time.Duration
	}{
		"new": {newSet(), objects(newNode("a"), newNode("b")),
			"desired 2 current 2 misscheduled 0 ready 0 updated 2 available 0 unavailable 2 generation 1", 0},
		"one is ready": {newSet(), objects(rev, newNode("a"), newNode("b"), newPod("a1", "a"), newPod("b1", "b", unready)),
			"desired 2 current 2 misscheduled 0 ready 1 updated 2 available 1 unavailable 1 generation 1", 0},
		"ready, and available later": {newSet(minReady(10)), objects(rev, newNode("a"), newPod("a1", "a")),
			"desired 1 current 1 misscheduled 0 ready 1 updated 1 available 0 unavailable 1 generation 1", 10 * time.Second},
		"where it should not be": {newSet(), objects(rev, newNode("a", taint("k", corev1.TaintEffectNoSchedule)), newPod("a1", "a")),
			"desired 0 current 0 misscheduled 1 ready 0 updated 0 available 0 unavailable 0 generation 1", 0},
		"of another template": {newSet(onDelete), objects(rev, newNode("a"), newPod("a1", "a", of("log:0"))),
			"desired 1 current 1 misscheduled 0 ready 1 updated 0 available 1 unavailable 0 generation 1", 0},
		"of another template, by its generation": {newSet(onDelete), objects(rev, newNode("a"), newPod("a1", "a", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "log", generationLabel: "1"} })),
			"desired 1 current 1 misscheduled 0 ready 1 updated 1 available 1 unavailable 0 generation 1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := state(c.set, c.objects...)
			set := Decide(t0, s)
			if got := text(nextSet(t, s, set).Status); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.wake == 0 && !set.WakeAt.IsZero() || c.wake > 0 && !set.WakeAt.Equal(t0.Add(c.wake)) {
				t.Errorf("it wakes at %v", set.WakeAt)
			}
		})
	}
}

// TestBackoff: pods that fail again and again on a node are replaced ever less often.
func TestBackoff(t *testing.T) {
	t.Parallel()
	node, rev := newNode("a"), revision("log:1", 1)
	const second = "1: a 1s 2026-01-31T07:00:00Z"
	for name, c := range map[string]struct {
		annotation string
		after      time.Duration
		want, next string
		wake       time.Duration
	}{
		"at once":                     {"", 0, "-p", "1: a 1s 2026-01-31T07:00:00Z", 0},
		"again":                       {second, 0, "", second, time.Second},
		"a second later":              {second, time.Second, "-p", "1: a 2s 2026-01-31T07:00:01Z", 0},
		"at most a quarter":           {"1: a 15m0s 2026-01-31T07:00:00Z", 15 * time.Minute, "-p", "1: a 15m0s 2026-01-31T07:15:00Z", 0},
		"forgotten":                   {"1: a 15m0s 2026-01-31T07:00:00Z", 31 * time.Minute, "-p", "1: a 1s 2026-01-31T07:31:00Z", 0},
		"of another node":             {"1: b 1m0s 2026-01-31T07:00:00Z", 0, "-p", "1: a 1s 2026-01-31T07:00:00Z, b 1m0s 2026-01-31T07:00:00Z", 0},
		"of another generation":       {"7: a 1m0s 2026-01-31T07:00:00Z", 0, "-p", "1: a 1s 2026-01-31T07:00:00Z", 0},
		"of a time to come":           {"1: a 1m0s 2026-02-01T07:00:00Z", 0, "-p", "1: a 1s 2026-01-31T07:00:00Z", 0},
		"written by somebody":         {"1: a -1s x, , b", 0, "-p", "1: a 1s 2026-01-31T07:00:00Z", 0},
		"written by somebody, wholly": {"no", 0, "-p", "1: a 1s 2026-01-31T07:00:00Z", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := state(newSet(observed(1, c.annotation)), rev, node, newPod("p", "a", failed))
			now := t0.Add(c.after)
			set := Decide(now, s)
			if got := summary(set); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got := nextSet(t, s, set).Annotations[BackoffAnnotation]; got != c.next {
				t.Errorf("the annotation is %q, want %q", got, c.next)
			}
			if c.wake > 0 && !set.WakeAt.Equal(now.Add(c.wake)) {
				t.Errorf("it wakes at %v", set.WakeAt)
			}
		})
	}
}

// TestRevisions: which revisions are kept, and what a new one is called.
func TestRevisions(t *testing.T) {
	t.Parallel()
	limit := func(n int32) func(*appsv1.DaemonSet) {
		return func(ds *appsv1.DaemonSet) { ds.Spec.RevisionHistoryLimit = &n }
	}
	strange := revision("log:1", 1)
	strange.OwnerReferences = nil
	strange.Labels = map[string]string{"app": "log"}
	for name, c := range map[string]struct {
		set     *appsv1.DaemonSet
		objects []change.Object
		want    string
	}{
		"more than the limit":             {newSet(limit(1)), objects(revision("log:-1", 1), revision("log:0", 2), revision("log:1", 3)), "-revision"},
		"one that a pod is of":            {newSet(limit(0), onDelete), objects(revision("log:0", 1), revision("log:1", 2), newNode("a"), newPod("p", "a", of("log:0"))), ""},
		"with a new one":                  {newSet(withImage("log:2"), limit(0)), objects(revision("log:1", 1)), "+revision 2 -revision"},
		"an orphan is adopted, and named": {newSet(), objects(strange), "~revision 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := Decide(t0, state(c.set, c.objects...))
			if got := summary(set); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestNameIsTaken: a revision of another template has the name that the present one's
// would have.
func TestNameIsTaken(t *testing.T) {
	t.Parallel()
	s := state(newSet(), newNode("a"))
	other := revision("log:9", 1)
	first := true
	s.Revision = func(string) *appsv1.ControllerRevision {
		if first {
			return other
		}
		return nil
	}
	set := Decide(t0, s)
	if got := summary(set); got != "" || *nextSet(t, s, set).Status.CollisionCount != 1 {
		t.Fatalf("writes %q, %+v", got, nextSet(t, s, set).Status)
	}
	s.Set, first = nextSet(t, s, set), false
	if got := summary(Decide(t0, s)); got != "+a +revision 1" {
		t.Errorf("then: %q", got)
	}
}

// TestRefused: the API takes no pod of the template.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := state(newSet(), newNode("a"))
	s.Refused = errors.New("no quota")
	set := Decide(t0, s)
	if got := summary(set) + "; " + reasons(set); got != "+revision 1; FailedCreate" || !set.WakeAt.Equal(t0.Add(refusedRetry)) {
		t.Errorf("%s, wakes at %v", got, set.WakeAt)
	}
	if set.Notes[0].Message != "Error creating: no quota" {
		t.Errorf("it says %q", set.Notes[0].Message)
	}
}

// TestDeleted: a set that is being deleted does nothing any more.
func TestDeleted(t *testing.T) {
	t.Parallel()
	ds := newSet()
	ds.DeletionTimestamp = &ds.CreationTimestamp
	if set := Decide(t0, state(ds, newNode("a"), newPod("p", "a", relabelled))); len(set.Writes)+len(set.Notes) > 0 {
		t.Errorf("it writes %s", summary(set))
	}
}

// TestMany: a set of decisions of bounded size gets everywhere.
func TestMany(t *testing.T) {
	t.Parallel()
	s := state(newSet(), revision("log:1", 1))
	for i := range batch + 1 {
		s.Nodes = append(s.Nodes, newNode(fmt.Sprintf("node-%03d", i)))
	}
	set := Decide(t0, s)
	if n := len(set.Notes); n != batch || !set.WakeAt.Equal(t0) {
		t.Errorf("%d pods at once, wakes at %v", n, set.WakeAt)
	}
	if st := nextSet(t, s, set).Status; st.CurrentNumberScheduled != batch || st.DesiredNumberScheduled != batch+1 {
		t.Errorf("%+v", st)
	}
}
