package address

import (
	"math/bits"
	"net/netip"
)

// smallest is the size of the smallest range that a node gets, in bits: Kubernetes'
// --node-cidr-mask-size is as well.
const smallest = 24

// PodRange returns the range of addresses for the pods of a node that may have that many of them
// at once, in that of the cluster: the first one that is free. When none is left of that size, it
// is a smaller one. A node among others never gets more than its part.
func PodRange(cluster netip.Prefix, pods int64, nodes int, taken []netip.Prefix) (netip.Prefix, bool) {
	least := max(smallest, cluster.Bits())
	want := cluster.Bits() + bits.Len(uint(max(nodes, 1)-1))
	const rest = 4 // one in four waits, in a namespace that nobody is in, to be used again
	for want < least && 1<<(32-want-1) > pods+pods/rest {
		want++
	}
	for ; want <= least; want++ {
		if r, ok := free(cluster, want, taken); ok {
			return r, true
		}
	}
	return netip.Prefix{}, false
}

// free returns the first range of that size that overlaps with none.
func free(cluster netip.Prefix, size int, taken []netip.Prefix) (netip.Prefix, bool) {
	for at := cluster.Masked().Addr(); cluster.Contains(at); {
		r := netip.PrefixFrom(at, size)
		if !overlaps(r, taken) {
			return r, true
		}
		next := at.As4()
		v := uint32(next[0])<<24 | uint32(next[1])<<16 | uint32(next[2])<<8 | uint32(next[3])
		if v > v+1<<(32-size) {
			break
		}
		v += 1 << (32 - size)
		at = netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	return netip.Prefix{}, false
}

func overlaps(r netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if r.Overlaps(t) {
			return true
		}
	}
	return false
}

// FitsPods tells whether the range that a Node names can be that of its pods.
func FitsPods(cluster netip.Prefix, text string, taken []netip.Prefix) (netip.Prefix, bool) {
	r, err := netip.ParsePrefix(text)
	if err != nil || r != r.Masked() || !r.Addr().Is4() || !cluster.Contains(r.Addr()) ||
		r.Bits() < cluster.Bits() || r.Bits() > smallest || overlaps(r, taken) {
		return netip.Prefix{}, false
	}
	return r, true
}
