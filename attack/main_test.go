package attack

import (
	"archive/tar"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sampan-batch/sampan/internal/image/imagetest"
	"github.com/sampan-batch/sampan/torture/audit"
)

// base is the directory of all that the attacks use and make. It is below /tmp,
// where every user may go.
var base string

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // attacks wait more than they work
	os.Exit(run(m))
}

func run(m *testing.M) int {
	before := audit.Look()
	var err error
	if base, err = os.MkdirTemp("/tmp", "sampan-attack-"); err == nil {
		err = os.Chmod(base, 0o755)
	}
	if err == nil {
		err = build()
	}
	code := 1
	if err == nil {
		code = m.Run()
		for _, left := range before.Remains(base) {
			fmt.Fprintln(os.Stderr, "FAIL: the attacks have left", left)
			code = 1
		}
	} else {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
	}
	if err := os.RemoveAll(base); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: the attacks have left files:", err)
		code = 1
	}
	return code
}

// build makes the programs: Sampan as it is, Sampan with defences that can be
// taken away, kubectl, and what runs in containers.
func build() error {
	for _, b := range []struct {
		dir, pkg, out string
		flags         []string
	}{
		{"..", "./cmd/sampan", "bin/sampan", nil},
		{"..", "./cmd/sampan", "weak/sampan", []string{"-tags=weak,grpcnotrace"}}, // the other as in scripts/flags.sh
		{"../tools/kubectl", ".", "bin/kubectl", nil},
		{"..", "./internal/runner/sandbox/testdata/probe", "probe", nil},
		{"..", "./attack/testdata/attacker", "attacker", nil},
	} {
		cmd := exec.Command("go", append(append([]string{"build"}, b.flags...), "-o", filepath.Join(base, b.out), b.pkg)...)
		cmd.Dir, cmd.Env = b.dir, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", b.pkg, err, out)
		}
	}
	return nil
}

// outside is a directory of the machine that the image's links lead to, and secret
// a file of the machine.
func outside() string { return filepath.Join(base, "outside") }

const secretText = "the secret of this machine"

// images writes the archives that every user loads.
func images(t *testing.T) (files []string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(base, "secret"), []byte(secretText), 0o644))
	must(t, os.MkdirAll(outside(), 0o777))
	must(t, os.Chmod(outside(), 0o777))
	content := layer(t)
	for name, config := range map[string]v1.Config{
		"attacker": {}, "descriptor": {WorkingDir: "/proc/self/fd/700"}, "swapped": {WorkingDir: "/srv/work"}, "named": {User: "1000x"},
	} {
		config.Env = []string{"PATH=/bin"}
		file := filepath.Join(base, name+".tar")
		must(t, os.Rename(imagetest.Save(t, name, imagetest.Image(t, config, content)), file))
		must(t, os.Chmod(file, 0o644))
		files = append(files, file)
	}
	return files
}

func layer(t *testing.T) []byte {
	t.Helper()
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatalf("no static /bin/busybox: apt-get install busybox-static: %v", err)
	}
	attacker := filepath.Join(base, "attacker")
	setuid := imagetest.FromDisk(t, filepath.Join(base, "probe"), "bin/setuid-probe")
	setuid.Mode = 0o4755
	files := []imagetest.File{
		{Name: "bin/", Type: tar.TypeDir}, {Name: "etc/", Type: tar.TypeDir}, {Name: "srv/", Type: tar.TypeDir, Mode: 0o1777},
		{Name: "srv/work/", Type: tar.TypeDir, Mode: 0o777}, {Name: "tmp/", Type: tar.TypeDir, Mode: 0o1777}, {Name: "lib64/", Type: tar.TypeDir},
		// Numbers as names, of which a kubelet sees the number only.
		{Name: "etc/passwd", Body: []byte("root:x:0:0:root:/root:/bin/sh\n1000:x:0:0:root:/root:/bin/sh\n1000x:x:0:0:root:/root:/bin/sh\n")},
		{Name: "etc/group", Body: []byte("root:x:0:\n1000:x:0:\n")},
		imagetest.FromDisk(t, "/bin/busybox", "bin/busybox"), imagetest.FromDisk(t, filepath.Join(base, "probe"), "bin/probe"), setuid,
		// Where the machine's programs that are not static would look for their loader.
		imagetest.FromDisk(t, attacker, "bin/attacker"), imagetest.FromDisk(t, attacker, "lib64/ld-linux-x86-64.so.2"),
		{Name: "link", Type: tar.TypeSymlink, Link: outside()},
		{Name: "magic", Type: tar.TypeSymlink, Link: "/proc/self/root" + outside()},
	}
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			files = append(files, imagetest.File{Name: "bin/" + applet, Type: tar.TypeLink, Link: "bin/busybox"})
		}
	}
	return imagetest.Tar(t, files...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
