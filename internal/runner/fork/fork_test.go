//go:build amd64 || arm64

package fork

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const cwd = ^uintptr(-unix.AT_FDCWD - 1)

// shell ends p with a shell script.
func shell(p *Program, script string) *Program {
	p.MindParent()
	p.Add(Call("exec", unix.SYS_EXECVE, p.String("/bin/sh"), p.Strings([]string{"sh", "-c", script}), p.Strings([]string{"A=b"})))
	return p
}

// run starts p and returns the process that executes its command, and how to
// end its predecessor.
func run(ctx context.Context, p *Program, opts Options) (pid int, err error) {
	c, err := p.Start(opts)
	if err != nil {
		return 0, err
	}
	defer unix.Close(c.PidFD)
	pid, err = c.Await(ctx)
	if err != nil {
		for _, p := range []int{pid, c.PID} {
			if p > 0 {
				_ = unix.Kill(p, unix.SIGKILL)
			}
		}
	}
	if err != nil || pid != c.PID {
		_, _ = unix.Wait4(c.PID, nil, 0, nil)
	}
	return pid, err
}

func wait(t *testing.T, pid int) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			if err != nil {
				t.Fatal(err)
			}
			return ws
		}
	}
}

func start(t *testing.T, p *Program) unix.WaitStatus {
	t.Helper()
	pid, err := run(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return wait(t, pid)
}

// stdout makes a file the child's standard output.
func stdout(t *testing.T, p *Program) func() string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	p.Add(Call("stdout", unix.SYS_DUP3, inherit(t, p, int(f.Fd())), 1, 0))
	return func() string {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		return strings.TrimSpace(string(text))
	}
}

