package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// runControl is how a run is led: how long it may take, and what is kept of it.
type runControl struct {
	timeout time.Duration
	keep    string
}

func (o *runControl) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&o.timeout, "timeout", 0, "end the run this long after it began, and exit with 124 (0: never)")
	f.StringVar(&o.keep, "keep", "", "keep the engine's data (objects, logs) in this directory")
	_ = cmd.RegisterFlagCompletionFunc("keep", dirs)
}

func (o *runControl) check() error {
	if o.timeout < 0 {
		return usage(errors.New("--timeout: must not be negative"))
	}
	return nil
}
