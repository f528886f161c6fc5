package place

import (
	"iter"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// objects are those that a decision may look at besides pods and nodes.
type objects []change.Object

func (o objects) Get(key change.Key) (change.Object, bool) {
	for _, obj := range o {
		if obj.GetName() == key.Name && obj.GetNamespace() == key.Namespace {
			return obj, true
		}
	}
	return nil, false
}

func (o objects) List(resource change.Resource, _ string) iter.Seq[change.Object] {
	return func(yield func(change.Object) bool) {
		for _, obj := range o {
			if (resource == kind.Namespaces) == (obj.GetNamespace() == "") && !yield(obj) {
				return
			}
		}
	}
}

func namespace(name, key, value string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{key: value}}}
}

// zones returns nodes n0, n1 and so on in these zones; "" is none.
func zones(names ...string) (nodes []*corev1.Node) {
	for i, zone := range names {
		n := node("n"+string(rune('0'+i)), "4")
		if zone != "" {
			n.Labels["zone"] = zone
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// bound are pods on node n, by their names: the first letter is their label app.
func bound(n string, edits ...func(*corev1.Pod)) func(names ...string) []*corev1.Pod {
	return func(names ...string) (all []*corev1.Pod) {
		for _, name := range names {
			p := pod(name, append(edits, app(name[:1]))...)
			p.Spec.NodeName = n
			all = append(all, p)
		}
		return all
	}
}

func app(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { metav1.SetMetaDataLabel(&p.ObjectMeta, "app", value) }
}

func in(ns string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Namespace = ns } }

func selects(value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": value}}
}

// relation edits the affinity of a pod.
func relation(edit func(*corev1.PodAffinity, *corev1.PodAntiAffinity)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if p.Spec.Affinity == nil {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}, PodAntiAffinity: &corev1.PodAntiAffinity{}}
		}
		edit(p.Spec.Affinity.PodAffinity, p.Spec.Affinity.PodAntiAffinity)
	}
}

func near(value, key string, edits ...func(*corev1.PodAffinityTerm)) func(*corev1.Pod) {
	return relation(func(a *corev1.PodAffinity, _ *corev1.PodAntiAffinity) {
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, affinityTerm(value, key, edits...))
	})
}

func far(value, key string, edits ...func(*corev1.PodAffinityTerm)) func(*corev1.Pod) {
	return relation(func(_ *corev1.PodAffinity, a *corev1.PodAntiAffinity) {
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, affinityTerm(value, key, edits...))
	})
}

func likes(value, key string, weight int32) func(*corev1.Pod) {
	return relation(func(a *corev1.PodAffinity, _ *corev1.PodAntiAffinity) {
		a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: affinityTerm(value, key)})
	})
}

func dislikes(value, key string, weight int32) func(*corev1.Pod) {
	return relation(func(_ *corev1.PodAffinity, a *corev1.PodAntiAffinity) {
		a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: affinityTerm(value, key)})
	})
}

func affinityTerm(value, key string, edits ...func(*corev1.PodAffinityTerm)) corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: selects(value)}
	for _, edit := range edits {
		edit(&t)
	}
	return t
}

