package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// runReport is what a run tells, and where.
type runReport struct {
	output string
	noLogs bool
}

func (o *runReport) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", `print the result to standard output as "json"; everything else goes to standard error`)
	f.BoolVar(&o.noLogs, "no-logs", false, "do not print what the pods write")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *runReport) check() error {
	if o.output != "" && o.output != "json" {
		return usage(fmt.Errorf("--output: %q is not known; use json", o.output))
	}
	return nil
}

// console is where a run tells what happens: standard output is the result's, if that is
// for machines.
func (o *runReport) console() *console {
	if o.output == "json" {
		return newConsole(os.Stderr, os.Stderr)
	}
	return newConsole(os.Stdout, os.Stderr)
}
