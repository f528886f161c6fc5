package model

import (
	"testing"
	"time"
)

// TestRun changes one thing of a Job that ran as it should: an index failed once and
// ran again, the other ran once.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(r *Run)
		want   string
	}{
		{"as it should", func(*Run) {}, ""},
		{"a pod ran twice", func(r *Run) { r.Started["first"] = 2 }, "pod first was started 2 times"},
		{"an index ran again, and nothing accounts for it", func(r *Run) { r.Started["ghost"] = 1 }, "pod ghost has run, and the API does not know it"},
		{"an index succeeded twice", func(r *Run) {
			r.Pods = append(r.Pods, Pod{"again", "0", "Succeeded"})
			r.Started["again"], r.Ended["again"], r.CountedSucceeded = 1, 1, 3
		}, "index 0 succeeded 2 times"},
		{"a failure is not counted", func(r *Run) { r.CountedFailed = 0 }, "status counts 2 succeeded and 0 failed"},
		{"a success is counted that was none", func(r *Run) { r.Ended["first"] = 0 }, "pod first Succeeded, but came to its end 0 times"},
		{"a pod still runs", func(r *Run) { r.Pods[0].Phase = "Running" }, "pod first is Running, and the Job has ended"},
		{"Complete too early", func(r *Run) { r.Completions = 3 }, "Complete with 2 successes of 2 indexes, not 3"},
		{"a Job that fails deletes pods", func(r *Run) { r.Failed, r.Started["deleted"] = true, 1 }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &Run{
				Job: "j", Completions: 2, Indexed: true, CountedSucceeded: 2, CountedFailed: 1,
				Pods:    []Pod{{"first", "0", "Succeeded"}, {"failed", "1", "Failed"}, {"second", "1", "Succeeded"}},
				Started: map[string]int{"first": 1, "failed": 1, "second": 1}, Ended: map[string]int{"first": 1, "second": 1},
			}
			c.change(r)
			wants(t, c.want, r.Check()...)
		})
	}
}

// TestSlots has a CronJob of three slots.
func TestSlots(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 12, minute, 0, 0, time.UTC) }
	for _, c := range []struct {
		name string
		jobs map[int][]string
		want string
	}{
		{"each once", map[int][]string{1: {"a"}, 2: {"b"}, 3: {"c"}}, ""},
		{"seen by several", map[int][]string{1: {"a", "a"}, 2: {"b"}, 3: {"c"}}, ""},
		{"one is lost", map[int][]string{1: {"a"}, 3: {"c"}}, "the slot 12:02:00 is lost"},
		{"one is started twice", map[int][]string{1: {"a"}, 2: {"b", "b2"}, 3: {"c"}}, "the slot 12:02:00 was started 2 times"},
		{"one before its time", map[int][]string{-5: {"z"}, 1: {"a"}, 2: {"b"}, 3: {"c"}}, "was before it was there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &Slots{CronJob: "c", From: at(0).Add(30 * time.Second), To: at(3).Add(30 * time.Second)}
			for minute, uids := range c.jobs {
				for _, uid := range uids {
					s.Saw(at(minute), uid)
				}
			}
			n, errs := s.Check()
			if wants(t, c.want, errs...); n != 3 {
				t.Errorf("%d slots, want 3", n)
			}
		})
	}
}
