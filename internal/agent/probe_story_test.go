package agent

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
)

// execProbe is a probe by command, every second, that fails at the first failure.
func execProbe(command string) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{command}}},
		PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 1,
	}
}

func fine([]string) (runner.ExecResult, error) { return runner.ExecResult{}, nil }

func TestLiveness(t *testing.T) {
	story(t, func(b *bench) {
		born := time.Now()
		b.run.scripts["c"] = []script{
			{onTerm: -1, exec: func([]string) (runner.ExecResult, error) {
				if time.Since(born) < 5*time.Second {
					return runner.ExecResult{}, nil
				}
				return runner.ExecResult{ExitCode: 1, Output: []byte("dead")}, nil
			}},
			{exec: fine},
		}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			probe := execProbe("alive")
			probe.FailureThreshold, probe.TerminationGracePeriodSeconds = 3, ptr.To[int64](4)
			p.Spec.Containers[0].LivenessProbe = probe
		}))
		after(4 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0")
		after(6 * time.Second) // fails at 5, 6 and 7, killed at 11
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0")
		after(2 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=1")
		if last := state(&b.get("p").Status, "c").LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
			t.Errorf("last state: %+v", last)
		}
		b.wantEvents("Unhealthy: Liveness probe failed: dead", "Killing: Container c failed liveness probe, will be restarted", "Started: Container started")
	})
}

func TestStartupProbeFails(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{exec: func(args []string) (runner.ExecResult, error) {
			if args[0] == "ready" {
				t.Error("the readiness probe ran before the startup probe succeeded")
			}
			return runner.ExecResult{ExitCode: 1}, nil
		}}}
		b.put(testPod("p", func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.StartupProbe, c.ReadinessProbe = execProbe("up"), execProbe("ready")
			c.StartupProbe.InitialDelaySeconds, c.StartupProbe.FailureThreshold = 5, 2
		}))
		after(4 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=false restarts=0")
		if s := state(&b.get("p").Status, "c"); *s.Started {
			t.Error("started before the startup probe succeeded")
		}
		after(3 * time.Second)
		b.want("p", corev1.PodFailed, "c", "ended 143 Error restarts=0")
		b.wantEvents("Killing: Container c failed startup probe")
	})
}

func TestReadiness(t *testing.T) {
	story(t, func(b *bench) {
		type answer struct {
			runner.ExecResult
			err error
		}
		var now atomic.Pointer[answer]
		b.run.scripts["c"] = []script{{exec: func([]string) (runner.ExecResult, error) { return now.Load().ExecResult, now.Load().err }}}
		now.Store(&answer{})
		b.put(testPod("p", func(p *corev1.Pod) {
			probe := execProbe("ready")
			probe.InitialDelaySeconds, probe.SuccessThreshold, probe.FailureThreshold = 2, 2, 2
			p.Spec.Containers[0].ReadinessProbe = probe
		}))
		steps := []struct {
			answer runner.ExecResult
			fault  error
			wait   time.Duration
			ready  bool
		}{
			{wait: 2500 * time.Millisecond, ready: false}, // one success at 2 s
			{wait: time.Second, ready: true},
			{answer: runner.ExecResult{ExitCode: 1}, wait: time.Second, ready: true},
			{fault: errors.New("no such container"), wait: time.Second, ready: true}, // does not count
			{answer: runner.ExecResult{TimedOut: true}, wait: time.Second, ready: false},
			{wait: time.Second, ready: false},
			{wait: time.Second, ready: true},
		}
		for i, step := range steps {
			now.Store(&answer{step.answer, step.fault})
			after(step.wait)
			s := state(&b.get("p").Status, "c")
			if s.Ready != step.ready {
				t.Fatalf("step %d: ready=%v", i, s.Ready)
			}
		}
		b.wantEvents(`Unhealthy: Readiness probe failed: command timed out: "ready" timed out after 1s`)
	})
}

func TestPostStartFails(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{exec: func([]string) (runner.ExecResult, error) {
			time.Sleep(3 * time.Second)
			return runner.ExecResult{ExitCode: 1}, nil
		}}, {exec: fine}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"hook"}}}}
		}))
		after(2 * time.Second)
		b.want("p", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
		after(3 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=1")
		b.wantEvents("FailedPostStartHook: PostStartHook failed", "Killing: FailedPostStartHook")
	})
}

func TestPreStop(t *testing.T) {
	story(t, func(b *bench) {
		var hooks atomic.Int32
		b.run.scripts["c"] = []script{{exec: func([]string) (runner.ExecResult, error) {
			hooks.Add(1)
			time.Sleep(5 * time.Second)
			return runner.ExecResult{}, nil
		}}}
		b.run.scripts["d"] = []script{{exec: func([]string) (runner.ExecResult, error) {
			time.Sleep(time.Minute)
			return runner.ExecResult{}, nil
		}, onTerm: -1}}
		hook := &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"bye"}}}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.Containers[0].Lifecycle = hook }))
		b.put(testPod("q", func(p *corev1.Pod) {
			p.Spec.Containers[0].Name, p.Spec.Containers[0].Lifecycle = "d", hook
			p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](10)
		}))
		b.put(testPod("r", func(p *corev1.Pod) {
			p.Spec.Containers[0].Name = "e"
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}}
		}))
		after(time.Second)
		b.kill("p", -1)
		b.kill("q", -1)
		b.kill("r", -1)
		after(11 * time.Second)
		if b.get("q") == nil {
			t.Error("killed sooner than two seconds after its stop signal")
		}
		after(50 * time.Second)
		want := []string{"signal e 15", "end e 143", "signal c 15", "end c 143", "signal d 15", "signal d 9", "end d 137"}
		got := slices.DeleteFunc(b.run.traced(), func(s string) bool { return s == "release" })[3:]
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if hooks.Load() != 1 {
			t.Errorf("the hook ran %d times", hooks.Load())
		}
	})
}

func TestStopSignal(t *testing.T) {
	story(t, func(b *bench) {
		b.images.image.StopSignal = "3"
		b.put(testPod("p", nil))
		b.put(testPod("q", func(p *corev1.Pod) {
			p.Spec.Containers[0].Name = "d"
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGUSR1)}
		}))
		after(time.Second)
		b.kill("p", -1)
		after(time.Second)
		b.kill("q", -1)
		after(time.Second)
		got := b.run.traced()
		if !slices.Contains(got, "signal c 3") || !slices.Contains(got, "signal d 10") {
			t.Errorf("got %q", got)
		}
	})
}
