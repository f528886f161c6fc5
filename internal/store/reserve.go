package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// diskReserve keeps room on the disk that is the store's before it needs it: blocks
// behind the end of the database file, where it will grow. What others write can
// fill the rest of the disk, and objects can still be deleted and changed. A
// file of its own, to be deleted when the disk is full, would be anybody's at that
// moment.
//
// Where a file system cannot promise blocks (it copies on write, or has no
// fallocate), there is no reserve.
type diskReserve struct {
	path  string
	bytes int64
	kept  int64 // how long the file is to be before the reserve is made anew
}

// keep makes the reserve anew if a quarter of it has been used by a file that is
// size long now. On a full disk it stays as much as it is.
func (r *diskReserve) keep(size int64) {
	if r.bytes == 0 || size < r.kept {
		return
	}
	// Not O_RDWR and not the database's own descriptor: its lock is not ours to
	// touch, and is no matter here.
	f, err := os.OpenFile(r.path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size+r.bytes) == nil {
		r.kept = size + r.bytes/4
	}
}
