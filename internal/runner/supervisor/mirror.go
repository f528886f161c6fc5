package supervisor

import (
	"context"

	"github.com/sampan-batch/sampan/internal/runner"
)

// learn takes in what is now known of a container. News may overtake the answer
// to Start; a container that has ended stays so.
func (l *link) learn(status runner.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.containers[status.ID]
	if m == nil {
		m = &mirrored{ended: make(chan struct{})}
		l.containers[status.ID] = m
	}
	if m.status.Phase == runner.Exited {
		return
	}
	if status.OutputLost.Bytes > m.status.OutputLost.Bytes {
		l.losses.add(status)
	}
	m.status = status
	if status.Phase == runner.Exited {
		close(m.ended)
	}
}

// forget drops a container that was removed.
func (l *link) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.containers[id]
	if m == nil {
		return
	}
	delete(l.containers, id)
	if m.status.Phase != runner.Exited {
		m.gone = true
		close(m.ended)
	}
}

func (l *link) status(id string) (runner.Status, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.containers[id]; m != nil {
		return m.status, true
	}
	return runner.Status{}, false
}

// running tells whether a container runs.
func (l *link) running() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.containers {
		if m.status.Phase != runner.Exited {
			return true
		}
	}
	return false
}

func (l *link) knows(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.containers[id] != nil
}

// list appends all containers to statuses.
func (l *link) list(statuses []runner.Status) []runner.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.containers {
		statuses = append(statuses, m.status)
	}
	return statuses
}

// wait returns when a container has ended, even one whose supervisor has died:
// run starts another one, which reports it.
func (l *link) wait(ctx context.Context, id string) (runner.Status, error) {
	l.mu.Lock()
	m := l.containers[id]
	l.mu.Unlock()
	if m == nil {
		return runner.Status{}, errorf(id, runner.ErrNotFound)
	}
	select {
	case <-m.ended:
	case <-ctx.Done():
		return runner.Status{}, context.Cause(ctx)
	case <-l.done:
		select {
		case <-m.ended:
		default:
			return runner.Status{}, errClosed
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.gone {
		return runner.Status{}, errorf(id, runner.ErrNotFound)
	}
	return m.status, nil
}

func (l *link) isStopping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopping
}
