package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/backup"
	"github.com/sampan-batch/sampan/internal/disk"
	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/store"
	"github.com/sampan-batch/sampan/internal/tree"
)

// RestoreOptions say what may be replaced.
type RestoreOptions struct {
	// Replace lets the backup take the place of the store that is there, which is
	// kept under another name.
	Replace bool
	Logger  *slog.Logger
}

// Restored tells what a restore has done.
type Restored struct {
	backup.Manifest
	// Revision is where the store goes on: behind any that a client can have seen.
	Revision uint64
	// Aside is where what was replaced is kept; "" if there was nothing.
	Aside string
	// OtherNode is the name that this machine's node would have, if it is not that
	// of the backup: pods are bound to the latter.
	OtherNode string
}

// revisionStep is how far a restore moves the revision line on, as etcd's advice is.
const revisionStep = 1_000_000_000

// restoredRevision is the revision that a restored store goes on behind. A client
// may have seen revisions after the backup was made, and they must not be given
// again: a watch would resume behind writes that are not there. The step is more
// than was written since; the clock, in microseconds, is more than what was written since
// another restore of the same backup.
func restoredRevision(backedUp uint64, now time.Time) uint64 {
	return max(backedUp+revisionStep, uint64(now.UnixMicro()))
}

// stagingPrefix is of directories with what is being restored.
const stagingPrefix = ".restore-"

// Restore makes dir the data directory that r is a backup of. Nothing of dir is
// changed before all of the backup was read and found to be whole.
func Restore(ctx context.Context, dir string, r io.Reader, o RestoreOptions) (*Restored, error) {
	target, err := openTarget(dir, o)
	if err != nil {
		return nil, err
	}
	defer target.close()
	b, err := backup.NewReader(r, target.room())
	if err != nil {
		return nil, err
	}
	done := &Restored{Manifest: b.Manifest, Revision: restoredRevision(b.Manifest.Revision, time.Now())}
	if err := target.stage(ctx, b, done.Revision); err != nil {
		return nil, err
	}
	if done.Aside, err = target.install(); err != nil {
		return nil, err
	}
	if node, err := agentNode(); err == nil && b.Node != "" && node != b.Node {
		done.OtherNode = node
	}
	return done, nil
}

// RestoreEmpty makes dir the directory of an engine without objects. Its
// certificates stay.
func RestoreEmpty(dir string, o RestoreOptions) (*Restored, error) {
	target, err := openTarget(dir, o)
	if err != nil {
		return nil, err
	}
	defer target.close()
	done := &Restored{Revision: restoredRevision(0, time.Now())}
	draft, err := store.NewDraft(filepath.Join(target.staging, storeName), done.Revision)
	if err != nil {
		return nil, err
	}
	if err := draft.Close(); err != nil {
		return nil, err
	}
	done.Aside, err = target.install()
	return done, err
}

// target is the directory that something is restored to, locked, and the one
// inside it where that is prepared.
type target struct {
	dir, staging string
	lock         *dirLock
	images       *image.Import
}

