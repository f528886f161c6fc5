package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/supervisor"
)

// nodesDir is where the nodes have their directories, in the data directory: all but the one
// that an engine has when nothing is said of nodes. That one is in the data directory itself,
// so that its pods are found whether there are others or not.
const nodesDir = "nodes"

// member is one of the nodes of this machine: an agent, with supervisors, a directory and an
// identity of its own. It can be stopped, killed and started again while the engine runs, as
// machines can that are none of the engine's business.
//
//	running ──stop──▶ stopped    nobody looks after the pods, which go on
//	   │                 │
//	   └──────kill───────┴────▶ killed    the pods are gone, and nobody has said so
//
// start leads back to running from both.
type member struct {
	name string
	dir  string
	// object is what the node registers with, and allocatable what of it pods may use.
	object *corev1.Node
	health *nodeHealth
	// connect makes the client of the node's supervisors, employ an agent that works with it.
	connect func() (*supervisor.Client, error)
	employ  func(*member, *supervisor.Client) (*agent.Agent, error)
	class   runner.Class
	failed  chan error // why the agent ended by itself

	mu     sync.Mutex // held while the node starts or stops
	ctx    context.Context
	runner *supervisor.Client // nil: killed
	agent  *agent.Agent
	cancel context.CancelFunc // ends the agent; nil: it does not run
	done   chan struct{}      // closed when it has ended
}

// Run runs the node until ctx ends, or its agent ends by itself.
func (m *member) Run(ctx context.Context) error {
	m.mu.Lock()
	m.ctx = ctx
	m.beginLocked()
	m.mu.Unlock()
	select {
	case err := <-m.failed:
		return err
	case <-ctx.Done():
	}
	m.mu.Lock() // whoever starts it now finds ctx over
	done := m.done
	m.mu.Unlock()
	if done != nil {
		<-done
	}
	return context.Cause(ctx)
}

// beginLocked has the agent work.
func (m *member) beginLocked() {
	ctx, cancel := context.WithCancel(m.ctx)
	done, worker := make(chan struct{}), m.agent
	m.cancel, m.done = cancel, done
	go func() {
		defer close(done)
		defer cancel()
		if err := worker.Run(ctx); ctx.Err() == nil {
			select {
			case m.failed <- fmt.Errorf("node %s: %w", m.name, err):
			default: // one is enough
			}
		}
	}()
}

// restLocked has the agent end. Its pods go on.
func (m *member) restLocked() {
	if m.cancel == nil {
		return
	}
	m.cancel()
	<-m.done
	m.cancel, m.done = nil, nil
}

// Errors of those who stop and start nodes.
var (
	errStarted = errors.New("it is running")
	errStopped = errors.New("it is not running")
	errEnding  = errors.New("the engine is about to end")
)

// Stop has nobody look after the pods of the node, and nobody tell how it is. The containers go
// on, as on a machine whose kubelet was stopped, or that nobody can reach.
func (m *member) Stop() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cancel == nil {
		return errStopped
	}
	m.restLocked()
	return nil
}

// Kill ends the node as a machine ends that loses its power: nobody is asked, nothing is said,
// and nothing of its containers is left but what they have written.
func (m *member) Kill() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runner == nil {
		return errStopped
	}
	m.restLocked()
	client := m.runner
	m.runner = nil
	var pids []int
	for _, class := range classes {
		if pid := client.PID(class); pid > 0 {
			pids = append(pids, pid)
		}
	}
	err := client.Close() // it would start others in their place
	for _, pid := range pids {
		if e := unix.Kill(pid, unix.SIGKILL); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, e))
		}
	}
	return err
}

// Start has the node run again. What it finds of its pods it brings in line with what the API
// has of them now: those that are gone there, or are to go, end.
func (m *member) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.cancel != nil:
		return errStarted
	case m.ctx == nil || m.ctx.Err() != nil:
		return errEnding
	}
	if m.runner == nil {
		if err := m.prepareLocked(ctx); err != nil {
			return err
		}
	}
	worker, err := m.employ(m, m.runner)
	if err != nil {
		return err
	}
	m.agent = worker
	m.beginLocked()
	return nil
}

// prepareLocked finds the supervisors, and starts that of the default class.
func (m *member) prepareLocked(ctx context.Context) error {
	client, err := m.connect()
	if err != nil {
		return err
	}
	if err := errors.Join(client.Connect(ctx), client.Prepare(m.class)); err != nil {
		return errors.Join(err, client.Close())
	}
	m.runner = client
	return nil
}

// worker returns the agent, nil if the node does not run.
func (m *member) worker() *agent.Agent {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cancel == nil {
		return nil
	}
	return m.agent
}

// runners returns the client of the node's supervisors, nil if it was killed.
func (m *member) runners() *supervisor.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runner
}

// NodeState is how a node of this machine is.
type NodeState string

// The states of a node.
const (
	NodeRunning NodeState = "Running"
	NodeStopped NodeState = "Stopped"
	NodeKilled  NodeState = "Killed"
)

// State returns how the node is.
func (m *member) State() NodeState {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.runner == nil:
		return NodeKilled
	case m.cancel == nil && m.ctx != nil:
		return NodeStopped
	}
	return NodeRunning
}
