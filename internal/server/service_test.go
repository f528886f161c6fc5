package server

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/kind"
)

// service reads a Service from the YAML of its spec.
func service(t *testing.T, name, spec string) *corev1.Service {
	t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &s.Spec); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return s
}

func (f *fixture) createService(t *testing.T, name, spec string) (*corev1.Service, error) {
	t.Helper()
	return f.client.CoreV1().Services("default").Create(t.Context(), service(t, name, spec), metav1.CreateOptions{})
}

// allotted says what a Service was given: which of its addresses and ports there are, not
// which number a free one has.
func allotted(s *corev1.Service) string {
	ip := s.Spec.ClusterIP
	if addr, err := netip.ParseAddr(ip); err == nil && addr.Compare(netip.MustParseAddr("10.96.1.0")) >= 0 && kind.ServiceRange.Contains(addr) {
		ip = "dynamic"
	}
	said := fmt.Sprintf("ip=%s", ip)
	if len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] != s.Spec.ClusterIP || (len(s.Spec.ClusterIPs) > 0) != (ip != "") {
		said += fmt.Sprintf(" BUT ips=%v", s.Spec.ClusterIPs)
	}
	if s.Spec.IPFamilyPolicy != nil {
		said += fmt.Sprintf(" %s%v", *s.Spec.IPFamilyPolicy, s.Spec.IPFamilies)
	}
	port := func(p int32) string {
		if p >= 30086 && p <= 32767 {
			return "dynamic"
		}
		return fmt.Sprint(p)
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			said += fmt.Sprintf(" %d=%s", p.Port, port(p.NodePort))
		}
	}
	if p := s.Spec.HealthCheckNodePort; p != 0 {
		said += " health=" + port(p)
	}
	return said
}

