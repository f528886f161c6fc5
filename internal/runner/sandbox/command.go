package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// maxFiles is how many files a process may open; containerd's default too.
const maxFiles = 1 << 20

// mayOpen returns how many a process of a container may open, where this process may
// have most. The kernel counts the descriptors that all processes of a user have sent
// and nobody has received yet, and sends no more for one whose own limit is below that.
// So a lower limit for containers is a reserve for those who start and attend to them as
// the same user, and send each other descriptors.
func mayOpen(most uint64) uint64 { return min(most-most/8, maxFiles) }

// makeDir makes the working directory if it is missing.
func (c *container) makeDir() error {
	dir := c.spec.Dir
	if below(dir) == "." {
		return nil
	}
	return c.usePath(rootFD, dir, true, fork.Call("chdir "+dir, unix.SYS_FCHDIR), 0)
}

// enterDir enters the working directory. By now the process has no descriptor that
// leads out of the container; the directory is opened inside its root, and then
// asked for its path: one that the root does not lead to has none that begins with
// a slash, and is no place to look up relative to nothing.
func (c *container) enterDir() {
	dir := c.spec.Dir
	if below(dir) == "." {
		return
	}
	enter := fork.Call("chdir "+dir, unix.SYS_FCHDIR)
	open := c.openStep(at, dir, unix.O_DIRECTORY, 0)
	open.Name = enter.Name
	from := c.p.Len()
	c.add(open, enter)
	c.p.Pass(from, from+1, 0)
	if c.l.weak.without("inside") {
		return
	}
	const longest = 4096
	path := c.p.Space(longest)
	c.add(
		fork.Call("chdir "+dir+": where is it", unix.SYS_GETCWD, path, longest),
		fork.Call("chdir "+dir+": it is not inside the container", unix.SYS_FACCESSAT, ^uintptr(0), path, unix.F_OK).TolerateAllBut(unix.EBADF),
	)
}

// limits sets what is not a matter of cgroups.
func (c *container) limits() {
	n := c.l.host.openFiles
	files := fork.Place(c.p, unix.Rlimit{Cur: n, Max: n})
	c.add(
		fork.Call("set limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, files, 0).TolerateAll(),
		fork.Call("umask", unix.SYS_UMASK, 0o022),
	)
	if tag := c.l.tags.Of(c.l.mark(c.spec.ID)); tag != 0 && !c.ownsPIDs() {
		limit := fork.Place(c.p, unix.Rlimit{Cur: tag, Max: tag})
		c.add(fork.Call("set tag", unix.SYS_PRLIMIT64, 0, reap.LimitOfLocks, limit, 0))
	}
}

// oomScore makes the kernel prefer containers to the engine when memory runs
// out: the more a container may use, the less so, as the kubelet does.
func (c *container) oomScore() int64 {
	limit := c.spec.Resources.MemoryLimit
	if limit <= 0 || c.l.host.memory <= 0 {
		return 1000
	}
	return min(max(1000-1000*limit/c.l.host.memory, 3), 999)
}

// candidate is a file that the command may be, the step that executes it, and
// those that look whether it exists when none could be executed, and read how it begins.
type candidate struct {
	path             string
	exec, look, read int
}

// command ends the program: execve, of each file in PATH if need be. The
// container's own files decide, with the container's own rights. If others can
// see the process, this is where it appears among them.
func (c *container) command(joins bool) error {
	env := c.environment()
	paths, err := c.programs(env)
	if err != nil {
		return err
	}
	if joins && !c.l.weak.without("last") {
		// Until it has executed the command, it is not to be traced by its equals.
		c.add(prctlStep("be not dumpable", unix.PR_SET_DUMPABLE, 0))
		c.p.Split()
	}
	c.session()
	c.watchParent()
	p, args := c.p, c.args
	argv, envp := p.Strings(args), p.Strings(env)
	for _, path := range paths {
		c.candidates = append(c.candidates, candidate{path: path, exec: p.Len()})
		c.add(fork.Call("exec", unix.SYS_EXECVE, p.String(path), argv, envp).
			Tolerate(unix.ENOENT, unix.EACCES, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG))
	}
	for i := range c.candidates {
		c.lookFor(&c.candidates[i], len(c.candidates)-1-i)
	}
	return nil
}

// programs returns the files that the command may be.
func (c *container) programs(env []string) ([]string, error) {
	name := c.args[0]
	if strings.Contains(name, "/") {
		return []string{name}, nil
	}
	path, _ := lookup(env, "PATH")
	var files []string
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		if len(dir)+len(name) >= runner.MaxPath {
			continue // not even the kernel would look there
		}
		if len(files) == runner.MaxSearched {
			return nil, &runner.StartError{Reason: "StartError", Code: 128, Message: fmt.Sprintf("exec: $PATH has more than %d directories", runner.MaxSearched)}
		}
		files = append(files, dir+"/"+name)
	}
	if len(files) == 0 {
		return nil, &runner.StartError{Reason: "StartError", Code: 128, Message: notInPath(name)}
	}
	return files, nil
}

// notInPath is what runc says of a command that it does not find.
func notInPath(name string) string {
	return fmt.Sprintf("exec: %q: executable file not found in $PATH", name)
}

// lookFor adds the steps that find out about a file that could not be executed, of which
// there are so many more. How the first one begins that there is goes to the note; opening it
// waits for nothing.
func (c *container) lookFor(cand *candidate, more int) {
	p, path := c.p, c.p.String(cand.path)
	const steps = 3
	cand.look, cand.read = p.Len(), p.Len()+steps-1
	c.add(
		fork.Call("look for the command", unix.SYS_FACCESSAT, at, path, unix.F_OK).TolerateAll(),
		fork.Call("open it", unix.SYS_OPENAT, at, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC).TolerateAll(),
		fork.Call("read it", unix.SYS_READ, ^uintptr(0), p.Note(), fork.NoteSize).TolerateAll().SkipAfter(more*steps),
	)
	p.Pass(cand.read-1, cand.read, 0)
}

// explain turns the error of a start into Kubernetes' words.
func (c *container) explain(err error) error {
	var failed *fork.StepError
	if !errors.As(err, &failed) || fork.OutOfFiles(err) { // these are the supervisor's
		return fmt.Errorf("sandbox: %w", err)
	}
	start := &runner.StartError{Reason: "StartError", Code: 128}
	if len(c.candidates) == 0 || failed.Index < c.candidates[0].exec {
		start.Message = failed.Error()
		return start
	}
	start.Message = c.execMessage(failed)
	return start
}

// execMessage says why no file could be executed: a file that is there is
// worth more words than those that are not.
func (c *container) execMessage(failed *fork.StepError) string {
	name := c.args[0]
	for _, cand := range c.candidates {
		switch errno := c.p.Errno(cand.exec); {
		case errno == 0 || errno == unix.ENOTDIR:
		case errno != unix.ENOENT:
			return fmt.Sprintf("exec: %q: %v", name, errno)
		case failed.Index > cand.look && c.p.Errno(cand.look) == 0:
			return fmt.Sprintf("exec %s: no such file or directory%s", cand.path, c.interpreter(&cand))
		}
	}
	if strings.Contains(name, "/") {
		return fmt.Sprintf("exec: %q: stat %s: no such file or directory", name, name)
	}
	return notInPath(name)
}

// interpreter says what a file that is there, and is not found, is to be executed with.
func (c *container) interpreter(cand *candidate) string {
	if c.p.Errno(cand.read) != 0 { // also when it could not be opened
		return ""
	}
	if why := runner.MissingInterpreter(c.p.Noted()); why != "" {
		return ": " + why
	}
	return ""
}
