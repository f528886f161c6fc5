package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

const (
	// leasePeriod is how often the node says that it lives, leaseSeconds how
	// long it is believed; statusPeriod is how often its whole status is written.
	leasePeriod  = 10 * time.Second
	leaseSeconds = 40
	statusPeriod = 5 * time.Minute
	// statusRetry is how soon a status is written again that could not be.
	statusRetry = time.Second
)

// heartbeat tells the API about the node: it registers it, renews its lease and
// now and then writes its status.
type heartbeat struct {
	agent *Agent
	log   *slog.Logger
	// owner is the node, as its lease names it.
	owner metav1.OwnerReference
	// told is what the last status says.
	told nodeState
}

// run tells of the node until ctx ends.
func (h *heartbeat) run(ctx context.Context) {
	for delay := minRetry; ; delay = min(2*delay, maxRetry) {
		err := h.register(ctx)
		if err == nil || ctx.Err() != nil {
			break
		}
		h.log.Warn("cannot register the node", "node", h.agent.opts.Node, "err", err)
		if !sleep(ctx, delay) {
			return
		}
	}
	status := time.Time{} // of the last status
	for ctx.Err() == nil {
		wait := leasePeriod
		if now := time.Now(); now.Sub(status) >= statusPeriod || !h.told.equal(h.agent.state()) {
			if err := h.status(ctx, now); err != nil {
				h.log.Warn("cannot write the node's status", "node", h.agent.opts.Node, "err", err)
				wait = statusRetry
			} else {
				status = now
			}
		}
		if err := h.renew(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("cannot renew the node's lease", "node", h.agent.opts.Node, "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-h.agent.pressed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (h *heartbeat) register(ctx context.Context) error {
	node := h.agent.nodeObject()
	node.Status = h.agent.nodeStatus(&corev1.NodeStatus{}, time.Now())
	stored, err := h.agent.opts.Client.RegisterNode(ctx, node)
	if err != nil {
		return err
	}
	h.owner = metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: stored.Name, UID: stored.UID}
	h.note("Starting", "Starting kubelet.")
	return nil
}

// status writes the node's status as of now, and tells what has changed of its
// conditions.
func (h *heartbeat) status(ctx context.Context, now time.Time) error {
	is := h.agent.state()
	err := h.agent.opts.Client.UpdateNodeStatus(ctx, h.agent.opts.Node, func(node *corev1.Node) corev1.NodeStatus {
		return h.agent.nodeStatus(&node.Status, now)
	})
	if err != nil {
		return err
	}
	for _, t := range [...]corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		if slices.Contains(is.pressures, t) != slices.Contains(h.told.pressures, t) {
			h.noteStatus(pressure(t, is.pressures).Reason)
		}
	}
	if (is.unready == "") != (h.told.unready == "") {
		h.noteStatus(readiness(is.unready).Reason)
	}
	h.told = is
	return nil
}

// noteStatus tells of a condition by its reason.
func (h *heartbeat) noteStatus(reason string) {
	reason = "Node" + strings.TrimPrefix(reason, "Kubelet")
	h.note(reason, fmt.Sprintf("Node %s status is now: %s", h.agent.opts.Node, reason))
}

func (h *heartbeat) note(reason, message string) {
	h.agent.opts.Client.Record(change.Note{
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: h.owner.Name, UID: h.owner.UID},
		Component: component, Type: normal, Reason: reason, Message: message,
	})
}

func (h *heartbeat) renew(ctx context.Context) error {
	name := h.agent.opts.Node
	return h.agent.opts.Client.RenewLease(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: corev1.NamespaceNodeLease, Name: name, OwnerReferences: []metav1.OwnerReference{h.owner},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       ptr.To(name),
			LeaseDurationSeconds: ptr.To[int32](leaseSeconds),
			RenewTime:            ptr.To(metav1.NewMicroTime(time.Now().Truncate(time.Microsecond))),
		},
	})
}