func TestServicesGetAddresses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, first := range []string{"clusterIP: 10.96.0.50\nports: [{port: 80}]", "type: NodePort\nclusterIP: 10.96.0.51\nports: [{port: 80, nodePort: 30005}]"} {
		if _, err := f.createService(t, fmt.Sprint("first-", len(first)), first); err != nil {
			t.Fatal(err)
		}
	}
	const single, dual = " SingleStack[IPv4]", " RequireDualStack[IPv4 IPv6]"
	invalid := func(name, what string) string { return fmt.Sprintf("Service %q is invalid: %s", name, what) }
	for name, c := range map[string]struct{ spec, want string }{
		"plain":         {"ports: [{port: 80}]", "ip=dynamic" + single},
		"static":        {"clusterIP: 10.96.0.60\nports: [{port: 80}]", "ip=10.96.0.60" + single},
		"headless":      {"clusterIP: None\nselector: {a: b}", "ip=None" + single},
		"bare":          {"clusterIP: None", "ip=None" + dual},
		"prefers":       {"ipFamilyPolicy: PreferDualStack\nports: [{port: 80}]", "ip=dynamic PreferDualStack[IPv4]"},
		"elsewhere":     {"type: ExternalName\nexternalName: example.com", "ip="},
		"node":          {"type: NodePort\nports: [{port: 80}]", "ip=dynamic" + single + " 80=dynamic"},
		"node-static":   {"type: NodePort\nports: [{port: 80, nodePort: 30007}]", "ip=dynamic" + single + " 80=30007"},
		"node-shared":   {"type: NodePort\nports: [{name: t, port: 53}, {name: u, port: 53, protocol: UDP, nodePort: 30053}]", "ip=dynamic" + single + " 53=30053 53=30053"},
		"balanced":      {"type: LoadBalancer\nports: [{port: 80}]", "ip=dynamic" + single + " 80=dynamic"},
		"balanced-none": {"type: LoadBalancer\nallocateLoadBalancerNodePorts: false\nports: [{port: 80}]", "ip=dynamic" + single},
		"local":         {"type: LoadBalancer\nexternalTrafficPolicy: Local\nports: [{port: 80}]", "ip=dynamic" + single + " 80=dynamic health=dynamic"},
		"local-static":  {"type: LoadBalancer\nexternalTrafficPolicy: Local\nhealthCheckNodePort: 30009\nports: [{port: 80}]", "ip=dynamic" + single + " 80=dynamic health=30009"},

		"taken":       {"clusterIP: 10.96.0.50\nports: [{port: 80}]", invalid("taken", `spec.clusterIPs: Invalid value: ["10.96.0.50"]: failed to allocate IP 10.96.0.50: provided IP is already allocated`)},
		"out":         {"clusterIP: 10.0.0.1\nports: [{port: 80}]", invalid("out", `spec.clusterIPs: Invalid value: ["10.0.0.1"]: failed to allocate IP 10.0.0.1: the provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16`)},
		"network":     {"clusterIP: 10.96.0.0\nports: [{port: 80}]", invalid("network", `spec.clusterIPs: Invalid value: ["10.96.0.0"]: failed to allocate IP 10.96.0.0: the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/16`)},
		"broadcast":   {"clusterIP: 10.96.255.255\nports: [{port: 80}]", invalid("broadcast", `spec.clusterIPs: Invalid value: ["10.96.255.255"]: failed to allocate IP 10.96.255.255: the provided IP (10.96.255.255) is not in the valid range. The range of valid IPs is 10.96.0.0/16`)},
		"no-ip":       {"clusterIP: nonsense\nports: [{port: 80}]", invalid("no-ip", "spec.clusterIPs[0]: Invalid value: \"nonsense\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")},
		"six":         {"clusterIP: 2001:db8::1\nports: [{port: 80}]", invalid("six", `spec.clusterIPs[0]: Invalid value: ["2001:db8::1"]: IPv6 is not configured on this cluster`)},
		"wants-six":   {"ipFamilies: [IPv6]\nports: [{port: 80}]", invalid("wants-six", `spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`)},
		"wants-both":  {"ipFamilyPolicy: RequireDualStack\nports: [{port: 80}]", invalid("wants-both", `spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`)},
		"both-single": {"ipFamilies: [IPv4, IPv6]\nports: [{port: 80}]", invalid("both-single", `spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified`)},
		"port-taken":  {"type: NodePort\nports: [{port: 80, nodePort: 30005}]", invalid("port-taken", `spec.ports[0].nodePort: Invalid value: 30005: provided port is already allocated`)},
		"port-out":    {"type: NodePort\nports: [{port: 80, nodePort: 80}]", invalid("port-out", `spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767`)},
		"port-twice":  {"type: NodePort\nports: [{name: a, port: 80, nodePort: 30020}, {name: b, port: 81, protocol: UDP, nodePort: 30020}]", invalid("port-twice", `spec.ports[1].nodePort: Invalid value: 30020: provided port is already allocated`)},
		"health-out":  {"type: LoadBalancer\nexternalTrafficPolicy: Local\nhealthCheckNodePort: 5\nports: [{port: 80}]", `Internal error occurred: failed to allocate requested HealthCheck NodePort 5: provided port is not in the valid range. The range of valid ports is 30000-32767`},
		"no-ports":    {"selector: {a: b}", invalid("no-ports", "spec.ports: Required value")},
	} {
		made, err := f.createService(t, name, c.spec)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = allotted(made)
		}
		if got != c.want {
			t.Errorf("%s: %s\n got %s\nwant %s", name, c.spec, got, c.want)
		}
	}
}

