package control

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/autoscale"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
	"github.com/sampan-batch/sampan/internal/work"
)

// Autoscaler decides for HorizontalPodAutoscalers. It is not in the table of controllers, because
// it has to ask the nodes what pods use, which takes its time, and because it remembers what it
// decided before. Who has no HorizontalPodAutoscaler pays for a watch in which nothing happens.
type Autoscaler struct {
	AutoscalerOptions
	queue   *work.Queue[change.Key]
	sparing sparing

	mu       sync.Mutex
	memories map[change.Key]memory
}

// AutoscalerOptions for NewAutoscaler; all are required.
type AutoscalerOptions struct {
	Store *store.Store
	Kinds *kind.Kinds
	// Usage measures what the pods of a namespace use.
	Usage    func(ctx context.Context, namespace string) ([]metricsv1beta1.PodMetrics, error)
	Recorder *Recorder
	Logger   *slog.Logger
}

// memory is what is known of an autoscaler since it was decided last.
type memory struct {
	uid types.UID
	at  time.Time
	autoscale.Memory
}

const (
	// autoscalers is how many are decided at a time, as on Kubernetes.
	autoscalers = 5
	// measureTimeout bounds how long one waits for the nodes.
	measureTimeout = 10 * time.Second
	// leastPeriod is how often one is decided at most, however often its spec changes: what it
	// remembers is bounded by that.
	leastPeriod = time.Second
)

// NewAutoscaler returns an Autoscaler; Run runs it.
func NewAutoscaler(o AutoscalerOptions) *Autoscaler {
	return &Autoscaler{AutoscalerOptions: o, queue: work.New[change.Key](work.DefaultBackoff), memories: map[change.Key]memory{}}
}

// Run decides until ctx ends.
func (a *Autoscaler) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- a.queue.Run(ctx, autoscalers, a.handle) }()
	err := a.follow(ctx)
	cancel(err)
	<-done
	return err
}

// ClockSet tells that the wall clock jumped.
func (a *Autoscaler) ClockSet() {
	a.queue.Recheck()
	a.lookAtAll(a.Store.View())
}

// lookAtAll has every autoscaler decided.
func (a *Autoscaler) lookAtAll(view change.View) {
	for obj := range view.List(kind.HorizontalPodAutoscalers, "") {
		a.queue.Add(kind.HorizontalPodAutoscalers.Key(obj.GetNamespace(), obj.GetName()))
	}
}

// follow has autoscalers decided that are new, gone, or have another spec.
func (a *Autoscaler) follow(ctx context.Context) error {
	for {
		view := a.Store.View()
		a.lookAtAll(view)
		w, err := a.Store.Watch(kind.HorizontalPodAutoscalers, view.Rev())
		for err == nil {
			var events []change.Event
			events, _, err = w.Next(ctx)
			for _, ev := range events {
				if ev.Op != change.Update || ev.Prev.GetGeneration() != ev.Object.GetGeneration() {
					a.queue.Add(ev.Key)
				}
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, store.ErrGone) {
			return err
		}
	}
}

// handle decides one.
func (a *Autoscaler) handle(ctx context.Context, key change.Key) (time.Time, error) {
	s, before, ok := a.look(key)
	if !ok {
		a.mu.Lock()
		delete(a.memories, key)
		a.mu.Unlock()
		return time.Time{}, nil
	}
	if next := before.at.Add(leastPeriod); time.Now().Before(next) && !before.at.After(time.Now()) {
		return next, nil
	}
	if s.Measures() {
		usage := a.measure(ctx, key.Namespace)
		if s, before, ok = a.look(key); !ok {
			return time.Time{}, nil // its deletion has made the key dirty
		}
		s.Usage = usage
	}
	now := time.Now().Round(0)
	set, next := autoscale.Decide(now, s)
	if len(set.Writes) > 0 {
		if _, err := a.Store.Apply(ctx, set); err != nil {
			if !errors.As(err, new(*store.ConflictError)) && ctx.Err() == nil {
				a.sparing.tell(a.Logger, slog.LevelError, "decision was not stored", err, "controller", "autoscaler", "key", key.String())
			}
			return set.WakeAt, err
		}
	}
	a.mu.Lock()
	a.memories[key] = memory{s.Autoscaler.UID, now, next}
	a.mu.Unlock()
	a.Recorder.Record(set.Notes...)
	return set.WakeAt, nil
}

// look returns what is known of an autoscaler now.
func (a *Autoscaler) look(key change.Key) (autoscale.State, memory, bool) {
	view := a.Store.View()
	obj := at[*autoscalingv2.HorizontalPodAutoscaler](view, key.Resource, key.Namespace, key.Name)
	if obj == nil || obj.DeletionTimestamp != nil {
		return autoscale.State{}, memory{}, false
	}
	a.mu.Lock()
	before := a.memories[key]
	a.mu.Unlock()
	if before.uid != obj.UID {
		before = memory{}
	}
	s := autoscale.Look(a.Kinds.All(), view, obj)
	s.Memory = before.Memory
	return s, before, true
}

func (a *Autoscaler) measure(ctx context.Context, namespace string) autoscale.Usage {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	pods, err := a.Usage(ctx, namespace)
	return autoscale.Usage{Pods: pods, Err: err}
}
