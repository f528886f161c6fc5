package cron

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/utils/ptr"
)

func TestLook(t *testing.T) {
	t.Parallel()
	suspended := func(c *batchv1.CronJob) { c.Spec.Suspend = ptr.To(true) }
	for _, c := range []struct {
		name      string
		cron      *batchv1.CronJob
		now       time.Duration
		slot      string
		hindrance Hindrance
		until     string
	}{
		{"nothing is due", newCron("0 * * * *", ran(hour)), hour + minute, "", Unhindered, ""},
		{"due", newCron("0 * * * *", ran(hour)), 2 * hour, "2h", Unhindered, ""},
		{"due, with a deadline", newCron("0 * * * *", ran(hour), deadline(90)), 2 * hour, "2h", Unhindered, "2h1m30s"},
		{"too late", newCron("0 * * * *", ran(hour), deadline(90)), 2*hour + 90*time.Second, "2h", TooLate, "2h1m30s"},
		{"another runs", newCron("0 * * * *", ran(hour), active(hour)), 2 * hour, "2h", Unhindered, ""},
		{"another runs: Forbid", newCron("0 * * * *", ran(hour), active(hour), policy("Forbid")), 2 * hour, "2h", Forbidden, ""},
		{"suspended, apart from that", newCron("0 * * * *", ran(hour), active(hour), policy("Forbid"), suspended), 2 * hour, "2h", Forbidden, ""},
		{"the Job of its minute runs", newCron("@every 30s", ran(minute), active(minute)), 90 * time.Second, "1m30s", SameMinute, ""},
	} {
		o, err := Look(t0.Add(c.now), c.cron, time.LoadLocation, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		spell := func(t time.Time) string {
			if t.IsZero() {
				return ""
			}
			return after(t)
		}
		if spell(o.Slot) != c.slot || o.Hindrance != c.hindrance || spell(o.Until) != c.until {
			t.Errorf("%s: got %s, %d, until %s", c.name, spell(o.Slot), o.Hindrance, spell(o.Until))
		}
	}
	if _, err := Look(t0, newCron("61 * * * *"), time.LoadLocation, time.UTC); err == nil {
		t.Error("a schedule that cannot be read is")
	}
}
