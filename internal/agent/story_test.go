package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
)

func writeTestFile(path, text string) {
	os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		panic(err)
	}
}

func TestShortPodIsOneWrite(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Millisecond}}
		b.put(testPod("p", nil))
		after(time.Second)
		b.want("p", corev1.PodSucceeded, "c", "ended 0 Completed restarts=0")
		if n := len(b.history["p"]); n != 1 {
			t.Errorf("got %d status writes, want 1", n)
		}
		want := []string{
			"Starting: Starting kubelet.",
			`Pulled: Container image "busybox:1" already present on machine and can be accessed by the pod`,
			"Created: Container created", "Started: Container started",
		}
		if got := b.events(); !slices.Equal(got, want) {
			t.Errorf("events: got %q", got)
		}
		if got, want := b.run.traced(), []string{"start c", "end c 0", "release"}; !slices.Equal(got, want) {
			t.Errorf("trace: got %q, want %q", got, want)
		}
		if b.run.left() != 0 {
			t.Error("the runner still has the container")
		}
	})
}

func TestExitCodes(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Second, code: 3}}
		b.put(testPod("p", nil))
		after(time.Second / 2)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0")
		if got := condition(b.get("p"), corev1.PodReady); got != "True" {
			t.Errorf("Ready: got %q", got)
		}
		after(time.Second)
		b.want("p", corev1.PodFailed, "c", "ended 3 Error restarts=0")
		pod := b.get("p")
		for kind, want := range map[corev1.PodConditionType]string{
			corev1.PodReadyToStartContainers: "False", corev1.PodInitialized: "True",
			corev1.PodReady: "False PodFailed", corev1.ContainersReady: "False PodFailed", corev1.PodScheduled: "True",
		} {
			if got := condition(pod, kind); got != want {
				t.Errorf("%s: got %q, want %q", kind, got, want)
			}
		}
		if pod.Status.PodIP != "192.0.2.1" || pod.Status.HostIP != "192.0.2.1" || pod.Status.StartTime == nil {
			t.Errorf("status: %+v", pod.Status)
		}
		if id := pod.Status.ContainerStatuses[0].ContainerID; id != "sampan://uid-p_c_0" {
			t.Errorf("container id: %s", id)
		}
	})
}

func TestRestartBackOff(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Second, code: 1}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }))
		after(4 * time.Second) // start, 1 s, start at once, 1 s, wait 10 s
		b.want("p", corev1.PodRunning, "c", "waiting CrashLoopBackOff restarts=1")
		c := state(&b.get("p").Status, "c")
		if got, want := c.State.Waiting.Message, "back-off 10s restarting failed container=c pod=p_ns(uid-p)"; got != want {
			t.Errorf("message: got %q, want %q", got, want)
		}
		if c.LastTerminationState.Terminated == nil || c.LastTerminationState.Terminated.ExitCode != 1 {
			t.Errorf("last state: %+v", c.LastTerminationState)
		}
		if got, want := condition(b.get("p"), corev1.ContainersReady), "False ContainersNotReady containers with unready status: [c]"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.wantEvents("BackOff: Back-off restarting failed container c in pod p_ns(uid-p)")
		after(30 * time.Minute)
		want := []int{1, 11, 21, 41, 81, 161, 301, 301, 301, 301}
		if got := b.run.startedAfter("c"); !slices.Equal(got[:len(want)], want) {
			t.Errorf("seconds between starts: got %v, want %v", got, want)
		}
		b.kill("p", 0)
		after(time.Second)
	})
}

func TestBackOffEndsWhenWell(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Second}, {runs: time.Second}, {runs: 11 * time.Minute}, {runs: time.Hour}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyAlways }))
		after(15 * time.Minute)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=3")
		if got, want := b.run.startedAfter("c"), []int{1, 11, 660}; !slices.Equal(got, want) {
			t.Errorf("seconds between starts: got %v, want %v", got, want)
		}
	})
}

