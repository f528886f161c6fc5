package agent

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// debug adds an ephemeral container to a pod, as `kubectl debug` does.
func (b *bench) debug(pod, name, target string, edit func(*corev1.EphemeralContainer)) {
	next := b.get(pod).DeepCopy()
	next.Generation++
	e := corev1.EphemeralContainer{TargetContainerName: target, EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: name, Image: "busybox:1", Command: []string{"sh"}, TerminationMessagePath: corev1.TerminationMessagePathDefault,
	}}
	if edit != nil {
		edit(&e)
	}
	next.Spec.EphemeralContainers = append([]corev1.EphemeralContainer{e}, next.Spec.EphemeralContainers...)
	b.put(next)
}

// spec is how a container was first started.
func (b *bench) spec(container string) *runner.Spec {
	i := slices.IndexFunc(b.run.specs, func(s *runner.Spec) bool { return s.Container == container })
	return b.run.specs[i]
}

func TestEphemeralContainers(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["d"] = []script{{out: "found it\n", runs: 2 * time.Second, code: 3}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyAlways }))
		after(time.Second)
		b.debug("p", "d", "c", nil)
		b.debug("p", "e", "", nil) // in front of the other
		after(time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0", "d", "running ready=false restarts=0", "e", "running ready=false restarts=0")
		if got := b.spec("d").ProcessesOf; got != "uid-p_c_0" {
			t.Errorf("d sees the processes of %q", got)
		}
		if got := b.spec("e").ProcessesOf; got != "" {
			t.Errorf("e sees the processes of %q", got)
		}
		if got := b.logs("p", &corev1.PodLogOptions{Container: "d"}); got != "found it\n" {
			t.Errorf("the log is %q", got)
		}
		var out bytes.Buffer
		if code, err := b.agent.Exec(context.Background(), b.get("p"), &corev1.PodExecOptions{Container: "e", Command: []string{"echo", "here"}}, stdio.Streams{Stdout: &out}); code != 0 || err != nil || out.String() != "here\n" {
			t.Errorf("%q, %d, %v", out.String(), code, err)
		}
		after(time.Hour)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0", "d", "ended 3 Error restarts=0", "e", "running ready=false restarts=0")
		b.reboot(time.Minute)
		after(time.Minute)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0", "d", "ended 3 Error restarts=0", "e", "running ready=false restarts=0")
		if len(b.run.starts["d"]) != 1 || len(b.run.starts["e"]) != 1 || len(b.run.starts["c"]) != 1 {
			t.Error("something was started again")
		}
		b.kill("p", 5)
		after(10 * time.Second)
		if b.get("p") != nil || b.run.left() != 0 {
			t.Error("the pod is still there, or its containers are")
		}
	})
}

// A pod whose own containers are through is over, whoever looks at it.
func TestEphemeralDoesNotCount(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Minute}}
		b.run.scripts["failing"] = []script{{runs: time.Second, code: 1}}
		b.put(testPod("p", nil))
		after(time.Second)
		b.debug("p", "d", "c", nil)
		b.debug("p", "failing", "", nil)
		after(10 * time.Second)
		if got := condition(b.get("p"), corev1.PodReady); got != "True" {
			t.Errorf("Ready: got %q", got)
		}
		after(2 * time.Minute)
		b.want("p", corev1.PodSucceeded, "c", "ended 0 Completed restarts=0", "failing", "ended 1 Error restarts=0")
		if d := state(&b.get("p").Status, "d"); d.State.Terminated == nil {
			t.Errorf("d is %+v", d.State)
		}
	})
}

// One that cannot start yet is tried again, and hinders nobody.
func TestEphemeralTarget(t *testing.T) {
	story(t, func(b *bench) {
		b.images.fails = map[string]*ImageError{"none:1": {Reason: ErrImagePull, Message: "no such image"}}
		b.put(testPod("p", nil))
		shared := testPod("shared", func(p *corev1.Pod) { p.Spec.ShareProcessNamespace = new(true); p.Spec.Containers[0].Name = "main" })
		b.put(shared)
		after(time.Second)
		b.debug("p", "d", "nobody", nil)
		b.debug("p", "i", "c", func(e *corev1.EphemeralContainer) { e.Image = "none:1" })
		b.debug("shared", "s", "main", nil)
		b.debug("shared", "x", "", func(e *corev1.EphemeralContainer) { e.Command = []string{"nosuch"} })
		b.run.scripts["x"] = []script{{err: &runner.StartError{Reason: "StartError", Code: 128, Message: "no such file"}}}
		after(time.Second)
		b.want("p", corev1.PodRunning, "d", "waiting CreateContainerConfigError restarts=0", "i", "waiting ErrImagePull restarts=0")
		if got := state(&b.get("p").Status, "d").State.Waiting.Message; got != "unable to find target container nobody" {
			t.Errorf("got %q", got)
		}
		b.wantEvents("Failed: Error: unable to find target container nobody")
		if s := b.spec("s"); s.ProcessesOf != "" || !s.ShareProcesses {
			t.Errorf("s is started with %+v", s)
		}
		after(time.Minute)
		b.want("shared", corev1.PodRunning, "x", "ended 128 StartError restarts=0", "s", "running ready=false restarts=0")
		tried := 0
		for _, spec := range b.run.specs {
			if spec.Container == "x" {
				tried++
			}
		}
		if tried != 1 {
			t.Errorf("x was tried %d times", tried)
		}
		for _, n := range b.notes {
			if n.Message == "Error: unable to find target container nobody" && n.Regarding.FieldPath != "spec.ephemeralContainers{d}" {
				t.Errorf("the event is about %s", n.Regarding.FieldPath)
			}
		}
	})
}
