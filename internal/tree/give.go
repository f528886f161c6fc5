package tree

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// What a group gets of a file and of a directory.
const (
	groupFile = 0o660
	groupDir  = 0o2770
)

// Give gives the open directory top, and everything below it on the same mount, to a group, as a
// kubelet gives a volume to an fsGroup: the group (and the owner) may read and write every file and
// enter every directory, and what is made in one belongs to the group, too. The top comes last. With
// matching, a top that is right already is taken for a tree that is.
//
// What is not the caller's to change stays as it is, and is no error; nor is what vanishes. Links are
// given, not followed, and a file is changed by the descriptor by which it was looked at, so that
// nobody who puts a link in its place meanwhile has something else changed.
func Give(top, gid int, matching bool) error {
	g := &giver{w: newWalk(), gid: uint32(gid)}
	defer g.w.close()
	var st unix.Statx_t
	if err := statx(top, "", unix.AT_EMPTY_PATH, given, &st); err != nil {
		return fmt.Errorf("give to group %d: %w", gid, err)
	}
	if matching && g.right(&st) {
		return nil
	}
	fd, err := openDir(top, ".", unix.O_RDONLY)
	if err == nil {
		err = g.w.enter(fd, "")
	}
	if err == nil {
		err = g.walk()
	}
	if err == nil {
		g.give(top, &st)
	} else {
		err = fmt.Errorf("give to group %d: %w", gid, err)
	}
	return err
}

// giver is one tree that is given.
type giver struct {
	w   *walk
	gid uint32
}

const given = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_GID

// right reports whether a file is the group's already. (Most are, when a volume is used again.)
func (g *giver) right(st *unix.Statx_t) bool {
	if st.Gid != g.gid {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return true
	case unix.S_IFDIR:
		return st.Mode&groupDir == groupDir
	}
	return st.Mode&groupFile == groupFile
}

// walk goes through everything below the top once. The error says that a part of it was not seen.
func (g *giver) walk() error {
	for {
		e, ok, err := g.w.next()
		switch {
		case err != nil && err != unix.ENOENT:
			return err
		case ok:
			err = g.entry(string(e.name))
		case len(g.w.way) == 1:
			return nil
		default:
			err = g.w.up()
		}
		if err != nil {
			return err
		}
	}
}

// entry gives one entry of the last directory, and goes down into it if that is one.
func (g *giver) entry(name string) error {
	here := g.w.here().dir.fd
	var st unix.Statx_t
	if err := statx(here, name, 0, given, &st); err != nil {
		return passable(err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir && g.right(&st) {
		return nil
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH}
	fd, err := unix.Openat2(here, name, &how)
	if err != nil {
		return passable(err)
	}
	defer unix.Close(fd)
	// Another file may have the name by now: this one counts.
	if err := statx(fd, "", unix.AT_EMPTY_PATH, given, &st); err != nil {
		return passable(err)
	}
	if !g.right(&st) {
		g.give(fd, &st)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	inside, err := openDir(fd, ".", unix.O_RDONLY)
	if err != nil {
		return passable(err)
	}
	return g.w.enter(inside, name)
}

// give gives what fd, which may be a path descriptor, stands for.
func (g *giver) give(fd int, st *unix.Statx_t) {
	if unix.Fchownat(fd, "", -1, int(g.gid), unix.AT_EMPTY_PATH) != nil {
		return
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
	case unix.S_IFDIR:
		chmodPath(fd, uint32(st.Mode&0o7777|groupDir))
	default:
		chmodPath(fd, uint32(st.Mode&0o7777|groupFile))
	}
}

// passable returns nil for what does not keep the rest from being given: it has vanished, is mounted
// over or is not to be opened by this user.
func passable(err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.EACCES, unix.EPERM:
		return nil
	}
	return err
}
