package server

import (
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/store"
)

const (
	// pinFor is how long a list can be continued after somebody has read its state as the
	// latest, as long as Kubernetes keeps old revisions (its compaction interval). Nobody
	// keeps a state for longer by asking for it.
	pinFor = 5 * time.Minute
	// pinMax bounds how many states are kept for that.
	pinMax = 64
)

// views keeps the states that unfinished lists are read from, so that all
// their pages are of one state. A state shares all that did not change since.
type views struct {
	now    func() time.Time
	latest func() uint64 // the revision of the present

	mu     sync.Mutex
	pinned []pinned // the longest unused first
}

type pinned struct {
	view  *store.View
	until time.Time
}

func newViews(now func() time.Time, latest func() uint64) *views {
	return &views{now: now, latest: latest}
}

// pin keeps view for a while, or notes that it is in use.
func (v *views) pin(view *store.View) {
	v.mu.Lock()
	defer v.mu.Unlock()
	until := v.now().Add(pinFor)
	for _, p := range v.pinned {
		if p.view.Rev() == view.Rev() && v.latest() != view.Rev() {
			until = p.until
		}
	}
	v.dropLocked(view.Rev())
	if len(v.pinned) == pinMax {
		v.pinned = append(v.pinned[:0], v.pinned[1:]...)
	}
	v.pinned = append(v.pinned, pinned{view, until})
	time.AfterFunc(until.Sub(v.now()), v.expire) // nobody may ask again
}

func (v *views) expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropLocked(0)
}

// at returns the state at revision rev, nil if it is not kept.
func (v *views) at(rev uint64) *store.View {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropLocked(0)
	for _, p := range v.pinned {
		if p.view.Rev() == rev {
			return p.view
		}
	}
	return nil
}

// dropLocked forgets the states that are over, and that of revision rev.
func (v *views) dropLocked(rev uint64) {
	now := v.now()
	kept := v.pinned[:0]
	for _, p := range v.pinned {
		if p.view.Rev() != rev && now.Before(p.until) {
			kept = append(kept, p)
		}
	}
	clear(v.pinned[len(kept):])
	v.pinned = kept
}
