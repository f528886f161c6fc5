package imagetest

import (
	"archive/tar"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Debian returns the files of packages that are installed on this machine, and of all
// that they depend on: a root directory in which their programs run. A name with a "-"
// behind it leaves that package out, as for apt-get. Nothing is asked of a network or of
// a container engine. What no program needs (documentation, translations, what only an
// installation uses) is not in it.
func Debian(t testing.TB, packages ...string) []File {
	t.Helper()
	files := map[string]File{}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if to, err := os.Readlink("/" + dir); err == nil {
			files[dir] = File{Name: dir, Type: tar.TypeSymlink, Link: to}
		}
	}
	for _, name := range closure(t, packages) {
		for path := range strings.Lines(contents(t, name)) {
			if path = strings.TrimRight(path, "\n"); !unneeded.MatchString(path) {
				add(t, files, path)
			}
		}
	}
	files["tmp"] = File{Name: "tmp/", Type: tar.TypeDir, Mode: 0o1777}
	files["etc/passwd"] = File{Name: "etc/passwd", Body: []byte("root:x:0:0:root:/root:/bin/sh\n")}
	files["etc/group"] = File{Name: "etc/group", Body: []byte("root:x:0:\n")}
	var sorted []File
	for _, name := range slices.Sorted(maps.Keys(files)) { // a directory comes before what is in it
		sorted = append(sorted, files[name])
	}
	return sorted
}

var (
	unneeded   = regexp.MustCompile(`^/usr/share/(doc|man|locale|info|lintian|bash-completion|bug)/|/gconv/|/lib2to3/|^/etc/(init\.d|cron|logrotate)|^/(usr/)?lib/systemd/`)
	installers = []string{"adduser", "debconf", "dpkg", "init-system-helpers", "logrotate", "passwd", "tar"}
)

// closure is packages and what they depend on, of that which is installed.
func closure(t testing.TB, packages []string) []string {
	t.Helper()
	needs, provider := map[string][]string{}, map[string]string{}
	for paragraph := range strings.SplitSeq(read(t, dpkg+"status"), "\n\n") {
		fields := map[string]string{}
		for line := range strings.SplitSeq(paragraph, "\n") {
			if key, value, ok := strings.Cut(line, ": "); ok && line[0] != ' ' {
				fields[key] = value
			}
		}
		if fields["Status"] != "install ok installed" {
			continue
		}
		needs[fields["Package"]] = names(fields["Pre-Depends"] + "," + fields["Depends"])
		for _, virtual := range names(fields["Provides"]) {
			provider[virtual] = fields["Package"]
		}
	}
	var all []string
	out := slices.Clone(installers)
	for todo := slices.Clone(packages); len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		if without, ok := strings.CutSuffix(name, "-"); ok {
			out = append(out, without)
			continue
		}
		if needs[name] == nil && slices.Contains(packages, name) {
			t.Fatalf("apt-get install --no-install-recommends %s", name)
		}
		if needs[name] == nil {
			name = provider[name]
		}
		if name != "" && !slices.Contains(all, name) && !slices.Contains(out, name) {
			all = append(all, name)
			todo = append(todo, needs[name]...)
		}
	}
	return all
}

// names are those of a list of dependencies, without versions. Of alternatives all are
// taken that are installed.
func names(list string) []string {
	all := []string{}
	for _, part := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' }) {
		if fields := strings.FieldsFunc(part, func(r rune) bool { return r == ' ' || r == ':' || r == '(' }); len(fields) > 0 {
			all = append(all, fields[0])
		}
	}
	return all
}

// add adds the file at path where it really is: packages know nothing of the links that
// lead from /lib to /usr/lib.
func add(t testing.TB, files map[string]File, path string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return // of what is excluded at an installation, nothing is there
	}
	path = filepath.Join(dir, filepath.Base(path))
	info, err := os.Lstat(path)
	if err != nil || path == "/" {
		return
	}
	name := path[1:]
	if _, ok := files[name]; ok {
		return
	}
	for up := filepath.Dir(name); up != "." && files[up].Name == ""; up = filepath.Dir(up) {
		files[up] = File{Name: up + "/", Type: tar.TypeDir}
	}
	file := File{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()}
	switch info.Mode().Type() {
	case fs.ModeDir:
		file.Name, file.Type = name+"/", tar.TypeDir
	case fs.ModeSymlink:
		if file.Link, err = os.Readlink(path); err != nil {
			t.Fatal(err)
		}
		file.Type = tar.TypeSymlink
	case 0:
		if file.Body, err = os.ReadFile(path); err != nil {
			return // a secret of this machine's
		}
		if strings.HasSuffix(path, ".py") { // its compiled form, which is made at an installation
			compiled, _ := filepath.Glob(filepath.Join(dir, "__pycache__", strings.TrimSuffix(filepath.Base(path), ".py")+".cpython-*.pyc"))
			for _, path := range compiled {
				add(t, files, path)
			}
		}
	default:
		return
	}
	files[name] = file
}

// dpkg is where a machine says what is installed.
const dpkg = "/var/lib/dpkg/"

// contents are the paths of a package.
func contents(t testing.TB, name string) string {
	t.Helper()
	if lists, _ := filepath.Glob(dpkg + "info/" + name + ":*.list"); len(lists) > 0 {
		return read(t, lists[0])
	}
	return read(t, dpkg+"info/"+name+".list")
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
