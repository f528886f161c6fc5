package place

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func node(name string, cpu string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse(cpu),
			corev1.ResourceMemory: resource.MustParse("4Gi"),
			corev1.ResourcePods:   resource.MustParse("10"),
		}},
	}
	for _, e := range edit {
		e(n)
	}
	return n
}

func pod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: "7"},
		Spec: corev1.PodSpec{
			SchedulerName: "default-scheduler",
			Containers:    []corev1.Container{{Name: "c"}},
		},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func cpu(q string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}
	}
}

func port(n int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: n, HostPort: n, Protocol: corev1.ProtocolTCP}}
	}
}

func volumes(sources ...corev1.VolumeSource) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i, s := range sources {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i), VolumeSource: s})
		}
	}
}

func claiming(c corev1.PodResourceClaim) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c.Name = "c"
		p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, c)
	}
}

func taint(n *corev1.Node) {
	n.Spec.Taints = []corev1.Taint{{Key: "team", Value: "a", Effect: corev1.TaintEffectNoSchedule}}
}

func decide(unbound []*corev1.Pod, nodes ...Node) change.Set {
	return Decide(now, State{Unbound: unbound, Nodes: nodes, Row: kind.Builtin().ByResource(kind.Pods)})
}

func with(n *corev1.Node, pods ...*corev1.Pod) Node {
	return NewNode(n, slices.Values(pods))
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const none = " preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
	const never = " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
	many := make([]*corev1.Pod, 10)
	for i := range many {
		many[i] = pod(fmt.Sprint("m", i))
	}
	for _, tc := range []struct {
		name  string
		pods  []*corev1.Pod
		nodes []Node
		want  []string // pod=node, or pod: message
	}{
		{"no node", []*corev1.Pod{pod("a")}, nil, []string{"a: no nodes available to schedule pods"}},
		{"fits", []*corev1.Pod{pod("a", cpu("1"))}, []Node{with(node("n", "2"), pod("x", cpu("1")))}, []string{"a=n"}},
		{
			"the second of two is one too many",
			[]*corev1.Pod{pod("a", cpu("1500m")), pod("b", cpu("1"))},
			[]Node{with(node("n", "2"))},
			[]string{"a=n", "b: 0/1 nodes are available: 1 Insufficient cpu." + none},
		},
		{"full of pods", []*corev1.Pod{pod("a")}, []Node{with(node("n", "2"), many...)}, []string{"a: 0/1 nodes are available: 1 Too many pods." + none}},
		{"emptier node first", []*corev1.Pod{pod("a"), pod("b")}, []Node{with(node("n", "2"), many[:3]...), with(node("o", "2"), many[:2]...)}, []string{"a=o", "b=n"}},
		{
			"selector", []*corev1.Pod{pod("a", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"gpu": "yes"} })},
			[]Node{with(node("n", "2"))},
			[]string{"a: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector." + never},
		},
		{
			"taint", []*corev1.Pod{pod("a"), pod("b", func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "team", Operator: corev1.TolerationOpExists}}
			})},
			[]Node{with(node("n", "2", taint))},
			[]string{"a: 0/1 nodes are available: 1 node(s) had untolerated taint(s)." + never, "b=n"},
		},
		{
			"host port", []*corev1.Pod{pod("a", port(80)), pod("b", port(80)), pod("c", port(81))},
			[]Node{with(node("n", "2"))},
			[]string{"a=n", "b: 0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports." + none, "c=n"},
		},
		{
			"cordoned", []*corev1.Pod{pod("a")},
			[]Node{with(node("n", "2", func(n *corev1.Node) { n.Spec.Unschedulable = true }))},
			[]string{"a: 0/1 nodes are available: 1 node(s) were unschedulable." + never},
		},
		{
			"a claim that is not there", []*corev1.Pod{
				pod("a", volumes(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, corev1.VolumeSource{
					PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
				})),
				pod("b", volumes(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}})),
				pod("c", claiming(corev1.PodResourceClaim{ResourceClaimName: ptr.To("gpu")})),
				pod("d", claiming(corev1.PodResourceClaim{ResourceClaimTemplateName: ptr.To("gpu")})),
				pod("e", claiming(corev1.PodResourceClaim{ResourceClaimTemplateName: ptr.To("gpu")}), func(p *corev1.Pod) {
					p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "c"}} // none was needed
				}),
			},
			[]Node{with(node("n", "2"))},
			[]string{
				`a: 0/1 nodes are available: persistentvolumeclaim "data" not found.` + never,
				`b: 0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "b-v0".` + never,
				`c: 0/1 nodes are available: resourceclaim.resource.k8s.io "gpu" not found.` + never,
				`d: 0/1 nodes are available: pod "default/d": ResourceClaim not created yet.` + never,
				"e=n",
			},
		},
		{"no node, and a claim", []*corev1.Pod{pod("a", claiming(corev1.PodResourceClaim{ResourceClaimName: ptr.To("gpu")}))}, nil, []string{"a: no nodes available to schedule pods"}},
		{
			"not ours", []*corev1.Pod{
				pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }),
				pod("other", func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }),
				pod("going", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }),
			},
			[]Node{with(node("n", "2"))}, nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			set := decide(tc.pods, tc.nodes...)
			var got []string
			for _, w := range set.Writes {
				p := w.Object.(*corev1.Pod)
				if p.Spec.NodeName != "" {
					got = append(got, p.Name+"="+p.Spec.NodeName)
				} else {
					got = append(got, p.Name+": "+p.Status.Conditions[0].Message)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
			if len(set.Notes) != len(set.Writes) {
				t.Errorf("%d notes for %d writes", len(set.Notes), len(set.Writes))
			}
		})
	}
}

