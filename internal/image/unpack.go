package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
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
