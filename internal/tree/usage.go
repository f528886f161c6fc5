package tree

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxLinked is how many files with several names Usage tells apart: about a
// megabyte and a half.
const maxLinked = 32 << 10

// Size is what a tree takes of its file system.
type Size struct {
	// Bytes are blocks on disk, not lengths: a sparse file takes what is written.
	Bytes int64
	// Inodes are files of any type, directories and the top itself included.
	Inodes int64
}

// Usage sums up path and everything below on the same mount; a link is what it
// takes itself. A file with several names counts once. Beyond 32,768 such files,
// which keeps memory bounded, each name counts its share of the file: together
// they are exact when all names are in the tree, which is where whoever writes
// into a mount of its own must have them.
//
// What vanishes meanwhile does not count. What cannot be read is in the error,
// the first and how many more, in one short line, beside the sum of the rest.
// The error is fs.ErrNotExist when there is no path.
func Usage(path string) (Size, error) {
	u := &usage{w: newWalk(), linked: map[inode]struct{}{}, most: maxLinked}
	defer u.w.close()
	err := u.run(path)
	if err != nil {
		err = fmt.Errorf("measure %s: %w", short(path), err)
	}
	return Size{Bytes: int64(u.bytes), Inodes: int64(u.inodes + 0.5)}, err
}

// inode is a file whatever its names; all are of one mount, but a mount of btrfs
// has a device for every subvolume.
type inode struct {
	dev, ino uint64
}

// usage is one measurement.
type usage struct {
	w     *walk
	mount uint64
	// Beyond the most files that are told apart there are shares; whole numbers
	// are exact up to 2^53.
	bytes, inodes float64
	linked        map[inode]struct{}
	most          int

	first  error
	failed int
}

func (u *usage) run(path string) error {
	parent, base, err := openTop(path)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	top, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	var st unix.Statx_t
	if err := statx(top, "", unix.AT_EMPTY_PATH, measured, &st); err != nil {
		return err
	}
	u.mount = st.Mnt_id
	u.add(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	fd, err := openDir(top, ".", unix.O_RDONLY)
	if err != nil {
		return err
	}
	if err := u.w.enter(fd, ""); err != nil {
		return err
	}
	u.walk()
	if u.failed > 1 {
		return fmt.Errorf("%w (and %d more)", u.first, u.failed-1)
	}
	return u.first
}

func (u *usage) walk() {
	for {
		e, ok, err := u.w.next()
		switch {
		case err != nil && err != unix.ENOENT:
			u.fail(nil, err)
			fallthrough
		case !ok:
			if len(u.w.way) == 1 {
				return
			}
			if err := u.w.up(); err != nil {
				u.fail(nil, err)
			}
		default:
			if err := u.entry(e.name); err != nil && err != unix.ENOENT {
				u.fail(e.name, err)
			}
		}
	}
}

const measured = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_NLINK | unix.STATX_BLOCKS | unix.STATX_MNT_ID

func (u *usage) entry(name []byte) error {
	here := u.w.here().dir.fd
	var st unix.Statx_t
	if err := statx(here, string(name), 0, measured, &st); err != nil {
		return err
	}
	if st.Mnt_id != u.mount {
		return nil // mounted over it; what is below the mount cannot be seen
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		u.add(&st)
		return nil
	}
	u.add(&st)
	fd, err := openDir(here, string(name), unix.O_RDONLY)
	if err == unix.ENOTDIR || err == unix.ELOOP || err == unix.EXDEV {
		return nil // replaced meanwhile
	}
	if err != nil {
		return err
	}
	return u.w.enter(fd, "")
}

func (u *usage) add(st *unix.Statx_t) {
	share := 1.0
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := inode{uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), st.Ino}
		if _, known := u.linked[id]; known {
			return
		}
		if len(u.linked) < u.most {
			u.linked[id] = struct{}{}
		} else {
			share /= float64(st.Nlink)
		}
	}
	u.bytes += share * float64(st.Blocks) * 512
	u.inodes += share
}

// fail notes that something could not be counted.
func (u *usage) fail(name []byte, err error) {
	u.failed++
	if u.first == nil {
		u.first = fmt.Errorf("%s, %d levels down: %w", short(string(name)), len(u.w.way)-1, err)
	}
}
