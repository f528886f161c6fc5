package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// TestStreamsEndWithEngine: when the engine is killed its commands are, and the input
// of who was attached by it; the container goes on.
func TestStreamsEndWithEngine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "pod--1", "while :; do echo tick; sleep 0.05; done & cat; echo end; wait") // the engine's last
	spec.Stdin, spec.StdinOnce = true, true
	mustStart(t, c, spec)
	engine := startEngine(t, dir)
	fmt.Fprintln(engine.in, "exec trap '' HUP TERM; echo $$; sleep 1000; sleep 1000")
	if !engine.out.Scan() {
		t.Fatal(engine.out.Err())
	}
	pid, err := strconv.Atoi(engine.out.Text())
	if err != nil || program(pid) == "" {
		t.Fatalf("%q, %v", engine.out.Text(), err)
	}
	fmt.Fprintln(engine.in, "attach")
	if !engine.out.Scan() || engine.out.Text() != "tick" {
		t.Fatalf("%q, %v", engine.out.Text(), engine.out.Err())
	}
	engine.kill()
	eventually(t, "its command is gone", func() bool { return program(pid) == "" })
	eventually(t, "its input has ended", func() bool { return strings.Contains(logOf(t, spec), "end\n") })
	if res, err := runner.ExecOutput(t.Context(), c, spec.ID, []string{"echo", "well"}, 0); err != nil || string(res.Output) != "well\n" {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestStreamsEndWithSupervisor: who was served by one that is killed is told.
func TestStreamsEndWithSupervisor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "a", "while :; do echo tick; sleep 0.05; done")
	mustStart(t, c, spec)
	ends := make(chan error, 2)
	var began sync.WaitGroup
	began.Add(2)
	out := func() signalling { return signalling{sync.OnceFunc(began.Done)} }
	go func() { ends <- c.Attach(t.Context(), spec.ID, stdio.Streams{Stdout: out()}) }()
	go func() {
		_, err := c.Exec(t.Context(), spec.ID, runner.ExecSpec{Args: []string{"sh", "-c", "echo a; sleep 1000"}}, stdio.Streams{Stdout: out()})
		ends <- err
	}()
	began.Wait()
	if err := syscall.Kill(supervisorPID(t, c, runner.Host), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ends; !errors.Is(err, errLost) {
			t.Errorf("got %v", err)
		}
	}
}

// signalling calls a function when something is written.
type signalling struct{ wrote func() }

func (s signalling) Write(p []byte) (int, error) {
	s.wrote()
	return len(p), nil
}

// TestInputThatNobodyReads: it fills the pipe, and holds up who gives it, only.
func TestInputThatNobodyReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	for _, tty := range []bool{false, true} {
		spec := shellSpec(dir, fmt.Sprintf("tty-%t", tty), "sleep 1000")
		spec.Stdin, spec.TTY = true, tty
		mustStart(t, c, spec)
		ctx, cancel := context.WithCancel(t.Context())
		var given atomic.Int64
		attached := make(chan error, 1)
		executed := make(chan error, 1)
		go func() { attached <- c.Attach(ctx, spec.ID, stdio.Streams{Stdin: endless{&given}}) }()
		go func() {
			_, err := c.Exec(ctx, spec.ID, runner.ExecSpec{Args: []string{"sleep", "1000"}, TTY: tty}, stdio.Streams{Stdin: endless{&given}})
			executed <- err
		}()
		eventually(t, "it is full", func() bool {
			n := given.Load()
			time.Sleep(50 * time.Millisecond)
			return n > 0 && n == given.Load()
		})
		if res, err := runner.ExecOutput(t.Context(), c, spec.ID, []string{"echo", "well"}, 0); err != nil || string(res.Output) != "well\n" {
			t.Errorf("%+v, %v", res, err)
		}
		cancel()
		for what, ended := range map[string]chan error{"attach": attached, "exec": executed} {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := c.Signal(t.Context(), spec.ID, 9); err != nil {
			t.Error(err)
		}
		mustWait(t, c, spec.ID)
	}
}

// endless is an input that does not end.
type endless struct{ given *atomic.Int64 }

func (e endless) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte("x\n"), len(p)/2))
	e.given.Add(int64(len(p)))
	return len(p), nil
}

