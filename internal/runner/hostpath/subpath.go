package hostpath

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// way is how what is below a directory is reached. The errors are plain error
// numbers.
type way interface {
	open(dir int, path string, how *unix.OpenHow) (fd int, mode uint32, err error)
	mkdir(dir int, name string, mode uint32) error
	chmod(fd int, mode uint32) error
	owner(fd int) (uid uint32, err error)
}

// direct reaches it in the caller's thread.
type direct struct{}

func (direct) open(dir int, path string, how *unix.OpenHow) (int, uint32, error) {
	fd, err := unix.Openat2(dir, path, how)
	if err != nil {
		return -1, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, 0, err
	}
	return fd, st.Mode, nil
}

func (direct) mkdir(dir int, name string, mode uint32) error { return unix.Mkdirat(dir, name, mode) }
func (direct) chmod(fd int, mode uint32) error               { return unix.Chmod(FDPath(fd), mode) }

func (direct) owner(fd int) (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Uid, err
}

// SubError says why a part of a volume cannot be had.
type SubError struct{ Err error }

func (e *SubError) Error() string { return e.Err.Error() }
func (e *SubError) Unwrap() error { return e.Err }

var errEscapes = errors.New("it escapes from the volume")

// OpenSub opens what is at sub below the open directory root of a volume of our
// own, and makes the directories that are missing. It works in the caller's
// thread. The error is a *SubError.
//
// Whoever can write to the volume may change it at any moment, so the kernel
// resolves the whole way at once: links are followed, but where one leads out
// it is the end, and so it is where an absolute one begins. Directories are made
// in an open one, and entered without following anything.
func OpenSub(root int, sub string) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return -1, &SubError{os.NewSyscallError("fstat", err)}
	}
	fd, _, err := openSub(direct{}, root, st.Mode, sub)
	return fd, err
}

// openSub is OpenSub for a root of the mode top.
func openSub(w way, root int, top uint32, sub string) (fd int, mode uint32, err error) {
	sub = path.Clean(sub)
	if !filepath.IsLocal(sub) {
		return -1, 0, &SubError{errEscapes}
	}
	fd, mode, err = openBeneath(w, root, sub, unix.O_PATH, 0)
	if err != unix.ENOENT {
		return fd, mode, explainSubPath(sub, err)
	}
	fd, missing, err := openExisting(w, root, strings.Split(sub, "/"))
	if err != nil {
		return -1, 0, explainSubPath(sub, err)
	}
	mode = top & (0o777 | unix.S_ISGID)
	for i, name := range missing {
		if i == len(missing)-1 {
			// What a container sees gets the volume's mode; what is above it, as
			// with a kubelet, what the umask leaves of that.
			mode |= top & 0o022
		} else {
			mode &^= 0o022
		}
		next, err := makeBelow(w, fd, name, mode)
		unix.Close(fd)
		if err != nil {
			return -1, 0, explainSubPath(sub, err)
		}
		fd = next
	}
	return fd, unix.S_IFDIR, nil
}

func explainSubPath(sub string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.EXDEV:
		err = errEscapes
	}
	return &SubError{fmt.Errorf("subPath %q: %w", sub, err)}
}

// openBeneath opens path below root, of which no link leads out.
func openBeneath(w way, root int, path string, flags, resolve uint64) (fd int, mode uint32, err error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	// A rename somewhere on the machine may make the kernel unsure of a "..".
	// Somebody may make that happen as often as he likes.
	for range 1000 {
		fd, mode, err = w.open(root, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, mode, err
		}
	}
	return -1, 0, unix.EAGAIN
}

// openExisting opens the directory at the longest beginning of a way that
// exists, and returns what is missing of it.
func openExisting(w way, root int, parts []string) (int, []string, error) {
	for n := len(parts) - 1; n > 0; n-- {
		fd, _, err := openBeneath(w, root, strings.Join(parts[:n], "/"), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != unix.ENOENT {
			return fd, parts[n:], err
		}
	}
	fd, _, err := openBeneath(w, root, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	return fd, parts, err
}

// makeBelow makes a directory and opens it. One that somebody else has made in
// this moment will do; a link will not. In a directory of a group the new one
// inherits that.
func makeBelow(w way, dir int, name string, mode uint32) (int, error) {
	// Until it is known to be the one that was made, it has a mode that tells it
	// from those of others.
	if err := w.mkdir(dir, name, 0); err != nil && err != unix.EEXIST {
		return -1, err
	}
	fd, is, err := openBeneath(w, dir, name, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	if err != nil || is&0o777 != 0 {
		return fd, err
	}
	uid, err := w.owner(fd)
	if err == nil && uid == uint32(os.Geteuid()) {
		err = w.chmod(fd, mode)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// FDPath is a path to an open file, for calls that take no descriptor. Where it leads does
// not depend on any directory on the way.
func FDPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