func inherit(t *testing.T, p *Program, fd int) uintptr {
	t.Helper()
	n, err := p.Inherit(fd)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestExec(t *testing.T) {
	t.Parallel()
	p := NewProgram()
	out := stdout(t, p)
	p.Add(Call("chdir", unix.SYS_CHDIR, p.String("/proc")))
	ws := start(t, shell(p, "pwd; echo $A; exit 7"))
	if ws.ExitStatus() != 7 || out() != "/proc\nb" {
		t.Errorf("ended with %v, wrote %q", ws, out())
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	p := NewProgram()
	first := p.Len()
	p.Add(
		Call("tolerated", unix.SYS_CHDIR, p.String("/nosuch")).Tolerate(unix.EACCES, unix.ENOENT),
		Call("fatal", unix.SYS_CHDIR, p.String("/proc/version")).Tolerate(unix.ENOENT),
	)
	_, err := run(t.Context(), shell(p, ""), Options{})
	var step *StepError
	if !errors.As(err, &step) || step.Index != first+1 || step.Name != "fatal" || !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("got %v", err)
	}
	if got := p.Errno(first); got != unix.ENOENT {
		t.Errorf("tolerated: %v", got)
	}

	p = NewProgram()
	p.Add(Call("nothing", unix.SYS_GETPID))
	if _, err := run(t.Context(), p, Options{}); !errors.As(err, &step) || step.Name != "end of program" {
		t.Errorf("a program without execve: %v", err)
	}
	p = NewProgram()
	p.Add(Call("getpid", unix.SYS_GETPID).MustBeZero())
	if _, err := run(t.Context(), shell(p, ""), Options{}); !errors.Is(err, unix.EOWNERDEAD) {
		t.Errorf("a result that must be 0: %v", err)
	}
	p = NewProgram()
	if _, err := run(t.Context(), shell(p, ""), Options{Flags: unix.CLONE_FS | unix.CLONE_NEWNS}); !errors.As(err, &step) || step.Name != "clone" {
		t.Errorf("clone: %v", err)
	}
	// An errno above 62 is one of the rest.
	p = NewProgram()
	p.Add(Call("not a socket", unix.SYS_SHUTDOWN, 0).Tolerate(unix.ENOTSOCK, unix.EBADF))
	if ws := start(t, shell(p, "exit 0")); ws != 0 {
		t.Errorf("ended with %v", ws)
	}
}

// A child that fails leaves a note.
func TestNote(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("what is in it"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := NewProgram()
	open := p.Len()
	p.Add(
		Call("open", unix.SYS_OPENAT, cwd, p.String(path), unix.O_RDONLY),
		Call("read", unix.SYS_READ, ^uintptr(0), p.Note(), NoteSize),
		Call("fail", unix.SYS_CHDIR, p.String("/nosuch")),
	)
	p.Pass(open, open+1, 0)
	_, err := run(t.Context(), shell(p, ""), Options{})
	if got := strings.TrimRight(string(p.Noted()), "\x00"); !errors.Is(err, unix.ENOENT) || got != "what is in it" {
		t.Errorf("it noted %q, %v", got, err)
	}
}

func TestSkipAndPass(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := NewProgram()
	out := stdout(t, p)
	open := func(name string) Step {
		return Call(name, unix.SYS_OPENAT, cwd, p.String(name), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	// The first is not there, so that the second is tried; the third is skipped.
	first := p.Len()
	p.Add(
		open(dir+"/nosuch").Tolerate(unix.ENOENT).SkipAfter(9),
		open(dir).SkipAfter(1),
		open("/nosuch"),
		Call("fchdir", unix.SYS_FCHDIR, 12345),
	)
	p.Pass(first+1, first+3, 0)
	if ws := start(t, shell(p, "pwd")); ws != 0 || out() != dir {
		t.Errorf("ended with %v in %q", ws, out())
	}
	defer func() {
		if recover() == nil {
			t.Error("a result was passed twice")
		}
	}()
	p.Pass(first+1, first+2, 0)
}

// After a Split the caller's child is the second one.
func TestSplit(t *testing.T) {
	t.Parallel()
	p := NewProgram()
	out := stdout(t, p)
	p.Split()
	p.Add(Call("new session", unix.SYS_SETSID))
	c, err := run(t.Context(), shell(p, "echo $$ $PPID; exit 5"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if ws := wait(t, c); ws.ExitStatus() != 5 {
		t.Errorf("ended with %v", ws)
	}
	if want := itoa(c) + " " + itoa(os.Getpid()); out() != want {
		t.Errorf("got %q, want %q", out(), want)
	}

	for _, before := range []bool{true, false} {
		p = NewProgram()
		fatal := Call("fatal", unix.SYS_CHDIR, p.String("/nosuch"))
		if before {
			p.Add(fatal)
		}
		p.Split()
		if !before {
			p.Add(fatal)
		}
		var step *StepError
		if _, err := run(t.Context(), shell(p, ""), Options{}); !errors.As(err, &step) || step.Name != "fatal" {
			t.Errorf("fatal before the split %v: %v", before, err)
		}
	}
}

// What a process that has split off does to its memory is nothing to the one that
// it came from: whoever traces the one must not get hold of the other.
func TestSplitSharesNothing(t *testing.T) {
	t.Parallel()
	p := NewProgram()
	p.Split()
	// The exit code of the first process, in the last step.
	p.Add(Call("getpid", unix.SYS_GETPID))
	p.PassTo(p.Len()-1, headerBase-unsafe.Sizeof(call{})+unsafe.Offsetof(call{}.args))
	c, err := shell(p, "exit 0").Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.PidFD)
	pid, err := c.Await(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ws := wait(t, c.PID); ws != 0 {
		t.Errorf("the first process ended as the second wanted: %v", ws)
	}
	if ws := wait(t, pid); ws != 0 {
		t.Errorf("the second ended with %v", ws)
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

// A start that hangs ends with its context, before and after a Split.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, split := range []bool{false, true} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		p := NewProgram()
		if split {
			p.Split()
		}
		p.Add(Call("hang", unix.SYS_READ, inherit(t, p, int(r.Fd())), p.Space(1), 1))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := run(ctx, shell(p, ""), Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("split %v: %v", split, err)
		}
		if _, err := run(ctx, shell(NewProgram(), ""), Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a context that has ended: %v", err)
		}
	}
}

// While children hang, the garbage collector and other goroutines go on.
func TestNobodyWaits(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var group sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		group.Go(func() {
			p := NewProgram()
			p.Add(Call("hang", unix.SYS_READ, inherit(t, p, int(r.Fd())), p.Space(1), 1))
			c, err := run(context.Background(), shell(p, "exit 0"), Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if ws := wait(t, c); ws != 0 {
				t.Errorf("ended with %v", ws)
			}
		})
	}
	for range 10 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	// Closing would not do: the children have copies.
	if _, err := w.Write(make([]byte, 2*runtime.GOMAXPROCS(0))); err != nil {
		t.Error(err)
	}
	group.Wait()
	w.Close()
}

// Many starts at once, while signals arrive, stacks move and memory is
// collected.
func TestStress(t *testing.T) {
	t.Parallel()
	var stop atomic.Bool
	var group, noise sync.WaitGroup
	noise.Go(func() {
		for !stop.Load() {
			_ = unix.Kill(os.Getpid(), unix.SIGURG)
			runtime.GC()
		}
	})
	for i := range 8 {
		group.Go(func() {
			for j := range 25 {
				p := NewProgram()
				for range j {
					p.Add(Call("getpid", unix.SYS_GETPID))
				}
				if i%2 == 0 {
					p.Split()
				}
				c, err := deep(j, func() (int, error) {
					return run(context.Background(), shell(p, "exit "+itoa(j+1)), Options{})
				})
				if err != nil {
					t.Error(err)
					return
				}
				if ws := wait(t, c); ws.ExitStatus() != j+1 {
					t.Errorf("ended with %v, want %d", ws, j+1)
				}
			}
		})
	}
	group.Wait()
	stop.Store(true)
	noise.Wait()
}

// deep calls f with a stack that had to grow.
func deep(n int, f func() (int, error)) (int, error) {
	var pad [512]byte
	if n == 0 {
		return f()
	}
	pad[n] = 1
	c, err := deep(n-1, f)
	c += int(pad[n]) - 1
	return c, err
}

// Handlers of the Go runtime do not reach the child, nor its blocked signals.
func TestSignalState(t *testing.T) {
	t.Parallel()
	p := NewProgram()
	out := stdout(t, p)
	p.Add(Call("unblock", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Space(8), 0, 8))
	if ws := start(t, shell(p, "cat /proc/self/status")); ws != 0 {
		t.Fatalf("ended with %v", ws)
	}
	n := 0
	for line := range strings.Lines(out()) {
		if mask, ok := strings.CutPrefix(line, "Sig"); ok && (mask[:3] == "Blk" || mask[:3] == "Cgt") {
			n++
			if strings.Trim(mask[4:], "0\t\n") != "" {
				t.Errorf("got %s", line)
			}
		}
	}
	if n != 2 {
		t.Errorf("no signal masks in %q", out())
	}
}

// A child is born in a cgroup of version 2.
func TestCgroup(t *testing.T) {
	t.Parallel()
	dir := "/sys/fs/cgroup"
	if _, err := os.Stat(dir + "/unified"); err == nil {
		dir += "/unified"
	}
	dir += "/fork-test-" + itoa(os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("no cgroup can be made here:", err)
	}
	defer func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := NewProgram()
	out := stdout(t, p)
	if err := p.SplitInto(fd, 0); err != nil {
		t.Fatal(err)
	}
	c, err := run(t.Context(), shell(p, "cat /proc/self/cgroup"), Options{})
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EINVAL) {
		t.Skip("version 2 is not mounted:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	wait(t, c)
	if !strings.HasSuffix(out(), "0::/"+filepath.Base(dir)) {
		t.Errorf("its groups are %s", out())
	}
}
