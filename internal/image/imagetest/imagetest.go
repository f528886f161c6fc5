// Package imagetest builds small images for tests, out of files that the test
// names, without any network or engine.
package imagetest

import (
	"archive/tar"
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is one entry of a layer. The zero Mode is 0755 for directories and 0644
// for files.
type File struct {
	Name string
	Body []byte
	Mode int64
	Type byte // tar type flag; 0: a regular file
	Link string
	UID  int
	GID  int
	// ModTime is that of 1970 if it is zero.
	ModTime time.Time
	// Size overrides the size that the header declares.
	Size int64
}

// FromDisk returns the file at from as an executable called name.
func FromDisk(t testing.TB, from, name string) File {
	t.Helper()
	body, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	return File{Name: name, Body: body, Mode: 0o755}
}

// Tar writes entries as a layer, in the order given.
func Tar(t testing.TB, files ...File) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{
			Name: f.Name, Typeflag: f.Type, Linkname: f.Link, Mode: f.Mode,
			Uid: f.UID, Gid: f.GID, Size: int64(len(f.Body)), ModTime: f.ModTime, Format: tar.FormatPAX,
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if f.Size != 0 {
			h.Size = f.Size
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.Body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil && !slices.ContainsFunc(files, func(f File) bool { return f.Size != 0 }) {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Image returns an image for this machine with one layer per element of layers,
// lowest first, each a tar archive.
func Image(t testing.TB, config v1.Config, layers ...[]byte) v1.Image {
	t.Helper()
	return ImageFor(t, "linux/"+runtime.GOARCH, config, layers...)
}

// ImageFor is Image for another platform, "os/arch".
func ImageFor(t testing.TB, platform string, config v1.Config, layers ...[]byte) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	for _, data := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		}, tarball.WithCompressedCaching)
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = path.Dir(platform), path.Base(platform)
	file.Config = config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// Registry serves img from a registry of the test's own, to whoever shows the password, and
// returns its name there. Without a password it is everybody's.
func Registry(t testing.TB, repo string, img v1.Image, password string) (ref string) {
	t.Helper()
	content := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, shown, _ := r.BasicAuth(); shown != password && password != "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		content.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	r, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/" + repo)
	if err == nil {
		err = remote.Write(r, img, remote.WithAuth(&authn.Basic{Username: "test", Password: password}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return r.Name()
}

// Save writes img under ref as `docker save` does, and returns the file.
func Save(t testing.TB, ref string, img v1.Image) string {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	return file
}
