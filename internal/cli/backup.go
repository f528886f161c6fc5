package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sampan-batch/sampan/internal/backup"
	"github.com/sampan-batch/sampan/internal/engine"
)

func newBackup() *cobra.Command {
	var api cluster
	dir := engine.Default().DataDir
	o := engine.BackupOptions{Version: Version()}
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up an engine, running or stopped",
		Long: `Backup writes all objects of one moment, and the keys and certificates with which the
kubeconfigs that are in use work on; if asked for, also the logs and the images. A running
engine is asked for it by its API and holds up nobody meanwhile; of a stopped one the
directory is read.

The file contains every Secret, and the keys of the authority: whoever can read it owns the
engine. It is a tar archive with sums (see docs/backup.md), written whole or not at all, with
mode 0600; "-" is standard output.`,
		Example: `  sampan backup /backup/sampan-$(date +%F).tar
  sampan backup --logs --images full.tar
  sampan backup - | age -r "$KEY" > sampan.tar.age
  sampan backup --kubeconfig prod.kubeconfig prod.tar`,
		Args: wantArgs(cobra.ExactArgs(1), "where to? Give a file, or - for standard output"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeBackup(cmd.Context(), args[0], func(ctx context.Context, w io.Writer) error {
				if api.kubeconfig == "" && api.context == "" {
					return engine.BackupDir(ctx, dir, w, o)
				}
				config, err := api.loader().ClientConfig()
				if err != nil {
					return usage(err)
				}
				return engine.BackupAPI(ctx, config, w, o.BackupOptions)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "data-dir", dir, "the engine's data directory")
	f.StringVar(&api.kubeconfig, "kubeconfig", "", "ask the engine behind this kubeconfig instead of the data directory's")
	f.StringVar(&api.context, "context", "", "the context of the kubeconfig to use")
	f.BoolVar(&o.Logs, "logs", false, "also back up the logs of containers")
	f.BoolVar(&o.Images, "images", false, "also back up the images")
	return cmd
}

// writeBackup has a backup written to a file, or to standard output, and checks
// it on the way.
func writeBackup(ctx context.Context, path string, write func(context.Context, io.Writer) error) error {
	out, err := newWholeFile(path)
	if err != nil {
		return err
	}
	defer out.discard()
	check := newVerifier()
	progress := newByteMeter("backup")
	err = write(ctx, io.MultiWriter(out, check, progress))
	progress.clear()
	m, invalid := check.verdict()
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx, err)
	case err != nil:
		return err
	case invalid != nil:
		return invalid
	}
	if err := out.keep(); err != nil {
		return err
	}
	note := os.Stdout
	if path == "-" {
		note = os.Stderr
	}
	fmt.Fprintf(note, "backed up %s at revision %d to %s (%s)\n", objectsOf(m), m.Revision, plain(path), bytesOf(progress.n))
	printLeftOut(m)
	return nil
}

// verifier checks a backup that is written to it.
type verifier struct {
	*io.PipeWriter
	manifest *backup.Manifest
	err      error
	done     chan struct{}
}

func newVerifier() *verifier {
	r, w := io.Pipe()
	v := &verifier{PipeWriter: w, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		if v.manifest, v.err = backup.Verify(r); v.err == nil {
			_, v.err = io.Copy(io.Discard, r) // the end of the archive
		}
		r.CloseWithError(v.err)
	}()
	return v
}

// verdict ends the backup and tells what it is.
func (v *verifier) verdict() (*backup.Manifest, error) {
	v.Close()
	<-v.done
	return v.manifest, v.err
}

// printLeftOut says what a backup of a damaged store does not have.
func printLeftOut(m *backup.Manifest) {
	const most = 20
	for _, what := range m.LeftOut[:min(len(m.LeftOut), most)] {
		fmt.Fprintln(os.Stderr, "left out:", plain(what))
	}
	if n := len(m.LeftOut) - most; n > 0 {
		fmt.Fprintf(os.Stderr, "left out: %d more\n", n)
	}
}

// objectsOf says how many objects there are.
func objectsOf(m *backup.Manifest) string {
	n := 0
	for _, count := range m.Objects {
		n += count
	}
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}

// wholeFile is a file that is there whole or not at all.
type wholeFile struct {
	*os.File
	path string // where it shall be; "" for standard output
}

func newWholeFile(path string) (*wholeFile, error) {
	if path == "-" {
		if term.IsTerminal(int(os.Stdout.Fd())) {
			return nil, usage(errors.New("a backup is no text for a terminal: name a file, or send standard output to one"))
		}
		return &wholeFile{File: os.Stdout}, nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, usage(fmt.Errorf("%s is not a file", path))
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-*") // mode 0600
	if err != nil {
		return nil, err
	}
	return &wholeFile{f, path}, nil
}

// keep makes the file durable under its name.
func (w *wholeFile) keep() error {
	if w.path == "" {
		return nil
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		return err
	}
	if err := os.Rename(w.Name(), w.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(w.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// discard removes what was not kept.
func (w *wholeFile) discard() {
	if w.path != "" {
		w.Close()
		os.Remove(w.Name()) // not there any more, if it was kept
	}
}

// byteMeter shows how many bytes have passed, on a terminal only.
type byteMeter struct {
	what string
	n    int64
	last time.Time
	out  *console
}

func newByteMeter(what string) *byteMeter {
	return &byteMeter{what: what, out: newConsole(os.Stderr, os.Stderr)}
}

// Write implements io.Writer.
func (m *byteMeter) Write(p []byte) (int, error) {
	if m.n += int64(len(p)); time.Since(m.last) > 100*time.Millisecond {
		m.last = time.Now()
		m.out.Status([]string{m.what + ": " + bytesOf(m.n)})
	}
	return len(p), nil
}

func (m *byteMeter) clear() { m.out.Status(nil) }
