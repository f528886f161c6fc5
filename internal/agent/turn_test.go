package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestTurns has as many pods begin at once as there is room for; one that hangs loses its turn,
// and one that is given up while it waits takes none.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns, began := make(turns, 2), time.Now()
		take := func() (end func(), waited time.Duration) {
			end, err := turns.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return end, time.Since(began)
		}
		first, _ := take()
		take() // and hangs
		given, giveUp := context.WithTimeout(t.Context(), beginTime/4)
		defer giveUp()
		if _, err := turns.take(given); err == nil {
			t.Error("there was room for a third one")
		}
		time.AfterFunc(beginTime/4, func() { first(); first() })
		third, waited := take()
		if want := beginTime / 2; waited != want {
			t.Errorf("the third one waited %v, want %v: until the first one's turn ended", waited, want)
		}
		if _, waited := take(); waited != beginTime {
			t.Errorf("the fourth one waited %v, want %v: until the one that hangs had lost its turn", waited, beginTime)
		}
		third()
		time.Sleep(2 * beginTime) // a turn that ended is not ended again
		if len(turns) != 0 {
			t.Errorf("%d turns are taken when all have ended", len(turns))
		}
	})
}
