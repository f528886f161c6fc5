package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

func TestVolumes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("of the volume"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	must(t, os.WriteFile(file, []byte("old"), 0o644))
	must(t, os.Symlink("/srv", filepath.Join(f.layer, "link")))

	spec := f.spec("cat /data/a", "write /data/b new", "write /read/only/c x", "cat /read/only/b",
		"cat /data/inner/file", "write /srv/v/d x", "ls /link/v", "cat /etc/deep/config", "append /etc/deep/config new", "flags /data")
	spec.Mounts = []runner.Mount{
		{Source: file, Target: "/data/inner/file", ReadOnly: true}, // inside the next one
		{Source: dir, Target: "/data"},
		{Source: dir, Target: "/read/only/", ReadOnly: true},
		{Source: filepath.Join(dir, "sub"), Target: "/link/v"},
		{Source: file, Target: "/etc/deep/config"},
	}
	f.want(t, spec, "of the volume",
		"write /read/only/c x: error: open /read/only/c: read-only file system",
		"new", "old", "d", "old", "ro=false nosuid=false nodev=true noexec=false")
	if text, err := os.ReadFile(filepath.Join(dir, "b")); err != nil || string(text) != "new" {
		t.Errorf("the volume has %q %v", text, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "new" {
		t.Errorf("the file has %q %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "sub", "d")); err != nil {
		t.Error(err)
	}
}

func TestRecursiveMount(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir := t.TempDir()
	below := filepath.Join(dir, "below")
	must(t, os.Mkdir(below, 0o755))
	must(t, unix.Mount("tmpfs", below, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(below, unix.MNT_DETACH)) })
	must(t, os.WriteFile(filepath.Join(below, "x"), []byte("x"), 0o644))
	for _, recursive := range []bool{true, false} {
		spec := f.spec("ls /data/below")
		spec.Mounts = []runner.Mount{{Source: dir, Target: "/data", Recursive: recursive}}
		if recursive {
			f.want(t, spec, "x")
		} else {
			f.want(t, spec, "")
		}
	}
}

func TestPropagation(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	must(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	for _, d := range []string{"late", "go"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	for _, propagation := range []string{"", "HostToContainer"} {
		spec := f.spec("echo ready", "wait-file /data/go/now", "ls /data/late")
		spec.Mounts = []runner.Mount{{Source: dir, Target: "/data", Recursive: true, Propagation: propagation}}
		c := f.launch(t, spec)
		late := filepath.Join(dir, "late")
		must(t, unix.Mount("tmpfs", late, "tmpfs", 0, ""))
		must(t, os.WriteFile(filepath.Join(late, "seen"), nil, 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "go", "now"), nil, 0o644))
		out, _ := c.wait()
		must(t, unix.Unmount(late, unix.MNT_DETACH))
		must(t, os.Remove(filepath.Join(dir, "go", "now")))
		if want := map[string]string{"": "ready\n", "HostToContainer": "ready\nseen"}[propagation]; strings.TrimSpace(out) != strings.TrimSpace(want) {
			t.Errorf("propagation %q: got %q, want %q", propagation, out, want)
		}
	}
}

func TestTerminationLog(t *testing.T) {
	t.Parallel()
	f := setup(t)
	log := filepath.Join(t.TempDir(), "termination")
	must(t, os.WriteFile(log, nil, 0o666))
	must(t, os.Chmod(log, 0o666))
	spec := f.spec("append /dev/termination-log the end is near")
	spec.TerminationLog, spec.TerminationLogPath = log, "/dev/termination-log"
	f.want(t, spec, "")
	if text, err := os.ReadFile(log); err != nil || string(text) != "the end is near" {
		t.Errorf("termination log: %q %v", text, err)
	}
}

// What every container has mounts on is there before it is: a container that writes
// nothing leaves nothing to remove. An image that has something else under these
// names gets its mounts as well.
func TestMountPoints(t *testing.T) {
	t.Parallel()
	f := setup(t)
	hosts := filepath.Join(t.TempDir(), "hosts")
	must(t, os.WriteFile(hosts, []byte("127.0.0.1 localhost"), 0o644))
	run := func(prepare func(layer string), upper string) {
		t.Helper()
		layer := filepath.Join(t.TempDir(), "layer")
		must(t, os.MkdirAll(filepath.Join(layer, "bin"), 0o755))
		copyFile(t, os.Getenv(probeVar), filepath.Join(layer, "bin", "probe"), 0o755)
		prepare(layer)
		spec := f.spec("cat /etc/hosts", "cat /etc/resolv.conf")
		spec.Layers = []string{layer}
		for _, target := range []string{"/etc/hosts", "/etc/resolv.conf"} {
			spec.Mounts = append(spec.Mounts, runner.Mount{Source: hosts, Target: target})
		}
		c := f.launch(t, spec)
		info, err := c.Wait()
		must(t, err)
		made, err := os.ReadDir(f.layerDirs(spec).upper)
		must(t, err)
		var names []string
		for _, e := range made {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != upper {
			t.Errorf("the container's own layer has %q, want %q", got, upper)
		}
		must(t, c.Release())
		if out := <-c.out; out != "127.0.0.1 localhost\n127.0.0.1 localhost" || info.Code != 0 {
			t.Errorf("exit code %d: %s", info.Code, out)
		}
	}
	run(func(string) {}, "")
	run(func(layer string) { must(t, os.Mkdir(filepath.Join(layer, "etc"), 0o755)) }, "")
	run(func(layer string) {
		must(t, os.MkdirAll(filepath.Join(layer, "usr", "etc"), 0o755))
		must(t, os.Symlink("usr/etc", filepath.Join(layer, "etc")))
	}, "usr")
	run(func(layer string) {
		must(t, os.Mkdir(filepath.Join(layer, "etc"), 0o755))
		must(t, unix.Setxattr(filepath.Join(layer, "etc"), opaque(f), []byte("y"), 0)) // as an image that begins /etc anew
	}, "etc")
}

// opaque is the attribute of a directory that hides those of the layers below.
func opaque(f *fixture) string {
	if f.host.userNS {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// Forty layers with long names do not fit into mount's options.
func TestManyLayers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	base := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	spec := f.spec("cat /top", "cat /every39", "ls /every", "cat /etc/image")
	for i := range 40 {
		layer := filepath.Join(base, fmt.Sprintf("a:comma,and\\%02d", i))
		must(t, os.MkdirAll(filepath.Join(layer, "every"), 0o755))
		must(t, os.WriteFile(filepath.Join(layer, "top"), fmt.Append(nil, i), 0o644))
		must(t, os.WriteFile(filepath.Join(layer, fmt.Sprint("every", i)), fmt.Append(nil, i), 0o644))
		must(t, os.WriteFile(filepath.Join(layer, "every", fmt.Sprint(i%3)), nil, 0o644))
		spec.Layers = append(spec.Layers, layer)
	}
	f.want(t, spec, "39", "39", "0 1 2", "from the image")

	few := f.spec("cat /top")
	few.Layers = spec.Layers[:4]
	f.want(t, few, "2")
}

func TestNoLayer(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("ls /", "write /x y")
	spec.Layers = nil
	spec.Args[0] = "/bin/probe"
	spec.Mounts = []runner.Mount{{Source: filepath.Join(f.layer, "bin"), Target: "/bin", ReadOnly: true}}
	f.want(t, spec, "bin dev etc proc sys")
}
