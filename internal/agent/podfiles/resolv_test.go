package podfiles

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestResolvByPolicy(t *testing.T) {
	t.Parallel()
	const machine = "# comment\nnameserver 1.1.1.1\nsearch old.test\nsearch m.test. . \noptions ndots:2 rotate\noptions ndots:3\n"
	const ofMachine = "search m.test\nnameserver 1.1.1.1\noptions rotate ndots:3\n"
	const ofCluster = "search ns.svc.cluster.local svc.cluster.local cluster.local m.test\nnameserver 10.96.0.10\noptions ndots:5\n"
	own := &corev1.PodDNSConfig{
		Nameservers: []string{"1.1.1.1", "2.2.2.2"}, Searches: []string{"p.test", "m.test"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("1")}, {Name: "edns0"}},
	}
	cluster := netip.MustParseAddr("10.96.0.10")
	for name, c := range map[string]struct {
		spec  corev1.PodSpec
		names netip.Addr
		want  string
	}{
		"ClusterFirst":            {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, cluster, ofCluster},
		"no policy":               {corev1.PodSpec{}, cluster, ofCluster},
		"ClusterFirst, hostNet":   {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, cluster, ofMachine},
		"WithHostNet":             {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, cluster, ofCluster},
		"Default":                 {corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, cluster, ofMachine},
		"None":                    {corev1.PodSpec{DNSPolicy: corev1.DNSNone}, cluster, ""},
		"None with config":        {corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: own}, cluster, "search p.test m.test\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:1 edns0\n"},
		"Default with config":     {corev1.PodSpec{DNSPolicy: corev1.DNSDefault, DNSConfig: own}, cluster, "search m.test p.test\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions rotate ndots:1 edns0\n"},
		"ClusterFirst and config": {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: own}, cluster, "search ns.svc.cluster.local svc.cluster.local cluster.local m.test p.test\nnameserver 10.96.0.10\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:1 edns0\n"},
		"no cluster":              {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, netip.Addr{}, ofMachine},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: c.spec}
		if got, warnings := resolv(pod, machine, c.names); got != c.want || len(warnings) > 0 {
			t.Errorf("%s: got %q %v\nwant %q", name, got, warnings, c.want)
		}
	}
}

// TestLoopback: a pod with a network of its own is not told to ask where it has only itself.
func TestLoopback(t *testing.T) {
	t.Parallel()
	names := netip.MustParseAddr("10.96.0.10")
	const stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch home.test\n"
	for machine, is := range map[string]bool{
		stub: true, "nameserver 127.0.0.11\noptions ndots:0\n": true, "nameserver ::1\nnameserver 127.0.0.1": true,
		"nameserver 192.0.2.1\n": false, "nameserver 127.0.0.1\nnameserver 192.0.2.1\n": false, "": false, "search x\n": false,
	} {
		if got := onLoopback(machine); got != is {
			t.Errorf("%q: %v", machine, got)
		}
	}
	for behind, want := range map[string]string{
		"nameserver 192.0.2.7\nsearch home.test\n": "nameserver 192.0.2.7\nsearch home.test\n",
		"":                       "nameserver 10.96.0.10\noptions edns0 trust-ad\nsearch home.test\n",
		"nameserver 127.0.0.1\n": "nameserver 10.96.0.10\noptions edns0 trust-ad\nsearch home.test\n",
	} {
		if got := reachable(stub, behind, names); got != want {
			t.Errorf("behind it %q: got %q, want %q", behind, got, want)
		}
	}
}

// TestResolvHasLimits: what no libc reads is left out, and said.
func TestResolvHasLimits(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{DNSPolicy: corev1.DNSDefault}}
	many := func(n, length int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("%02d", i)+strings.Repeat("x", length-2))
		}
		return "search " + strings.Join(all, " ") + "\n"
	}
	for name, c := range map[string]struct {
		machine            string
		servers, searches  int
		warnings, contains string
	}{
		"servers":  {"nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n", 3, 0, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 1.1.1.1 1.1.1.2 1.1.1.3", ""},
		"searches": {many(33, 5), 0, 32, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: 00xxx", ""},
		"chars":    {many(20, 200), 0, 10, "Search Line limits were exceeded", ""},
		"a name":   {"search " + strings.Repeat("x", 254) + " y.test\n", 0, 1, "the applied search line is: y.test", "search y.test"},
		"fits":     {many(32, 60), 0, 32, "", ""},
	} {
		got, warnings := resolv(pod, c.machine, netip.Addr{})
		conf := readResolv(got)
		if len(conf.servers) != c.servers || len(conf.searches) != c.searches || !strings.Contains(got, c.contains) ||
			(c.warnings == "") != (len(warnings) == 0) || !strings.Contains(strings.Join(warnings, "\n"), c.warnings) {
			t.Errorf("%s: %d servers, %d searches, warnings %q", name, len(conf.servers), len(conf.searches), warnings)
		}
	}
}
