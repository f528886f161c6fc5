package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/board"
)

// What of the pods' output is printed.
const (
	logsAll    = "all"
	logsFailed = "failed"
	logsNone   = "none"
)

// display is what a command shows of the Jobs that it follows.
type display struct {
	output     string
	logs       string
	timestamps bool
}

func (d *display) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&d.output, "output", "o", "", `print the result to standard output as "json" or "junit"; everything else goes to standard error`)
	f.StringVar(&d.logs, "logs", logsAll, `what to print of what the pods write: "all", "failed" (of containers that failed, when they have) or "none"`)
	f.BoolVar(&d.timestamps, "timestamps", false, "print the time in front of each line that a pod writes")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", formatJUnit}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("logs", cobra.FixedCompletions([]string{logsAll, logsFailed, logsNone}, cobra.ShellCompDirectiveNoFileComp))
}

func (d *display) check() error {
	switch d.output {
	case "", "json", formatJUnit:
	default:
		return usage(fmt.Errorf("--output: %q is not known; use json or junit", d.output))
	}
	switch d.logs {
	case logsAll, logsFailed, logsNone:
	default:
		return usage(fmt.Errorf("--logs: %q is not known; use all, failed or none", d.logs))
	}
	return nil
}

// console is where a command tells what happens: standard output is the result's, if that
// is for machines.
func (d *display) console() *console {
	out := os.Stdout
	if d.output != "" {
		out = os.Stderr
	}
	if inWorkflow() {
		return newWorkflowConsole(out)
	}
	return newConsole(out, os.Stderr)
}

// logOutput is what becomes of the logs that are read.
func (d *display) logOutput(out *console) logOutput {
	o := logOutput{mute: d.logs == logsNone, stamped: d.timestamps, timestamps: d.timestamps}
	if d.logs == logsFailed || d.logs == logsAll && out.workflow != nil {
		o.stage = newStage(out, d.logs == logsFailed)
	}
	return o
}

// runReport is what a run tells, and where.
type runReport struct {
	display
	noLogs          bool // what --logs=none was called
	joblog, results string
}

func (o *runReport) addFlags(cmd *cobra.Command) {
	o.display.addFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.noLogs, "no-logs", false, "the same as --logs=none")
	_ = f.MarkHidden("no-logs")
	f.StringVar(&o.joblog, "joblog", "", "add a line to this file for each pod that ends, with the columns of GNU parallel's --joblog and some more")
	f.StringVar(&o.results, "results", "", "write what the pods write to files of their own in this directory, as JOB/INDEX-TRY.log or JOB/POD-TRY.log")
	_ = cmd.RegisterFlagCompletionFunc("results", dirs)
}

func (o *runReport) check() error {
	if o.noLogs {
		o.logs = logsNone
	}
	return o.display.check()
}

// records are the files that a run leaves behind; nil are none.
type records struct {
	joblog  *joblog  // nil: none
	results *results // nil: none
}

// open opens the files, before anything starts. namespace is the run's.
func (o *runReport) open(namespace string, out *console) (*records, error) {
	r := &records{}
	var err error
	if o.joblog != "" {
		if r.joblog, err = openJoblog(o.joblog, namespace); err != nil {
			return nil, usage(fmt.Errorf("--joblog: %w", err))
		}
	}
	if o.results != "" {
		warn := func(err error) { out.Note("warning: --results: %v; what follows may be missing", err) }
		if r.results, err = openResults(o.results, namespace, warn); err != nil {
			return nil, errors.Join(usage(fmt.Errorf("--results: %w", err)), r.close(nil))
		}
	}
	return r, nil
}

// ended takes a pod that has ended.
func (r *records) ended(p *board.PodResult) {
	if r != nil && r.joblog != nil {
		r.joblog.add(p)
	}
}

// create makes the file for what a container writes, if there is to be one.
func (r *records) create(pod *corev1.Pod, container string) *resultFile {
	if r == nil || r.results == nil {
		return nil
	}
	return r.results.create(pod, container)
}

// close closes the files. A run whose files are not whole is no success; err is how it
// ended otherwise.
func (r *records) close(err error) error {
	var failed []error
	if r.joblog != nil {
		if why := r.joblog.close(); why != nil {
			failed = append(failed, fmt.Errorf("--joblog: lines are missing: %w", why))
		}
	}
	if r.results != nil {
		if why := r.results.close(); why != nil {
			failed = append(failed, fmt.Errorf("--results: output is missing: %w", why))
		}
	}
	if len(failed) == 0 {
		return err
	}
	code, why := exitFailed, err
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		code, why = exit.code, exit.err
	}
	return &exitError{code, errors.Join(append(failed, why)...)}
}
