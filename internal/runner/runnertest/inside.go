package runnertest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
	"github.com/sampan-batch/sampan/internal/stdio"
)

func (s suite) testLogs(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("echo out; echo err >&2; printf 'no newline'")
	b.run(spec)
	if got := b.log(spec, crilog.Stdout); got != "out\nno newline" {
		t.Errorf("stdout: %q", got)
	}
	if got := b.log(spec, crilog.Stderr); got != "err\n" {
		t.Errorf("stderr: %q", got)
	}
	silent := b.spec("true")
	b.run(silent)
	if got := b.log(silent, ""); got != "" {
		t.Errorf("of a silent one: %q", got)
	}
	// A long line comes back whole, and a second attempt adds to another file.
	long := strings.Repeat("x", 50_000)
	spec = b.spec("echo " + long)
	b.run(spec)
	if got := b.log(spec, ""); got != long+"\n" {
		t.Errorf("a long line: %d bytes", len(got))
	}
}

func (s suite) testEnvironment(t *testing.T) {
	b := s.setup(t)
	spec := b.spec(`echo "$GREETING"; echo "$EMPTY."; echo "$LAST"`)
	spec.Env = append(spec.Env, "GREETING=a  b=c", "EMPTY=", "LAST=ü")
	b.run(spec)
	if got := b.log(spec, ""); got != "a  b=c\n.\nü\n" {
		t.Errorf("got %q", got)
	}
	if s.opts.Simulated {
		return
	}
	spec = b.spec("env")
	b.run(spec)
	if got := b.log(spec, ""); strings.Contains(got, leak) {
		t.Errorf("the engine's environment is visible:\n%s", got)
	}
}

func (s suite) testDirectory(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("pwd")
	spec.Dir = b.dir + "/made/for/it"
	if s.opts.Class == runner.Sandbox {
		spec.Dir = "/made/for/it"
	}
	b.run(spec)
	if got := b.log(spec, ""); got != spec.Dir+"\n" {
		t.Errorf("got %q, want %q", got, spec.Dir)
	}
	b.finish(spec)
	spec = b.spec("echo hello > file; cat file")
	b.run(spec)
	if got := b.log(spec, ""); got != "hello\n" {
		t.Errorf("in the default directory: %q", got)
	}
	b.finish(spec)
}