func TestInitContainers(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["i1"] = []script{{runs: 2 * time.Second}}
		b.run.scripts["i2"] = []script{{runs: 2 * time.Second}}
		b.run.scripts["c"] = []script{{runs: 2 * time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{testContainer("i1"), testContainer("i2")}
		}))
		after(time.Second)
		b.want("p", corev1.PodPending, "i1", "running ready=false restarts=0", "i2", "waiting PodInitializing restarts=0", "c", "waiting PodInitializing restarts=0")
		if got, want := condition(b.get("p"), corev1.PodInitialized), "False ContainersNotInitialized containers with incomplete status: [i1 i2]"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		after(4 * time.Second)
		b.want("p", corev1.PodRunning, "i1", "ended 0 Completed restarts=0", "i2", "ended 0 Completed restarts=0", "c", "running ready=true restarts=0")
		if !state(&b.get("p").Status, "i1").Ready {
			t.Error("a completed init container is not ready")
		}
		after(2 * time.Second)
		b.want("p", corev1.PodSucceeded)
		if got, want := b.run.traced(), []string{"start i1", "end i1 0", "start i2", "end i2 0", "start c", "end c 0", "release"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestInitContainerFailsForGood(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["i1"] = []script{{runs: time.Second, code: 7}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{testContainer("i1")} }))
		after(2 * time.Second)
		b.want("p", corev1.PodFailed, "i1", "ended 7 Error restarts=0", "c", "waiting PodInitializing restarts=0")
	})
}

func TestInitContainerIsRetried(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["i1"] = []script{{runs: time.Second, code: 7}, {runs: time.Second, code: 7}, {runs: time.Second}}
		b.run.scripts["c"] = []script{{runs: time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			p.Spec.InitContainers = []corev1.Container{testContainer("i1")}
		}))
		after(5 * time.Second)
		b.want("p", corev1.PodPending, "i1", "waiting CrashLoopBackOff restarts=1")
		after(20 * time.Second)
		b.want("p", corev1.PodSucceeded, "i1", "ended 0 Completed restarts=2", "c", "ended 0 Completed restarts=0")
	})
}

func TestSidecars(t *testing.T) {
	story(t, func(b *bench) {
		var up atomic.Bool
		var successes atomic.Int32
		b.run.scripts["s1"] = []script{{exec: func([]string) (runner.ExecResult, error) {
			if up.Load() {
				successes.Add(1)
				return runner.ExecResult{}, nil
			}
			return runner.ExecResult{ExitCode: 1, Output: []byte("not yet")}, nil
		}}}
		b.run.scripts["s2"] = []script{{onTerm: time.Second}}
		b.run.scripts["c"] = []script{{runs: 10 * time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) {
			s1, s2 := sidecar("s1"), sidecar("s2")
			s1.StartupProbe = &corev1.Probe{
				ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"up"}}},
				PeriodSeconds: 1, FailureThreshold: 100, SuccessThreshold: 1, TimeoutSeconds: 1,
			}
			p.Spec.InitContainers = []corev1.Container{s1, s2}
		}))
		after(5 * time.Second)
		b.want("p", corev1.PodPending, "s1", "running ready=false restarts=0", "s2", "waiting PodInitializing restarts=0")
		b.wantEvents("Unhealthy: Startup probe failed: not yet")
		up.Store(true)
		after(2 * time.Second)
		b.want("p", corev1.PodRunning, "s1", "running ready=true restarts=0", "s2", "running ready=true restarts=0", "c", "running ready=true restarts=0")
		after(20 * time.Second)
		b.want("p", corev1.PodSucceeded, "c", "ended 0 Completed restarts=0", "s1", "ended 143 Error restarts=0", "s2", "ended 0 Completed restarts=0")
		if n := successes.Load(); n != 1 {
			t.Errorf("the startup probe succeeded %d times", n)
		}
		want := []string{"start s1", "start s2", "start c", "end c 0", "signal s2 15", "end s2 0", "signal s1 15", "end s1 143", "release"}
		if got := b.run.traced(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestSidecarIsRestarted(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["s"] = []script{{runs: 3 * time.Second}, {}}
		b.run.scripts["c"] = []script{{runs: 10 * time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{sidecar("s")} }))
		after(5 * time.Second)
		b.want("p", corev1.PodRunning, "s", "running ready=true restarts=1", "c", "running ready=true restarts=0")
		after(10 * time.Second)
		b.want("p", corev1.PodSucceeded, "s", "ended 143 Error restarts=1")
	})
}

