package control

import (
	"context"
	"log/slog"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// listen has nodes listened to from now on, until the bubble ends.
func (b *bundle) listen(grace time.Duration) (vigil *Vigil, stop func()) {
	log := slog.New(slog.DiscardHandler)
	vigil = &Vigil{}
	vigil.Begin(time.Now())
	loop := New(Options{
		Source: FromStore(b.store), Kinds: b.kinds, Controllers: []Controller{healthController(Nodes{Grace: grace, Vigil: vigil})},
		Recorder: NewRecorder(b.store, "node", log), Logger: log, Workers: 2,
	})
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	return vigil, func() {
		cancel()
		<-done
	}
}

// lease makes the lease of a node, which was renewed last at a time.
func (b *bundle) lease(node string, renewed time.Time) {
	var set change.Set
	if key := kind.Namespaces.Key("", corev1.NamespaceNodeLease); at[*corev1.Namespace](b.store.View(), kind.Namespaces, "", key.Name) == nil {
		set.Create(key, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: key.Name}})
	}
	set.Create(kind.Leases.Key(corev1.NamespaceNodeLease, node), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: node},
		Spec:       coordinationv1.LeaseSpec{RenewTime: ptr.To(metav1.NewMicroTime(renewed))},
	})
	b.apply(set)
}

// theNode returns a node's Ready and the effects of its taint unreachable.
func (b *bundle) theNode(name string) (ready corev1.ConditionStatus, effects string) {
	node := at[*corev1.Node](b.store.View(), kind.Nodes, "", name)
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			ready = c.Status
		}
	}
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeUnreachable {
			effects += string(t.Effect)
		}
	}
	return ready, effects
}

// onNode returns the pods of a node, and how many of them are to go.
func (b *bundle) onNode(name string) (all, going int) {
	for _, p := range b.pods("default") {
		if p.Spec.NodeName == name {
			all++
			if p.DeletionTimestamp != nil {
				going++
			}
		}
	}
	return all, going
}

// TestLostNode: Kubernetes' periods, from the last that was heard of a node until its pods are
// elsewhere, and what becomes of them when it is back.
func TestLostNode(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		for _, name := range []string{"a", "b", "c"} {
			b.node(name)
		}
		begin := time.Now()
		b.lease("a", begin)
		b.lease("b", begin.Add(time.Hour))
		b.lease("c", begin.Add(time.Hour))
		job := newJob("j")
		b.create(job)
		b.settle()
		where := b.pods("default")[0].Spec.NodeName
		if where != "a" {
			t.Fatalf("the first pod is on %q", where)
		}
		patient := []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](300)}}
		b.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bare"}, Spec: corev1.PodSpec{
			NodeName: "a", Tolerations: patient, TerminationGracePeriodSeconds: ptr.To[int64](30),
		}})
		b.end("default", corev1.PodRunning) // they run, so that somebody has to confirm their ends
		_, stop := b.listen(50 * time.Second)
		defer stop()
		until := func(after time.Duration) { time.Sleep(time.Until(begin.Add(after))) }

		until(49 * time.Second)
		if ready, effects := b.theNode("a"); ready != corev1.ConditionTrue || effects != "" {
			t.Errorf("before its time: %s, %s", ready, effects)
		}
		until(53 * time.Second)
		if ready, effects := b.theNode("a"); ready != corev1.ConditionUnknown || effects != "NoScheduleNoExecute" {
			t.Errorf("after its time: %s, %s", ready, effects)
		}
		if ready, effects := b.theNode("b"); ready != corev1.ConditionTrue || effects != "" {
			t.Errorf("another node: %s, %s", ready, effects)
		}
		until(340 * time.Second)
		if all, going := b.onNode("a"); all != 2 || going != 0 {
			t.Errorf("as long as they tolerate it: %d of %d go", going, all)
		}
		until(380 * time.Second)
		if all, going := b.onNode("a"); all != 2 || going != 2 {
			t.Errorf("when they no longer do: %d of %d go", going, all)
		}
		pods := b.pods("default")
		if len(pods) != 3 {
			t.Fatalf("%d pods: the Job's is to be replaced, the bare one not", len(pods))
		}

		b.update(kind.Nodes.Key("", "a"), func(obj change.Object) {
			node := obj.(*corev1.Node)
			node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
		})
		b.settle()
		if ready, effects := b.theNode("a"); ready != corev1.ConditionTrue || effects != "" {
			t.Errorf("when it is back: %s, %s", ready, effects)
		}
	})
}

// TestListening: a node is not lost because nobody listened.
func TestListening(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.node("a")
		b.lease("a", time.Now())
		time.Sleep(time.Hour)
		vigil, stop := b.listen(50 * time.Second)
		defer stop()
		time.Sleep(49 * time.Second)
		if ready, _ := b.theNode("a"); ready != corev1.ConditionTrue {
			t.Errorf("it is %s at once", ready)
		}
		vigil.Begin(time.Now()) // the clock was set
		time.Sleep(49 * time.Second)
		if ready, _ := b.theNode("a"); ready != corev1.ConditionTrue {
			t.Errorf("it is %s after the clock was set", ready)
		}
		time.Sleep(5 * time.Second)
		if ready, effects := b.theNode("a"); ready != corev1.ConditionUnknown || effects != "NoSchedule" {
			t.Errorf("it is %s, %s: the only one loses no pods", ready, effects)
		}
	})
}
