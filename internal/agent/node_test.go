package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestNodeIsKept(t *testing.T) {
	story(t, func(b *bench) {
		node := func() *corev1.Node {
			b.fakeClient.mu.Lock()
			defer b.fakeClient.mu.Unlock()
			return b.nodes["n1"]
		}
		n := node()
		if n.Labels[corev1.LabelHostname] != "n1" || n.Labels[corev1.LabelOSStable] != "linux" || n.Labels[corev1.LabelArchStable] == "" {
			t.Errorf("labels: %v", n.Labels)
		}
		ready := n.Status.Conditions[len(n.Status.Conditions)-1]
		if ready.Type != corev1.NodeReady || ready.Status != corev1.ConditionTrue || ready.Reason != "KubeletReady" {
			t.Errorf("got %+v", ready)
		}
		if len(n.Status.Addresses) != 2 || n.Status.NodeInfo.KernelVersion == "" {
			t.Errorf("got %+v", n.Status)
		}
		renewed := func() time.Time {
			b.fakeClient.mu.Lock()
			defer b.fakeClient.mu.Unlock()
			return b.leases["n1"].Spec.RenewTime.Time
		}
		first := renewed()
		after(25 * time.Second)
		if got := renewed().Sub(first); got != 20*time.Second {
			t.Errorf("the lease was renewed %v later", got)
		}
		if node() != n {
			t.Error("the status was written although nothing had changed")
		}
		after(5 * time.Minute)
		next := node().Status.Conditions[len(n.Status.Conditions)-1]
		if !next.LastHeartbeatTime.After(ready.LastHeartbeatTime.Time) || !next.LastTransitionTime.Equal(&ready.LastTransitionTime) {
			t.Errorf("got %+v after %+v", next, ready)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("a node of nothing")
	}
}
