package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
)

// newImage mounts the layers of an image, read-only.
func (v *volumes) newImage(vol *runner.Volume) (m *heldVolume, err error) {
	var lower []string
	for i := len(vol.Layers) - 1; i >= 0; i-- {
		fd, err := unix.Open(vol.Layers[i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open the image layer", Path: vol.Layers[i], Err: err}
		}
		defer unix.Close(fd)
		lower = append(lower, strconv.Itoa(fd))
	}
	empty, err := unix.Open(v.empty, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: v.empty, Err: err}
	}
	defer unix.Close(empty)
	opts := "lowerdir=" + strings.Join(append(lower, strconv.Itoa(empty)), ":") // of one layer alone there is no overlay
	if v.userNS {
		opts += ",userxattr"
	}
	if len(opts) > maxMountData {
		return nil, fmt.Errorf("the image has too many layers: %d", len(vol.Layers))
	}
	m = &heldVolume{fd: -1, dir: filepath.Join(v.images, vol.PodUID, vol.Name)}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, err
	}
	const flags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC
	if err := amongDescriptors(func() error { return unix.Mount("overlay", m.dir, "overlay", flags, opts) }); err != nil {
		return nil, &os.PathError{Op: "mount the image", Path: m.dir, Err: err}
	}
	if m.fd, err = unix.Open(m.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, errors.Join(os.NewSyscallError("open", err), m.release())
	}
	if v.mountDir != "" {
		return m, nil // it has to be mounted somewhere to be copied
	}
	held, err := copyTree(m.fd)
	if err = errors.Join(err, m.release()); err != nil {
		return nil, err
	}
	return &heldVolume{fd: held}, nil
}

// amongDescriptors has do done in a directory in which open files have their numbers for names: as
// many layers as overlayfs takes have room in the options of a mount then. The directory is that of
// one thread, for as long. The thread goes on: those that it has started would die with it.
func amongDescriptors(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open the directory", err)
	}
	defer unix.Close(before)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return &os.PathError{Op: "chdir", Path: "/proc/self/fd", Err: err}
	}
	err = do()
	return errors.Join(err, os.NewSyscallError("fchdir", unix.Fchdir(before)))
}

// read returns what is in a regular file of a pod's volume. What it is, is looked at before it
// is opened: containers can put anything there.
func (v *volumes) read(f *runner.VolumeFile) ([]byte, error) {
	root, err := v.openSource(f.PodUID, &runner.Mount{Volume: f.Name})
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, f.Path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%q is not a regular file", f.Path)
	case st.Size > runner.MaxVolumeFile:
		return nil, fmt.Errorf("%q has %d bytes; the limit is %d", f.Path, st.Size, runner.MaxVolumeFile)
	}
	file, err := os.Open(hostpath.FDPath(fd))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := make([]byte, st.Size)
	n, err := file.ReadAt(data, 0)
	if n < len(data) { // it has become shorter meanwhile
		return data[:n], nil
	}
	return data, err
}

// ReadVolume implements runner.Launcher.
func (l *Launcher) ReadVolume(f *runner.VolumeFile) ([]byte, error) {
	if l.env.NoNamespaces != "" {
		return nil, errors.New("sandbox: " + l.env.NoNamespaces)
	}
	return l.volumes.read(f)
}
