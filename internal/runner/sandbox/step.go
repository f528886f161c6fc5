package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// at is AT_FDCWD as an argument of a step.
const at = ^uintptr(-unix.AT_FDCWD - 1)

// add appends steps to the container's program.
func (c *container) add(steps ...fork.Step) {
	for i := range steps {
		if c.l.weak.without(steps[i].Name) {
			steps[i] = fork.Call(steps[i].Name, unix.SYS_GETPID)
		}
	}
	c.p.Add(steps...)
}

// weakness is how a test takes defences away from a launcher, to show that its
// attack works where they are missing. Nothing else sets it, but a build for such
// a test (weak_on.go).
type weakness struct {
	// missing are the names of steps that are left out, and of these:
	//
	//	paths     are resolved inside the root
	//	inside    the working directory is proven to be
	//	last      comes that a process appears among others
	//	devices   are the container's own
	missing []string
	// begin adds steps to the beginning of a program.
	begin func(c *container) error
}

func (w *weakness) without(defence string) bool {
	return w != nil && slices.Contains(w.missing, defence)
}

// mountStep is mount(2). target is a path below the working directory, or an
// absolute one of the supervisor's.
func mountStep(p *fork.Program, source, target, fstype string, flags uintptr, data string) fork.Step {
	var d uintptr
	if data != "" {
		d = p.String(data)
	}
	return fork.Call("mount "+fstype, unix.SYS_MOUNT, p.String(source), p.String(target), p.String(fstype), flags, d)
}

// bindStep mounts source, a path of this machine, at target.
func bindStep(p *fork.Program, source, target string, flags uintptr) fork.Step {
	return fork.Call("bind "+target, unix.SYS_MOUNT, p.String(source), p.String(target), 0, unix.MS_BIND|flags, 0)
}

// remountStep changes the flags of the mount at path.
func remountStep(p *fork.Program, path string, flags uintptr) fork.Step {
	return fork.Call("remount "+path, unix.SYS_MOUNT, 0, p.String(path), 0, unix.MS_REMOUNT|unix.MS_BIND|flags, 0)
}

// mkdirStep creates a directory below the working directory, if it is not there.
func mkdirStep(p *fork.Program, path string, mode uintptr) fork.Step {
	return fork.Call("mkdir "+path, unix.SYS_MKDIRAT, at, p.String(path), mode).Tolerate(unix.EEXIST, unix.EROFS)
}

// nodeStep creates a file of any type below the working directory, if it is not
// there. Unlike open it never waits for the other end of a FIFO, nor disturbs a
// device.
func nodeStep(p *fork.Program, path string, mode, device uintptr) fork.Step {
	return fork.Call("create "+path, unix.SYS_MKNODAT, at, p.String(path), mode, device).Tolerate(unix.EEXIST, unix.EROFS)
}

// touchStep creates an empty file, as nodeStep does.
func touchStep(p *fork.Program, path string) fork.Step {
	return nodeStep(p, path, unix.S_IFREG|0o644, 0)
}

// symlinkStep creates a symbolic link, if nothing has that name.
func symlinkStep(p *fork.Program, to, path string) fork.Step {
	return fork.Call("link "+path, unix.SYS_SYMLINKAT, p.String(to), at, p.String(path)).Tolerate(unix.EEXIST)
}

// chdirStep enters a directory of the supervisor's.
func chdirStep(p *fork.Program, path string) fork.Step {
	return fork.Call("chdir "+path, unix.SYS_CHDIR, p.String(path))
}

func prctlStep(name string, op int, arg uintptr) fork.Step {
	return fork.Call(name, unix.SYS_PRCTL, uintptr(op), arg)
}

// writeSteps write text to a file, which must exist; what follows closes it.
// Unless strict, failure does not matter.
func writeSteps(p *fork.Program, path, text string, strict bool) {
	writeAtSteps(p, at, path, text, strict)
}

// writeAtSteps is writeSteps for a path below a directory.
func writeAtSteps(p *fork.Program, dir uintptr, path, text string, strict bool) {
	open := p.Len()
	steps := []fork.Step{
		fork.Call("open "+path, unix.SYS_OPENAT, dir, p.String(path), unix.O_WRONLY|unix.O_CLOEXEC),
		fork.Call("write "+path, unix.SYS_WRITE, ^uintptr(0), p.String(text), uintptr(len(text))),
	}
	if !strict {
		steps[0], steps[1] = steps[0].TolerateAll(), steps[1].TolerateAll()
	}
	p.Add(steps...)
	p.Pass(open, open+1, 0)
}
