package image_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sampan-batch/sampan/internal/image"
)

// TestPrivateImages: who pulls a private image at the same time as others gets it by his own
// credentials, and neither by theirs, nor not because of them.
func TestPrivateImages(t *testing.T) {
	t.Parallel()
	var here sync.WaitGroup // who is to be there before anybody is answered
	content := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			here.Done()
			here.Wait()
		}
		if _, password, ok := r.BasicAuth(); !ok || password != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		content.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	by := func(password string) image.PullOptions {
		return image.PullOptions{Secrets: []image.Credentials{{host: authn.AuthConfig{Username: "u", Password: password}}}}
	}
	here.Add(1)
	ref, err := name.ParseReference(host + "/private:v1")
	if err == nil {
		err = remote.Write(ref, hello(t), remote.WithAuth(&authn.Basic{Username: "u", Password: "right"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	s, _ := open(t)
	pulls := map[string]image.PullOptions{"right": by("right"), "wrong": by("wrong"), "none": {}}
	here.Add(len(pulls))
	var group sync.WaitGroup
	for who, o := range pulls {
		group.Go(func() {
			_, err := s.Pull(t.Context(), ref.Name(), o)
			if got := err == nil; got != (who == "right") {
				t.Errorf("%s: %v", who, err)
			}
			if err != nil && !strings.Contains(err.Error(), "refused access") {
				t.Errorf("%s: %v", who, err)
			}
		})
	}
	group.Wait()
}
