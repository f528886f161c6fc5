package node

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/reason"
)

const (
	// leasePeriod is how often the node says that it lives, believed how many times as
	// long it is believed; statusPeriod is how often its whole status is written.
	leasePeriod  = 10 * time.Second
	believed     = 4
	statusPeriod = 5 * time.Minute
	// statusRetry is how soon a status is written again that could not be.
	statusRetry = time.Second
	// A registration that fails is tried again with a growing delay.
	minRetry = 100 * time.Millisecond
	maxRetry = 10 * time.Second
)

// Run registers the node, renews its lease, and writes its status now and then and
// whenever its conditions change, until ctx ends. It returns when its goroutines have.
func (n *Node) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	if n.config.Health != nil {
		group.Go(func() { n.watchHealth(ctx) })
	}
	// A node that somebody deletes registers again, as a kubelet that is started anew.
	for n.register(ctx) {
		(&heartbeat{node: n}).run(ctx)
	}
}

// register registers the node, or returns false when ctx ends before that is done.
func (n *Node) register(ctx context.Context) bool {
	for delay := minRetry; ctx.Err() == nil; delay = min(2*delay, maxRetry) {
		object := n.config.Object.DeepCopy()
		object.Status = n.status(&corev1.NodeStatus{}, n.now(), time.Now())
		stored, err := n.config.API.RegisterNode(ctx, object)
		if err == nil {
			n.registered(stored.UID)
			n.Note(corev1.EventTypeNormal, reason.Starting, "Starting kubelet.")
			return true
		}
		if ctx.Err() == nil {
			n.config.Log.Warn("cannot register the node", "node", n.config.Name, "err", err)
			pause(ctx, delay, nil)
		}
	}
	return false
}

// Object returns the node of this name as it registers on this machine, without its
// status.
func Object(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname:   name,
			corev1.LabelOSStable:   runtime.GOOS,
			corev1.LabelArchStable: runtime.GOARCH,
			// Of before Kubernetes 1.14; a kubelet still sets them, and old charts select by them.
			betaOS:   runtime.GOOS,
			betaArch: runtime.GOARCH,
			// The control plane runs here. kind, k3s and minikube label their only node so, and
			// manifests that select it (backups of the control plane, say) are tried on those. Who
			// wants a node without the role cannot be run there either.
			controlPlane: "",
		}},
	}
}

// IsRole reports whether a label gives its node a role.
func IsRole(label string) bool { return strings.HasPrefix(label, "node-role.kubernetes.io/") }

const (
	betaOS       = "beta.kubernetes.io/os"
	betaArch     = "beta.kubernetes.io/arch"
	controlPlane = "node-role.kubernetes.io/control-plane"
)

// status returns the node's status at now, given the present one and how it fares.
func (n *Node) status(present *corev1.NodeStatus, is state, now time.Time) corev1.NodeStatus {
	s := *present
	s.Capacity, s.Allocatable = n.resources(present)
	s.NodeInfo = n.info
	s.Addresses = nil
	for _, ip := range n.config.Addresses {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.config.Name})
	s.Conditions = conditions(present.Conditions, is, now)
	return s
}

// heartbeat keeps a node that is registered alive in the API's eyes.
type heartbeat struct {
	node *Node
	told state     // what the last status says
	at   time.Time // when it was written
}

// run writes status and lease until ctx ends, or the API has the node no more.
func (h *heartbeat) run(ctx context.Context) {
	log, name := h.node.config.Log, h.node.config.Name
	for ctx.Err() == nil {
		if h.look(ctx) {
			log.Warn("somebody has deleted the node; it registers again", "node", name)
			return
		}
		wait := h.node.config.LeasePeriod
		if err := h.status(ctx, time.Now()); err != nil {
			log.Warn("cannot write the node's status", "node", name, "err", err)
			wait = statusRetry
		}
		if err := h.renew(ctx); err != nil && ctx.Err() == nil {
			log.Warn("cannot renew the node's lease", "node", name, "err", err)
		}
		pause(ctx, wait, h.node.changed)
	}
}

// look reports whether the API has no node of this name any more, or another one. If somebody
// else has said how the node is, which is what happens when it was not heard of, or what it has,
// the status has to be written anew.
func (h *heartbeat) look(ctx context.Context) (gone bool) {
	node, err := h.node.config.API.Node(ctx, h.node.config.Name)
	if err != nil {
		return apierrors.IsNotFound(err)
	}
	if node.UID != h.node.UID() {
		return true
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown {
			h.at = time.Time{}
		}
	}
	if capacity, allocatable := h.node.resources(&node.Status); !equality.Semantic.DeepEqual(capacity, node.Status.Capacity) || !equality.Semantic.DeepEqual(allocatable, node.Status.Allocatable) {
		h.at = time.Time{}
	}
	return false
}

// status writes the node's status as of now if it says something new, or has not been
// written for long, and records Events of the conditions that have changed.
func (h *heartbeat) status(ctx context.Context, now time.Time) error {
	is := h.node.now()
	if now.Sub(h.at) < statusPeriod && is.equal(h.told) {
		return nil
	}
	err := h.node.config.API.UpdateNodeStatus(ctx, h.node.config.Name, func(node *corev1.Node) corev1.NodeStatus {
		return h.node.status(&node.Status, is, now)
	})
	if err != nil {
		return err
	}
	for _, t := range [...]corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		if slices.Contains(is.conditions(), t) != slices.Contains(h.told.conditions(), t) {
			h.note(pressure(t, is.conditions()).Reason)
		}
	}
	if (is.runtimes == "") != (h.told.runtimes == "") {
		h.note(readiness(is.runtimes).Reason)
	}
	h.told, h.at = is, now
	return nil
}

// note records that the node has a condition, by the condition's reason.
func (h *heartbeat) note(reason string) {
	reason = "Node" + strings.TrimPrefix(reason, "Kubelet")
	h.node.Note(corev1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", h.node.config.Name, reason))
}

// renew renews the node's lease.
func (h *heartbeat) renew(ctx context.Context) error {
	name, uid := h.node.config.Name, h.node.UID()
	return h.node.config.API.RenewLease(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: corev1.NamespaceNodeLease, Name: name,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: uid}},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       ptr.To(name),
			LeaseDurationSeconds: ptr.To(max(int32(believed*h.node.config.LeasePeriod/time.Second), 1)),
			RenewTime:            ptr.To(metav1.NewMicroTime(time.Now().Truncate(time.Microsecond))),
		},
	})
}

// pause waits for d, or until something is sent on wake, or ctx ends.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}
