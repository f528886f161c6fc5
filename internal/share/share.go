// Package share divides what there is too little of among strangers who do not say when they have
// enough. Who takes all that they get leaves room for others: of n that do, a part of (4/5)ⁿ is left.
package share

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Pool is a number of places. Its methods are safe for concurrent use.
type Pool[K comparable] struct {
	most int

	mu    sync.Mutex
	taken int
	of    map[K]int
}

// New returns a Pool of that many places.
func New[K comparable](most int) *Pool[K] { return &Pool[K]{most: most, of: make(map[K]int)} }

// Take gives a place until release is called, which is once. Who has a quarter of what is still free
// gets none.
func (p *Pool[K]) Take(who K) (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if 4*p.of[who] >= p.most-p.taken {
		return nil, false
	}
	p.taken++
	p.of[who]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken--
		if p.of[who]--; p.of[who] == 0 {
			delete(p.of, who)
		}
	}, true
}

// OfFiles returns how many places there may be if each costs files, which together are no more than
// one part of parts of those that this process may have open; and never more than most. (The Go runtime
// has raised the limit as far as it may when the program started.)
func OfFiles(files, parts, most int) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = 1024
	}
	return ofFiles(limit.Cur, files, parts, most)
}

func ofFiles(limit uint64, files, parts, most int) int {
	return int(max(1, min(limit/uint64(files*parts), uint64(most))))
}
