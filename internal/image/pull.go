package image

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// PullOptions say how to pull; the zero value is an anonymous, silent pull.
type PullOptions struct {
	// Secrets are tried before the user's own docker credentials.
	Secrets []Credentials
	// Progress is called now and then, from one goroutine at a time, of a transfer that is
	// shared, too.
	Progress func(Progress)
}

// Pull fetches the image that ref names from its registry: this machine's
// platform of an index, verified against every digest on the way. Pulls of one
// name at the same time, by the same credentials, share one transfer, which ends
// when the last of them has gone. The error is an *Error, or the cause of ctx's end.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	what := errand{ref: r.Name()}
	if what.as, err = loginFor(ctx, r, o.Secrets); err != nil {
		return nil, pullError(ref, err)
	}
	flight, ticket := s.pulls.join(ctx, what, o.Progress, func(ctx context.Context, progress func(Progress)) (*Image, error) {
		return s.pull(ctx, r, ref, what.as, progress)
	})
	select {
	case <-flight.done:
		return flight.img, flight.err
	case <-ctx.Done():
		s.pulls.leave(what, flight, ticket)
		return nil, context.Cause(ctx)
	}
}

func (s *Store) pull(ctx context.Context, r name.Reference, ref string, as login, progress func(Progress)) (*Image, error) {
	w := &wire{base: &trip{roads: s.roads, registry: r.Context().RegistryStr()}, limits: s.limits}
	img, err := remote.Image(r,
		remote.WithContext(ctx),
		remote.WithTransport(w),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
		remote.WithAuth(authn.FromConfig(as.AuthConfig)),
		remote.WithUserAgent("sampan"),
	)
	if err != nil {
		return nil, pullError(ref, err)
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, badImage("image %q has no usable manifest: %v", ref, err)
	}
	w.expect(m)
	digest, err := s.add(ctx, ref, img, uncompressed, func(p Progress) {
		p.Done = min(w.got.Load(), p.Total) // what has come, not what it unpacks to
		progress(p)
	})
	if err != nil {
		return nil, pullError(ref, err)
	}
	if err := s.namePulled(r, digest, as.by); err != nil {
		return nil, pullError(ref, err)
	}
	got, ok, err := s.Get(ref)
	if err != nil || !ok {
		return nil, pullError(ref, fmt.Errorf("the image vanished after it was pulled: %v", err))
	}
	return got, nil
}

// errand is what is pulled, and by which credentials. Who has others does not share the transfer:
// he would get what his are not good for, or nothing, because those of another are good for nothing.
type errand struct {
	ref string
	as  login
}

// flights lets pulls of one name share the work.
type flights struct {
	mu    sync.Mutex
	byRef map[errand]*flight
}

// flight is one pull; img and err are set when done is closed.
type flight struct {
	done   chan struct{}
	img    *Image
	err    error
	cancel context.CancelFunc

	// Guarded by flights.mu.
	waiting []*ticket
}

// ticket is one who waits for a flight, and is told how far it is.
type ticket struct {
	tell func(Progress) // nil: he does not ask
}

// join waits with those who pull ref already, or starts pull with the values of
// ctx and a life of its own.
func (f *flights) join(ctx context.Context, ref errand, progress func(Progress), pull func(context.Context, func(Progress)) (*Image, error)) (*flight, *ticket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mine := &ticket{progress}
	if fl := f.byRef[ref]; fl != nil {
		fl.waiting = append(fl.waiting, mine)
		return fl, mine
	}
	if f.byRef == nil {
		f.byRef = map[errand]*flight{}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl := &flight{done: make(chan struct{}), waiting: []*ticket{mine}, cancel: cancel}
	f.byRef[ref] = fl
	go func() {
		defer cancel()
		fl.img, fl.err = pull(ctx, func(p Progress) { f.tell(fl, p) })
		f.mu.Lock()
		defer f.mu.Unlock()
		f.forgetLocked(ref, fl)
		close(fl.done)
	}()
	return fl, mine
}

// tell tells all who wait how far it is.
func (f *flights) tell(fl *flight, p Progress) {
	f.mu.Lock()
	told := slices.Clone(fl.waiting)
	f.mu.Unlock()
	for _, t := range told {
		if t.tell != nil {
			t.tell(p)
		}
	}
}

// leave is for who does not wait any longer. The last one ends the flight, and
// nobody boards it after that.
func (f *flights) leave(ref errand, fl *flight, mine *ticket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiting = slices.DeleteFunc(slices.Clone(fl.waiting), func(t *ticket) bool { return t == mine }); len(fl.waiting) == 0 {
		f.forgetLocked(ref, fl)
		fl.cancel()
	}
}

func (f *flights) forgetLocked(ref errand, fl *flight) {
	if f.byRef[ref] == fl {
		delete(f.byRef, ref)
	}
}
