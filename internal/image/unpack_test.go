package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is an ordinary user.
const nobody = 65534

// childVar tells a process that it was started by runAs.
const childVar = "SAMPAN_IMAGE_TEST_CHILD"

// runAs runs tests of this package again in a process of its own.
func runAs(t *testing.T, attr *syscall.SysProcAttr, tests string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can do this")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^("+tests+")$", "-test.v", "-test.timeout=5m")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp", "HOME=/", childVar+"=1")
	cmd.SysProcAttr = attr
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("\n--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestOrdinaryUser runs what unpacks as nobody.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	runAs(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
		"TestNothingFollowsLinks|TestHostileLayers|TestAttributes|TestLinksEndAtTheRoot|TestReplaced|TestWhiteouts|TestUserFiles|TestRemoveAndPrune|TestPruneHostileLayers|TestTheSameLayerTwice|TestHostileAndDamagedArchives|TestExportAndImport|TestHostileImport")
}

// layer writes entries as they are.
func layer(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		h.Format = tar.FormatPAX
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func unpackInto(root string, data []byte, l Limits) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	b := newBudget(root, l.withDefaults())
	_, err := unpack(bytes.NewReader(data), root, os.Geteuid() == 0, b)
	return err
}

// outside is a directory beside the root, whose state is known.
type outside struct{ dir, file string }

func newOutside(t testing.TB, dir string) outside {
	t.Helper()
	o := outside{dir: filepath.Join(dir, "outside"), file: filepath.Join(dir, "outside", "file")}
	must(t, os.MkdirAll(o.dir, 0o755), os.WriteFile(o.file, []byte("kept"), 0o644), os.Mkdir(o.dir+"/d", 0o755),
		os.WriteFile(o.dir+"/d/x", []byte("kept"), 0o644))
	return o
}

// state is all that an unpacker could change.
func (o outside) state(t testing.TB) string {
	t.Helper()
	var s strings.Builder
	must(t, filepath.WalkDir(o.dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		list := make([]byte, 1024)
		n, _ := unix.Llistxattr(p, list)
		body, _ := os.ReadFile(p)
		fmt.Fprintf(&s, "%s %o %d:%d links %d mtime %v ctime %v %q %q\n", p, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim, st.Ctim, list[:max(n, 0)], body)
		return nil
	}))
	return s.String()
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestNothingFollowsLinks: whatever a layer puts in the place of what it made
// before, nothing is done to what a link leads to.
func TestNothingFollowsLinks(t *testing.T) {
	t.Parallel()
	old := time.Unix(1e9, 0)
	xattr := map[string]string{"SCHILY.xattr.user.evil": "1"}
	dir := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o1777, ModTime: old, PAXRecords: xattr, Uid: 7, Gid: 7}
	}
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777, ModTime: old, Uid: 7, Gid: 7}
	}
	file := func(name string) tar.Header {
		return tar.Header{Name: name, Mode: 0o4777, ModTime: old, Size: 3, PAXRecords: xattr, Uid: 7, Gid: 7}
	}
	for name, headers := range map[string]func(o outside) []tar.Header{
		"a directory becomes a link": func(o outside) []tar.Header { return []tar.Header{dir("d"), link("d", o.dir)} },
		"its parent becomes a link":  func(o outside) []tar.Header { return []tar.Header{dir("p/d"), link("p", o.dir)} },
		"a file becomes a link":      func(o outside) []tar.Header { return []tar.Header{file("f"), link("f", o.file)} },
		"a link becomes a directory": func(o outside) []tar.Header { return []tar.Header{link("d", o.dir), dir("d")} },
		"a link becomes a file":      func(o outside) []tar.Header { return []tar.Header{link("f", o.file), file("f")} },
		"below a link":               func(o outside) []tar.Header { return []tar.Header{link("d", o.dir), file("d/file"), dir("d/d")} },
		"below a relative link":      func(o outside) []tar.Header { return []tar.Header{link("a", "../outside"), file("a/file")} },
		"whiteout below a link": func(o outside) []tar.Header {
			return []tar.Header{link("d", o.dir), file("d/.wh.file"), file("d/.wh..wh..opq")}
		},
		"opaque where there is a link": func(o outside) []tar.Header { return []tar.Header{dir("d"), link("d", o.dir), file("d/.wh..wh..opq")} },
		"hard link to a link": func(o outside) []tar.Header {
			return []tar.Header{link("l", o.file), {Name: "h", Typeflag: tar.TypeLink, Linkname: "l"}, file("h")}
		},
		"hard link through a link": func(o outside) []tar.Header {
			return []tar.Header{link("l", o.dir), {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/file"}, file("h")}
		},
		"through /proc": func(o outside) []tar.Header { return []tar.Header{link("l", "/proc/self/root"+o.dir), file("l/file")} },
		"pipe in place of a link": func(o outside) []tar.Header {
			return []tar.Header{link("p", o.file), {Name: "p", Typeflag: tar.TypeFifo, Mode: 0o4777, ModTime: old, Uid: 7}}
		},
		"the root's time after a loop of it": func(o outside) []tar.Header {
			return []tar.Header{dir("./"), link("l", "/"), dir("l/d"), link("l", o.dir)}
		},
		"a directory full of links goes away": func(o outside) []tar.Header { return []tar.Header{link("d/a", o.dir), link("d/b/c", o.dir), file("d")} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tmp := t.TempDir()
			o := newOutside(t, tmp)
			before := o.state(t)
			_ = unpackInto(filepath.Join(tmp, "root"), layer(t, headers(o)...), Limits{})
			if after := o.state(t); after != before {
				t.Errorf("outside changed:\n%s\n%s", before, after)
			}
		})
	}
	// The state shows what an unpacker by names would do.
	tmp := t.TempDir()
	o := newOutside(t, tmp)
	before := o.state(t)
	must(t, os.Symlink(o.dir, tmp+"/link"), os.Chtimes(tmp+"/link", old, old))
	if o.state(t) == before {
		t.Error("a time that was set through a link is not seen")
	}
}

