package server

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/serviceaccount"
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

const (
	// spareSeats are beside those, for when all of them are held by few users, whose requests
	// wait for somebody: a webhook, or another server's part of the API, which may be theirs.
	// Who holds a quarter as many as there are left of them gets none.
	spareSeats = 48
	// administratorsSeats are those of spareSeats that only administrators get: others may be
	// many, and whoever has made them so is to be stopped by somebody.
	administratorsSeats = 16
)

// fair gives out seats: to whoever comes while there are some, else to the users that
// wait, each in turn, however many requests each has. So the flood of one costs another
// the time until a seat is free, and no more; if it is one that waits, not even that.
// (Kubernetes: API Priority and Fairness. Watches and streams are not counted.)
type fair struct {
	wait time.Duration

	mu    sync.Mutex
	free  int
	spare int
	held  map[string]int     // seats, by user
	queue map[string][]*turn // of users that wait, the oldest request first
	order []string           // the users that wait: the first is next
}

// visitor is for whom there are seats.
type visitor struct {
	name  string
	admin bool
}

// visitorOf is as whom a user waits: the accounts of a namespace as one, since who has some of them
// can have as many as he likes.
func visitorOf(u user.Info) visitor {
	v := visitor{u.GetName(), slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup)}
	if namespace, _, err := serviceaccount.SplitUsername(v.name); err == nil {
		v.name = serviceaccount.ServiceAccountUsernamePrefix + namespace
	}
	return v
}

// turn is a request that waits. seated is closed when it has got a seat.
type turn struct {
	visitor
	seated chan struct{}
	spare  bool // which sort of seat
}

var errFull = errors.New("too many requests wait")

func newFair(seats, spare int) *fair {
	return &fair{wait: longestWait, free: seats, spare: spare, held: map[string]int{}, queue: map[string][]*turn{}}
}

// enter takes a seat for a request, and returns when there is one. Who gets one
// has to leave.
func (f *fair) enter(ctx context.Context, who visitor) (*turn, error) {
	t, seated, err := f.line(who)
	if seated || err != nil {
		return t, err
	}
	timer := time.NewTimer(f.wait)
	defer timer.Stop()
	select {
	case <-t.seated:
		return t, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = errFull
	}
	if f.giveUp(t) {
		return nil, err
	}
	return t, nil // it has got a seat this moment
}

// line takes a seat, or puts a request in line.
func (f *fair) line(who visitor) (t *turn, seated bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t = &turn{visitor: who}
	if f.free > 0 {
		f.free--
		f.held[who.name]++
		return t, true, nil
	}
	if f.takesSpare(t) {
		return t, true, nil
	}
	waiting := f.queue[who.name]
	if len(waiting) >= mostWaiting {
		return nil, false, errFull
	}
	if len(waiting) == 0 {
		f.order = append(f.order, who.name)
	}
	t.seated = make(chan struct{})
	f.queue[who.name] = append(waiting, t)
	return t, false, nil
}

// takesSpare gives a request one of the spare seats, if it may have one; f.mu is held.
func (f *fair) takesSpare(t *turn) bool {
	left := f.spare
	if !t.admin {
		left -= administratorsSeats
	}
	if 4*f.held[t.name] >= left {
		return false
	}
	f.spare--
	f.held[t.name]++
	t.spare = true
	return true
}

// giveUp takes a request out of the line, unless it has a seat.
func (f *fair) giveUp(t *turn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, other := range f.queue[t.name] {
		if other == t {
			f.set(t.name, append(f.queue[t.name][:i], f.queue[t.name][i+1:]...))
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

// leave gives a seat to the next in turn, a spare one to the first who may have it.
func (f *fair) leave(t *turn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held[t.name]--; f.held[t.name] == 0 {
		delete(f.held, t.name)
	}
	if t.spare {
		f.spare++
		for i, name := range f.order {
			if f.takesSpare(f.queue[name][0]) {
				f.seat(i)
				return
			}
		}
		return
	}
	if len(f.order) == 0 {
		f.free++
		return
	}
	f.held[f.order[0]]++
	f.seat(0)
}

// seat lets the oldest request of a user go on that waits, and has the user be the last in turn;
// f.mu is held.
func (f *fair) seat(at int) {
	name := f.order[at]
	f.order = append(slices.Delete(f.order, at, at+1), name)
	first := f.queue[name][0]
	f.set(name, f.queue[name][1:])
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
		t, err := f.enter(r.Context(), visitorOf(who))
		if err != nil {
			turnAway(w, "Too many requests, please try again later.")
			return
		}
		defer f.leave(t)
		h.ServeHTTP(w, r)
	})
}

// turnAway tells a client that there is no place for what it asks at the moment.
func turnAway(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", strconv.Itoa(comeAgain))
	http.Error(w, why, http.StatusTooManyRequests)
}

func seats() int { return seatsFor(runtime.GOMAXPROCS(0)) }
