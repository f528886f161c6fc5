package tree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxPasses bounds how often a tree is gone through that does not get empty,
// because somebody fills it.
const maxPasses = 100

// Remove removes path and, where it is a directory, everything below; that there
// is nothing is no error. It removes what is in its way, too: modes of
// directories (if they are the caller's) and, with the privilege, immutable
// attributes. Symbolic links are removed, not followed, other than those in the
// directory part of path. A mount below path is never entered: it stays, and is
// an error, as is all that cannot be removed; the rest is removed all the same.
//
// It holds at most window+4 descriptors and, on nearly all file systems,
// constant memory: directories further down than the window are moved up into
// the top directory and emptied there. That is chosen over going down and back
// by "..", because there is no way back that somebody who changes the tree
// meanwhile could bend: a directory is moved by its name in an open one, whatever
// has that name then was in the tree, and all names that are ever removed are
// names in directories that were reached from the top without a link. Where a
// directory cannot be moved (another btrfs subvolume or project, a lower layer of
// an overlay), the walk does go down and back by "..", and takes only the very
// directory for it that it left; if that has gone elsewhere it starts at the top.
//
// An error holds the first failure and the number of all, in one short line.
func Remove(path string) error {
	err := remove(path, (*remover).moveUp)
	if err != nil {
		return fmt.Errorf("remove %s: %w", short(path), err)
	}
	return nil
}

// remover is one removal below a top directory.
type remover struct {
	w    *walk
	lift func(r *remover, name string) error // moveUp

	first   error // of the failures of this pass
	failed  int
	removed int // entries, in this pass

	// Directories that were moved into the top: prefix<n>, from done to moved.
	prefix      string
	done, moved int
}

func remove(path string, lift func(*remover, string) error) error {
	parent, base, err := openTop(path)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return removeAt(parent, base, lift)
}

// RemoveAt is Remove for what has that name, of one element, in an open
// directory.
func RemoveAt(dir int, name string) error {
	if err := removeAt(dir, name, (*remover).moveUp); err != nil {
		return fmt.Errorf("remove %s: %w", short(name), err)
	}
	return nil
}

func removeAt(parent int, base string, lift func(*remover, string) error) error {
	var err error
	if err = unlink(parent, base, unix.DT_DIR); err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.ENOTEMPTY && err != unix.EPERM && err != unix.EACCES {
		return err
	}
	r := &remover{w: newWalk(), lift: lift}
	defer r.w.close()
	fd, err := r.open(parent, base)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		unfreeze(parent, base) // a file that could not be unlinked
		return gone(unlink(parent, base, unix.DT_REG))
	}
	if err != nil {
		return gone(err)
	}
	if err := r.w.enter(fd, base); err != nil {
		return err
	}
	for pass := 1; ; pass++ {
		r.first, r.failed, r.removed = nil, 0, 0
		r.pass()
		err := unlink(parent, base, unix.DT_DIR)
		if err == unix.EPERM {
			unfreeze(parent, base)
			err = unlink(parent, base, unix.DT_DIR)
		}
		switch {
		case err == nil || err == unix.ENOENT:
			return nil
		case err == unix.ENOTEMPTY && r.removed > 0 && pass < maxPasses:
			if err := r.w.rewind(); err != nil {
				return err
			}
			continue
		case r.failed > 1:
			return fmt.Errorf("%w (and %d more)", r.first, r.failed-1)
		case r.failed == 1:
			return r.first
		}
		return err
	}
}

// pass goes once through everything that there is.
func (r *remover) pass() {
	for {
		e, ok, err := r.w.next()
		switch {
		case err != nil && err != unix.ENOENT:
			r.fail("", err)
			fallthrough
		case !ok:
			if !r.back() {
				return
			}
		default:
			r.entry(string(e.name), e.kind)
		}
	}
}

// entry removes one entry of the last directory, or goes down into it.
func (r *remover) entry(name string, kind uint8) {
	err := r.unlink(name, kind)
	switch {
	case err == nil:
		r.removed++
	case err == unix.ENOENT:
	case err == unix.ENOTEMPTY:
		if len(r.w.way)-1 >= window {
			if err := r.lift(r, name); err == nil || err == unix.ENOENT {
				return
			}
		}
		r.descend(name, 1)
	default:
		r.fail(name, err)
	}
}

func (r *remover) descend(name string, tries int) {
	fd, err := r.open(r.w.here().dir.fd, name)
	if err == nil {
		err = r.w.enter(fd, name)
	}
	if err != nil {
		if err != unix.ENOENT {
			r.fail(name, err)
		}
		return
	}
	l := r.w.here()
	l.failed, l.tries = r.failed, tries
}

