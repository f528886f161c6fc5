package address

import (
	"net/netip"
	"testing"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func TestPodRange(t *testing.T) {
	t.Parallel()
	cluster := netip.MustParsePrefix("10.244.0.0/16")
	for name, test := range map[string]struct {
		pods  int64
		nodes int
		taken []netip.Prefix
		want  string
	}{
		"the only node":           {10000, 1, nil, "10.244.0.0/18"},
		"few pods":                {10, 1, nil, "10.244.0.0/24"},
		"as many as there can be": {1 << 40, 1, nil, "10.244.0.0/16"},
		"another":                 {3333, 3, prefixes("10.244.0.0/18"), "10.244.64.0/19"},
		"no more than a part":     {10000, 3, nil, "10.244.0.0/18"},
		"one of many":             {10000, 100, prefixes("10.244.0.0/23"), "10.244.2.0/23"},
		"between others":          {100, 3, prefixes("10.244.0.0/24", "10.244.2.0/23"), "10.244.1.0/24"},
		"a smaller one is left":   {3333, 2, prefixes("10.244.0.0/17", "10.244.128.0/18", "10.244.192.0/19", "10.244.224.0/20"), "10.244.240.0/20"},
		"nothing is left":         {10, 2, prefixes("10.244.0.0/16"), "invalid Prefix"},
		"what lies elsewhere":     {10, 2, prefixes("10.0.0.0/16", "fd00::/64"), "10.244.0.0/24"},
	} {
		if got, _ := PodRange(cluster, test.pods, test.nodes, test.taken); got.String() != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
	if r, ok := PodRange(netip.MustParsePrefix("255.255.0.0/16"), 10, 2, prefixes("255.255.0.0/17", "255.255.128.0/17")); ok {
		t.Errorf("behind the last address there is %s", r)
	}
}

// A hundred nodes, of any sizes, get ranges that do not overlap.
func TestPodRangesOfMany(t *testing.T) {
	t.Parallel()
	cluster := netip.MustParsePrefix("10.244.0.0/16")
	var taken []netip.Prefix
	for i := range 100 {
		r, ok := PodRange(cluster, int64(i*i), 100, taken)
		if !ok || overlaps(r, taken) {
			t.Fatalf("node %d gets %s", i, r)
		}
		taken = append(taken, r)
	}
}

func TestFitsPods(t *testing.T) {
	t.Parallel()
	cluster := netip.MustParsePrefix("10.244.0.0/16")
	for text, want := range map[string]bool{
		"10.244.8.0/22": true, "10.244.0.0/16": false, "10.244.1.0/24": false, "10.244.8.0/25": false, "10.244.8.1/24": false,
		"10.0.0.0/8": false, "0.0.0.0/0": false, "10.9.0.0/24": false, "fd00::/64": false, "": false, "10.244.8.0": false,
	} {
		if _, got := FitsPods(cluster, text, prefixes("10.244.1.0/24")); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
