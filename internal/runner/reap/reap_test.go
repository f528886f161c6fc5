package reap

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a subreaper, as a supervisor is.
func TestMain(m *testing.M) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func shell(t *testing.T, r *Reaper, script string, stdout *os.File) *Child {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if stdout == nil {
		stdout = null
	}
	c, err := r.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{null.Fd(), stdout.Fd(), null.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestChildrenAndOrphans sweeps all the time while owned children come and go:
// none is taken away, and no orphan stays.
func TestChildrenAndOrphans(t *testing.T) {
	r := New()
	stop := make(chan struct{})
	var sweeper, group sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				r.Sweep()
			}
		}
	})
	for range 4 {
		group.Go(func() {
			for i := range 50 {
				c := shell(t, r, "(true & true &) ; exit "+strconv.Itoa(i), nil)
				ws, err := c.Wait()
				if err != nil || ws.ExitStatus() != i {
					t.Errorf("exit %d, want %d, %v", ws.ExitStatus(), i, err)
				}
			}
		})
	}
	group.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.ECHILD {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("orphans are left")
		}
		time.Sleep(time.Millisecond)
	}
	close(stop)
	sweeper.Wait()
	if len(r.owned) > 0 {
		t.Errorf("it still owns %v", r.owned)
	}
}

func TestRunCollectsOrphans(t *testing.T) {
	r := New()
	var group sync.WaitGroup
	ctx := t.Context()
	group.Go(func() { _ = r.Run(ctx) })
	mine, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	c := shell(t, r, "(sleep 0.05 & echo $!)", theirs)
	theirs.Close()
	if _, err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 20)
	n, err := mine.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	proc := "/proc/" + strings.TrimSpace(string(buf[:n]))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(proc); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the orphan stays a zombie")
		}
	}
}

// start is a child on its way, as the test says.
type start struct {
	pid     int
	pending atomic.Bool
	goOn    chan struct{}
}

func (s *start) Pending() bool { return s.pending.Load() }

func (s *start) Await(ctx context.Context) (int, error) {
	select {
	case <-s.goOn:
		return s.pid, nil
	case <-ctx.Done():
		return s.pid, context.Cause(ctx)
	}
}

func sleeper(t *testing.T) int {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// While a start hangs, orphans are collected, and others start and end.
func TestHangingStart(t *testing.T) {
	r := New()
	s := &start{goOn: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := r.Start(ctx, func() (int, int, Starting, error) { s.pid = sleeper(t); return s.pid, -1, s, nil })
		failed <- err
	}()
	for range 10 {
		c := shell(t, r, "(true &); exit 3", nil)
		if ws, err := c.Wait(); err != nil || ws.ExitStatus() != 3 {
			t.Errorf("beside a hanging start: %v %v", ws, err)
		}
		for r.Sweep() {
		}
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the hanging start: %v", err)
	}
}

// The child that takes the place of the one that was started is not swept when
// it has ended before anybody took note of it.
func TestSuccessor(t *testing.T) {
	r := New()
	first := sleeper(t)
	second, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 7"}, &syscall.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	s := &start{pid: second, goOn: make(chan struct{})}
	s.pending.Store(true)
	started := make(chan *Child)
	go func() {
		c, err := r.Start(t.Context(), func() (int, int, Starting, error) { return first, -1, s, nil })
		if err != nil {
			t.Error(err)
		}
		started <- c
	}()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, second, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	begun := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.owned[first] != nil
	}
	for !begun() {
		time.Sleep(time.Millisecond)
	}
	if !r.Sweep() {
		t.Error("the successor was swept, or nothing is to be tried again")
	}
	_ = syscall.Kill(first, syscall.SIGKILL) // as it ends by itself once it has a successor
	close(s.goOn)
	if ws, err := (<-started).Wait(); err != nil || ws.ExitStatus() != 7 {
		t.Errorf("the successor ended with %v %v", ws, err)
	}
}

// Somebody claims to be the successor who is not a child.
func TestFalseSuccessor(t *testing.T) {
	r := New()
	s := &start{pid: os.Getppid(), goOn: make(chan struct{})}
	close(s.goOn)
	_, err := r.Start(t.Context(), func() (int, int, Starting, error) { return sleeper(t), -1, s, nil })
	if !errors.Is(err, syscall.ECHILD) {
		t.Errorf("got %v", err)
	}
	if len(r.owned) > 0 || len(r.starts) > 0 {
		t.Errorf("left: %v %v", r.owned, r.starts)
	}
}

func TestSignal(t *testing.T) {
	r := New()
	c := shell(t, r, "sleep 1000", nil)
	if err := c.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := c.Ended(); err != nil {
		t.Error(err)
	}
	if err := c.SignalGroup(syscall.SIGKILL); err != nil {
		t.Errorf("to the group of a zombie: %v", err)
	}
	ws, err := c.Wait()
	if err != nil || !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
		t.Errorf("%v, %v", ws, err)
	}
	if err := c.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("to a dead one: %v", err)
	}
}

func TestNoCommand(t *testing.T) {
	r := New()
	if _, err := r.ForkExec("/nosuch", []string{"nosuch"}, &syscall.ProcAttr{}); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if len(r.owned) > 0 {
		t.Errorf("it owns %v", r.owned)
	}
}

// BenchmarkWait compares waiting by pidfd and poller with os/exec, which keeps
// a thread for each child.
func BenchmarkWait(b *testing.B) {
	b.Run("reap", func(b *testing.B) {
		r := New()
		for b.Loop() {
			c, err := r.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("os", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestEndWithoutPoller: where the kernel takes nothing more into a poller, as when a
// container of this user has used that up, an end is still waited for, and not made up.
func TestEndWithoutPoller(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := shell(t, New(), "sleep 0.3; exit 7", nil)
	c.pidfd.Close()
	fd, err := unix.PidfdOpen(c.pid, 0) // it blocks, so that it goes into no poller
	if err != nil {
		t.Fatal(err)
	}
	c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	ws, err := c.Wait()
	if took := time.Since(began); err != nil || ws.ExitStatus() != 7 || took < 300*time.Millisecond {
		t.Errorf("exit %d, %v, after %v", ws.ExitStatus(), err, took)
	}
}
