package agent

import (
	"fmt"
	"sync"
	"time"
)

const (
	// pullPatience is how long a pull may take until the status says how far it is,
	// pullPeriod how often it does from then on.
	pullPatience = 2 * time.Second
	pullPeriod   = 5 * time.Second
)

// pullTeller says in the container's status how far a pull is. A kubelet says nothing: whether a
// large image comes, or a registry has taken the connection and is silent, cannot be seen there.
type pullTeller struct {
	attempt *attempt
	ref     string

	mu          sync.Mutex
	began       time.Time
	done, total int64
	timer       *time.Timer // nil before begin and after end
}

// begin is called when a registry is about to be asked.
func (t *pullTeller) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = time.Now()
	t.timer = time.AfterFunc(pullPatience, t.tell)
}

// progress takes note of how far the pull is.
func (t *pullTeller) progress(done, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done, t.total = done, total
}

// end is called when there is nothing more to tell.
func (t *pullTeller) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// tell shows how far the pull is.
func (t *pullTeller) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		return
	}
	t.timer.Reset(pullPeriod)
	text := fmt.Sprintf("Pulling image %q: ", t.ref)
	if t.total > 0 {
		text += fmt.Sprintf("%s of %s", megabytes(t.done), megabytes(t.total))
	} else {
		text += fmt.Sprintf("the registry has sent no layer for %s", time.Since(t.began).Round(time.Second))
	}
	a := t.attempt
	a.pod.tasks.Go(func() { a.pod.post(func() { a.waits(text) }) })
}

// megabytes is a number of bytes for people.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
