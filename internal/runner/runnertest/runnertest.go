// Package runnertest is the conformance suite of the runner contract. Every
// implementation runs it: what a container does must not depend on the runner.
package runnertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// Options describe the runner under test.
type Options struct {
	Class runner.Class
	// Prepare completes a Spec, with Layers for instance. The commands of the suite
	// are those of a POSIX sh, sleep, cat, env, yes, head, stty and tty, found in the PATH.
	Prepare func(t *testing.T, spec *runner.Spec)
	// Simulated says that there are no processes: what only those can show is
	// left out, and commands are such as package fake understands.
	Simulated bool
	// Reconnect returns a new client to the same containers, as a new engine
	// would open it, after closing the old one. nil: left out.
	Reconnect func(t *testing.T, r runner.Runner) runner.Runner
	// KillSupervisor kills what keeps the containers, with SIGKILL. nil: left out.
	KillSupervisor func(t *testing.T, r runner.Runner)
	// Alive tells whether a process of a container is there, given the number
	// that the container knows it by ("$$"). nil: such tests are left out.
	Alive func(t *testing.T, spec *runner.Spec, pid string) bool
	// Concurrency is how many containers run at once in the test of that; 0: 200.
	Concurrency int
}

// Run runs the suite. open returns a runner without containers, which is
// closed, and its containers ended, with the test.
func Run(t *testing.T, open func(t *testing.T) runner.Runner, opts Options) {
	if opts.Concurrency == 0 {
		opts.Concurrency = 200
	}
	if opts.Prepare == nil {
		opts.Prepare = func(*testing.T, *runner.Spec) {}
	}
	if err := os.Setenv(leak, "1"); err != nil {
		t.Fatal(err)
	}
	s := suite{open: open, opts: opts}
	groups := []struct {
		name string
		test func(*testing.T)
		real bool // needs processes
	}{
		{"Exit", s.testExit, false},
		{"Status", s.testStatus, false},
		{"Signal", s.testSignal, false},
		{"Wait", s.testWait, false},
		{"Unknown", s.testUnknown, false},
		{"StartError", s.testStartError, false},
		{"SameID", s.testSameID, false},
		{"Remove", s.testRemove, false},
		{"Resize", s.testResize, false},
		{"Exec", s.testExec, false},
		{"ExecTimeout", s.testExecTimeout, false},
		{"ExecCancel", s.testExecCancel, false},
		{"Concurrency", s.testConcurrency, false},
		{"Volumes", s.testVolumes, false},
		{"Usage", s.testUsage, false},
		{"Logs", s.testLogs, false},
		{"Environment", s.testEnvironment, false},
		{"Reconnect", s.testReconnect, false},
		{"Lost", s.testLost, false},
		{"Stdin", s.testStdin, true},
		{"Directory", s.testDirectory, true},
		{"HugeOutput", s.testHugeOutput, true},
		{"Background", s.testBackground, true},
		{"KillBackground", s.testKillBackground, true},
		{"Zombies", s.testZombies, true},
		{"ExecOutput", s.testExecOutput, true},
		{"Terminal", s.testTerminal, true},
		{"Streams", s.testStreams, false},
		{"ManyStreams", s.testManyStreams, false},
		{"BigStreams", s.testBigStreams, false},
		{"StreamEnd", s.testStreamEnd, false},
		{"StreamSignals", s.testStreamSignals, true},
		{"StreamCancel", s.testStreamCancel, true},
		{"ExecTerminal", s.testExecTerminal, true},
		{"Attach", s.testAttach, false},
		{"AttachAgain", s.testAttachAgain, false},
		{"AttachOnce", s.testAttachOnce, false},
		{"AttachTerminal", s.testAttachTerminal, true},
		{"AttachSlow", s.testAttachSlow, true},
		{"Dial", s.testDial, true},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			if g.real && opts.Simulated {
				t.Skip("it has no processes")
			}
			t.Parallel()
			g.test(t)
		})
	}
}

