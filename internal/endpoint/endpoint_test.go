package endpoint

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

//lint:file-ignore SA1019 Endpoints are tested, too

// world keeps what Decide writes, as the store and the controller would.
type world struct {
	t     *testing.T
	state State
	made  int
}

func newWorld(t *testing.T, spec string) *world {
	t.Helper()
	w := &world{t: t}
	w.state = State{Key: kind.Services.Key("ns", "web"), Zone: func(node string) (string, bool) {
		return map[string]string{"n1": "east", "n2": ""}[node], node != "lost"
	}}
	w.state.Service = &corev1.Service{}
	parse(t, spec, w.state.Service)
	w.state.Service.ObjectMeta = metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "service", Labels: w.state.Service.Labels}
	kind.Service().Default(w.state.Service)
	kind.Service().Create.Prepare(w.state.Service)
	if spec := &w.state.Service.Spec; spec.ClusterIP == "" && spec.Type != corev1.ServiceTypeExternalName {
		spec.ClusterIP, spec.ClusterIPs = "10.96.0.9", []string{"10.96.0.9"} // the store's work
	}
	return w
}

func parse(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// pod returns one at an address, ready or not.
func pod(name, ip string, ready bool, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}}
	p.Spec.NodeName, p.Status.PodIP, p.Status.PodIPs = "n1", ip, []corev1.PodIP{{IP: ip}}
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
	for _, e := range edit {
		e(p)
	}
	return p
}

// decide carries out a decision, and returns how many slices it has written.
func (w *world) decide() (writes int) {
	w.t.Helper()
	set := Decide(w.state)
	for _, write := range set.Writes {
		switch obj := write.Object.(type) {
		case *corev1.Endpoints:
			w.state.Endpoints = obj
			continue
		case nil:
			if write.Key.Resource == kind.EndpointsOf {
				w.state.Endpoints = nil
				continue
			}
			w.state.Slices = slices.DeleteFunc(w.state.Slices, func(s *discoveryv1.EndpointSlice) bool { return s.Name == write.Key.Name })
		case *discoveryv1.EndpointSlice:
			if write.Op == change.Create {
				w.made++
				obj.Name = fmt.Sprintf("%s%05d", obj.GenerateName, w.made)
				w.state.Slices = append(w.state.Slices, obj)
				if errs := kind.EndpointSlice().Create.Check(obj); len(errs) > 0 {
					w.t.Errorf("the API would refuse a slice: %v", errs)
				}
			} else {
				at := slices.IndexFunc(w.state.Slices, func(s *discoveryv1.EndpointSlice) bool { return s.Name == obj.Name })
				w.state.Slices[at] = obj
			}
		}
		writes++
	}
	return writes
}

// said says what is in the slices, one line each.
func (w *world) said() string {
	var lines []string
	for _, s := range w.state.Slices {
		var ports, endpoints []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s:%d/%s", *p.Name, *p.Port, *p.Protocol))
		}
		for i := range s.Endpoints {
			endpoints = append(endpoints, saidEndpoint(&s.Endpoints[i]))
		}
		lines = append(lines, fmt.Sprintf("%s [%s] %s", s.AddressType, strings.Join(ports, " "), strings.Join(endpoints, " ")))
	}
	slices.Sort(lines)
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func saidEndpoint(e *discoveryv1.Endpoint) string {
	text := e.Addresses[0]
	for _, c := range []struct {
		is   *bool
		mark string
	}{{e.Conditions.Ready, "r"}, {e.Conditions.Serving, "s"}, {e.Conditions.Terminating, "t"}} {
		if ptr.Deref(c.is, false) {
			text += c.mark
		}
	}
	if e.Hostname != nil {
		text += "@" + *e.Hostname
	}
	if e.Zone != nil {
		text += "/" + *e.Zone
	}
	if h := e.Hints; h != nil {
		text += fmt.Sprintf("!%v%v", h.ForNodes, h.ForZones)
	}
	return text
}

