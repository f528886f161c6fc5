package agent

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
)

// lost returns the Events about lost output.
func (b *bench) lost() (list []string) {
	for _, ev := range b.events() {
		if text, ok := strings.CutPrefix(ev, "OutputLost: "); ok {
			list = append(list, text)
		}
	}
	return list
}

func TestLostOutput(t *testing.T) {
	story(t, func(b *bench) {
		const full = "write 0.log: no space left on device"
		lost := func(bytes string) string {
			return "Container c lost " + bytes + " of its output, which could not be written to its log: " + full
		}
		b.run.scripts["c"] = []script{{runs: time.Hour, code: 1}}
		b.put(testPod("p", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }))
		after(time.Minute)
		var want []string
		tell := func(what string, texts ...string) {
			t.Helper()
			if want = append(want, texts...); !slices.Equal(b.lost(), want) {
				t.Fatalf("%s: got %q, want %q", what, b.lost(), want)
			}
		}

		b.run.LoseOutput("uid-p_c_0", 100, full)
		after(0)
		tell("at once", lost("100 bytes"))
		for range 60 {
			b.run.LoseOutput("uid-p_c_0", 5, full)
			after(time.Second)
		}
		tell("as long as it goes on")
		after(lossQuiet)
		tell("when it is over", lost("another 300 bytes"))
		after(time.Minute)
		tell("when nothing more is lost")
		b.run.LoseOutput("uid-p_c_0", 7, full)
		after(time.Second)
		tell("again", lost("7 bytes"))

		// The node ends and comes back: what it may not have told is told again.
		b.stop()
		b.run.LoseOutput("uid-p_c_0", 1, full)
		b.boot()
		after(time.Second)
		tell("after a restart", lost("408 bytes"))

		// What is lost in the end is known with the end; the next attempt begins anew.
		after(time.Minute)
		b.run.LoseOutput("uid-p_c_0", 2, full)
		after(time.Second)
		b.run.LoseOutput("uid-p_c_0", 3, full)
		after(0)
		tell("right before the end", lost("2 bytes"))
		b.run.Signal(context.Background(), "uid-p_c_0", 9)
		after(time.Minute)
		tell("at the end", lost("another 3 bytes"))
		b.run.LoseOutput("uid-p_c_1", 9, full)
		after(time.Minute)
		tell("the next attempt", lost("9 bytes"))
	})
}

// TestLostOutputIsLookedInto: that a log could not be written is a reason to look
// at the disk, and not only when it is time.
func TestLostOutputIsLookedInto(t *testing.T) {
	story(t, func(b *bench) {
		b.device.left(eviction.NodefsAvailable, 100<<30, 100<<30)
		b.put(testPod("p", nil))
		after(time.Minute + time.Millisecond) // the eviction manager has just looked
		b.device.left(eviction.NodefsAvailable, 1<<20, 100<<30)
		after(time.Second)
		if got := b.agent.services.Node.Pressures(); len(got) > 0 {
			t.Fatalf("the node says %v already", got)
		}
		b.run.LoseOutput("uid-p_c_0", 1, "no space left on device")
		after(0)
		if got := b.agent.services.Node.Pressures(); !slices.Equal(got, []corev1.NodeConditionType{corev1.NodeDiskPressure}) {
			t.Errorf("the node says %v", got)
		}
	})
}
