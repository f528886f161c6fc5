package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// Paths inside a container are a stranger's, and so is what they lead over: an
// image, and volumes that others write to at the same time. Each is opened from
// the container's root by openat2, for which that is the root whatever links and
// ".." say, and which follows no magic link (those of /proc that lead to where
// some process is, rather than to a path). What is done there is done to the
// descriptor.
const insideRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// openStep opens a path inside the directory root as a place, without touching
// what is there.
func (c *container) openStep(root uintptr, path string, flags, resolve uint64) fork.Step {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: insideRoot | resolve}
	if c.l.weak.without("paths") {
		how.Resolve = 0
	}
	return fork.Call("open "+path, unix.SYS_OPENAT2, root, c.p.String(below(path)), fork.Place(c.p, how), unsafe.Sizeof(how))
}

// below is a path of the container relative to its root.
func below(path string) string {
	if rel := strings.TrimLeft(filepath.Clean(path), "/"); rel != "" {
		return rel
	}
	return "."
}

// checkPath refuses, in the kernel's words, what cannot be a path.
func checkPath(op, path string) error {
	if len(path) < runner.MaxPath {
		return nil
	}
	return &runner.StartError{Reason: "StartError", Code: 128, Message: fmt.Sprintf("%s %s…: %v", op, path[:64], unix.ENAMETOOLONG)}
}

// errTooMany: the paths that a container needs, or the names in them, are too many for
// a program.
var errTooMany = &runner.StartError{Reason: "StartError", Code: 128, Message: "too many mounts, or too many directories on the way to them"}

// usePath opens a path inside the directory root, which is made if it is missing
// (a directory, or an empty file), and adds use, which gets the descriptor as
// its argument arg.
//
// Each name on the way takes three steps, and with all that is before it a few
// kilobytes at the most: the program's length bounds what a manifest can make of that.
func (c *container) usePath(root uintptr, path string, dir bool, use fork.Step, arg int) error {
	p := c.p
	if 3*(strings.Count(path, "/")+1) > p.Room() {
		return errTooMany
	}
	rel := below(path)
	var flags uint64
	if dir {
		flags = unix.O_DIRECTORY
	}
	// The steps that make it, of which some need a descriptor of the parent.
	type pass struct{ from, to, arg int }
	var make []fork.Step
	var passes []pass
	parts := strings.Split(rel, "/")
	for i, name := range parts {
		parent, last := root, i == len(parts)-1
		if i > 0 {
			make = append(make, c.openStep(root, strings.Join(parts[:i], "/"), unix.O_DIRECTORY, 0))
			parent = ^uintptr(0)
			passes = append(passes, pass{len(make) - 1, len(make), 0})
		}
		if last && !dir {
			make = append(make, fork.Call("create "+path, unix.SYS_MKNODAT, parent, p.String(name), unix.S_IFREG|0o644, 0).
				Tolerate(unix.EEXIST, unix.EROFS))
		} else {
			make = append(make, fork.Call("mkdir /"+strings.Join(parts[:i+1], "/"), unix.SYS_MKDIRAT, parent, p.String(name), 0o755).
				Tolerate(unix.EEXIST, unix.EROFS))
		}
	}
	open := c.openStep(root, path, flags, 0)
	open.Name = use.Name
	make = append(make, open)

	found := p.Len()
	c.add(open.Tolerate(unix.ENOENT).SkipAfter(len(make)))
	made := p.Len()
	c.add(make...)
	for _, s := range passes {
		p.Pass(made+s.from, made+s.to, s.arg)
	}
	p.Pass(found, p.Len(), arg)
	p.Pass(p.Len()-1, p.Len(), arg)
	c.add(use)
	return nil
}

// enterOwn makes a directory of the container's the working directory, for a file
// system to be mounted on or for what is in one. It has to be one of the image's
// own: a link could lead the file system to where nobody looks for it.
func (c *container) enterOwn(name string) {
	open := c.p.Len()
	step := c.openStep(rootFD, name, unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	c.add(step, fork.Call("enter "+name, unix.SYS_FCHDIR))
	c.p.Pass(open, open+1, 0)
}
