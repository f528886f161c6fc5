package hostpath

import (
	"context"
	"errors"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// Make says what to make of a path where nothing is.
type Make int

const (
	// Nothing: that nothing is there is an error.
	Nothing Make = iota
	// Directory makes a directory, and those above it that are missing, mode 0755.
	Directory
	// File makes an empty file, mode 0644, at the end of a link too.
	File
)

// maxPath is the kernel's PATH_MAX.
const maxPath = 4096

// Stat returns the type and mode (st_mode) of what is at path, and makes it
// if need be. It is not opened: a FIFO would wait for its other end, a device
// might do something. An error of the path is a unix.Errno with what was done
// ("stat /x: permission denied"); what does not answer in time is ErrNoAnswer.
func (s *Scout) Stat(ctx context.Context, path string, what Make) (mode uint32, err error) {
	if err := check(path); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if !fork.Supported {
		return statHere(path, what)
	}
	answer, err := s.visit(ctx, path, nil, func(p *plan) {
		look := p.look("stat "+path, here, path)
		if what != Nothing {
			steps := p.make(path, what)
			p.Add(look.Tolerate(unix.ENOENT).SkipAfter(len(steps) + 1))
			p.Add(steps...)
		}
		p.Add(look)
	})
	var step *fork.StepError
	if errors.As(err, &step) {
		op, at, _ := strings.Cut(step.Name, " ")
		err = &os.PathError{Op: op, Path: at, Err: step.Errno}
	}
	return uint32(answer.stat.Mode), err
}

// check refuses what is no path.
func check(path string) error {
	switch {
	case path == "":
		return unix.ENOENT
	case len(path) >= maxPath:
		return unix.ENAMETOOLONG
	case strings.IndexByte(path, 0) >= 0:
		return unix.EINVAL
	}
	return nil
}

// make returns the steps that make a file or a directory.
func (p *plan) make(path string, what Make) []fork.Step {
	if what == File {
		const flags = unix.O_CREAT | unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
		return []fork.Step{fork.Call("open "+path, unix.SYS_OPENAT, here, p.String(path), flags, 0o644)}
	}
	return MakeDirectory(p.Program, path)
}

// MakeDirectory returns the steps by which a program goes to the directory path,
// and makes those that are missing on the way, mode 0755. They are named as
// os.MkdirAll names its errors ("mkdir /a").
func MakeDirectory(p *fork.Program, path string) []fork.Step {
	steps := []fork.Step{fork.Call("enter /", unix.SYS_CHDIR, p.String("/"))}
	for end := 0; end < len(path); {
		begin := end
		if n := strings.IndexByte(path[begin:], '/'); n >= 0 {
			end += n
		} else {
			end = len(path)
		}
		if name := path[begin:end]; name != "" {
			at, what := p.String(name), "mkdir "+path[:end]
			enter := fork.Call(what, unix.SYS_CHDIR, at)
			// One that is there need not be one that could be made: the file system may
			// be read-only.
			steps = append(steps, enter.Tolerate(unix.ENOENT).SkipAfter(2),
				fork.Call(what, unix.SYS_MKDIRAT, here, at, 0o755).Tolerate(unix.EEXIST), enter)
		}
		end++
	}
	return steps
}

// statHere is Stat where there are no programs.
func statHere(path string, what Make) (uint32, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if err == unix.ENOENT && what == Directory {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return 0, err
		}
		err = unix.Stat(path, &st)
	}
	if err == unix.ENOENT && what == File {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0o644)
		if err != nil {
			return 0, err
		}
		_ = f.Close()
		return statHere(path, Nothing)
	}
	if err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint32(st.Mode), nil
}

// Open opens path as a place (O_PATH), which touches nothing that is there, and
// tells whether it is a directory. With a sub, that is what is opened; see
// OpenSub.
// The error is a *SubError if it is about that, else it is, or wraps, a unix.Errno
// or ErrNoAnswer.
func (s *Scout) Open(ctx context.Context, path, sub string) (fd int, dir bool, err error) {
	if err := check(path); err != nil {
		return -1, false, err
	}
	var w way = away{ctx: ctx, scout: s, path: path}
	if !fork.Supported {
		w = direct{}
	}
	fd, mode, err := w.open(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err == nil && sub != "" {
		root := fd
		fd, mode, err = openSub(w, root, mode, sub)
		_ = unix.Close(root)
	}
	if err != nil {
		return -1, false, err
	}
	return fd, mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// away reaches what is at a path of the machine, and below it, by processes of
// their own.
type away struct {
	ctx   context.Context
	scout *Scout
	path  string
}

func (w away) open(dir int, path string, how *unix.OpenHow) (fd int, mode uint32, err error) {
	answer, err := w.visit(dir, func(p *plan) {
		p.open(fork.Call("open", unix.SYS_OPENAT2, p.dir(), p.String(path), fork.Place(p.Program, *how), unsafe.Sizeof(*how)))
	})
	return answer.fd, uint32(answer.stat.Mode), err
}

func (w away) mkdir(dir int, name string, mode uint32) error {
	_, err := w.visit(dir, func(p *plan) {
		p.Add(fork.Call("mkdir", unix.SYS_MKDIRAT, p.dir(), p.String(name), uintptr(mode)))
	})
	return err
}

func (w away) chmod(fd int, mode uint32) error {
	_, err := w.visit(fd, func(p *plan) {
		p.Add(fork.Call("chmod", unix.SYS_FCHMODAT, here, p.String(FDPath(int(p.dir()))), uintptr(mode)))
	})
	return err
}

func (w away) owner(fd int) (uid uint32, err error) {
	answer, err := w.visit(fd, func(p *plan) { p.Add(p.look("fstat", p.dir(), "")) })
	return answer.stat.Uid, err
}

// visit returns the plain error number of a step that failed, as a system call
// does.
func (w away) visit(dir int, plan func(p *plan)) (found, error) {
	var files []int
	if dir != unix.AT_FDCWD {
		files = []int{dir}
	}
	answer, err := w.scout.visit(w.ctx, w.path, files, plan)
	var step *fork.StepError
	if errors.As(err, &step) {
		err = step.Errno
	}
	return answer, err
}

// dir is the directory that the process was given, or where it is.
func (p *plan) dir() uintptr {
	if len(p.files) == 0 {
		return here
	}
	return p.files[0]
}