func (s suite) testStdin(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("cat; echo end")
	b.run(spec)
	if got := b.log(spec, ""); got != "end\n" {
		t.Errorf("without standard input: %q", got)
	}
	open := b.spec("echo ready; cat; echo end")
	open.Stdin = true
	b.start(open)
	b.awaitLog(open, "ready")
	ctx, cancel := context.WithTimeout(b.ctx, 100*time.Millisecond)
	defer cancel()
	if st, err := b.r.Wait(ctx, open.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("its standard input was not held open: %+v, %v", st, err)
	}
	if err := b.r.Signal(b.ctx, open.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(open)
}

func (s suite) testTerminal(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("test -t 0 && test -t 1 && test -t 2 && echo terminal")
	spec.TTY, spec.Stdin = true, true
	if st := b.run(spec); st.ExitCode != 0 {
		t.Errorf("%+v", st)
	}
	if got := strings.ReplaceAll(b.log(spec, ""), "\r", ""); got != "terminal\n" {
		t.Errorf("it wrote %q", got)
	}
}

func (s suite) testHugeOutput(t *testing.T) {
	b := s.setup(t)
	const lines = 300_000
	spec := b.spec("yes 0123456789 | head -n 300000; echo end")
	if st := b.run(spec); st.ExitCode != 0 {
		t.Fatalf("%+v", st)
	}
	got := b.log(spec, "")
	if n := strings.Count(got, "0123456789\n"); n != lines || !strings.HasSuffix(got, "end\n") {
		t.Errorf("%d lines of %d came", n, lines)
	}
}

// testBackground: what a container leaves in the background ends with it.
func (s suite) testBackground(t *testing.T) {
	b := s.setup(t)
	for _, script := range []string{
		"sleep 1000 & echo $!",
		"setsid sleep 1000 & echo $!; sleep 0.2",
		"(setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!); sleep 0.2",
		"(setsid env -i sleep 1000 >/dev/null 2>&1 </dev/null & echo $!); sleep 0.2",
		"sh -c 'trap \"\" TERM HUP INT; echo $$; sleep 1000; sleep 1000' & sleep 0.3",
	} {
		spec := b.spec(script)
		began := time.Now()
		if st := b.run(spec); st.ExitCode != 0 {
			t.Errorf("%s: %+v", script, st)
		}
		if took := time.Since(began); took > patience/2 {
			t.Errorf("%s: it took %v", script, took)
		}
		pid := b.awaitLog(spec, "")
		if s.opts.Alive != nil {
			b.eventually(script+": the rest is gone", func() bool { return !s.opts.Alive(t, spec, pid) })
		}
		b.finish(spec)
	}
}

func (s suite) testKillBackground(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("(setsid sleep 1000 & echo $!; setsid sh -c 'sleep 999; sleep 999' &) ; sleep 1000")
	b.start(spec)
	pid := b.awaitLog(spec, "")
	if s.opts.Alive != nil {
		b.eventually("it runs", func() bool { return s.opts.Alive(t, spec, pid) })
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
	if s.opts.Alive != nil {
		b.eventually("the rest is gone", func() bool { return !s.opts.Alive(t, spec, pid) })
	}
	b.finish(spec)
}

// testZombies: orphans inside a container that lives on are collected.
func (s suite) testZombies(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("for i in 1 2 3 4 5; do (sh -c 'echo $$' &) ; done; sleep 0.2; echo all; sleep 1000")
	b.start(spec)
	b.awaitLog(spec, "all")
	if s.opts.Alive != nil {
		for line := range strings.Lines(b.log(spec, "")) {
			if pid := strings.TrimSpace(line); pid != "all" {
				b.eventually("the zombie is collected", func() bool { return !s.opts.Alive(t, spec, pid) })
			}
		}
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
}

func (s suite) testExec(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	spec.Env = append(spec.Env, "GREETING=hi")
	b.start(spec)
	for _, tc := range []struct {
		script, output string
		code           int
	}{
		{"echo $GREETING; exit 3", "hi\n", 3},
		{"echo out; echo err >&2", "out\nerr\n", 0},
		{"true", "", 0},
	} {
		res, err := runner.ExecOutput(b.ctx, b.r, spec.ID, []string{"sh", "-c", tc.script}, 0)
		if err != nil || res.ExitCode != tc.code || string(res.Output) != tc.output || res.TimedOut {
			t.Errorf("%s: %+v, %v", tc.script, res, err)
		}
	}
	_, err := b.exec(spec, stdio.Streams{}, "nosuchcommand")
	var start *runner.StartError
	if !errors.As(err, &start) || !strings.Contains(start.Message, "executable file not found in $PATH") {
		t.Errorf("no such command: %v", err)
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	if st := b.wait(spec); st.ExitCode != 137 {
		t.Errorf("%+v", st)
	}
	_, err = b.exec(spec, stdio.Streams{}, "true")
	b.wantErr("in a dead one", err, runner.ErrEnded)
	if got := b.log(spec, ""); got != "" {
		t.Errorf("it is in the log: %q", got)
	}
}

func (s suite) testExecTimeout(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	res, err := runner.ExecOutput(b.ctx, b.r, spec.ID, []string{"sh", "-c", "echo begun; sleep 1000"}, 300*time.Millisecond)
	if err != nil || !res.TimedOut || string(res.Output) != "begun\n" {
		t.Errorf("%+v, %v", res, err)
	}
	res, err = runner.ExecOutput(b.ctx, b.r, spec.ID, []string{"true"}, patience)
	if err != nil || res.TimedOut || res.ExitCode != 0 {
		t.Errorf("in time: %+v, %v", res, err)
	}
}

func (s suite) testExecCancel(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(b.ctx)
	time.AfterFunc(100*time.Millisecond, func() { cancel(gone) })
	_, err := b.r.Exec(ctx, spec.ID, runner.ExecSpec{Args: []string{"sleep", "1000"}}, stdio.Streams{})
	b.wantErr("cancelled", err, gone)
}

func (s suite) testExecOutput(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	res, err := runner.ExecOutput(b.ctx, b.r, spec.ID, []string{"sh", "-c", "yes | head -n 100000; exit 9"}, 0)
	if err != nil || res.ExitCode != 9 || len(res.Output) != 10<<10 {
		t.Errorf("much output: %d bytes, exit %d, %v", len(res.Output), res.ExitCode, err)
	}
	// A command that leaves something in the background does not hold up the answer.
	res, err = runner.ExecOutput(b.ctx, b.r, spec.ID, []string{"sh", "-c", "echo done; sleep 1000 & exit 2"}, 0)
	if err != nil || res.ExitCode != 2 || string(res.Output) != "done\n" {
		t.Errorf("with a background: %+v, %v", res, err)
	}
}
