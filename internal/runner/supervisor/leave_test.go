package supervisor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// safeBuffer is a buffer that a log may be written to while it is read.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// signalClass sends a signal to the supervisor of a class.
func signalClass(t *testing.T, c *Client, class runner.Class, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(supervisorPID(t, c, class), sig); err != nil {
		t.Fatal(err)
	}
}

// TestAskedToEnd: SIGTERM ends a supervisor as `sampan stop` does. Its containers
// are asked first, what has not ended is killed by a second SIGTERM; the records
// are right, the client hears why, and has another supervisor started.
func TestAskedToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	log := &safeBuffer{}
	c, err := Open(t.Context(), dir, ClientOptions{Private: true, Command: selfCommand(), Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	polite := shellSpec(dir, "polite", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep .01; done")
	deaf := shellSpec(dir, "deaf", "trap '' TERM; echo up; while :; do sleep .01; done")
	for _, spec := range []*runner.Spec{polite, deaf} {
		mustStart(t, c, spec)
		eventually(t, "its trap is set", func() bool { return strings.Contains(logOf(t, spec), "up") })
	}
	first := supervisorPID(t, c, runner.Host)
	signalClass(t, c, runner.Host, syscall.SIGTERM)
	if st := mustWait(t, c, polite.ID); st.ExitCode != 7 || st.Lost || !strings.Contains(st.Message, "SIGTERM") {
		t.Errorf("polite: %+v", st)
	}
	if got := logOf(t, polite); !strings.HasSuffix(got, "bye\n") {
		t.Errorf("its last word is lost: %q", got)
	}
	if err := c.Alive(t.Context(), runner.Host); err == nil || !strings.Contains(err.Error(), "about to end: it was asked to end by SIGTERM") {
		t.Errorf("while it ends: %v", err)
	}
	later := make(chan error, 1)
	go func() { // is started by the next supervisor
		_, err := c.Start(context.Background(), shellSpec(dir, "later", "true"))
		later <- err
	}()
	select {
	case err := <-later:
		t.Fatalf("started by one that ends: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	signalClass(t, c, runner.Host, syscall.SIGTERM)
	if st := mustWait(t, c, deaf.ID); st.ExitCode != 137 || st.Lost || !strings.Contains(st.Message, "SIGTERM") {
		t.Errorf("deaf: %+v", st)
	}
	if err := <-later; err != nil {
		t.Error(err)
	}
	if second := supervisorPID(t, c, runner.Host); second == first {
		t.Error("it goes on")
	}
	// The journal has it too: the next supervisor has read it.
	for _, spec := range []*runner.Spec{polite, deaf} {
		if st := mustWait(t, c, spec.ID); st.Lost {
			t.Errorf("%+v", st)
		}
	}
	if err := c.Alive(t.Context(), runner.Host); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if got := log.String(); !strings.Contains(got, "a supervisor ends") || !strings.Contains(got, "asked to end by SIGTERM") {
		t.Errorf("the engine's log says %q", got)
	}
}

// TestSignalsThatSupervisorsSurvive: nothing but SIGTERM (and what cannot be
// caught) ends a supervisor, and with it all containers. SIGQUIT has it say what
// it is doing.
func TestSignalsThatSupervisorsSurvive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "a", "sleep 1000")
	mustStart(t, c, spec)
	first := supervisorPID(t, c, runner.Host)
	for _, sig := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXFSZ, syscall.SIGALRM, syscall.SIGQUIT,
	} {
		signalClass(t, c, runner.Host, sig)
		if err := c.Alive(t.Context(), runner.Host); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
	eventually(t, "it says what it does", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "host", "log"))
		return err == nil && strings.Contains(string(text), "goroutine 1 [")
	})
	if list, err := c.List(t.Context()); err != nil || len(list) != 1 || list[0].Phase != runner.Running || supervisorPID(t, c, runner.Host) != first {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestAlive: a supervisor that does not answer, or cannot be started, is not well,
// whatever is known of its containers.
func TestAlive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	install := func() {
		t.Helper()
		if err := os.Symlink(program, path); err != nil {
			t.Fatal(err)
		}
	}
	install()
	c, err := Open(t.Context(), dir, ClientOptions{Private: true, Command: Command{Path: path, Env: selfCommand().Env}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Alive(t.Context(), runner.Host); err != nil {
		t.Errorf("nothing was ever started: %v", err)
	}
	mustStart(t, c, shellSpec(dir, "a", "sleep 1000"))
	if err := c.Alive(t.Context(), runner.Host); err != nil {
		t.Error(err)
	}
	signalClass(t, c, runner.Host, syscall.SIGSTOP)
	eventually(t, "it is silent", func() bool { // a signal has effect a moment later
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		err := c.Alive(ctx, runner.Host)
		return err != nil && strings.Contains(err.Error(), "of class host, process ") && strings.Contains(err.Error(), "does not answer")
	})
	signalClass(t, c, runner.Host, syscall.SIGCONT)
	if err := c.Alive(t.Context(), runner.Host); err != nil {
		t.Errorf("continued: %v", err)
	}
	// Killed, and nothing to start another with.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	signalClass(t, c, runner.Host, syscall.SIGKILL)
	eventually(t, "it is missed", func() bool {
		err := c.Alive(t.Context(), runner.Host)
		return err != nil && strings.Contains(err.Error(), "cannot be reached") && errors.Is(err, os.ErrNotExist)
	})
	install()
	eventually(t, "it is back", func() bool { return c.Alive(t.Context(), runner.Host) == nil })
}

// TestAbandon: what a client has started for nothing ends; what it found, or what
// keeps a container, goes on.
func TestAbandon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	opts := ClientOptions{Command: selfCommand()}
	open := func() *Client {
		t.Helper()
		c, err := Open(t.Context(), dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	if err := c.Prepare(runner.Host); err != nil {
		t.Fatal(err)
	}
	supervisorPID(t, c, runner.Host)
	if err := c.Abandon(t.Context()); err != nil || held(filepath.Join(dir, "host", "lock")) {
		t.Errorf("started for nothing: %v", err)
	}
	c = open()
	if got := c.Found(); len(got) > 0 {
		t.Errorf("found %v", got)
	}
	mustStart(t, c, shellSpec(dir, "a", "sleep 1000"))
	if err := c.Abandon(t.Context()); err != nil || !held(filepath.Join(dir, "host", "lock")) {
		t.Errorf("with a container: %v", err)
	}
	c = open()
	if got := c.Found(); len(got) != 1 || got[0] != runner.Host {
		t.Errorf("found %v", got)
	}
	if err := c.Abandon(t.Context()); err != nil || !held(filepath.Join(dir, "host", "lock")) {
		t.Errorf("found: %v", err)
	}
}

// TestConnectToOneThatIsStopped: who cannot be asked is named, with what to do.
func TestConnectToOneThatIsStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	mustStart(t, c, shellSpec(dir, "a", "sleep 1000"))
	signalClass(t, c, runner.Host, syscall.SIGSTOP)
	eventually(t, "it is named", func() bool { // a signal has effect a moment later
		other, err := Open(t.Context(), dir, ClientOptions{Command: selfCommand(), connectTime: 100 * time.Millisecond})
		if err == nil {
			other.Close()
			return false
		}
		if !strings.Contains(err.Error(), filepath.Join(dir, "host", "lock")) || !strings.Contains(err.Error(), "kill -CONT") {
			t.Errorf("got %v", err)
		}
		return true
	})
	signalClass(t, c, runner.Host, syscall.SIGCONT)
	again, err := Open(t.Context(), dir, ClientOptions{Command: selfCommand()})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
