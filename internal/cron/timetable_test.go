package cron

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestUpcoming(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, schedule, zone, after string
		n                           int
		want                        []string
	}{
		{"plain", "0 5 * * *", "Asia/Seoul", "2026-03-01T00:00:00Z", 2,
			[]string{"2026-03-02T05:00:00+09:00", "2026-03-03T05:00:00+09:00"}},
		{"every counts from its base", "@every 90s", "UTC", "2026-03-01T00:00:00Z", 2,
			[]string{"2026-03-01T00:01:30Z", "2026-03-01T00:03:00Z"}},
		{"a slot that the clocks leave out", "30 2 * * *", "America/Los_Angeles", "2026-03-07T12:00:00Z", 1,
			[]string{"left out at 2026-03-08T03:00:00-07:00: 02:30", "2026-03-09T02:30:00-07:00"}},
		{"many slots left out", "*/20 2 * * *", "America/Los_Angeles", "2026-03-08T00:00:00-08:00", 1,
			[]string{"left out at 2026-03-08T03:00:00-07:00: 02:00 02:20 02:40", "2026-03-09T02:00:00-07:00"}},
		{"nothing is lost of a schedule of all hours", "*/30 * * * *", "America/Los_Angeles", "2026-03-08T01:00:00-08:00", 3,
			[]string{"2026-03-08T01:30:00-08:00", "2026-03-08T03:00:00-07:00", "2026-03-08T03:30:00-07:00"}},
		{"a reading that comes twice", "30 1 * * *", "America/Los_Angeles", "2026-11-01T00:00:00-07:00", 3,
			[]string{"2026-11-01T01:30:00-07:00", "again 2026-11-01T01:30:00-08:00", "2026-11-02T01:30:00-08:00"}},
		{"the hour after the one that comes twice", "0 2 * * *", "America/Los_Angeles", "2026-11-01T00:00:00-07:00", 1,
			[]string{"2026-11-01T02:00:00-08:00"}},
		{"half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00:00+10:30", 1,
			[]string{"left out at 2026-10-04T02:30:00+11:00: 02:15", "2026-10-05T02:15:00+11:00"}},
		{"a date that never comes", "0 0 31 2 *", "UTC", "2026-03-01T00:00:00Z", 3, nil},
		{"fewer than asked for", "0 0 29 2 *", "UTC", "2026-03-01T00:00:00Z", 1, []string{"2028-02-29T00:00:00Z"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			zone, err := time.LoadLocation(tc.zone)
			if err != nil {
				t.Fatal(err)
			}
			after, err := time.Parse(time.RFC3339, tc.after)
			if err != nil {
				t.Fatal(err)
			}
			tt, err := NewTimetable(tc.schedule, zone, after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range tt.Upcoming(after, tc.n) {
				line := e.Time.Format(time.RFC3339)
				if e.Repeat {
					line = "again " + line
				}
				if len(e.LeftOut) > 0 {
					line = fmt.Sprintf("left out at %s:", line)
					for _, w := range e.LeftOut {
						line += w.Format(" 15:04")
					}
				}
				got = append(got, line)
			}
			if strings.Join(got, "\n") != strings.Join(tc.want, "\n") {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tc.want, "\n  "))
			}
		})
	}
}

// A timetable of a CronJob and Decide agree on which slot is owed.
func TestTimetableOf(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	c := &batchv1.CronJob{}
	c.CreationTimestamp = metav1.NewTime(at("2026-03-01T00:00:00Z"))
	c.Spec.Schedule = "0 * * * *"
	owed := func(now string) string {
		t.Helper()
		tt, err := TimetableOf(c, time.LoadLocation, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		slot, due := tt.Last(at(now))
		if !due {
			return "none"
		}
		return slot.Format(time.RFC3339)
	}
	expect := func(what, now, want string) {
		t.Helper()
		if got := owed(now); got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	expect("nothing yet", "2026-03-01T00:59:59Z", "none")
	expect("the most recent", "2026-03-01T03:10:00Z", "2026-03-01T03:00:00Z")
	c.Status.LastScheduleTime = ptr.To(metav1.NewTime(at("2026-03-01T03:00:00Z")))
	expect("what was started is not owed", "2026-03-01T03:10:00Z", "none")
	c.Annotations = map[string]string{ScheduleAnnotation: "0 * * * *||2026-03-01T04:30:00Z"}
	expect("not before the schedule became what it is", "2026-03-01T04:40:00Z", "none")
	c.Annotations[ScheduleAnnotation] = "5 * * * *||2026-03-01T04:30:00Z"
	expect("a mark of another schedule does not count", "2026-03-01T04:40:00Z", "2026-03-01T04:00:00Z")
	c.Spec.TimeZone = ptr.To("Asia/Kolkata")
	expect("in its zone", "2026-03-01T04:40:00Z", "2026-03-01T10:00:00+05:30")
	c.Spec.TimeZone = ptr.To("Nowhere/Else")
	if _, err := TimetableOf(c, time.LoadLocation, time.UTC); err == nil {
		t.Error("an unknown time zone is no error")
	}
}
