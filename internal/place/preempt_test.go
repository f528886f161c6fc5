package place

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

func started(ago time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.StartTime = ptr.To(metav1.NewTime(now.Add(-ago))) }
}

func nominated(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.NominatedNodeName = node }
}

// preempted makes a pod one that was told to go for another.
func preempted(p *corev1.Pod) {
	p.DeletionTimestamp = &metav1.Time{Time: now}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
}

func guards(name, value string, allowed int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: selects(value)},
		Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed},
	}
}

// TestPreemption: who goes for a pod of higher priority, and for whom nobody does.
func TestPreemption(t *testing.T) {
	t.Parallel()
	const of = "0/1 nodes are available: "
	const insufficient = of + "1 Insufficient cpu. preemption: "
	type world struct {
		nodes   []Node
		pods    []*corev1.Pod
		budgets objects
	}
	one := func(pods ...*corev1.Pod) []Node { return []Node{with(node("n0", "4"), pods...)} }
	full := func(n string, edits ...func(*corev1.Pod)) []*corev1.Pod {
		return bound(n, append(edits, cpu("2"))...)("b1", "b2")
	}
	for _, tc := range []struct {
		name string
		world
		goes    []string // in the order of names
		message string   // of the first pod, "": it is placed
		waits   string   // the node that it waits for
	}{
		{
			"the least important one goes", world{nodes: one(
				bound("n0", cpu("2"), priority(5), started(time.Hour))("b1")[0], bound("n0", cpu("2"), priority(1), started(time.Hour))("b2")[0],
			), pods: []*corev1.Pod{pod("a", cpu("2"), priority(10))}},
			[]string{"b2"}, insufficient + "found a potential placement for pod on node n0, preempting 1 victims", "n0",
		},
		{
			"of equals the younger", world{nodes: one(
				bound("n0", cpu("2"), started(time.Minute))("b1")[0], bound("n0", cpu("2"), started(time.Hour))("b2")[0],
			), pods: []*corev1.Pod{pod("a", cpu("2"), priority(10))}},
			[]string{"b1"}, insufficient + "found a potential placement for pod on node n0, preempting 1 victims", "n0",
		},
		{
			"as many as have to", world{nodes: one(full("n0")...), pods: []*corev1.Pod{pod("a", cpu("3"), priority(10))}},
			[]string{"b1", "b2"}, insufficient + "found a potential placement for pod on node n0, preempting 2 victims", "n0",
		},
		{
			"nobody of the same priority", world{nodes: one(full("n0", priority(10))...), pods: []*corev1.Pod{pod("a", cpu("2"), priority(10))}},
			nil, insufficient + of + "1 No preemption victims found for incoming pod.", "",
		},
		{
			"the node is too small", world{nodes: one(full("n0")...), pods: []*corev1.Pod{pod("a", cpu("5"), priority(10), nominated("n0"))}},
			nil, insufficient + of + "1 Preemption is not helpful for scheduling.", "",
		},
		{
			"not all can go", world{nodes: one(append(full("n0", priority(20))[:1], full("n0")[1])...), pods: []*corev1.Pod{pod("a", cpu("3"), priority(10))}},
			nil, insufficient + of + "1 Insufficient cpu.", "",
		},
		{
			"it never drives others away", world{nodes: one(full("n0")...), pods: []*corev1.Pod{pod("a", cpu("2"), priority(10), func(p *corev1.Pod) {
				p.Spec.PreemptionPolicy = ptr.To(corev1.PreemptNever)
			})}},
			nil, insufficient + "not eligible due to preemptionPolicy=Never.", "",
		},
		{
			"they go already", world{nodes: one(append(full("n0", preempted)[:1], full("n0")[1])...), pods: []*corev1.Pod{pod("a", cpu("2"), priority(10), nominated("n0"))}},
			nil, insufficient + "not eligible due to a terminating pod on the nominated node.", "n0",
		},
		{
			"what was made free for it is not for others", world{nodes: one(full("n0")...), pods: []*corev1.Pod{
				pod("a", cpu("2"), priority(10)), pod("c", cpu("1")),
			}},
			[]string{"b2"}, insufficient + "found a potential placement for pod on node n0, preempting 1 victims", "n0",
		},
		{
			"a port", world{nodes: one(bound("n0", port(80))("b1", "b2")[0]), pods: []*corev1.Pod{pod("a", port(80), priority(10))}},
			[]string{"b1"}, of + "1 node(s) didn't have free ports for the requested pod ports. preemption: found a potential placement for pod on node n0, preempting 1 victims", "n0",
		},
		{
			"somebody whom it must not be near", world{nodes: one(bound("n0")("b1", "c1")...), pods: []*corev1.Pod{pod("a", priority(10), far("b", corev1.LabelHostname))}},
			[]string{"b1"}, of + "1 node(s) didn't match pod anti-affinity rules. preemption: found a potential placement for pod on node n0, preempting 1 victims", "n0",
		},
		{
			"rather one whom no budget keeps", world{nodes: one(
				bound("n0", cpu("2"), started(time.Minute))("b1")[0], bound("n0", cpu("2"), started(time.Hour))("c1")[0],
			), pods: []*corev1.Pod{pod("a", cpu("2"), priority(10))}, budgets: objects{guards("b", "b", 0)}},
			[]string{"c1"}, insufficient + "found a potential placement for pod on node n0, preempting 1 victims", "n0",
		},
		{
			"a budget that is not enough", world{nodes: one(full("n0")...), pods: []*corev1.Pod{pod("a", cpu("4"), priority(10))}, budgets: objects{guards("b", "b", 1)}},
			[]string{"b1", "b2"}, insufficient + "found a potential placement for pod on node n0, preempting 2 victims", "n0",
		},
		{
			"where nothing is violated", world{
				nodes: []Node{with(node("n0", "4"), bound("n0", cpu("4"))("b1")...), with(node("n1", "4"), bound("n1", cpu("4"), priority(5))("c1")...)},
				pods:  []*corev1.Pod{pod("a", cpu("2"), priority(10))}, budgets: objects{guards("b", "b", 0)},
			},
			[]string{"c1"}, "0/2 nodes are available: 2 Insufficient cpu. preemption: found a potential placement for pod on node n1, preempting 1 victims", "n1",
		},
		{
			"where they are less important", world{
				nodes: []Node{with(node("n0", "4"), bound("n0", cpu("4"), priority(5))("b1")...), with(node("n1", "4"), bound("n1", cpu("2"), priority(2))("c1", "c2")...)},
				pods:  []*corev1.Pod{pod("a", cpu("4"), priority(10))},
			},
			[]string{"c1", "c2"}, "0/2 nodes are available: 2 Insufficient cpu. preemption: found a potential placement for pod on node n1, preempting 2 victims", "n1",
		},
		{
			"where it helps", world{
				nodes: []Node{with(node("n0", "1")), with(node("n1", "4", taint), bound("n1", cpu("4"))("c1")...), with(node("n2", "4"), bound("n2", cpu("4"))("d1")...)},
				pods:  []*corev1.Pod{pod("a", cpu("4"), priority(10))},
			},
			[]string{"d1"}, "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: found a potential placement for pod on node n2, preempting 1 victims", "n2",
		},
		{"others went for it", world{nodes: []Node{with(node("n0", "4"), full("n0")[:1]...), with(node("n1", "4"))}, pods: []*corev1.Pod{pod("a", cpu("2"), priority(10), nominated("n0"))}}, nil, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range tc.pods {
				p.UID = types.UID("uid-" + p.Name)
			}
			for _, n := range tc.nodes { // they run, and may take their time to go
				for p := range n.Active {
					p.Spec.TerminationGracePeriodSeconds, p.Status.Phase = ptr.To[int64](30), corev1.PodRunning
				}
			}
			set := Decide(now, State{Unbound: tc.pods, Nodes: tc.nodes, Row: kind.Builtin().ByResource(kind.Pods), Others: tc.budgets})
			var goes []string
			var first *corev1.Pod
			for _, w := range set.Writes {
				p := w.Object.(*corev1.Pod)
				switch {
				case p.DeletionTimestamp != nil:
					goes = append(goes, p.Name)
					if c := kind.PodCondition(p, corev1.DisruptionTarget); c.Reason != "PreemptionByScheduler" || c.Message != "default-scheduler: preempting to accommodate a higher priority pod" {
						t.Errorf("%s goes because of %+v", p.Name, c)
					}
				case p.Name == "a":
					first = p
				case p.Spec.NodeName != "":
					t.Errorf("%s is on %s", p.Name, p.Spec.NodeName)
				}
			}
			slices.Sort(goes)
			if !slices.Equal(goes, tc.goes) {
				t.Errorf("%v go, want %v", goes, tc.goes)
			}
			c := kind.PodCondition(first, corev1.PodScheduled)
			if c.Message != tc.message || first.Status.NominatedNodeName != tc.waits || (first.Spec.NodeName == "n0") != (tc.message == "") {
				t.Errorf("%q, waits for %q, is on %q", c.Message, first.Status.NominatedNodeName, first.Spec.NodeName)
			}
			for _, n := range set.Notes {
				if n.Reason == "Preempted" && !strings.HasPrefix(n.Message, "Preempted by pod uid-a on node "+tc.waits) {
					t.Errorf("event: %s", n.Message)
				}
			}
		})
	}
}

// Whoever waited where somebody more important has driven others away need not wait there.
func TestNominationIsTaken(t *testing.T) {
	t.Parallel()
	there := bound("n0", cpu("4"))("b1")
	there[0].Spec.TerminationGracePeriodSeconds, there[0].Status.Phase = ptr.To[int64](30), corev1.PodRunning
	set := decide([]*corev1.Pod{pod("a", cpu("4"), priority(10)), pod("c", cpu("4"), priority(5), nominated("n0"))}, with(node("n0", "4"), there...))
	for _, w := range set.Writes {
		if p := w.Object.(*corev1.Pod); p.Name == "c" && p.Status.NominatedNodeName != "" {
			t.Errorf("c waits for %s", p.Status.NominatedNodeName)
		}
	}
	if len(set.Writes) != 3 {
		t.Errorf("%d writes", len(set.Writes))
	}
}
