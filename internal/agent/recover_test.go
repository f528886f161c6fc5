package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/runner"
)

// reboot stops the node, lets d pass, and starts it again.
func (b *bench) reboot(d time.Duration) {
	b.t.Helper()
	b.stop()
	time.Sleep(d)
	b.boot()
}

func TestRecovery(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["long"] = []script{{runs: time.Minute}}
		b.run.scripts["short"] = []script{{runs: 5 * time.Second, code: 4}}
		b.run.scripts["again"] = []script{{runs: 5 * time.Second, code: 1}, {runs: time.Minute}}
		name := func(name string) func(*corev1.Pod) {
			return func(p *corev1.Pod) { p.Spec.Containers[0].Name = name }
		}
		b.put(testPod("long", name("long")))
		b.put(testPod("short", name("short")))
		b.put(testPod("again", func(p *corev1.Pod) {
			name("again")(p)
			p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		}))
		b.put(testPod("gone", name("gone")))
		b.put(testPod("late", name("late"))) // stopped while its status is not written yet
		after(time.Second)
		b.stop()
		b.remove("gone")
		b.kill("late", 30)
		time.Sleep(10 * time.Second)
		b.boot()
		after(time.Second)
		b.want("long", corev1.PodRunning, "long", "running ready=true restarts=0")
		b.want("short", corev1.PodFailed, "short", "ended 4 Error restarts=0")
		b.want("again", corev1.PodRunning, "again", "running ready=true restarts=1")
		if b.get("late") != nil {
			t.Error("a pod that was deleted meanwhile is still there")
		}
		after(2 * time.Minute)
		b.want("long", corev1.PodSucceeded)
		b.want("again", corev1.PodSucceeded, "again", "ended 0 Completed restarts=1")
		for name, n := range map[string]int{"long": 1, "short": 1, "again": 2, "gone": 1, "late": 1} {
			if got := len(b.run.starts[name]); got != n {
				t.Errorf("%s was started %d times, want %d", name, got, n)
			}
		}
		if b.run.left() != 0 {
			t.Error("the runner still has containers")
		}
	})
}

func TestRecoveryWithOneRunnerForAllClasses(t *testing.T) {
	story(t, func(b *bench) {
		b.host = b.run
		b.reboot(0)
		b.run.scripts["c"] = []script{{runs: 20 * time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To(string(runner.Host)) }))
		b.put(testPod("gone", nil))
		after(time.Second)
		b.stop()
		b.remove("gone")
		b.boot()
		after(5 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0")
		if n := b.run.left(); n != 1 {
			t.Errorf("%d containers are left, want 1", n)
		}
		after(30 * time.Second)
		b.want("p", corev1.PodSucceeded)
		if n := b.run.left(); n != 0 {
			t.Errorf("%d containers are left, want 0", n)
		}
	})
}

func TestRecoveryBeforeFirstStatus(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: 20 * time.Second}}
		b.failWith(os.ErrPermission)
		b.put(testPod("p", nil))
		after(time.Second)
		b.failWith(nil)
		b.reboot(time.Second)
		after(time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=0")
		after(30 * time.Second)
		b.want("p", corev1.PodSucceeded)
		if n := len(b.run.starts["c"]); n != 1 {
			t.Errorf("started %d times", n)
		}
	})
}

func TestRecoveryDuringBackOff(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Second, code: 2}, {runs: time.Second, code: 2}, {runs: time.Second}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }))
		after(4 * time.Second)
		b.want("p", corev1.PodRunning, "c", "waiting CrashLoopBackOff restarts=1")
		b.reboot(time.Second)
		after(30 * time.Second)
		b.want("p", corev1.PodSucceeded, "c", "ended 0 Completed restarts=2")
	})
}

func TestContainerVanished(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", nil))
		after(time.Second)
		b.stop()
		b.run.Lose()
		b.run = newFakeRunner()
		b.boot()
		after(time.Second)
		b.want("p", corev1.PodFailed, "c", "ended 137 ContainerStatusUnknown restarts=0")
	})
}

func TestFilesOfFormerPodsAreRemoved(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Second}}
		b.put(testPod("p", nil))
		after(2 * time.Second)
		b.stop()
		keep := b.agent.services.files.Log(RefOf(b.get("p")), "c", 0)
		writeTestFile(keep, "log")
		for _, path := range []string{"logs/ns_old_uid-old/c/0.log", "pods/uid-p/volumes/x", "pods/uid-old/x", "etc/uid-old.hosts", "termination/uid-old_c_0"} {
			writeTestFile(filepath.Join(b.dir, path), "x")
		}
		b.boot()
		after(time.Second)
		var left []string
		filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
			if !d.IsDir() {
				left = append(left, path)
			}
			return nil
		})
		if !slices.Equal(left, []string{keep}) {
			t.Errorf("left: %q", left)
		}
	})
}

// A thread that Go has made stays, and at 10,000 of them the process dies.
func TestManyPodsGoWithFewThreads(t *testing.T) {
	client := newFakeClient()
	n, err := node.New(node.Config{Name: "n1", API: client, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{
		Node: n, Dir: t.TempDir(), Client: client, Images: &fakeImages{}, Log: discard,
		Class: runner.Sandbox, Runners: map[runner.Class]runner.Runner{runner.Sandbox: newFakeRunner()},
	})
	if err != nil {
		t.Fatal(err)
	}
	refs := make([]runner.PodRef, 5000)
	for i := range refs {
		refs[i] = runner.PodRef{Namespace: "ns", Name: "p", UID: fmt.Sprint(i)}
		writeTestFile(a.services.files.Log(refs[i], "c", 0), "log")
	}
	threads := pprof.Lookup("threadcreate")
	before := threads.Count()
	var gone sync.WaitGroup
	for _, ref := range refs {
		gone.Go(func() { a.pods.erase(t.Context(), ref) })
	}
	gone.Wait()
	if made := threads.Count() - before; made > 40 {
		t.Errorf("%d threads for %d pods", made, len(refs))
	}
	if left, _ := os.ReadDir(filepath.Join(a.services.Dir, "logs")); len(left) > 0 {
		t.Errorf("the logs of %d pods are left", len(left))
	}
}

func TestRecoveryOfWhatIsTold(t *testing.T) {
	story(t, func(b *bench) {
		b.run.keep = true // the node ends before it can remove the container
		b.run.scripts["c"] = []script{{runs: time.Second, code: 1, message: "why"}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, testContainer("d"))
		}))
		after(2 * time.Second)
		b.stop()
		b.run.keep = false
		b.boot()
		after(time.Second)
		b.want("p", corev1.PodRunning, "c", "ended 1 Error restarts=0", "d", "running ready=true restarts=0")
		if got := state(&b.get("p").Status, "c").State.Terminated.Message; got != "why" {
			t.Errorf("message: %q", got)
		}
		if n := b.run.left(); n != 1 {
			t.Errorf("%d containers are left, want 1", n)
		}
	})
}

func TestRecoveryWithoutTheConfigMap(t *testing.T) {
	story(t, func(b *bench) {
		b.setConfig("cfg", map[string]string{"a": "1"})
		b.run.scripts["c"] = []script{{runs: 20 * time.Second, code: 1}, {}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"},
			}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}))
		after(10 * time.Second)
		b.stop()
		delete(b.configs, "cfg")
		b.boot()
		after(time.Second)
		if got := condition(b.get("p"), corev1.PodReadyToStartContainers); got != "True" {
			t.Errorf("PodReadyToStartContainers: %s", got)
		}
		after(20 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=1")
	})
}
