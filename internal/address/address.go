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
	ips := slices.Clone(spec.ClusterIPs)
	for i, family := range families(spec) {
		if i < len(ips) && ips[i] != "" {
			if err := g.wanted(ips[i], family); err != nil {
				return err
			}
			continue
		}
		ip, ok := g.anyAddress(family)
		if !ok {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: range is full", g.service.Name))
		}
		ips, g.given = append(ips[:min(i, len(ips))], ip), true
	}
	if g.given {
		spec.ClusterIP, spec.ClusterIPs = ips[0], ips
	}
	return nil
}

// families are those of which the Service has an address each. One that was stored before Services had
// families has IPv4's.
func families(spec *corev1.ServiceSpec) []corev1.IPFamily {
	if len(spec.IPFamilies) == 0 {
		return []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return spec.IPFamilies
}

// rangeOf returns the range of a family's addresses, and how many of them Services get: not the first, which
// is the network's, nor the last, which with IPv4 is the one for all.
func rangeOf(family corev1.IPFamily) (r netip.Prefix, size int) {
	if family == corev1.IPv6Protocol {
		return kind.ServiceRangeIPv6, 1<<(128-kind.ServiceRangeIPv6.Bits()) - 1
	}
	return kind.ServiceRange, 1<<(32-kind.ServiceRange.Bits()) - 2
}

// wanted checks an address that the Service names.
func (g *grant) wanted(ip string, family corev1.IPFamily) error {
	spec := &g.service.Spec
	in, size := rangeOf(family)
	refuse := func(why string) error {
		return g.invalid(field.NewPath("spec", "clusterIPs"), spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %v: %s", ip, why))
	}
	addr, err := netip.ParseAddr(ip)
	switch {
	case g.had[kind.ServicesAt(ip)]:
		return nil
	case err != nil, !in.Contains(addr), addr == in.Addr(), nth(in, size).Less(addr):
		return refuse(fmt.Sprintf("the provided IP (%v) is not in the valid range. The range of valid IPs is %s", ip, in))
	case !g.free(kind.ServicesAt(ip)):
		return refuse("provided IP is already allocated")
	}
	return nil
}

// nth returns an address of a range by its number.
func nth(in netip.Prefix, i int) netip.Addr {
	at := in.Masked().Addr().AsSlice()
	for k := len(at) - 1; i > 0; k-- {
		at[k] |= byte(i)
		i >>= 8
	}
	ip, _ := netip.AddrFromSlice(at)
	return ip
}

func (g *grant) anyAddress(family corev1.IPFamily) (string, bool) {
	in, size := rangeOf(family)
	at := func(i int) string { return nth(in, i+1).String() }
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
