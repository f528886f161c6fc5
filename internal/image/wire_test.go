package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// registryFunc is a registry in memory.
type registryFunc func(req *http.Request) (*http.Response, error)

func (f registryFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// pipe is an answer whose body do writes; the request's end breaks it, as a
// connection.
func pipe(req *http.Request, do func(w io.Writer)) *http.Response {
	r, w := io.Pipe()
	context.AfterFunc(req.Context(), func() { r.CloseWithError(req.Context().Err()) })
	go func() { do(w); w.Close() }()
	return &http.Response{StatusCode: 200, Body: r, Request: req}
}

func get(w *wire, path string) (int64, error) {
	req, err := http.NewRequest("GET", "http://registry.test"+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := w.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return io.Copy(io.Discard, resp.Body)
}

func TestARegistryThatMakesNoProgress(t *testing.T) {
	t.Parallel()
	trickle := func(n int, every time.Duration) registryFunc {
		return func(req *http.Request) (*http.Response, error) {
			return pipe(req, func(w io.Writer) {
				for {
					if _, err := w.Write(make([]byte, n)); err != nil {
						return
					}
					time.Sleep(every)
				}
			}), nil
		}
	}
	for name, tc := range map[string]struct {
		registry registryFunc
		within   time.Duration
		want     string
	}{
		"never answers": {func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}, time.Minute, "the registry sent nothing for 1m0s"},
		"stops in the middle": {func(req *http.Request) (*http.Response, error) {
			return pipe(req, func(w io.Writer) { _, _ = w.Write(make([]byte, 100)); <-req.Context().Done() }), nil
		}, time.Minute, "the registry sent nothing for 1m0s"},
		"a byte every five seconds":       {trickle(1, 5*time.Second), 4 * time.Minute, "the registry sent 0 bytes a second for 3m0s; 1024 are the least"},
		"nearly too slow for the silence": {trickle(100, 59*time.Second), 4 * time.Minute, "bytes a second for"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &wire{base: tc.registry, limits: Limits{}.withDefaults()}
				w.expect(&v1.Manifest{Config: v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "aa"}, Size: 1 << 40}})
				began := time.Now()
				_, err := get(w, "/v2/x/blobs/sha256:aa")
				took := time.Since(began)
				time.Sleep(2 * time.Minute) // the registry notices
				var s *stalled
				if !errors.As(err, &s) || !strings.Contains(err.Error(), tc.want) || took > tc.within {
					t.Errorf("after %v: %v; want %q within %v", took, err, tc.want, tc.within)
				}
			})
		})
	}
}

// TestASlowReader: time that we need ourselves is not the registry's.
func TestASlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{limits: Limits{}.withDefaults(), base: registryFunc(func(req *http.Request) (*http.Response, error) {
			return pipe(req, func(w io.Writer) {
				for range 20 {
					time.Sleep(time.Second)
					_, _ = w.Write(make([]byte, 4096))
				}
			}), nil
		})}
		req, _ := http.NewRequest("GET", "http://registry.test/v2/x/manifests/y", nil)
		resp, err := w.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf, total := make([]byte, 4096), 0
		for {
			n, err := resp.Body.Read(buf)
			total += n
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute) // the disk is busy
		}
		if total != 20*4096 {
			t.Errorf("%d bytes", total)
		}
	})
}

// TestMoreThanAnnounced: blobs have the size that the manifest says, also
// elsewhere; all else has the size of a manifest at most.
func TestMoreThanAnnounced(t *testing.T) {
	t.Parallel()
	endless := registryFunc(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(zeros{}), Request: req}, nil
	})
	w := &wire{base: endless, limits: Limits{Metadata: 1 << 20}.withDefaults()}
	w.expect(&v1.Manifest{Layers: []v1.Descriptor{{Digest: v1.Hash{Algorithm: "sha256", Hex: "bb"}, Size: 3 << 20}}})
	for path, most := range map[string]int64{"/v2/x/manifests/latest": 1 << 20, "/token": 1 << 20, "/v2/x/blobs/sha256:bb": 3 << 20, "/v2/x/blobs/sha256:cc": 1 << 20} {
		if n, err := get(w, path); err == nil || !strings.Contains(err.Error(), "more than it had announced") || n > most || n < most-64<<10 {
			t.Errorf("%s: %d bytes, %v; want %d", path, n, err, most)
		}
	}
	first := &http.Request{URL: &url.URL{Path: "/v2/x/blobs/sha256:bb"}}
	redirected := &http.Request{URL: &url.URL{Path: "/cdn/somewhere"}, Response: &http.Response{Request: first}}
	if got, layer := w.most(redirected); got != 3<<20 || !layer {
		t.Errorf("a redirected blob may have %d bytes", got)
	}
}

// TestPullEndsWithItsLastWaiter: a pull goes on while somebody waits, and no
// longer; whoever comes after that starts a new one.
func TestPullEndsWithItsLastWaiter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f flights
		x := errand{ref: "x"}
		starts, told := 0, 0
		pull := func(ctx context.Context, _ func(Progress)) (*Image, error) {
			starts++
			<-ctx.Done()
			time.Sleep(time.Second) // it cleans up
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		one, first := f.join(ctx, x, func(Progress) { told++ }, pull)
		two, second := f.join(t.Context(), x, nil, pull)
		if one != two {
			t.Fatal("two transfers of one image")
		}
		cancel() // the first caller's end is not the end
		f.tell(one, Progress{})
		f.leave(x, one, first)
		if f.tell(one, Progress{}); told != 1 {
			t.Errorf("who waited for one of two pieces of news was told %d", told)
		}
		synctest.Wait()
		select {
		case <-two.done:
			t.Fatal("the pull ended under who still waits")
		default:
		}
		f.leave(x, two, second)
		three, third := f.join(t.Context(), x, nil, pull)
		if three == two {
			t.Error("boarded a pull that was ended")
		}
		<-two.done
		if !errors.Is(two.err, context.Canceled) {
			t.Errorf("the pull that nobody waited for: %v", two.err)
		}
		f.mu.Lock()
		if f.byRef[x] != three {
			t.Error("the old pull took the new one off the table")
		}
		f.mu.Unlock()
		f.leave(x, three, third)
		<-three.done
		if starts != 2 || len(f.byRef) != 0 {
			t.Errorf("%d starts, %d are left", starts, len(f.byRef))
		}
	})
}

func TestStalledPullNamesTheImage(t *testing.T) {
	t.Parallel()
	err := pullError("team/app:v1", fmt.Errorf("layer 1 of 2: %w", &stalled{"the registry sent nothing for 1m0s"}))
	want := `failed to pull image "team/app:v1": layer 1 of 2: the registry sent nothing for 1m0s`
	if err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// A registry that sends a request elsewhere for ever is an error, and soon.
func TestARegistryThatRedirectsForEver(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		asked.Add(1)
		http.Redirect(w, r, r.URL.Path+"/x", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(srv.Close)
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Pull(t.Context(), strings.TrimPrefix(srv.URL, "http://")+"/redir:1", PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "redirected a request 10 times") {
		t.Errorf("got %v", err)
	}
	if n := asked.Load(); n > 50 {
		t.Errorf("it was asked %d times", n)
	}
}
