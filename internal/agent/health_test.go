package agent

import (
	"errors"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
)

// fakeHealth is as well as it is said to be.
type fakeHealth struct {
	mu             sync.Mutex
	runtimes, disk error
}

func (h *fakeHealth) set(runtimes, disk error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runtimes, h.disk = runtimes, disk
}

func (h *fakeHealth) Runtimes() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runtimes
}

func (h *fakeHealth) Disk() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.disk
}

// TestNodeIsAsItsRuntimesAre: a node that cannot start containers says so and why,
// and that it can again.
func TestNodeIsAsItsRuntimesAre(t *testing.T) {
	story(t, func(b *bench) {
		b.health.set(errors.New("the supervisor of class host, process 7, does not answer"), nil)
		after(11 * time.Second)
		want := "False KubeletNotReady container runtime is down: the supervisor of class host, process 7, does not answer"
		if got := b.nodeCondition(corev1.NodeReady); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.wantEvents("NodeNotReady: Node n1 status is now: NodeNotReady")
		if got := b.nodeCondition(corev1.NodeDiskPressure); got != "False KubeletHasNoDiskPressure kubelet has no disk pressure" {
			t.Errorf("the disk: %q", got)
		}
		b.health.set(nil, nil)
		after(2 * time.Second)
		if got := b.nodeCondition(corev1.NodeReady); got != "True KubeletReady kubelet is posting ready status" {
			t.Errorf("again: %q", got)
		}
		b.wantEvents("NodeReady: Node n1 status is now: NodeReady")
	})
}

// TestDiskThatTakesNothing: a disk that refuses what is written (a quota, a file
// system that has become read-only) is pressure, whatever it says of its room; and
// nobody is evicted for what no eviction helps against.
func TestDiskThatTakesNothing(t *testing.T) {
	story(t, func(b *bench) {
		b.device.left(eviction.NodefsAvailable, 90*gi, 100*gi)
		b.put(testPod("p", nil))
		after(time.Second)
		b.health.set(nil, errors.New("read-only file system"))
		after(11 * time.Second)
		if got := b.nodeCondition(corev1.NodeDiskPressure); got != "True KubeletHasDiskPressure kubelet has disk pressure" {
			t.Errorf("got %q", got)
		}
		if got := b.nodeCondition(corev1.NodeReady); got != "True KubeletReady kubelet is posting ready status" {
			t.Errorf("ready: %q", got)
		}
		b.wantEvents("NodeHasDiskPressure: Node n1 status is now: NodeHasDiskPressure")
		after(time.Minute)
		b.want("p", corev1.PodRunning)
		b.health.set(nil, nil)
		after(2 * time.Second)
		if got := b.nodeCondition(corev1.NodeDiskPressure); got != "False KubeletHasNoDiskPressure kubelet has no disk pressure" {
			t.Errorf("again: %q", got)
		}
	})
}
