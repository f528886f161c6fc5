package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/runner"
)

const gi = 1 << 30

// nodeCondition returns the status and the reason of a condition of the node.
func (b *bench) nodeCondition(t corev1.NodeConditionType) string {
	b.fakeClient.mu.Lock()
	defer b.fakeClient.mu.Unlock()
	for _, c := range b.nodes["n1"].Status.Conditions {
		if c.Type == t {
			return fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message)
		}
	}
	return "none"
}

// uses says what container c of a pod takes of the disk.
func (b *bench) uses(pod string, bytes int64) {
	b.run.SetUsage("uid-"+pod, runner.PodUsage{Containers: map[string]runner.DiskUsage{"uid-" + pod + "_c_0": {Bytes: bytes, Inodes: 1}}})
}

func TestDiskPressure(t *testing.T) {
	story(t, func(b *bench) {
		b.device.left(eviction.NodefsAvailable, 9*gi, 100*gi)
		for _, name := range []string{"small", "large", "other"} {
			b.put(testPod(name, nil))
		}
		after(time.Second)
		b.uses("small", 1<<20)
		b.uses("large", 3*gi-b.agent.services.files.LogUsage(RefOf(b.get("large")), "c").Bytes) // with its log
		b.uses("other", 2<<20)
		after(30 * time.Second)
		if got, want := b.nodeCondition(corev1.NodeDiskPressure), "False KubeletHasNoDiskPressure kubelet has no disk pressure"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		// Somebody takes nearly all; the largest pod goes, and that is enough.
		b.device.left(eviction.NodefsAvailable, gi/2, 100*gi)
		go func() {
			for b.run.left() == 3 {
				time.Sleep(10 * time.Millisecond)
			}
			b.device.left(eviction.NodefsAvailable, 4*gi, 100*gi)
		}()
		after(12 * time.Second)
		if got, want := b.nodeCondition(corev1.NodeDiskPressure), "True KubeletHasDiskPressure kubelet has disk pressure"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.want("large", corev1.PodFailed, "c", "ended 143 Error restarts=0")
		b.want("small", corev1.PodRunning)
		b.want("other", corev1.PodRunning)
		message := "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. " +
			"Container c was using 3Gi, request is 0, has larger consumption of ephemeral-storage. "
		if s := b.get("large").Status; s.Reason != "Evicted" || s.Message != message {
			t.Errorf("got %s: %q", s.Reason, s.Message)
		}
		if got, want := condition(b.get("large"), corev1.DisruptionTarget), strings.TrimSpace("True TerminationByKubelet "+message); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.wantEvents("EvictionThresholdMet: Attempting to reclaim ephemeral-storage", "Evicted: "+message)
		b.wantEvents("NodeHasDiskPressure: Node n1 status is now: NodeHasDiskPressure")

		// As long as the condition lasts, no pod is taken, but for those that the
		// system cannot do without.
		b.put(testPod("late", nil))
		b.put(testPod("vital", func(p *corev1.Pod) { p.Spec.Priority = new(int32); *p.Spec.Priority = 2000001000 }))
		after(time.Second)
		b.want("vital", corev1.PodRunning)
		b.want("late", corev1.PodFailed)
		if s := b.get("late").Status; s.Reason != "Evicted" || s.Message != "Pod was rejected: The node had condition: [DiskPressure]. " || len(s.ContainerStatuses) > 0 {
			t.Errorf("got %+v", s)
		}
		b.wantEvents("Evicted: The node had condition: [DiskPressure]. ")
		if got := condition(b.get("late"), corev1.DisruptionTarget); got != "none" {
			t.Errorf("got %q", got)
		}

		after(5 * time.Minute)
		if got, want := b.nodeCondition(corev1.NodeDiskPressure), "False KubeletHasNoDiskPressure kubelet has no disk pressure"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.wantEvents("NodeHasNoDiskPressure: Node n1 status is now: NodeHasNoDiskPressure")
		b.put(testPod("later", nil))
		after(time.Second)
		b.want("later", corev1.PodRunning)
	})
}

// TestReclaimIsEnough: no pod is evicted when unused images make room.
func TestReclaimIsEnough(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", nil))
		b.images.reclaim = func() { b.device.left(eviction.NodefsAvailable, 9*gi, 100*gi) }
		after(15 * time.Second)
		b.device.left(eviction.NodefsAvailable, 1, 100*gi)
		after(15 * time.Second)
		b.want("p", corev1.PodRunning)
		if got := b.nodeCondition(corev1.NodeDiskPressure); !strings.HasPrefix(got, "True") {
			t.Errorf("got %q", got)
		}
	})
}

