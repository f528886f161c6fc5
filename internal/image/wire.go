package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// wire is how one pull talks to its registry. It ends what makes no progress,
// and takes no more of anything than was announced. A registry that lets others
// wait for ever, or fills their memory, is an error like any other.
type wire struct {
	base   http.RoundTripper
	limits Limits

	got atomic.Int64 // bytes of layers

	mu     sync.Mutex
	sizes  map[string]int64 // of the blobs that the manifest names, by digest
	config string           // the digest of the one that is no layer
}

// stalled is the error of a registry that sends nothing, or next to nothing.
type stalled struct{ why string }

func (e *stalled) Error() string { return e.why }

// expect says which blobs will be asked for.
func (w *wire) expect(m *v1.Manifest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.config = m.Config.Digest.String()
	w.sizes = map[string]int64{w.config: m.Config.Size}
	for _, l := range m.Layers {
		w.sizes[l.Digest.String()] = l.Size
	}
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, n := origin(req); n > maxRedirects {
		return nil, fmt.Errorf("the registry has redirected a request %d times", maxRedirects)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	idle := time.AfterFunc(w.limits.Idle, func() {
		cancel(&stalled{fmt.Sprintf("the registry sent nothing for %v", w.limits.Idle)})
	})
	resp, err := w.base.RoundTrip(req.WithContext(ctx))
	idle.Stop()
	if err != nil {
		err = causeOf(ctx, err)
		cancel(nil)
		return nil, err
	}
	body := &wireBody{rc: resp.Body, w: w, ctx: ctx, cancel: cancel, idle: idle}
	body.left, body.layer = w.most(req)
	resp.Body = body
	return resp, nil
}

// maxRedirects is how often a registry may send a request elsewhere. The client
// that we are part of does not count.
const maxRedirects = 10

// origin returns what was asked before it was redirected, and how often it was.
func origin(req *http.Request) (first *http.Request, redirects int) {
	for redirects <= maxRedirects && req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
		redirects++
	}
	return req, redirects
}

// most is how many bytes the answer to a request may have, and whether it is a layer.
func (w *wire) most(req *http.Request) (bytes int64, layer bool) {
	req, _ = origin(req)
	w.mu.Lock()
	defer w.mu.Unlock()
	if dir, digest := path.Split(req.URL.Path); strings.HasSuffix(dir, "/blobs/") {
		if size, ok := w.sizes[digest]; ok {
			return size, digest != w.config
		}
	}
	return w.limits.Metadata, false
}

// causeOf prefers the reason why a request was ended to what came of it.
func causeOf(ctx context.Context, err error) error {
	var s *stalled
	if errors.As(context.Cause(ctx), &s) {
		return s
	}
	return err
}

// wireBody reads an answer.
type wireBody struct {
	rc     io.ReadCloser
	w      *wire
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   *time.Timer
	left   int64
	layer  bool
	// The rate counts time spent waiting for the registry, not for our disk.
	waited time.Duration
	got    int64
}

func (b *wireBody) Read(p []byte) (int, error) {
	l := &b.w.limits
	began := time.Now()
	b.idle.Reset(l.Idle)
	n, err := b.rc.Read(p)
	b.idle.Stop()
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("the registry sent more than it had announced, or than a manifest may have")
	}
	b.got += int64(n)
	if b.layer {
		b.w.got.Add(int64(n))
	}
	if b.waited += time.Since(began); b.waited >= l.RateOver {
		if rate := float64(b.got) / b.waited.Seconds(); err == nil && rate < float64(l.Rate) {
			return n, &stalled{fmt.Sprintf("the registry sent %.0f bytes a second for %v; %d are the least", rate, b.waited.Truncate(time.Second), l.Rate)}
		}
		b.waited, b.got = 0, 0
	}
	if err != nil && err != io.EOF {
		err = causeOf(b.ctx, err)
	}
	return n, err
}

func (b *wireBody) Close() error {
	b.idle.Stop()
	err := b.rc.Close()
	b.cancel(nil)
	return err
}
