package main_test

import (
	"archive/tar"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

// tools are what the scripts use, built once.
type tools struct {
	bin, images, manifests string

	mu sync.Mutex // one image is made at a time
}

// built are the tools of this run of the tests; TestMain removes them.
var built struct {
	once sync.Once
	dir  string
	*tools
}

func buildTools(t *testing.T) *tools {
	t.Helper()
	built.once.Do(func() { built.tools = buildAll(t) })
	if built.tools == nil {
		t.Fatal("the tools could not be built: see the test that came first")
	}
	return built.tools
}

func buildAll(t *testing.T) *tools {
	t.Helper()
	dir, err := os.MkdirTemp("", "sampan-tools-*")
	if err != nil {
		t.Fatal(err)
	}
	built.dir = dir
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	tl := &tools{
		bin: filepath.Join(dir, "bin"), images: filepath.Join(dir, "images"),
		manifests: filepath.Join(root, "testdata", "manifests"),
	}
	for _, d := range []string{tl.bin, tl.images} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build(t, filepath.Join(tl.bin, "sampan"))
	goBuild(t, filepath.Join(root, "tools", "kubectl"), filepath.Join(tl.bin, "kubectl"), ".", "-ldflags=-X k8s.io/component-base/version.gitVersion=v1.37.2")
	kuard := filepath.Join(dir, "kuard")
	goBuild(t, root, kuard, "./testdata/kuard")
	extension := filepath.Join(tl.bin, "extension")
	goBuild(t, root, extension, "./testdata/extension")
	tl.save(t, "busybox", "busybox", busyboxImage(t))
	tl.save(t, "kuard", "gcr.io/kuar-demo/kuard-amd64:blue", imagetest.Image(t, v1.Config{Entrypoint: []string{"/kuard"}},
		imagetest.Tar(t, imagetest.FromDisk(t, kuard, "kuard"))))
	tl.save(t, "extension", "extension", imagetest.Image(t, v1.Config{Entrypoint: []string{"/extension"}},
		imagetest.Tar(t, imagetest.FromDisk(t, extension, "extension"))))
	tl.save(t, "perl", "perl", perlImage(t))
	return tl
}

func goBuild(t *testing.T, dir, out, pkg string, flags ...string) {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", out, pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
}

// busyboxImage is the busybox image, made of Debian's static busybox.
func busyboxImage(t *testing.T) v1.Image {
	t.Helper()
	const path = "/bin/busybox"
	if f, err := elf.Open(path); err != nil || f.Section(".interp") != nil {
		t.Fatalf("no static %s: apt-get install busybox-static", path)
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := []imagetest.File{
		{Name: "bin/", Type: tar.TypeDir}, {Name: "tmp/", Type: tar.TypeDir, Mode: 0o1777},
		{Name: "etc/", Type: tar.TypeDir}, {Name: "root/", Type: tar.TypeDir, Mode: 0o700},
		{Name: "etc/passwd", Body: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")},
		{Name: "etc/group", Body: []byte("root:x:0:\nnobody:x:65534:\n")},
		imagetest.FromDisk(t, path, "bin/busybox"),
	}
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			files = append(files, imagetest.File{Name: "bin/" + applet, Type: tar.TypeLink, Link: "bin/busybox"})
		}
	}
	return imagetest.Image(t, v1.Config{
		Cmd: []string{"sh"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, imagetest.Tar(t, files...))
}

// perlImage is the perl image, made of this machine's perl and Debian's
// libmath-bigint-perl: the bigint that comes with perl 5.36 cannot do bpi(2000).
func perlImage(t *testing.T) v1.Image {
	t.Helper()
	const need = "apt-get install perl libmath-bigint-perl"
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Fatalf("no perl: %s", need)
	}
	inc, err := exec.Command(perl, "-Mbignum", "-e", `print join "\n", $INC{"bignum.pm"}, @INC`).Output()
	if err != nil {
		t.Fatalf("perl has no bignum: %s", need)
	}
	if _, err := os.Stat("/usr/share/perl5/Math/BigInt/Calc.pm"); err != nil {
		t.Fatalf("no libmath-bigint-perl: %s", need)
	}
	if perl, err = filepath.EvalSymlinks(perl); err != nil {
		t.Fatal(err)
	}
	files := []imagetest.File{{Name: "tmp/", Type: tar.TypeDir, Mode: 0o1777}, imagetest.FromDisk(t, perl, "usr/bin/perl")}
	libs, err := exec.Command("ldd", perl).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(libs), -1) {
		files = append(files, imagetest.FromDisk(t, lib, lib[1:]))
	}
	modules := map[string]bool{".pm": true, ".pl": true, ".so": true}
	for _, dir := range strings.Split(string(inc), "\n")[1:] {
		real, err := filepath.EvalSymlinks(dir) // 5.36 is a link to 5.36.0
		if err != nil {
			continue
		}
		filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && modules[filepath.Ext(path)] {
				files = append(files, imagetest.FromDisk(t, path, dir[1:]+path[len(real):]))
			}
			return nil
		})
	}
	return imagetest.Image(t, v1.Config{
		Cmd: []string{"perl"}, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
	}, imagetest.Tar(t, files...))
}