func openTarget(dir string, o RestoreOptions) (*target, error) {
	dir, err := newKeeper(o.Logger).dir(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	t := &target{dir: dir}
	if t.lock, err = lockDir(dir, "sampan restore"); err != nil {
		return nil, err
	}
	if err = t.check(o.Replace); err == nil {
		err = t.makeStaging()
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// check refuses a directory that is in use, or was.
func (t *target) check(replace bool) error {
	if running := supervised(t.dir); len(running) > 0 {
		return fmt.Errorf("containers of %s are still running, and the store that would be restored may not know them: end them with `sampan stop --data-dir %[1]s`", t.dir)
	}
	if replace {
		return nil
	}
	sign := usedBefore(t.dir)
	if _, err := os.Lstat(filepath.Join(t.dir, storeName)); err == nil {
		sign = storeName
	}
	if sign != "" {
		return fmt.Errorf("%s is not empty (there is %s): name another directory, or say --replace, which keeps what is there under another name", t.dir, sign)
	}
	return nil
}

// makeStaging makes the directory for what is being restored, and removes those of
// restores that were cut short.
func (t *target) makeStaging() error {
	left, _ := filepath.Glob(filepath.Join(t.dir, stagingPrefix+"*"))
	for _, path := range left {
		if err := tree.Remove(path); err != nil {
			return err
		}
	}
	var err error
	t.staging, err = os.MkdirTemp(t.dir, stagingPrefix)
	return err
}

func (t *target) close() {
	if t.images != nil {
		t.images.Close()
	}
	if t.staging != "" {
		_ = tree.Remove(t.staging)
	}
	t.lock.release()
}

// room is how much a backup may bring: what the disk has, less a little.
func (t *target) room() int64 {
	const rest = 64 << 20
	var fs unix.Statfs_t
	if err := unix.Statfs(t.dir, &fs); err != nil {
		return 0
	}
	return max(1, int64(fs.Bavail)*fs.Bsize-rest)
}

// stage puts what the backup has into the staging directory. It returns without
// an error only if all of it was as it was written.
func (t *target) stage(ctx context.Context, b *backup.Reader, rev uint64) error {
	draft, err := store.NewDraft(filepath.Join(t.staging, storeName), rev)
	if err != nil {
		return err
	}
	for err == nil {
		var m *backup.Member
		if m, err = b.Next(); err != nil {
			break
		}
		if err = context.Cause(ctx); err == nil {
			err = t.member(m, draft)
		}
	}
	if !errors.Is(err, io.EOF) {
		return errors.Join(err, draft.Abandon())
	}
	if err := draft.Close(); err != nil {
		return err
	}
	// Put to the test before it takes anything's place.
	_, err = store.Inspect(filepath.Join(t.staging, storeName), storedKinds(), nil)
	return err
}

// member takes one member of a backup.
func (t *target) member(m *backup.Member, draft *store.Draft) error {
	if m.IsObjects() {
		return backup.Records(m, func(key, value []byte) error { return draft.Put(store.Record{Key: key, Value: value}) })
	}
	dir, rest, _ := strings.Cut(m.Name, "/")
	switch {
	case dir == "pki" && slices.Contains(pkiFiles, rest) && m.Size < 1<<20, dir == "logs":
		return t.file(m)
	case dir == "images":
		err := t.image(m, rest)
		var bad *image.Error
		if errors.As(err, &bad) {
			err = &backup.InvalidError{What: fmt.Sprintf("%.200s: %v", m.Name, err)}
		}
		return err
	}
	return &backup.InvalidError{What: fmt.Sprintf("it has a member %.200q", m.Name)}
}

// file writes a member below the staging directory, which only we have written to.
func (t *target) file(m *backup.Member) error {
	path := filepath.Join(t.staging, filepath.FromSlash(m.Name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, m)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Chtimes(path, m.Changed, m.Changed))
}

func (t *target) image(m *backup.Member, name string) error {
	if t.images == nil {
		images, err := OpenImages(t.dir, nil)
		if err != nil {
			return err
		}
		if t.images, err = images.Import(); err != nil {
			return err
		}
	}
	if stream, _, ok := backup.Stream(name); ok {
		return t.images.Layer(stream, m)
	}
	const most = 16 << 20
	data, err := io.ReadAll(io.LimitReader(m, most))
	if err != nil {
		return err
	}
	return t.images.Data(name, data)
}

// install moves what was staged to where an engine looks for it; the store last,
// for without it no engine starts here. What is replaced is kept.
func (t *target) install() (aside string, err error) {
	if t.images != nil {
		if err := t.images.Commit(); err != nil {
			return "", err
		}
	}
	replaced := filepath.Join(t.dir, "replaced-"+time.Now().UTC().Format("20060102T150405.000000"))
	if err := t.moveLogs(); err != nil {
		return "", err
	}
	for _, name := range []string{"pki", storeName} {
		from, to := filepath.Join(t.staging, name), filepath.Join(t.dir, name)
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := os.Lstat(to); err == nil {
			if err := os.Mkdir(replaced, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return "", err
			}
			aside = replaced
			if err := os.Rename(to, filepath.Join(replaced, name)); err != nil {
				return "", err
			}
		}
		if err := os.Rename(from, to); err != nil {
			return "", err
		}
	}
	return aside, disk.SyncDir(t.dir)
}

// moveLogs moves the logs of pods, but for those that there are already.
func (t *target) moveLogs() error {
	from, to := filepath.Join(t.staging, "logs"), filepath.Join(t.dir, "logs")
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return disk.SyncDir(to)
}