// TestOneEvictionAtATime: the next one waits until the files of the one before
// are gone.
func TestOneEvictionAtATime(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{onTerm: -1}} // each needs its two seconds
		for _, name := range []string{"a", "b", "d"} {
			b.put(testPod(name, nil))
		}
		after(time.Second)
		b.device.left(eviction.NodefsInodesFree, 1, 1000)
		failed := func() (n int) {
			for _, name := range []string{"a", "b", "d"} {
				if b.get(name).Status.Phase == corev1.PodFailed {
					n++
				}
			}
			return n
		}
		after(10 * time.Second)
		for i := range 3 {
			after(2 * time.Second)
			if got := failed(); got > i+1 {
				t.Errorf("%d evicted after %d seconds", got, 10+2*(i+1))
			}
		}
		after(10 * time.Second)
		if got := failed(); got != 3 {
			t.Errorf("%d evicted", got)
		}
	})
}

func TestMemoryPressure(t *testing.T) {
	story(t, func(b *bench) {
		request := func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}
		}
		b.put(testPod("modest", request))
		after(time.Second)
		b.put(testPod("greedy", nil))
		after(time.Second)
		list, _ := b.run.List(t.Context())
		b.device.use = map[int]eviction.Use{}
		for _, st := range list {
			b.device.use[st.PID] = eviction.Use{Memory: 512 << 20, Processes: 1}
		}
		b.device.left(eviction.MemoryAvailable, 50<<20, 4*gi)
		go func() {
			for b.run.left() == 2 {
				time.Sleep(10 * time.Millisecond)
			}
			b.device.left(eviction.MemoryAvailable, gi, 4*gi)
		}()
		after(15 * time.Second)
		b.want("modest", corev1.PodRunning)
		message := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. " +
			"Container c was using 512Mi, request is 0, has larger consumption of memory. "
		if s := b.get("greedy").Status; s.Phase != corev1.PodFailed || s.Message != message {
			t.Errorf("got %s %q", s.Phase, s.Message)
		}
		if got, want := b.nodeCondition(corev1.NodeMemoryPressure), "True KubeletHasInsufficientMemory kubelet has insufficient memory available"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.put(testPod("best-effort", nil))
		b.put(testPod("burstable", request))
		after(time.Second)
		b.want("best-effort", corev1.PodFailed)
		b.want("burstable", corev1.PodRunning)
	})
}

func TestPIDPressure(t *testing.T) {
	story(t, func(b *bench) {
		b.device.left(eviction.PIDAvailable, 5, 32768)
		after(11 * time.Second)
		if got, want := b.nodeCondition(corev1.NodePIDPressure), "True KubeletHasInsufficientPID kubelet has insufficient PID available"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestPressureFromTheBeginning: a node that starts on a full disk takes no pod
// before it knows.
func TestPressureFromTheBeginning(t *testing.T) {
	story(t, func(b *bench) {
		b.device.left(eviction.NodefsAvailable, 1, 100*gi)
		b.stop()
		b.put(testPod("p", nil))
		b.boot()
		after(time.Second)
		b.want("p", corev1.PodFailed)
		if got := b.nodeCondition(corev1.NodeDiskPressure); !strings.HasPrefix(got, "True") {
			t.Errorf("got %q", got)
		}
	})
}

// TestRunningPodsAreNotRefused: a restart of the node under pressure does not end
// what it has taken before.
func TestRunningPodsAreNotRefused(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", nil))
		after(time.Second)
		b.stop()
		b.device.first = eviction.Observations{eviction.NodefsAvailable: {Available: 1, Capacity: 100 * gi}}
		b.boot()
		after(time.Second)
		if got := b.nodeCondition(corev1.NodeDiskPressure); !strings.HasPrefix(got, "True") {
			t.Errorf("got %q", got)
		}
		b.want("p", corev1.PodRunning)
	})
}

// TestLocalStorage: what counts is the writable layer, the log, and the small
// files; a limit of one's own is no disruption.
func TestLocalStorage(t *testing.T) {
	limited := func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("10Mi")}
	}
	pod := "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
	for name, test := range map[string]struct {
		fill    func(b *bench)
		message string
	}{
		"layer": {func(b *bench) { b.uses("p", 11<<20) }, pod},
		"below": {func(b *bench) { b.uses("p", 9<<20) }, ""},
		"log": {func(b *bench) {
			writeTestFile(b.agent.services.files.Log(RefOf(b.get("p")), "c", 0), strings.Repeat("x", 11<<20))
		}, pod},
		"hosts": {func(b *bench) {
			b.uses("p", 9<<20)
			writeTestFile(filepath.Join(b.agent.services.files.EtcDir(), "uid-p.hosts"), strings.Repeat("x", 2<<20))
		}, pod},
		"termination message": {func(b *bench) {
			b.uses("p", 9<<20)
			writeTestFile(b.agent.services.files.TerminationLog("uid-p_c_0"), strings.Repeat("x", 2<<20))
		}, pod},
		"volume": {func(b *bench) {
			b.run.SetUsage("uid-p", runner.PodUsage{Volumes: map[string]runner.DiskUsage{"v": {Bytes: 11 << 20}}})
		}, pod},
		"one container": {func(b *bench) {
			b.run.SetUsage("uid-p", runner.PodUsage{Containers: map[string]runner.DiskUsage{"uid-p_c_0": {Bytes: 11 << 20}, "uid-p_d_0": {Bytes: 1}}})
		}, `Container c exceeded its local ephemeral storage limit "10Mi". `},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			story(t, func(b *bench) {
				b.put(testPod("p", func(p *corev1.Pod) {
					limited(p)
					if name == "one container" {
						d := testContainer("d")
						d.Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("90Mi")}
						p.Spec.Containers = append(p.Spec.Containers, d)
					}
				}))
				after(time.Second)
				b.want("p", corev1.PodRunning)
				test.fill(b)
				after(11 * time.Second)
				if test.message == "" {
					b.want("p", corev1.PodRunning)
					return
				}
				b.want("p", corev1.PodFailed, "c", "ended 143 Error restarts=0")
				if s := b.get("p").Status; s.Reason != "Evicted" || s.Message != test.message {
					t.Errorf("got %s: %q", s.Reason, s.Message)
				}
				if got := condition(b.get("p"), corev1.DisruptionTarget); got != "none" {
					t.Errorf("got %q", got)
				}
				b.wantEvents("Evicted: " + test.message)
			})
		})
	}
}

