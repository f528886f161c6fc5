package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/tree"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	// maxLinks bounds the symbolic links that lead to one name.
	maxLinks = 40
	// maxTimes bounds the memory for times of directories, in bytes.
	maxTimes = 16 << 20
)

// unpacker writes one layer into the directory root. The layer may be hostile:
// every name is resolved by the kernel as if root were the root of the machine,
// whatever links the layer made before, and everything is done to a name in the
// open directory that came out, or to the descriptor of the file itself. Nothing
// that sets an attribute follows a link, neither at once nor later.
type unpacker struct {
	root       int // descriptor
	privileged bool
	budget     *budget
	size       int64
	buf        []byte

	// The directory of the last entry: mostly that of the next one.
	dir    string
	parent int // -1: none
	// Times of directories are set at the end: writing into one changes them.
	times     []dirTime
	timeBytes int
}

// dirTime is when a directory was changed last. By then another may have its
// name, or a link, so it is known by its number.
type dirTime struct {
	name     string
	dev, ino uint64
	at       time.Time
}

// unpack reads an uncompressed layer and returns what its files take.
func unpack(r io.Reader, root string, privileged bool, b *budget) (int64, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	u := &unpacker{root: fd, privileged: privileged, budget: b, parent: -1, buf: make([]byte, 128<<10)}
	defer u.close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, damaged(err, "damaged layer: %v", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.entry(h, tr); err != nil {
			return 0, u.explain(h, err)
		}
	}
	return u.size, u.setTimes()
}

func (u *unpacker) close() {
	u.forget()
	unix.Close(u.root)
}

// damaged is an error of reading the layer, unless the reader knows better what
// is wrong with it.
func damaged(err error, format string, args ...any) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return badImage(format, args...)
}

// explain says which entry a system call failed for.
func (u *unpacker) explain(h *tar.Header, err error) error {
	var errno unix.Errno
	switch {
	case !errors.As(err, &errno):
		return err
	case errno == unix.ELOOP:
		return badImage("layer entry %q: too many levels of symbolic links", h.Name)
	case errno == unix.ENOTDIR:
		return badImage("layer entry %q: what it is in is not a directory", h.Name)
	case errno == unix.ENAMETOOLONG:
		return badImage("layer entry %.200q...: its name is too long", h.Name)
	}
	return fmt.Errorf("unpack %.200q: %w", h.Name, err)
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if err := u.budget.entry(); err != nil {
		return err
	}
	clean, err := inside(h.Name)
	if err != nil {
		return err
	}
	if clean == "." {
		if h.Typeflag != tar.TypeDir {
			return badImage("layer entry %q is the root and not a directory", h.Name)
		}
		return u.dirAttributes(u.root, clean, h)
	}
	dir, base := path.Split(clean)
	parent, err := u.open(dir)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(parent, base)
	}
	err = u.create(parent, base, h, content)
	if err == unix.EEXIST {
		defer u.forget() // names that led through what is replaced lead elsewhere
		hides := isWhiteout(parent, base)
		if err := tree.RemoveAt(parent, base); err != nil {
			return err
		}
		err = u.create(parent, base, h, content)
		if err == nil && hides && h.Typeflag == tar.TypeDir {
			err = u.opaqueAt(parent, base)
		}
	}
	return err
}

