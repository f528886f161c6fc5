package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/backup"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/disk"
	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server"
	"github.com/sampan-batch/sampan/internal/store"
)

// pkiFiles are what makes the kubeconfigs, and the tokens of ServiceAccounts, that are in use work on.
var pkiFiles = []string{"ca.key", "ca.crt", "apiserver.key", "apiserver.crt", "admin.key", "admin.crt", "sa.key"}

// source is where the objects of a backup come from.
type source interface {
	Rev() uint64
	Objects() map[string]int
	Each(emit func(store.Record) error) error
}

// archive is what a backup is made of.
type archive struct {
	source
	version, node string
	dir           string // the data directory
	images        *image.Store
	leftOut       []string
}

// write writes the backup. The objects come first and are of one revision; the
// rest is as it is found meanwhile.
func (a *archive) write(ctx context.Context, out io.Writer, what server.BackupOptions) error {
	w, err := backup.NewWriter(&stoppable{ctx, out}, backup.Manifest{
		Sampan: a.version, Created: time.Now().UTC().Truncate(time.Second), Revision: a.Rev(), Objects: a.Objects(),
		Node: a.node, Logs: what.Logs, Images: what.Images, LeftOut: a.leftOut,
	})
	if err != nil {
		return err
	}
	if err := a.Each(func(r store.Record) error { return w.Put(r.Key, r.Value) }); err != nil {
		return err
	}
	if err := w.EndObjects(); err != nil {
		return err
	}
	if err := a.writeKeys(w); err != nil {
		return err
	}
	if what.Logs {
		if err := a.writeLogs(w); err != nil {
			return err
		}
	}
	if what.Images {
		if err := a.images.Export(ctx, imageSink{w}); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if len(a.leftOut) == 0 {
		a.noteBackup()
	}
	return nil
}

// noteBackup remembers when the last backup was made, for `sampan check`. A
// directory that cannot be written to does without.
func (a *archive) noteBackup() {
	_ = disk.Replace(filepath.Join(a.dir, lastBackupName), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"))
}

// stoppable is a writer that ends with a context.
type stoppable struct {
	ctx context.Context
	io.Writer
}

func (s *stoppable) Write(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.Writer.Write(p)
}

// imageSink puts images into a backup.
type imageSink struct{ *backup.Writer }

func (s imageSink) Data(name string, data []byte) error { return s.Writer.Data("images/"+name, data) }

func (s imageSink) Stream(name string) io.WriteCloser { return s.Writer.Stream("images/" + name) }

func (a *archive) writeKeys(w *backup.Writer) error {
	for _, name := range pkiFiles {
		data, err := os.ReadFile(filepath.Join(a.dir, "pki", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // an engine makes it anew
		}
		if err == nil {
			err = w.Data("pki/"+name, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeLogs puts the logs of all nodes in one directory: it is the pod's uid that tells them
// apart, and who restores them has other nodes.
func (a *archive) writeLogs(w *backup.Writer) error {
	all, err := homes(a.dir)
	if err != nil {
		return err
	}
	for _, home := range all {
		err := filepath.WalkDir(filepath.Join(home, "logs"), func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // its pod has gone meanwhile
				return nil
			case err != nil || !d.Type().IsRegular():
				return err
			}
			rel, err := filepath.Rel(home, path)
			if err != nil {
				return err
			}
			return writeLog(w, path, filepath.ToSlash(rel))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// writeLog puts a log into a backup, as long as it is now: it may be written to.
// Nobody makes one shorter; one that is too long is renamed, and stays what it is.
func writeLog(w *backup.Writer, path, name string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	return w.File(name, info.ModTime(), info.Size(), f)
}

// Backup writes a backup of the running engine. It holds up nobody.
func (e *Engine) Backup(ctx context.Context, w io.Writer, what server.BackupOptions) error {
	a := &archive{source: e.store.Copy(), version: e.config.Version, node: e.config.NodeName, dir: e.config.DataDir}
	if what.Images {
		var err error
		if a.images, err = e.images(); err != nil {
			return err
		}
	}
	return a.write(ctx, w, what)
}

// storeSource is the store of a directory that no engine works on.
type storeSource struct {
	path    string
	codec   store.Codec
	summary *store.Summary
	read    func(string, store.Codec, func(store.Record) error) (*store.Summary, error)
}

func (s *storeSource) Rev() uint64             { return s.summary.Revision }
func (s *storeSource) Objects() map[string]int { return s.summary.Objects }

func (s *storeSource) Each(emit func(store.Record) error) error {
	_, err := s.read(s.path, s.codec, emit)
	return err
}

func storedKinds() store.Codec {
	kinds := kind.Builtin()
	return learning{kind.NewCodec(kinds), kinds}
}

// learning is a codec that comes to know custom objects when it has read their definitions.
type learning struct {
	*kind.Codec
	kinds *kind.Kinds
}

// Decode implements store.Codec.
func (l learning) Decode(resource change.Resource, data []byte) (change.Object, error) {
	obj, err := l.Codec.Decode(resource, data)
	if err == nil && resource == kind.CustomResourceDefinitions {
		if k := kind.Custom(obj); k != nil {
			_ = l.kinds.Define(k) // else its objects stay unknown
		}
	}
	return obj, err
}

// BackupOptions say what to back up, and how to say so.
type BackupOptions struct {
	server.BackupOptions
	Version string
	// Salvage takes what can be read of a damaged store.
	Salvage bool
}

// BackupDir writes a backup of the data directory dir: through the engine that
// works on it, or, if there is none, by reading it.
func BackupDir(ctx context.Context, dir string, w io.Writer, o BackupOptions) error {
	dir, err := ownDir(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	holder, held, err := holderOf(dir)
	if err != nil {
		return err
	}
	if held && !o.Salvage {
		return backupRunning(ctx, dir, holder, w, o.BackupOptions)
	}
	lock, err := lockDir(dir, "sampan backup")
	switch {
	case err == nil:
		defer lock.release()
	case !errors.Is(err, unix.EROFS): // where nobody can write, nobody needs to be kept out
		return err
	}
	a, err := openArchive(dir, o)
	if err != nil {
		return err
	}
	return a.write(ctx, w, o.BackupOptions)
}

// openArchive prepares the backup of a directory that no engine works on.
func openArchive(dir string, o BackupOptions) (*archive, error) {
	s := &storeSource{path: filepath.Join(dir, storeName), codec: storedKinds(), read: store.Inspect}
	if o.Salvage {
		s.read = store.Salvage
	}
	var err error
	if s.summary, err = s.read(s.path, s.codec, nil); err != nil {
		return nil, storeError(dir, err)
	}
	a := &archive{source: s, version: o.Version, dir: dir, leftOut: slices.Clone(s.summary.Left)}
	if a.node, err = agentNode(); err != nil {
		return nil, err
	}
	if o.Images {
		a.images, err = OpenImages(dir, nil)
	}
	return a, err
}

// agentNode is the name of this machine's node, unless a flag says otherwise.
func agentNode() (string, error) {
	host, err := os.Hostname()
	return node.NameOf(host), err
}