func TestDeletion(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{onTerm: -1}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, testContainer("d")) }))
		after(time.Second)
		b.kill("p", -1)
		after(29 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0", "d", "ended 143 Error restarts=0")
		after(2 * time.Second)
		if b.get("p") != nil {
			t.Fatal("the pod is still there")
		}
		last := b.history["p"][len(b.history["p"])-1]
		if last.Phase != corev1.PodFailed || brief(state(&last, "c")) != "ended 137 Error restarts=0" {
			t.Errorf("last status: %+v", last)
		}
		b.wantEvents("Killing: Stopping container d")
		want := []string{"signal c 9", "end c 137", "release"}
		if got := b.run.traced(); !slices.Equal(got[len(got)-3:], want) {
			t.Errorf("trace: got %q", got)
		}
	})
}

func TestDeletionIsHurried(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{onTerm: -1}}
		b.put(testPod("p", nil))
		after(time.Second)
		b.kill("p", 300)
		after(10 * time.Second)
		b.kill("p", 1)
		after(3 * time.Second)
		if b.get("p") != nil {
			t.Fatal("the pod is still there")
		}
	})
}

func TestForcedDeletion(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{onTerm: -1}}
		b.put(testPod("p", nil))
		after(time.Second)
		writeTestFile(b.agent.services.files.Log(runner.PodRef{Namespace: "ns", Name: "p", UID: "uid-p"}, "c", 0), "log")
		b.remove("p")
		after(time.Second)
		if b.run.left() != 1 {
			t.Error("killed without two seconds of grace")
		}
		after(2 * time.Second)
		if b.run.left() != 0 {
			t.Error("the runner still has the container")
		}
		if _, err := os.Stat(b.agent.services.files.LogDir(runner.PodRef{Namespace: "ns", Name: "p", UID: "uid-p"})); !os.IsNotExist(err) {
			t.Errorf("the logs are still there: %v", err)
		}
	})
}

func TestDeletionBeforeStart(t *testing.T) {
	story(t, func(b *bench) {
		b.images.errs = []*ImageError{{Reason: ErrImagePull, Message: "no such host"}}
		b.put(testPod("p", nil))
		after(time.Second / 2)
		b.want("p", corev1.PodPending, "c", "waiting ErrImagePull restarts=0")
		b.kill("p", -1)
		after(time.Second)
		if b.get("p") != nil {
			t.Fatal("the pod is still there")
		}
		last := b.history["p"][len(b.history["p"])-1]
		if last.Phase != corev1.PodFailed || brief(state(&last, "c")) != "ended 137 ContainerStatusUnknown restarts=0" {
			t.Errorf("last status: %+v", last)
		}
	})
}

func TestImagePullBackOff(t *testing.T) {
	story(t, func(b *bench) {
		fail := &ImageError{Reason: ErrImagePull, Message: "no such host"}
		b.images.errs = []*ImageError{fail, fail}
		b.run.scripts["c"] = []script{{runs: time.Second}}
		b.put(testPod("p", nil))
		after(time.Second / 2)
		b.want("p", corev1.PodPending, "c", "waiting ErrImagePull restarts=0")
		after(2 * time.Second)
		b.want("p", corev1.PodPending, "c", "waiting ImagePullBackOff restarts=0")
		if got, want := state(&b.get("p").Status, "c").State.Waiting.Message, `Back-off pulling image "busybox:1": ErrImagePull: no such host`; got != want {
			t.Errorf("message: got %q, want %q", got, want)
		}
		after(40 * time.Second)
		b.want("p", corev1.PodSucceeded)
		b.wantEvents(`Pulling: Pulling image "busybox:1"`, `Failed: Failed to pull image "busybox:1": no such host`, "Failed: Error: ErrImagePull",
			`BackOff: Back-off pulling image "busybox:1"`, "Failed: Error: ImagePullBackOff", `Pulling: Pulling image "busybox:1"`)
	})
}

