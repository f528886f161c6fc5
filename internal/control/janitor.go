package control

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// Janitor keeps Events bounded: each lives for TTL after it last happened, and
// beyond Max the oldest go first.
type Janitor struct {
	Store *store.Store
	TTL   time.Duration // Kubernetes' --event-ttl is one hour
	Max   int
}

// lineup holds Events in the order in which they last happened, as far as known
// when they took their place.
type lineup []turn

type turn struct {
	key change.Key
	at  time.Time
}

// Run sweeps until ctx ends.
func (j *Janitor) Run(ctx context.Context) error {
	for {
		view := j.Store.View()
		line := j.oldestFirst(view)
		w, err := j.Store.Watch(kind.Events, view.Rev())
		for err == nil {
			var wait time.Duration
			if line, wait, err = j.sweep(ctx, line); err != nil {
				break
			}
			line, err = j.listen(ctx, w, line, wait)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var conflict *store.ConflictError
		if !errors.Is(err, store.ErrGone) && !errors.As(err, &conflict) {
			return err
		}
	}
}

func (j *Janitor) oldestFirst(view *store.View) lineup {
	var events []*corev1.Event
	for obj := range view.List(kind.Events, "") {
		events = append(events, obj.(*corev1.Event))
	}
	slices.SortFunc(events, func(a, b *corev1.Event) int { return kind.LastHappened(a).Compare(kind.LastHappened(b)) })
	line := make(lineup, len(events))
	for i, ev := range events {
		line[i] = turn{kind.Events.Key(ev.Namespace, ev.Name), kind.LastHappened(ev)}
	}
	return line
}

// listen waits for new Events, at most for wait.
func (j *Janitor) listen(ctx context.Context, w *store.Watch, line lineup, wait time.Duration) (lineup, error) {
	waitCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	events, _, err := w.Next(waitCtx)
	if err != nil && waitCtx.Err() != nil && ctx.Err() == nil {
		return line, nil
	}
	for _, ev := range events {
		if ev.Op == change.Create {
			line = append(line, turn{ev.Key, kind.LastHappened(ev.Object.(*corev1.Event))})
		}
	}
	return line, err
}

// sweep deletes what is past its time or beyond Max from the front of the line,
// and returns how long nothing more will be due.
func (j *Janitor) sweep(ctx context.Context, line lineup) (lineup, time.Duration, error) {
	const batch, idle = 512, 10 * time.Minute
	now := time.Now()
	view := j.Store.View()
	set := change.Set{Lazy: true}
	excess := view.Len(kind.Events) - j.Max
	wait := idle
	for len(line) > 0 && len(set.Writes) < batch {
		first := line[0]
		obj, ok := view.Get(first.key)
		if !ok {
			line = line[1:]
			continue
		}
		if at := kind.LastHappened(obj.(*corev1.Event)); at.After(first.at) {
			line = append(line[1:], turn{first.key, at})
			continue
		}
		if left := first.at.Add(j.TTL).Sub(now); left > 0 && excess <= 0 {
			wait = min(left, idle)
			break
		}
		set.Delete(first.key, change.RevOf(obj))
		line = line[1:]
		excess--
	}
	if len(set.Writes) == 0 {
		return line, wait, nil
	}
	_, err := j.Store.Apply(ctx, set)
	return line, 0, err
}
