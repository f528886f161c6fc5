package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestNodeName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"box": "box", "My-Box.Local": "my-box.local", "a_b": "a-b", "-x.": "x", "": "localhost", "北": "localhost",
	} {
		if got := NodeName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	list, err := Capacity(t.TempDir(), 123)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q := list[name]; q.Value() <= 0 {
			t.Errorf("%s: %v", name, q.String())
		}
	}
	if q := list[corev1.ResourcePods]; q.Value() != 123 {
		t.Errorf("pods: %v", q.String())
	}
}

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

func TestNodeConditionsOfOthersStay(t *testing.T) {
	t.Parallel()
	got := nodeConditions([]corev1.NodeCondition{{Type: "Example", Status: corev1.ConditionTrue}}, nodeState{}, time.Now())
	if len(got) != 5 || got[0].Type != "Example" {
		t.Errorf("got %+v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("a node of nothing")
	}
}
