package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/agent/machine"
	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/agent/proxy"
	"github.com/sampan-batch/sampan/internal/runner"
)

// Options say what a node is, what it has, and whom it works with.
type Options struct {
	// Node is the node as the API knows it: its name, what pods may use of it, its
	// conditions. The agent runs it.
	Node *node.Node
	// Dir is the directory of the node's files, above all of pods' logs.
	Dir string
	// RunDir is a directory for the few small files that every sandboxed pod
	// needs and that nobody misses after a reboot. In memory they cost a
	// hundredth of what they cost on a disk. "" is Dir.
	RunDir string
	// Addresses are the machine's, the primary one first; pods that share its network have them.
	Addresses []string
	// NodePorts says which of these node ports are at; see proxy.NodePortAddresses.
	NodePorts string

	Client Client
	Images Images
	// Runners start the containers of each class that this node offers.
	Runners map[runner.Class]runner.Runner
	// Class is the class of a pod without a runtimeClassName.
	Class runner.Class
	// HostEnv is the environment that a process of the host class starts from.
	HostEnv []string

	// API is where pods that have a token find the API; zero: they are not told.
	API netip.AddrPort

	// Hosts are the addresses that the nodes of this machine have among those of pods.
	Hosts []netip.Addr

	// PodPids is how many processes and threads a pod may have; 0: no limit.
	PodPids int64
	// UserNamespace says that the sandbox runs every pod in a user namespace: a
	// pod that asks for one (hostUsers: false) has it.
	UserNamespace bool

	// Machine is what the node observes; nil: nothing, and nothing runs out.
	Machine Machine
	// Eviction says how little may be left of what can run out.
	Eviction eviction.Config

	// StatusDelay is how long a status that is not final may wait for a newer
	// one, so that a short pod needs one write; 0: DefaultStatusDelay.
	StatusDelay time.Duration

	// HandLog, if set, is handed the log of every container that is started.
	HandLog LogHandler
	// HandLogTimes puts the time in front of each line of these logs.
	HandLogTimes bool

	Log *slog.Logger

	proxied proxy.Machine
}

// LogHandler takes the log of a container, all that it writes until its end, and
// must not block. Until it is read, or closed, its files stay. restarts is what the
// container's restartCount is in this life.
type LogHandler func(pod *corev1.Pod, container string, restarts int, log io.ReadCloser)

// DefaultStatusDelay is long enough for a short process to end in, and too
// short to be noticed.
const DefaultStatusDelay = 50 * time.Millisecond

// complete sets what has a default, and returns an error if something else is missing.
func (o *Options) complete() error {
	switch {
	case o.Node == nil || o.Dir == "" || o.Client == nil || o.Images == nil || o.Log == nil:
		return errors.New("agent: Node, Dir, Client, Images and Log must be set")
	case o.Runners[o.Class] == nil:
		return fmt.Errorf("agent: no runner for the default class %q", o.Class)
	}
	if o.StatusDelay <= 0 {
		o.StatusDelay = DefaultStatusDelay
	}
	if o.RunDir == "" {
		o.RunDir = o.Dir
	}
	var err error
	if o.proxied, err = proxy.MachineOf(o.Addresses, o.NodePorts); err != nil {
		return fmt.Errorf("addresses of node ports: %w", err)
	}
	return nil
}

// Machine is the machine that the node runs on; package machine has the real one.
type Machine interface {
	// Observe returns how much is left of what can run out. What could not be
	// observed is left out, and the error says why.
	Observe() (eviction.Observations, error)
	// Use returns how much memory and how many processes containers use, by the pids
	// of their first processes.
	Use(first []int) map[int]eviction.Use
	// Account measures the whole machine, and containers, by their IDs.
	Account([]machine.Container) (machine.Usage, map[string]machine.Usage, error)
	// Keep bounds the files in some directories until ctx ends, and calls cut with
	// the path of each that it has shortened.
	Keep(ctx context.Context, caps []machine.Cap, cut func(path string)) error
}
