package store

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/change"
)

// diskReserve keeps room on the disk that is the store's before it needs it: blocks
// behind the end of the database file, where it will grow. What others write can
// fill the rest of the disk, and objects can still be deleted and changed. A
// file of its own, to be deleted when the disk is full, would be anybody's at that
// moment.
//
// The room is not for everything: once it cannot be made anew, its first half is
// for whatever comes, the second for what changes objects, and of that the second
// half for what deletes them (see refuse). The engine writes a changed page to
// another place before it gives up the old one, so that deleting needs room too.
//
// Where a file system cannot promise blocks (it copies on write, or has no
// fallocate), there is no reserve.
type diskReserve struct {
	path  string
	bytes int64
	kept  int64 // how long the file is to be before the reserve is made anew
	never bool  // the file system has no fallocate
	// used is how much of the reserve is missing; read by whoever stages a set.
	used atomic.Int64
}

// keep makes the reserve anew if a quarter of it has been used by a file that is
// size long now, of which free bytes can be used again. On a full disk it stays as
// much as it is.
func (r *diskReserve) keep(size int64, free func() int64) {
	if r.bytes == 0 || r.never || size < r.kept {
		return
	}
	// Not O_RDWR and not the database's own descriptor: its lock is not ours to
	// touch, and is no matter here.
	f, err := os.OpenFile(r.path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	err = r.allocate(f, size)
	switch {
	case err == nil:
		r.kept = size + r.bytes/4
		r.used.Store(0)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		r.never = true
	default:
		r.used.Store(max(0, r.bytes-left(f, size, err)-r.within(size, free())))
	}
}

// within is how much of the reserve free bytes inside the file stand for. They lie
// scattered, so that half of them may not fit what is to be written; and unless
// most of the file is free, they do not stand for the last of the reserve.
func (r *diskReserve) within(size, free int64) int64 {
	if 2*free > size {
		return free / 2
	}
	return min(free/2, r.bytes*3/8)
}

// allocate gives the file its blocks. They are behind its end, which the limit on
// its length (ulimit -f) does not forbid: that is asked separately.
func (r *diskReserve) allocate(f *os.File, size int64) error {
	if size+r.bytes > longest(f) {
		return unix.EFBIG
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size+r.bytes)
}

// longest is how long the engine can make the file: it doubles the length of a
// small one, and later adds step to what it needs.
func longest(f *os.File) int64 {
	const step = 16 << 20
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil || limit.Cur > 1<<62 {
		return 1 << 62
	}
	doubled := int64(1)
	for doubled <= int64(min(limit.Cur, step))/2 {
		doubled *= 2
	}
	var st unix.Stat_t
	_ = unix.Fstat(int(f.Fd()), &st)
	return max(st.Size, doubled, int64(limit.Cur)-step)
}

// left is how much a file, of which size bytes are in use, can still grow: into
// blocks that it has, and those that anybody can have, unless it was not for want
// of them that it got no more.
func left(f *os.File, size int64, refusal error) int64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0
	}
	room := min(st.Blocks*512, longest(f)) - size
	var fs unix.Statfs_t
	if errors.Is(refusal, unix.ENOSPC) && unix.Fstatfs(int(f.Fd()), &fs) == nil {
		room += int64(fs.Bavail) * fs.Bsize
	}
	return max(0, room)
}

// lean and bare: more than half, or three quarters, of the reserve is missing.
func (r *diskReserve) lean() bool { return 2*r.used.Load() > r.bytes }
func (r *diskReserve) bare() bool { return 4*r.used.Load() > 3*r.bytes }

// short returns what to say when the reserve is lean.
func (r *diskReserve) short() error {
	if !r.lean() {
		return nil
	}
	return &RoomError{Path: r.path, Left: r.bytes - r.used.Load(), Reserve: r.bytes}
}

// RoomError says that the disk is full, and what the store has kept of it is for what ends
// and deletes. It is ENOSPC to errors.Is.
type RoomError struct {
	// Path is the database file.
	Path string
	// Left is how many bytes of the Reserve are left.
	Left, Reserve int64
}

func (e *RoomError) Error() string {
	return fmt.Sprintf("store: write %s: %v: the %d KiB that are left are kept for deleting and ending what there is; make room on its file system, or delete objects",
		e.Path, unix.ENOSPC, max(0, e.Left)>>10)
}

// Unwrap makes it ENOSPC.
func (e *RoomError) Unwrap() error { return unix.ENOSPC }

const (
	// growth is by how many bytes an object may grow when the reserve is lean: a
	// status, a finalizer, an annotation.
	growth = 2 << 10
	// touch is the same when it is bare: a time, a counter.
	touch = 64
)

// FullError says that the store is as large as it may be, and takes only what does not make it
// larger.
type FullError struct {
	Path        string
	Holds, Most int64 // bytes
}

func (e *FullError) Error() string {
	return fmt.Sprintf("store: %s holds %d MiB, and may hold %d: nothing new is taken until objects are deleted", e.Path, e.Holds>>20, e.Most>>20)
}

// full returns why nothing new is taken, nil if it is.
func (f *file) full() error {
	if holds := f.holds.Load(); f.most > 0 && holds > f.most {
		return &FullError{f.path, holds, f.most}
	}
	return nil
}

// refuse returns why c may not use what is left of the reserve, or of what the store may hold. What
// is deleted, or on its way there, always may.
func (s *Store) refuse(c *commit) error {
	why := s.file.short()
	if why == nil {
		why = s.file.full()
	}
	if why == nil {
		return nil
	}
	allowed := growth
	if s.file.bare() {
		allowed = touch
	}
	for i := range c.steps {
		st := &c.steps[i]
		switch {
		case st.op == change.Delete:
		case st.op == change.Create || st.next.obj.GetDeletionTimestamp() == nil && len(st.data) > s.sizeOf(st.old)+allowed:
			return why
		}
	}
	return nil
}

// sizeOf returns how many bytes an object takes.
func (s *Store) sizeOf(it *item) int {
	bare := it.obj.DeepCopyObject().(change.Object)
	bare.SetResourceVersion("")
	data, err := s.opts.Codec.Encode(bare)
	if err != nil {
		return 0
	}
	return len(data)
}
