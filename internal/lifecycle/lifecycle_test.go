package lifecycle

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// node returns a node whose Ready is status.
func node(name string, status corev1.ConditionStatus, edits ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid", ResourceVersion: "1", CreationTimestamp: metav1.NewTime(t0)}}
	if status != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, LastHeartbeatTime: metav1.NewTime(t0)}}
	}
	for _, edit := range edits {
		edit(n)
	}
	return n
}

func tainted(key string, effect corev1.TaintEffect, added time.Time) func(*corev1.Node) {
	return func(n *corev1.Node) {
		t := corev1.Taint{Key: key, Effect: effect}
		if !added.IsZero() {
			t.TimeAdded = timeAdded(added)
		}
		n.Spec.Taints = append(n.Spec.Taints, t)
	}
}

func labelled(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { metav1.SetMetaDataLabel(&n.ObjectMeta, key, value) }
}

func pod(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: "1", CreationTimestamp: metav1.NewTime(t0)},
		Spec:       corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: ptr.To[int64](30)},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, edit := range edits {
		edit(p)
	}
	return p
}

func lease(renewed time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: ptr.To(metav1.NewMicroTime(renewed))}}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, tc := range []struct {
		name  string
		node  *corev1.Node
		lease *coordinationv1.Lease
		since time.Duration
		now   time.Duration
		wake  time.Duration // when it is asked again; 0: it is lost
	}{
		{"its status is fresh", node("n", corev1.ConditionTrue), nil, -time.Hour, 10 * s, 50 * s},
		{"its lease is fresh", node("n", corev1.ConditionTrue), lease(t0.Add(20 * s)), -time.Hour, 60 * s, 70 * s},
		{"nobody listened", node("n", corev1.ConditionTrue), lease(t0), 100 * s, 120 * s, 150 * s},
		{"silent", node("n", corev1.ConditionTrue), lease(t0.Add(20 * s)), -time.Hour, 70 * s, 0},
		{"silent, and was not ready", node("n", corev1.ConditionFalse), lease(t0), -time.Hour, 50 * s, 0},
		{"it never said anything", node("n", ""), nil, -time.Hour, 50 * s, 60 * s},
		{"it never said anything, for long", node("n", ""), nil, -time.Hour, 60 * s, 0},
		{"it is lost, and renews its lease", node("n", corev1.ConditionUnknown), lease(t0.Add(60 * s)), -time.Hour, 61 * s, 110 * s},
	} {
		set := Health(t0.Add(tc.now), Monitor{Grace: 50 * s, Startup: 60 * s, Since: t0.Add(tc.since)},
			Silent{Node: tc.node, Lease: tc.lease, Pods: slices.Values([]*corev1.Pod{pod("a"), pod("b", func(p *corev1.Pod) { p.Status.Conditions = nil })})})
		if tc.wake > 0 {
			if len(set.Writes) > 0 || !set.WakeAt.Equal(t0.Add(tc.wake)) {
				t.Errorf("%s: %d writes, wakes after %s", tc.name, len(set.Writes), set.WakeAt.Sub(t0))
			}
			continue
		}
		if len(set.Writes) != 2 {
			t.Errorf("%s: %d writes, want that of the node and of the pod that is ready", tc.name, len(set.Writes))
			continue
		}
		for _, c := range set.Writes[0].Object.(*corev1.Node).Status.Conditions {
			if c.Status != corev1.ConditionUnknown || !strings.HasPrefix(c.Reason, "NodeStatus") {
				t.Errorf("%s: %+v", tc.name, c)
			}
		}
		if c := kind.PodCondition(set.Writes[1].Object.(*corev1.Pod), corev1.PodReady); c.Status != corev1.ConditionFalse {
			t.Errorf("%s: %+v", tc.name, c)
		}
	}
}

// A node that is lost stays so silently, and one with many pods takes several sets.
func TestLostNodes(t *testing.T) {
	t.Parallel()
	many := func(yield func(*corev1.Pod) bool) {
		for i := range batch + 10 {
			if !yield(pod(fmt.Sprint("p", i))) {
				return
			}
		}
	}
	at, m := t0.Add(time.Hour), Monitor{Grace: time.Minute}
	set := Health(at, m, Silent{Node: node("n", corev1.ConditionTrue), Pods: many})
	if len(set.Writes) != batch || !set.WakeAt.Equal(at) {
		t.Errorf("%d writes, wakes at %s", len(set.Writes), set.WakeAt)
	}
	set = Health(at, m, Silent{Node: node("n", corev1.ConditionUnknown), Pods: slices.Values[[]*corev1.Pod](nil)})
	if !set.Empty() {
		t.Errorf("said again: %+v", set)
	}
}

