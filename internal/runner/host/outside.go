package host

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// outside is a directory for what containers of other users need by its path:
// the way to our own directory is closed to them, as it must be. It is in the
// machine's directory for temporary files, exists while somebody needs it, and
// a link in our own tells the next supervisor where it was. Guarded by
// workDirs.mu.
type outside struct {
	link string // to the directory, which may not exist
	path string // "": there is none
	used int
	next int
}

const outsidePrefix = "sampan-host-"

// openOutside removes what a former supervisor has left.
func openOutside(link string) (outside, error) {
	o := outside{link: link}
	left, err := os.Readlink(link)
	if err != nil {
		return o, nil
	}
	if strings.HasPrefix(filepath.Base(left), outsidePrefix) {
		err = os.RemoveAll(left)
	}
	return o, errors.Join(err, os.Remove(link))
}

// name returns a new path in the directory.
func (o *outside) name() (string, error) {
	if o.path == "" {
		path, err := os.MkdirTemp("", outsidePrefix)
		if err != nil {
			return "", err
		}
		// Nobody else may list it, or put anything into it.
		if err := errors.Join(os.Chmod(path, 0o711), os.Symlink(path, o.link)); err != nil {
			return "", errors.Join(err, os.Remove(path))
		}
		o.path = path
	}
	o.used++
	o.next++
	return filepath.Join(o.path, strconv.Itoa(o.next)), nil
}

// free records that what had a name is gone, and removes the directory after the last.
func (o *outside) free() {
	if o.used--; o.used > 0 {
		return
	}
	if os.Remove(o.path) == nil {
		_ = os.Remove(o.link)
		o.path = ""
	}
}

// maxLastWords bounds what is copied of a termination message: no more of a
// pod's is ever reported.
const maxLastWords = 12 << 10

// lastWords is the termination log of a container of another user: a file of its
// own, copied to where it is looked for when the container has ended.
type lastWords struct {
	dirs *workDirs
	path string
	to   string
}

// lastWordsFor makes the file; to is where its content belongs.
func (w *workDirs) lastWordsFor(to string, as *syscall.Credential) (*lastWords, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	path, err := w.outside.name()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = errors.Join(f.Chown(int(as.Uid), int(as.Gid)), f.Close())
	}
	if err != nil {
		_ = os.Remove(path)
		w.outside.free()
		return nil, err
	}
	return &lastWords{dirs: w, path: path, to: to}, nil
}

// collect copies the message and removes the file, once.
func (l *lastWords) collect() error {
	if l == nil || l.path == "" {
		return nil
	}
	err := l.copy()
	l.dirs.mu.Lock()
	defer l.dirs.mu.Unlock()
	err = errors.Join(err, os.Remove(l.path))
	l.path = ""
	l.dirs.outside.free()
	return err
}

func (l *lastWords) copy() error {
	from, err := os.OpenFile(l.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	text, err := io.ReadAll(io.LimitReader(from, maxLastWords))
	if err != nil || len(text) == 0 {
		return err
	}
	to, err := os.OpenFile(l.to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = to.Write(text)
	return errors.Join(err, to.Close())
}