// TestStatusIsBrief: an image may have a name of megabytes for a user, a command or a
// registry's error. What a status says of it is kept with the pod, and sent to whoever
// watches it.
func TestStatusIsBrief(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	for name, failure := range map[string]func(b *bench){
		"image": func(b *bench) { b.images.errs = []*ImageError{{Reason: ErrImageNeverPull, Message: long}} },
		"not made": func(b *bench) {
			b.run.scripts["c"] = []script{{err: &runner.StartError{Reason: "CreateContainerError", Message: long}}}
		},
		"not started": func(b *bench) {
			b.run.scripts["c"] = []script{{err: &runner.StartError{Reason: "StartError", Code: 128, Message: long}}}
		},
		"another error": func(b *bench) { b.run.scripts["c"] = []script{{err: errors.New(long)}} },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(b *bench) {
				failure(b)
				b.put(testPod("p", nil))
				after(time.Second)
				st, message := state(&b.get("p").Status, "c").State, ""
				switch {
				case st.Waiting != nil:
					message = st.Waiting.Message
				case st.Terminated != nil:
					message = st.Terminated.Message
				}
				if len(message) < maxTermination/2 || len(message) > maxTermination+10 || !utf8.ValidString(message) {
					t.Errorf("%d bytes of message: %.100q", len(message), message)
				}
			})
		})
	}
}

func TestActiveDeadline(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) }))
		after(4 * time.Second)
		b.want("p", corev1.PodRunning)
		after(2 * time.Second)
		b.want("p", corev1.PodFailed, "c", "ended 143 Error restarts=0")
		if s := b.get("p").Status; s.Reason != "DeadlineExceeded" || s.Message != "Pod was active on the node longer than the specified deadline" {
			t.Errorf("got %s %s", s.Reason, s.Message)
		}
	})
}

func TestCommandCannotBeExecuted(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{err: &runner.StartError{Reason: "StartError", Code: 128, Message: `exec: "do": executable file not found in $PATH`}}}
		b.put(testPod("p", nil))
		b.put(testPod("q", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }))
		after(2 * time.Second)
		b.want("p", corev1.PodFailed, "c", "ended 128 StartError restarts=0")
		b.want("q", corev1.PodRunning, "c", "waiting CrashLoopBackOff restarts=1")
		b.wantEvents(`Failed: Error: exec: "do": executable file not found in $PATH`)
		b.kill("q", 0)
		after(time.Second)
	})
}

func TestContainerCannotBeMade(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"},
			}}}
		}))
		after(time.Second)
		b.want("p", corev1.PodPending, "c", "waiting CreateContainerConfigError restarts=0")
		b.wantEvents(`Failed: Error: configmap "cfg" not found`)
		b.fakeClient.mu.Lock()
		b.configs["cfg"] = &corev1.ConfigMap{Data: map[string]string{"A": "1"}}
		b.fakeClient.mu.Unlock()
		after(20 * time.Second)
		b.want("p", corev1.PodSucceeded)
		if env := b.run.specs[0].Env; !slices.Contains(env, "A=1") {
			t.Errorf("environment: %q", env)
		}
	})
}

func TestTerminationMessage(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Second, code: 1, message: "last words"}}
		b.run.scripts["d"] = []script{{out: "one\ntwo", runs: time.Second, code: 1}}
		b.put(testPod("p", func(p *corev1.Pod) {
			d := testContainer("d")
			d.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
			p.Spec.Containers = append(p.Spec.Containers, d)
		}))
		after(2 * time.Second)
		b.want("p", corev1.PodFailed)
		s := b.get("p").Status
		if got := state(&s, "c").State.Terminated.Message; got != "last words" {
			t.Errorf("c: got %q", got)
		}
		if got := state(&s, "d").State.Terminated.Message; got != "one\ntwo" {
			t.Errorf("d: got %q", got)
		}
		if left, _ := os.ReadDir(filepath.Join(b.dir, "termination")); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestStatusWriteIsRetried(t *testing.T) {
	story(t, func(b *bench) {
		var left atomic.Int32
		left.Store(3)
		b.fail = func(string) error {
			if left.Add(-1) >= 0 {
				return errors.New("no disk")
			}
			return nil
		}
		b.run.scripts["c"] = []script{{runs: time.Millisecond}}
		b.put(testPod("p", nil))
		after(10 * time.Second)
		b.want("p", corev1.PodSucceeded)
		if b.run.left() != 0 {
			t.Error("the container was not removed")
		}
	})
}

