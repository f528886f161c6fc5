// Package control is the shell around the cores: a write makes keys dirty; a
// worker takes a key, reads one consistent view, lets a core decide, completes the
// objects that are to be created, applies the decision, and sleeps until its wake-up
// time or the next write. Nothing else is remembered, so a restart, a clock that was
// set or a machine that slept is only a larger now.
//
//	source ─follow─▶ Dirties ─key─▶ work.Queue ─▶ View ─▶ Decide ─▶ Complete ─▶ Apply
//	  ▲                                                                          │
//	  └──────────────────────────────────────────────────────────────────────────┘
//
// A conflict means that somebody wrote what the decision had read; the key is
// then simply decided again.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/work"
)

// Controller is one row of the table of controllers: which writes it looks at,
// and what it decides.
type Controller struct {
	Name string
	// Dirties calls add for every key that wants another look after ev. view is
	// a state that contains ev. It must be quick.
	Dirties func(view change.View, ev change.Event, add func(change.Key))
	// Every is how often a dirty key is decided at most: the first write makes for a look at
	// once, many make for one. Zero: each makes for one.
	Every time.Duration
	// After is how long after a write its keys are decided: what is to be decided about has so
	// long to mend. Not with Every.
	After  time.Duration
	Decide Decision
	// Ask, if it is there, asks others before a key is decided, who may take their time, and returns what
	// decides in Decide's place, knowing what they have said. It calls wait before it asks anybody, and
	// asks nobody when that fails.
	Ask func(ctx context.Context, view change.View, key change.Key, wait func() error) (Decision, error)
}

// Decision decides for one key. It must not modify what it reads. The objects that
// it creates are bare, as a client would send them. refused, if not nil, is why one
// of those that it would create otherwise cannot be.
type Decision = func(now time.Time, view change.View, key change.Key, refused error) change.Set

// Directories are those of the volumes of a local-path provisioner.
type Directories interface {
	// Dir is the directory in which they are.
	Dir() string
	// Make makes one, unless it is there; Remove removes one, if it is. Both return soon, and
	// hold in a crash.
	Make(name string) error
	Remove(name string) error
}

// Options for New; all are required but the last five.
type Options struct {
	Source      Source
	Kinds       *kind.Kinds
	Controllers []Controller
	Recorder    *Recorder
	Logger      *slog.Logger
	// Workers is how many keys are decided at a time; 0 means MaxWorkers, and
	// so does more.
	Workers int
	// Complete completes what is created; nil: with all that our own API gives.
	Complete Complete
	// Admission judges what is created, unless Complete is given; nil: nobody does.
	Admission Admission
	// Volumes are made before a set is applied that creates them; nil: there are none.
	Volumes Directories
	// Now is the wall clock; nil: this machine's.
	Now func() time.Time
}

// MaxWorkers is more than the cores of most machines, because a worker
// spends most of its time waiting for the disk together with the others.
const MaxWorkers = 64

// Loop runs the controllers.
type Loop struct {
	Options
	queue   *work.Queue[task]
	sparing sparing
}

// task is a key as one controller sees it.
type task struct {
	controller int
	key        change.Key
}

// New returns a loop; Run runs it.
func New(o Options) *Loop {
	if o.Workers == 0 || o.Workers > MaxWorkers {
		o.Workers = MaxWorkers
	}
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().Round(0) }
	}
	l := &Loop{Options: o, queue: work.New[task](work.DefaultBackoff)}
	switch {
	case o.Complete != nil:
	case o.Admission != nil:
		l.Complete = completer(o.Kinds, l.judgedSteps())
	default:
		l.Complete = completer(o.Kinds, ownSteps())
	}
	return l
}

// Run decides until ctx ends, and returns when the last decision has been
// applied.
func (l *Loop) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- l.queue.Run(ctx, l.Workers, l.handle) }()
	err := l.follow(ctx)
	cancel(err)
	<-done
	return err
}

// ClockSet tells the loop that the wall clock jumped. Everything is looked at
// again: after a jump back, a wake-up time of before would come late.
func (l *Loop) ClockSet() {
	l.queue.Recheck()
	l.lookAtAll(l.Source.View())
}

