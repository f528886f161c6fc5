package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/network"
)

// The world of all cases: two namespaces, and pods that are called as their labels say. Those of
// the node have no address in their status yet; db's port "sql" is another one at db-2.
func world(policies ...*networkingv1.NetworkPolicy) (*Node, *World) {
	at := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 244, 0, last}) }
	config := network.DefaultConfig()
	node := &Node{
		Name: "here", IsPod: config.IsPod, Names: netip.MustParseAddr("10.96.0.10"), Hosts: []netip.Addr{at(1)},
		Pods: map[string][]netip.Addr{"web": {at(2)}, "db": {at(3)}, "host": {at(9)}},
	}
	pod := func(ns, name, app, node string, edit func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"app": app}}}
		p.Spec.NodeName = node
		if edit != nil {
			edit(p)
		}
		return p
	}
	ports := func(number int32) []corev1.Container {
		return []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "sql", ContainerPort: number}, {Name: "stat", ContainerPort: 9, Protocol: corev1.ProtocolUDP}}}}
	}
	own := func(uid string, edit func(*corev1.Pod)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			if p.UID = types.UID(uid); edit != nil {
				edit(p)
			}
		}
	}
	elsewhere := func(ip string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.PodIP = ip } }
	return node, &World{
		Policies: policies,
		Namespaces: []*corev1.Namespace{
			{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"team": "a"}}},
			{ObjectMeta: metav1.ObjectMeta{Name: "other", Labels: map[string]string{"team": "b"}}},
			{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", Labels: map[string]string{"kubernetes.io/metadata.name": "kube-system"}}},
		},
		Pods: []*corev1.Pod{
			pod("ns", "web", "web", "here", own("web", nil)),
			pod("ns", "db", "db", "here", own("db", func(p *corev1.Pod) { p.Spec.Containers = ports(5432) })),
			pod("ns", "db-2", "db", "there", func(p *corev1.Pod) { elsewhere("10.244.1.2")(p); p.Spec.Containers = ports(5433) }),
			pod("ns", "over", "web", "there", func(p *corev1.Pod) { elsewhere("10.244.1.3")(p); p.Status.Phase = corev1.PodSucceeded }),
			pod("ns", "host", "web", "here", own("host", func(p *corev1.Pod) { p.Spec.HostNetwork = true })),
			pod("ns", "odd", "web", "there", elsewhere("192.0.2.1")),
			pod("other", "web", "web", "there", elsewhere("10.244.1.4")),
			pod("other", "job", "job", "there", elsewhere("10.244.1.5")),
			pod("ns", "late", "web", "here", own("late", elsewhere("10.244.0.8"))),
		},
	}
}

func selecting(app string) metav1.LabelSelector {
	if app == "" {
		return metav1.LabelSelector{}
	}
	return metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func ingress(app string, rules ...networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: selecting(app), Ingress: rules, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
	}}
}

func egress(app string, rules ...networkingv1.NetworkPolicyEgressRule) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: selecting(app), Egress: rules, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
	}}
}

// peers are written "ns-selector/pod-selector", each of which may be "-" for none, or as a block.
func peers(texts ...string) (list []networkingv1.NetworkPolicyPeer) {
	for _, text := range texts {
		if strings.Contains(text, ".") {
			cidr, except, _ := strings.Cut(text, " ")
			list = append(list, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr, Except: strings.Fields(except)}})
			continue
		}
		ns, pod, _ := strings.Cut(text, "/")
		p := networkingv1.NetworkPolicyPeer{}
		if ns != "-" {
			p.NamespaceSelector = &metav1.LabelSelector{}
			if ns != "" {
				p.NamespaceSelector.MatchLabels = map[string]string{"team": ns}
			}
		}
		if pod != "-" {
			p.PodSelector = ptr.To(selecting(pod))
		}
		list = append(list, p)
	}
	return list
}

func portOf(protocol corev1.Protocol, at any, end int32) networkingv1.NetworkPolicyPort {
	p := networkingv1.NetworkPolicyPort{Protocol: &protocol}
	switch at := at.(type) {
	case int:
		p.Port = ptr.To(intstr.FromInt32(int32(at)))
	case string:
		p.Port = ptr.To(intstr.FromString(at))
	}
	if end > 0 {
		p.EndPort = &end
	}
	return p
}

type from = networkingv1.NetworkPolicyIngressRule
type to = networkingv1.NetworkPolicyEgressRule
type portList = []networkingv1.NetworkPolicyPort

