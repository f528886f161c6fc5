package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

func open(t *testing.T) (*image.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// leftovers returns what is in the directories besides names and locks.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	for _, sub := range []string{"images", "layers", "tmp"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			found = append(found, sub+"/"+e.Name())
		}
	}
	return found
}

func hello(t *testing.T) v1.Image {
	t.Helper()
	return imagetest.Image(t, v1.Config{Entrypoint: []string{"/hello"}, Env: []string{"A=b"}},
		imagetest.Tar(t,
			imagetest.File{Name: "etc/", Type: tar.TypeDir},
			imagetest.File{Name: "etc/passwd", Body: []byte("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")},
			imagetest.File{Name: "etc/group", Body: []byte("root:x:0:\nweb:x:34:\nlogs:x:40:web\n")},
		),
		imagetest.Tar(t, imagetest.File{Name: "hello", Body: []byte("hello"), Mode: 0o755}),
	)
}

func TestLoadDockerArchive(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	all, err := s.Load(t.Context(), imagetest.Save(t, "busybox", hello(t)), image.LoadOptions{Name: "other:v1"})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Fatalf("%d images, want 2", len(all))
	}
	for _, ref := range []string{"busybox", "busybox:latest", "docker.io/library/busybox", "other:v1"} {
		img, ok, err := s.Get(ref)
		if err != nil || !ok {
			t.Fatalf("Get(%q) = %v, %v", ref, ok, err)
		}
		if !img.Loaded || img.Config.Entrypoint[0] != "/hello" || len(img.Layers) != 2 {
			t.Errorf("Get(%q) = %+v", ref, img)
		}
		body, err := os.ReadFile(filepath.Join(img.Layers[1], "hello"))
		if err != nil || string(body) != "hello" {
			t.Errorf("layer holds %q, %v", body, err)
		}
	}
}

func TestLoadGzipAndLayoutAndDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(hello(t), layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": "example.com/hello:v2",
	})); err != nil {
		t.Fatal(err)
	}
	var ociTar bytes.Buffer
	w := tar.NewWriter(&ociTar)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	tarFile := filepath.Join(t.TempDir(), "oci.tar")
	os.WriteFile(tarFile, ociTar.Bytes(), 0o600)

	docker, _ := os.ReadFile(imagetest.Save(t, "example.com/hello:v2", hello(t)))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(docker)
	z.Close()
	gzFile := filepath.Join(t.TempDir(), "image.tar.gz")
	os.WriteFile(gzFile, zipped.Bytes(), 0o600)

	for _, source := range []string{dir, tarFile, gzFile} {
		s, _ := open(t)
		if _, err := s.Load(t.Context(), source, image.LoadOptions{}); err != nil {
			t.Errorf("Load(%s): %v", source, err)
			continue
		}
		if _, ok, err := s.Get("example.com/hello:v2"); !ok || err != nil {
			t.Errorf("Get after Load(%s): %v, %v", source, ok, err)
		}
	}
}

func TestResolveUser(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	if _, err := s.Load(t.Context(), imagetest.Save(t, "u", hello(t)), image.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	img, _, _ := s.Get("u")
	for _, tc := range []struct {
		spec string
		want image.User
		err  string
	}{
		{"", image.User{Numeric: true, Name: "root", Home: "/root"}, ""},
		{"web", image.User{UID: 33, GID: 34, Groups: []uint32{40}, Name: "web", Home: "/srv"}, ""},
		{"33", image.User{UID: 33, GID: 34, Groups: []uint32{40}, Numeric: true, Name: "web", Home: "/srv"}, ""},
		{"1000", image.User{UID: 1000, Numeric: true, Home: "/"}, ""},
		{"1000:1001", image.User{UID: 1000, GID: 1001, Numeric: true, Home: "/"}, ""},
		{"web:logs", image.User{UID: 33, GID: 40, Name: "web", Home: "/srv"}, ""},
		{"nobody", image.User{}, "unable to find user nobody"},
		{"web:none", image.User{}, "unable to find group none"},
	} {
		got, err := img.ResolveUser(tc.spec)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("ResolveUser(%q): %v, want %q", tc.spec, err, tc.err)
			}
			continue
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("ResolveUser(%q) = %+v, %v; want %+v", tc.spec, got, err, tc.want)
		}
	}
}