// hostile makes a layer out of a script, three bytes an entry, from a small
// world of names in which links, directories and files take each other's place.
func hostile(script []byte, o outside) []byte {
	names := []string{"a", "b", "c", "a/b", "a/b/c", "b/a", "c/file", "a/file", "b/.wh.file", "a/.wh..wh..opq", ".", "a/b/file", "../x", "c/d/x", ".wh.a", "l/../file"}
	links := []string{"/", "..", "../..", "../outside", "../../outside", "/outside", "a", "b", "./c", "c/d", "a/b", "/a/../b", "/proc/self/cwd", "/proc/self/root", o.dir, "/proc/self/root" + o.dir}
	types := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo, tar.TypeDir, tar.TypeReg}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for ; len(script) >= 3; script = script[3:] {
		h := tar.Header{
			Name: names[int(script[1])%len(names)], Linkname: links[int(script[2])%len(links)], Typeflag: types[int(script[0])%len(types)],
			Mode: 0o6777, Uid: 7, Gid: 7, ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX,
		}
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeDir { // others can have none
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.evil": "1"}
		}
		switch h.Typeflag {
		case tar.TypeReg:
			h.Size, h.Linkname = 4, ""
		case tar.TypeLink:
			h.Linkname = names[int(script[2])%len(names)]
		}
		if w.WriteHeader(&h) == nil && h.Typeflag == tar.TypeReg {
			_, _ = w.Write([]byte("evil"))
		}
	}
	_ = w.Close()
	return buf.Bytes()
}

