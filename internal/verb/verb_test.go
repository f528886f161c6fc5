package verb

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/util/flowcontrol"
)

// TestLate: whatever a client says when its time is over, and shortly before, the reason is that.
func TestLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		late := errors.New("not all of it was gone in time")
		limit := flowcontrol.NewTokenBucketRateLimiter(0.1, 1)
		limit.Accept()
		for name, do := range map[string]func(context.Context) error{
			"it waits":                 func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			"it will not have a turn":  func(ctx context.Context) error { return limit.Wait(ctx) },
			"it is told by the server": func(ctx context.Context) error { <-ctx.Done(); return errors.New("EOF") },
		} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, late)
			began := time.Now()
			if err := forEach(ctx, []int{1}, func(int) error { return do(ctx) }); !errors.Is(err, late) || time.Since(began) != time.Second {
				t.Errorf("%s: %v after %s", name, err, time.Since(began))
			}
			cancel()
		}
		other := errors.New("no rights")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, late)
		defer cancel()
		if err := forEach(ctx, []int{1}, func(int) error { return other }); !errors.Is(err, other) || errors.Is(err, late) {
			t.Errorf("in time: %v", err)
		}
	})
}

func TestNear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typed, known string
		want         bool
	}{
		{"jobs", "jobs", true}, {"jbs", "jobs", true}, {"jobbs", "jobs", true}, {"jobz", "jobs", true}, {"jbos", "jobs", true},
		{"", "jobs", false}, {"j", "jobs", false}, {"jo", "jobs", false}, {"sboj", "jobs", false}, {"pods", "jobs", false}, {"node", "nodes", true},
	} {
		if got := near(c.typed, c.known); got != c.want {
			t.Errorf("near(%q, %q) = %v", c.typed, c.known, got)
		}
	}
}
