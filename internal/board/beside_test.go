package board

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// ofDeployment is a pod of a Deployment, by way of its set.
func ofDeployment(deployment, name, state string) *corev1.Pod {
	p := aPod(nil, name, state)
	p.Labels = map[string]string{"pod-template-hash": "7d9f"}
	set := deployment + "-7d9f"
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: set, UID: types.UID("u-" + set), Controller: ptr.To(true)}}
	return p
}

func readyPod(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	return p
}

// The works wait for what they may need: until it is ready, has failed, or stands still.
func TestAwaited(t *testing.T) {
	t.Parallel()
	b := New(t0, true)
	b.Queue(aJob("j", 1))
	b.Beside(t0, "Deployment", "default", "redis", 2)
	b.Beside(t0, "Pod", "default", "helper", 1)
	b.Beside(t0, "StatefulSet", "default", "none", 0)
	is := func(at float64, want string) {
		t.Helper()
		if got := b.Awaited(after(at)); got != want {
			t.Errorf("at %v: waits for %q, want %q", at, got, want)
		}
	}
	is(0, "deployment/redis, pod/helper")
	if line := b.Line(after(1), 0); !strings.Contains(line, "1 queued, waiting for deployment/redis, pod/helper") {
		t.Errorf("got %q", line)
	}
	b.Pod(after(1), readyPod(ofDeployment("redis", "redis-7d9f-a", "running")), false)
	b.Pod(after(1), readyPod(aPod(nil, "helper", "running")), false)
	is(1.1, "deployment/redis, pod/helper") // Services do not lead there yet
	is(1.5, "deployment/redis")
	b.Pod(after(2), ofDeployment("redis", "redis-7d9f-b", "ContainerCreating"), false)
	is(50, "deployment/redis") // its containers are not there yet
	b.Pod(after(52), readyPod(ofDeployment("redis", "redis-7d9f-b", "running")), false)
	is(52.5, "")
	b.Pod(after(53), ofDeployment("redis", "redis-7d9f-b", "running"), false)
	is(53, "") // once is enough
	if state := b.state(); state != (state0) || !b.IsBeside(ofDeployment("redis", "x", "running")) || b.IsBeside(aPod(aJob("j", 1), "j-x", "running")) {
		t.Errorf("pods beside count as works': %+v", state)
	}

	b = New(t0, true)
	b.Beside(t0, "Deployment", "default", "web", 1) // which needs the Job to become ready
	b.Pod(after(1), ofDeployment("web", "web-7d9f-a", "running"), false)
	b.Event(after(2), &corev1.Event{InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web-7d9f-a", UID: "u-web-7d9f-a"}, Type: "Warning", Reason: "Unhealthy", Message: "Readiness probe failed: no"})
	is(10.9, "deployment/web")
	if news := b.News(after(11), true); len(news) > 0 {
		t.Errorf("got %q", news)
	}
	is(11.1, "")
	if news := b.News(after(12), true); !slices.Equal(news, []string{"… deployment/web is not ready: Readiness probe failed: no; it is not waited for any longer"}) {
		t.Errorf("got %q", news)
	}
}

var state0 state

// What keeps a companion from starting, or ends it, is told; it is no failure of the run, and
// nobody waits for it.
func TestTroubleBeside(t *testing.T) {
	t.Parallel()
	restarted := ofDeployment("web", "web-7d9f-a", "running")
	restarted.Status.ContainerStatuses[0].RestartCount = 1
	restarted.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 7}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"never starts": {ofDeployment("web", "web-7d9f-a", "CreateContainerConfigError"), "✗ deployment/web cannot start, and who needs it waits in vain: pod web-7d9f-a "},
		"restarts":     {restarted, "✗ pod web-7d9f-a: main exited with 7"},
		"ends":         {ofDeployment("web", "web-7d9f-a", "3"), "✗ pod web-7d9f-a: main exited with 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := New(t0, true)
			b.Queue(aJob("j", 1))
			b.Beside(t0, "Deployment", "default", "web", 1)
			for range 3 {
				b.Pod(after(0.1), c.pod, false)
				b.Look(after(3))
			}
			if news := b.News(after(4), true); len(news) != 1 || !strings.HasPrefix(news[0], c.want) {
				t.Errorf("got %q", news)
			}
			if b.Awaited(after(4)) != "" || b.HasFailed() || b.Moved() != 0 || len(b.PodsEnded(after(4), true)) > 0 {
				t.Error("it is waited for, or counts")
			}
			b.Pod(after(5), c.pod, true)
			if pods := b.PodsBeside(); len(pods) > 0 {
				t.Errorf("got %v", pods)
			}
		})
	}

	b := New(t0, true)
	b.Beside(t0, "Deployment", "default", "web", 1)
	refused := &corev1.Event{InvolvedObject: corev1.ObjectReference{Kind: "ReplicaSet", Name: "web-7d9f", UID: "u"}, Reason: "FailedCreate", Message: "forbidden", Type: "Warning"}
	b.Event(after(1), refused)
	if news := b.News(after(4), true); !slices.Equal(news, []string{"… deployment/web gets no pod: forbidden"}) || b.Awaited(after(4)) != "" {
		t.Errorf("got %q", news)
	}
}