// say writes down what a table lets through, with addresses in place of groups.
func say(p *network.Policies) string {
	var lines []string
	for direction, lists := range map[string]map[netip.Addr]string{"to": p.Ingress, "from": p.Egress} {
		for _, pod := range slices.SortedFunc(maps.Keys(lists), netip.Addr.Compare) {
			line := direction + " " + pod.String() + ":"
			for _, r := range p.Lists[lists[pod]] {
				who := "all"
				if r.Group != "" {
					who = fmt.Sprint(p.Groups[r.Group])
				} else if r.Block.IsValid() {
					who = fmt.Sprint(r.Block, r.Except)
				}
				line += fmt.Sprintf(" %s/%d:%d-%d", who, r.Protocol, r.First, r.Last)
				if r.Ingress != (direction == "to") {
					line += " in the wrong direction"
				}
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestTable(t *testing.T) {
	t.Parallel()
	both := ingress("web", from{})
	both.Spec.PolicyTypes = nil
	both.Spec.Egress = []to{{To: peers("-/db")}}
	for name, test := range map[string]struct {
		policies []*networkingv1.NetworkPolicy
		want     string
	}{
		"no policy":             {nil, ""},
		"nothing comes in":      {[]*networkingv1.NetworkPolicy{ingress("")}, "to 10.244.0.2:\nto 10.244.0.3:"},
		"nothing goes out":      {[]*networkingv1.NetworkPolicy{egress("web")}, "from 10.244.0.2:"},
		"everything comes in":   {[]*networkingv1.NetworkPolicy{ingress("web", from{})}, "to 10.244.0.2: all/0:0-0"},
		"both, without types":   {[]*networkingv1.NetworkPolicy{both}, "from 10.244.0.2: [10.244.0.3 10.244.1.2]/0:0-0\nto 10.244.0.2: all/0:0-0"},
		"pods of the namespace": {[]*networkingv1.NetworkPolicy{ingress("db", from{From: peers("-/web")})}, "to 10.244.0.3: [10.244.0.2]/0:0-0"},
		"pods of others":        {[]*networkingv1.NetworkPolicy{ingress("db", from{From: peers("b/web")})}, "to 10.244.0.3: [10.244.1.4]/0:0-0"},
		"all pods of some":      {[]*networkingv1.NetworkPolicy{ingress("db", from{From: peers("b/-")})}, "to 10.244.0.3: [10.244.1.4 10.244.1.5]/0:0-0"},
		"pods anywhere":         {[]*networkingv1.NetworkPolicy{ingress("db", from{From: peers("/web")})}, "to 10.244.0.3: [10.244.0.2 10.244.1.4]/0:0-0"},
		"nobody there is":       {[]*networkingv1.NetworkPolicy{ingress("db", from{From: peers("z/-")})}, "to 10.244.0.3: []/0:0-0"},
		"blocks": {[]*networkingv1.NetworkPolicy{ingress("db", from{From: peers("192.0.2.9/24 192.0.2.128/25 192.0.2.1/32")})},
			"to 10.244.0.3: 192.0.2.0/24 [192.0.2.128/25 192.0.2.1/32]/0:0-0"},
		"several rules": {[]*networkingv1.NetworkPolicy{ingress("db", from{From: peers("-/web", "192.0.2.0/24"), Ports: portList{portOf("TCP", 80, 90), portOf("UDP", nil, 0), portOf("SCTP", 7, 0)}}, from{Ports: portList{portOf("TCP", 1, 0)}})},
			"to 10.244.0.3: [10.244.0.2]/6:80-90 [10.244.0.2]/17:0-0 [10.244.0.2]/132:7-7 192.0.2.0/24 []/6:80-90 192.0.2.0/24 []/17:0-0 192.0.2.0/24 []/132:7-7 all/6:1-1"},
		"several policies": {[]*networkingv1.NetworkPolicy{ingress("", from{Ports: portList{portOf("TCP", 1, 0)}}), ingress("db", from{Ports: portList{portOf("TCP", 2, 0)}})},
			"to 10.244.0.2: all/6:1-1\nto 10.244.0.3: all/6:1-1 all/6:2-2"},
		"a port's name is the pod's": {[]*networkingv1.NetworkPolicy{ingress("", from{Ports: portList{portOf("TCP", "sql", 0), portOf("UDP", "sql", 0)}})},
			"to 10.244.0.2:\nto 10.244.0.3: all/6:5432-5432"},
		"or that of each that is reached": {[]*networkingv1.NetworkPolicy{egress("web", to{To: peers("-/db"), Ports: portList{portOf("TCP", "sql", 0), portOf("UDP", "stat", 0)}})},
			"from 10.244.0.2: [10.244.0.3]/6:5432-5432 [10.244.1.2]/6:5433-5433 [10.244.0.3 10.244.1.2]/17:9-9"},
		"wherever that is": {[]*networkingv1.NetworkPolicy{egress("web", to{Ports: portList{portOf("TCP", "sql", 0)}})},
			"from 10.244.0.2: [10.244.0.3]/6:5432-5432 [10.244.1.2]/6:5433-5433"},
		"a block has no names": {[]*networkingv1.NetworkPolicy{egress("web", to{To: peers("10.0.0.0/8"), Ports: portList{portOf("TCP", "sql", 0)}})}, "from 10.244.0.2:"},
		"names are asked for": {[]*networkingv1.NetworkPolicy{egress("web", to{
			To: []networkingv1.NetworkPolicyPeer{{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "kube-system"}},
				PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}},
			}}, Ports: portList{portOf("UDP", 53, 0), portOf("TCP", "dns-tcp", 0)},
		})}, "from 10.244.0.2: [10.96.0.10]/17:53-53 [10.96.0.10]/6:53-53"},
		"a policy of another namespace": {[]*networkingv1.NetworkPolicy{func() *networkingv1.NetworkPolicy {
			p := ingress("")
			p.Namespace = "other"
			return p
		}()}, ""},
		"IPv6": {[]*networkingv1.NetworkPolicy{ingress("db", from{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "fd00::/8"}}}})}, "to 10.244.0.3: fd00::/8 []/0:0-0"},
	} {
		node, w := world(test.policies...)
		got := Table(node, w)
		if text := say(&got); text != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, text, test.want)
		}
	}
}

