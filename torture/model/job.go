package model

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Pod is a pod of a Job, as the API shows it.
type Pod struct {
	Name  string
	Index string // "" if its Job is not Indexed
	Phase string // Succeeded, Failed, …
}

// Run is a Job that has come to its end, with its pods, and what they wrote down
// themselves.
type Run struct {
	Job         string
	Completions int
	Indexed     bool
	Failed      bool // as a whole
	// Counted is what the Job's status says.
	CountedSucceeded, CountedFailed int
	Pods                            []Pod
	// Started and Ended have the pods' own notes: how often the container of a pod
	// has begun, and how often it came to the last line of its script.
	Started, Ended map[string]int
}

// Check returns what is wrong: a pod that ran twice or unknown to anybody, an index
// that ran again though no failure was accounted for, numbers that do not add up.
func (r *Run) Check() (errs []error) {
	find := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("Job %s: "+format, append([]any{r.Job}, args...)...))
	}
	known := map[string]bool{}
	succeeded, failed, byIndex := 0, 0, map[string]int{}
	for _, p := range r.Pods {
		known[p.Name] = true
		switch p.Phase {
		case "Succeeded":
			succeeded++
			byIndex[p.Index]++
			if r.Ended[p.Name] != 1 {
				find("pod %s Succeeded, but came to its end %d times", p.Name, r.Ended[p.Name])
			}
		case "Failed":
			failed++
		default:
			find("pod %s is %s, and the Job has ended", p.Name, p.Phase)
		}
		if r.Started[p.Name] > 1 {
			find("pod %s was started %d times", p.Name, r.Started[p.Name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Started)) {
		if !known[name] && !r.Failed { // a Job that fails deletes what still runs
			find("pod %s has run, and the API does not know it: not accounted for", name)
		}
	}
	if succeeded != r.CountedSucceeded || failed != r.CountedFailed {
		find("status counts %d succeeded and %d failed, the pods are %d and %d", r.CountedSucceeded, r.CountedFailed, succeeded, failed)
	}
	for _, index := range slices.Sorted(maps.Keys(byIndex)) {
		if r.Indexed && byIndex[index] > 1 {
			find("index %s succeeded %d times", index, byIndex[index])
		}
	}
	if !r.Failed && (succeeded != r.Completions || r.Indexed && len(byIndex) != r.Completions) {
		find("Complete with %d successes of %d indexes, not %d", succeeded, len(byIndex), r.Completions)
	}
	return errs
}

// Slots holds the Jobs of a CronJob that is due every minute against the clock.
type Slots struct {
	CronJob string
	// From and To are when it was surely there, not suspended, and its engine was
	// never away for a minute.
	From, To time.Time
	// Jobs has the UIDs of the Jobs that were ever seen of each slot.
	Jobs map[time.Time]map[string]bool
}

// Saw notes that there was a Job of a slot.
func (s *Slots) Saw(slot time.Time, uid string) {
	if s.Jobs == nil {
		s.Jobs = map[time.Time]map[string]bool{}
	}
	slot = slot.UTC()
	if s.Jobs[slot] == nil {
		s.Jobs[slot] = map[string]bool{}
	}
	s.Jobs[slot][uid] = true
}

// Check returns how many slots there were, and what is wrong with them.
func (s *Slots) Check() (n int, errs []error) {
	for slot := s.From.UTC().Truncate(time.Minute).Add(time.Minute); !slot.After(s.To); slot = slot.Add(time.Minute) {
		if n++; len(s.Jobs[slot]) == 0 {
			errs = append(errs, fmt.Errorf("CronJob %s: the slot %s is lost", s.CronJob, slot.Format(time.TimeOnly)))
		}
	}
	for slot, uids := range s.Jobs {
		if len(uids) > 1 {
			errs = append(errs, fmt.Errorf("CronJob %s: the slot %s was started %d times", s.CronJob, slot.Format(time.TimeOnly), len(uids)))
		}
		if slot.Before(s.From.Add(-time.Minute)) {
			errs = append(errs, fmt.Errorf("CronJob %s: the slot %s was before it was there", s.CronJob, slot.Format(time.TimeOnly)))
		}
	}
	return n, errs
}
