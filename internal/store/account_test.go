package store

import (
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/sampan-batch/sampan/internal/change"
)

// What Options.Account adds is committed with the set, whole, and each set is accounted
// for in the state that the one before it has made: the sum is right at every revision.
func TestAccount(t *testing.T) {
	t.Parallel()
	sum := key("configmaps", "sum")
	full := errors.New("full")
	const most = 50
	account := func(view change.View, writes []change.Write) ([]change.Write, error) {
		var more []change.Write
		for _, w := range writes {
			if w.Key == sum || w.Op != change.Create {
				continue
			}
			old, ok := view.Get(sum)
			if !ok {
				return append(more, change.Write{Op: change.Create, Key: sum, Object: object(sum, "1")}), nil
			}
			n, _ := strconv.Atoi(valueOf(old))
			if n == most {
				return nil, full
			}
			more = append(more, change.Write{Op: change.Update, Key: sum, Rev: change.RevOf(old), Object: object(sum, strconv.Itoa(n+1))})
		}
		return more, nil
	}
	s := mustOpen(t, Options{Account: account})
	var refused, failed int
	var mu sync.Mutex
	var writers sync.WaitGroup
	for i := range 100 {
		writers.Go(func() {
			_, err := s.Apply(t.Context(), createSet(key("configmaps", "o"+strconv.Itoa(i)), "x", false))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, full):
				refused++
			case err != nil:
				failed++
			}
		})
	}
	writers.Wait()
	got, _ := s.View().Get(sum)
	if refused != 100-most || failed != 0 || valueOf(got) != strconv.Itoa(most) || s.View().Len(sum.Resource) != most+1 {
		t.Errorf("%d are refused, %d fail, the sum is %s, there are %d", refused, failed, valueOf(got), s.View().Len(sum.Resource)-1)
	}
}