// TestHostileLayers lives through random layers; FuzzUnpack looks for more.
func TestHostileLayers(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	tmp := t.TempDir()
	o := newOutside(t, tmp)
	before := o.state(t)
	done := 0
	for i := range 1500 {
		script := make([]byte, 3*(1+rng.IntN(12)))
		for j := range script {
			script[j] = byte(rng.Uint32())
		}
		root := fmt.Sprintf("%s/root%d", tmp, i)
		if unpackInto(root, hostile(script, o), Limits{}) == nil {
			done++
		}
		if after := o.state(t); after != before {
			t.Fatalf("script %x: outside changed:\n%s\n%s", script, before, after)
		}
		must(t, os.RemoveAll(root))
	}
	if done < 100 {
		t.Errorf("only %d of 1500 layers were unpacked to the end", done)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{1, 0, 0, 2, 0, 14})                  // directory a, link a → outside
	f.Add([]byte{2, 0, 14, 0, 7, 0})                  // link a → outside, file a/file
	f.Add([]byte{2, 0, 3, 4, 1, 7, 0, 1, 0})          // link, hard link through it, file in its place
	f.Add([]byte{1, 3, 0, 2, 0, 15, 0, 9, 0})         // parent replaced, opaque mark below
	f.Add([]byte{1, 10, 0, 2, 2, 0, 1, 6, 0})         // the root, a link to it, below that
	f.Add([]byte{2, 1, 12, 0, 8, 0})                  // whiteout through /proc
	f.Add([]byte{2, 0, 7, 2, 1, 6, 0, 3, 0})          // a loop
	f.Add([]byte{5, 2, 0, 2, 2, 14, 5, 2, 0})         // a pipe, a link, a pipe
	f.Add([]byte{1, 0, 0, 4, 1, 0, 2, 0, 4, 0, 7, 0}) // hard link to a directory
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 300 {
			return
		}
		tmp := t.TempDir()
		o := newOutside(t, tmp)
		before := o.state(t)
		_ = unpackInto(filepath.Join(tmp, "root"), hostile(script, o), Limits{Bytes: 1 << 20, Files: 1000})
		if after := o.state(t); after != before {
			t.Errorf("outside changed:\n%s\n%s", before, after)
		}
		if left, err := os.ReadDir(tmp); err != nil || len(left) != 2 {
			t.Errorf("beside the root: %v, %v", left, err)
		}
	})
}

// FuzzUnpackStream meets what is no proper archive.
func FuzzUnpackStream(f *testing.F) {
	o := outside{dir: "/nonexistent/outside"}
	for _, script := range [][]byte{{1, 0, 0, 2, 0, 14}, {2, 0, 14, 0, 7, 0}, {0, 3, 0, 4, 0, 3}} {
		f.Add(hostile(script, o))
	}
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tmp := t.TempDir()
		o := newOutside(t, tmp)
		before := o.state(t)
		_ = unpackInto(filepath.Join(tmp, "root"), data, Limits{Bytes: 1 << 20, Files: 1000})
		if after := o.state(t); after != before {
			t.Errorf("outside changed:\n%s\n%s", before, after)
		}
	})
}

