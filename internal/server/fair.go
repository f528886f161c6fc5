package server

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
)

const (
	// mostWaiting is how many requests of one user may wait for a seat; the next one is
	// told to come again.
	mostWaiting = 1000
	// longestWait is how long one may wait, as in Kubernetes.
	longestWait = 15 * time.Second
	// comeAgain is in how many seconds a client that was turned away may try again.
	comeAgain = 1
)

// seatsFor is how many requests are worked on at a time. More would not be done sooner:
// they share the processors, and what waits for the disk shares its fsyncs.
func seatsFor(processors int) int { return max(64, 32*processors) }

// fair gives out seats: to whoever comes while there are some, else to the users that
// wait, each in turn, however many requests each has. So the flood of one costs another
// the time until a seat is free, and no more. (Kubernetes: API Priority and Fairness.
// Watches and streams are not counted.)
type fair struct {
	wait time.Duration

	mu    sync.Mutex
	free  int
	queue map[string][]*turn // of users that wait, the oldest request first
	order []string           // the users that wait: the first is next
}

// turn is a request that waits. seated is closed when it has got a seat.
type turn struct{ seated chan struct{} }

var errFull = errors.New("too many requests wait")

func newFair(seats int) *fair {
	return &fair{wait: longestWait, free: seats, queue: map[string][]*turn{}}
}

// enter takes a seat for a request of user, and returns when there is one. Who gets one
// has to leave.
func (f *fair) enter(ctx context.Context, user string) error {
	t, err := f.line(user)
	if t == nil {
		return err
	}
	timer := time.NewTimer(f.wait)
	defer timer.Stop()
	select {
	case <-t.seated:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = errFull
	}
	if f.giveUp(user, t) {
		return err
	}
	return nil // it has got a seat this moment
}

// line takes a seat, or puts a request in line.
func (f *fair) line(user string) (*turn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.free > 0 {
		f.free--
		return nil, nil
	}
	waiting := f.queue[user]
	if len(waiting) >= mostWaiting {
		return nil, errFull
	}
	if len(waiting) == 0 {
		f.order = append(f.order, user)
	}
	t := &turn{make(chan struct{})}
	f.queue[user] = append(waiting, t)
	return t, nil
}

// giveUp takes a request out of the line, unless it has a seat.
func (f *fair) giveUp(user string, t *turn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, other := range f.queue[user] {
		if other == t {
			f.set(user, append(f.queue[user][:i], f.queue[user][i+1:]...))
			return true
		}
	}
	return false
}

// set replaces what waits of user; f.mu is held.
func (f *fair) set(user string, waiting []*turn) {
	if len(waiting) > 0 {
		f.queue[user] = waiting
		return
	}
	delete(f.queue, user)
	for i, name := range f.order {
		if name == user {
			f.order = append(f.order[:i], f.order[i+1:]...)
			return
		}
	}
}

// leave gives a seat to the next in turn.
func (f *fair) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.order) == 0 {
		f.free++
		return
	}
	next := f.order[0]
	f.order = append(f.order[1:], next)
	first := f.queue[next][0]
	f.set(next, f.queue[next][1:])
	close(first.seated)
}

// withFairness lets the requests of users through in turn, but for those that last.
func withFairness(h http.Handler, f *fair, lasts apirequest.LongRunningRequestCheck) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, _ := apirequest.RequestInfoFrom(r.Context())
		who, known := apirequest.UserFrom(r.Context())
		// What this program asks itself may be part of a request that has a seat.
		if !known || who.GetName() == user.APIServerUser || info != nil && lasts != nil && lasts(r, info) {
			h.ServeHTTP(w, r)
			return
		}
		if err := f.enter(r.Context(), who.GetName()); err != nil {
			w.Header().Set("Retry-After", strconv.Itoa(comeAgain))
			http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
			return
		}
		defer f.leave()
		h.ServeHTTP(w, r)
	})
}

func seats() int { return seatsFor(runtime.GOMAXPROCS(0)) }
