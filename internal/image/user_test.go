package image_test

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

// loadLayers loads an image of these layers.
func loadLayers(t *testing.T, layers ...[]imagetest.File) *image.Image {
	t.Helper()
	s, _ := open(t)
	var tars [][]byte
	for _, l := range layers {
		tars = append(tars, imagetest.Tar(t, l...))
	}
	all, err := s.Load(t.Context(), imagetest.Save(t, "u", imagetest.Image(t, v1.Config{}, tars...)), image.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// TestNumberIsANumber: no spelling of a number is looked up as a name.
func TestNumberIsANumber(t *testing.T) {
	t.Parallel()
	img := loadLayers(t, []imagetest.File{
		{Name: "etc/passwd", Body: []byte("1000:x:0:0:root:/root:/bin/sh\n+0:x:7:7::/:\n-1:x:0:0::/:\n4294967295:x:0:0::/:\n" +
			"0x0:x:8:8::/hex:\n 0:x:9:9::/:\nminus:x:4294967295:0::/:\nweb:x:1000:33::/srv:/bin/sh\nnul:x:11:11::/a\x00b:\nhomeless:x:12:12:::\n")},
		{Name: "etc/group", Body: []byte("1000:x:0:web\n5:x:0:1000\nlogs:x:40:web,web\nminus:x:4294967295:web\n")},
	})
	for spec, want := range map[string]string{
		"1000":                 "uid 1000 gid 33 groups [0 40] web /srv numeric",
		"+1000":                "uid 1000 gid 33 groups [0 40] web /srv numeric",
		"1000:1000":            "uid 1000 gid 1000 groups [] web /srv numeric",
		"web:5":                "uid 1000 gid 5 groups [] web /srv",
		"web:logs":             "uid 1000 gid 40 groups [] web /srv",
		"web:minus":            "unable to find group minus: no matching entries in group file",
		"web:-1":               "unable to find group -1: uids and gids must be in range 0-2147483647",
		"00":                   "uid 0 gid 0 groups [0] 1000 /root numeric",
		"+0":                   "uid 0 gid 0 groups [0] 1000 /root numeric",
		"":                     "uid 0 gid 0 groups [0] 1000 /root numeric",
		"0x0":                  "uid 8 gid 8 groups [] 0x0 /hex",
		" 0":                   "unable to find user  0: no matching entries in passwd file",
		"-1":                   "unable to find user -1: uids and gids must be in range 0-2147483647",
		"2147483647":           "uid 2147483647 gid 0 groups []  / numeric",
		"2147483648":           "unable to find user 2147483648: uids and gids must be in range 0-2147483647",
		"4294967295":           "unable to find user 4294967295: uids and gids must be in range 0-2147483647",
		"99999999999999999999": "unable to find user 99999999999999999999: uids and gids must be in range 0-2147483647",
		"minus":                "unable to find user minus: no matching entries in passwd file",
		"nul":                  "uid 11 gid 11 groups [] nul /",
		"homeless":             "uid 12 gid 12 groups [] homeless /",
	} {
		u, err := img.ResolveUser(spec)
		got := fmt.Sprintf("uid %d gid %d groups %v %s %s", u.UID, u.GID, u.Groups, u.Name, u.Home)
		if u.Numeric {
			got += " numeric"
		}
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s\nwant %s", spec, got, want)
		}
	}
}

// TestUserFiles: the files are found as a container finds them, and nothing
// that is no file hangs or passes unseen.
func TestUserFiles(t *testing.T) {
	t.Parallel()
	passwd := func(home string) []byte { return []byte("web:x:33:34::" + home + ":\n") }
	link := func(name, to string) imagetest.File {
		return imagetest.File{Name: name, Type: tar.TypeSymlink, Link: to}
	}
	type files = []imagetest.File
	for name, tc := range map[string]struct {
		layers []files
		want   string // home, or part of an error
	}{
		"absolute link":           {[]files{{{Name: "data/users", Body: passwd("/a")}, link("etc/passwd", "/data/users")}}, "/a"},
		"link to a lower layer":   {[]files{{{Name: "data/users", Body: passwd("/low")}}, {link("etc/passwd", "/data/users")}}, "/low"},
		"link to a higher layer":  {[]files{{link("etc/passwd", "/data/users")}, {{Name: "data/users", Body: passwd("/high")}}}, "/high"},
		"linked directory":        {[]files{{{Name: "usr/etc/passwd", Body: passwd("/usr")}}, {link("etc", "usr/etc")}}, "/usr"},
		"more levels than are":    {[]files{{{Name: "p", Body: passwd("/up")}, link("etc/passwd", "../../../../p")}}, "/up"},
		"chain over layers":       {[]files{{link("b", "/c/d"), {Name: "x/p", Body: passwd("/chain")}}, {link("c", "x"), link("etc/passwd", "../b")}, {link("x/d", "./p")}}, "/chain"},
		"the topmost":             {[]files{{{Name: "etc/passwd", Body: passwd("/low")}}, {{Name: "etc/passwd", Body: passwd("/top")}}, {{Name: "etc/other"}}}, "/top"},
		"whiteout":                {[]files{{{Name: "etc/passwd", Body: passwd("/low")}}, {{Name: "etc/.wh.passwd"}}}, "no matching entries"},
		"whiteout of the folder":  {[]files{{{Name: "etc/passwd", Body: passwd("/low")}}, {{Name: ".wh.etc"}}, {{Name: "etc/x"}}}, "no matching entries"},
		"opaque folder":           {[]files{{{Name: "etc/passwd", Body: passwd("/low")}}, {{Name: "etc/.wh..wh..opq"}}, {{Name: "etc/x"}}}, "no matching entries"},
		"file hides a folder":     {[]files{{{Name: "etc/passwd", Body: passwd("/low")}}, {{Name: "etc"}}}, "no matching entries"},
		"folder over a file":      {[]files{{{Name: "etc/passwd", Body: passwd("/low")}}, {{Name: "etc"}}, {{Name: "etc/x"}}}, "no matching entries"},
		"dangling":                {[]files{{link("etc/passwd", "/nothing")}}, "no matching entries"},
		"out of the image":        {[]files{{link("etc/passwd", "/proc/self/status")}}, "no matching entries"},
		"loop":                    {[]files{{link("etc/passwd", "/a"), link("a", "b"), link("b", "a")}}, "too many levels of symbolic links"},
		"growing loop":            {[]files{{link("etc/passwd", "/a"), link("a", "a/a/a/a")}}, "too many levels of symbolic links"},
		"pipe":                    {[]files{{{Name: "etc/passwd", Type: tar.TypeFifo}}}, "not a regular file"},
		"link to a pipe":          {[]files{{{Name: "p", Type: tar.TypeFifo}, link("etc/passwd", "/p")}}, "not a regular file"},
		"directory":               {[]files{{{Name: "etc/passwd/", Type: tar.TypeDir}}}, "is a directory"},
		"a long line before":      {[]files{{{Name: "etc/passwd", Body: append([]byte("x:"+strings.Repeat("y", 1<<20)+"\n"), passwd("/after")...)}}}, "/after"},
		"a long line of the user": {[]files{{{Name: "etc/passwd", Body: passwd("/" + strings.Repeat("z", 100_000))}}}, "/" + strings.Repeat("z", 100_000)},
		"too large":               {[]files{{{Name: "etc/passwd", Body: make([]byte, 5<<20)}}}, "larger than 4194304 bytes"},
		"no line end":             {[]files{{{Name: "etc/passwd", Body: []byte("web:x:33:34::/end:/bin/sh")}}}, "/end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := loadLayers(t, tc.layers...).ResolveUser("web")
			if got := fmt.Sprint(u.Home, err); err != nil && !strings.Contains(got, tc.want) || err == nil && u.Home != tc.want {
				t.Errorf("home %.100q, %v; want %.100q", u.Home, err, tc.want)
			}
		})
	}
	img := loadLayers(t, []imagetest.File{{Name: "etc/passwd", Type: tar.TypeFifo}})
	if _, err := img.ResolveUser("1000"); err == nil {
		t.Error("a number passes although its groups and home cannot be known")
	}
}

