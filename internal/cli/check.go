package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	utilduration "k8s.io/apimachinery/pkg/util/duration"

	"github.com/sampan-batch/sampan/internal/engine"
)

func newCheck() *cobra.Command {
	var output outputFormat
	var deep bool
	var salvage string
	dir := engine.Default().DataDir
	cmd := &cobra.Command{
		Use:   "check [DIR]",
		Short: "Tell what a data directory holds and what is wrong with it",
		Long: `Check looks at a data directory (by default this user's) and changes nothing in it: the store
page by page and object by object, the keys, the images, and what is left lying about.
The directory may be in use, or on a file system that is read-only.

The exit status is 0 if nothing is wrong, 1 if something is, and 2 if it could not be told.

--salvage writes what can be read of a damaged store as a backup for "sampan restore", and
says what is not in it.`,
		Example: `  sampan check
  sampan check /srv/sampan -o json
  sampan check /srv/sampan --salvage rest.tar && sampan restore rest.tar --data-dir /srv/sampan --replace`,
		Args: wantArgs(cobra.MaximumNArgs(1), "check takes one directory"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				dir = args[0]
			}
			if err := output.check(); err != nil {
				return err
			}
			if salvage != "" {
				return writeBackup(cmd.Context(), salvage, func(ctx context.Context, w io.Writer) error {
					return engine.BackupDir(ctx, dir, w, engine.BackupOptions{Version: Version(), Salvage: true})
				})
			}
			return check(cmd.OutOrStdout(), dir, deep, output)
		},
	}
	output.addFlag(cmd, "what people read")
	cmd.Flags().BoolVar(&deep, "images", false, "also read every file of every image")
	cmd.Flags().StringVar(&salvage, "salvage", "", "write what can be read of the store to this file, as a backup")
	return cmd
}

func check(out io.Writer, dir string, deep bool, output outputFormat) error {
	report, err := engine.CheckDir(dir, deep)
	if err != nil {
		return usage(err)
	}
	if output != "" {
		err = output.print(out, report)
	} else {
		printReport(out, report)
	}
	switch {
	case err != nil:
		return err
	case len(report.Problems) > 0:
		return &exitError{code: exitFailed}
	case len(report.Unseen) > 0:
		return &exitError{code: exitUsage}
	}
	return nil
}

func printReport(out io.Writer, r *engine.Report) {
	rows := [][]string{{"directory", r.Directory}, {"engine", engineOf(r)}, {"supervisors", orNone(strings.Join(r.Supervisors, ", "))}}
	if s := r.Store; s != nil {
		rows = append(rows, []string{"store", fmt.Sprintf("%s, revision %d", bytesOf(s.Bytes), s.Revision)},
			[]string{"objects", orNone(sortedCounts(s.Objects))})
	}
	for _, k := range r.Keys {
		if !k.Expires.IsZero() {
			rows = append(rows, []string{k.Name + " certificate", "expires " + k.Expires.Format(time.DateOnly)})
		}
	}
	if i := r.Images; i != nil {
		rows = append(rows, []string{"images", fmt.Sprintf("%d names, %d images, %d layers (%d unused), %s", i.Names, i.Images, i.Layers, i.Unused, bytesOf(i.Bytes))})
	}
	rows = append(rows, []string{"logs", fmt.Sprintf("%d files, %s", r.Logs.Files, bytesOf(r.Logs.Bytes))})
	if r.Replaced.Files > 0 {
		rows = append(rows, []string{"put aside", fmt.Sprintf("%d files, %s", r.Replaced.Files, bytesOf(r.Replaced.Bytes))})
	}
	backup := "none known"
	if r.LastBackup != nil {
		backup = utilduration.HumanDuration(time.Since(*r.LastBackup)) + " ago"
	}
	fmt.Fprint(out, table(append(rows, []string{"last backup", backup})))
	printFindings(out, "wrong", r.Problems)
	printFindings(out, "note", r.Notes)
	printFindings(out, "not looked at", r.Unseen)
	if len(r.Problems) == 0 && len(r.Unseen) == 0 {
		fmt.Fprintln(out, "nothing is wrong")
	}
}

func engineOf(r *engine.Report) string {
	if r.Engine == nil {
		return "none"
	}
	return r.Engine.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func printFindings(out io.Writer, what string, all []string) {
	for _, line := range all {
		fmt.Fprintf(out, "%s: %s\n", what, plain(line))
	}
}

// sortedCounts is how many of each kind there are, for people.
func sortedCounts(n map[string]int) string {
	var parts []string
	for name, count := range n {
		parts = append(parts, fmt.Sprintf("%s %d", name, count))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
