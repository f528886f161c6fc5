package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner/hostpath"
)

// hostPath checks, or makes, what is at a path of this machine.
func (p *Pod) hostPath(ctx context.Context, src *corev1.HostPathVolumeSource) error {
	kind, mk := corev1.HostPathUnset, hostpath.Nothing
	if src.Type != nil {
		kind = *src.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate, corev1.HostPathUnset: // the latter as container runtimes do
		mk = hostpath.Directory
	case corev1.HostPathFileOrCreate:
		mk = hostpath.File
	}
	mode, err := p.Paths.Stat(ctx, src.Path, mk)
	var wrong *fs.PathError
	if err != nil && (mk != hostpath.Nothing || !errors.As(err, &wrong)) {
		return err
	}
	found := mode & unix.S_IFMT
	is := func(kind uint32, what string) error {
		if err == nil && found == kind {
			return nil
		}
		return fmt.Errorf("hostPath type check failed: %s is not %s", src.Path, what)
	}
	switch kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if found != unix.S_IFDIR {
			return &fs.PathError{Op: "mkdir", Path: src.Path, Err: unix.ENOTDIR}
		}
		return nil
	case corev1.HostPathDirectory:
		return is(unix.S_IFDIR, "a directory")
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return is(unix.S_IFREG, "a file")
	case corev1.HostPathSocket:
		return is(unix.S_IFSOCK, "a socket file")
	case corev1.HostPathCharDev:
		return is(unix.S_IFCHR, "a character device")
	case corev1.HostPathBlockDev:
		return is(unix.S_IFBLK, "a block device")
	}
	return fmt.Errorf("%s is an invalid hostPath type", kind)
}