// saidLegacy says what is in the Endpoints.
func (w *world) saidLegacy() string {
	if w.state.Endpoints == nil {
		return "none"
	}
	var lines []string
	for _, s := range w.state.Endpoints.Subsets {
		var parts []string
		for i, list := range [][]corev1.EndpointAddress{s.Addresses, s.NotReadyAddresses} {
			for _, a := range list {
				parts = append(parts, a.IP+[]string{"", "(not ready)"}[i])
			}
		}
		for _, p := range s.Ports {
			parts = append(parts, fmt.Sprintf("%s:%d/%s", p.Name, p.Port, p.Protocol))
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	return strings.Join(lines, "; ")
}

func containerPort(name string, number int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Ports: []corev1.ContainerPort{{Name: name, ContainerPort: number, Protocol: corev1.ProtocolTCP}}})
	}
}

func sidecarPort(name string, number int32, restarts bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.Container{Ports: []corev1.ContainerPort{{Name: name, ContainerPort: number, Protocol: corev1.ProtocolTCP}}}
		if restarts {
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
}

func terminating(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.NewTime(time.Unix(1, 0))) }

func TestPodsBecomeEndpoints(t *testing.T) {
	t.Parallel()
	const plain = "spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}"
	for name, c := range map[string]struct {
		spec         string
		pods         []*corev1.Pod
		want, legacy string
	}{
		"no pods":        {plain, nil, "IPv4 []", ""},
		"one":            {plain, []*corev1.Pod{pod("a", "10.1.0.1", true)}, "IPv4 [:8080/TCP] 10.1.0.1rs/east", "10.1.0.1 :8080/TCP"},
		"two":            {plain, []*corev1.Pod{pod("a", "10.1.0.1", true), pod("b", "10.1.0.2", false)}, "IPv4 [:8080/TCP] 10.1.0.1rs/east 10.1.0.2/east", "10.1.0.1 10.1.0.2(not ready) :8080/TCP"},
		"terminating":    {plain, []*corev1.Pod{pod("a", "10.1.0.1", true, terminating)}, "IPv4 [:8080/TCP] 10.1.0.1st/east", ""},
		"not ready, too": {"spec: {publishNotReadyAddresses: true, selector: {app: web}, ports: [{port: 80}]}", []*corev1.Pod{pod("a", "10.1.0.1", false, terminating)}, "IPv4 [:80/TCP] 10.1.0.1rt/east", "10.1.0.1 :80/TCP"},
		"ended":          {plain, []*corev1.Pod{pod("a", "10.1.0.1", true, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })}, "IPv4 []", ""},
		"no address":     {plain, []*corev1.Pod{pod("a", "", false, func(p *corev1.Pod) { p.Status.PodIPs = nil })}, "IPv4 []", ""},
		"loopback":       {plain, []*corev1.Pod{pod("a", "127.0.0.1", true)}, "IPv4 []", ""},
		"lost node":      {plain, []*corev1.Pod{pod("a", "10.1.0.1", true, func(p *corev1.Pod) { p.Spec.NodeName = "lost" })}, "IPv4 []", "10.1.0.1 :8080/TCP"},
		"no zone":        {plain, []*corev1.Pod{pod("a", "10.1.0.1", true, func(p *corev1.Pod) { p.Spec.NodeName = "n2" })}, "IPv4 [:8080/TCP] 10.1.0.1rs", "10.1.0.1 :8080/TCP"},
		"named ports": {"spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}",
			[]*corev1.Pod{pod("a", "10.1.0.1", true, containerPort("http", 8080)), pod("b", "10.1.0.2", true, containerPort("http", 9090)), pod("c", "10.1.0.3", true), pod("d", "10.1.0.4", true, sidecarPort("http", 1, false), sidecarPort("http", 7070, true))},
			"IPv4 [:7070/TCP] 10.1.0.4rs/east\nIPv4 [:8080/TCP] 10.1.0.1rs/east\nIPv4 [:9090/TCP] 10.1.0.2rs/east\nIPv4 [] 10.1.0.3rs/east", "10.1.0.4 :7070/TCP; 10.1.0.1 :8080/TCP; 10.1.0.2 :9090/TCP"},
		"headless": {"spec: {clusterIP: None, selector: {app: web}}",
			[]*corev1.Pod{pod("a", "10.1.0.1", true, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "a", "web" }), pod("b", "10.1.0.2", true, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "b", "other" })},
			"IPv4 [] 10.1.0.1rs@a/east 10.1.0.2rs/east", "10.1.0.1 10.1.0.2"},
		"two ports": {"spec: {selector: {app: web}, ports: [{name: b, port: 81}, {name: a, port: 80}]}", []*corev1.Pod{pod("a", "10.1.0.1", true)},
			"IPv4 [b:81/TCP a:80/TCP] 10.1.0.1rs/east", "10.1.0.1 b:81/TCP a:80/TCP"},
		"close":    {"spec: {trafficDistribution: PreferClose, selector: {app: web}, ports: [{port: 80}]}", []*corev1.Pod{pod("a", "10.1.0.1", true)}, "IPv4 [:80/TCP] 10.1.0.1rs/east![][{east}]", "10.1.0.1 :80/TCP"},
		"same":     {"spec: {trafficDistribution: PreferSameNode, selector: {app: web}, ports: [{port: 80}]}", []*corev1.Pod{pod("a", "10.1.0.1", true)}, "IPv4 [:80/TCP] 10.1.0.1rs/east![{n1}][{east}]", "10.1.0.1 :80/TCP"},
		"external": {"spec: {type: ExternalName, externalName: example.com, selector: {app: web}}", []*corev1.Pod{pod("a", "10.1.0.1", true)}, "", "none"},
	} {
		w := newWorld(t, c.spec)
		w.state.Pods = c.pods
		w.decide()
		if got := w.said(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
		if legacy := w.saidLegacy(); name != "lost node" && sorted(legacy) != sorted(c.legacy) {
			t.Errorf("%s: endpoints:\n got %s\nwant %s", name, legacy, c.legacy)
		}
		if again := Decide(w.state); len(again.Writes) > 0 {
			t.Errorf("%s: a second look writes %+v", name, again.Writes)
		}
	}
}