func isWhiteout(parent int, base string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// inside returns the entry's name relative to the root, or why it is not below.
func inside(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", badImage("layer has an entry with a NUL in its name")
	}
	if len(name) >= unix.PathMax {
		return "", badImage("layer entry %.200q...: its name of %d bytes is too long", name, len(name))
	}
	clean := path.Clean(strings.TrimPrefix(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", badImage("layer entry %q points outside of the image", name)
	}
	if clean = strings.TrimPrefix(clean, "/"); clean == "" {
		clean = "."
	}
	return clean, nil
}

// open returns the directory of an entry, following the layer's own links as
// they will be followed inside the container, and making what is missing. The
// descriptor is the unpacker's, and good until the next call.
func (u *unpacker) open(dir string) (int, error) {
	if u.parent >= 0 && u.dir == dir {
		return u.parent, nil
	}
	u.forget()
	fd, err := u.openDir(dir)
	if err == unix.ENOENT {
		fd, err = u.makeAll(dir)
	}
	if err != nil {
		return -1, err
	}
	u.dir, u.parent = dir, fd
	return fd, nil
}

// forget drops the open directory: its name may lead elsewhere from here on.
func (u *unpacker) forget() {
	if u.parent >= 0 {
		unix.Close(u.parent)
		u.parent = -1
	}
}

// openDir opens a directory by its name in the layer: links are followed and end
// at the root, as they do for who has it as its root.
func (u *unpacker) openDir(dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if dir == "" {
		dir = "."
	}
	for {
		fd, err := unix.Openat2(u.root, dir, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// makeAll is openDir for a name of which something is missing, perhaps behind
// a link that leads to nothing yet.
func (u *unpacker) makeAll(dir string) (int, error) {
	at, rest, links := ".", strings.Split(dir, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at) // of "." it is "."
			continue
		}
		link, err := u.makeOne(at, name)
		if err != nil {
			return -1, err
		}
		if link == "" {
			at = path.Join(at, name)
			continue
		}
		if links++; links > maxLinks {
			return -1, unix.ELOOP
		}
		if path.IsAbs(link) {
			at = "."
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return u.openDir(at)
}

// makeOne makes sure that a directory has an entry that leads on; at has no
// links. It returns where it leads if that is a link.
func (u *unpacker) makeOne(at, name string) (link string, err error) {
	fd, err := u.openDir(at)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, buf)
	switch err {
	case nil:
		return string(buf[:n]), nil
	case unix.EINVAL:
		return "", nil // no link; if it is no directory, the next step tells
	case unix.ENOENT:
		if err := u.budget.entry(); err != nil {
			return "", err
		}
		return "", mkdirAt(fd, name)
	}
	return "", err
}

// mkdirAt makes a directory that everybody may enter, whatever the umask says.
func mkdirAt(parent int, name string) error {
	if err := unix.Mkdirat(parent, name, 0o755); err != nil {
		return err
	}
	fd, err := openExact(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, 0o755)
}

// openExact opens what has the name, and not what a link of that name leads to.
func openExact(parent int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(parent, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

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

// attributes sets owner, extended attributes, mode and time of an open file.
func (u *unpacker) attributes(fd, parent int, base string, h *tar.Header) error {
	if u.privileged {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	err := u.eachXattr(h, func(attr string, value []byte) error { return unix.Fsetxattr(fd, attr, value, 0) })
	if err != nil {
		return err
	}
	mode := uint32(h.Mode & 0o7777)
	if !u.privileged && h.Typeflag == tar.TypeDir {
		mode |= 0o700 // its owner must be able to remove what is in it
	}
	if err := unix.Fchmod(fd, mode); err != nil || h.Typeflag == tar.TypeDir {
		return err
	}
	return setTime(parent, base, h.ModTime)
}

// attributesAt does it for what cannot be opened, or must not be: links, pipes
// and devices.
func (u *unpacker) attributesAt(parent int, base string, h *tar.Header) error {
	if u.privileged {
		if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	name := "/proc/self/fd/" + strconv.Itoa(parent) + "/" + base
	err := u.eachXattr(h, func(attr string, value []byte) error { return unix.Lsetxattr(name, attr, value, 0) })
	if err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := chmodAt(parent, base, uint32(h.Mode&0o7777)); err != nil {
			return err
		}
	}
	return setTime(parent, base, h.ModTime)
}

// chmodAt changes a mode without following a link.
func chmodAt(parent int, base string, mode uint32) error {
	err := unix.Fchmodat(parent, base, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return err
	}
	// Linux before 6.6.
	fd, err := openExact(parent, base, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return err
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

func setTime(parent int, base string, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) dirAttributes(fd int, name string, h *tar.Header) error {
	if err := u.attributes(fd, -1, "", h); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	u.times = append(u.times, dirTime{name: name, dev: st.Dev, ino: st.Ino, at: h.ModTime})
	if u.timeBytes += len(name) + 64; u.timeBytes > maxTimes {
		return u.setTimes() // a time that is overwritten is better than memory without end
	}
	return nil
}

// setTimes sets the times of the directories that are still where they were
// made.
func (u *unpacker) setTimes() error {
	// The last that a layer says counts, of a directory that it names twice, and of
	// one that has the number of another that was replaced.
	set := make(map[[2]uint64]bool, len(u.times))
	for i := len(u.times) - 1; i >= 0; i-- {
		d := u.times[i]
		fd, err := u.openDir(d.name)
		if err != nil {
			continue // replaced by something else
		}
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && st.Dev == d.dev && st.Ino == d.ino && !set[[2]uint64{d.dev, d.ino}] {
			set[[2]uint64{d.dev, d.ino}] = true
			err = setTime(fd, ".", d.at)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("unpack %.200q: set its time: %w", d.name, err)
		}
	}
	u.times, u.timeBytes = nil, 0
	return nil
}

// eachXattr calls set for the attributes that mean something inside a container,
// and never those with which a layer could speak to overlayfs.
func (u *unpacker) eachXattr(h *tar.Header, set func(attr string, value []byte) error) error {
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || strings.HasPrefix(attr, "trusted.") || strings.Contains(attr, ".overlay.") {
			continue
		}
		err := set(attr, []byte(value))
		if err == unix.ENOTSUP || (err == unix.EPERM && !u.privileged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("attribute %.100q: %w", attr, err)
		}
	}
	return nil
}
