package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	// spare is what unpacking must leave free on the disk, in bytes.
	spare = 64 << 20
	// maxLinks bounds the symbolic links that lead to one name.
	maxLinks = 40
)

// unpacker writes one layer below root. The layer may be hostile: no entry is
// ever written outside root, whatever links the layer itself made before.
type unpacker struct {
	root       string
	privileged bool
	size       int64
	// dirTimes are set at the end: writing into a directory changes them.
	dirTimes []dirTime
}

type dirTime struct {
	path string
	at   time.Time
}

// unpack reads an uncompressed layer and returns what its files take.
func unpack(r io.Reader, root string, privileged bool) (int64, error) {
	u := &unpacker{root: root, privileged: privileged}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, badImage("damaged layer: %v", err)
		}
		if err := u.entry(h, tr); err != nil {
			return 0, err
		}
	}
	for i := len(u.dirTimes) - 1; i >= 0; i-- {
		d := u.dirTimes[i]
		if err := os.Chtimes(d.path, d.at, d.at); err != nil {
			return 0, err
		}
	}
	return u.size, nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	clean, err := inside(h.Name)
	if err != nil {
		return err
	}
	if clean == "." {
		return u.attributes(u.root, h)
	}
	dir, base := path.Split(clean)
	parent, err := u.resolve(dir, h.Name)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(parent, base)
	}
	target := filepath.Join(parent, base)
	if err := u.clear(target, h.Typeflag); err != nil {
		return err
	}
	if err := u.create(target, h, content); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
		return err
	}
	return u.attributes(target, h)
}

// inside returns the entry's name relative to the root, or why it is not below.
func inside(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", badImage("layer has an entry with a NUL in its name")
	}
	clean := path.Clean(strings.TrimPrefix(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", badImage("layer entry %q points outside of the image", name)
	}
	return strings.TrimPrefix(clean, "/"), nil
}

// resolve returns the real directory for dir, following the layer's own links
// as they will be followed inside the container, and making what is missing.
func (u *unpacker) resolve(dir, entry string) (string, error) {
	at, rest, links := ".", strings.Split(dir, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return "", badImage("layer entry %q leads outside of the image through a link", entry)
			}
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, name)
		full := filepath.Join(u.root, next)
		info, err := os.Lstat(full)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := mkdir(full); err != nil {
				return "", err
			}
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return "", badImage("layer entry %q: too many levels of symbolic links", entry)
			}
			link, err := os.Readlink(full)
			if err != nil {
				return "", err
			}
			if path.IsAbs(link) {
				at = "."
			}
			rest = append(strings.Split(link, "/"), rest...)
			continue
		case !info.IsDir():
			return "", badImage("layer entry %q: %s is not a directory", entry, next)
		}
		at = next
	}
	return filepath.Join(u.root, at), nil
}

// mkdir makes a directory that everybody may enter, whatever the umask says.
func mkdir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// clear makes room for an entry that replaces an earlier one.
func (u *unpacker) clear(target string, typeflag byte) error {
	info, err := os.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() && typeflag == tar.TypeDir {
		return nil
	}
	return os.RemoveAll(target)
}

func (u *unpacker) create(target string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if err := mkdir(target); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		u.dirTimes = append(u.dirTimes, dirTime{target, h.ModTime})
		return nil
	case tar.TypeReg:
		return u.file(target, h, content)
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, target)
	case tar.TypeLink:
		return u.hardLink(target, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.node(target, h)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return badImage("layer entry %q has the unknown type %q", h.Name, h.Typeflag)
}

func (u *unpacker) file(target string, h *tar.Header, content io.Reader) error {
	if err := u.room(h); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, content)
	u.size += n
	if err := errors.Join(err, f.Close()); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return badImage("damaged layer: %s ends after %d of %d bytes", h.Name, n, h.Size)
		}
		return err
	}
	return nil
}

// room refuses a file that the disk has no place for, before it is filled.
func (u *unpacker) room(h *tar.Header) error {
	var st unix.Statfs_t
	if err := unix.Statfs(u.root, &st); err != nil {
		return err
	}
	free := int64(st.Bavail) * st.Bsize
	if h.Size < 0 || h.Size > free-spare {
		return badImage("layer entry %q declares %d bytes; the disk has %d free", h.Name, h.Size, free)
	}
	return nil
}

func (u *unpacker) hardLink(target string, h *tar.Header) error {
	clean, err := inside(h.Linkname)
	if err != nil {
		return badImage("layer entry %q links to %q, outside of the image", h.Name, h.Linkname)
	}
	dir, base := path.Split(clean)
	parent, err := u.resolve(dir, h.Name)
	if err != nil {
		return err
	}
	if err := unix.Linkat(unix.AT_FDCWD, filepath.Join(parent, base), unix.AT_FDCWD, target, 0); err != nil {
		return badImage("layer entry %q links to %q: %v", h.Name, h.Linkname, err)
	}
	return nil
}

// node makes a device or a pipe. Without privileges devices cannot be made; the
// container gets its devices from the sandbox, so leaving them out is what
// every rootless engine does.
func (u *unpacker) node(target string, h *tar.Header) error {
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	case tar.TypeFifo:
		return unix.Mkfifo(target, mode)
	}
	err := unix.Mknod(target, mode, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	if errors.Is(err, unix.EPERM) && !u.privileged {
		h.Typeflag = tar.TypeXGlobalHeader // nothing was made: no attributes
		return nil
	}
	return err
}

// whiteout says, in overlayfs' way, that a lower layer's entry is gone.
func (u *unpacker) whiteout(parent, base string) error {
	if base == whiteoutOpaque {
		attr := "user.overlay.opaque"
		if u.privileged {
			attr = "trusted.overlay.opaque"
		}
		return unix.Setxattr(parent, attr, []byte("y"), 0)
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return badImage("layer has the bad whiteout %q", base)
	}
	target := filepath.Join(parent, name)
	if _, err := os.Lstat(target); err == nil {
		return nil // the layer's own entry wins
	}
	return unix.Mknod(target, unix.S_IFCHR, 0)
}

// attributes sets owner, mode, time and extended attributes.
func (u *unpacker) attributes(target string, h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == tar.TypeLink {
		return nil
	}
	if u.privileged {
		if err := os.Lchown(target, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	for key, value := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if err := u.xattr(target, attr, value); err != nil {
				return err
			}
		}
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	mode := fs.FileMode(h.Mode & 0o777)
	if h.Mode&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if h.Mode&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if h.Mode&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	if !u.privileged && h.Typeflag == tar.TypeDir {
		mode |= 0o700 // its owner must be able to remove what is in it
	}
	if err := os.Chmod(target, mode); err != nil {
		return err
	}
	return os.Chtimes(target, h.ModTime, h.ModTime)
}

// xattr keeps the attributes that mean something inside a container, and never
// those with which a layer could speak to overlayfs.
func (u *unpacker) xattr(target, attr, value string) error {
	if strings.HasPrefix(attr, "trusted.") || strings.Contains(attr, ".overlay.") {
		return nil
	}
	err := unix.Lsetxattr(target, attr, []byte(value), 0)
	if errors.Is(err, unix.ENOTSUP) || (errors.Is(err, unix.EPERM) && !u.privileged) {
		return nil
	}
	return err
}
