package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

func openWith(t *testing.T, l image.Limits) (*image.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := image.OpenWith(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// TestLimits: an image beyond a limit is refused with words that name image and
// limit, and nothing of it stays.
func TestLimits(t *testing.T) {
	t.Parallel()
	body := func(name string, n int) imagetest.File { return imagetest.File{Name: name, Body: make([]byte, n)} }
	one := func(files ...imagetest.File) [][]byte { return [][]byte{imagetest.Tar(t, files...)} }
	var many []imagetest.File
	for i := range 50 {
		many = append(many, imagetest.File{Name: fmt.Sprint(i), Type: tar.TypeSymlink, Link: "x"})
	}
	var st unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &st); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		limits image.Limits
		layers [][]byte
		want   string
	}{
		"bytes of a file":  {image.Limits{Bytes: 100_000}, one(body("big", 100_001)), `image "limits": layer 1 of 1: layer entry "big" declares 100001 bytes; the limit of an image is 100000`},
		"bytes of a layer": {image.Limits{Bytes: 100_000}, one(body("a", 60_000), body("b", 60_000)), "the limit of an image is 100000"},
		"bytes of layers":  {image.Limits{Bytes: 100_000}, [][]byte{imagetest.Tar(t, body("a", 60_000)), imagetest.Tar(t, body("b", 60_000))}, `image "limits": layer 2 of 2: layer entry "b" declares`},
		"padding":          {image.Limits{Bytes: 100_000}, [][]byte{append(imagetest.Tar(t, body("a", 10)), make([]byte, 200_000)...)}, "it unpacks to more than the limit of 100000 bytes"},
		"files":            {image.Limits{Files: 40}, one(many...), `image "limits": layer 1 of 1: it has more than the limit of 40 files`},
		"missing parents":  {image.Limits{Files: 40}, one(imagetest.File{Name: strings.Repeat("d/", 60) + "x"}), "more than the limit of 40 files"},
		"layers":           {image.Limits{Layers: 2}, [][]byte{one(body("a", 1))[0], one(body("b", 1))[0], one(body("c", 1))[0]}, `image "limits" has 3 layers; the limit is 2`},
		"free bytes":       {image.Limits{Reserve: int64(st.Bavail)*st.Bsize + 1<<40}, one(body("a", 1)), "must stay free"},
		"free inodes":      {image.Limits{ReserveFiles: int64(st.Ffree) + 1<<40}, one(body("a", 1)), "inodes must stay free"},
		"configuration":    {image.Limits{Metadata: 100}, one(body("a", 1)), "the limit is 100"},
		"a long path":      {image.Limits{}, one(imagetest.File{Name: strings.Repeat("long/", 1000) + "x"}), "too long"},
		"a long name":      {image.Limits{}, one(imagetest.File{Name: strings.Repeat("x", 256)}), "too long"},
		"sparse terabytes": {image.Limits{}, [][]byte{sparse(t, 8<<40)}, `image "limits": layer 1 of 1: layer entry "sparse" declares 8796093022208 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "free inodes" && st.Files == 0 {
				t.Skip("this file system has no fixed number of inodes")
			}
			s, dir := openWith(t, tc.limits)
			_, err := s.Load(t.Context(), imagetest.Save(t, "limits", imagetest.Image(t, v1.Config{}, tc.layers...)), image.LoadOptions{Name: "limits"})
			if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "index.docker.io/library/limits:latest", "limits"), tc.want) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
			if left := leftovers(t, dir); len(left) > 0 && name != "bytes of layers" { // its first layer is good, and Prune's
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// sparse is a layer with a file of that size, in PAX's way, that holds nothing.
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	record := func(key, value string) string {
		n := len(key) + len(value) + 3
		for len(fmt.Sprint(n))+len(key)+len(value)+3 != n {
			n++
		}
		return fmt.Sprintf("%d %s=%s\n", n, key, value)
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "sparse") + record("GNU.sparse.realsize", fmt.Sprint(size))
	block := func(typeflag byte, name string, body []byte) {
		h := make([]byte, 512)
		copy(h, name)
		copy(h[100:], "0000644\x000000000\x000000000\x00"+fmt.Sprintf("%011o\x00", len(body))+"00000000000\x00        "+string(typeflag))
		copy(h[257:], "ustar\x0000")
		sum := 0
		for _, b := range h {
			sum += int(b)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		buf.Write(h)
		buf.Write(body)
		buf.Write(make([]byte, (512-len(body)%512)%512))
	}
	block('x', "pax", []byte(pax))
	block('0', "sparse", append([]byte("0\n"), make([]byte, 510)...))
	buf.Write(make([]byte, 1024))
	return buf.Bytes()
}

// TestBombs: what an archive unpacks to is bounded, whatever its own size.
func TestBombs(t *testing.T) {
	t.Parallel()
	archive := func(name string, write func(f *os.File)) string {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		write(f)
		return f.Name()
	}
	tarOf := func(f *os.File, files ...imagetest.File) {
		_, _ = f.Write(append(imagetest.Tar(t, files...), make([]byte, 1024)...))
	}
	link := func(name, to string) imagetest.File {
		return imagetest.File{Name: name, Type: tar.TypeSymlink, Link: to}
	}
	big := []byte(`[{"Config":"c.json","RepoTags":["x:y"],"Layers":[]}]` + strings.Repeat(" ", 5<<20))
	for name, tc := range map[string]struct{ file, want string }{
		"gzip": {archive("bomb.tar.gz", func(f *os.File) {
			z := gzip.NewWriter(f)
			for range 300 {
				_, _ = z.Write(make([]byte, 1<<20))
			}
			z.Close()
		}), "more than the limit of 134217728 bytes"},
		"a large manifest": {archive("m.tar", func(f *os.File) { tarOf(f, imagetest.File{Name: "manifest.json", Body: big}) }), `"manifest.json" has 5242932 bytes; the limit is 4194304`},
		"a large configuration": {archive("c.tar", func(f *os.File) {
			tarOf(f, imagetest.File{Name: "manifest.json", Body: big[:52]}, imagetest.File{Name: "c.json", Body: big})
		}), `"c.json" has 5242932 bytes`},
		"a configuration below": {archive("c2.tar", func(f *os.File) {
			tarOf(f, imagetest.File{Name: "manifest.json", Body: []byte(`[{"Config":"d/c","RepoTags":["x:y"],"Layers":[]}]`)}, imagetest.File{Name: "d/c", Body: big})
		}), `the configuration "d/c" is no file or has 5242932 bytes; the limit is 4194304`},
		"links in a circle": {archive("l.tar", func(f *os.File) { tarOf(f, link("manifest.json", "a"), link("a", "manifest.json")) }), "too many levels of links"},
		"a large index": {archive("i.tar", func(f *os.File) {
			tarOf(f, imagetest.File{Name: "oci-layout", Body: []byte("{}")}, imagetest.File{Name: "index.json", Body: big})
		}), `"index.json" has 5242932 bytes`},
		"a large blob": {archive("b.tar", func(f *os.File) {
			hex := strings.Repeat("a", 64)
			tarOf(f, imagetest.File{Name: "oci-layout", Body: []byte("{}")},
				imagetest.File{Name: "index.json", Body: []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + hex + `","size":5}]}`)},
				imagetest.File{Name: "blobs/sha256/" + hex, Body: big})
		}), "has 5242932 bytes; the limit is 4194304"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := openWith(t, image.Limits{Bytes: 128 << 20})
			began := time.Now()
			if _, err := s.Load(t.Context(), tc.file, image.LoadOptions{Name: "x"}); err == nil || !strings.Contains(err.Error(), tc.want) {
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
