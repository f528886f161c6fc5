// Package fake is a scripted runner: containers are goroutines that sleep,
// write, react to signals and exit as a Script says. It has no processes and no
// sockets, so it works in fake time (testing/synctest), and is otherwise a
// runner like the others: it passes their conformance suite and writes real logs.
//
// By default a container does what its command says, as far as Shell
// understands it; so the same manifests run on the fake and on the real ones.
package fake

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// Script is what a container does.
type Script struct {
	// StartDelay is how long Start takes; StartError is what it fails with then.
	StartDelay time.Duration
	StartError error
	// Steps are done in order; then the process exits with Exit.
	Steps []Step
	Exit  int
	// Signal ends the process like a signal, if it is not 0.
	Signal    int
	OOMKilled bool
	// On is what the process does when it gets a signal, from then on. SIGKILL
	// cannot be caught. Without an entry a signal does what it does by default.
	On map[int]Script
	// Memory is how much it uses: Resize does not go below.
	Memory int64
	// Exec is what Exec does; by default, what Shell says about the command.
	Exec func(ctx context.Context, cmd runner.ExecSpec) (runner.ExecResult, error)
	// Ports are those that somebody listens at, and serves a connection.
	Ports map[uint16]func(net.Conn)
}

// Step is one thing that a process does: it writes, copies its input, sleeps, then
// waits.
type Step struct {
	Stdout, Stderr string
	Cat            bool // until the end of the input
	Sleep          time.Duration
	Wait           <-chan struct{}
}

// Runner is the fake. It implements runner.Runner.
type Runner struct {
	script func(*runner.Spec) Script

	mu         sync.Mutex
	nextPID    int
	containers map[string]*container
	removed    []string                            // uids of pods
	volumes    map[string]map[string]runner.Volume // by pod and name
	usage      map[string]runner.PodUsage
	losses     chan runner.Status
	networks   networks
}

var _ runner.Runner = (*Runner)(nil)

// New returns a Runner whose containers do what script says; nil is Shell.
func New(script func(*runner.Spec) Script) *Runner {
	if script == nil {
		script = Shell
	}
	return &Runner{script: script, nextPID: 1000, containers: make(map[string]*container),
		volumes: make(map[string]map[string]runner.Volume), usage: make(map[string]runner.PodUsage),
		losses: make(chan runner.Status, 16)}
}

// container is one container; its status is guarded by the Runner's mutex.
type container struct {
	spec   *runner.Spec
	script Script
	log    *crilog.Writer // nil without a log path
	std    process
	status runner.Status
	// signals wakes the process; it is asked in order, and never full for long.
	signals chan int
	ended   chan struct{}
}

// Start implements runner.Runner.
func (r *Runner) Start(ctx context.Context, spec *runner.Spec) (runner.Status, error) {
	c := &container{
		spec: spec, script: r.script(spec), signals: make(chan int, 16), ended: make(chan struct{}),
		status: runner.Status{
			ID: spec.ID, Pod: spec.Pod, Container: spec.Container, Attempt: spec.Attempt,
			Class: spec.Class, Phase: runner.Created,
		},
	}
	if spec.Stdin {
		c.std.in, c.std.input = io.Pipe()
	}
	if err := r.add(c); err != nil {
		return runner.Status{}, err
	}
	err := sleep(ctx, c.script.StartDelay)
	if err == nil {
		err = c.script.StartError
	}
	if err == nil && spec.LogPath != "" {
		c.log, err = crilog.Open(spec.LogPath, crilog.Limits{})
	}
	c.std.write = c.write
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		delete(r.containers, spec.ID)
		return runner.Status{}, err
	}
	r.nextPID++
	c.status.Phase, c.status.PID, c.status.StartedAt = runner.Running, r.nextPID, time.Now()
	go r.run(c)
	return c.status, nil
}

func (r *Runner) add(c *container) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.containers[c.spec.ID] != nil {
		return fmt.Errorf("container %s: %w", c.spec.ID, runner.ErrExists)
	}
	for _, m := range c.spec.Mounts {
		if _, ok := r.volumes[c.spec.Pod.UID][m.Volume]; m.Source == "" && !ok {
			return fmt.Errorf("container %s: volume %q: %w", c.spec.ID, m.Volume, runner.ErrNoVolume)
		}
	}
	if err := r.joinedLocked(c.spec); err != nil {
		return err
	}
	r.containers[c.spec.ID] = c
	return nil
}

