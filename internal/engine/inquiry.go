package engine

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// answerLife is how long an answer is good for.
	answerLife = time.Second
	// answerTime is how long who asks waits for it, askTime how long what can be
	// given up is asked: it says better what is wrong.
	answerTime = 2 * time.Second
	askTime    = 3 * answerTime / 4
)

// inquiry asks something that may never answer: a disk, another process. However
// many ask, and whoever they are, it is asked once at a time and once a second.
type inquiry struct {
	what string // that does not answer
	ask  func(context.Context) error

	mu       sync.Mutex
	err      error
	answered time.Time     // when err was the answer
	pending  chan struct{} // closed when the question under way is answered
	asked    time.Time     // since when that is
}

// answer returns what the answer is, or that there is none.
func (q *inquiry) answer() error {
	q.mu.Lock()
	if q.pending == nil {
		if !q.answered.IsZero() && time.Since(q.answered) < answerLife {
			defer q.mu.Unlock()
			return q.err
		}
		q.pending, q.asked = make(chan struct{}), time.Now()
		go q.put()
	}
	pending, asked := q.pending, q.asked
	q.mu.Unlock()
	timer := time.NewTimer(answerTime - time.Since(asked))
	defer timer.Stop()
	select {
	case <-pending:
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.err
	case <-timer.C:
		return fmt.Errorf("%s has not answered for %s", q.what, time.Since(asked).Round(time.Second))
	}
}

// put asks.
func (q *inquiry) put() {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	err := q.ask(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err, q.answered = err, time.Now()
	close(q.pending)
	q.pending = nil
}
