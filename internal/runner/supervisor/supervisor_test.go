package supervisor

import (
	"context"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/runnertest"
)

// openClient opens a Client whose supervisors are this test program.
func openClient(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Open(t.Context(), dir, ClientOptions{Private: true, Command: selfCommand()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func supervisorPID(t *testing.T, c *Client, class runner.Class) int {
	t.Helper()
	l, err := c.link(class)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l.pid()
}

func TestHost(t *testing.T) {
	t.Parallel()
	runnertest.Run(t, func(t *testing.T) runner.Runner {
		dir := t.TempDir()
		t.Cleanup(func() { stopDir(t, dir) })
		return openClient(t, dir)
	}, runnertest.Options{
		Class: runner.Host,
		Reconnect: func(t *testing.T, r runner.Runner) runner.Runner {
			old := r.(*Client)
			if err := old.Close(); err != nil {
				t.Error(err)
			}
			return openClient(t, old.dir)
		},
		KillSupervisor: func(t *testing.T, r runner.Runner) {
			pid := supervisorPID(t, r.(*Client), runner.Host)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		},
		Alive: func(t *testing.T, _ *runner.Spec, pid string) bool {
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Errorf("%q is no process id", pid)
				return false
			}
			return exists("/proc/" + strconv.Itoa(n))
		},
	})
}

// stopDir stops the supervisors of a directory, whoever is connected to them.
func stopDir(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's has ended
	defer cancel()
	c, err := Open(ctx, dir, ClientOptions{Private: true, Command: selfCommand()})
	if err == nil {
		err = c.Stop(ctx)
	}
	if err != nil {
		t.Errorf("stop: %v", err)
	}
	if t.Failed() {
		text, _ := os.ReadFile(dir + "/host/log")
		t.Logf("the supervisor's log:\n%s", text)
	}
}
