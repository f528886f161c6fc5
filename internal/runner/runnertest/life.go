package runnertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
	"github.com/sampan-batch/sampan/internal/stdio"
)

func (s suite) testExit(t *testing.T) {
	b := s.setup(t)
	tests := []struct {
		script       string
		code, signal int
	}{
		{"true", 0, 0},
		{"exit 3", 3, 0},
		{"exit 255", 255, 0},
		{"nosuchcommand", 127, 0},
		{"kill -9 $$", 137, 9},
		{"kill -15 $$", 143, 15},
	}
	for _, tc := range tests {
		spec := b.spec(tc.script)
		st := b.run(spec)
		// The first process of a pid namespace is not reached by its own signals:
		// a shell that kills itself in a sandbox goes on, and that is Linux's rule.
		if tc.signal != 0 && st.ExitCode == 0 && s.opts.Class == runner.Sandbox {
			continue
		}
		if st.Phase != runner.Exited || st.ExitCode != tc.code || st.Signal != tc.signal || st.OOMKilled || st.Lost {
			t.Errorf("%s: %+v", tc.script, st)
		}
		b.finish(spec)
	}
}

func (s suite) testStatus(t *testing.T) {
	b := s.setup(t)
	before := time.Now()
	spec := b.spec("sleep 1000")
	spec.Attempt = 7
	started := b.start(spec)
	after := time.Now()
	if started.Phase != runner.Running || started.PID <= 1 || started.ID != spec.ID || started.Pod != spec.Pod ||
		started.Container != "main" || started.Attempt != 7 || started.Class != spec.Class {
		t.Errorf("started: %+v", started)
	}
	if started.StartedAt.Before(before.Add(-time.Second)) || started.StartedAt.After(after.Add(time.Second)) {
		t.Errorf("started at %v, between %v and %v", started.StartedAt, before, after)
	}
	all, err := b.r.List(b.ctx)
	if err != nil || len(all) != 1 || all[0].ID != spec.ID || all[0].Phase != runner.Running || all[0].PID != started.PID {
		t.Errorf("list: %+v, %v", all, err)
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	ended := b.wait(spec)
	if ended.Phase != runner.Exited || ended.PID != 0 || ended.Attempt != 7 || !ended.StartedAt.Equal(started.StartedAt) ||
		ended.FinishedAt.Before(ended.StartedAt) {
		t.Errorf("ended: %+v", ended)
	}
	all, err = b.r.List(b.ctx)
	if err != nil || len(all) != 1 || all[0].Phase != runner.Exited {
		t.Errorf("list: %+v, %v", all, err)
	}
}

func (s suite) testSignal(t *testing.T) {
	b := s.setup(t)
	plain := b.spec("trap 'exit 0' USR1; echo ready; sleep 1000 & wait")
	b.start(plain)
	b.awaitLog(plain, "ready")
	if err := b.r.Signal(b.ctx, plain.ID, 9); err != nil {
		t.Error(err)
	}
	if st := b.wait(plain); st.ExitCode != 137 || st.Signal != 9 {
		t.Errorf("killed: %+v", st)
	}
	b.wantErr("signal the dead", b.r.Signal(b.ctx, plain.ID, 15), runner.ErrEnded)

	polite := b.spec("trap 'echo bye; exit 7' TERM; echo ready; sleep 1000 & wait")
	b.start(polite)
	b.awaitLog(polite, "ready")
	if err := b.r.Signal(b.ctx, polite.ID, 15); err != nil {
		t.Error(err)
	}
	if st := b.wait(polite); st.ExitCode != 7 || st.Signal != 0 {
		t.Errorf("terminated: %+v", st)
	}
	if got := b.log(polite, crilog.Stdout); got != "ready\nbye\n" {
		t.Errorf("it wrote %q", got)
	}
}

func (s suite) testWait(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(b.ctx)
	cancel(gone)
	_, err := b.r.Wait(ctx, spec.ID)
	b.wantErr("wait in vain", err, gone)
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if st, err := b.r.Wait(b.ctx, spec.ID); err != nil || st.ExitCode != 137 {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	group.Wait()
	if st := b.wait(spec); st.ExitCode != 137 {
		t.Errorf("long after: %+v", st)
	}
}

func (s suite) testUnknown(t *testing.T) {
	b := s.setup(t)
	const id = "0_main_0"
	_, err := b.r.Wait(b.ctx, id)
	b.wantErr("wait", err, runner.ErrNotFound)
	b.wantErr("signal", b.r.Signal(b.ctx, id, 9), runner.ErrNotFound)
	_, err = b.r.Exec(b.ctx, id, runner.ExecSpec{Args: []string{"true"}}, stdio.Streams{})
	b.wantErr("exec", err, runner.ErrNotFound)
	b.wantErr("attach", b.r.Attach(b.ctx, id, stdio.Streams{}), runner.ErrNotFound)
	_, err = b.r.Dial(b.ctx, runner.Target{PodUID: "0", Port: 80})
	b.wantErr("dial", err, runner.ErrNotFound)
	b.wantErr("remove", b.r.Remove(b.ctx, id), runner.ErrNotFound)
	if err := b.r.RemovePod(b.ctx, "0"); err != nil {
		t.Errorf("remove a pod that nobody knows: %v", err)
	}
	if all, err := b.r.List(b.ctx); err != nil || len(all) > 0 {
		t.Errorf("list: %v, %v", all, err)
	}
}

func (s suite) testStartError(t *testing.T) {
	b := s.setup(t)
	tests := []struct {
		args    []string
		code    int
		message string
	}{
		{[]string{"nosuchcommand", "-v"}, 128, `exec: "nosuchcommand": executable file not found in $PATH`},
		{[]string{"/nosuch/command"}, 128, `exec: "/nosuch/command": `},
		{[]string{"/etc"}, 128, `exec: "/etc": `},
		{nil, 0, "command"},
	}
	for _, tc := range tests {
		spec := b.command(tc.args...)
		_, err := b.r.Start(b.ctx, spec)
		var start *runner.StartError
		if !errors.As(err, &start) || start.Code != tc.code || !strings.Contains(start.Message, tc.message) || start.Reason == "" {
			t.Errorf("%q: %#v", tc.args, err)
		}
		_, err = b.r.Wait(b.ctx, spec.ID)
		b.wantErr("wait for what was never there", err, runner.ErrNotFound)
		// The ID was not used up.
		spec.Args = []string{"true"}
		if st := b.run(spec); st.ExitCode != 0 {
			t.Errorf("another try: %+v", st)
		}
		b.finish(spec)
	}
}

func (s suite) testSameID(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("echo once; sleep 1000")
	first := b.start(spec)
	_, err := b.r.Start(b.ctx, spec)
	b.wantErr("start again", err, runner.ErrExists)
	b.awaitLog(spec, "once")
	all, err := b.r.List(b.ctx)
	if err != nil || len(all) != 1 || all[0].PID != first.PID {
		t.Errorf("list: %+v, %v", all, err)
	}
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
	_, err = b.r.Start(b.ctx, spec)
	b.wantErr("start again, ended", err, runner.ErrExists)
	if got := b.log(spec, ""); got != "once\n" {
		t.Errorf("log: %q", got)
	}
}

func (s suite) testRemove(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("echo here; sleep 1000")
	b.start(spec)
	b.awaitLog(spec, "here")
	b.wantErr("remove what runs", b.r.Remove(b.ctx, spec.ID), runner.ErrRunning)
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
	b.finish(spec)
	b.wantErr("remove twice", b.r.Remove(b.ctx, spec.ID), runner.ErrNotFound)
	_, err := b.r.Wait(b.ctx, spec.ID)
	b.wantErr("wait for what was removed", err, runner.ErrNotFound)
	if all, err := b.r.List(b.ctx); err != nil || len(all) > 0 {
		t.Errorf("list: %+v, %v", all, err)
	}
	if got := b.log(spec, ""); got != "here\n" {
		t.Errorf("its log has not stayed: %q", got)
	}
}

func (s suite) testConcurrency(t *testing.T) {
	b := s.setup(t)
	n := s.opts.Concurrency
	specs := make([]*runner.Spec, n)
	for i := range specs {
		specs[i] = b.spec(fmt.Sprintf("trap 'echo %d; exit %d' TERM; echo ready; sleep 1000 & wait", i, i%100))
	}
	var group sync.WaitGroup
	for _, spec := range specs {
		group.Go(func() {
			if _, err := b.r.Start(b.ctx, spec); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	all, err := b.r.List(b.ctx)
	if err != nil || len(all) != n {
		t.Fatalf("%d of %d run, %v", len(all), n, err)
	}
	for _, spec := range specs {
		group.Go(func() { b.wait(spec) })
	}
	for _, spec := range specs {
		b.awaitLog(spec, "ready")
		if err := b.r.Signal(b.ctx, spec.ID, 15); err != nil {
			t.Error(err)
		}
	}
	group.Wait()
	for i, spec := range specs {
		if st := b.wait(spec); st.ExitCode != i%100 {
			t.Errorf("%d: %+v", i, st)
		}
		if got, want := b.log(spec, ""), fmt.Sprintf("ready\n%d\n", i); got != want {
			t.Errorf("%d: it wrote %q", i, got)
		}
		group.Go(func() { b.finish(spec) })
	}
	group.Wait()
}

func (s suite) testReconnect(t *testing.T) {
	if s.opts.Reconnect == nil {
		t.Skip("it cannot be reconnected to")
	}
	b := s.setup(t)
	running := b.spec("echo before; sleep 0.3; echo between; sleep 1000")
	ending := b.spec("sleep 0.2; echo bye; exit 5")
	ended := b.spec("exit 4")
	b.run(ended)
	pid := b.start(running).PID
	b.start(ending)
	b.awaitLog(running, "before")

	b.r = s.opts.Reconnect(t, b.r)

	all, err := b.r.List(b.ctx)
	if err != nil || len(all) != 3 {
		t.Fatalf("list: %+v, %v", all, err)
	}
	if st := b.wait(ended); st.ExitCode != 4 {
		t.Errorf("what had ended: %+v", st)
	}
	if st := b.wait(ending); st.ExitCode != 5 || b.log(ending, "") != "bye\n" {
		t.Errorf("what ended meanwhile: %+v", st)
	}
	b.awaitLog(running, "between")
	for _, st := range all {
		if st.ID == running.ID && (st.Phase != runner.Running || st.PID != pid) {
			t.Errorf("what runs: %+v, its process was %d", st, pid)
		}
	}
	if err := b.r.Signal(b.ctx, running.ID, 9); err != nil {
		t.Error(err)
	}
	if st := b.wait(running); st.ExitCode != 137 {
		t.Errorf("what ran: %+v", st)
	}
	for _, spec := range []*runner.Spec{running, ending, ended} {
		b.finish(spec)
	}
}

func (s suite) testLost(t *testing.T) {
	if s.opts.KillSupervisor == nil {
		t.Skip("nothing can be lost")
	}
	b := s.setup(t)
	running := b.spec("echo $$; sleep 1000 & wait")
	ended := b.spec("exit 4")
	b.run(ended)
	b.start(running)
	pid := ""
	if s.opts.Alive != nil {
		pid = b.awaitLog(running, "")
	}
	waited := make(chan runner.Status, 1)
	go func() {
		st, err := b.r.Wait(b.ctx, running.ID)
		if err != nil {
			t.Error(err)
		}
		waited <- st
	}()
	s.opts.KillSupervisor(t, b.r)

	if st := <-waited; st.Phase != runner.Exited || !st.Lost || st.ExitCode == 0 || st.FinishedAt.IsZero() || st.StartedAt.IsZero() {
		t.Errorf("waited for: %+v", st)
	}
	if st := b.wait(ended); st.ExitCode != 4 || st.Lost {
		t.Errorf("what had ended: %+v", st)
	}
	if s.opts.Alive != nil {
		b.eventually("the process is gone", func() bool { return !s.opts.Alive(t, running, pid) })
	}
	b.finish(running)
	b.finish(ended)
	next := b.spec("exit 6")
	if st := b.run(next); st.ExitCode != 6 {
		t.Errorf("after that: %+v", st)
	}
	b.finish(next)
}

func (s suite) testResize(t *testing.T) {
	b := s.setup(t)
	spec := b.spec("sleep 1000")
	b.start(spec)
	for range 3 { // the same again is no error
		if _, err := b.r.Resize(b.ctx, spec.ID, runner.Resources{CPUShares: 512, PidsLimit: 100}); err != nil {
			t.Error(err)
		}
	}
	_, err := b.r.Resize(b.ctx, "none", runner.Resources{})
	b.wantErr("resize of one that is not there", err, runner.ErrNotFound)
	if err := b.r.Signal(b.ctx, spec.ID, 9); err != nil {
		t.Error(err)
	}
	b.wait(spec)
	_, err = b.r.Resize(b.ctx, spec.ID, runner.Resources{CPUShares: 2})
	b.wantErr("resize of one that has ended", err, runner.ErrEnded)
	b.finish(spec)
}
