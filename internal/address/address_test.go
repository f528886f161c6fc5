package address

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// world is a state of Services only.
type world struct {
	change.View
	services map[change.Key]*corev1.Service
	terms    map[string]*corev1.Service
}

func newWorld() *world {
	return &world{services: map[change.Key]*corev1.Service{}, terms: map[string]*corev1.Service{}}
}

func (w *world) Get(key change.Key) (change.Object, bool) {
	s, ok := w.services[key]
	return s, ok
}

func (w *world) Index(_ change.Resource, term string) iter.Seq[change.Object] {
	return func(yield func(change.Object) bool) {
		if s := w.terms[term]; s != nil {
			yield(s)
		}
	}
}

// store accounts for the writes, and makes them.
func (w *world) store(writes ...change.Write) error {
	given, err := Account(w, writes)
	if err != nil {
		return err
	}
	for _, write := range append(writes, given...) {
		if old := w.services[write.Key]; old != nil {
			for _, term := range kind.ServiceTerms(old) {
				delete(w.terms, term)
			}
		}
		delete(w.services, write.Key)
		if write.Op == change.Delete {
			continue
		}
		s := write.Object.(*corev1.Service)
		w.services[write.Key] = s
		for _, term := range kind.ServiceTerms(s) {
			w.terms[term] = s
		}
	}
	return nil
}

func service(name string, t corev1.ServiceType, nodePorts ...int32) change.Write {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid of " + name)}}
	s.Spec.Type = t
	for i, p := range nodePorts {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: int32(80 + i), NodePort: p})
	}
	return change.Write{Op: change.Create, Key: kind.Services.Key("ns", name), Object: s}
}

// TestPortsRunOut: those that are kept for who names one are given last of all, and then
// there are none.
func TestPortsRunOut(t *testing.T) {
	t.Parallel()
	w := newWorld()
	const all = kind.LastNodePort - kind.FirstNodePort + 1
	for i := range all {
		name := fmt.Sprint("s", i)
		if err := w.store(service(name, corev1.ServiceTypeNodePort, 0)); err != nil {
			t.Fatalf("the %dth of %d: %v", i+1, all, err)
		}
		port := w.services[kind.Services.Key("ns", name)].Spec.Ports[0].NodePort
		if static := port < kind.FirstNodePort+86; static != (i >= all-86) {
			t.Fatalf("the %dth service has port %d", i+1, port)
		}
	}
	err := w.store(service("late", corev1.ServiceTypeNodePort, 0))
	var refusal *change.Refusal
	if !errors.As(err, &refusal) || err.Error() != "Internal error occurred: failed to allocate a nodePort: range is full" {
		t.Fatal(err)
	}
	gone := kind.Services.Key("ns", "s7")
	port := w.services[gone].Spec.Ports[0].NodePort
	if err := w.store(change.Write{Op: change.Delete, Key: gone, Rev: 1}, service("late", corev1.ServiceTypeNodePort, 0)); err != nil {
		t.Fatal(err)
	}
	if got := w.services[kind.Services.Key("ns", "late")].Spec.Ports[0].NodePort; got != port {
		t.Errorf("the port that the same set gives back is %d, and the service got %d", port, got)
	}
}

// TestAddressesRunOut fills what is left of a range, of which two addresses are nobody's.
func TestAddressesRunOut(t *testing.T) {
	t.Parallel()
	w := newWorld()
	const all = 1<<16 - 2
	for i := range all {
		addr := netip.AddrFrom4([4]byte{10, 96, byte((i + 1) >> 8), byte(i + 1)})
		if i%1000 != 0 {
			w.terms[kind.ServicesAt(addr.String())] = &corev1.Service{}
		}
	}
	seen := map[string]bool{}
	for i := 0; ; i++ {
		name := fmt.Sprint("s", i)
		err := w.store(service(name, corev1.ServiceTypeClusterIP))
		if err != nil {
			if want := `Internal error occurred: failed to allocate a serviceIP for Service "` + name + `": range is full`; err.Error() != want || i != all/1000+1 {
				t.Fatalf("after %d: %v", i, err)
			}
			return
		}
		ip := w.services[kind.Services.Key("ns", name)].Spec.ClusterIP
		if addr := netip.MustParseAddr(ip); seen[ip] || !kind.ServiceRange.Contains(addr) || addr == kind.ServiceRange.Addr() || addr == netip.MustParseAddr("10.96.255.255") {
			t.Fatalf("%s got %s", name, ip)
		}
		seen[ip] = true
	}
}

