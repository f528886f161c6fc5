package cli

import (
	"fmt"
	"time"
)

// pace keeps what is told at a length that somebody can read.
type pace struct {
	shown time.Time // when a line of progress was, or could have been
	moved int       // what Moved was then
	burst float64   // lines of news that were told lately
	last  time.Time // when that was
	more  int       // that were not
}

// calm is how long a log that is no terminal is left alone if nothing goes wrong, after the
// first second.
const calm = 10 * time.Second

// due: a line of progress is worth it.
func (p *pace) due(now time.Time, moved int) bool {
	if now.Sub(p.shown) < calm || moved == p.moved {
		return false
	}
	p.shown, p.moved = now, moved
	return true
}

// news lets through what can be read: twenty lines at once, then one in two seconds. What
// is left out is counted.
func (p *pace) news(now time.Time, lines []string) []string {
	const burst, every = 20, 2 * time.Second
	p.burst = max(0, p.burst-float64(now.Sub(p.last))/float64(every))
	p.last = now
	var told []string
	for _, line := range lines {
		if p.burst > burst-1 {
			p.more++
			continue
		}
		if p.more > 0 {
			told = append(told, fmt.Sprintf("… and %d more such lines", p.more))
			p.more = 0
		}
		told = append(told, line)
		p.burst++
	}
	return told
}
