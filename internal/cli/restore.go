package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sampan-batch/sampan/internal/backup"
	"github.com/sampan-batch/sampan/internal/engine"
)

func newRestore() *cobra.Command {
	dir := engine.Default().DataDir
	var o engine.RestoreOptions
	var empty bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data directory of a backup",
		Long: `Restore reads a backup ("-" is standard input), checks all of it, and only then puts it into
the data directory. It refuses one that is in use, and, without --replace, one that an engine
has used; what is replaced is kept beside it.

"sampan serve" then goes on from there. Revisions are moved on, so that every client that
watches lists anew instead of missing what happened after the backup. Pods that ran when
the backup was made are over, as after a crash of the machine, and their Jobs go on.

--empty begins without objects, on purpose, where the store is lost and there is no backup;
the certificates stay.`,
		Example: `  sampan restore /backup/sampan-2026-05-01.tar --data-dir /srv/sampan
  sampan stop && sampan restore sampan.tar --replace && sampan serve
  age -d -i key.txt sampan.tar.age | sampan restore -
  sampan restore --empty --replace`,
		Args: func(cmd *cobra.Command, args []string) error {
			if empty {
				return wantArgs(cobra.NoArgs, "--empty needs no backup")(cmd, args)
			}
			return wantArgs(cobra.ExactArgs(1), "which backup? Give a file, or - for standard input")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Logger = newLogger(os.Stderr, slog.LevelWarn)
			if empty {
				done, err := engine.RestoreEmpty(dir, o)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s begins without objects, at revision %d\n", dir, done.Revision)
				printAside(cmd.OutOrStdout(), done)
				return nil
			}
			return restore(cmd.Context(), cmd.OutOrStdout(), dir, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "data-dir", dir, "the data directory to make")
	f.BoolVar(&o.Replace, "replace", false, "take the place of what is there, which is kept under another name")
	f.BoolVar(&empty, "empty", false, "begin without objects instead of with those of a backup")
	return cmd
}

func restore(ctx context.Context, out io.Writer, dir, path string, o engine.RestoreOptions) error {
	in := os.Stdin
	if path != "-" {
		var err error
		if in, err = os.Open(path); err != nil {
			return err
		}
		defer in.Close()
	}
	progress := newByteMeter("restore")
	done, err := engine.Restore(ctx, dir, io.TeeReader(in, progress), o)
	progress.clear()
	if err != nil {
		if ctx.Err() != nil {
			return interrupted(ctx, err)
		}
		var bad *backup.InvalidError
		if errors.As(err, &bad) {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return err
	}
	fmt.Fprintf(out, "restored %s of %s to %s, which goes on at revision %d\n", objectsOf(&done.Manifest),
		done.Created.Local().Format(time.DateTime), dir, done.Revision)
	printAside(out, done)
	if done.OtherNode != "" {
		fmt.Fprintf(os.Stderr, "note: the backup is of node %q, and this machine's would be %q: start with `sampan serve --node-name %[1]s`, or the pods of that node wait for it\n",
			done.Node, done.OtherNode)
	}
	printLeftOut(&done.Manifest)
	return nil
}

func printAside(out io.Writer, done *engine.Restored) {
	if done.Aside != "" {
		fmt.Fprintf(out, "what was there is in %s; remove it when it is not needed any more: it has Secrets and keys\n", done.Aside)
	}
}
