package image_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

// TestHostileRegistry: a pull from a registry that lies or never ends is over
// soon, names its image and leaves nothing.
func TestHostileRegistry(t *testing.T) {
	t.Parallel()
	config := []byte(`{"architecture":"` + runtime.GOARCH + `","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("a", 64) + `"]},"config":{}}`)
	sum := sha256.Sum256(config)
	manifest, _ := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: "application/vnd.oci.image.manifest.v1+json",
		Config: v1.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Size: int64(len(config)), Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}},
		Layers: []v1.Descriptor{{MediaType: "application/vnd.oci.image.layer.v1.tar", Size: 1 << 30, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("b", 64)}}},
	})
	pour := func(w http.ResponseWriter, r *http.Request, every time.Duration) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			if every > 0 {
				select {
				case <-r.Context().Done():
				case <-time.After(every):
				}
			}
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	limits := image.Limits{Idle: 300 * time.Millisecond, Rate: 1 << 20, RateOver: time.Second, Bytes: 10 << 20}
	for name, tc := range map[string]struct {
		at   string // the part of the path where it is hostile
		do   func(w http.ResponseWriter, r *http.Request)
		want string
	}{
		"nothing at all":        {"/v2/", hang, "the registry sent nothing for 300ms"},
		"no manifest":           {"/manifests/", hang, "the registry sent nothing for 300ms"},
		"an endless manifest":   {"/manifests/", func(w http.ResponseWriter, r *http.Request) { pour(w, r, 0) }, "more than it had announced"},
		"no configuration":      {hex.EncodeToString(sum[:]), hang, "the registry sent nothing for 300ms"},
		"an endless config":     {hex.EncodeToString(sum[:]), func(w http.ResponseWriter, r *http.Request) { pour(w, r, 0) }, "no usable configuration"},
		"no layer":              {"/blobs/sha256:bbb", hang, "the registry sent nothing for 300ms"},
		"a layer that trickles": {"/blobs/sha256:bbb", func(w http.ResponseWriter, r *http.Request) { pour(w, r, 50*time.Millisecond) }, "bytes a second for"},
		"another layer":         {"/blobs/sha256:bbb", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(config) }, "layer 1 of 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.Contains(r.URL.Path, tc.at):
					tc.do(w, r)
				case strings.Contains(r.URL.Path, "/manifests/"):
					w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
					_, _ = w.Write(manifest)
				case strings.Contains(r.URL.Path, hex.EncodeToString(sum[:])):
					_, _ = w.Write(config)
				}
			}))
			defer srv.Close()
			defer srv.CloseClientConnections()
			s, dir := openWith(t, limits)
			ref := strings.TrimPrefix(srv.URL, "http://") + "/evil:v1"
			began := time.Now()
			_, err := s.Pull(t.Context(), ref, image.PullOptions{})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), ref) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if left := leftovers(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// waited is a context that tells when somebody waits for its end, which a Pull does as soon as it has
// joined a transfer.
type waited struct {
	context.Context
	begun func()
}

func (w *waited) Done() <-chan struct{} {
	w.begun()
	return w.Context.Done()
}

// TestProgress: everybody who waits for a pull is told of bytes as they come, of those that have
// to come, however much they unpack to; what is here already does not count.
func TestProgress(t *testing.T) {
	t.Parallel()
	layer := func(name string) []byte { // it is compressed to next to nothing
		return imagetest.Tar(t, imagetest.File{Name: name, Body: make([]byte, 32<<20)})
	}
	shared := layer("shared")
	base := push(t, "base:v1", imagetest.Image(t, v1.Config{}, shared))
	ref := push(t, "team/large:v1", imagetest.Image(t, v1.Config{}, shared, layer("own")))
	s, _ := open(t)
	if _, err := s.Pull(t.Context(), base, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	told := make([]image.Progress, 2)
	var waiting, group sync.WaitGroup
	waiting.Add(len(told))
	for i := range told {
		group.Go(func() {
			ctx := &waited{Context: t.Context(), begun: sync.OnceFunc(waiting.Done)}
			_, err := s.Pull(ctx, ref, image.PullOptions{Progress: func(p image.Progress) {
				waiting.Wait() // the transfer stands still until everybody waits for it
				mu.Lock()
				defer mu.Unlock()
				if p.Done < told[i].Done || p.Done > p.Total || p.Total == 0 || p.Total > 16<<20 {
					t.Errorf("%+v after %+v", p, told[i])
				}
				told[i] = p
			}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for i, p := range told {
		if p.Done == 0 || p.Layer != 2 || p.Layers != 2 {
			t.Errorf("%d: at last %+v", i, p)
		}
	}
}
