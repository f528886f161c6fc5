package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/tree"
)

// Scratch is the data directory of a private engine to which nobody comes back. Its maker removes it
// at the end. One whose maker was killed is removed by the next who makes one there: a file in the
// directory is locked as long as its maker lives, and says that the directory is nobody's to keep.
type Scratch struct {
	Dir  string
	mark *os.File // locked
}

// scratchPattern names the directories, and scratchMark the file in each.
const (
	scratchPattern = "sampan-run-"
	scratchMark    = "scratch"
)

// NewScratch makes a directory in parent.
func NewScratch(parent string) (*Scratch, error) {
	for {
		dir, err := os.MkdirTemp(parent, scratchPattern+"*")
		if err != nil {
			return nil, err
		}
		mark, err := os.OpenFile(filepath.Join(dir, scratchMark), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody took it for one that was abandoned
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(dir))
		}
		if holdsMark(mark) {
			return &Scratch{dir, mark}, nil
		}
		mark.Close() // the same, who removes it
	}
}

// holdsMark locks a mark that is still in its directory; false: somebody else has.
func holdsMark(mark *os.File) bool {
	if unix.Flock(int(mark.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(int(mark.Fd()), &st) == nil && st.Nlink > 0
}

// Discard removes the directory, when its engine has ended. The error says in one line what of it
// remains, and why.
func (s *Scratch) Discard() error {
	defer s.Release()
	return tree.Remove(s.Dir)
}

// Release leaves the directory to whoever finds it.
func (s *Scratch) Release() { s.mark.Close() }

// Abandoned returns the directories in parent whose makers, of this user, have been killed, and in
// which nothing runs any more. They are the caller's now.
func Abandoned(parent string) []*Scratch {
	paths, _ := filepath.Glob(filepath.Join(parent, scratchPattern+"[0-9]*"))
	var all []*Scratch
	for _, dir := range paths {
		if s := takeOver(dir); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// takeOver returns the directory if it is an abandoned one. What is another user's is left to him,
// wherever it leads.
func takeOver(dir string) *Scratch {
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if unix.Fstat(at, &st) != nil || int(st.Uid) != os.Geteuid() {
		return nil
	}
	fd, err := unix.Openat(at, scratchMark, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		_ = unix.Rmdir(dir) // where nothing is in it, its maker was killed at once, or makes another one
	}
	if err != nil {
		return nil
	}
	mark := os.NewFile(uintptr(fd), filepath.Join(dir, scratchMark))
	if !holdsMark(mark) || len(supervised(dir)) > 0 { // a supervisor sees that its engine has gone, and ends
		mark.Close()
		return nil
	}
	return &Scratch{dir, mark}
}

// Sweep removes what killed makers have left in parent. What containers made may be of users that
// only a supervisor has a part in: this engine's is asked for what cannot be removed otherwise.
func (e *Engine) Sweep(ctx context.Context, parent string) error {
	var errs []error
	for _, s := range Abandoned(parent) {
		err := tree.Remove(s.Dir)
		if err != nil && ctx.Err() == nil && os.Geteuid() != 0 && e.discardForeign(ctx, s.Dir) == nil {
			err = nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is left of a run that was killed: %w", s.Dir, err))
		}
		s.Release()
	}
	return errors.Join(errs...)
}
