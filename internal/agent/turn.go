package agent

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// turns has room for the pods that begin at once: from when a pod joins its network until its first
// process runs. A thousand pods that come at once would else have a thousand networks made,
// although most of them find one that a pod before them has left.
type turns chan struct{}

func newTurns() turns { return make(turns, max(8, 4*runtime.GOMAXPROCS(0))) }

// beginTime is how long a pod has its turn: many times as long as one takes that meets nothing
// to wait for. Whatever one waits for, an image or a hook, it holds up others no longer.
const beginTime = 100 * time.Millisecond

// take waits for a turn, and returns what ends it.
func (t turns) take(ctx context.Context) (end func(), err error) {
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	once := sync.OnceFunc(func() { <-t })
	timer := time.AfterFunc(beginTime, once)
	return func() {
		timer.Stop()
		once()
	}, nil
}
