package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// maxFiles is how many files a process may open; containerd's default too.
const maxFiles = 1 << 20

// makeDir makes the working directory if it is missing; enterDir says so if
// that did not work.
func (c *container) makeDir() {
	dir := c.spec.Dir
	for i := 1; i <= len(dir); i++ {
		if i == len(dir) || dir[i] == '/' {
			c.p.Add(mkdirStep(c.p, dir[:i], 0o755).TolerateAll())
		}
	}
}

func (c *container) enterDir() {
	if c.spec.Dir != "" && c.spec.Dir != "/" {
		c.p.Add(chdirStep(c.p, c.spec.Dir))
	}
}

// limits sets what is not a matter of cgroups.
func (c *container) limits() {
	p := c.p
	writeSteps(p, "/proc/self/oom_score_adj", fmt.Sprint(c.oomScore()), false)
	files := &unix.Rlimit{Cur: maxFiles, Max: maxFiles}
	p.Keep(files)
	p.Add(
		fork.Call("set limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, fork.Pointer(files), 0).TolerateAll(),
		fork.Call("umask", unix.SYS_UMASK, 0o022),
	)
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
// the one that looks whether it exists when none could be executed.
type candidate struct {
	path       string
	exec, look int
}

// command ends the program: execve, of each file in PATH if need be. The
// container's own files decide, with the container's own rights.
func (c *container) command() {
	p, args := c.p, c.args
	env := c.environment()
	argv, envp := p.Strings(args), p.Strings(env)
	paths := []string{args[0]}
	if !strings.Contains(args[0], "/") {
		paths = paths[:0]
		path, _ := lookup(env, "PATH")
		for dir := range strings.SplitSeq(path, ":") {
			if dir == "" {
				dir = "."
			}
			paths = append(paths, dir+"/"+args[0])
		}
	}
	for _, path := range paths {
		c.candidates = append(c.candidates, candidate{path: path, exec: p.Len()})
		p.Add(fork.Call("exec "+path, unix.SYS_EXECVE, p.String(path), argv, envp).
			Tolerate(unix.ENOENT, unix.EACCES, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG))
	}
	for i := range c.candidates {
		c.candidates[i].look = p.Len()
		p.Add(fork.Call("look for "+paths[i], unix.SYS_FACCESSAT, at, p.String(paths[i]), unix.F_OK).TolerateAll())
	}
}

// explain turns the error of a start into Kubernetes' words.
func (c *container) explain(err error) error {
	var failed *fork.StepError
	if !errors.As(err, &failed) {
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
			return fmt.Sprintf("exec %s: no such file or directory", cand.path) // its interpreter or loader
		}
	}
	if strings.Contains(name, "/") {
		return fmt.Sprintf("exec: %q: stat %s: no such file or directory", name, name)
	}
	return fmt.Sprintf("exec: %q: executable file not found in $PATH", name)
}
