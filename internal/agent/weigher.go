package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
)

const (
	// weighPeriod is how often pods that may outgrow a limit are measured, as a
	// kubelet does it. A pod that takes long to measure is measured less often,
	// so that measuring costs a weighShare of the time at most, but as often as
	// maxWeighPeriod says.
	weighPeriod    = 10 * time.Second
	weighShare     = 20
	maxWeighPeriod = 5 * time.Minute
)

// weigher compares what pods take of the disk with their limits, and evicts those
// that have outgrown one. Pods without a limit cost it nothing.
type weigher struct {
	agent *Agent
	log   *slog.Logger

	mu  sync.Mutex
	due map[types.UID]time.Time // when to measure a pod that took long
}

// run weighs until ctx ends.
func (w *weigher) run(ctx context.Context) {
	for sleep(ctx, weighPeriod) {
		w.weighAll(ctx)
	}
}

func (w *weigher) weighAll(ctx context.Context) {
	now := time.Now()
	limited := w.agent.keepers(eviction.Limited)
	due := make(map[types.UID]time.Time)
	list := limited[:0]
	for _, k := range limited {
		if at := w.due[k.ref.UID]; now.Before(at) {
			due[k.ref.UID] = at
		} else {
			list = append(list, k)
		}
	}
	w.due = due
	inPool(len(list), func(i int) {
		if ctx.Err() == nil {
			w.weigh(ctx, list[i])
		}
	})
}

// weigh measures one pod.
func (w *weigher) weigh(ctx context.Context, k *keeper) {
	began, pod := time.Now(), k.latest.Load()
	u, err := w.agent.usage(ctx, k.ref, pod)
	if err != nil {
		if ctx.Err() == nil {
			k.log().Warn("cannot measure a pod", "err", err)
		}
		return
	}
	if wait := min(time.Since(began)*weighShare, maxWeighPeriod); wait > weighPeriod {
		w.mu.Lock()
		w.due[k.ref.UID] = time.Now().Add(wait)
		w.mu.Unlock()
	}
	if message := eviction.Overgrown(pod, u); message != "" && !eviction.Critical(pod) {
		k.post(func() { k.evict(message, false) })
	}
}
