// Package node is the node as the API knows it: its object, which it registers and
// whose status and conditions it keeps, and its lease. What it refuses: anything
// about pods.
package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
)

// API is what a node writes. Errors are those of the API. All methods are safe for
// concurrent use.
type API interface {
	// RegisterNode creates the node, or, when there is one of this name, gives it
	// the labels and annotations of this one and keeps everything else. It
	// returns what is stored.
	RegisterNode(ctx context.Context, node *corev1.Node) (*corev1.Node, error)
	// Node returns the node of this name, which is shared.
	Node(ctx context.Context, name string) (*corev1.Node, error)
	// UpdateNodeStatus replaces the status of the node. status is given the present
	// state of the node and returns the status to be written; it is called again when
	// somebody else wrote meanwhile. It must not change what it is given.
	UpdateNodeStatus(ctx context.Context, name string, status func(now *corev1.Node) corev1.NodeStatus) error
	// RenewLease creates the lease or replaces its spec. It need not survive a
	// crash.
	RenewLease(ctx context.Context, lease *coordinationv1.Lease) error
	// Record makes Events of notes. Best effort; it never blocks.
	Record(notes ...change.Note)
}

// Config is what a node says of itself, and to whom.
type Config struct {
	// Name is the node's; see NameOf.
	Name string
	// Object is what the node registers as, beside its status; nil: Object(Name). What was
	// registered before keeps all but its labels and annotations.
	Object *corev1.Node
	// Addresses are the machine's, the primary one first.
	Addresses []string
	// Capacity is what the node has (see Capacity), and Allocatable what of it
	// pods may use; nil: all.
	Capacity, Allocatable corev1.ResourceList
	// Version is what the status says for a kubelet's version.
	Version string
	// LeasePeriod is how often the node says that it lives; 0: every ten seconds. It is
	// believed to live four times as long.
	LeasePeriod time.Duration
	// Health tells how runtimes and disk fare; nil: they do.
	Health Health

	API API
	Log *slog.Logger
}

// Node is this node. New makes one, Run runs it.
type Node struct {
	config  Config
	info    corev1.NodeSystemInfo
	changed chan struct{} // told when the state has changed

	mu    sync.Mutex
	state state
	ref   corev1.ObjectReference // without the uid until the node is registered
}

// New returns the node; it starts nothing.
func New(c Config) (*Node, error) {
	if c.Name == "" || c.API == nil || c.Log == nil {
		return nil, errors.New("node: Name, API and Log must be set")
	}
	if c.Capacity == nil {
		c.Capacity = corev1.ResourceList{}
	}
	if len(c.Allocatable) == 0 {
		c.Allocatable = c.Capacity
	}
	if c.Object == nil {
		c.Object = Object(c.Name)
	}
	if c.LeasePeriod == 0 {
		c.LeasePeriod = leasePeriod
	}
	return &Node{
		config: c, info: systemInfo(c.Version), changed: make(chan struct{}, 1),
		ref: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: c.Name},
	}, nil
}

// Name returns the node's name.
func (n *Node) Name() string { return n.config.Name }

// Stored returns the node as the API has it, which is shared.
func (n *Node) Stored(ctx context.Context) (*corev1.Node, error) {
	return n.config.API.Node(ctx, n.config.Name)
}

// Allocatable returns what of the node pods may use. It is shared.
func (n *Node) Allocatable() corev1.ResourceList { return n.config.Allocatable }

// SetPressures says what runs out: the conditions that the node has for it.
func (n *Node) SetPressures(conditions []corev1.NodeConditionType) {
	n.set(func(s *state) { s.pressures = conditions })
}

// Pressures returns the conditions that the node has of what runs out. The list is
// shared.
func (n *Node) Pressures() []corev1.NodeConditionType { return n.now().conditions() }

// now returns how the node fares now.
func (n *Node) now() state {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// set changes the state. If that makes a difference, the API is told soon.
func (n *Node) set(edit func(*state)) {
	n.mu.Lock()
	was := n.state
	edit(&n.state)
	same := was.equal(n.state)
	n.mu.Unlock()
	if same {
		return
	}
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// registered says under which uid the API has the node.
func (n *Node) registered(uid types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ref.UID = uid
}

// UID returns the uid under which the API has the node, "" before it is registered.
func (n *Node) UID() types.UID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ref.UID
}

// Note records an Event about the node.
func (n *Node) Note(kind, reason, message string) {
	n.mu.Lock()
	ref := n.ref
	n.mu.Unlock()
	n.config.API.Record(change.Note{Regarding: ref, Component: Component, Type: kind, Reason: reason, Message: message})
}

// Component is who the Events of a node and of its pods come from, as everywhere in
// Kubernetes.
const Component = "kubelet"