func sorted(list string) string {
	parts := strings.Split(list, "; ")
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// TestFewSlicesChange: a Service of 950 pods has ten slices, and a pod that changes is one write.
func TestFewSlicesChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "metadata: {labels: {team: a}}\nspec: {selector: {app: web}, ports: [{port: 80}]}")
	for i := range 950 {
		w.state.Pods = append(w.state.Pods, pod(fmt.Sprintf("p%03d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), true))
	}
	total := func() (n, largest int) {
		for _, s := range w.state.Slices {
			n += len(s.Endpoints)
			largest = max(largest, len(s.Endpoints))
		}
		return n, largest
	}
	step := func(what string, wantWrites, wantSlices int) {
		t.Helper()
		writes := w.decide()
		n, largest := total()
		if writes != wantWrites || len(w.state.Slices) != wantSlices || n != len(w.state.Pods) || largest > 100 {
			t.Errorf("%s: %d writes, %d slices with %d endpoints of %d pods, the largest %d; want %d writes and %d slices", what, writes, len(w.state.Slices), n, len(w.state.Pods), largest, wantWrites, wantSlices)
		}
	}
	step("all come", 10, 10)
	w.state.Pods[7] = pod("p007", "10.1.0.8", false)
	step("one is not ready", 1, 10)
	w.state.Pods = slices.Delete(w.state.Pods, 7, 8)
	step("one goes", 1, 10)
	w.state.Pods = append(w.state.Pods, pod("q1", "10.2.0.1", true))
	step("one comes", 1, 10)
	w.state.Service.Labels["team"] = "b"
	step("the service has other labels", 10, 10)
	w.state.Pods = w.state.Pods[:1]
	step("all but one go", 10, 1)
	w.state.Pods = nil
	w.decide()
	if got := w.said(); got != "IPv4 []" || len(w.state.Slices) != 1 {
		t.Errorf("without pods there is %q", got)
	}
	if s := w.state.Slices[0]; s.Labels[discoveryv1.LabelServiceName] != "web" || s.Labels["team"] != "b" || s.Labels[discoveryv1.LabelManagedBy] != sliceController ||
		!metav1.IsControlledBy(s, w.state.Service) {
		t.Errorf("the slice is labelled %v, and owned by %v", s.Labels, s.OwnerReferences)
	}
}

// TestEndpointsAreTruncated: of more than 1000 addresses the ready ones stay.
func TestEndpointsAreTruncated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "spec: {selector: {app: web}, ports: [{port: 80}]}")
	for i := range 1100 {
		w.state.Pods = append(w.state.Pods, pod(fmt.Sprintf("p%04d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), i >= 150))
	}
	w.decide()
	e := w.state.Endpoints
	if len(e.Subsets) != 1 || len(e.Subsets[0].Addresses) != 950 || len(e.Subsets[0].NotReadyAddresses) != 50 || e.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("%d ready, %d not, annotations %v", len(e.Subsets[0].Addresses), len(e.Subsets[0].NotReadyAddresses), e.Annotations)
	}
	w.state.Pods = w.state.Pods[:900]
	w.decide()
	if e := w.state.Endpoints; e.Annotations[corev1.EndpointsOverCapacity] != "" || len(e.Subsets[0].Addresses)+len(e.Subsets[0].NotReadyAddresses) != 900 {
		t.Errorf("afterwards: %v", e.Annotations)
	}
}

func TestEndpointsAreMirrored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "spec: {ports: [{port: 80}]}")
	if w.decide(); len(w.state.Slices) != 0 {
		t.Errorf("without endpoints: %s", w.said())
	}
	e := &corev1.Endpoints{}
	parse(t, `
metadata: {namespace: ns, name: web, uid: endpoints, labels: {team: a}, annotations: {note: x, kubectl.kubernetes.io/last-applied-configuration: "{}"}}
subsets:
- addresses: [{ip: 192.0.2.1, hostname: one}, {ip: "2001:db8::1"}]
  notReadyAddresses: [{ip: 192.0.2.2}]
  ports: [{name: http, port: 8080, protocol: TCP}]`, e)
	w.state.Endpoints = e
	w.decide()
	const want = "IPv4 [http:8080/TCP] 192.0.2.1r@one 192.0.2.2\nIPv6 [http:8080/TCP] 2001:db8::1r"
	if got := w.said(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s := w.state.Slices[0]
	if s.Labels["team"] != "a" || s.Labels[discoveryv1.LabelManagedBy] != mirrorController || len(s.Annotations) != 1 || s.OwnerReferences[0].Kind != "Endpoints" {
		t.Errorf("%+v", s.ObjectMeta)
	}
	if again := Decide(w.state); len(again.Writes) > 0 {
		t.Errorf("a second look writes %+v", again.Writes)
	}
	changed := e.DeepCopy()
	changed.Subsets[0].Addresses = changed.Subsets[0].Addresses[:1]
	w.state.Endpoints = changed
	if writes := w.decide(); writes != 1 || strings.Contains(w.said(), "IPv6") {
		t.Errorf("%d writes: %s", writes, w.said())
	}
	many := e.DeepCopy()
	many.Subsets[0].Addresses = nil
	for i := range 1200 {
		many.Subsets[0].Addresses = append(many.Subsets[0].Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("192.0.%d.%d", i/250, i%250+1)})
	}
	w.state.Endpoints = many
	if set := Decide(w.state); len(set.Notes) != 1 || set.Notes[0].Message != "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 200 addresses were skipped" {
		t.Errorf("notes %+v", set.Notes)
	}
	skipped := e.DeepCopy()
	skipped.Labels[discoveryv1.LabelSkipMirror] = "true"
	w.state.Endpoints = skipped
	if w.decide(); len(w.state.Slices) != 0 {
		t.Errorf("endpoints that are not to be mirrored are: %s", w.said())
	}
	w.state.Endpoints = e
	w.decide()
	w.state.Service.Spec.Selector = map[string]string{"app": "web"}
	if w.decide(); w.said() != "IPv4 []" {
		t.Errorf("when the service has a selector: %s", w.said())
	}
	w.state.Service = nil
	if w.decide(); w.state.Endpoints != nil {
		t.Error("endpoints outlive their service")
	}
}
