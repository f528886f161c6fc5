package cron

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func mustLoad(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestZonesAreHandedIn: a decision knows no time zone but those that it is handed,
// wherever a CronJob names one.
func TestZonesAreHandedIn(t *testing.T) {
	t.Parallel()
	var asked []string
	zones := func(name string) (*time.Location, error) {
		asked = append(asked, name)
		if name == "Here/There" {
			return time.FixedZone(name, 3*3600), nil
		}
		return nil, errors.New("not handed in: " + name)
	}
	for _, c := range []struct {
		schedule string
		edits    []func(*batchv1.CronJob)
		notes    string
		slot     string // which is owed at t0 plus an hour
	}{
		{"30 10 * * *", []func(*batchv1.CronJob){zone("Here/There")}, "", "07:30"},
		{"TZ=Here/There 30 10 * * *", nil, "UnsupportedSchedule", "07:30"},
		{"CRON_TZ=Here/There   30 10 * * *", nil, "UnsupportedSchedule", "07:30"},
		{"TZ=Here/There @every 30m", nil, "UnsupportedSchedule", "08:00"},
		{"30 10 * * *", []func(*batchv1.CronJob){zone("Asia/Seoul")}, "UnknownTimeZone", ""},
		{"TZ=Asia/Seoul 30 10 * * *", nil, "UnparseableSchedule", ""},
		{"TZ=Here/There TZ=Asia/Seoul 30 10 * * *", nil, "UnparseableSchedule", ""},
		{"TZ=Here/There", nil, "UnparseableSchedule", ""},
		{"TZ=", nil, "UnparseableSchedule", ""},
	} {
		asked = nil
		cj := newCron(c.schedule, c.edits...)
		s := state(cj)
		s.Zones = zones
		set := Decide(t0.Add(hour), s)
		if got := strings.Split(reasons(set), " ")[0]; got != c.notes && !(c.notes == "" && got == "SuccessfulCreate") {
			t.Errorf("%s: it says %q, want %q", c.schedule, reasons(set), c.notes)
		}
		if len(asked) == 0 {
			t.Errorf("%s: the zone was found without being asked for", c.schedule)
		}
		o, err := Look(t0.Add(hour), cj, zones, time.UTC)
		if got := o.Slot; (err != nil) != (c.slot == "") || err == nil && got.UTC().Format("15:04") != c.slot {
			t.Errorf("%s: it owes %s, %v, want %s", c.schedule, got, err, c.slot)
		}
	}
}

// TestClockChanges looks at CronJobs on the days on which clocks change.
func TestClockChanges(t *testing.T) {
	t.Parallel()
	la := mustLoad(t, "America/Los_Angeles")
	spring := time.Date(2026, 3, 8, 3, 0, 0, 0, la) // 02:00 to 03:00 is left out
	autumn := time.Date(2026, 11, 1, 0, 0, 0, 0, la)
	for _, c := range []struct {
		schedule string
		from     time.Time
		days     int
		starts   []string
		said     []string
	}{
		{"30 2 * * *", spring.AddDate(0, 0, -1), 2, []string{"03-09 02:30"}, []string{"2026-03-08 02:30 does not exist in time zone America/Los_Angeles"}},
		{"15,45 2 8 3 *", spring.AddDate(0, 0, -1), 2, nil, []string{"2026-03-08 02:15 does not exist"}},
		{"0 2 * * *", spring.AddDate(0, 0, -1), 2, []string{"03-09 02:00"}, []string{"2026-03-08 02:00 does not exist"}},
		{"0 3 * * *", spring.AddDate(0, 0, -1), 1, []string{"03-08 03:00"}, nil},
		{"0 */6 * * *", spring.AddDate(0, 0, -1).Add(21 * hour), 1, []string{"03-08 06:00", "03-08 12:00", "03-08 18:00", "03-09 00:00"}, nil},
		{"30 * 8 3 *", spring.Add(-90 * minute), 0, []string{"03-08 01:30", "03-08 03:30", "03-08 04:30", "03-08 05:30"}, nil},
		{"30 1 * * *", autumn, 1, []string{"11-01 01:30", "11-01 01:30"}, nil},
		{"0 2 * * *", autumn, 1, []string{"11-01 02:00"}, nil},
	} {
		cj := newCron(c.schedule, zone("America/Los_Angeles"))
		cj.CreationTimestamp = metav1.NewTime(c.from)
		var starts, said []string
		w := newWorld(cj)
		until := c.from.AddDate(0, 0, c.days)
		if c.days == 0 {
			until = c.from.Add(4 * hour)
		}
		w.sleepUntil(until, func(set result) {
			for _, slot := range set.started {
				starts = append(starts, slot.In(la).Format("01-02 15:04"))
			}
			for _, n := range set.notes {
				if n.Reason == "MissSchedule" {
					said = append(said, strings.TrimPrefix(n.Message, "Missed scheduled time to start a job: "))
				}
			}
		})
		if got, want := strings.Join(starts, ", "), strings.Join(c.starts, ", "); got != want {
			t.Errorf("%s from %s starts at %s, want %s", c.schedule, c.from, got, want)
		}
		if len(said) != len(c.said) || len(said) > 0 && !strings.HasPrefix(said[0], c.said[0]) {
			t.Errorf("%s from %s says %q, want %q", c.schedule, c.from, said, c.said)
		}
	}
}

// TestLast compares the search for the most recent slot, and the count of
// slots, with walking through all of them.
func TestLast(t *testing.T) {
	t.Parallel()
	seoul, la := mustLoad(t, "Asia/Seoul"), mustLoad(t, "America/Los_Angeles")
	for _, schedule := range []string{
		"* * * * *", "*/7 * * * *", "30 6-16/4 * * 1-5", "0 0 1 * *", "* 9 * * *", "0 0 29 2 *", "30 2 * * *", "0 0 * * 0",
		"@hourly", "@every 90s", "@every 7h30m", "0 0 13 * 5", "59 23 31 12 *", "* * * 1 *",
	} {
		spec, err := cron.ParseStandard(schedule)
		if err != nil {
			t.Fatal(err)
		}
		for _, loc := range []*time.Location{time.UTC, seoul, la} {
			p := slots{base: t0, zone: loc, spec: spec}
			if s, ok := spec.(cron.ConstantDelaySchedule); ok {
				p.every = s.Delay
			}
			for _, d := range []time.Duration{0, time.Second, minute, 7*hour + 1, 24 * hour, 72*hour - time.Millisecond, 40 * 24 * hour, 400 * 24 * hour} {
				if now := p.next(p.base).Add(d); d > 50*24*hour && p.next(p.next(now)).Sub(now) < hour {
					continue // too many slots to walk through
				}
				now := t0.Add(d)
				var want time.Time
				n := 0
				for s := p.next(p.base); !s.IsZero() && !s.After(now); s = p.next(s) {
					want, n = s, n+1
				}
				got, due := p.last(now)
				if due != (n > 0) || due && !got.Equal(want) {
					t.Errorf("%s in %s after %s: %v, want %v", schedule, loc, d, got, want)
				}
				if !due {
					continue
				}
				first, last, between := p.between(p.base, got, 100)
				if between != min(n-1, 101) || between > 0 && (!first.Equal(p.next(p.base)) || !p.next(last).Equal(got)) {
					t.Errorf("%s in %s after %s: %d slots from %v to %v before %v, want %d", schedule, loc, d, between, first, last, got, n-1)
				}
			}
		}
	}
}
