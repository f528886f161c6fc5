package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// hostPath checks, or makes, what is at a path of this machine. Whatever that
// is, it is not opened: a FIFO would wait for its other end, a device might do
// something.
func hostPath(src *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(src.Path, 0o755); err != nil {
			return err
		}
	case corev1.HostPathFileOrCreate:
		if err := makeFile(src.Path); err != nil {
			return err
		}
	}
	info, err := os.Stat(src.Path)
	if err != nil {
		if kind == corev1.HostPathUnset && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if kind == corev1.HostPathUnset {
			return os.MkdirAll(src.Path, 0o755) // as container runtimes do
		}
	}
	is := func(ok bool, what string) error {
		if err == nil && ok {
			return nil
		}
		return fmt.Errorf("hostPath type check failed: %s is not %s", src.Path, what)
	}
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return is(err == nil && info.IsDir(), "a directory")
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return is(err == nil && info.Mode().IsRegular(), "a file")
	case corev1.HostPathSocket:
		return is(err == nil && info.Mode().Type() == os.ModeSocket, "a socket file")
	case corev1.HostPathCharDev:
		return is(err == nil && info.Mode().Type() == os.ModeDevice|os.ModeCharDevice, "a character device")
	case corev1.HostPathBlockDev:
		return is(err == nil && info.Mode().Type() == os.ModeDevice, "a block device")
	case corev1.HostPathUnset:
		return nil
	}
	return fmt.Errorf("%s is an invalid hostPath type", kind)
}

// makeFile makes an empty file where there is nothing, at the end of a link too.
func makeFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Something may have come there since.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
