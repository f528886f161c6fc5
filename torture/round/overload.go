package round

import (
	"context"
	"fmt"
	"time"

	"github.com/sampan-batch/sampan/torture/load"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

// overload asks for more than a machine can do at once. All of it is done in the
// end, nobody else waits long meanwhile, and afterwards the engine holds what it held
// before.
func overload(ctx context.Context, e *Env) error {
	v, err := e.victim(ctx, "victim", nil)
	if err != nil {
		return err
	}
	if err := e.start(ctx, v); err != nil {
		return err
	}
	defer e.stop(v, false)
	c := &load.Crowd{Victim: v, Report: e.Report, Seed: e.Seed}
	if err := c.Prepare(ctx); err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	before, err := victim.UsageOf(v.PID())
	if err != nil {
		return err
	}
	for _, part := range []struct {
		what string
		do   func(ctx context.Context, n int) error
		n    int
	}{
		{"Jobs at once", c.Jobs, e.scaled(10000)},
		{"watchers of what is written", c.Watchers, e.scaled(1000)},
		{"pods of one Job", c.Wide, e.scaled(3000)},
		{"readers of one byte a second", c.SlowReaders, e.scaled(50)},
		{"thousand lines of log, followed", c.Log, e.scaled(8000)},
	} {
		began := time.Now()
		e.Report.Say("%d %s", part.n, part.what)
		if err := part.do(ctx, part.n); err != nil {
			return fmt.Errorf("%d %s: %w", part.n, part.what, err)
		}
		e.Report.Figure("%d %s: %s", part.n, part.what, time.Since(began).Round(10*time.Millisecond))
		e.Report.Count(report.Faults, 1)
	}
	if err := c.Clear(ctx); err != nil {
		return err
	}
	return e.leaks(ctx, v, before)
}

// scaled is a part of the full size.
func (e *Env) scaled(n int) int { return max(1, n*e.Scale/100) }

const (
	// descriptorSlack is how many more descriptors an engine may have than before: of
	// connections that it has not yet seen to be idle.
	descriptorSlack = 16
	// residentSlack is how much more memory it may have: an hour's Events, 20,000 at
	// most, the writes that watches can resume after, and what the collector needs.
	residentSlack = 192 << 20
	// calmWithin is how long it may take until it has given back the rest: the state that
	// the slow readers' lists could be continued from is kept for five minutes, and Go's
	// runtime collects every two minutes at the latest.
	calmWithin = 8 * time.Minute
)

// leaks compares what the engine holds with what it held before.
func (e *Env) leaks(ctx context.Context, v *victim.Victim, before victim.Usage) error {
	began := time.Now()
	var after, most victim.Usage
	for {
		var err error
		if after, err = victim.UsageOf(v.PID()); err != nil || ctx.Err() != nil {
			return err
		}
		most.Resident = max(most.Resident, after.Resident)
		calm := after.Descriptors <= before.Descriptors+descriptorSlack && after.Resident <= before.Resident+residentSlack
		if calm || time.Since(began) > calmWithin {
			break
		}
		pause(ctx, time.Second)
	}
	e.Report.Figure("the engine before: %s; when all was over: %d MB; %s later: %s", before, most.Resident>>20, time.Since(began).Round(time.Second), after)
	if after.Descriptors > before.Descriptors+descriptorSlack {
		e.Report.Find("the engine has %d descriptors, and had %d: it leaks them", after.Descriptors, before.Descriptors)
	}
	if after.Resident > before.Resident+residentSlack {
		e.Report.Find("the engine has %d MB, and had %d: it does not give them back", after.Resident>>20, before.Resident>>20)
	}
	return nil
}
