package endpoint

import (
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// packing is how the endpoints of a group are distributed over slices.
type packing struct {
	ports []discoveryv1.EndpointPort
	// kept are the slices that stay, contents what is in them.
	kept     []*discoveryv1.EndpointSlice
	contents [][]discoveryv1.Endpoint
	changed  []bool
	emptied  []*discoveryv1.EndpointSlice
	added    [][]discoveryv1.Endpoint
}

// size is how many slices there will be.
func (p *packing) size() int { return len(p.kept) + len(p.added) }

// pack distributes the endpoints of a group: each stays in the slice in which it is, new
// ones go where something changes anyway, then into a slice that has room for all of them,
// then into new ones. So as few slices as possible are written, as whoever watches them is
// told of each.
func pack(g *group) *packing {
	wanted := make(map[string]int, len(g.endpoints))
	for i := range g.endpoints {
		wanted[identity(&g.endpoints[i])] = i
	}
	p := &packing{ports: g.ports}
	placed := make([]bool, len(g.endpoints))
	for _, slice := range g.existing {
		var stay []discoveryv1.Endpoint
		changed := false
		for i := range slice.Endpoints {
			at, ok := wanted[identity(&slice.Endpoints[i])]
			if !ok || placed[at] {
				changed = true
				continue
			}
			placed[at] = true
			stay = append(stay, g.endpoints[at])
			changed = changed || !equality.Semantic.DeepEqual(slice.Endpoints[i], g.endpoints[at])
		}
		p.kept, p.contents, p.changed = append(p.kept, slice), append(p.contents, stay), append(p.changed, changed)
	}
	var rest []discoveryv1.Endpoint
	for i := range g.endpoints {
		if !placed[i] {
			rest = append(rest, g.endpoints[i])
		}
	}
	p.distribute(rest)
	p.dropEmpty()
	return p
}

func (p *packing) distribute(rest []discoveryv1.Endpoint) {
	for i := range p.kept {
		if p.changed[i] {
			rest = p.fill(i, rest)
		}
	}
	if best := p.roomFor(len(rest)); best >= 0 {
		rest = p.fill(best, rest)
	}
	for len(rest) > 0 {
		n := min(len(rest), maxPerSlice)
		p.added, rest = append(p.added, rest[:n:n]), rest[n:]
	}
}

// fill puts as many of the rest into a slice as there is room for.
func (p *packing) fill(i int, rest []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	n := max(0, min(len(rest), maxPerSlice-len(p.contents[i])))
	p.contents[i] = append(p.contents[i], rest[:n]...)
	return rest[n:]
}

// roomFor returns the fullest slice that takes n more, -1 if there is none.
func (p *packing) roomFor(n int) int {
	best := -1
	for i := range p.kept {
		if n > 0 && len(p.contents[i])+n <= maxPerSlice && (best < 0 || len(p.contents[i]) > len(p.contents[best])) {
			best = i
		}
	}
	return best
}

func (p *packing) dropEmpty() {
	var kept []*discoveryv1.EndpointSlice
	var contents [][]discoveryv1.Endpoint
	for i, slice := range p.kept {
		if len(p.contents[i]) == 0 {
			p.emptied = append(p.emptied, slice)
			continue
		}
		kept, contents = append(kept, slice), append(contents, p.contents[i])
	}
	p.kept, p.contents = kept, contents
}

// identity tells endpoints apart that may stand in one slice.
func identity(e *discoveryv1.Endpoint) string {
	id := strings.Join(e.Addresses, ",")
	if e.TargetRef != nil {
		id += " " + string(e.TargetRef.UID)
	}
	return id
}
