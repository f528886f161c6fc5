// Package address is the core that gives Services what they need of what there is only
// once: cluster addresses, node ports, and the ports of health checks.
//
// The store asks Account about each set, under its lock, and commits the Services as they
// come back. What is taken follows from the stored Services: there is no list of it beside
// them that could say something else, nothing to release, and two Services never have the
// same address, however many are created at a time.
//
// Kubernetes draws what is free at random. Here it follows from the Service's uid, which is
// random: the first free one from there on. As in Kubernetes the lower end of each range is
// for those who name what they want, and given to others when nothing else is left.
package address

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Account returns the Services among writes that get something when writes are made to the
// state view, each with what it gets; it takes the place of the write of the same key. The
// error is a *change.Refusal when a Service wants what another has.
func Account(view change.View, writes []change.Write) ([]change.Write, error) {
	var more []change.Write
	var b book
	created := 0
	for i := range writes {
		w := &writes[i]
		if w.Key.Resource == kind.Services && w.Op != change.Delete {
			if b.taken == nil {
				b = book{view: view, writes: writes, taken: map[string]bool{}}
			}
			next, err := b.give(w)
			if err != nil {
				return nil, &change.Refusal{Err: err, Taken: created}
			}
			if next != nil {
				own := *w
				own.Object = next
				more = append(more, own)
			}
		}
		if w.Op == change.Create {
			created++
		}
	}
	return more, nil
}

// book knows what is taken while a set is accounted for.
type book struct {
	view   change.View
	writes []change.Write
	taken  map[string]bool // by the Services of the set, as index terms
}

// give returns the Service that is written with all that it needs, nil if it needs nothing.
func (b *book) give(w *change.Write) (*corev1.Service, error) {
	g := grant{book: b, key: w.Key, service: w.Object.(*corev1.Service).DeepCopy(), had: map[string]bool{}}
	if stored, ok := b.view.Get(w.Key); ok {
		g.old = stored.(*corev1.Service)
		for _, term := range kind.ServiceTerms(g.old) {
			g.had[term] = true
		}
	}
	if err := g.address(); err != nil {
		return nil, err
	}
	if err := g.nodePorts(); err != nil {
		return nil, err
	}
	if err := g.healthCheckPort(); err != nil {
		return nil, err
	}
	for _, term := range kind.ServiceTerms(g.service) {
		b.taken[term] = true
	}
	if !g.given {
		return nil, nil
	}
	return g.service, nil
}

// grant is what one Service is about to get.
type grant struct {
	*book
	key     change.Key
	service *corev1.Service
	old     *corev1.Service // nil if the Service is new
	had     map[string]bool // what it has already, as index terms
	given   bool
}

// free reports whether nobody but the Service itself has what term says.
func (g *grant) free(term string) bool {
	if g.had[term] {
		return true
	}
	if g.taken[term] {
		return false
	}
	for obj := range g.view.Index(kind.Services, term) {
		if !g.leaves(kind.Services.Key(obj.GetNamespace(), obj.GetName())) {
			return false
		}
	}
	return true
}

// leaves reports whether the set itself deletes a Service.
func (g *grant) leaves(key change.Key) bool {
	return slices.ContainsFunc(g.writes, func(w change.Write) bool { return w.Op == change.Delete && w.Key == key })
}

// address gives the Service its cluster address, or sees to it that the one it wants is free.
func (g *grant) address() error {
	spec := &g.service.Spec
	if spec.Type == corev1.ServiceTypeExternalName || spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	if len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] != "" {
		return g.wanted(spec)
	}
	ip, ok := g.anyAddress()
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: range is full", g.service.Name))
	}
	spec.ClusterIP, spec.ClusterIPs, g.given = ip, []string{ip}, true
	return nil
}

// wanted checks the address that the Service names.
func (g *grant) wanted(spec *corev1.ServiceSpec) error {
	ip := spec.ClusterIPs[0]
	refuse := func(why string) error {
		return g.invalid(field.NewPath("spec", "clusterIPs"), spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %v: %s", ip, why))
	}
	addr, err := netip.ParseAddr(ip)
	switch {
	case g.had[kind.ServicesAt(ip)]:
		return nil
	case err != nil, !kind.ServiceRange.Contains(addr), addr == kind.ServiceRange.Addr(), addr == lastAddress:
		return refuse(fmt.Sprintf("the provided IP (%v) is not in the valid range. The range of valid IPs is %s", ip, kind.ServiceRange))
	case !g.free(kind.ServicesAt(ip)):
		return refuse("provided IP is already allocated")
	}
	return nil
}

// lastAddress is the one of the range that is nobody's: a network's broadcast address.
var lastAddress = func() netip.Addr {
	at := kind.ServiceRange.Masked().Addr().As4()
	for i := kind.ServiceRange.Bits(); i < 32; i++ {
		at[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(at)
}()

func (g *grant) anyAddress() (string, bool) {
	base := kind.ServiceRange.Masked().Addr().As4()
	size := 1<<(32-kind.ServiceRange.Bits()) - 2 // without the first and the last
	at := func(i int) string {
		n := i + 1
		return netip.AddrFrom4([4]byte{base[0], base[1] | byte(n>>16), base[2] | byte(n>>8), base[3] | byte(n)}).String()
	}
	i, ok := g.draw(size, reserved(size, 16, 256), func(i int) bool { return g.free(kind.ServicesAt(at(i))) })
	return at(i), ok
}

// reserved is how many of a range are for those who name what they want. (KEP 3070, 3668)
func reserved(size, step, most int) int { return min(max(16, size/step), most) }

// draw returns the first of size things that is free: from a place on that follows from the
// Service, first of all among those that are not reserved.
func (g *grant) draw(size, reserved int, free func(i int) bool) (int, bool) {
	h := fnv.New32a()
	h.Write([]byte(g.service.UID))
	start := int(h.Sum32() >> 1)
	for _, part := range [][2]int{{reserved, size}, {0, reserved}} {
		low, n := part[0], part[1]-part[0]
		for i := range n {
			if at := low + (start+i)%n; free(at) {
				return at, true
			}
		}
	}
	return 0, false
}

func (g *grant) invalid(path *field.Path, value any, message string) error {
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), g.service.Name, field.ErrorList{field.Invalid(path, value, message)})
}
