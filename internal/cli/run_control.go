package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// runControl is how a run is led: how long it may take, and what is kept of it.
type runControl struct {
	timeout  time.Duration
	keep     string
	maxPods  int32
	failFast bool
	// retryFailed: of an earlier run that is gone on with, what failed runs again.
	retryFailed bool
}

func (o *runControl) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&o.timeout, "timeout", 0, "end the run this long after it began, and exit with 124 (0: never)")
	f.StringVar(&o.keep, "keep", "", "keep objects and logs in this directory, from which the same command goes on where it was")
	f.Int32VarP(&o.maxPods, "max-pods", "j", 0, "run at most so many pods at a time; the others wait for their turn (0: as many as the machine takes)")
	f.BoolVar(&o.failFast, "fail-fast", false, "end the run when the first Job or Pod has failed")
	f.BoolVar(&o.retryFailed, "retry-failed", false, "with --keep: run what failed in the earlier run again, of Indexed Jobs only what has not succeeded")
	_ = cmd.RegisterFlagCompletionFunc("keep", dirs)
}

func (o *runControl) check() error {
	if o.timeout < 0 {
		return usage(errors.New("--timeout: must not be negative"))
	}
	if o.retryFailed && o.keep == "" {
		return usage(errors.New("--retry-failed: of which run? Give its directory by --keep"))
	}
	if o.maxPods < 0 {
		return usage(errors.New("-j: must not be negative"))
	}
	return nil
}