func TestLinksEndAtTheRoot(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "root")
	must(t, unpackInto(root, layer(t,
		tar.Header{Name: "usr/lib/up", Typeflag: tar.TypeSymlink, Linkname: "../../../../../etc"},
		tar.Header{Name: "usr/lib/up/made", Mode: 0o644},
		tar.Header{Name: "above", Typeflag: tar.TypeSymlink, Linkname: "../.."},
		tar.Header{Name: "above/usr/file", Mode: 0o644, Size: 5},
		tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "above/above/usr/file"},
	), Limits{}))
	for _, want := range []string{"etc/made", "usr/file", "hard"} {
		if st, err := os.Lstat(filepath.Join(root, want)); err != nil || !st.Mode().IsRegular() {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestReplaced: an entry takes the place of an earlier one of any type.
func TestReplaced(t *testing.T) {
	t.Parallel()
	kinds := map[string]tar.Header{
		"file": {Name: "x", Mode: 0o644}, "dir": {Name: "x/", Typeflag: tar.TypeDir, Mode: 0o755},
		"link": {Name: "x", Typeflag: tar.TypeSymlink, Linkname: "other"}, "hard": {Name: "x", Typeflag: tar.TypeLink, Linkname: "other"},
		"pipe": {Name: "x", Typeflag: tar.TypeFifo, Mode: 0o644},
	}
	for a, first := range kinds {
		for b, second := range kinds {
			root := filepath.Join(t.TempDir(), "root")
			headers := []tar.Header{{Name: "other", Mode: 0o644, Size: 9}, first}
			if a == "dir" {
				headers = append(headers, tar.Header{Name: "x/deep/er", Mode: 0o644})
			}
			if err := unpackInto(root, layer(t, append(headers, second)...), Limits{}); err != nil {
				t.Errorf("%s, then %s: %v", a, b, err)
				continue
			}
			want := map[string]fs.FileMode{"file": 0, "hard": 0, "dir": fs.ModeDir, "link": fs.ModeSymlink, "pipe": fs.ModeNamedPipe}[b]
			if st, err := os.Lstat(root + "/x"); err != nil || st.Mode().Type() != want {
				t.Errorf("%s, then %s: %v, %v", a, b, st, err)
			}
			if _, err := os.Lstat(root + "/x/deep"); (err == nil) != (a == "dir" && b == "dir") {
				t.Errorf("%s, then %s: what was in it: %v", a, b, err)
			}
			if st, err := os.Stat(root + "/other"); err != nil || st.Size() != 9 {
				t.Errorf("%s, then %s: the other is %v, %v", a, b, st, err)
			}
		}
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_500_000_000, 123_000_000)
	caps := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service=ep
	xattrs := map[string]string{
		"SCHILY.xattr.security.capability": caps, "SCHILY.xattr.user.note": "n",
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.overlay.redirect": "/etc",
	}
	root := filepath.Join(t.TempDir(), "root")
	must(t, unpackInto(root, layer(t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1755, Uid: 5, Gid: 6, ModTime: at, PAXRecords: map[string]string{"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.note": "n"}},
		tar.Header{Name: "d/file", Mode: 0o4755, Uid: 5, Gid: 6, ModTime: at, PAXRecords: xattrs},
		tar.Header{Name: "d/link", Typeflag: tar.TypeSymlink, Linkname: "file", Uid: 5, Gid: 6, ModTime: at},
		tar.Header{Name: "d/pipe", Typeflag: tar.TypeFifo, Mode: 0o622, Uid: 5, Gid: 6, ModTime: at},
		tar.Header{Name: "d/later", Mode: 0o644, ModTime: time.Now()},
	), Limits{}))
	for name, mode := range map[string]uint32{"d": unix.S_IFDIR | 0o1755, "d/file": unix.S_IFREG | 0o4755, "d/link": unix.S_IFLNK | 0o777, "d/pipe": unix.S_IFIFO | 0o622} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(root, name), &st))
		if st.Mode != mode || st.Mtim.Nano() != at.UnixNano() {
			t.Errorf("%s: mode %o, time %v", name, st.Mode, st.Mtim)
		}
		if want := [2]uint32{5, 6}; os.Geteuid() == 0 && [2]uint32{st.Uid, st.Gid} != want {
			t.Errorf("%s: owner %d:%d", name, st.Uid, st.Gid)
		}
	}
	get := func(name, attr string) string {
		buf := make([]byte, 100)
		n, err := unix.Lgetxattr(filepath.Join(root, name), attr, buf)
		if err != nil {
			return ""
		}
		return string(buf[:n])
	}
	if got := get("d/file", "security.capability"); os.Geteuid() == 0 && got != caps {
		t.Errorf("capabilities: %q", got)
	}
	for _, name := range []string{"d", "d/file"} {
		if got := get(name, "user.note"); got != "n" {
			t.Errorf("%s: user.note: %q", name, got)
		}
		for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque", "user.overlay.redirect"} {
			if got := get(name, attr); got != "" {
				t.Errorf("%s: the layer set %s", name, attr)
			}
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	var headers []tar.Header
	for i := range 20_000 {
		if i%20 == 0 {
			headers = append(headers, tar.Header{Name: fmt.Sprintf("usr/lib/pkg%d/", i/20), Typeflag: tar.TypeDir, Mode: 0o755})
		}
		headers = append(headers, tar.Header{Name: fmt.Sprintf("usr/lib/pkg%d/file%d", i/20, i), Mode: 0o644, Size: 2000})
	}
	data := layer(b, headers...)
	dir, err := os.MkdirTemp("/dev/shm", "sampan-unpack-*")
	must(b, err)
	defer os.RemoveAll(dir)
	for b.Loop() {
		must(b, unpackInto(dir+"/root", data, Limits{}))
		b.StopTimer()
		must(b, os.RemoveAll(dir+"/root"))
		b.StartTimer()
	}
}
