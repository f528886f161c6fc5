package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
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
		b.agent.pods.mu.Lock()
		b.agent.pods.pods[string(behind.UID)].pod = behind
		b.agent.pods.mu.Unlock()
		if got := b.logs("p", &corev1.PodLogOptions{Follow: true}); got != "short\n" {
			t.Errorf("got %q", got)
		}
	})
}

// TestOpenLogsOutliveTheirPod: who reads a log when its pod is deleted reads it to
// its end, all files of it; then they are removed.
func TestOpenLogsOutliveTheirPod(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir())
	b.boot()
	defer b.close()
	b.run.scripts["c"] = []script{{runs: time.Millisecond}}
	b.put(testPod("p", nil))
	eventually(t, "the pod ends", func() bool { return b.get("p").Status.Phase == corev1.PodSucceeded })
	ref := RefOf(b.get("p"))
	path := b.agent.services.files.Log(ref, "c", 0)
	w, err := crilog.Open(path, crilog.Limits{Size: 100_000, Files: 5})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("0123456789abcdef\n", 20_000)
	for text := want; text != ""; text = text[17_000:] {
		if err := w.Write(crilog.Stdout, []byte(text[:17_000])); err != nil {
			t.Fatal(err)
		}
	}
	want = b.logs("p", &corev1.PodLogOptions{}) // what is kept
	if len(want) < 100_000 {
		t.Fatalf("only %d bytes are kept", len(want))
	}
	r, err := b.agent.Logs(t.Context(), b.get("p"), &corev1.PodLogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := b.get("p")
	b.remove("p")
	eventually(t, "the pod is forgotten", func() bool {
		b.agent.pods.mu.Lock()
		defer b.agent.pods.mu.Unlock()
		return b.agent.pods.pods[ref.UID] == nil
	})
	got, err := io.ReadAll(r)
	if err != nil || string(got) != want {
		t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
	}
	eventually(t, "the files are removed", func() bool {
		_, err := os.Stat(b.agent.services.files.LogDir(ref))
		return errors.Is(err, fs.ErrNotExist)
	})
	_, err = b.agent.Logs(t.Context(), pod, &corev1.PodLogOptions{Follow: true})
	if want := `the log of container "c" in pod "p" has been removed`; !apierrors.IsNotFound(err) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestLogsAreHandedOver: whoever is owed the logs gets all of them, however soon
// a pod is gone, and has as long as he needs.
func TestLogsAreHandedOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir())
	var mu sync.Mutex
	logs := map[string]io.ReadCloser{}
	b.hand = func(pod *corev1.Pod, container string, _ int, log io.ReadCloser) {
		mu.Lock()
		defer mu.Unlock()
		logs[pod.Name+"/"+container] = log
	}
	b.boot()
	defer b.close()
	b.run.scripts["c"] = []script{{out: "one\n", runs: time.Millisecond}}
	b.run.scripts["d"] = []script{{out: "two\n"}}
	b.put(testPod("p", func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, testContainer("d")) }))
	dir := b.agent.services.files.LogDir(RefOf(b.get("p")))
	eventually(t, "the logs are handed over", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(logs) == 2
	})
	b.remove("p") // nobody asked for its status, and d runs yet
	eventually(t, "the containers have ended", func() bool { return b.run.left() == 0 })
	for name, want := range map[string]string{"p/c": "one\n", "p/d": "two\n"} {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("the files have not waited: %v", err)
		}
		if got, err := io.ReadAll(logs[name]); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	eventually(t, "the files are removed", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// TestHandedLogsKnowTheirLives: a start that failed has no log, and counts all the same.
func TestHandedLogsKnowTheirLives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, dir)
		var handed []int
		b.hand = func(_ *corev1.Pod, _ string, restarts int, log io.ReadCloser) {
			handed = append(handed, restarts)
			log.Close()
		}
		b.run.scripts["c"] = []script{{runs: time.Second, code: 1}, {err: &runner.StartError{Reason: "StartError", Code: 128}}, {runs: time.Second, code: 1}, {runs: time.Second}}
		b.boot()
		synctest.Wait()
		defer b.close()
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }))
		after(10 * time.Minute)
		if want := []int{0, 2, 3}; !slices.Equal(handed, want) {
			t.Errorf("the lives are %v, want %v", handed, want)
		}
		if got := b.get("p").Status.ContainerStatuses[0].RestartCount; got != 3 {
			t.Errorf("the API says %d", got)
		}
	})
}

// TestTerminationMessageAcrossARotation: the last lines of a log are its last
// lines whatever file they are in.
func TestTerminationMessageAcrossARotation(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{out: "in the new file\n", runs: time.Second, code: 1}}
		pod := testPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		})
		old := b.agent.services.files.Log(RefOf(pod), "c", 0) + ".20000101-000000.000000000.51"
		writeTestFile(old, "2000-01-01T00:00:00.000000000Z stdout F in the old\n")
		b.put(pod)
		after(time.Minute)
		if got, want := b.get("p").Status.ContainerStatuses[0].State.Terminated.Message, "in the old\nin the new file\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// eventually is for what happens outside of a bubble.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in 20 s it did not come about that %s", what)
		}
	}
}

// TestFollowBeforeThePodIsTakenUp follows the log of a running container at an engine
// that has just been started, and has not taken up its pods: it ends with the
// container all the same. It cannot be told in a bubble, as TestLogsFollow.
func TestFollowBeforeThePodIsTakenUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, t.TempDir())
	b.boot()
	defer b.close()
	b.run.scripts["c"] = []script{{out: "all of it\n", runs: 2 * time.Second}}
	b.put(testPod("p", nil))
	for end := time.Now().Add(10 * time.Second); b.get("p").Status.Phase != corev1.PodRunning && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	pod := b.get("p").DeepCopy()
	b.agent.pods.mu.Lock()
	taken := b.agent.pods.pods[string(pod.UID)]
	delete(b.agent.pods.pods, string(pod.UID))
	b.agent.pods.mu.Unlock()
	time.AfterFunc(200*time.Millisecond, func() {
		b.agent.pods.mu.Lock()
		defer b.agent.pods.mu.Unlock()
		b.agent.pods.pods[string(pod.UID)] = taken
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	log, err := b.agent.Logs(ctx, pod, &corev1.PodLogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if got, err := io.ReadAll(log); string(got) != "all of it\n" || err != nil {
		t.Errorf("got %q, %v: the container has ended, and its follower is not told", got, err)
	}
}
