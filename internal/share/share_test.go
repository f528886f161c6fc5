package share

import "testing"

// TestPool has some take all that they get: whoever comes next gets something, until nothing is left;
// and all of it comes back.
func TestPool(t *testing.T) {
	t.Parallel()
	p := New[int](100)
	var all []func()
	fill := func(who int) (got int) {
		for {
			release, ok := p.Take(who)
			if !ok {
				return got
			}
			all = append(all, release)
			got++
		}
	}
	for who, want := range []int{20, 16, 13, 11, 8, 7, 5, 4} {
		if got := fill(who); got != want {
			t.Errorf("number %d gets %d places, want %d", who, got, want)
		}
	}
	left := 16
	for who := 8; left > 0; who++ {
		got := fill(who)
		if got == 0 || got > left {
			t.Fatalf("number %d gets %d places of %d", who, got, left)
		}
		left -= got
	}
	if fill(99) != 0 {
		t.Error("there are more places than there are")
	}
	for _, release := range all {
		release()
	}
	if p.taken != 0 || len(p.of) != 0 {
		t.Errorf("%d places are still taken, by %v", p.taken, p.of)
	}
}

func TestOfFiles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		limit uint64
		want  int
	}{{1024, 128}, {4096, 512}, {20000, 2500}, {1 << 20, 16384}, {1<<64 - 1, 16384}, {3, 1}} {
		if got := ofFiles(test.limit, 2, 4, 16384); got != test.want {
			t.Errorf("of %d files: %d, want %d", test.limit, got, test.want)
		}
	}
}
