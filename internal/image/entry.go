package image

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

func (u *unpacker) create(parent int, base string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(parent, base, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(parent, base, h, content)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
			return err
		}
		return u.attributesAt(parent, base, h)
	case tar.TypeLink:
		return u.hardLink(parent, base, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.node(parent, base, h)
	}
	return badImage("layer entry %q has the unknown type %q", h.Name, h.Typeflag)
}

func (u *unpacker) directory(parent int, base string, h *tar.Header) error {
	if err := unix.Mkdirat(parent, base, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	fd, err := openExact(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return unix.EEXIST
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return u.dirAttributes(fd, path.Clean(h.Name), h)
}

func (u *unpacker) file(parent int, base string, h *tar.Header, content io.Reader) error {
	if err := u.budget.declared(h.Name, h.Size); err != nil {
		return err
	}
	fd, err := openExact(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := io.CopyBuffer(&fileWriter{fd, u.budget}, onlyReader{content}, u.buf)
	u.size += n
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged(err, "damaged layer: %s ends after %d of %d bytes", h.Name, n, h.Size)
	}
	if err != nil {
		return err
	}
	return u.attributes(fd, parent, base, h)
}

// onlyReader hides all other methods, so that the buffer is used.
type onlyReader struct{ io.Reader }

// fileWriter writes to a descriptor within the budget.
type fileWriter struct {
	fd     int
	budget *budget
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if err := w.budget.write(len(p)); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		n, err := unix.Write(w.fd, p[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

func (u *unpacker) hardLink(parent int, base string, h *tar.Header) error {
	clean, err := inside(h.Linkname)
	if err != nil {
		return badImage("layer entry %q links to %q, outside of the image", h.Name, h.Linkname)
	}
	dir, from := path.Split(clean)
	fd, err := u.openDir(dir)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Linkat(fd, from, parent, base, 0)
	}
	if err == unix.EEXIST {
		return err
	}
	if err != nil {
		return badImage("layer entry %q links to %q: %v", h.Name, h.Linkname, err)
	}
	return nil
}

// node makes a device or a pipe. Without privileges devices cannot be made; the
// container gets its devices from the sandbox, so leaving them out is what
// every rootless engine does.
func (u *unpacker) node(parent int, base string, h *tar.Header) error {
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	case tar.TypeFifo:
		mode |= unix.S_IFIFO
	}
	err := unix.Mknodat(parent, base, mode, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	if err == unix.EPERM && !u.privileged && h.Typeflag != tar.TypeFifo {
		return nil
	}
	if err != nil {
		return err
	}
	return u.attributesAt(parent, base, h)
}

// whiteout says, in overlayfs' way, that a lower layer's entry is gone.
func (u *unpacker) whiteout(parent int, base string) error {
	if base == whiteoutOpaque {
		return u.opaque(parent)
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return badImage("layer has the bad whiteout %q", base)
	}
	err := unix.Mknodat(parent, name, unix.S_IFCHR, 0)
	if err == unix.EEXIST {
		// The layer's own entry stays, a directory without what is below it.
		if err = u.opaqueAt(parent, name); err == unix.ENOTDIR || err == unix.ELOOP {
			return nil
		}
	}
	return err
}

// opaque says, in overlayfs' way, that nothing below a directory is seen in it.
func (u *unpacker) opaque(fd int) error {
	attr := "user.overlay.opaque"
	if u.privileged {
		attr = "trusted.overlay.opaque"
	}
	return unix.Fsetxattr(fd, attr, []byte("y"), 0)
}

func (u *unpacker) opaqueAt(parent int, base string) error {
	fd, err := openExact(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return u.opaque(fd)
}
