// Package cli is the command line: arguments in, an exit status out. Commands
// that look at Jobs are clients of the API like any other; only `run`, `serve`,
// `stop` and those that look after a data directory know the engine.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sampan-batch/sampan/internal/plan"
	"github.com/sampan-batch/sampan/internal/report"
)

// Exit statuses of every command.
const (
	exitOK          = 0
	exitFailed      = 1   // a Job failed, or the command could not do its work
	exitUsage       = 2   // the input is wrong
	exitTimedOut    = 124 // --timeout passed before the Job ended, as timeout(1) reports it
	exitInterrupted = 130 // Ctrl-C, as shells report it
)

// exitError carries an exit status through cobra.
type exitError struct {
	code int
	err  error // printed if not nil
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the user's.
func usage(err error) error { return &exitError{exitUsage, err} }

// Main runs the command line and returns the exit status.
func Main(args []string) int {
	root, out := newRoot(), &answer{w: os.Stdout}
	root.SetArgs(args)
	root.SetOut(out)
	ctx, attention := attend()
	err := root.ExecuteContext(ctx)
	if attention.leave() && err != nil {
		err = interruption(err)
	}
	if err == nil {
		err = out.failed // whoever asked has not got all of the answer
	}
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{exitFailed, err}
	}
	if unserved := (*unservedError)(nil); errors.As(exit.err, &unserved) {
		exit.err = unserved // which request it was that nobody has answered is not the point
	}
	printError(exit.err)
	return exit.code
}

// interruption is the error of a command that did not come to its end because it was asked to end.
func interruption(err error) error {
	if exit := (*exitError)(nil); errors.As(err, &exit) && exit.code == exitTimedOut {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted) {
		err = nil // who has asked knows
	}
	return &exitError{exitInterrupted, err}
}

// answer is where commands print what they were asked for. They need not look at each
// write: Main does.
type answer struct {
	w      io.Writer
	failed error // the first
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.w.Write(p)
	if a.failed == nil {
		a.failed = err
	}
	return n, err
}

// printError prints an error, or each of those that were joined.
func printError(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			printError(err)
		}
	} else if err != nil {
		fmt.Fprintln(os.Stderr, errorLine(plainLines(err.Error())))
	}
}

// errorLine is how an error is told: to the runner of a GitHub workflow by its command.
func errorLine(text string) string {
	if inWorkflow() {
		return report.Command("error", "", text)
	}
	return "error: " + text
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sampan",
		Short: "Kubernetes batch in one binary",
		Long: `Sampan runs Kubernetes Jobs on one machine, without a cluster, Docker or root.
kubectl, the client libraries and the manifests that you have work unmodified.

  sampan run     runs manifests to their end, like "docker run" for Jobs
  sampan serve   is the long-lived engine that kubectl talks to`,
		Example: `  sampan run job.yaml                       # run a Job, see its output, get its status
  sampan image load busybox.tar             # give this machine an image
  sampan serve &                            # the engine, for kubectl
  kubectl --kubeconfig ~/.local/share/sampan/kubeconfig get jobs`,
		Version:       Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(wrongFlag)
	root.AddCommand(newRun(), newServe(), newStop(), newImage(), newNode(), newSupervise())
	root.AddCommand(newJob(), newCron(), newExplain(), newFollow(), newLogs(), newVersion())
	root.AddCommand(newBackup(), newRestore(), newCheck())
	root.AddCommand(newDoctor(), newInstall(), newKubeconfig(), newExpand())
	root.AddCommand(verbs()...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help": // which takes what it does not know for a question after all
			cmd.Run, cmd.RunE = nil, helpOn
		case "completion":
			cmd.Args, cmd.RunE = noSuchCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				shell.Args = wantArgs(cobra.NoArgs, "completion "+shell.Name()+" takes no arguments")
			}
		}
	}
	return root
}

// helpOn is the command "help".
func helpOn(cmd *cobra.Command, args []string) error {
	about, rest, err := cmd.Root().Find(args)
	if err != nil {
		return usage(err)
	}
	if len(rest) > 0 {
		return noSuchCommand(about, rest)
	}
	about.InitDefaultHelpFlag()
	return about.Help()
}

// wantArgs is cobra's argument check with an exit status of its own.
func wantArgs(check cobra.PositionalArgs, hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check(cmd, args) == nil {
			return nil
		}
		return usage(fmt.Errorf("%s\nSee '%s --help'", hint, cmd.CommandPath()))
	}
}

// noSuchCommand refuses the arguments of a command that only has commands.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	err := cobra.NoArgs(cmd, args)
	if err == nil {
		return nil
	}
	hint := fmt.Sprintf("See '%s --help'", cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		slices.SortStableFunc(similar, func(a, b string) int { return cmp.Compare(plan.Distance(a, args[0]), plan.Distance(b, args[0])) })
		hint = fmt.Sprintf("Did you mean '%s %s'?", cmd.CommandPath(), similar[0])
	}
	return usage(fmt.Errorf("%w\n%s", err, hint))
}

// newLogger writes the engine's own log: what an operator may want to know.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
