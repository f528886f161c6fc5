package podstate

import "time"

// The bounds of the delay between restarts of a container, and between
// attempts to pull its image.
const (
	minBackoff = 10 * time.Second
	maxBackoff = 300 * time.Second
)

// Backoff is the growing delay between attempts at something that fails.
type Backoff struct {
	// Delay is what must pass after a failure before the next attempt; 0 as
	// long as nothing has failed: the first repetition is immediate.
	Delay time.Duration
	// Grown is when Delay last grew.
	Grown time.Time
	// Until is when the next attempt may be made.
	Until time.Time
}

// AfterExit returns the back-off after a container ended at exit: the first
// restart is immediate, the next waits 10 s, then twice as long each time. It
// starts anew when the container was well for twice the longest delay.
func (b Backoff) AfterExit(exit time.Time) Backoff {
	if b.Delay == 0 || exit.Sub(b.Grown) > 2*maxBackoff {
		return Backoff{Until: exit}
	}
	b.Until = exit.Add(b.Delay)
	return b
}

// Restarted returns the back-off after the container was started again at now.
func (b Backoff) Restarted(now time.Time) Backoff {
	if b.Delay == 0 {
		return Backoff{Delay: minBackoff, Grown: now}
	}
	return Backoff{Delay: min(2*b.Delay, maxBackoff), Grown: now}
}

// AfterFailure returns the back-off after an attempt failed at now that is
// not followed by an immediate one: 10 s, then twice as long each time.
func (b Backoff) AfterFailure(now time.Time) Backoff {
	if b.Delay == 0 || now.Sub(b.Grown) > 2*maxBackoff {
		b.Delay = minBackoff
	} else {
		b.Delay = min(2*b.Delay, maxBackoff)
	}
	return Backoff{Delay: b.Delay, Grown: now, Until: now.Add(b.Delay)}
}