// back leaves a directory that was read to its end, and removes it. At the top
// it goes on with what was moved there; false when nothing is left to do.
func (r *remover) back() bool {
	if len(r.w.way) == 1 {
		if r.done == r.moved {
			return false
		}
		name := r.prefix + strconv.Itoa(r.done)
		r.done++
		r.entry(name, unix.DT_DIR)
		return true
	}
	l := *r.w.here()
	if err := r.w.up(); err != nil {
		r.removed++ // something else is there now: worth another pass
		r.fail(l.name, err)
		return true
	}
	err := r.unlink(l.name, unix.DT_DIR)
	switch {
	case err == nil:
		r.removed++
	case err == unix.ENOENT:
	case err == unix.ENOTEMPTY && r.failed > l.failed: // the reason is known
	case err == unix.ENOTEMPTY && l.tries < 3:
		r.descend(l.name, l.tries+1) // its file system skipped something, or it was filled
	default:
		r.fail(l.name, err)
	}
	return true
}

// moveUp moves a directory of the last level into the top.
func (r *remover) moveUp(name string) error {
	if r.prefix == "" {
		r.prefix = ".removed-" + rand.Text() + "-"
	}
	top, here := r.w.way[0].dir, r.w.here().dir
	to := r.prefix + strconv.Itoa(r.moved)
	err := rename(here.fd, name, top.fd, to)
	if err == unix.EACCES || err == unix.EPERM {
		loosen(top)
		loosen(here)
		loosenAt(here.fd, name) // its ".." is written
		err = rename(here.fd, name, top.fd, to)
	}
	if err == nil {
		r.moved++
	}
	return err
}

func rename(from int, name string, to int, as string) error {
	for {
		err := unix.Renameat2(from, name, to, as, unix.RENAME_NOREPLACE)
		if err != unix.EINTR {
			return err
		}
	}
}

// unlink removes an entry of the last directory that is no directory or empty;
// ENOTEMPTY says that it is neither.
func (r *remover) unlink(name string, kind uint8) error {
	d := r.w.here().dir
	err := unlink(d.fd, name, kind)
	if err != unix.EACCES && err != unix.EPERM {
		return err
	}
	loosen(d)
	if err == unix.EPERM {
		unfreeze(d.fd, name)
	}
	return unlink(d.fd, name, kind)
}

// unlink removes what has the name, if it is no directory or an empty one. Kind
// is a guess that saves a call.
func unlink(dirfd int, name string, kind uint8) error {
	flags := 0
	if kind == unix.DT_DIR {
		flags = unix.AT_REMOVEDIR
	}
	for range 8 { // somebody may change what it is
		err := unix.Unlinkat(dirfd, name, flags)
		switch {
		case err == unix.EINTR:
		case err == unix.EISDIR && flags == 0:
			flags = unix.AT_REMOVEDIR
		case err == unix.ENOTDIR && flags != 0:
			flags = 0
		case err == unix.EEXIST:
			return unix.ENOTEMPTY
		default:
			return err
		}
	}
	return unix.EBUSY
}

// open opens a directory, whatever its mode says.
func (r *remover) open(dirfd int, name string) (int, error) {
	fd, err := openDir(dirfd, name, unix.O_RDONLY)
	if err == unix.EACCES {
		loosenAt(dirfd, name)
		fd, err = openDir(dirfd, name, unix.O_RDONLY)
	}
	if err == unix.EXDEV {
		err = errMount
	}
	return fd, err
}

var errMount = fmt.Errorf("another file system is mounted there: %w", unix.EBUSY)

// loosen lets the owner do everything in an open directory. That it cannot is
// told by what was to be done there.
func loosen(d *dir) {
	if !d.loosened {
		d.loosened = true
		thaw(d.fd)
		_ = unix.Fchmod(d.fd, 0o700)
	}
}

// loosenAt does the same to one that cannot be opened for reading as it is.
func loosenAt(dirfd int, name string) {
	fd, err := openDir(dirfd, name, unix.O_PATH)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	chmodPath(fd, 0o700)
}

// chmodPath changes the mode of what an O_PATH descriptor stands for; kernels
// before 6.6 know no other way than by /proc.
func chmodPath(fd int, mode uint32) {
	if unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH) == nil {
		return
	}
	_ = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

// unfreeze takes the attributes from a file or directory that forbid its
// removal. It is opened by its path descriptor, so that no pipe and no device
// is ever opened, even if it is put in place of a file at this moment.
func unfreeze(dirfd int, name string) {
	fd, err := unix.Openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || (st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR) {
		return
	}
	file, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	thaw(file)
	unix.Close(file)
}

func thaw(fd int) {
	const frozen = 0x10 | 0x20 // FS_IMMUTABLE_FL, FS_APPEND_FL
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil && flags&frozen != 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^frozen))
	}
}

// fail notes that something stays.
func (r *remover) fail(name string, err error) {
	r.failed++
	if r.first != nil {
		return
	}
	switch down := len(r.w.way) - 1; {
	case name == "":
		r.first = fmt.Errorf("%s, %d levels down: %w", short(r.w.here().name), down, err)
	case down == 0:
		r.first = fmt.Errorf("%s: %w", short(name), err)
	default:
		r.first = fmt.Errorf("%s, %d levels down: %w", short(name), down, err)
	}
}

// short returns a stranger's name for a message: quoted, bounded.
func short(name string) string {
	const most = 200
	if len(name) > most {
		return strconv.Quote(name[:most/2]) + "..." + strconv.Quote(name[len(name)-most/2:])
	}
	return strconv.Quote(name)
}

func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