// Resize implements runner.Runner. It refuses less memory than the script says is used.
func (r *Runner) Resize(ctx context.Context, id string, res runner.Resources) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	switch {
	case c == nil:
		return "", fmt.Errorf("container %s: %w", id, runner.ErrNotFound)
	case c.status.Phase != runner.Running:
		return "", fmt.Errorf("container %s: %w", id, runner.ErrEnded)
	case res.MemoryLimit > 0 && c.script.Memory >= res.MemoryLimit:
		return "", fmt.Errorf("cannot decrease memory limits: attempting to set container %q memory limit (%d) below current usage (%d)",
			c.spec.Container, res.MemoryLimit, c.script.Memory)
	}
	c.spec.Resources = res
	return "", nil
}

// run is the process.
func (r *Runner) run(c *container) {
	script := c.script
	lost := false
	for done := false; !done; {
		var sig int
		if sig = perform(script.Steps, &c.std, c.signals); sig == 0 {
			done = true
			continue
		}
		next, caught := script.On[sig]
		switch {
		case sig == lose:
			lost, done, script = true, true, Script{Signal: int(syscall.SIGKILL)}
		case sig == int(syscall.SIGKILL), !caught && endsByDefault(sig):
			done, script = true, Script{Signal: sig}
		case caught:
			script = next
		}
	}
	if c.log != nil {
		_ = c.log.Close()
	}
	c.std.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &c.status
	s.Phase, s.PID, s.FinishedAt = runner.Exited, 0, time.Now()
	s.ExitCode, s.Signal, s.OOMKilled, s.Lost = script.Exit, script.Signal, script.OOMKilled, lost
	if s.Signal != 0 {
		s.ExitCode = 128 + s.Signal
	}
	if lost {
		s.Reason = "ContainerStatusUnknown"
	}
	close(c.ended)
}

// endsByDefault tells whether a process that does not catch a signal is
// ended by it.
func endsByDefault(sig int) bool {
	switch syscall.Signal(sig) {
	case syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGSTOP, syscall.SIGTSTP:
		return false
	}
	return true
}

// lose is no signal: it is the death of the supervisor.
const lose = -1

// Lose ends every container as the death of the supervisor does. Volumes in
// memory are lost with it.
func (r *Runner) Lose() {
	r.mu.Lock()
	for _, volumes := range r.volumes {
		maps.DeleteFunc(volumes, func(_ string, v runner.Volume) bool { return v.Memory })
	}
	var running []*container
	for _, c := range r.containers {
		if c.status.Phase == runner.Running {
			running = append(running, c)
		}
	}
	r.mu.Unlock()
	for _, c := range running {
		select {
		case c.signals <- lose:
			<-c.ended
		case <-c.ended:
		}
	}
}

// LoseOutput has a container lose output, as on a full disk.
func (r *Runner) LoseOutput(id string, bytes int64, message string) {
	r.mu.Lock()
	loss := &r.containers[id].status.OutputLost
	loss.Bytes += bytes
	loss.Message, loss.At = message, time.Now()
	status := r.containers[id].status
	r.mu.Unlock()
	r.losses <- status
}

// Losses implements runner.Runner.
func (r *Runner) Losses(ctx context.Context, tell func(runner.Status)) {
	for {
		select {
		case <-ctx.Done():
			return
		case status := <-r.losses:
			tell(status)
		}
	}
}

// List implements runner.Runner.
func (r *Runner) List(context.Context) ([]runner.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []runner.Status
	for _, id := range slices.Sorted(maps.Keys(r.containers)) {
		if c := r.containers[id]; c.status.Phase != runner.Created {
			all = append(all, c.status)
		}
	}
	return all, nil
}

func (r *Runner) find(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || c.status.Phase == runner.Created {
		return nil, fmt.Errorf("container %s: %w", id, runner.ErrNotFound)
	}
	return c, nil
}

// Wait implements runner.Runner.
func (r *Runner) Wait(ctx context.Context, id string) (runner.Status, error) {
	c, err := r.find(id)
	if err != nil {
		return runner.Status{}, err
	}
	select {
	case <-ctx.Done():
		return runner.Status{}, context.Cause(ctx)
	case <-c.ended:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.status, nil
}

// Signal implements runner.Runner.
func (r *Runner) Signal(ctx context.Context, id string, signal int) error {
	c, err := r.find(id)
	if err != nil {
		return err
	}
	ended := fmt.Errorf("container %s: %w", id, runner.ErrEnded)
	select {
	case <-c.ended:
		return ended
	default:
	}
	select {
	case c.signals <- signal:
		return nil
	case <-c.ended:
		return ended
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Remove implements runner.Runner.
func (r *Runner) Remove(_ context.Context, id string) error {
	c, err := r.find(id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.status.Phase != runner.Exited {
		return fmt.Errorf("container %s: %w", id, runner.ErrRunning)
	}
	delete(r.containers, id)
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
