package agent

import (
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/agent/node"
)

func TestNodeIsKept(t *testing.T) {
	story(t, func(b *bench) {
		present := func() *corev1.Node {
			b.fakeClient.mu.Lock()
			defer b.fakeClient.mu.Unlock()
			return b.nodes["n1"]
		}
		n := present()
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
		if present() != n {
			t.Error("the status was written although nothing had changed")
		}
		after(5 * time.Minute)
		next := present().Status.Conditions[len(n.Status.Conditions)-1]
		if !next.LastHeartbeatTime.After(ready.LastHeartbeatTime.Time) || !next.LastTransitionTime.Equal(&ready.LastTransitionTime) {
			t.Errorf("got %+v after %+v", next, ready)
		}
	})
}

// TestNodeOfOldCharts: the labels of before Kubernetes 1.14, and the role that the only node of
// kind, k3s and minikube has.
func TestNodeOfOldCharts(t *testing.T) {
	t.Parallel()
	labels := node.Object("n1").Labels
	for key, want := range map[string]string{
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": runtime.GOARCH, "node-role.kubernetes.io/control-plane": "",
	} {
		if got, ok := labels[key]; !ok || got != want {
			t.Errorf("%s: got %q, %v", key, got, ok)
		}
	}
}

// TestNodeRegistersAgain: who deletes the node, or puts another in its place, has it back at the
// next heartbeat; its pods run on.
func TestNodeRegistersAgain(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", nil))
		after(time.Second)
		present := func() *corev1.Node {
			b.fakeClient.mu.Lock()
			defer b.fakeClient.mu.Unlock()
			return b.nodes["n1"]
		}
		set := func(n *corev1.Node) {
			b.fakeClient.mu.Lock()
			defer b.fakeClient.mu.Unlock()
			b.nodes["n1"] = n
		}
		set(nil)
		after(11 * time.Second)
		if n := present(); n == nil || b.nodeCondition(corev1.NodeReady) != "True KubeletReady kubelet is posting ready status" {
			t.Fatalf("it is not back: %+v", n)
		}
		set(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "another"}})
		after(11 * time.Second)
		if n := present(); n.Labels[corev1.LabelHostname] != "n1" || b.nodeCondition(corev1.NodeReady) != "True KubeletReady kubelet is posting ready status" {
			t.Errorf("another one has its place: %+v", n)
		}
		b.want("p", corev1.PodRunning)
		after(time.Minute)
		n := 0
		for _, e := range b.events() {
			if e == "Starting: Starting kubelet." {
				n++
			}
		}
		if n != 3 {
			t.Errorf("registered %d times", n)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("a node of nothing")
	}
}
