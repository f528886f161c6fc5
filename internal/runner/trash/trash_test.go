package trash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// remover removes as os.RemoveAll does, but for what is to be stuck or slow.
type remover struct {
	mu    sync.Mutex
	stuck string        // part of a path that cannot be removed
	slow  chan struct{} // until it is closed, paths with "slow" in them are not
	tried []string
}

func (r *remover) remove(path string) error {
	r.mu.Lock()
	r.tried = append(r.tried, path)
	stuck := r.stuck != "" && strings.Contains(path, r.stuck)
	r.mu.Unlock()
	switch {
	case stuck:
		return errors.New("it is stuck")
	case strings.Contains(path, "slow"):
		<-r.slow
	}
	return os.RemoveAll(path)
}

func (r *remover) free() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stuck = ""
}

func (r *remover) tries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tried)
}

// logbook counts what is logged.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logbook) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

func setup(t *testing.T) (dir string, b *Bin, r *remover, log *logbook) {
	t.Helper()
	dir, r, log = t.TempDir(), &remover{slow: make(chan struct{})}, &logbook{}
	b, err := OpenWith(filepath.Join(dir, "aside"), slog.New(slog.NewTextHandler(log, nil)), r.remove)
	if err != nil {
		t.Fatal(err)
	}
	return dir, b, r, log
}

func fill(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "d", "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := readNames(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func TestRemove(t *testing.T) {
	t.Parallel()
	dir, b, r, log := setup(t)
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	b.Remove(empty)
	b.Remove(filepath.Join(dir, "nosuch"))
	if r.tries() > 0 {
		t.Errorf("queued: %q", r.tried)
	}
	b.Remove(fill(t, filepath.Join(dir, strings.Repeat("long", 60))))
	if got := names(t, dir); !slices.Equal(got, []string{"aside"}) {
		t.Errorf("at once: %q", got)
	}
	if err := b.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	if got := names(t, b.dir); len(got) > 0 || log.count() > 0 {
		t.Errorf("in the end: %q, %q", got, log.lines)
	}
}

// As many huge trees as are removed at once hold up neither the removal's
// caller nor a new start, and those that are not done are done by the next.
func TestNobodyWaitsForTheHuge(t *testing.T) {
	t.Parallel()
	dir, b, r, _ := setup(t)
	for i := range workers + 2 {
		b.Remove(fill(t, filepath.Join(dir, fmt.Sprint("slow", i))))
	}
	b.Remove(fill(t, filepath.Join(dir, "other")))
	if err := b.Empty(fill(t, filepath.Join(dir, "upper"))); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"aside", "upper"}) {
		t.Errorf("at once: %q", got)
	}
	if got := names(t, filepath.Join(dir, "upper")); len(got) > 0 {
		t.Errorf("not empty: %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := b.Finish(ctx)
	if want := fmt.Sprintf("%d in %s, ", workers+4, b.dir); !errors.Is(err, runner.ErrRemains) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}

	next, err := Open(b.dir, b.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	if got := names(t, b.dir); len(got) > 0 {
		t.Errorf("in the end: %q", got)
	}
	close(r.slow)
	if err := b.Finish(t.Context()); err != nil {
		t.Error(err)
	}
}

// What cannot be removed is said once, and tried again with a removal that
// comes later, not with each.
func TestStuck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, log := &remover{stuck: "bad"}, &logbook{}
		b, err := OpenWith(filepath.Join(dir, "aside"), slog.New(slog.NewTextHandler(log, nil)), r.remove)
		if err != nil {
			t.Fatal(err)
		}
		b.Remove(fill(t, filepath.Join(dir, "bad")))
		synctest.Wait()
		for range 3 {
			b.Remove(fill(t, filepath.Join(dir, "good")))
			synctest.Wait()
		}
		if r.tries() != 4 || log.count() != 1 {
			t.Errorf("tried %q, said %q", r.tried, log.lines)
		}
		time.Sleep(retryPeriod + time.Second)
		b.Remove(fill(t, filepath.Join(dir, "good")))
		synctest.Wait()
		if r.tries() != 6 || log.count() != 1 {
			t.Errorf("tried %q, said %q", r.tried, log.lines)
		}
		err = b.Finish(t.Context())
		if !errors.Is(err, runner.ErrRemains) || !strings.HasSuffix(err.Error(), " for one: it is stuck") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v", err)
		}
		r.free()
		if err := b.Finish(t.Context()); err != nil || log.count() != 2 {
			t.Errorf("got %v, said %q", err, log.lines)
		}
		if got := names(t, b.dir); len(got) > 0 {
			t.Errorf("in the end: %q", got)
		}
	})
}

// On a disk without a free inode a directory is emptied all the same, and what
// was in it is removed.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	for name, options := range map[string]string{"inodes": "nr_inodes=20", "blocks": "size=64k"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _, r, log := setup(t)
			if err := unix.Mount("disk", dir, "tmpfs", 0, "mode=700,"+options); err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			b, err := OpenWith(filepath.Join(dir, "aside"), slog.New(slog.NewTextHandler(log, nil)), r.remove)
			if err != nil {
				t.Fatal(err)
			}
			upper := filepath.Join(dir, "upper")
			fill(t, filepath.Join(upper, "slow"))
			fill(t, filepath.Join(upper, "other"))
			for i := 0; err == nil && i < 100; i++ {
				err = os.WriteFile(filepath.Join(upper, "other", fmt.Sprint(i)), make([]byte, 4096), 0o600)
			}
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
			if err := b.Empty(upper); err != nil {
				t.Fatal(err)
			}
			if got := names(t, upper); len(got) > 0 {
				t.Errorf("left: %q", got)
			}
			if name == "inodes" {
				if err := b.Empty(upper); err != nil {
					t.Errorf("once more: %v", err)
				}
			}
			close(r.slow)
			if err := b.Finish(t.Context()); err != nil {
				t.Error(err)
			}
			if got := names(t, filepath.Join(dir, "aside")); len(got) > 0 {
				t.Errorf("left aside: %q", got)
			}
		})
	}
}

// What cannot be renamed is removed where it is. Here it is on another file
// system.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	_, b, _, _ := setup(t)
	other, err := os.MkdirTemp("/dev/shm", "trash-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(other)
	var here, there unix.Stat_t
	if unix.Stat(b.dir, &here) != nil || unix.Stat(other, &there) != nil || here.Dev == there.Dev {
		t.Skip("there is one file system only")
	}
	b.Remove(fill(t, filepath.Join(other, "a")))
	fill(t, filepath.Join(other, "b", "c"))
	if err := b.Empty(filepath.Join(other, "b")); err != nil {
		t.Error(err)
	}
	if err := b.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	if got := names(t, other); !slices.Equal(got, []string{"b"}) {
		t.Errorf("left: %q", got)
	}
	if got := names(t, filepath.Join(other, "b")); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}