// push serves img as ref on a registry of the test's own.
func push(t *testing.T, repo string, img v1.Image) string {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	ref := strings.TrimPrefix(srv.URL, "http://") + "/" + repo
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestPull(t *testing.T) {
	t.Parallel()
	ref := push(t, "team/hello:v1", hello(t))
	s, _ := open(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			img, err := s.Pull(t.Context(), ref, image.PullOptions{})
			if err != nil || img.Loaded || len(img.Layers) != 2 {
				t.Errorf("Pull = %+v, %v", img, err)
			}
		})
	}
	wg.Wait()
	img, _, _ := s.Get(ref)
	byDigest := img.Repo + "@" + img.Digest
	if _, ok, err := s.Get(byDigest); !ok || err != nil {
		t.Errorf("Get(%s) = %v, %v", byDigest, ok, err)
	}
	if _, err := s.Pull(t.Context(), byDigest, image.PullOptions{}); err != nil {
		t.Errorf("pull by digest: %v", err)
	}
}

func TestPullPicksThePlatform(t *testing.T) {
	t.Parallel()
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	layer := imagetest.Tar(t, imagetest.File{Name: "x", Body: []byte("x")})
	here := imagetest.Image(t, v1.Config{Cmd: []string{"here"}}, layer)
	there := imagetest.ImageFor(t, "linux/"+other, v1.Config{Cmd: []string{"there"}}, layer)
	add := func(img v1.Image, arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}}
	}
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	for tag, index := range map[string]v1.ImageIndex{
		"both":  mutate.AppendManifests(empty.Index, add(there, other), add(here, runtime.GOARCH)),
		"other": mutate.AppendManifests(empty.Index, add(there, other)),
	} {
		r, _ := name.ParseReference(host + "/multi:" + tag)
		if err := remote.WriteIndex(r, index); err != nil {
			t.Fatal(err)
		}
	}
	s, dir := open(t)
	img, err := s.Pull(t.Context(), host+"/multi:both", image.PullOptions{})
	if err != nil || img.Config.Cmd[0] != "here" {
		t.Errorf("Pull = %+v, %v", img, err)
	}
	before := leftovers(t, dir)
	if _, err := s.Pull(t.Context(), host+"/multi:other", image.PullOptions{}); err == nil {
		t.Error("pulled an image for another platform")
	}
	if after := leftovers(t, dir); !slices.Equal(before, after) {
		t.Errorf("a refused pull left %v", after)
	}
}

func TestErrorsNameTheImage(t *testing.T) {
	t.Parallel()
	ref := push(t, "hello:v1", hello(t))
	s, _ := open(t)
	for _, tc := range []struct{ ref, reason string }{
		{strings.Replace(ref, ":v1", ":v2", 1), image.ErrImagePull},
		{"127.0.0.1:1/nobody/listens:v1", image.ErrImagePull},
		{"UPPER CASE", image.InvalidImageName},
	} {
		_, err := s.Pull(t.Context(), tc.ref, image.PullOptions{})
		var e *image.Error
		if !errors.As(err, &e) || e.Reason != tc.reason || !strings.Contains(e.Message, tc.ref) {
			t.Errorf("Pull(%q) = %v, want reason %s", tc.ref, err, tc.reason)
		}
	}
}