// follow turns writes into keys, from a full look at everything on.
func (l *Loop) follow(ctx context.Context) error {
	looks := 0
	err := l.Source.Follow(ctx, func(view change.View, events []change.Event) {
		if len(events) == 0 {
			if looks++; looks > 1 {
				l.Logger.Warn("controllers fell behind; looking at everything again")
			}
			l.lookAtAll(view)
		}
		for _, ev := range events {
			l.dirty(view, ev)
		}
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("control: follow the writes: %w", err)
}

// lookAtAll makes everything dirty, as if it had just been created.
func (l *Loop) lookAtAll(view change.View) {
	for _, k := range l.Kinds.All() {
		for obj := range view.List(k.Resource, "") {
			l.dirty(view, change.Event{Op: change.Create, Key: k.KeyOf(obj), Object: obj})
		}
	}
}

func (l *Loop) dirty(view change.View, ev change.Event) {
	for i := range l.Controllers {
		c := &l.Controllers[i]
		c.Dirties(view, ev, func(key change.Key) {
			switch {
			case c.Every > 0:
				l.queue.AddEvery(task{i, key}, c.Every)
			case c.After > 0:
				l.queue.AddAt(task{i, key}, time.Now().Add(c.After))
			default:
				l.queue.Add(task{i, key})
			}
		})
	}
}

// handle decides one key.
func (l *Loop) handle(ctx context.Context, t task) (time.Time, error) {
	c := &l.Controllers[t.controller]
	set, err := l.carryOut(ctx, c, t.key)
	if err != nil {
		if !errors.Is(err, ErrConflict) && !errors.Is(err, work.ErrCrowded) && !kind.NamespaceTerminates(err) && ctx.Err() == nil {
			l.sparing.tell(l.Logger, slog.LevelError, "decision was not stored", err, "controller", c.Name, "key", t.key.String())
		}
		return set.WakeAt, err
	}
	if len(set.Writes) > 0 && l.Logger.Enabled(ctx, slog.LevelDebug) {
		l.Logger.Debug("decided", "controller", c.Name, "key", t.key.String(), "writes", said(&set), "wake", set.WakeAt)
	}
	l.Recorder.Record(set.Notes...)
	return set.WakeAt, nil
}

// said lists the writes of a set, for the log.
func said(set *change.Set) string {
	const most = 10
	verbs := map[change.Op]string{change.Create: "create", change.Update: "update", change.Delete: "delete"}
	var text strings.Builder
	for i, w := range set.Writes {
		if i == most {
			fmt.Fprintf(&text, " and %d more", len(set.Writes)-most)
			break
		}
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%s %s", verbs[w.Op], w.Key)
	}
	return text.String()
}

// refusals are how often a decision is taken once more because there is no room for it:
// others may take what was left meanwhile.
const refusals = 3

// carryOut decides one key, and applies what was decided. When there is not enough room
// for it, it is decided once more, in this knowledge.
func (l *Loop) carryOut(ctx context.Context, c *Controller, key change.Key) (set change.Set, err error) {
	var refused error
	for range refusals {
		set, err = l.decide(ctx, c, key, refused)
		if err != nil || len(set.Writes) == 0 {
			return set, err
		}
		if err = l.prepareVolumes(&set); err == nil {
			err = l.Source.Apply(ctx, set)
		}
		if !errors.As(err, new(*change.Refusal)) {
			return set, err
		}
		refused = err
	}
	return set, err
}

// decide returns a decision whose new objects are complete. When one of these is
// refused, it is taken once more, in this knowledge; refused is what is known of before.
// Those before it may be created, unless they are refused this time.
func (l *Loop) decide(ctx context.Context, c *Controller, key change.Key, refused error) (set change.Set, err error) {
	decide, err := l.ask(ctx, c, key)
	if err != nil {
		return set, err
	}
	for range refusals {
		now, view := l.Now(), l.Source.View() // whoever refuses may have taken his time
		set = decide(now, view, key, refused)
		err = l.Complete(ctx, c.Name, now, view, key, &set)
		if err == nil || ctx.Err() != nil || errors.Is(err, work.ErrCrowded) {
			return set, err
		}
		refused = err
	}
	var refusal *change.Refusal
	if !errors.As(err, &refusal) {
		return set, err
	}
	now, view := l.Now(), l.Source.View()
	set = decide(now, view, key, refusal.Err) // with none at all
	return set, l.Complete(ctx, c.Name, now, view, key, &set)
}

// ask returns what decides a key. While others are asked, another worker does the work of this one.
func (l *Loop) ask(ctx context.Context, c *Controller, key change.Key) (Decision, error) {
	if c.Ask == nil {
		return c.Decide, nil
	}
	out := outside{aside: func() (func(), bool) { return work.Aside(ctx) }}
	defer out.end()
	return c.Ask(ctx, l.Source.View(), key, out.begin)
}