// TestPlace: where a container comes to, and where it would if what a link leads to were
// there.
func TestPlace(t *testing.T) {
	t.Parallel()
	link := func(name, to string) imagetest.File {
		return imagetest.File{Name: name, Type: tar.TypeSymlink, Link: to}
	}
	type files = []imagetest.File
	for name, tc := range map[string]struct {
		layers []files
		want   string // the place of /etc/hosts, or part of an error
	}{
		"nothing there":          {[]files{{{Name: "bin/sh"}}}, "/etc/hosts"},
		"a file":                 {[]files{{{Name: "etc/hosts"}}}, "/etc/hosts"},
		"a directory":            {[]files{{{Name: "etc/hosts/", Type: tar.TypeDir}}}, "/etc/hosts"},
		"a link to a file":       {[]files{{{Name: "data/h"}}, {link("etc/hosts", "../data/h")}}, "/data/h"},
		"dangling":               {[]files{{link("etc/hosts", "../run/resolve/h")}}, "/run/resolve/h"},
		"dangling, absolute":     {[]files{{link("etc/hosts", "/run/h")}}, "/run/h"},
		"dangling directory":     {[]files{{link("etc", "/none/etc")}}, "/none/etc/hosts"},
		"dangling over layers":   {[]files{{link("run", "var/run"), {Name: "var/x"}}, {link("var/run", "/mnt/run")}, {link("etc/hosts", "/run/./a//h")}}, "/mnt/run/a/h"},
		"up from what is not":    {[]files{{link("etc/hosts", "/none/a/../../b")}}, "/b"},
		"more levels than are":   {[]files{{link("etc/hosts", "../../../../h")}}, "/h"},
		"whiteout":               {[]files{{link("etc", "/low")}, {{Name: ".wh.etc"}}}, "/etc/hosts"},
		"a file in place of etc": {[]files{{{Name: "etc"}}}, "/etc/hosts"},
		"the root":               {[]files{{link("etc/hosts", "/")}}, "/"},
		"a magic link":           {[]files{{link("etc/hosts", "/proc/self/cwd/x")}}, "/proc/self/cwd/x"},
		"loop":                   {[]files{{link("etc/hosts", "/a"), link("a", "b"), link("b", "a")}}, "too many levels of symbolic links"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := loadLayers(t, tc.layers...).Place("/etc/hosts")
			if err != nil {
				got = err.Error()
			}
			if got != tc.want && (err == nil || !strings.Contains(got, tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
