package agent

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/sampan-batch/sampan/internal/runner"
)

// resources are requests and limits: "cpu=1 memory=1Gi".
func resources(words string) corev1.ResourceRequirements {
	list := corev1.ResourceList{}
	for _, word := range strings.Fields(words) {
		name, amount, _ := strings.Cut(word, "=")
		list[corev1.ResourceName(name)] = resource.MustParse(amount)
	}
	return corev1.ResourceRequirements{Requests: list, Limits: list}
}

// sized is a pod that asks for resources.
func sized(name, words string, edit func(*corev1.Pod)) *corev1.Pod {
	return testPod(name, func(p *corev1.Pod) {
		p.Generation = 1
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		p.Spec.Containers[0].Resources = resources(words)
		if edit != nil {
			edit(p)
		}
	})
}

// resize has a pod ask for other resources, as `kubectl patch --subresource resize` does.
func (b *bench) resize(pod, words string) {
	next := b.get(pod).DeepCopy()
	next.Generation++
	next.Spec.Containers[0].Resources = resources(words)
	b.put(next)
}

// size is what the status says of a pod's resources, and of its resize.
func (b *bench) size(pod string) string {
	s := b.get(pod).Status
	c := s.ContainerStatuses[0]
	text := "has " + c.Resources.Requests.Cpu().String() + "," + c.Resources.Limits.Memory().String() +
		" of " + c.AllocatedResources.Cpu().String() + "," + c.AllocatedResources.Memory().String()
	for _, c := range s.Conditions {
		if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
			text += "; " + strings.TrimSpace(string(c.Type)+" "+c.Reason+" "+c.Message)
		}
	}
	return text
}

func (b *bench) wantSize(pod, want string) {
	b.t.Helper()
	if got := b.size(pod); got != want {
		b.t.Errorf("%s %s, want %s", pod, got, want)
	}
}

// limits are what the runner's container has.
func (b *bench) limits(id string) runner.Resources {
	for _, s := range b.run.specs {
		if s.ID == id {
			return s.Resources
		}
	}
	return runner.Resources{}
}

// roomy gives the node resources, as the bench has none by itself.
func roomy(t *testing.T, f func(b *bench)) {
	story(t, func(b *bench) {
		b.allocatable = resources("cpu=4 memory=4Gi").Limits
		b.reboot(0)
		f(b)
	})
}

func TestResize(t *testing.T) {
	roomy(t, func(b *bench) {
		b.put(sized("p", "cpu=1 memory=1Gi", nil))
		after(time.Second)
		b.wantSize("p", "has 1,1Gi of 1,1Gi")
		b.resize("p", "cpu=2 memory=512Mi")
		after(time.Second)
		b.wantSize("p", "has 2,512Mi of 2,512Mi")
		if r := b.limits("uid-p_c_0"); r.CPUQuota != 200_000 || r.CPUShares != 2048 || r.MemoryLimit != 512<<20 {
			t.Errorf("got %+v", r)
		}
		b.wantEvents(
			`ResizeStarted: Pod resize started: {"containers":[{"name":"c","resources":{"limits":{"cpu":"2","memory":"512Mi"},"requests":{"cpu":"2","memory":"512Mi"}}}],"generation":2}`,
			`ResizeCompleted: Pod resize completed: {"containers":[{"name":"c","resources":{"limits":{"cpu":"2","memory":"512Mi"},"requests":{"cpu":"2","memory":"512Mi"}}}],"generation":2}`)
		if got := b.get("p").Status; got.ObservedGeneration != 2 || got.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("got %+v", got)
		}
		b.reboot(time.Minute)
		after(time.Second)
		b.wantSize("p", "has 2,512Mi of 2,512Mi")
	})
}

// What there is no room for waits until there is.
func TestResizeDeferred(t *testing.T) {
	roomy(t, func(b *bench) {
		b.put(sized("p", "cpu=1 memory=1Gi", nil))
		b.put(sized("q", "cpu=2 memory=1Gi", nil))
		after(time.Second)
		b.resize("p", "cpu=3 memory=1Gi")
		after(time.Second)
		const waits = "has 1,1Gi of 1,1Gi; PodResizePending Deferred Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"
		b.wantSize("p", waits)
		b.wantEvents(`ResizeDeferred: Pod resize Deferred: {"containers":[{"name":"c","resources":{"limits":{"cpu":"3","memory":"1Gi"},"requests":{"cpu":"3","memory":"1Gi"}}}],"generation":2,"error":"Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"}`)
		// What it asks for in vain, others can have.
		b.resize("q", "cpu=3 memory=1Gi")
		after(time.Second)
		b.wantSize("q", "has 3,1Gi of 3,1Gi")
		b.reboot(time.Minute)
		after(time.Second)
		b.wantSize("p", "has 1,1Gi of 1,1Gi; PodResizePending Deferred Node didn't have enough resource: cpu, requested: 3000, used: 3000, capacity: 4000")
		if r := b.limits("uid-p_c_0"); r.CPUQuota != 100_000 {
			t.Errorf("got %+v", r)
		}
		b.resize("q", "cpu=1 memory=1Gi")
		after(resizeRetry + time.Second)
		b.wantSize("p", "has 3,1Gi of 3,1Gi")
		// Asking no more ends the wait.
		b.resize("q", "cpu=2 memory=1Gi")
		after(time.Second)
		if !strings.Contains(b.size("q"), "Deferred") {
			t.Errorf("q %s", b.size("q"))
		}
		b.resize("q", "cpu=1 memory=1Gi")
		after(time.Second)
		b.wantSize("q", "has 1,1Gi of 1,1Gi")
	})
}

