package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/store"
)

// Source is where the objects are that a Loop decides about: our store, or a mirror
// of a cluster's API.
type Source interface {
	// View returns the newest state that is known.
	View() change.View
	// Follow calls look after every write, with a state that contains it and the
	// writes since the last call; without any when all objects are to be looked at:
	// first of all, and when it has lost count. It ends with ctx, or when it can no
	// longer tell.
	Follow(ctx context.Context, look func(view change.View, events []change.Event)) error
	// Apply carries out a set. An error that is ErrConflict says that the state has
	// become another than the set was decided from; the decision is then taken
	// again.
	Apply(ctx context.Context, set change.Set) error
}

// ErrConflict is an answer of Source.Apply.
var ErrConflict = errors.New("the state has changed since the decision")

// FromStore returns our store as a Source.
func FromStore(s *store.Store) Source { return storeSource{s} }

type storeSource struct{ *store.Store }

func (s storeSource) View() change.View { return s.Store.View() }

func (s storeSource) Follow(ctx context.Context, look func(change.View, []change.Event)) error {
	for {
		view := s.Store.View()
		look(view, nil)
		w, err := s.Store.Watch("", view.Rev())
		for err == nil {
			var events []change.Event
			if events, _, err = w.Next(ctx); err == nil && len(events) > 0 {
				look(s.Store.View(), events)
			}
		}
		if !errors.Is(err, store.ErrGone) || ctx.Err() != nil {
			return err
		}
	}
}

func (s storeSource) Apply(ctx context.Context, set change.Set) error {
	_, err := s.Store.Apply(ctx, set)
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}
