package agent

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// logs returns what Logs reads to its end, or its error.
func (b *bench) logs(pod string, opts *corev1.PodLogOptions) string {
	b.t.Helper()
	r, err := b.agent.Logs(context.Background(), b.get(pod), opts)
	if err != nil {
		return "error: " + err.Error()
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		b.t.Error(err)
	}
	return string(data)
}

func TestLogs(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{out: "first\n", runs: time.Second, code: 1}, {out: "second\nlast\n", runs: 10 * time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }))
		after(500 * time.Millisecond)
		if got := b.logs("p", &corev1.PodLogOptions{}); got != "first\n" {
			t.Errorf("running: got %q", got)
		}
		if got, want := b.logs("p", &corev1.PodLogOptions{Previous: true}), `error: previous terminated container "c" in pod "p" not found`; got != want {
			t.Errorf("no previous: got %q, want %q", got, want)
		}
		after(time.Second)
		if got := b.logs("p", &corev1.PodLogOptions{Previous: true}); got != "first\n" {
			t.Errorf("previous: got %q", got)
		}
		if got := b.logs("p", &corev1.PodLogOptions{TailLines: ptr.To[int64](1)}); got != "last\n" {
			t.Errorf("tail: got %q", got)
		}
		if got := b.logs("p", &corev1.PodLogOptions{Timestamps: true, LimitBytes: ptr.To[int64](4)}); got != "2000" {
			t.Errorf("timestamps: got %q", got)
		}
		after(time.Minute)
		b.want("p", corev1.PodSucceeded)
		if got := b.logs("p", &corev1.PodLogOptions{Follow: true, Container: "c"}); got != "second\nlast\n" {
			t.Errorf("ended: got %q", got)
		}
		if got, want := b.logs("p", &corev1.PodLogOptions{Container: "x"}), "error: container x is not valid for pod p"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestLogsOfWhatHasNotStarted(t *testing.T) {
	story(t, func(b *bench) {
		b.images.errs = []*ImageError{{Reason: ErrImagePull, Message: "no"}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{testContainer("i")}
			p.Spec.Containers = append(p.Spec.Containers, testContainer("d"))
		}))
		after(500 * time.Millisecond)
		for container, want := range map[string]string{
			"":  "error: a container name must be specified for pod p, choose one of: [c d] or one of the init containers: [i]",
			"i": `error: container "i" in pod "p" is waiting to start: image can't be pulled`,
			"c": `error: container "c" in pod "p" is waiting to start: PodInitializing`,
		} {
			if got := b.logs("p", &corev1.PodLogOptions{Container: container}); got != want {
				t.Errorf("%q: got %q, want %q", container, got, want)
			}
		}
		after(2 * time.Second)
		if got, want := b.logs("p", &corev1.PodLogOptions{Container: "i"}), `error: container "i" in pod "p" is waiting to start: trying and failing to pull image`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestLogsFollow cannot be told in a bubble: followers watch files.
func TestLogsFollow(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir())
	b.boot()
	defer b.close()
	b.run.scripts["c"] = []script{{out: "one\n", runs: 300 * time.Millisecond}}
	b.put(testPod("p", nil))
	deadline := time.Now().Add(10 * time.Second)
	for strings.HasPrefix(b.logs("p", &corev1.PodLogOptions{}), "error") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if got := b.logs("p", &corev1.PodLogOptions{Follow: true}); got != "one\n" {
		t.Errorf("got %q", got)
	}
}

func TestLogsOfWhatTheNodeWasNotYetToldOf(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{out: "short\n", runs: time.Millisecond}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
		after(time.Minute)
		b.want("p", corev1.PodSucceeded)
		behind := b.get("p").DeepCopy()
		behind.Status = corev1.PodStatus{Phase: corev1.PodPending}
		b.agent.mu.Lock()
		b.agent.pods[behind.UID].pod = behind
		b.agent.mu.Unlock()
		if got := b.logs("p", &corev1.PodLogOptions{Follow: true}); got != "short\n" {
			t.Errorf("got %q", got)
		}
	})
}
