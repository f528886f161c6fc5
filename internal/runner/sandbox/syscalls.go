package sandbox

import (
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// at is AT_FDCWD as an argument of a step.
const at = ^uintptr(-unix.AT_FDCWD - 1)

// mountStep is mount(2).
func mountStep(p *fork.Program, source, target, fstype string, flags uintptr, data string) fork.Step {
	var d uintptr
	if data != "" {
		d = p.String(data)
	}
	return fork.Call("mount "+target, unix.SYS_MOUNT, p.String(source), p.String(target), p.String(fstype), flags, d)
}

// mkdirStep creates a directory, if it is not there.
func mkdirStep(p *fork.Program, path string, mode uintptr) fork.Step {
	return fork.Call("mkdir "+path, unix.SYS_MKDIRAT, at, p.String(path), mode).
		Tolerate(unix.EEXIST, unix.EROFS)
}

// touchStep creates an empty file, if it is not there. Unlike open it never
// waits for the other end of a FIFO, nor disturbs a device.
func touchStep(p *fork.Program, path string) fork.Step {
	return fork.Call("create "+path, unix.SYS_MKNODAT, at, p.String(path), unix.S_IFREG|0o644, 0).
		Tolerate(unix.EEXIST, unix.EROFS)
}

// symlinkStep creates a symbolic link, if nothing has that name.
func symlinkStep(p *fork.Program, to, path string) fork.Step {
	return fork.Call("symlink "+path, unix.SYS_SYMLINKAT, p.String(to), at, p.String(path)).Tolerate(unix.EEXIST)
}

func chdirStep(p *fork.Program, path string) fork.Step {
	return fork.Call("chdir "+path, unix.SYS_CHDIR, p.String(path))
}

func prctlStep(name string, op, arg uintptr) fork.Step {
	return fork.Call(name, unix.SYS_PRCTL, op, arg)
}