// TestTaints of conditions: NoSchedule, at once.
func TestTaints(t *testing.T) {
	t.Parallel()
	const disk, memory = corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure
	noSchedule := func(keys ...string) (list []corev1.Taint) {
		for _, key := range keys {
			list = append(list, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
		return list
	}
	condition := func(c corev1.NodeConditionType, s corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: c, Status: s}
	}
	own := corev1.Taint{Key: disk, Value: "mine", Effect: corev1.TaintEffectNoExecute, TimeAdded: timeAdded(t0)}
	for name, test := range map[string]struct {
		has        []corev1.Taint
		conditions []corev1.NodeCondition
		cordoned   bool
		want       []corev1.Taint
	}{
		"nothing is known": {noSchedule("a", disk), nil, false, noSchedule("a", disk)},
		"all is well":      {nil, []corev1.NodeCondition{condition(corev1.NodeDiskPressure, corev1.ConditionFalse)}, false, nil},
		"under pressure": {noSchedule("a"), []corev1.NodeCondition{
			condition(corev1.NodeMemoryPressure, corev1.ConditionTrue), condition(corev1.NodeDiskPressure, corev1.ConditionTrue),
			condition(corev1.NodePIDPressure, corev1.ConditionTrue), condition(corev1.NodeReady, corev1.ConditionTrue),
		}, false, noSchedule("a", memory, disk, corev1.TaintNodePIDPressure)},
		"still":              {noSchedule(disk), []corev1.NodeCondition{condition(corev1.NodeDiskPressure, corev1.ConditionTrue)}, false, noSchedule(disk)},
		"no more":            {noSchedule("a", disk, memory), []corev1.NodeCondition{condition(corev1.NodeDiskPressure, corev1.ConditionFalse)}, false, noSchedule("a", memory)},
		"nobody knows":       {noSchedule(disk), []corev1.NodeCondition{condition(corev1.NodeDiskPressure, corev1.ConditionUnknown)}, false, nil},
		"not ready":          {nil, []corev1.NodeCondition{condition(corev1.NodeReady, corev1.ConditionFalse)}, false, noSchedule(corev1.TaintNodeNotReady)},
		"unreachable":        {noSchedule(corev1.TaintNodeNotReady), []corev1.NodeCondition{condition(corev1.NodeReady, corev1.ConditionUnknown)}, false, noSchedule(corev1.TaintNodeUnreachable)},
		"ready again":        {noSchedule(corev1.TaintNodeNotReady), []corev1.NodeCondition{condition(corev1.NodeReady, corev1.ConditionTrue)}, false, nil},
		"a user's own stays": {[]corev1.Taint{own}, []corev1.NodeCondition{condition(corev1.NodeDiskPressure, corev1.ConditionFalse)}, false, []corev1.Taint{own}},
		"cordoned":           {nil, nil, true, noSchedule(corev1.TaintNodeUnschedulable)},
		"uncordoned":         {noSchedule(corev1.TaintNodeUnschedulable), nil, false, nil},
	} {
		node := &corev1.Node{Spec: corev1.NodeSpec{Taints: test.has, Unschedulable: test.cordoned}, Status: corev1.NodeStatus{Conditions: test.conditions}}
		before := node.DeepCopy()
		got, changed, _ := Taints(t0, node, []*corev1.Node{node})
		if !reflect.DeepEqual(got, test.want) && len(got)+len(test.want) > 0 || changed == reflect.DeepEqual(test.has, test.want) {
			t.Errorf("%s: got %+v, %v", name, got, changed)
		}
		if !reflect.DeepEqual(node, before) {
			t.Errorf("%s: the node was changed in place", name)
		}
	}
}

// TestExecutingTaints: one node after the other, and none when that looks like the fault of
// something else.
func TestExecutingTaints(t *testing.T) {
	t.Parallel()
	const yes, no, unknown = corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown
	const execute = corev1.TaintEffectNoExecute
	before := t0.Add(-4 * time.Second)
	lost := func(name string, edits ...func(*corev1.Node)) *corev1.Node { return node(name, unknown, edits...) }
	for _, tc := range []struct {
		name   string
		node   *corev1.Node
		others []*corev1.Node
		want   string
		wake   time.Duration
	}{
		{"one of two", lost("n"), []*corev1.Node{node("a", yes)}, corev1.TaintNodeUnreachable, 0},
		{"it is known not to be ready", node("n", no), []*corev1.Node{node("a", yes)}, corev1.TaintNodeNotReady, 0},
		{"the only one", lost("n"), nil, "", 0},
		{"all of them", lost("n", tainted(corev1.TaintNodeUnreachable, execute, before)), []*corev1.Node{lost("a")}, "", 0},
		{"ready again", node("n", yes, tainted(corev1.TaintNodeUnreachable, execute, before)), nil, "", 0},
		{"heard of again, but not ready", node("n", no, tainted(corev1.TaintNodeUnreachable, execute, before)), []*corev1.Node{node("a", yes)}, corev1.TaintNodeNotReady, 0},
		{
			"another was tainted just now", lost("n"), []*corev1.Node{lost("a", tainted(corev1.TaintNodeUnreachable, execute, before)), node("b", yes)},
			"", 6 * time.Second,
		},
		{
			"one of another zone was", lost("n"), []*corev1.Node{
				lost("a", tainted(corev1.TaintNodeUnreachable, execute, before), labelled(corev1.LabelTopologyZone, "z")), node("b", yes),
			}, corev1.TaintNodeUnreachable, 0,
		},
		{"three of five", lost("n"), []*corev1.Node{lost("a"), lost("b"), node("c", yes), node("d", yes)}, "", 0},
		{"three of six", lost("n"), []*corev1.Node{lost("a"), lost("b"), node("c", yes), node("d", yes), node("e", yes)}, corev1.TaintNodeUnreachable, 0},
		{"all of a zone", lost("n", labelled(corev1.LabelTopologyZone, "z")), []*corev1.Node{node("c", yes)}, corev1.TaintNodeUnreachable, 0},
		{"all but who does not count", lost("n"), []*corev1.Node{node("c", yes, labelled(excludeLabel, ""))}, "", 0},
	} {
		taints, _, wake := Taints(t0, tc.node, append(tc.others, tc.node))
		got := ""
		for _, taint := range taints {
			if taint.Effect == execute {
				got += taint.Key
				if taint.TimeAdded == nil {
					t.Errorf("%s: nobody knows since when", tc.name)
				}
			}
		}
		var after time.Duration
		if !wake.IsZero() {
			after = wake.Sub(t0)
		}
		if got != tc.want || after != tc.wake {
			t.Errorf("%s: got %q, wake after %s", tc.name, got, after)
		}
	}
}

func tolerates(key string, seconds *int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds,
		})
	}
}