// TestServicesOfBothFamilies: a cluster that has IPv6 gives a Service the families that it asks for, and takes one
// back when it asks for that.
func TestServicesOfBothFamilies(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.Kinds = kind.Cluster{DualStack: true}.Kinds() })
	got := func(s *corev1.Service, err error) string {
		if err != nil {
			return err.Error()
		}
		said := fmt.Sprintf("%s%v", *s.Spec.IPFamilyPolicy, s.Spec.IPFamilies)
		for _, ip := range s.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil && kind.ServiceRange.Contains(addr) {
				ip = "four"
			} else if err == nil && kind.ServiceRangeIPv6.Contains(addr) {
				ip = "six"
			}
			said += " " + ip
		}
		return said
	}
	invalid := func(name, what string) string { return fmt.Sprintf("Service %q is invalid: %s", name, what) }
	for name, c := range map[string]struct{ spec, want string }{
		"plain":    {"ports: [{port: 80}]", "SingleStack[IPv4] four"},
		"prefers":  {"ipFamilyPolicy: PreferDualStack\nports: [{port: 80}]", "PreferDualStack[IPv4 IPv6] four six"},
		"requires": {"ipFamilyPolicy: RequireDualStack\nipFamilies: [IPv6]\nports: [{port: 80}]", "RequireDualStack[IPv6 IPv4] six four"},
		"six":      {"ipFamilies: [IPv6]\nports: [{port: 80}]", "SingleStack[IPv6] six"},
		"named":    {"clusterIP: fd00:10:96::77\nports: [{port: 80}]", "SingleStack[IPv6] six"},
		"both":     {"ipFamilyPolicy: PreferDualStack\nclusterIP: 10.96.0.99\nclusterIPs: [10.96.0.99, 'fd00:10:96::99']\nports: [{port: 80}]", "PreferDualStack[IPv4 IPv6] four six"},
		"headless": {"ipFamilyPolicy: PreferDualStack\nclusterIP: None\nselector: {a: b}", "PreferDualStack[IPv4 IPv6] None"},
		"single":   {"ipFamilies: [IPv4, IPv6]\nports: [{port: 80}]", invalid("single", `spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified`)},
		"out":      {"clusterIP: 2001:db8::1\nports: [{port: 80}]", invalid("out", `spec.clusterIPs: Invalid value: ["2001:db8::1"]: failed to allocate IP 2001:db8::1: the provided IP (2001:db8::1) is not in the valid range. The range of valid IPs is fd00:10:96::/112`)},
	} {
		if got := got(f.createService(t, name, c.spec)); got != c.want {
			t.Errorf("%s: %s\n got %s\nwant %s", name, c.spec, got, c.want)
		}
	}
	for _, c := range []struct{ patch, want string }{
		{`{"spec":{"ipFamilyPolicy":"PreferDualStack"}}`, "PreferDualStack[IPv4 IPv6] four six"},
		{`{"spec":{"ipFamilies":["IPv4"]}}`, invalid("plain", `spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be 'SingleStack' to release the secondary IP family`)},
		{`{"spec":{"ipFamilyPolicy":"SingleStack"}}`, "SingleStack[IPv4] four"},
		{`{"spec":{"ipFamilyPolicy":"RequireDualStack","clusterIPs":null}}`, "RequireDualStack[IPv4 IPv6] four six"},
		{`{"metadata":{"labels":{"a":"b"}}}`, "RequireDualStack[IPv4 IPv6] four six"},
	} {
		if got := got(f.client.CoreV1().Services("default").Patch(t.Context(), "plain", types.MergePatchType, []byte(c.patch), metav1.PatchOptions{})); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.patch, got, c.want)
		}
	}
}

// TestServicesChangeType: what a Service does not need any more is free for others at once.
func TestServicesChangeType(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const single = " SingleStack[IPv4]"
	if _, err := f.createService(t, "s", "clusterIP: 10.96.0.70\nports: [{port: 80}]"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ patch, want string }{
		{`{"spec":{"type":"NodePort","ports":[{"port":80,"nodePort":30033}]}}`, "ip=10.96.0.70" + single + " 80=30033"},
		{`{"spec":{"ports":[{"port":80,"nodePort":0,"name":"x"}]}}`, "ip=10.96.0.70" + single + " 80=dynamic"}, // a new name, a new port
		{`{"spec":{"ports":[{"port":81,"name":"x"}]}}`, "ip=10.96.0.70" + single + " 81=dynamic"},
		{`{"spec":{"type":"LoadBalancer","externalTrafficPolicy":"Local"}}`, "ip=10.96.0.70" + single + " 81=dynamic health=dynamic"},
		{`{"spec":{"externalTrafficPolicy":"Cluster"}}`, "ip=10.96.0.70" + single + " 81=dynamic"},
		{`{"spec":{"type":"ClusterIP"}}`, "ip=10.96.0.70" + single},
		{`{"spec":{"clusterIP":"10.96.0.71"}}`, `Service "s" is invalid: spec.clusterIPs[0]: Invalid value: ["10.96.0.71"]: may not change once set`},
		{`{"spec":{"type":"ExternalName","externalName":"example.com"}}`, "ip="},
		{`{"spec":{"type":"ClusterIP","clusterIP":"10.96.0.72"}}`, "ip=10.96.0.72" + single},
	} {
		s, err := f.client.CoreV1().Services("default").Patch(t.Context(), "s", types.MergePatchType, []byte(c.patch), metav1.PatchOptions{})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = allotted(s)
		}
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.patch, got, c.want)
		}
	}
	for _, spec := range []string{"clusterIP: 10.96.0.70\nports: [{port: 80}]", "type: NodePort\nports: [{port: 80, nodePort: 30033}]"} {
		if _, err := f.createService(t, fmt.Sprint("free-", len(spec)), spec); err != nil {
			t.Errorf("%s: what was given back is not free: %v", spec, err)
		}
	}
	if err := f.client.CoreV1().Services("default").Delete(t.Context(), "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.createService(t, "again", "clusterIP: 10.96.0.72\nports: [{port: 80}]"); err != nil {
		t.Errorf("the address of a deleted service is not free: %v", err)
	}
}

