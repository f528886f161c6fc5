package control

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

func TestEventsAreBounded(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		janitor := &Janitor{Store: b.store, TTL: time.Hour, Max: 10}
		go func() { done <- janitor.Run(ctx) }()
		event := func(i int) {
			var set change.Set
			set.Create(change.Key{Resource: "events", Namespace: "default", Name: fmt.Sprint("e", i)}, &corev1.Event{
				ObjectMeta:    metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("e", i)},
				LastTimestamp: metav1.NewTime(time.Now()),
			})
			b.apply(set)
		}
		for i := range 25 {
			event(i)
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if n := b.store.View().Len("events"); n != 10 {
			t.Errorf("%d events, want 10", n)
		}
		if _, ok := b.store.View().Get(change.Key{Resource: "events", Namespace: "default", Name: "e24"}); !ok {
			t.Error("the newest event is gone")
		}
		time.Sleep(50 * time.Minute) // e15 is 60 minutes old by now, e24 51
		synctest.Wait()
		if n := b.store.View().Len("events"); n == 0 || n >= 10 {
			t.Errorf("%d events after 50 minutes", n)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if n := b.store.View().Len("events"); n != 0 {
			t.Errorf("%d events past their time", n)
		}
		stop()
		<-done
	})
}
