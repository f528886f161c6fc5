package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// TestTerminalIsItsOwn: a terminal is one of the container's own, of which a process
// has the one end and nothing else.
func TestTerminalIsItsOwn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("fds", "tty", "write /tmp/up x", "sleep 1h")
	spec.TTY = true
	uid := uint32(1000)
	spec.UID = &uid
	p, err := f.Launch(context.Background(), spec, nil, nil, nil)
	must(t, err)
	c := &running{p, t, collect(p.Terminal())}
	if p.Terminal() == nil {
		t.Fatal("it has no terminal")
	}
	added, err := p.Exec(context.Background(), runner.ExecSpec{Args: []string{"probe", "fds", "tty"}, TTY: true}, nil, nil, nil)
	must(t, err)
	out := collect(added.Terminal())
	info, err := added.Wait()
	must(t, err)
	got := <-out
	const want = "0 1 2\r\na controlling terminal\r"
	if info.Code != 0 || got != want {
		t.Errorf("a command has %q, %+v", got, info)
	}
	c.exec("wait-file /tmp/up")
	must(t, p.Signal(int(unix.SIGKILL)))
	if first, _ := c.wait(); first != want {
		t.Errorf("the first process has %q", first)
	}
}

// TestNoTerminalOfStrangers: what a container has in place of its /dev/pts is not
// taken for a terminal, and nobody waits for it.
func TestNoTerminalOfStrangers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for name, put := range map[string]func(path string) error{
		"nothing":            func(string) error { return nil },
		"a file":             func(path string) error { return os.WriteFile(path, nil, 0o666) },
		"a FIFO":             func(path string) error { return unix.Mkfifo(path, 0o666) },
		"a link to a device": func(path string) error { return os.Symlink("/dev/tty", path) },
		"a link that leads out": func(path string) error {
			return os.Symlink("/proc/self/fd/3", path)
		},
	} {
		dir := t.TempDir()
		must(t, os.Chmod(dir, 0o777))
		must(t, put(filepath.Join(dir, "ptmx")))
		spec := f.spec("sleep 1h")
		spec.Mounts = []runner.Mount{{Source: dir, Target: "/dev/pts"}}
		c := f.launch(t, spec)
		began := time.Now()
		p, err := c.Exec(context.Background(), runner.ExecSpec{Args: []string{"probe", "fds"}, TTY: true}, nil, nil, nil)
		var start *runner.StartError
		if !errors.As(err, &start) || time.Since(began) > time.Minute {
			t.Errorf("%s: %v, %v, after %v", name, p, err, time.Since(began))
		}
		if got, info := c.exec("fds"); info.Code != 0 || got != "0 1 2" {
			t.Errorf("%s: a command without a terminal has %q, %+v", name, got, info)
		}
		must(t, c.Signal(int(unix.SIGKILL)))
		c.wait()
	}
}
