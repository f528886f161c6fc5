package image

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

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
