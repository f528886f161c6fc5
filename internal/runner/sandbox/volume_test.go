package sandbox

import (
	"context"
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

func TestNobodyRedirectsASubPath(t *testing.T) {
	t.Parallel()
	f := setup(t)
	volume, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o644))
	must(t, os.MkdirAll(filepath.Join(volume, "a", "b"), 0o755))
	must(t, os.WriteFile(filepath.Join(volume, "a", "b", "x"), []byte("mine"), 0o644))

	mount := runner.Mount{Source: filepath.Join(volume, "a", "b"), Target: "/data", Within: volume}
	spec := f.spec("cat /data/x")
	spec.Mounts = []runner.Mount{mount}
	f.want(t, spec, "mine")

	// A container that can write to the volume swaps a directory for a link.
	for _, link := range []string{outside, "../" + filepath.Base(outside)} {
		must(t, os.RemoveAll(filepath.Join(volume, "a")))
		must(t, os.Symlink(link, filepath.Join(volume, "a")))
		for _, source := range []string{filepath.Join(volume, "a"), filepath.Join(volume, "a", "b")} {
			mount.Source = source
			spec := f.spec("ls /data")
			spec.Mounts = []runner.Mount{mount}
			if _, err := f.Launch(context.Background(), spec, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "too many levels of symbolic links") {
				t.Errorf("mounted %s through a link to %s: %v", source, link, err)
			}
		}
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

// A pod's containers share memory-backed volumes, /dev/shm and the host name.
func TestPodShares(t *testing.T) {
	t.Parallel()
	for _, copies := range []bool{true, false} {
		t.Run(fmt.Sprintf("detached=%v", copies), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			if copies && !f.host.copiesDetached {
				t.Skip("this kernel cannot copy detached mounts (Linux 6.15)")
			}
			f.host.copiesDetached = copies
			source := t.TempDir()
			must(t, os.Chmod(source, 0o777|os.ModeSticky))
			pod := runner.PodRef{Namespace: "default", Name: "shared", UID: f.spec().Pod.UID}
			mounts := []runner.Mount{{Source: source, Target: "/mem", Tmpfs: true, TmpfsSize: 1 << 20}}

			first := f.spec("write /mem/a x", "write /dev/shm/b x", "hostname")
			first.Pod, first.Mounts, first.Hostname = pod, mounts, "shared"
			f.want(t, first, "shared")
			second := f.spec("ls /mem", "ls /dev/shm", "stat /mem", "hostname")
			second.Pod, second.Mounts, second.Hostname = pod, mounts, "shared"
			f.want(t, second, "a", "b", "dtrwxrwxrwx 0 0", "shared")
			other := f.spec("ls /dev/shm")
			f.want(t, other, "")

			if _, err := os.Stat(filepath.Join(source, "a")); err != nil {
				t.Error("the volume went with its container:", err)
			}
			must(t, f.RemovePod(pod.UID))
			if _, err := os.Stat(filepath.Join(source, "a")); err == nil {
				t.Error("the volume outlives its pod")
			}
			must(t, f.RemovePod(pod.UID)) // not known any more: no error
		})
	}
}

func TestTmpfsSize(t *testing.T) {
	t.Parallel()
	f := setup(t)
	source := t.TempDir()
	spec := f.spec("write /mem/a "+strings.Repeat("x", 30000), "write /dev/shm/a x")
	spec.Mounts = []runner.Mount{{Source: source, Target: "/mem", Tmpfs: true, TmpfsSize: 16384}}
	out, _ := f.run(t, spec)
	if !strings.HasSuffix(out, "no space left on device") {
		t.Errorf("got %q", out)
	}
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
	f.want(t, spec, "bin dev proc sys")
}
