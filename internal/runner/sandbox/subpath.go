package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// subPathError says why a part of a volume cannot be mounted.
type subPathError struct {
	volume string
	err    error
}

func (e *subPathError) Error() string { return e.err.Error() }
func (e *subPathError) Unwrap() error { return e.err }

// mountError puts the reason why m cannot be mounted into Kubernetes' words.
func (c *container) mountError(m runner.Mount, err error) error {
	var sub *subPathError
	var errno unix.Errno
	switch {
	case errors.Is(err, runner.ErrNoVolume):
		return err // nothing is wrong with the container
	case errors.As(err, &sub):
		return &runner.StartError{
			Reason:  "CreateContainerConfigError",
			Message: fmt.Sprintf("failed to prepare subPath for volumeMount %q of container %q: %v", sub.volume, c.spec.Container, sub.err),
		}
	case errors.As(err, &errno):
		err = errno
	}
	source := m.Source
	if source == "" {
		source = m.Volume
	}
	return &runner.StartError{
		Reason:  "CreateContainerError",
		Message: fmt.Sprintf("failed to mount %q to %q: %v", source, m.Target, err),
	}
}

var errEscapes = errors.New("it escapes from the volume")

// openSubPath opens what is at sub below the open directory root, and makes the
// directories that are missing.
//
// Whoever can write to the volume may change it at any moment, so the kernel
// resolves the whole way at once: links are followed, but where one leads out
// it is the end, and so it is where an absolute one begins. Directories are made
// in an open one, and entered without following anything.
func openSubPath(root int, sub string) (int, error) {
	sub = path.Clean(sub)
	if !filepath.IsLocal(sub) {
		return -1, errEscapes
	}
	fd, err := openBeneath(root, sub, unix.O_PATH, 0)
	if err != unix.ENOENT {
		return fd, explainSubPath(sub, err)
	}
	var top unix.Stat_t
	if err := unix.Fstat(root, &top); err != nil {
		return -1, os.NewSyscallError("fstat", err)
	}
	fd, missing, err := openExisting(root, strings.Split(sub, "/"))
	if err != nil {
		return -1, explainSubPath(sub, err)
	}
	mode := top.Mode & (0o777 | unix.S_ISGID)
	for i, name := range missing {
		if i == len(missing)-1 {
			// What a container sees gets the volume's mode; what is above it, as
			// with a kubelet, what the umask leaves of that.
			mode |= top.Mode & 0o022
		} else {
			mode &^= 0o022
		}
		next, err := makeBelow(fd, name, mode)
		unix.Close(fd)
		if err != nil {
			return -1, explainSubPath(sub, err)
		}
		fd = next
	}
	return fd, nil
}

func explainSubPath(sub string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.EXDEV:
		return fmt.Errorf("subPath %q: %w", sub, errEscapes)
	}
	return fmt.Errorf("subPath %q: %w", sub, err)
}

// openBeneath opens path below root, of which no link leads out.
func openBeneath(root int, path string, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	// A rename somewhere on the machine may make the kernel unsure of a "..".
	// Somebody may make that happen as often as he likes.
	for range 1000 {
		fd, err := unix.Openat2(root, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// openExisting opens the directory at the longest beginning of a way that
// exists, and returns what is missing of it.
func openExisting(root int, way []string) (int, []string, error) {
	for n := len(way) - 1; n > 0; n-- {
		fd, err := openBeneath(root, strings.Join(way[:n], "/"), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != unix.ENOENT {
			return fd, way[n:], err
		}
	}
	fd, err := openBeneath(root, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	return fd, way, err
}

// makeBelow makes a directory and opens it. One that somebody else has made in
// this moment will do; a link will not. In a directory of a group the new one
// inherits that.
func makeBelow(dir int, name string, mode uint32) (int, error) {
	// Until it is known to be the one that was made, it has a mode that tells it
	// from those of others.
	if err := unix.Mkdirat(dir, name, 0); err != nil && err != unix.EEXIST {
		return -1, err
	}
	fd, err := openBeneath(dir, name, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&0o777 == 0 && st.Uid == uint32(os.Geteuid()) {
		err = unix.Chmod(procFD(fd), mode)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
