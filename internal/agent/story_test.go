package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
			`Pulled: Container image "busybox:1" already present on machine and can be accessed by the pod`,
			"Created: Container created", "Started: Container started",
		}
		if got := b.events(); !slices.Equal(got, want) {
			t.Errorf("events: got %q", got)
		}
		if got, want := b.run.traced(), []string{"start c", "end c 0", "release"}; !slices.Equal(got, want) {
			t.Errorf("trace: got %q, want %q", got, want)
		}
		if len(b.run.all) != 0 {
			t.Error("the runner still has the container")
		}
	})
}
