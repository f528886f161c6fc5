package server

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// inParallel calls do for every item, workers at a time, and returns the first
// error; after one, no further items are begun.
func inParallel[T any](ctx context.Context, items []T, workers int, do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return do(ctx, item) })
	}
	return group.Wait()
}