// Less memory than is used is an error, that ends when less is used, or more is asked for.
func TestResizeBelowUsage(t *testing.T) {
	roomy(t, func(b *bench) {
		b.run.scripts["c"] = []script{{memory: 600 << 20}}
		b.put(sized("p", "cpu=1 memory=1Gi", nil))
		after(time.Second)
		b.resize("p", "cpu=1 memory=512Mi")
		after(time.Second)
		const failed = `PodResizeInProgress Error cannot decrease memory limits: attempting to set container "c" memory limit (536870912) below current usage (629145600)`
		b.wantSize("p", "has 1,1Gi of 1,512Mi; "+failed)
		writes := len(b.history["p"])
		after(time.Minute)
		if n := len(b.history["p"]); n != writes {
			t.Errorf("%d statuses were written meanwhile", n-writes)
		}
		b.reboot(time.Second)
		after(time.Minute)
		b.wantSize("p", "has 1,1Gi of 1,512Mi; "+failed)
		b.resize("p", "cpu=1 memory=700Mi")
		after(time.Second)
		b.wantSize("p", "has 1,700Mi of 1,700Mi")
	})
}

// A container whose policy says so is started again, with what was granted.
func TestResizeByRestart(t *testing.T) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure} {
		t.Run(string(policy), func(t *testing.T) {
			roomy(t, func(b *bench) {
				b.run.scripts["c"] = []script{{onTerm: time.Second}}
				b.put(sized("p", "cpu=1 memory=1Gi", func(p *corev1.Pod) {
					p.Spec.RestartPolicy = policy
					p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{
						{ResourceName: "cpu", RestartPolicy: corev1.NotRequired}, {ResourceName: "memory", RestartPolicy: corev1.RestartContainer}}
				}))
				after(time.Second)
				b.resize("p", "cpu=2 memory=1Gi")
				after(time.Second)
				b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0")
				b.wantSize("p", "has 2,1Gi of 2,1Gi")
				b.resize("p", "cpu=2 memory=2Gi")
				after(time.Second / 2)
				b.wantSize("p", "has 2,1Gi of 2,2Gi; PodResizeInProgress")
				after(2 * time.Second)
				b.want("p", corev1.PodRunning, "c", "running ready=true restarts=1")
				b.wantSize("p", "has 2,2Gi of 2,2Gi")
				b.wantEvents("Killing: Container c resize requires restart")
				if r := b.limits("uid-p_c_1"); r.MemoryLimit != 2<<30 {
					t.Errorf("started with %+v", r)
				}
			})
		})
	}
}

// What changes while the container starts, waits, or while nobody looks, is not lost.
func TestResizeAtAnyTime(t *testing.T) {
	roomy(t, func(b *bench) {
		b.images.slow = func(ImageRequest) { time.Sleep(10 * time.Second) }
		b.put(sized("p", "cpu=1 memory=1Gi", nil))
		after(time.Second)
		b.resize("p", "cpu=2 memory=1Gi")
		after(20 * time.Second)
		b.images.slow = nil
		b.wantSize("p", "has 2,1Gi of 2,1Gi")
		if r := b.limits("uid-p_c_0"); r.CPUQuota != 200_000 {
			t.Errorf("got %+v", r)
		}
		b.stop()
		b.resize("p", "cpu=3 memory=1Gi")
		b.boot()
		after(time.Second)
		b.wantSize("p", "has 3,1Gi of 3,1Gi")
		if r := b.limits("uid-p_c_0"); r.CPUQuota != 300_000 {
			t.Errorf("got %+v", r)
		}
		next := b.get("p").DeepCopy()
		next.Generation++
		whole := resources("cpu=1")
		next.Spec.Resources, next.Spec.Containers[0].Resources = &whole, resources("cpu=1 memory=1Gi")
		b.put(next)
		after(time.Second)
		b.wantSize("p", "has 3,1Gi of 3,1Gi; PodResizePending Infeasible In-place resize of pod-level resources is not supported on this node")
		b.kill("p", 1)
		after(10 * time.Second)
		if b.get("p") != nil {
			t.Error("it does not end")
		}
	})
}