func spreads(key string, skew int32, action corev1.UnsatisfiableConstraintAction, edits ...func(*corev1.TopologySpreadConstraint)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.TopologySpreadConstraint{TopologyKey: key, MaxSkew: skew, WhenUnsatisfiable: action, LabelSelector: selects("a")}
		for _, edit := range edits {
			edit(&c)
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

// placed says where each pod goes, or why it goes nowhere, up to what is said of preemption.
func placed(set change.Set) (all []string) {
	for _, w := range set.Writes {
		p, ok := w.Object.(*corev1.Pod)
		switch {
		case !ok:
			all = append(all, "-"+w.Key.Name)
		case p.DeletionTimestamp != nil:
			all = append(all, "-"+p.Name)
		case p.Spec.NodeName != "":
			all = append(all, p.Name+"="+p.Spec.NodeName)
		default:
			why, _, _ := strings.Cut(kind.PodCondition(p, corev1.PodScheduled).Message, " preemption:")
			all = append(all, p.Name+": "+strings.TrimPrefix(why, "0/3 nodes are available: "))
		}
	}
	return all
}

// TestRelations: pods that have to be near others or far from them, and such that are to be spread.
// The nodes are n0 and n1 in zone x, and n2 in zone y or none.
func TestRelations(t *testing.T) {
	t.Parallel()
	const host, zone, must = corev1.LabelHostname, "zone", corev1.DoNotSchedule
	everywhere := func(t *corev1.PodAffinityTerm) { t.NamespaceSelector = &metav1.LabelSelector{} }
	team := func(t *corev1.PodAffinityTerm) {
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}}
	}
	only := func(ns string) func(*corev1.PodAffinityTerm) {
		return func(t *corev1.PodAffinityTerm) { t.Namespaces = []string{ns} }
	}
	xxy := []string{"x", "x", "y"}
	on := func(i int, edits ...func(*corev1.Pod)) func(...string) []*corev1.Pod {
		return bound("n"+string(rune('0'+i)), edits...)
	}
	for _, tc := range []struct {
		name  string
		zones []string
		there [][]*corev1.Pod // on the nodes
		pods  []*corev1.Pod
		want  []string
	}{
		{"near another", xxy, [][]*corev1.Pod{nil, nil, on(2)("b1")}, []*corev1.Pod{pod("a", near("b", host))}, []string{"a=n2"}},
		{"in its zone, where there is more room", xxy, [][]*corev1.Pod{on(0)("b1", "c1")}, []*corev1.Pod{pod("a", near("b", zone))}, []string{"a=n1"}},
		{
			"near another that is nowhere", xxy, nil, []*corev1.Pod{pod("a", near("b", zone))},
			[]string{"a: 3 node(s) didn't match pod affinity rules."},
		},
		{"near itself: the first may be anywhere, the others follow", xxy, [][]*corev1.Pod{on(0)("c1"), on(1)("c2")}, []*corev1.Pod{
			pod("a1", app("a"), near("a", zone)), pod("a2", app("a"), near("a", zone)),
		}, []string{"a1=n2", "a2=n2"}},
		{"near two", xxy, [][]*corev1.Pod{on(0)("b1"), nil, on(2)("c1")}, []*corev1.Pod{pod("a", near("b", zone), near("c", zone))}, []string{"a: 3 node(s) didn't match pod affinity rules."}},
		{"far from another", xxy, [][]*corev1.Pod{on(0)("b1")}, []*corev1.Pod{pod("a", far("b", zone))}, []string{"a=n2"}},
		{
			"far from its own", xxy, nil, []*corev1.Pod{pod("a1", app("a"), far("a", zone)), pod("a2", app("a"), far("a", zone)), pod("a3", app("a"), far("a", zone))},
			[]string{"a1=n0", "a2=n2", "a3: 3 node(s) didn't match pod anti-affinity rules."},
		},
		{"others want to be far from it", xxy, [][]*corev1.Pod{on(0, far("a", zone))("b1")}, []*corev1.Pod{pod("a", app("a"))}, []string{"a=n2"}},
		{
			"others everywhere do", xxy, [][]*corev1.Pod{on(0, far("a", zone))("b1"), nil, on(2, far("a", zone))("b2")}, []*corev1.Pod{pod("a", app("a"))},
			[]string{"a: 3 node(s) didn't satisfy existing pods anti-affinity rules."},
		},
		{"others of another namespace", xxy, [][]*corev1.Pod{on(0, in("other"))("b1")}, []*corev1.Pod{pod("a", near("b", host))}, []string{"a: 3 node(s) didn't match pod affinity rules."}},
		{"of that namespace", xxy, [][]*corev1.Pod{nil, on(1, in("other"))("b1")}, []*corev1.Pod{pod("a", near("b", host, only("other")))}, []string{"a=n1"}},
		{"of all", xxy, [][]*corev1.Pod{nil, on(1, in("other"))("b1")}, []*corev1.Pod{pod("a", near("b", host, everywhere))}, []string{"a=n1"}},
		{"of a team", xxy, [][]*corev1.Pod{on(0)("b1"), on(1, in("other"))("b1")}, []*corev1.Pod{pod("a", near("b", host, team))}, []string{"a=n1"}},
		{"a node without the label", []string{"x", "", ""}, nil, []*corev1.Pod{pod("a", app("a"), near("a", zone))}, []string{"a=n0"}},

		{"spread over zones", xxy, [][]*corev1.Pod{on(0)("a1")}, []*corev1.Pod{pod("a2", app("a"), spreads(zone, 1, must))}, []string{"a2=n2"}},
		{
			"spread over three nodes, one of them full", xxy, [][]*corev1.Pod{nil, nil, on(2)("b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9", "b0")},
			[]*corev1.Pod{pod("a1", app("a"), spreads(host, 1, must)), pod("a2", app("a"), spreads(host, 1, must)), pod("a3", app("a"), spreads(host, 1, must))},
			[]string{"a1=n0", "a2=n1", "a3: 1 Too many pods, 2 node(s) didn't match pod topology spread constraints."},
		},
		{
			"no such label", []string{"", "", ""}, nil, []*corev1.Pod{pod("a1", app("a"), spreads(zone, 1, must))},
			[]string{"a1: 3 node(s) didn't match pod topology spread constraints (missing required label)."},
		},
		{"a skew of two", xxy, [][]*corev1.Pod{on(0)("a1")}, []*corev1.Pod{pod("a2", app("a"), spreads(host, 2, must), func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{host: "n0"}
		})}, []string{"a2=n0"}},
		{"one that is not counted itself", xxy, [][]*corev1.Pod{on(0)("a1")}, []*corev1.Pod{pod("b", app("b"), spreads(host, 1, must), func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{host: "n0"}
		})}, []string{"b=n0"}},
		{"fewer zones than there have to be", xxy, [][]*corev1.Pod{on(0)("a1"), nil, on(2)("a2")}, []*corev1.Pod{pod("a3", app("a"), spreads(zone, 1, must, func(c *corev1.TopologySpreadConstraint) {
			c.MinDomains = ptr.To[int32](3)
		}))}, []string{"a3: 3 node(s) didn't match pod topology spread constraints."}},
		{"those that go do not count", xxy, [][]*corev1.Pod{on(0, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} })("a1")}, []*corev1.Pod{
			pod("a2", app("a"), spreads(host, 1, must), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{host: "n0"} }),
		}, []string{"a2=n0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := State{Unbound: tc.pods, Row: kind.Builtin().ByResource(kind.Pods), Others: objects{namespace("default", "a", "b"), namespace("other", "team", "x")}}
			for i, n := range zones(tc.zones...) {
				var there []*corev1.Pod
				if i < len(tc.there) {
					there = tc.there[i]
				}
				s.Nodes = append(s.Nodes, with(n, there...))
			}
			if got := placed(Decide(now, s)); !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

// TestPreferences: of several nodes that a pod may have, the one that it likes best.
func TestPreferences(t *testing.T) {
	t.Parallel()
	const zone = "zone"
	prefers := func(key, value string, weight int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: weight, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}},
			}}}}
		}
	}
	avoided := func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "slow", Effect: corev1.TaintEffectPreferNoSchedule})
	}
	nodes := func(edit func(i int, n *corev1.Node)) []*corev1.Node {
		all := zones("x", "y", "z")
		for i, n := range all {
			edit(i, n)
		}
		return all
	}
	plain := nodes(func(int, *corev1.Node) {})
	for _, tc := range []struct {
		name  string
		nodes []*corev1.Node
		there [][]*corev1.Pod
		pod   *corev1.Pod
		want  string
	}{
		{"all equal", plain, nil, pod("a"), "n0"},
		{"the emptiest", plain, [][]*corev1.Pod{bound("n0")("b1", "b2"), bound("n1")("b1"), bound("n2")("b1", "b2")}, pod("a"), "n1"},
		{"the one of which least is asked", plain, [][]*corev1.Pod{bound("n0", cpu("2"))("b1"), bound("n1", cpu("1"))("b1", "b2", "b3"), bound("n2", cpu("500m"))("b1", "b2")}, pod("a"), "n2"},
		{"a zone", plain, nil, pod("a", prefers(zone, "z", 1)), "n2"},
		{"no taint", nodes(func(i int, n *corev1.Node) {
			if i < 2 {
				avoided(n)
			}
		}), nil, pod("a"), "n2"},
		{"a taint that it tolerates", nodes(func(i int, n *corev1.Node) {
			if i == 0 {
				avoided(n)
			}
		}), nil, pod("a", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "slow", Operator: corev1.TolerationOpExists}}
		}), "n0"},
		{"near another", plain, [][]*corev1.Pod{nil, bound("n1")("b1")}, pod("a", likes("b", zone, 10)), "n1"},
		{"far from another", plain, [][]*corev1.Pod{bound("n0")("b1"), bound("n1")("c1"), bound("n2")("b2")}, pod("a", dislikes("b", zone, 10)), "n1"},
		{"where another likes it", plain, [][]*corev1.Pod{bound("n0")("c1"), bound("n1")("c2"), bound("n2", likes("a", zone, 5))("b1")}, pod("a", app("a")), "n2"},
		{"where another has to have it", plain, [][]*corev1.Pod{bound("n0")("c1"), bound("n1", near("a", zone))("b1"), bound("n2")("c2")}, pod("a", app("a")), "n1"},
		{"where few are like it", plain, [][]*corev1.Pod{bound("n0")("a1", "a2"), bound("n1")("a3"), bound("n2")("a4", "a5")}, pod("a", app("a"), spreads(zone, 1, corev1.ScheduleAnyway)), "n1"},
		{"it has to be one, and would rather be another", plain, nil, pod("a", prefers(zone, "z", 100), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{zone: "y"} }), "n1"},
	} {
		s := State{Unbound: []*corev1.Pod{tc.pod}, Row: kind.Builtin().ByResource(kind.Pods)}
		for i, n := range tc.nodes {
			var there []*corev1.Pod
			if i < len(tc.there) {
				there = tc.there[i]
			}
			s.Nodes = append(s.Nodes, with(n, there...))
		}
		if got := placed(Decide(now, s)); !slices.Equal(got, []string{"a=" + tc.want}) {
			t.Errorf("%s: got %v, want %s", tc.name, got, tc.want)
		}
	}
}