func TestHostClass(t *testing.T) {
	story(t, func(b *bench) {
		b.host.scripts["c"] = []script{{runs: time.Second}}
		host := ptr.To(string(runner.Host))
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RuntimeClassName = host }))
		b.put(testPod("q", func(p *corev1.Pod) {
			p.Spec.RuntimeClassName = host
			p.Spec.Containers[0].Command = nil
		}))
		b.put(testPod("r", func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To("kata") }))
		after(2 * time.Second)
		b.want("p", corev1.PodSucceeded)
		b.want("q", corev1.PodPending, "c", "waiting CreateContainerError restarts=0")
		b.want("r", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
		b.wantEvents(`FailedCreatePodSandBox: Failed to create pod sandbox: no runtime for "kata" is configured`)
		b.wantEvents(`ImageNotUsed: Container image "busybox:1" is not used: the command runs as a process of this machine`)
	})
}

// TestDeclaredOver: somebody else writes a final phase while the pod runs.
func TestDeclaredOver(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyAlways }))
		after(time.Second)
		next := b.get("p").DeepCopy()
		next.Status.Phase, next.Status.Reason = corev1.PodFailed, "Preempted"
		b.put(next)
		after(time.Second)
		b.want("p", corev1.PodFailed, "c", "ended 143 Error restarts=0")
		if got := b.get("p").Status.Reason; got != "Preempted" {
			t.Errorf("reason: %q", got)
		}
		if b.run.left() != 0 {
			t.Error("the container still runs")
		}
	})
}

// shaky is a runner that loses answers.
type shaky struct {
	*fakeRunner
	start, wait atomic.Int32 // how many answers are lost
}

func (s *shaky) Start(ctx context.Context, spec *runner.Spec) (runner.Status, error) {
	st, err := s.fakeRunner.Start(ctx, spec)
	if s.start.Add(-1) >= 0 {
		return runner.Status{}, errors.New("the supervisor hung up")
	}
	return st, err
}

func (s *shaky) Wait(ctx context.Context, id string) (runner.Status, error) {
	if s.wait.Add(-1) >= 0 {
		return runner.Status{}, errors.New("the supervisor hung up")
	}
	return s.fakeRunner.Wait(ctx, id)
}

func TestLostAnswers(t *testing.T) {
	story(t, func(b *bench) {
		s := &shaky{fakeRunner: b.run}
		s.start.Store(1)
		s.wait.Store(3)
		b.agent.services.Runners[runner.Sandbox] = s
		b.run.scripts["c"] = []script{{runs: 20 * time.Second, code: 3}}
		b.put(testPod("p", nil))
		after(5 * time.Second)
		b.want("p", corev1.PodPending, "c", "waiting CreateContainerError restarts=0")
		after(10 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0")
		after(time.Minute)
		b.want("p", corev1.PodFailed, "c", "ended 3 Error restarts=0")
		if n := len(b.run.starts["c"]); n != 1 {
			t.Errorf("started %d times", n)
		}
	})
}

func TestLostStartOfDeletedPod(t *testing.T) {
	story(t, func(b *bench) {
		s := &shaky{fakeRunner: b.run}
		s.start.Store(1)
		b.agent.services.Runners[runner.Sandbox] = s
		b.put(testPod("p", nil))
		after(time.Second)
		b.kill("p", -1)
		after(5 * time.Second)
		if b.get("p") != nil || b.run.left() != 0 {
			t.Errorf("left: %d containers", b.run.left())
		}
	})
}
