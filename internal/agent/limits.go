package agent

import (
	"context"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
)

const (
	// limitPeriod is how often pods that may outgrow a limit are measured, as a
	// kubelet does it. A pod that takes long to measure is measured less often,
	// so that measuring costs a limitShare of the time at most, but as often as
	// maxLimitPeriod says.
	limitPeriod    = 10 * time.Second
	limitShare     = 20
	maxLimitPeriod = 5 * time.Minute
)

// limitEnforcer compares what pods take of the disk with their limits, and evicts those
// that have outgrown one. Pods without a limit cost it nothing.
type limitEnforcer struct {
	*services
	pods *podWorkers

	mu  sync.Mutex
	due map[string]time.Time // when to measure a pod that took long
}

// run measures until ctx ends.
func (e *limitEnforcer) run(ctx context.Context) {
	for sleep(ctx, limitPeriod) {
		e.enforceAll(ctx)
	}
}

// enforceAll measures the pods whose turn it is.
func (e *limitEnforcer) enforceAll(ctx context.Context) {
	now := time.Now()
	limited := e.pods.list(eviction.Limited)
	due := make(map[string]time.Time)
	list := limited[:0]
	for _, w := range limited {
		if at := e.due[w.ref.UID]; now.Before(at) {
			due[w.ref.UID] = at
		} else {
			list = append(list, w)
		}
	}
	e.due = due
	inPool(len(list), func(i int) {
		if ctx.Err() == nil {
			e.enforce(ctx, list[i])
		}
	})
}

// enforce measures one pod, and evicts it if it has outgrown a limit.
func (e *limitEnforcer) enforce(ctx context.Context, w *podWorker) {
	began, pod := time.Now(), w.latest.Load()
	u, err := e.usage(ctx, w.ref, pod)
	if err != nil {
		if ctx.Err() == nil {
			w.log().Warn("cannot measure a pod", "err", err)
		}
		return
	}
	if wait := min(time.Since(began)*limitShare, maxLimitPeriod); wait > limitPeriod {
		e.mu.Lock()
		e.due[w.ref.UID] = time.Now().Add(wait)
		e.mu.Unlock()
	}
	if message := eviction.Overgrown(pod, u); message != "" && !eviction.Critical(pod) {
		w.post(func() { w.evict(message, false) })
	}
}
