package kind

import (
	"testing"
	"time"
)

// FuzzParseSchedule: whatever a stranger writes as a schedule is either refused
// or yields slots that lie ahead, in order.
func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{
		"* * * * *", "*/5 0-6 1,15 JAN-MAR MON", "30 2 * * *", "0 0 31 2 *", "@hourly", "@every 90s", "@every -1s", "? ? ? ? ?",
		"0 0 * * 7", "60 * * * *", "* * * *", "TZ=Europe/Berlin 0 0 * * *", "CRON_TZ=", "TZ=", "@", "", "*/0 * * * *", "1-0 * * * *",
		"99999999999999999999 * * * *", "* * * * * *",
	} {
		f.Add(s)
	}
	start := time.Date(2026, 3, 8, 1, 59, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSchedule(text)
		if err != nil {
			return
		}
		at := start
		for range 5 {
			next := s.Next(at)
			if next.IsZero() {
				return // never again
			}
			if !next.After(at) {
				t.Fatalf("%q: after %v comes %v", text, at, next)
			}
			at = next
		}
	})
}
