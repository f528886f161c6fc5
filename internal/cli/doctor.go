package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sampan-batch/sampan/internal/doctor"
	"github.com/sampan-batch/sampan/internal/engine"
)

func newDoctor() *cobra.Command {
	var output outputFormat
	c := &cluster{}
	config := engine.Default()
	o := doctor.Options{DataDir: config.DataDir, Listen: config.Listen, Trial: []string{"doctor", insideFlag}}
	inside := false
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what works on this machine, what does not, and what to do about it",
		Long: `Doctor runs a container of each runtime class, as an engine would, in a directory that it
removes again, and looks at what the engine needs. It changes nothing. Each line is about
one thing: it works (ok), something is not enforced (!), or it has to be mended (x).

The exit status is 0 if Jobs can run in the sandbox, and 1 if something essential is broken;
the last line says whether --runtime=host works all the same.`,
		Example: `  sampan doctor
  sampan doctor --data-dir /srv/sampan -o json | jq '.findings[] | select(.status != "ok")'`,
		Args: wantArgs(cobra.NoArgs, "doctor takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if inside {
				return doctor.Inside()
			}
			if err := output.check(); err != nil {
				return err
			}
			o.More = []doctor.Probe{
				{Name: "engine", Ask: func(ctx context.Context) []doctor.Finding { return engineFares(ctx, o.DataDir) }},
				{Name: "kubeconfig", Ask: func(context.Context) []doctor.Finding { return []doctor.Finding{c.finding()} }},
			}
			return examine(cmd.Context(), cmd.OutOrStdout(), o, output)
		},
	}
	output.addFlag(cmd, "what people read")
	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", o.DataDir, "the engine's data directory")
	f.StringVar(&o.Listen, "listen", o.Listen, "where the API would listen")
	f.BoolVar(&inside, strings.TrimPrefix(insideFlag, "--"), false, "tell what a container sees (given by doctor itself)")
	_ = f.MarkHidden(strings.TrimPrefix(insideFlag, "--"))
	return cmd
}

// insideFlag has the command tell what it sees in a container.
const insideFlag = "--inside"

func examine(ctx context.Context, out io.Writer, o doctor.Options, output outputFormat) error {
	report := doctor.Examine(ctx, o)
	var err error
	if output != "" {
		err = output.print(out, report)
	} else {
		printExamined(out, report, showsSymbols(out))
	}
	if err == nil && len(report.Broken()) > 0 {
		err = &exitError{code: exitFailed}
	}
	return err
}

// showsSymbols tells whether a writer of an answer is a terminal for UTF-8.
func showsSymbols(out io.Writer) bool {
	if a, ok := out.(*answer); ok {
		out = a.w
	}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} { // the first that is set counts
		if value := os.Getenv(name); value != "" {
			value = strings.ToLower(value)
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

func printExamined(out io.Writer, r *doctor.Report, symbols bool) {
	marks := map[doctor.Status]string{doctor.OK: "ok", doctor.Limited: "! ", doctor.Broken: "x "}
	if symbols {
		marks = map[doctor.Status]string{doctor.OK: "✓", doctor.Limited: "!", doctor.Broken: "✗"}
	}
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.Name))
	}
	for _, f := range r.Findings {
		line := plain(f.Message)
		if f.Advice != "" {
			line += ": " + plain(f.Advice)
		}
		fmt.Fprintf(out, "%s %-*s  %s\n", marks[f.Status], width, f.Name, line)
	}
	fmt.Fprintln(out, verdict(r))
}

// verdict is the sum in one line.
func verdict(r *doctor.Report) string {
	wrong := strings.Join(r.Broken(), ", ")
	switch {
	case wrong == "":
		return "Jobs can run in the sandbox."
	case r.Sandbox:
		return "Jobs can run in the sandbox once this is mended: " + wrong + "."
	case r.Host:
		return "Jobs cannot run in the sandbox; with --runtime=host they can, without any isolation."
	}
	return "Jobs cannot run on this machine."
}