func TestRefusalIsSaidOnce(t *testing.T) {
	t.Parallel()
	first := decide([]*corev1.Pod{pod("a", cpu("3"))}, with(node("n", "2")))
	again := decide([]*corev1.Pod{first.Writes[0].Object.(*corev1.Pod)}, with(node("n", "2")))
	if !again.Empty() {
		t.Errorf("said again: %+v", again)
	}
}

// What is decided of many pods at once is what is decided of each alone, after those before it.
func TestOfManyAsOfEach(t *testing.T) {
	t.Parallel()
	edits := []func(*corev1.Pod){
		cpu("100m"), cpu("700m"), port(80), priority(-5), priority(7),
		func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "i"}}; cpu("1500m")(p) },
		func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}
			p.Spec.InitContainers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("300m")}
		},
		func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "team", Operator: corev1.TolerationOpExists, TolerationSeconds: ptr.To[int64](3)}}
		},
		func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": "b"} },
		func(p *corev1.Pod) {
			p.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m")}
		},
		func(p *corev1.Pod) { p.Spec.PreemptionPolicy = ptr.To(corev1.PreemptNever) },
		func(p *corev1.Pod) { p.Spec.Affinity = awayFrom("odd") },
		func(p *corev1.Pod) { p.Labels = map[string]string{"app": "odd"} },
		func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} },
	}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		names := []string{"a", "b"}
		nodes := map[string]*corev1.Node{"a": node("a", "2", taint), "b": node("b", "1")}
		bound := map[string][]*corev1.Pod{}
		for i := range 8 { // of more importance than those that come, so that nobody goes for them
			on := names[r.IntN(2)]
			bound[on] = append(bound[on], pod(fmt.Sprint("was-", i), edits[r.IntN(2)], priority(100)))
		}
		state := func() (all []Node) {
			for _, name := range names {
				all = append(all, with(nodes[name], bound[name]...))
			}
			return all
		}
		var waiting []*corev1.Pod
		for i := range 60 {
			var chosen []func(*corev1.Pod)
			for range r.IntN(3) {
				chosen = append(chosen, edits[r.IntN(len(edits))])
			}
			waiting = append(waiting, pod(fmt.Sprint("p-", i), append(chosen, priority(0))...))
		}
		got := map[string]*corev1.Pod{}
		for _, w := range decide(waiting, state()...).Writes {
			got[w.Object.GetName()] = w.Object.(*corev1.Pod)
		}
		for _, p := range waiting {
			set := decide([]*corev1.Pod{p}, state()...)
			if len(set.Writes) == 0 {
				if got[p.Name] != nil {
					t.Fatalf("seed %d: %s alone: nothing, among others %+v", seed, p.Name, got[p.Name].Status.Conditions)
				}
				continue
			}
			alone, among := set.Writes[0].Object.(*corev1.Pod), got[p.Name]
			if among == nil || !equality.Semantic.DeepEqual(alone.Status, among.Status) {
				t.Fatalf("seed %d: %s: %v %v alone %v, among others %v", seed, p.Name, p.Labels, p.Spec.Affinity != nil, alone.Status.Conditions, among.Spec.NodeName)
			}
			if on := among.Spec.NodeName; on != "" { // of two that are as good, either
				bound[on] = append(bound[on], among)
			}
		}
	}
}

func awayFrom(app string) *corev1.Affinity {
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, TopologyKey: "kubernetes.io/hostname",
	}}}}
}

func TestTrivial(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		pod  *corev1.Pod
		node Node
		want bool
	}{
		{"asks nothing", pod("a"), Node{Node: node("n", "2")}, true},
		{"asks cpu", pod("a", cpu("1")), Node{Node: node("n", "2")}, false},
		{"asks a port", pod("a", port(80)), Node{Node: node("n", "2")}, false},
		{"claims", pod("a", claiming(corev1.PodResourceClaim{ResourceClaimName: ptr.To("gpu")})), Node{Node: node("n", "2")}, false},
		{"claims a volume", pod("a", volumes(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}})), Node{Node: node("n", "2")}, false},
		{"half full", pod("a"), Node{Node: node("n", "2"), Count: 5}, false},
		{"tainted", pod("a"), Node{Node: node("n", "2", taint)}, false},
	} {
		if got := Trivial(tc.pod, tc.node); got != tc.want {
			t.Errorf("%s: Trivial = %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestBatchesLargeBacklogs(t *testing.T) {
	t.Parallel()
	var pods []*corev1.Pod
	for i := range batch + 1 {
		pods = append(pods, pod(fmt.Sprint("p", i)))
	}
	set := decide(pods, with(node("n", "2")))
	if len(set.Writes) != batch || !set.WakeAt.Equal(now) {
		t.Errorf("%d writes, wake at %v", len(set.Writes), set.WakeAt)
	}
}

func priority(n int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Priority = &n }
}

// Of those that wait for the same room, the one of the highest priority gets it, then
// the oldest.
func TestHigherPriorityFirst(t *testing.T) {
	t.Parallel()
	s := State{
		Nodes:   []Node{{Node: node("a", "2"), Active: func(func(*corev1.Pod) bool) {}}},
		Unbound: []*corev1.Pod{pod("old", cpu("1")), pod("low", cpu("1"), priority(-5)), pod("high", cpu("1"), priority(7)), pod("young", cpu("1"))},
	}
	set := decide(s.Unbound, s.Nodes...)
	var bound []string
	for _, w := range set.Writes {
		if p := w.Object.(*corev1.Pod); p.Spec.NodeName != "" {
			bound = append(bound, p.Name)
		}
	}
	if want := []string{"high", "old"}; !slices.Equal(bound, want) {
		t.Errorf("bound are %v, want %v", bound, want)
	}
}