// TestBothFamilies: a Service gets an address of each family that it has, in their order; one that it names or
// has stays.
func TestBothFamilies(t *testing.T) {
	t.Parallel()
	w := newWorld()
	write := func(name string, families []corev1.IPFamily, ips ...string) (*corev1.Service, error) {
		s := service(name, corev1.ServiceTypeClusterIP)
		spec := &s.Object.(*corev1.Service).Spec
		spec.IPFamilies, spec.ClusterIPs = families, ips
		if len(ips) > 0 {
			spec.ClusterIP = ips[0]
		}
		err := w.store(s)
		return w.services[s.Key], err
	}
	four, six := corev1.IPv4Protocol, corev1.IPv6Protocol
	both := []corev1.IPFamily{six, four}
	s, err := write("a", both)
	if err != nil || len(s.Spec.ClusterIPs) != 2 || s.Spec.ClusterIP != s.Spec.ClusterIPs[0] ||
		!kind.ServiceRangeIPv6.Contains(netip.MustParseAddr(s.Spec.ClusterIPs[0])) || !kind.ServiceRange.Contains(netip.MustParseAddr(s.Spec.ClusterIPs[1])) {
		t.Fatalf("got %v, %v", s.Spec, err)
	}
	had := s.Spec.ClusterIPs
	if s, err = write("a", both[:1], had[0]); err != nil || len(s.Spec.ClusterIPs) != 1 {
		t.Errorf("one goes: %v, %v", s.Spec.ClusterIPs, err)
	}
	if s, err = write("a", both, had[0]); err != nil || len(s.Spec.ClusterIPs) != 2 || s.Spec.ClusterIPs[0] != had[0] {
		t.Errorf("one comes: %v, %v", s.Spec.ClusterIPs, err)
	}
	if s, err = write("named", []corev1.IPFamily{four, six}, "10.96.0.77", "fd00:10:96::ffff"); err != nil || s.Spec.ClusterIPs[1] != "fd00:10:96::ffff" {
		t.Errorf("both are named: %v, %v", s.Spec.ClusterIPs, err)
	}
	for ip, want := range map[string]string{
		"fd00:10:96::ffff": "provided IP is already allocated",
		"fd00:10:96::":     "the provided IP (fd00:10:96::) is not in the valid range. The range of valid IPs is fd00:10:96::/112",
		"fd00:10:97::1":    "the provided IP (fd00:10:97::1) is not in the valid range. The range of valid IPs is fd00:10:96::/112",
	} {
		if _, err := write("b", []corev1.IPFamily{six}, ip); err == nil || !strings.Contains(err.Error(), "failed to allocate IP "+ip+": "+want) {
			t.Errorf("%s: %v", ip, err)
		}
	}
}

// TestSetCountsForItself: what one Service of a set gets, another does not, and a refusal
// says how many there is room for.
func TestSetCountsForItself(t *testing.T) {
	t.Parallel()
	w := newWorld()
	err := w.store(service("a", corev1.ServiceTypeNodePort, 30001), service("b", corev1.ServiceTypeNodePort, 0, 0), service("c", corev1.ServiceTypeNodePort, 30001))
	var refusal *change.Refusal
	if !errors.As(err, &refusal) || refusal.Taken != 2 {
		t.Errorf("%v %+v", err, refusal)
	}
	// The one that is drawn is not one that another port of the Service asks for.
	draws := service("d", corev1.ServiceTypeNodePort, 0)
	if err := w.store(draws); err != nil {
		t.Fatal(err)
	}
	drawn := w.services[draws.Key].Spec.Ports[0].NodePort
	if err := w.store(change.Write{Op: change.Delete, Key: draws.Key, Rev: 1}); err != nil {
		t.Fatal(err)
	}
	if err := w.store(service("d", corev1.ServiceTypeNodePort, 0, drawn)); err != nil {
		t.Fatal(err)
	}
	if ports := w.services[draws.Key].Spec.Ports; ports[0].NodePort == ports[1].NodePort {
		t.Errorf("both ports have %d", drawn)
	}
}
