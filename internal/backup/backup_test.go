package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var manifest = Manifest{Sampan: "1.2.3", Created: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), Revision: 42, Objects: map[string]int{"pods": 2}}

// written returns a backup with something of everything.
func written(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, manifest)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if err := w.Put(fmt.Appendf(nil, "pods\x00ns\x00%d", i), bytes.Repeat([]byte{byte(i)}, 1+i*40)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.EndObjects(); err != nil {
		t.Fatal(err)
	}
	layer := w.Stream("images/layers/abc")
	if _, err := layer.Write(bytes.Repeat([]byte("layer"), 500000)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(layer.Close(), w.Data("pki/ca.key", []byte("secret")),
		w.File("logs/ns_a_1/main/0.log", time.Now(), 3, strings.NewReader("log that grew")), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read returns what is in a backup, and why it cannot be used.
func read(data []byte, most int64) (objects int, files map[string]string, err error) {
	r, err := NewReader(bytes.NewReader(data), most)
	if err != nil {
		return 0, nil, err
	}
	files = map[string]string{}
	for {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			return objects, files, nil
		}
		if err != nil {
			return objects, files, err
		}
		if m.IsObjects() {
			err = Records(m, func(key, value []byte) error { objects++; return nil })
		} else {
			var b []byte
			b, err = io.ReadAll(m)
			files[m.Name] = string(b)
		}
		if err != nil {
			return objects, files, err
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	data := written(t)
	objects, files, err := read(data, 0)
	if err != nil {
		t.Fatal(err)
	}
	layer := files["images/layers/abc/000000"] + files["images/layers/abc/000001"] + files["images/layers/abc/000002"]
	if objects != 300 || len(layer) != 2500000 || files["pki/ca.key"] != "secret" || files["logs/ns_a_1/main/0.log"] != "log" {
		t.Errorf("%d objects, a layer of %d bytes, %d files", objects, len(layer), len(files))
	}
	m, err := Verify(bytes.NewReader(data))
	if err != nil || m.Revision != 42 || m.Format != 1 || m.Objects["pods"] != 2 {
		t.Errorf("%+v %v", m, err)
	}
	if _, _, err := read(data, 1000); err == nil || !strings.Contains(err.Error(), "larger than there is room for") {
		t.Errorf("beyond the room: %v", err)
	}
}

// The sums can be checked by anybody who has tar and sha256sum.
func TestSumsAreThoseOfCoreutils(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "backup")
	if err := os.WriteFile(file, written(t), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", "cd "+dir+" && tar xf backup && sha256sum -c --strict --quiet SHA256SUMS").CombinedOutput()
	if err != nil {
		t.Errorf("%v %s", err, out)
	}
}

// A backup that was cut anywhere, or of which any bit that matters is another, is
// refused, by an error that says that it is the backup.
func TestDamagedBackup(t *testing.T) {
	t.Parallel()
	data := written(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	_, want, err := read(data, 0)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, damaged []byte) {
		t.Helper()
		_, _, err := read(damaged, 0)
		var bad *InvalidError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 40 {
		n := r.IntN(len(data) - 1024) // the archive's end is 1024 zeros
		check(fmt.Sprint("cut to ", n), data[:n])
	}
	for range 100 {
		at := r.IntN(len(data) - 1024)
		damaged := bytes.Clone(data)
		damaged[at] ^= 1 << r.IntN(8)
		if objects, files, err := read(damaged, 0); err == nil { // times, modes, padding
			if objects != 300 || !maps.Equal(files, want) {
				t.Errorf("bit of byte %d: another content", at)
			}
			continue
		}
		check(fmt.Sprint("bit of byte ", at), damaged)
	}
	check("nothing", nil)
	check("text", []byte(strings.Repeat("hello ", 1000)))
	if _, _, err := read([]byte("hello"), 0); err == nil {
		t.Error("a short text")
	}
}

// archive writes a tar of members as given, behind a right manifest.
func archive(t *testing.T, members ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	text := []byte(`{"format":1,"sampan":"1"}`)
	if err := w.WriteHeader(&tar.Header{Name: manifestName, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	w.Write(text)
	for _, h := range members {
		h.Size = 0
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return out.Bytes()
}

func TestHostileBackup(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		members []tar.Header
		want    string
	}{
		"link":       {[]tar.Header{{Name: "pki/ca.key", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}, "is not a plain file"},
		"hard link":  {[]tar.Header{{Name: "pki/ca.key", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}}, "is not a plain file"},
		"device":     {[]tar.Header{{Name: "logs/x", Typeflag: tar.TypeChar}}, "is not a plain file"},
		"directory":  {[]tar.Header{{Name: "logs/x/", Typeflag: tar.TypeDir}}, "is not a plain file"},
		"upwards":    {[]tar.Header{{Name: "logs/../../x", Typeflag: tar.TypeReg}}, `a member "logs/../../x"`},
		"absolute":   {[]tar.Header{{Name: "/etc/passwd", Typeflag: tar.TypeReg}}, `a member "/etc/passwd"`},
		"dot":        {[]tar.Header{{Name: "logs/./x", Typeflag: tar.TypeReg}}, "a member"},
		"elsewhere":  {[]tar.Header{{Name: "store.db", Typeflag: tar.TypeReg}}, "a member"},
		"newline":    {[]tar.Header{{Name: "logs/a\nb", Typeflag: tar.TypeReg}}, "a member"},
		"twice":      {[]tar.Header{{Name: "logs/x", Typeflag: tar.TypeReg}, {Name: "logs/x", Typeflag: tar.TypeReg}}, "comes twice"},
		"no part 0":  {[]tar.Header{{Name: "objects/000001", Typeflag: tar.TypeReg}}, "part 0 was expected"},
		"no sums":    {nil, "the sums at its end are missing"},
		"wrong sums": {[]tar.Header{{Name: sumsName, Typeflag: tar.TypeReg}}, "it is damaged"},
	} {
		_, _, err := read(archive(t, tc.members...), 0)
		var bad *InvalidError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: want %q, got %v", name, tc.want, err)
		}
	}
	future := strings.Replace(string(archive(t)), `"format":1`, `"format":2`, 1)
	if _, _, err := read([]byte(future), 0); err == nil || !strings.Contains(err.Error(), "it has format 2") {
		t.Errorf("a newer format: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	var small bytes.Buffer
	w, err := NewWriter(&small, manifest)
	if err == nil {
		err = errors.Join(w.Put([]byte("key"), []byte("value")), w.Data("pki/ca.key", []byte("secret")), w.EndObjects(), w.Close())
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) { read(data, 1<<24) })
}
