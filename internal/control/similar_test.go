package control

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
)

// TestTextsOfStrangers: a pod whose probes say something else each time, at length, makes few Events of
// it, and the last words are told. What is said once more is counted where it was said, and what
// controllers say of a Job all stays.
func TestTextsOfStrangers(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		recorder := NewRecorder(b.store, "node", slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- recorder.Run(ctx) }()
		said := func(kind, name, reason, message string) change.Note {
			return change.Note{
				Regarding: corev1.ObjectReference{Kind: kind, Namespace: "default", Name: name, UID: types.UID(name)},
				Component: "kubelet", Type: corev1.EventTypeWarning, Reason: reason, Message: message,
			}
		}
		const seconds = 120
		for i := range seconds {
			recorder.Record(
				said("Pod", "evil", "Unhealthy", fmt.Sprintf("number %d: %s", i, strings.Repeat("ä", 5000))),
				said("Pod", "good", "Unhealthy", "always the same"),
				said("Job", "job", "SuccessfulCreate", fmt.Sprintf("Created pod: job-%d", i)),
			)
			time.Sleep(time.Second)
		}
		stop()
		<-done
		events, counts, combined := map[string]int{}, map[string]int32{}, 0
		for obj := range b.store.View().List("events", "default") {
			ev := obj.(*corev1.Event)
			name := ev.InvolvedObject.Name
			events[name]++
			counts[name] += ev.Count
			if len(ev.Message) > maxMessage {
				t.Errorf("a message of %d bytes", len(ev.Message))
			}
			if strings.HasPrefix(ev.Message, combinedPrefix) {
				combined++
				if want := fmt.Sprintf("%snumber %d: ä", combinedPrefix, seconds-1); !strings.HasPrefix(ev.Message, want) {
					t.Errorf("%.80q, want %q", ev.Message, want)
				}
			}
		}
		// A few of each ten minutes, and one of all others.
		if n := events["evil"]; n > 2*mostAlike+1 || combined != 1 || events["good"] != 1 || events["job"] != seconds {
			t.Errorf("%v Events, %d are combined", events, combined)
		}
		for name, n := range counts {
			if n != seconds {
				t.Errorf("%s: %d were counted", name, n)
			}
		}
	})
}

func TestSimilarIsBounded(t *testing.T) {
	t.Parallel()
	var s similar
	now := time.Now()
	for i := range 3 * mostKinds {
		s.combine(change.Note{Regarding: corev1.ObjectReference{Kind: "Pod", UID: types.UID(fmt.Sprint(i))}}, now)
		if len(s.known) > mostKinds {
			t.Fatalf("%d kinds are known", len(s.known))
		}
	}
}