// slow is a runner that takes its time to measure.
type slow struct {
	*fakeRunner
	takes time.Duration
	asked []time.Time
}

func (s *slow) Usage(ctx context.Context, uid string) (runner.PodUsage, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	s.mu.Unlock()
	if !sleep(ctx, s.takes) {
		return runner.PodUsage{}, ctx.Err()
	}
	return s.fakeRunner.Usage(ctx, uid)
}

// TestMeasuringIsCheap: pods without limits are not measured at all, one that
// takes long less often, and never more than two at once.
func TestMeasuringIsCheap(t *testing.T) {
	story(t, func(b *bench) {
		s := &slow{fakeRunner: b.run, takes: 2 * time.Second}
		b.agent.services.Runners[runner.Sandbox] = s
		for i := range 20 {
			b.put(testPod(fmt.Sprintf("free-%d", i), nil))
		}
		after(time.Minute)
		if len(s.asked) > 0 {
			t.Errorf("measured %d times without a limit", len(s.asked))
		}
		for i := range 4 {
			b.put(testPod(fmt.Sprintf("p%d", i), func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("10Mi")}
			}))
		}
		after(10 * time.Minute)
		n := len(s.asked)
		if n < 4*10 || n > 4*16 { // two seconds of forty
			t.Errorf("measured %d times", n)
		}
		slices.SortFunc(s.asked, time.Time.Compare)
		for i := 2; i < n; i++ {
			if s.asked[i].Sub(s.asked[i-2]) < 2*time.Second {
				t.Fatalf("three at once: %v", s.asked[i-2:i+1])
			}
		}
	})
}

// TestUnmeasuredPodStays: that a pod cannot be measured does not end it.
func TestUnmeasuredPodStays(t *testing.T) {
	story(t, func(b *bench) {
		b.agent.services.Runners[runner.Sandbox] = failing{b.run}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("10Mi")}
		}))
		after(time.Minute)
		b.want("p", corev1.PodRunning)
	})
}

type failing struct{ *fakeRunner }

func (failing) Usage(context.Context, string) (runner.PodUsage, error) {
	return runner.PodUsage{}, errors.New("no")
}

// TestCutIsTold: the pod hears of it when its hosts file is cut off.
func TestCutIsTold(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", nil))
		after(time.Second)
		b.agent.truncated(filepath.Join(b.dir, "etc", "uid-p.hosts"))
		b.agent.truncated(filepath.Join(b.dir, "etc", "uid-gone.hosts"))
		b.agent.truncated(filepath.Join(b.dir, "termination", "uid-p_c_0"))
		b.wantEvents("FileTruncated: /etc/hosts is longer than 1048576 bytes: the rest was cut off")
		n := 0
		for _, ev := range b.events() {
			if strings.HasPrefix(ev, "FileTruncated") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}
