package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
)

// crowd sends requests of users through withFairness, to a handler that notes whose it
// serves, and serves one when it is told to.
type crowd struct {
	h     http.Handler
	serve chan struct{}
	mu    sync.Mutex
	seen  []string
	codes map[int]int
	retry string
	all   sync.WaitGroup
}

func newCrowd(seats, spare int) *crowd {
	c := &crowd{serve: make(chan struct{}), codes: map[int]int{}}
	c.h = withFairness(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := apirequest.UserFrom(r.Context())
		c.mu.Lock()
		c.seen = append(c.seen, who.GetName())
		c.mu.Unlock()
		<-c.serve
	}), newFair(seats, spare), nil)
	return c
}

// come sends n requests of a user, and returns when they are at rest.
func (c *crowd) come(name string, n int, groups ...string) {
	for range n {
		c.all.Go(func() {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			w := httptest.NewRecorder()
			c.h.ServeHTTP(w, r.WithContext(apirequest.WithUser(r.Context(), &user.DefaultInfo{Name: name, Groups: groups})))
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.codes[w.Code]++; w.Code == http.StatusTooManyRequests {
				c.retry = w.Header().Get("Retry-After") + " " + strings.TrimSpace(w.Body.String())
			}
		})
	}
	synctest.Wait()
}

// done lets n requests end.
func (c *crowd) done(n int) {
	for range n {
		c.serve <- struct{}{}
		synctest.Wait()
	}
}

// The flood of one user costs another the time until a seat is free, and no more.
func TestFloodStarvesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(2, 0)
		c.come("flood", 500)
		c.come("ann", 2)
		c.come("bob", 1)
		c.done(6)
		want := []string{"flood", "flood", "flood", "ann", "bob", "flood", "ann", "flood"}
		if !slices.Equal(c.seen, want) {
			t.Errorf("served were %v, want %v", c.seen, want)
		}
		close(c.serve)
		c.all.Wait()
		if c.codes[http.StatusOK] != 503 {
			t.Errorf("answers are %v", c.codes)
		}
	})
}

// Who has too many requests waiting, or one for too long, is told when to come again;
// others are let in.
func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(1, 0)
		c.come("flood", 1+mostWaiting+5)
		if c.codes[http.StatusTooManyRequests] != 5 || c.retry != "1 Too many requests, please try again later." {
			t.Errorf("answers are %v, %q", c.codes, c.retry)
		}
		c.come("ann", 1)
		c.done(2)
		if !slices.Equal(c.seen, []string{"flood", "flood", "ann"}) {
			t.Errorf("served were %v", c.seen)
		}
		close(c.serve)
		c.all.Wait()
	})
}

// Who gives up leaves the line, and a seat that came too late goes on to the next.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(1, 0)
		c.come("ann", 3)
		synctest.Wait()
		time.Sleep(longestWait + time.Second)
		synctest.Wait()
		if c.codes[http.StatusTooManyRequests] != 2 {
			t.Errorf("answers are %v", c.codes)
		}
		c.come("bob", 1)
		c.done(2)
		if !slices.Equal(c.seen, []string{"ann", "bob"}) {
			t.Errorf("served were %v", c.seen)
		}
		c.all.Wait()
	})
}

// Who holds all seats, and gives none back, as what he asks for waits for what is his, keeps nobody
// else out: not by as many names as a namespace can have, and administrators by none.
func TestSeatsThatAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const seats = 64
		c := newCrowd(seats, spareSeats)
		served := func(want int) {
			t.Helper()
			if len(c.seen) != want {
				t.Errorf("%d are served, want %d: %v", len(c.seen), want, c.seen[min(seats, len(c.seen)):])
			}
			c.seen = nil
		}
		c.come("system:serviceaccount:eve:a", 500)
		served(seats)
		c.come("system:serviceaccount:eve:b", 5)
		served(0)
		c.come("ann", 2)
		c.come("system:serviceaccount:bob:a", 1)
		served(3)
		for i := range 100 {
			c.come(fmt.Sprint("greedy-", i), 100)
		}
		served(spareSeats - administratorsSeats - 3)
		c.come("late", 1)
		served(0)
		c.come("admin", 100, "system:masters")
		served(4)
		close(c.serve)
		c.all.Wait()
		if c.codes[http.StatusOK] != 500+5+3+10000+1+100 {
			t.Errorf("answers are %v", c.codes)
		}
	})
}
