// Package tree removes, measures and gives away directory trees that strangers have made:
// what a container wrote, an image's layers. It never follows a symbolic link,
// never enters another mounted file system, opens no file but directories, and
// needs a constant number of descriptors, however deep the tree is and however
// its directories were named; paths longer than PATH_MAX play no part, because
// every step is relative to the descriptor of a directory.
//
// A tree may change while it is walked, by somebody who wants the walk to leave
// it. What was entered stays entered by its descriptor, wherever it is moved to;
// what is entered next is never a link; and a way back by ".." counts only if it
// leads to the very directory that was left.
package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// window is how many directories of a way are open at once, besides the top.
	window = 8
	// maxDepth bounds the memory of a walk that has to remember its way: about
	// 50 bytes a level, and a name for Remove.
	maxDepth = 1 << 20
	// bufSize is what a directory is read into at a time.
	bufSize = 8 << 10
)

var (
	// errMoved: the way back leads elsewhere.
	errMoved = errors.New("a directory was moved while the tree was walked")
	errDeep  = errors.New("too many levels of directories")
)

// walk is where a walk is: the directories from the top down to it. Only the
// top and the last few are open, the others are reached again by "..".
type walk struct {
	way   []level
	low   int // the first open level below the top
	seed  maphash.Seed
	spare []*dir
}

// level is a directory on the way.
type level struct {
	name string // in the level above
	mark uint64 // while closed: what ".." must lead to
	off  int64  // behind the entry that was taken last
	dir  *dir   // nil while closed
	// For Remove: failures when it was entered, and how often it was.
	failed, tries int
}

// dir is an open directory that is being read.
type dir struct {
	fd   int
	rest []byte // of buf: entries not taken yet
	buf  [bufSize]byte
	// loosened: its mode was changed, so that entries may be removed.
	loosened bool
}

// entry is an entry of a directory; the name is valid until the next step.
type entry struct {
	name []byte
	kind uint8 // DT_*
}

func newWalk() *walk { return &walk{seed: maphash.MakeSeed(), low: 1} }

// openTop opens the directory that holds path, without a claim on its content,
// and returns the name that path has in it. Links that lead there are the
// caller's own and are followed.
func openTop(path string) (parent int, base string, err error) {
	clean := filepath.Clean(path)
	base = filepath.Base(clean)
	if path == "" || base == "." || base == ".." || base == "/" {
		return -1, "", unix.EINVAL
	}
	for {
		parent, err = unix.Open(filepath.Dir(clean), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return parent, base, err
		}
	}
}

// openDir opens a directory of dirfd for reading, on the same mount and not
// through a link.
func openDir(dirfd int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(dirfd, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// enter goes down into the open directory fd, which it owns from here on.
func (w *walk) enter(fd int, name string) error {
	if len(w.way) >= maxDepth {
		unix.Close(fd)
		return errDeep
	}
	if len(w.way)-w.low >= window {
		if err := w.leaveOpen(w.low); err != nil {
			unix.Close(fd)
			return err
		}
		w.low++
	}
	w.way = append(w.way, level{name: name, dir: w.newDir(fd)})
	return nil
}

// leaveOpen closes a level, and remembers how to know it again.
func (w *walk) leaveOpen(i int) error {
	l := &w.way[i]
	mark, err := w.mark(l.dir.fd)
	if err != nil {
		return err
	}
	l.mark = mark
	w.free(l.dir)
	l.dir = nil
	return nil
}

// mark is a fingerprint of an open directory: no other has it while this one
// lives, and the time of its birth tells it from one that got its number later.
func (w *walk) mark(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return 0, err
	}
	id := [...]uint64{uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), st.Ino, uint64(st.Btime.Sec), uint64(st.Btime.Nsec)}
	return maphash.Comparable(w.seed, id), nil
}

func statx(dirfd int, name string, flags, mask int, st *unix.Statx_t) error {
	for {
		err := unix.Statx(dirfd, name, flags|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, mask, st)
		if err != unix.EINTR {
			return err
		}
	}
}

// up goes back to the level above. After errMoved the walk is at the top again,
// which is always open.
func (w *walk) up() error {
	last := len(w.way) - 1
	gone := w.way[last].dir
	w.way[last] = level{} // drops the name
	w.way = w.way[:last]
	defer func() { w.free(gone) }()
	above := &w.way[last-1]
	if above.dir != nil {
		return nil
	}
	w.low = last - 1
	fd, err := openDir(gone.fd, "..", unix.O_RDONLY)
	if err == nil {
		var mark uint64
		if mark, err = w.mark(fd); err == nil && mark == above.mark {
			_, err = unix.Seek(fd, above.off, 0)
			if err == nil {
				above.dir = w.newDir(fd)
				return nil
			}
		}
		unix.Close(fd)
	}
	w.toTop()
	return errMoved
}

// toTop leaves all levels but the top.
func (w *walk) toTop() {
	for i := len(w.way) - 1; i > 0; i-- {
		if d := w.way[i].dir; d != nil {
			w.free(d)
		}
		w.way[i] = level{}
	}
	w.way, w.low = w.way[:1], 1
}

func (w *walk) close() {
	if len(w.way) > 0 {
		w.toTop()
		w.free(w.way[0].dir)
		w.way = nil
	}
}

func (w *walk) here() *level { return &w.way[len(w.way)-1] }

// next returns the next entry of the last level's directory; ok is false behind
// the last one.
func (w *walk) next() (e entry, ok bool, err error) {
	l := w.here()
	for {
		if len(l.dir.rest) == 0 {
			n, err := unix.Getdents(l.dir.fd, l.dir.buf[:])
			if err == unix.EINTR {
				continue
			}
			if err != nil || n <= 0 {
				return entry{}, false, err
			}
			l.dir.rest = l.dir.buf[:n]
		}
		// struct linux_dirent64: ino, off, reclen, type, name
		rec := l.dir.rest
		size := int(binary.NativeEndian.Uint16(rec[16:]))
		l.off = int64(binary.NativeEndian.Uint64(rec[8:]))
		l.dir.rest = rec[size:]
		name := rec[19:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if s := string(name); s == "." || s == ".." || s == "" {
			continue
		}
		return entry{name: name, kind: rec[18]}, true, nil
	}
}

// rewind starts reading the last level's directory again.
func (w *walk) rewind() error {
	d := w.here().dir
	d.rest = nil
	_, err := unix.Seek(d.fd, 0, 0)
	return err
}

func (w *walk) newDir(fd int) *dir {
	if n := len(w.spare); n > 0 {
		d := w.spare[n-1]
		w.spare = w.spare[:n-1]
		d.fd, d.rest, d.loosened = fd, nil, false
		return d
	}
	return &dir{fd: fd}
}

func (w *walk) free(d *dir) {
	unix.Close(d.fd)
	if len(w.spare) < window {
		w.spare = append(w.spare, d)
	}
}
