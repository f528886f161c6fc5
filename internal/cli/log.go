package cli

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

// logOptions say what an engine logs, and how.
type logOptions struct {
	level, format string
	verbose       bool
}

func (o *logOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.level, "log-level", "info", `what is logged: "error", "warn" (failed runs, too), "info" (a line when a Job has started, and when it has ended) or "debug" (what is decided)`)
	f.StringVar(&o.format, "log-format", "text", `"text", or "json": an object a line`)
	f.BoolVarP(&o.verbose, "verbose", "v", false, "the same as --log-level=debug")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"error", "warn", "info", "debug"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// logger returns the log that is asked for, which is written to w.
func (o *logOptions) logger(w io.Writer) (*slog.Logger, error) {
	levels := map[string]slog.Level{"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug}
	level, ok := levels[o.level]
	if !ok {
		return nil, usage(fmt.Errorf("--log-level: %q is not known; use error, warn, info or debug", o.level))
	}
	if o.verbose {
		level = slog.LevelDebug
	}
	switch o.format {
	case "text":
		return newLogger(w, level), nil
	case "json":
		return slog.New(slog.NewJSONHandler(escapingJSON{w}, &slog.HandlerOptions{Level: level})), nil
	}
	return nil, usage(fmt.Errorf("--log-format: %q is not known; use text or json", o.format))
}

// escapingJSON escapes what JSON lets through and drives a terminal.
type escapingJSON struct{ w io.Writer }

// Write is called with one line at a time.
func (e escapingJSON) Write(line []byte) (int, error) {
	if _, err := e.w.Write(escapeJSON(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}