func TestHostileAndDamagedArchives(t *testing.T) {
	t.Parallel()
	file := func(name string) imagetest.File { return imagetest.File{Name: name, Body: []byte("x")} }
	link := func(name, to string) imagetest.File {
		return imagetest.File{Name: name, Type: tar.TypeSymlink, Link: to}
	}
	for _, tc := range []struct {
		name  string
		files []imagetest.File
		want  string
	}{
		{"path traversal", []imagetest.File{file("../../evil")}, "outside of the image"},
		{"traversal inside a path", []imagetest.File{file("a/../../evil")}, "outside of the image"},
		{"hard link outside", []imagetest.File{{Name: "h", Type: tar.TypeLink, Link: "../../etc/passwd"}}, "outside of the image"},
		{"hard link to nothing", []imagetest.File{{Name: "h", Type: tar.TypeLink, Link: "etc/passwd"}}, "links to"},
		{"link loop", []imagetest.File{link("a", "b"), link("b", "a"), file("a/x")}, "too many levels"},
		{"bad whiteout", []imagetest.File{file(".wh...")}, "bad whiteout"},
		{"file as directory", []imagetest.File{file("a"), file("a/b")}, "not a directory"},
		{"huge declared size", []imagetest.File{{Name: "big", Body: []byte("x"), Size: 1 << 60}}, "declares"},
		{"truncated", []imagetest.File{{Name: "cut", Body: []byte("x"), Size: 4096}}, "damaged layer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, dir := open(t)
			img := imagetest.Image(t, v1.Config{}, imagetest.Tar(t, tc.files...))
			_, err := s.Load(t.Context(), imagetest.Save(t, "evil", img), image.LoadOptions{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Load = %v, want %q", err, tc.want)
			}
			if left := leftovers(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestAbsoluteLinksStayInside(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	img := imagetest.Image(t, v1.Config{}, imagetest.Tar(t,
		imagetest.File{Name: "data", Type: tar.TypeSymlink, Link: "/var/data"},
		imagetest.File{Name: "data/file", Body: []byte("in")},
	))
	if _, err := s.Load(t.Context(), imagetest.Save(t, "abs", img), image.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	got, _, _ := s.Get("abs")
	if body, err := os.ReadFile(filepath.Join(got.Layers[0], "var/data/file")); err != nil || string(body) != "in" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestForeignPlatformIsRefused(t *testing.T) {
	t.Parallel()
	s, dir := open(t)
	img := imagetest.ImageFor(t, "linux/s390x", v1.Config{}, imagetest.Tar(t, imagetest.File{Name: "x"}))
	_, err := s.Load(t.Context(), imagetest.Save(t, "z", img), image.LoadOptions{})
	if err == nil || !strings.Contains(err.Error(), "is for linux/s390x; this machine is linux/"+runtime.GOARCH) {
		t.Errorf("Load = %v", err)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWhiteouts(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	img := imagetest.Image(t, v1.Config{},
		imagetest.Tar(t, imagetest.File{Name: "a"}, imagetest.File{Name: "d/x"}),
		imagetest.Tar(t, imagetest.File{Name: ".wh.a"}, imagetest.File{Name: "d/.wh..wh..opq"}, imagetest.File{Name: "d/y"}),
	)
	if _, err := s.Load(t.Context(), imagetest.Save(t, "w", img), image.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	got, _, _ := s.Get("w")
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(got.Layers[1], "a"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout is %+v, %v", st, err)
	}
	attr := "user.overlay.opaque"
	if os.Geteuid() == 0 {
		attr = "trusted.overlay.opaque"
	}
	buf := make([]byte, 1)
	if _, err := unix.Getxattr(filepath.Join(got.Layers[1], "d"), attr, buf); err != nil || buf[0] != 'y' {
		t.Errorf("opaque mark: %q, %v", buf, err)
	}
}

func TestRemoveAndPrune(t *testing.T) {
	t.Parallel()
	s, dir := open(t)
	shared := imagetest.Tar(t, imagetest.File{Name: "shared", Body: []byte("s")})
	for _, n := range []string{"one", "two"} {
		img := imagetest.Image(t, v1.Config{}, shared, imagetest.Tar(t, imagetest.File{Name: n, Body: []byte(n)}))
		if _, err := s.Load(t.Context(), imagetest.Save(t, n, img), image.LoadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove("none"); err == nil {
		t.Error("removed an image that is not there")
	}
	if err := s.Remove("one"); err != nil {
		t.Fatal(err)
	}
	two, _, _ := s.Get("two")
	user, _ := os.Open(two.Layers[1])
	unix.Flock(int(user.Fd()), unix.LOCK_SH)

	if p, err := s.Prune(image.PruneOptions{Unused: true, Loaded: true}); err != nil || p.Layers != 1 || p.Images != 0 {
		t.Errorf("Prune while in use = %+v, %v", p, err)
	}
	if _, err := os.Stat(two.Layers[0]); err != nil {
		t.Errorf("a layer in use is gone: %v", err)
	}
	user.Close()
	if p, err := s.Prune(image.PruneOptions{Unused: true}); err != nil || p != (image.Pruned{}) {
		t.Errorf("Prune of what was loaded by hand, unasked = %+v, %v", p, err)
	}
	if p, err := s.Prune(image.PruneOptions{Unused: true, Loaded: true}); err != nil || p.Layers != 2 || p.Images != 1 {
		t.Errorf("Prune = %+v, %v", p, err)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestPulledImagesGoWithTheirTags: the name by digest that a pull by tag gives is nobody's wish: it
// holds the image no longer than the tag does. One that was asked for stays.
func TestPulledImagesGoWithTheirTags(t *testing.T) {
	t.Parallel()
	content := func(text string) v1.Image {
		return imagetest.Image(t, v1.Config{}, imagetest.Tar(t, imagetest.File{Name: "f", Body: []byte(text)}))
	}
	first := content("first")
	ref := push(t, "team/worker:v1", first)
	host, _, _ := strings.Cut(ref, "/")
	pull := func(s *image.Store, ref string) {
		t.Helper()
		if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pushTo := func(ref string, img v1.Image) {
		t.Helper()
		r, err := name.ParseReference(host + "/" + ref)
		if err == nil {
			err = remote.Write(r, img)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pushTo("team/worker:also", first)
	digest, _ := first.Digest()

	s, dir := open(t)
	pull(s, ref)
	pull(s, host+"/team/worker:also")
	remove := func(ref string) image.Pruned {
		t.Helper()
		if err := s.Remove(ref); err != nil {
			t.Fatal(err)
		}
		p, err := s.Prune(image.PruneOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := remove(ref); p.Layers != 0 {
		t.Errorf("another tag leads to it: %+v", p)
	}
	if p := remove(host + "/team/worker:also"); p.Layers != 1 {
		t.Errorf("the last tag: %+v", p)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// What was asked for by digest stays, before or after a pull by tag.
	byDigest := host + "/team/worker@" + digest.String()
	for _, refs := range [][]string{{ref, byDigest}, {byDigest, ref}} {
		for _, r := range refs {
			pull(s, r)
		}
		if p := remove(ref); p.Layers != 0 {
			t.Errorf("%v: it was asked for by digest: %+v", refs, p)
		}
		if p := remove(byDigest); p.Layers != 1 {
			t.Errorf("%v: %+v", refs, p)
		}
	}

	// A tag that leads to another image by now leaves the former one to Prune.
	pull(s, ref)
	pushTo("team/worker:v1", content("second"))
	pull(s, ref)
	if p, err := s.Prune(image.PruneOptions{}); err != nil || p.Images != 1 || p.Layers != 1 {
		t.Errorf("after the tag has moved: %+v, %v", p, err)
	}
	if p, err := s.Prune(image.PruneOptions{Unused: true}); err != nil || p.Images != 1 || p.Layers != 1 {
		t.Errorf("what nobody uses: %+v, %v", p, err)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnotherProcessLoads(t *testing.T) {
	t.Parallel()
	s, dir := open(t)
	if _, ok, _ := s.Get("busybox"); ok {
		t.Fatal("found in an empty store")
	}
	other, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Load(t.Context(), imagetest.Save(t, "busybox", hello(t)), image.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Get("busybox"); !ok || err != nil {
		t.Errorf("Get = %v, %v", ok, err)
	}
}

func TestTheSameLayerTwice(t *testing.T) {
	t.Parallel()
	a := []imagetest.File{{Name: "x", Body: []byte("from a")}}
	b := []imagetest.File{{Name: ".wh.x"}}
	img := loadLayers(t, a, b, a, b, a)
	if len(img.Layers) != 2 || filepath.Base(img.Layers[0]) == filepath.Base(img.Layers[1]) {
		t.Fatalf("layers: %v", img.Layers)
	}
	if body, err := os.ReadFile(filepath.Join(img.Layers[1], "x")); err != nil || string(body) != "from a" {
		t.Errorf("the topmost layer is %q, %v", body, err)
	}
	if img.Size != int64(len("from a")) {
		t.Errorf("size %d", img.Size)
	}
}

// TestPruneHostileLayers: deep and closed layers, and what a crash left, go away;
// a layer that is being removed is never taken for a whole one.
func TestPruneHostileLayers(t *testing.T) {
	t.Parallel()
	s, dir := open(t)
	var files []imagetest.File
	at := ""
	for range 300 {
		at += "d/"
		files = append(files, imagetest.File{Name: at, Type: tar.TypeDir, Mode: 0o500})
	}
	up := imagetest.File{Name: at + "root", Type: tar.TypeSymlink, Link: "/"}
	img := imagetest.Image(t, v1.Config{}, imagetest.Tar(t, append(files, up)...))
	loaded, err := s.Load(t.Context(), imagetest.Save(t, "deep", img), image.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// What a process that was killed leaves: work, half a removal, a size alone.
	leftover := filepath.Join(dir, "tmp", "work-killed")
	for _, d := range []string{leftover + "/layer/etc", filepath.Join(dir, "tmp", "layer-x")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tmp", "archive.tar"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(leftover+"/layer", 0); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(filepath.Join(dir, "tmp"), "work-*")
	if err != nil {
		t.Fatal(err)
	}
	user, _ := os.Open(work)
	defer user.Close()
	if err := unix.Flock(int(user.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Prune(image.PruneOptions{}); err != nil || p.Layers != 0 {
		t.Errorf("Prune of leftovers = %+v, %v", p, err)
	}
	if _, err := os.Stat(loaded[0].Layers[0]); err != nil {
		t.Errorf("a named image lost its layer: %v", err)
	}
	if p, err := s.Prune(image.PruneOptions{Unused: true, Loaded: true}); err != nil || p.Layers != 1 || p.Images != 1 {
		t.Errorf("Prune = %+v, %v", p, err)
	}
	if left, want := leftovers(t, dir), "tmp/"+filepath.Base(work); len(left) != 1 || left[0] != want {
		t.Errorf("left: %v; want %s, which is in use", left, want)
	}
}
