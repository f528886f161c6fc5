package supervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/sampan-batch/sampan/internal/runner"
)

// Alive returns why no container of a class can be started now, nil if one can:
// its supervisor cannot be started, is about to end, or has not answered before
// ctx ended. A class of which nothing was ever started is well.
func (c *Client) Alive(ctx context.Context, class runner.Class) error {
	c.mu.Lock()
	l := c.links[class]
	c.mu.Unlock()
	if l == nil {
		return nil
	}
	conn, err := l.connected(ctx)
	if err != nil {
		return l.silent(ctx, nil, err)
	}
	// One of a former version answers that it does not know the question.
	switch err := conn.call(ctx, verbAlive, nil, nil); {
	case errors.Is(err, errLost):
		return l.silent(ctx, conn, l.after(ctx, conn)) // another one has taken its place
	case errors.Is(err, errStopping):
		return fmt.Errorf("the supervisor of class %s is about to end%s", class, l.why())
	case ctx.Err() != nil:
		return l.silent(ctx, conn, err)
	}
	return nil
}

// silent says that there is no answer.
func (l *link) silent(ctx context.Context, conn *connection, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && conn != nil:
		return fmt.Errorf("the supervisor of class %s, process %d, does not answer", l.opts.Class, conn.pid)
	}
	return fmt.Errorf("the supervisor of class %s cannot be reached: %w", l.opts.Class, err)
}

// left takes note of why the supervisor is about to end.
func (l *link) left(why string) {
	l.mu.Lock()
	l.leaving = why
	l.mu.Unlock()
	l.client.Log.Warn("a supervisor ends, and its containers with it; another one is started then", "class", l.opts.Class, "why", why)
}

// why is what the supervisor has said of its end.
func (l *link) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaving == "" {
		return ""
	}
	return ": " + l.leaving
}
