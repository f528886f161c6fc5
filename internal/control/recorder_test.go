package control

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

func TestTheSameNoteRaisesTheCount(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		recorder := NewRecorder(b.store, "node", slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- recorder.Run(ctx) }()
		note := change.Note{
			Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p", UID: "u"},
			Component: "kubelet", Type: "Warning", Reason: "BackOff", Message: "again",
		}
		for range 3 {
			recorder.Record(note, note)
			b.settle()
		}
		note.Message = "something else"
		recorder.Record(note)
		stop()
		<-done // what was noted before the end is stored
		var counts []int32
		for obj := range b.store.View().List("events", "default") {
			ev := obj.(*corev1.Event)
			counts = append(counts, ev.Count)
			if ev.Source.Host != "node" || ev.FirstTimestamp.After(ev.LastTimestamp.Time) {
				t.Errorf("event %+v", ev)
			}
		}
		slices.Sort(counts)
		if !slices.Equal(counts, []int32{1, 6}) {
			t.Errorf("counts %v, want 1 and 6", counts)
		}
	})
}
