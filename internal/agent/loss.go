package agent

import (
	"fmt"
	"time"

	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// lossQuiet is how long a container loses no output until that is over: what it
// loses later is news.
const lossQuiet = 10 * time.Second

// outputLost takes note of what the container has lost by now. The first of it is told
// at once, what follows when it is over: two Events for an hour of a full disk.
func (c *container) outputLost(st runner.Status, now time.Time) {
	l := &c.loss
	if st.OutputLost.Bytes == 0 || st.Attempt < l.attempt {
		return
	}
	if st.Attempt > l.attempt {
		*l = loss{attempt: st.Attempt}
	}
	if st.OutputLost.Bytes > l.seen.Bytes {
		l.seen = st.OutputLost
		c.pod.lookSoon() // the disk is full, perhaps
		if l.until.IsZero() {
			c.tellLoss()
		}
		l.until = now.Add(lossQuiet)
	}
	if st.Phase == runner.Exited {
		c.tellLoss()
		l.until = time.Time{}
	}
}

// lossOver tells of a loss that is over at now, and returns when to look again.
func (c *container) lossOver(now time.Time) (wakeAt time.Time) {
	if c.loss.until.IsZero() || now.Before(c.loss.until) {
		return c.loss.until
	}
	c.tellLoss()
	c.loss.until = time.Time{}
	return time.Time{}
}

// tellLoss tells of what was lost since it was last told.
func (c *container) tellLoss() {
	l := &c.loss
	lost := l.seen.Bytes - l.told
	if lost == 0 {
		return
	}
	another := ""
	if !l.until.IsZero() {
		another = "another "
	}
	l.told = l.seen.Bytes
	c.note(warning, reason.OutputLost, fmt.Sprintf("Container %s lost %s%d bytes of its output, which could not be written to its log: %s",
		c.Spec.Name, another, lost, l.seen.Message))
}