// TestServicePutIsIdempotent: the manifest of a creation can be put again, without what was given.
func TestServicePutIsIdempotent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const spec = "type: LoadBalancer\nexternalTrafficPolicy: Local\nports: [{name: a, port: 80}, {name: b, port: 81}]"
	made, err := f.createService(t, "s", spec)
	if err != nil {
		t.Fatal(err)
	}
	put, err := f.client.CoreV1().Services("default").Update(t.Context(), service(t, "s", spec), metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(made.Spec)
	after, _ := json.Marshal(put.Spec)
	if string(before) != string(after) {
		t.Errorf("a PUT of the same manifest has changed\n%s\ninto\n%s", before, after)
	}
}

// TestServiceDryRun: a rehearsal answers as the creation would, and takes nothing.
func TestServiceDryRun(t *testing.T) {
	t.Parallel()
	f := setup(t)
	services, dry := f.client.CoreV1().Services("default"), []string{metav1.DryRunAll}
	got, err := services.Create(t.Context(), service(t, "s", "type: NodePort\nports: [{port: 80, nodePort: 30040}]"), metav1.CreateOptions{DryRun: dry})
	if err != nil || allotted(got) != "ip=dynamic SingleStack[IPv4] 80=30040" {
		t.Fatalf("%v %v", got, err)
	}
	if _, err := f.createService(t, "real", "type: NodePort\nports: [{port: 80, nodePort: 30040}]"); err != nil {
		t.Fatalf("a dry run has taken a port: %v", err)
	}
	_, err = services.Create(t.Context(), service(t, "s", "type: NodePort\nports: [{port: 80, nodePort: 30040}]"), metav1.CreateOptions{DryRun: dry})
	if err == nil || !strings.Contains(err.Error(), "spec.ports[0].nodePort: Invalid value: 30040: provided port is already allocated") {
		t.Errorf("a dry run does not see what is taken: %v", err)
	}
	plain, err := f.createService(t, "plain", "ports: [{port: 80}]")
	if err != nil {
		t.Fatal(err)
	}
	plain.Spec.Type = corev1.ServiceTypeNodePort
	after, err := services.Update(t.Context(), plain, metav1.UpdateOptions{DryRun: dry})
	if err != nil || after.Spec.Ports[0].NodePort == 0 {
		t.Errorf("the dry run of an update: %v %v", after, err)
	}
	if now, err := services.Get(t.Context(), "plain", metav1.GetOptions{}); err != nil || now.Spec.Type != corev1.ServiceTypeClusterIP {
		t.Errorf("a dry run has changed %v %v", now, err)
	}
}

// TestServicesShareNothing: many clients at once, and no two of them get the same.
func TestServicesShareNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var clients sync.WaitGroup
	made := make([]*corev1.Service, 200)
	var won atomic.Int32
	for i := range made {
		clients.Go(func() {
			s, err := f.createService(t, fmt.Sprint("s", i), "type: NodePort\nports: [{port: 80}]")
			if err != nil {
				t.Error(err)
				return
			}
			made[i] = s
			_, err = f.createService(t, fmt.Sprint("wants", i), fmt.Sprintf("clusterIP: 10.96.0.%d\nports: [{port: 80}]", 100+i%5))
			switch {
			case err == nil:
				won.Add(1)
			case !apierrors.IsInvalid(err):
				t.Error(err)
			}
		})
	}
	clients.Wait()
	seen := map[string]string{}
	for _, s := range made {
		if s == nil {
			continue
		}
		for _, what := range []string{s.Spec.ClusterIP, fmt.Sprint(s.Spec.Ports[0].NodePort)} {
			if other, twice := seen[what]; twice {
				t.Errorf("%s and %s both have %s", other, s.Name, what)
			}
			seen[what] = s.Name
		}
	}
	if won.Load() != 5 {
		t.Errorf("five addresses were asked for by name, and %d services got one", won.Load())
	}
}
