package image_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

// exported is what an Export writes, in order.
type exported struct {
	names   []string
	data    map[string][]byte
	streams map[string]*bytes.Buffer
}

func (e *exported) Data(name string, data []byte) error {
	e.names = append(e.names, name)
	e.data[name] = bytes.Clone(data)
	return nil
}

func (e *exported) Stream(name string) io.WriteCloser {
	e.names = append(e.names, name)
	e.streams[name] = &bytes.Buffer{}
	return nopCloser{e.streams[name]}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func export(t *testing.T, s *image.Store) *exported {
	t.Helper()
	e := &exported{data: map[string][]byte{}, streams: map[string]*bytes.Buffer{}}
	if err := s.Export(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return e
}

// into imports everything, layers in parts of an odd size.
func (e *exported) into(t *testing.T, s *image.Store) error {
	t.Helper()
	im, err := s.Import()
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	for _, name := range e.names {
		if data, ok := e.data[name]; ok {
			if err := im.Data(name, data); err != nil {
				return err
			}
			continue
		}
		for part := range slices.Chunk(e.streams[name].Bytes(), 1000) {
			if err := im.Layer(name, bytes.NewReader(part)); err != nil {
				return err
			}
		}
	}
	return im.Commit()
}

// listing describes every file below the layers of an image directory.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := filepath.Join(dir, "layers")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d %d links %d at %d", st.Mode, st.Uid, st.Gid, st.Rdev, st.Nlink, st.Mtim.Nano())
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		if link, err := os.Readlink(path); err == nil {
			text += " -> " + link
		}
		for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque", "user.note", "security.capability"} {
			value := make([]byte, 100)
			if n, err := unix.Lgetxattr(path, attr, value); err == nil {
				text += fmt.Sprintf(" %s=%x", attr, value[:n])
			}
		}
		if strings.Count(path[len(root):], "/") == 1 || st.Mode == unix.S_IFCHR {
			text, _, _ = strings.Cut(text, " at ") // of a layer's root, or of a whiteout, nobody knows it
		}
		all[path[len(root):]] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What is imported is what was exported: names, identities, and every file with
// all that the kernel says of it.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	s, dir := open(t)
	var lower, upper bytes.Buffer
	write := func(out *bytes.Buffer, headers ...tar.Header) {
		w := tar.NewWriter(out)
		for _, h := range headers {
			body := h.Name
			if h.Typeflag == 0 {
				h.Typeflag, h.Size = tar.TypeReg, int64(len(body))
			} else {
				body = ""
			}
			h.Format = tar.FormatPAX
			if h.Mode == 0 {
				h.Mode = 0o755
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, body)
		}
		w.Close()
	}
	note := map[string]string{"SCHILY.xattr.user.note": "n"}
	write(&lower,
		tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 3, Gid: 4}, tar.Header{Name: "bin/sh", Mode: 0o4755, Uid: 5, PAXRecords: note},
		tar.Header{Name: "bin/ash", Typeflag: tar.TypeLink, Linkname: "bin/sh"}, tar.Header{Name: "sh", Typeflag: tar.TypeSymlink, Linkname: "/bin/sh"},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}, tar.Header{Name: "etc/" + strings.Repeat("long", 50)})
	write(&upper, tar.Header{Name: ".wh.sh", Mode: 0o644}, tar.Header{Name: "etc/", Typeflag: tar.TypeDir}, tar.Header{Name: "etc/.wh..wh..opq"}, tar.Header{Name: "etc/new"})
	img := imagetest.Image(t, v1.Config{Cmd: []string{"sh"}}, lower.Bytes(), upper.Bytes())
	if _, err := s.Load(t.Context(), imagetest.Save(t, "app:1", img), image.LoadOptions{Name: "other:2"}); err != nil {
		t.Fatal(err)
	}
	other, otherDir := open(t)
	if err := export(t, s).into(t, other); err != nil {
		t.Fatal(err)
	}
	want, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	got, err := other.List()
	if err != nil || len(got) != len(want) || len(got) != 2 {
		t.Fatalf("%d images, %v", len(got), err)
	}
	for i := range got {
		if got[i].Name != want[i].Name || got[i].ID != want[i].ID || got[i].Digest != want[i].Digest || !got[i].Loaded || got[i].Size != want[i].Size {
			t.Errorf("%+v instead of %+v", got[i], want[i])
		}
	}
	if a, b := listing(t, dir), listing(t, otherDir); !maps.Equal(a, b) {
		for path := range a {
			if a[path] != b[path] {
				t.Errorf("%s:\n%s\n%s", path, a[path], b[path])
			}
		}
		t.Errorf("%d files instead of %d", len(b), len(a))
	}
	if left := leftovers(t, otherDir); slices.ContainsFunc(left, func(s string) bool { return strings.HasPrefix(s, "tmp/") }) {
		t.Errorf("left: %q", left)
	}
}

func TestHostileImport(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	if _, err := s.Load(t.Context(), imagetest.Save(t, "app:1", hello(t)), image.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		do   func(e *exported)
		want string
	}{
		"a layer less":   {func(e *exported) { e.names = e.names[:len(e.names)-1] }, "there is no layer"},
		"no records":     {func(e *exported) { e.names = []string{"names.json"} }, "there is no record"},
		"names":          {func(e *exported) { e.data["names.json"] = []byte("x") }, "names.json"},
		"a strange file": {func(e *exported) { e.names = append(e.names, "x"); e.data["x"] = nil }, "no file"},
		"upwards": {func(e *exported) {
			e.names = append(e.names, "layers/../x")
			e.streams["layers/../x"] = bytes.NewBufferString("x")
		}, "no layer"},
		"nonsense": {func(e *exported) {
			e.streams[e.names[len(e.names)-1]] = bytes.NewBufferString(strings.Repeat("nonsense", 300))
		}, "damaged layer"},
		"outside": {func(e *exported) {
			e.streams[e.names[len(e.names)-1]] = bytes.NewBuffer(imagetest.Tar(t, imagetest.File{Name: "../../x"}))
		}, "points outside"},
	} {
		e := export(t, s)
		tc.do(e)
		other, dir := open(t)
		if err := e.into(t, other); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: want %q, got %v", name, tc.want, err)
		}
		if left := leftovers(t, dir); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
}
