package engine

import (
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/sampan-batch/sampan/internal/agent"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/store"
)

// A machine that is several nodes is shared among them; what somebody has said of one stays.
func TestNodesShareTheMachine(t *testing.T) {
	t.Parallel()
	c := Config{DataDir: t.TempDir(), MaxPods: 10, Nodes: NumberedNodes("n", 3)}
	c.Nodes[1].Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), "example.com/gpu": resource.MustParse("2")}
	c.Nodes[1].Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("60")}
	if err := c.completeNodes(); err != nil {
		t.Fatal(err)
	}
	whole := Config{DataDir: c.DataDir, MaxPods: 10, NodeName: "n"}
	if err := whole.completeNodes(); err != nil {
		t.Fatal(err)
	}
	all := whole.Nodes[0].Status.Capacity
	for i, want := range []string{"n", "n-2", "n-3"} {
		n := c.Nodes[i]
		if n.Name != want || n.Labels[corev1.LabelHostname] != want || n.Status.Capacity.Pods().Value() != 3 {
			t.Errorf("node %d is %s, %v, %v pods", i, n.Name, n.Labels, n.Status.Capacity.Pods())
		}
		if got := n.Status.Capacity.Memory().Value(); got != all.Memory().Value()/3 {
			t.Errorf("%s has %d bytes of memory, of %d", n.Name, got, all.Memory().Value())
		}
		if _, control := n.Labels["node-role.kubernetes.io/control-plane"]; control != (i == 0) {
			t.Errorf("%s is of the control plane: %v", n.Name, control)
		}
	}
	cpu, gpu := c.Nodes[1].Status.Allocatable[corev1.ResourceCPU], c.Nodes[1].Status.Allocatable["example.com/gpu"]
	if cpu.Value() != 60 || gpu.Value() != 2 || c.Nodes[0].Status.Allocatable.Cpu().MilliValue() != all.Cpu().MilliValue()/3 {
		t.Errorf("allocatable: %v and %v", c.Nodes[1].Status.Allocatable, c.Nodes[0].Status.Allocatable)
	}
	if long := NumberedNodes(string(slices.Repeat([]byte("x"), 63)), 100)[99].Name; len(long) > 63 {
		t.Errorf("a name of %d characters", len(long))
	}
	c = Config{DataDir: c.DataDir, Listen: ":0", Nodes: NumberedNodes("n", MaxNodes+1)}
	if err := c.complete(); err == nil {
		t.Error("a machine is any number of nodes")
	}
}

// TestNodeRights: a node writes itself, its lease and its pods, and reads what these refer to.
func TestNodeRights(t *testing.T) {
	t.Parallel()
	kinds := kind.Builtin()
	s, err := store.Open(store.Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: kind.NewCodec(kinds), Index: kinds.Index})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var set change.Set
	for _, name := range []string{"mine", "other"} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-" + "x"},
			Spec: corev1.PodSpec{NodeName: name, ServiceAccountName: name, Containers: []corev1.Container{{Name: "c", EnvFrom: []corev1.EnvFromSource{
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
			}}}},
		}
		meta := metav1.ObjectMeta{Namespace: "default", Name: name}
		set.Create(kind.Pods.Key("default", name), pod)
		set.Create(kind.Secrets.Key("default", name), &corev1.Secret{ObjectMeta: meta})
		set.Create(kind.ConfigMaps.Key("default", name), &corev1.ConfigMap{ObjectMeta: meta})
		set.Create(kind.ServiceAccounts.Key("default", name), &corev1.ServiceAccount{ObjectMeta: meta})
		set.Create(kind.Nodes.Key("", name), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	if _, err := s.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	c := &nodeClient{node: "mine", store: s, kinds: kinds}
	ctx := t.Context()
	for what, do := range map[string]func(of string) error{
		"read a Secret":    func(of string) error { _, err := c.Secret(ctx, "default", of); return err },
		"read a ConfigMap": func(of string) error { _, err := c.ConfigMap(ctx, "default", of); return err },
		"read an account":  func(of string) error { _, err := c.ServiceAccount(ctx, "default", of); return err },
		"write a pod": func(of string) error {
			_, err := c.UpdatePodStatus(ctx, runner.PodRef{Namespace: "default", Name: of, UID: "uid-x"}, func(p *corev1.Pod) corev1.PodStatus { return p.Status })
			return err
		},
		"register": func(of string) error {
			_, err := c.RegisterNode(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: of}})
			return err
		},
		"write its status": func(of string) error {
			return c.UpdateNodeStatus(ctx, of, func(n *corev1.Node) corev1.NodeStatus { return n.Status })
		},
		"renew its lease": func(of string) error {
			return c.RenewLease(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: of}})
		},
	} {
		if err := do("mine"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := do("other"); !apierrors.IsForbidden(err) {
			t.Errorf("%s of another's: %v", what, err)
		}
	}
	if err := c.WatchPods(ctx, "other", func(agent.PodChanges) {}); !apierrors.IsForbidden(err) {
		t.Errorf("watch the pods of another: %v", err)
	}
	if err := c.DeletePod(ctx, runner.PodRef{Namespace: "default", Name: "other", UID: "uid-x"}); !apierrors.IsForbidden(err) {
		t.Errorf("delete a pod of another: %v", err)
	}
	if err := c.RenewLease(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine"}}); !apierrors.IsForbidden(err) {
		t.Errorf("renew a lease elsewhere: %v", err)
	}
}