// leak is in the environment of the engine, and must not be in a container's.
const leak = "SAMPAN_TEST_LEAK"

type suite struct {
	open func(t *testing.T) runner.Runner
	opts Options
}

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// bench is what one test works with.
type bench struct {
	t    *testing.T
	ctx  context.Context
	opts Options
	r    runner.Runner
	dir  string
}

func (s suite) setup(t *testing.T) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, opts: s.opts, r: s.open(t), dir: t.TempDir()}
	return b
}

// spec returns the Spec of a container that runs a shell script.
func (b *bench) spec(script string) *runner.Spec {
	b.t.Helper()
	return b.command("sh", "-c", script)
}

// command returns the Spec of a container of a pod of its own.
func (b *bench) command(args ...string) *runner.Spec {
	b.t.Helper()
	// Unique for ever, as the contract has it: not only within this test.
	uid := fmt.Sprintf("%08x-1111-4222-8333-%012x", rand.Uint32(), rand.Uint64N(1<<48))
	spec := &runner.Spec{
		ID: uid + "_main_0", Class: b.opts.Class, Container: "main", Args: args,
		Pod:     runner.PodRef{Namespace: "default", Name: "pod-" + uid[:8], UID: uid},
		Env:     []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
		LogPath: filepath.Join(b.dir, uid, "main", "0.log"),
	}
	b.opts.Prepare(b.t, spec)
	return spec
}

func (b *bench) start(spec *runner.Spec) runner.Status {
	b.t.Helper()
	st, err := b.r.Start(b.ctx, spec)
	if err != nil {
		b.t.Fatalf("start %q: %v", spec.Args, err)
	}
	return st
}

func (b *bench) wait(spec *runner.Spec) runner.Status {
	b.t.Helper()
	st, err := b.r.Wait(b.ctx, spec.ID)
	if err != nil {
		b.t.Fatalf("wait for %q: %v", spec.Args, err)
	}
	return st
}

func (b *bench) run(spec *runner.Spec) runner.Status {
	b.t.Helper()
	b.start(spec)
	return b.wait(spec)
}

// finish removes the container and its pod.
func (b *bench) finish(spec *runner.Spec) {
	b.t.Helper()
	if err := b.r.Remove(b.ctx, spec.ID); err != nil {
		b.t.Errorf("remove: %v", err)
	}
	b.finishPod(spec)
}

func (b *bench) finishPod(spec *runner.Spec) {
	b.t.Helper()
	if err := b.r.RemovePod(b.ctx, spec.Pod.UID); err != nil {
		b.t.Errorf("remove the pod: %v", err)
	}
}

// log is what the container wrote to one stream, or both.
func (b *bench) log(spec *runner.Spec, stream crilog.Stream) string {
	b.t.Helper()
	var out bytes.Buffer
	if err := crilog.Read(b.ctx, spec.LogPath, crilog.Options{Stream: stream}, &out); err != nil {
		b.t.Fatal(err)
	}
	return out.String()
}

// awaitLog returns when the container has written a line that begins so, and
// returns the rest of the line.
func (b *bench) awaitLog(spec *runner.Spec, prefix string) string {
	b.t.Helper()
	for {
		for line := range strings.Lines(b.log(spec, crilog.Stdout)) {
			rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
			if ok && strings.HasSuffix(line, "\n") {
				return rest
			}
		}
		select {
		case <-b.ctx.Done():
			b.t.Fatalf("it has not written %q", prefix)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// eventually waits until something is so.
func (b *bench) eventually(what string, so func() bool) {
	b.t.Helper()
	for !so() {
		select {
		case <-b.ctx.Done():
			b.t.Fatal("not so after a minute: " + what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (b *bench) wantErr(what string, err, want error) {
	b.t.Helper()
	if !errors.Is(err, want) {
		b.t.Errorf("%s: %v, want %v", what, err, want)
	}
}