// TestStrangeStreams: requests that no client of ours makes are refused, and nothing
// of them is left.
func TestStrangeStreams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "a", "sleep 1000")
	mustStart(t, c, spec)
	pid := supervisorPID(t, c, runner.Host)
	files := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := files()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, tc := range map[string]struct {
		v     verb
		body  any
		files int
		want  verb // 0: it hangs up
	}{
		"no descriptor":         {verbRun, &runRequest{ID: spec.ID, Args: []string{"true"}, Files: [3]int{0, 1, 2}}, 0, verbError},
		"one too few":           {verbAttach, &attachRequest{ID: spec.ID, Files: [3]int{-1, 0, 1}}, 1, verbError},
		"too many descriptors":  {verbRun, &runRequest{ID: spec.ID, Args: []string{"true"}}, 4, 0},
		"no command":            {verbRun, &runRequest{ID: spec.ID, Files: [3]int{-1, -1, -1}}, 2, verbError},
		"nonsense":              {verbRun, "nonsense", 3, verbError},
		"descriptors to greet":  {verbHello, &helloRequest{Protocol: protocol}, 3, verbOK},
		"output that is a file": {verbAttach, &attachRequest{ID: spec.ID, Files: [3]int{-1, 0, 0}}, 1, 0},
		"port 0":                {verbDial, &dialRequest{Pod: "a"}, 0, verbError},
	} {
		conn, err := dial(filepath.Join(dir, "host"))
		if err != nil {
			t.Fatal(err)
		}
		many := make([]*os.File, tc.files)
		for i := range many {
			many[i] = null
		}
		if err := sendWith(conn, tc.v, tc.body, many...); err != nil {
			t.Fatal(err)
		}
		if tc.want == 0 {
			_ = conn.CloseWrite() // it is attached, perhaps, until we hang up
		}
		f, got, err := receive(conn)
		closeFiles(got)
		if err != nil {
			f.verb = 0
		}
		if f.verb != tc.want && !(tc.want == 0 && f.verb == verbError) {
			t.Errorf("%s: %+v, %s, %v", name, f, f.body, err)
		}
		conn.Close()
	}
	half, err := dial(filepath.Join(dir, "host"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = half.Write([]byte{0, 0})
	half.Close()
	eventually(t, "no descriptor is left", func() bool { return files() <= before })
}

// TestManyClients: no more streams are open than there is room for, and one
// container takes no room of another.
func TestManyClients(t *testing.T) {
	t.Parallel()
	var q quota
	var releases []func()
	for range maxStreamsOfOne {
		release, err := q.take("a")
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	if _, err := q.take("a"); !errors.Is(err, runner.ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	if release, err := q.take("b"); err != nil {
		t.Error(err)
	} else {
		release()
	}
	for _, release := range releases {
		release()
	}
	if q.total != 0 || len(q.of) != 0 {
		t.Errorf("what is left: %d, %v", q.total, q.of)
	}
}

// TestOlderSupervisorExecutes: an engine that finds a supervisor of version 2 has its
// probes and hooks executed by it, and says what it cannot do.
func TestOlderSupervisorExecutes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	if err := os.WriteFile(filepath.Join(dir, formerFile), []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := openClient(t, dir)
	spec := shellSpec(dir, "a", "sleep 1000")
	mustStart(t, c, spec)
	res, err := runner.ExecOutput(t.Context(), c, spec.ID, []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, time.Minute)
	if err != nil || res.ExitCode != 3 || string(res.Output) != "out\nerr\n" || res.TimedOut {
		t.Errorf("%+v, %v", res, err)
	}
	res, err = runner.ExecOutput(t.Context(), c, spec.ID, []string{"sleep", "1000"}, 100*time.Millisecond)
	if err != nil || !res.TimedOut {
		t.Errorf("%+v, %v", res, err)
	}
	_, err = c.Exec(t.Context(), spec.ID, runner.ExecSpec{Args: []string{"true"}, TTY: true}, stdio.Streams{})
	if !errors.Is(err, errOld) {
		t.Errorf("with a terminal: %v", err)
	}
	if err := c.Attach(t.Context(), spec.ID, stdio.Streams{}); !errors.Is(err, errOld) {
		t.Errorf("attach: %v", err)
	}
	if _, err := c.Dial(t.Context(), runner.Target{PodUID: "a", Port: 80}); !errors.Is(err, errOld) {
		t.Errorf("dial: %v", err)
	}
}
