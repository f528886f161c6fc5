package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Where there is no terminal a run that moves all the time has a line in ten seconds, one
// that stands still none, and failures are told as they can be read.
func TestPaceIsCalm(t *testing.T) {
	t.Parallel()
	t0 := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name             string
		moves, fails     func(second float64) bool
		most, mostFailed int
	}{
		{"it moves", func(float64) bool { return true }, func(float64) bool { return false }, 7, 0},
		{"it stands still", func(s float64) bool { return s < 0.5 }, func(float64) bool { return false }, 1, 0},
		{"all of it fails", func(float64) bool { return true }, func(float64) bool { return true }, 7, 20 + 30},
	} {
		p := pace{shown: t0.Add(time.Second - calm)}
		moved, lines, told := 0, 0, 0
		var last time.Time
		for tick := range 600 { // of a tenth of a second
			now := t0.Add(time.Duration(tick) * drawEvery)
			s := now.Sub(t0).Seconds()
			if c.moves(s) {
				moved++
			}
			var news []string
			if c.fails(s) {
				news = []string{fmt.Sprint("✗ pod ", tick)}
			}
			for _, line := range p.news(now, news) {
				if !strings.HasPrefix(line, "…") {
					told++
				}
			}
			if p.due(now, moved) {
				if lines++; lines > 1 && now.Sub(last) < calm {
					t.Errorf("%s: a line %s after the last", c.name, now.Sub(last))
				}
				last = now
			}
		}
		if lines == 0 || lines > c.most || told > c.mostFailed || c.mostFailed > 0 && told < 20 {
			t.Errorf("%s: %d lines and %d failures in a minute", c.name, lines, told)
		}
	}
}
