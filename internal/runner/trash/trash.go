// Package trash removes what containers have left: directories of any size and
// depth, in which anything may be that makes removing them slow or impossible.
//
// What is to go is first set aside, by one rename into a directory of the Bin's
// own. From then on it is in nobody's way: its name is free, and no start, end
// or stop waits for it. It is removed in the background. What cannot be removed
// stays there, is reported once, and is tried again: when a new Bin is opened on
// the directory, and with a later removal.
package trash

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/tree"
)

const (
	// workers is how many trees are removed at once. A removal that waits for the
	// disk keeps a thread; and a few huge trees must not hold up the others.
	workers = 16
	// retryPeriod is how long what could not be removed is left alone.
	retryPeriod = time.Minute
)

// Bin is what is to be removed. All methods are safe for concurrent use.
type Bin struct {
	dir    string
	log    *slog.Logger
	remove func(path string) error

	mu      sync.Mutex
	queue   []string         // paths to remove
	pending map[string]bool  // those, and those that are being removed
	running int              // goroutines that do
	idle    chan struct{}    // closed when none does; nil before the first
	stuck   map[string]error // paths that could not be removed, and why
	tried   time.Time        // when they were last queued again
}

// Open returns a Bin that sets aside in dir, which is made if it is missing and
// must be on the file system of what is to be removed. It begins to remove what
// a former Bin has left there.
func Open(dir string, log *slog.Logger) (*Bin, error) { return OpenWith(dir, log, tree.Remove) }

// OpenWith is Open, and removes with remove, which may be called by several goroutines.
func OpenWith(dir string, log *slog.Logger, remove func(string) error) (*Bin, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	names, err := readNames(dir)
	if err != nil {
		return nil, err
	}
	b := &Bin{dir: dir, log: log, remove: remove, pending: make(map[string]bool), stuck: make(map[string]error)}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		b.queueLocked(filepath.Join(dir, name))
	}
	return b, nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Remove removes path, which nobody needs any more and whose name is not used
// again. An empty directory is gone when it returns; anything else has been set
// aside. Where that is impossible (path is on another file system, or cannot be
// renamed) it is removed where it is.
func (b *Bin) Remove(path string) {
	if err := unix.Rmdir(path); err == nil || err == unix.ENOENT {
		return
	}
	aside, err := b.move(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		aside = path
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queueLocked(aside)
	if len(b.stuck) > 0 && time.Since(b.tried) > retryPeriod {
		b.retryLocked()
	}
}

// Empty makes path an empty directory of mode 0700 without waiting for the
// removal of what is in it. An empty one is needed to take its place; on a full
// disk there is none, and the directory stays, while all that is in it goes.
func (b *Bin) Empty(path string) error {
	names, err := readNames(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(path, 0o700)
	}
	if (err != nil || len(names) > 0) && !b.exchange(path) {
		if err != nil {
			return err
		}
		for _, name := range names {
			b.Remove(filepath.Join(path, name))
		}
	}
	return os.Chmod(path, 0o700)
}

// exchange puts an empty directory in the place of path, and sets that aside.
func (b *Bin) exchange(path string) bool {
	fresh := b.place(path)
	if os.Mkdir(fresh, 0o700) != nil {
		return false
	}
	if unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE) != nil {
		_ = os.Remove(fresh)
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queueLocked(fresh)
	return true
}

// move sets path aside, and returns where it is then.
func (b *Bin) move(path string) (string, error) {
	to := b.place(path)
	return to, os.Rename(path, to)
}

// place is a new name in the Bin's own directory.
func (b *Bin) place(path string) string {
	base := filepath.Base(path)
	return filepath.Join(b.dir, base[:min(len(base), 100)]+"."+rand.Text()[:10])
}

func (b *Bin) queueLocked(path string) {
	if b.pending[path] {
		return
	}
	b.pending[path] = true
	b.queue = append(b.queue, path)
	if b.running < workers {
		if b.running++; b.running == 1 {
			b.idle = make(chan struct{})
		}
		go b.work()
	}
}

func (b *Bin) retryLocked() {
	b.tried = time.Now()
	for path := range b.stuck {
		b.queueLocked(path)
	}
}

// work removes what is queued until nothing is.
func (b *Bin) work() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) > 0 {
		path := b.queue[0]
		b.queue = b.queue[1:]
		b.mu.Unlock()
		err := b.remove(path)
		b.mu.Lock()
		delete(b.pending, path)
		_, known := b.stuck[path]
		switch {
		case err != nil:
			b.stuck[path] = err
			if !known {
				b.tried = time.Now()
				b.log.Warn("files that nobody needs any more cannot be removed", "path", path, "err", err)
			}
		case known:
			delete(b.stuck, path)
			b.log.Info("files that nobody needs any more could be removed at last", "path", path)
		}
	}
	if b.running--; b.running == 0 {
		close(b.idle)
	}
}

// Finish tries once more to remove what could not be, and returns when all is
// done, or ctx ends. The error, a runner.ErrRemains, says in one line what is
// left.
func (b *Bin) Finish(ctx context.Context) error {
	b.mu.Lock()
	b.retryLocked()
	idle := b.idle
	b.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	left := maps.Clone(b.stuck)
	for path := range b.pending {
		if left[path] == nil {
			left[path] = errUnfinished
		}
	}
	for path, err := range left {
		return fmt.Errorf("%w: %d in %s, %s for one: %w", runner.ErrRemains, len(left), b.dir, filepath.Base(path), err)
	}
	return nil
}

var errUnfinished = errors.New("there was no time to")
