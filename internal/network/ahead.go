package network

import "time"

// ahead makes a few spaces before there are pods for them, so that the first pods of a node, and
// those that come now and then, do not wait for the kernel. It does so when no pod has come
// for a moment: what it makes while many come, they wait for. It is guarded by Network.mu.
type ahead struct {
	n     *Network
	timer *time.Timer
}

const (
	// spareSpaces is how many there are to be for pods that come.
	spareSpaces = 8
	// quietTime is how long no pod has needed a space that was made.
	quietTime = 50 * time.Millisecond
)

// soon has spaces made in a moment. It begins anew if that was to be already.
func (a *ahead) soon() {
	if a.timer == nil {
		a.timer = time.AfterFunc(quietTime, a.run)
		return
	}
	a.timer.Reset(quietTime)
}

func (a *ahead) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// run makes spaces. If one cannot be made, the next pod is told why.
func (a *ahead) run() {
	for a.spare() {
	}
}

// spare makes one space that nobody has asked for, and reports whether it has.
func (a *ahead) spare() bool {
	n := a.n
	n.making.Lock()
	defer n.making.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pool.ready(time.Now()) >= spareSpaces {
		return false
	}
	s, err := n.makeLocked()
	if err != nil {
		return false
	}
	n.pool.fresh = append(n.pool.fresh, s)
	return true
}