func TestEvictions(t *testing.T) {
	t.Parallel()
	row := kind.Builtin().ByResource(kind.Pods)
	lost := node("n", corev1.ConditionUnknown, tainted(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute, t0))
	twice := node("n", corev1.ConditionTrue, tainted("a", corev1.TaintEffectNoExecute, t0), tainted("b", corev1.TaintEffectNoExecute, t0.Add(time.Minute)))
	out := node("n", corev1.ConditionUnknown, tainted(corev1.TaintNodeOutOfService, corev1.TaintEffectNoExecute, t0))
	going := func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(t0.Add(30*time.Second))), ptr.To[int64](30)
	}
	const minute = 60
	for _, tc := range []struct {
		name string
		node *corev1.Node
		pod  *corev1.Pod
		want string // "", "now", "deleted", or after how long
	}{
		{"no such taint", node("n", corev1.ConditionTrue, tainted("a", corev1.TaintEffectNoSchedule, t0)), pod("p"), ""},
		{"not tolerated", lost, pod("p"), "now"},
		{"tolerated for ever", lost, pod("p", tolerates("", nil)), ""},
		{"for a while", lost, pod("p", tolerates(corev1.TaintNodeUnreachable, ptr.To[int64](300))), "5m0s"},
		{"for longer than can be counted", lost, pod("p", tolerates(corev1.TaintNodeUnreachable, ptr.To[int64](math.MaxInt64))), "2562047h47m16s"},
		{"not at all", lost, pod("p", tolerates(corev1.TaintNodeUnreachable, ptr.To[int64](0))), "now"},
		{"one of two", twice, pod("p", tolerates("a", nil)), "now"},
		{"both, one of them for a while, from the last on", twice, pod("p", tolerates("a", ptr.To[int64](minute)), tolerates("b", nil)), "2m0s"},
		{"since it was bound", lost, pod("p", tolerates("", ptr.To[int64](minute)), func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.NewTime(t0.Add(time.Minute))
		}), "2m0s"},
		{"its time is up", lost, pod("p", tolerates("", ptr.To[int64](minute)), func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.NewTime(t0.Add(-time.Hour))
		}), "1m0s"},
		{"it goes already", lost, pod("p", going), ""},
		{"it goes, and nobody will say so", out, pod("p", going), "deleted"},
		{"it goes from a node that is well", node("n", corev1.ConditionTrue, tainted(corev1.TaintNodeOutOfService, corev1.TaintEffectNoExecute, t0)), pod("p", going), ""},
	} {
		set := Evictions(t0, tc.node, row, slices.Values([]*corev1.Pod{tc.pod}))
		got := ""
		switch {
		case len(set.Writes) == 1 && set.Writes[0].Op == change.Delete:
			got = "deleted"
		case len(set.Writes) == 1:
			got = "now"
			p := set.Writes[0].Object.(*corev1.Pod)
			if c := kind.PodCondition(p, corev1.DisruptionTarget); p.DeletionTimestamp == nil || c == nil || c.Reason != "DeletionByTaintManager" || len(set.Notes) != 1 {
				t.Errorf("%s: %+v", tc.name, p)
			}
		case !set.WakeAt.IsZero():
			got = set.WakeAt.Sub(t0).String()
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}
