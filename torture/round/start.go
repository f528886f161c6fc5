package round

import (
	"context"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/torture/load"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

// start kills engines while they start, with or without supervisors that have to be
// found or made.
func start(ctx context.Context, e *Env) error {
	random := load.Random(e.Seed, "start")
	return e.underLoad(ctx, trial{do: func(v *victim.Victim) error {
		pause(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
		v.Kill()
		for range 1 + random.IntN(6) {
			if random.IntN(4) == 0 {
				v.SignalSupervisors(syscall.SIGKILL)
			}
			if _, err := v.Launch(); err != nil {
				return err
			}
			pause(ctx, time.Duration(random.IntN(250_000))*time.Microsecond)
			v.Kill()
			e.Report.Count(report.Kills, 1)
			if !v.Ended().Sys().(syscall.WaitStatus).Signaled() {
				e.Report.Find("an engine ended by itself while it started: %s", v.Ended())
			}
		}
		return e.start(ctx, v)
	}})
}

// stopcont stops engine and supervisors for a while, as a debugger, a suspended
// machine or a starved one does.
func stopcont(ctx context.Context, e *Env) error {
	random := load.Random(e.Seed, "stopcont")
	longest := min(15*time.Second, e.For/4)
	return e.underLoad(ctx, trial{do: func(v *victim.Victim) error {
		pause(ctx, time.Duration(random.IntN(2000))*time.Millisecond)
		still := time.Duration(random.Int64N(int64(longest)))
		switch random.IntN(3) {
		case 0:
			_ = v.Signal(syscall.SIGSTOP)
			pause(ctx, still)
			_ = v.Signal(syscall.SIGCONT)
		case 1:
			v.SignalSupervisors(syscall.SIGSTOP)
			pause(ctx, still)
			v.SignalSupervisors(syscall.SIGCONT)
		default: // who goes on first finds the other still
			_ = v.Signal(syscall.SIGSTOP)
			v.SignalSupervisors(syscall.SIGSTOP)
			pause(ctx, still)
			_ = v.Signal(syscall.SIGCONT)
			pause(ctx, still/2)
			v.SignalSupervisors(syscall.SIGCONT)
		}
		e.Report.Count("stops", 1)
		return nil
	}})
}
