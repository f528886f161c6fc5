package round

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/torture/load"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

// mixed is the load of most rounds.
var mixed = load.Size{Writers: 6, Runners: 5, CronJobs: 2, Watchers: 2, Pause: 2 * time.Millisecond}

// kill kills the engine, its supervisors, or both, at random moments.
func kill(ctx context.Context, e *Env) error {
	random := load.Random(e.Seed, "kill")
	return e.underLoad(ctx, trial{do: func(v *victim.Victim) error {
		pause(ctx, time.Duration(100+random.IntN(2400))*time.Millisecond)
		return e.killOne(ctx, v, random)
	}})
}

// trial is an engine that is in use while something is done to it.
type trial struct {
	change  func(*victim.Config)
	lenient bool
	do      func(v *victim.Victim) error // again and again
	after   func() error                 // before everything is checked
}

// underLoad does something to an engine again and again while it is used, then
// checks everything.
func (e *Env) underLoad(ctx context.Context, t trial) error {
	v, err := e.victim(ctx, "victim", t.change)
	if err != nil {
		return err
	}
	if err := e.start(ctx, v); err != nil {
		return err
	}
	l := &load.Load{Victim: v, Report: e.Report, Seed: e.Seed, Size: mixed, Lenient: t.lenient}
	if err := l.Start(ctx); err != nil {
		e.stop(v, true)
		return err
	}
	err = e.until(ctx, func() error {
		e.Report.Count(OwnGroups, e.machine.Own())
		return t.do(v)
	})
	if t.after != nil {
		err = errors.Join(err, t.after())
	}
	if err == nil {
		e.Report.Say("everything that was begun comes to its end")
		l.Finish(ctx)
	} else {
		l.Abandon()
	}
	e.stop(v, true)
	return err
}

// killOne kills one of the processes, or all, and sees to it that an engine is
// there again.
func (e *Env) killOne(ctx context.Context, v *victim.Victim, random *rand.Rand) error {
	switch n := random.IntN(10); {
	case n < 6:
		v.Kill()
		e.Report.Count("engine kills", 1)
	case n < 8:
		e.Report.Count("supervisor kills", v.SignalSupervisors(syscall.SIGKILL))
		e.Report.Count(report.Kills, 1)
		return nil
	default: // in either order
		if n == 8 {
			e.Report.Count("supervisor kills", v.SignalSupervisors(syscall.SIGKILL))
			v.Kill()
		} else {
			v.Kill()
			e.Report.Count("supervisor kills", v.SignalSupervisors(syscall.SIGKILL))
		}
		e.Report.Count("engine kills", 1)
	}
	e.Report.Count(report.Kills, 1)
	return e.start(ctx, v)
}

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
