package image

import (
	"context"
	"fmt"
	"runtime"
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
	// Progress is called now and then, from one goroutine at a time.
	Progress func(Progress)
}

// Pull fetches the image that ref names from its registry: this machine's
// platform of an index, verified against every digest on the way. Pulls of one
// name at the same time share one transfer. The error is an *Error.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	flight, first := s.pulls.join(r.Name())
	if first {
		go func() {
			defer s.pulls.leave(r.Name(), flight)
			flight.img, flight.err = s.pull(context.WithoutCancel(ctx), r, ref, o)
		}()
	}
	select {
	case <-flight.done:
		return flight.img, flight.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *Store) pull(ctx context.Context, r name.Reference, ref string, o PullOptions) (*Image, error) {
	img, err := remote.Image(r,
		remote.WithContext(ctx),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
		remote.WithAuthFromKeychain(authn.NewMultiKeychain(keychain(o.Secrets), authn.DefaultKeychain)),
		remote.WithUserAgent("sampan"),
	)
	if err != nil {
		return nil, pullError(ref, err)
	}
	digest, err := s.add(ctx, ref, img, o.Progress)
	if err != nil {
		return nil, pullError(ref, err)
	}
	names := []string{r.Name()}
	if _, byTag := r.(name.Tag); byTag {
		names = append(names, r.Context().Digest(digest).Name())
	}
	if err := s.name(digest, false, names...); err != nil {
		return nil, pullError(ref, err)
	}
	got, ok, err := s.Get(ref)
	if err != nil || !ok {
		return nil, pullError(ref, fmt.Errorf("the image vanished after it was pulled: %v", err))
	}
	return got, nil
}

// flights lets pulls of one name share the work.
type flights struct {
	mu    sync.Mutex
	byRef map[string]*flight
}

// flight is one pull; img and err are set when done is closed.
type flight struct {
	done chan struct{}
	img  *Image
	err  error
}

func (f *flights) join(ref string) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.byRef[ref]; fl != nil {
		return fl, false
	}
	if f.byRef == nil {
		f.byRef = map[string]*flight{}
	}
	fl := &flight{done: make(chan struct{})}
	f.byRef[ref] = fl
	return fl, true
}

func (f *flights) leave(ref string, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byRef, ref)
	close(fl.done)
}