// What pods come and go does not change rules, and pods that are alike have the same.
func TestRulesStay(t *testing.T) {
	t.Parallel()
	node, w := world(ingress("", from{From: peers("-/web")}))
	before := Table(node, w)
	if len(before.Lists) != 1 || len(before.Ingress) != 2 {
		t.Errorf("%d lists for %d pods", len(before.Lists), len(before.Ingress))
	}
	node.Pods["late"] = []netip.Addr{netip.MustParseAddr("10.244.0.8")}
	after := Table(node, w)
	if !maps.Equal(keys(before.Lists), keys(after.Lists)) || !maps.Equal(keys(before.Groups), keys(after.Groups)) || len(after.Ingress) != 3 {
		t.Errorf("got %v, was %v", after, before)
	}
}

// TestBothFamilies: what is said of a pod is said of each of its addresses, here and elsewhere.
func TestBothFamilies(t *testing.T) {
	t.Parallel()
	node, w := world(ingress("db", from{From: peers("-/")}), egress("web"))
	six := netip.MustParseAddr("fd00:10:244::3")
	node.Pods["db"] = append(node.Pods["db"], six)
	for _, pod := range w.Pods {
		if pod.Spec.NodeName != node.Name && pod.Status.PodIP != "" {
			pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}, {IP: "fd00:10:244::77"}, {IP: "2001:db8::1"}}
		}
	}
	got := Table(node, w)
	if list := got.Ingress[six]; list == "" || list != got.Ingress[node.Pods["db"][0]] {
		t.Errorf("the lists of db: %v", got.Ingress)
	}
	if len(got.Egress) != 1 {
		t.Errorf("the lists of web: %v", got.Egress)
	}
	for name, group := range got.Groups {
		if !slices.Contains(group, six) || slices.Contains(group, netip.MustParseAddr("2001:db8::1")) {
			t.Errorf("%s are %v", name, group)
		}
	}
}

func keys[V any](m map[string]V) map[string]bool {
	set := make(map[string]bool, len(m))
	for k := range m {
		set[k] = true
	}
	return set
}

func TestSelects(t *testing.T) {
	t.Parallel()
	_, w := world()
	web := w.Pods[0]
	if !Selects([]*networkingv1.NetworkPolicy{ingress("db"), egress("web")}, web) || Selects([]*networkingv1.NetworkPolicy{ingress("db")}, web) || Selects(nil, web) {
		t.Error("web is selected by others than those that say so")
	}
	if web.Namespace = "other"; Selects([]*networkingv1.NetworkPolicy{ingress("")}, web) {
		t.Error("a policy is about another namespace")
	}
}
