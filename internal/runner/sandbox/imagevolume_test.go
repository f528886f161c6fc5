package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// held runs a test with mounts that the supervisor holds as the kernel lets it, and as
// those before Linux 6.15 do.
func held(t *testing.T, test func(t *testing.T, f *fixture)) {
	for name, detached := range map[string]bool{"detached": true, "mounted": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.host.copiesDetached = detached && f.host.copiesDetached
			f.volumes = newVolumes(f.env.Dir, &f.host, f.volumes.scout)
			test(t, f)
		})
	}
}

// TestImageVolume: a volume shows the layers of an image as they lie upon each other, to read
// and nothing else, and a part of them; it is gone with its pod.
func TestImageVolume(t *testing.T) {
	t.Parallel()
	held(t, func(t *testing.T, f *fixture) {
		var layers []string
		for _, files := range []map[string]string{{"a": "low", "d/b": "lower"}, {"d/b": "upper", "d/c": "top"}} {
			layer := t.TempDir()
			for name, text := range files {
				must(t, os.MkdirAll(filepath.Dir(filepath.Join(layer, name)), 0o755))
				must(t, os.WriteFile(filepath.Join(layer, name), []byte(text), 0o755))
			}
			layers = append(layers, layer)
		}
		first := f.spec("cat /v/a", "cat /v/d/b", "ls /v/d", "write /v/x y", "flags /v", "ls /part", "cat /one")
		f.mount(t, first, runner.Volume{Name: "v", Layers: layers}, "/v")
		first.Mounts = append(first.Mounts, runner.Mount{Volume: "v", Target: "/part", SubPath: "d", ReadOnly: true},
			runner.Mount{Volume: "v", Target: "/one", SubPath: "a", ReadOnly: true})
		f.want(t, first, "low", "upper", "b c", "write /v/x y: error: open /v/x: read-only file system",
			"ro=true nosuid=true nodev=true noexec=true", "b c", "low")
		one := f.sibling(first, "ls /v")
		one.Mounts = nil
		f.mount(t, one, runner.Volume{Name: "single", Layers: layers[:1]}, "/v")
		f.want(t, one, "a d")

		missing := f.sibling(first, "ls /v")
		missing.Mounts = []runner.Mount{{Volume: "v", Target: "/v", SubPath: "no/such", ReadOnly: true}}
		_, err := f.Launch(t.Context(), missing, nil, nil, nil)
		if err == nil || !strings.Contains(err.Error(), `subPath "no/such": read-only file system`) {
			t.Errorf("a part that is not there: %v", err)
		}
		v := runner.Volume{Class: runner.Sandbox, PodUID: first.Pod.UID, Name: "gone", Layers: []string{filepath.Join(layers[0], "nosuch")}}
		if err := f.SetVolume(&v); err == nil || !strings.Contains(err.Error(), "open the image layer") {
			t.Errorf("a layer that is not there: %v", err)
		}

		must(t, f.RemovePod(first.Pod.UID))
		if _, err := f.Launch(t.Context(), f.sibling(first, "ls /v"), nil, nil, nil); !errors.Is(err, runner.ErrNoVolume) {
			t.Errorf("the volume outlives its pod: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(f.volumes.images, "*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// TestImageOfManyLayers: so many as an image may have are shown, and are a container's root.
func TestImageOfManyLayers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	layers := make([]string, 499)
	for i := range layers {
		layers[i] = filepath.Join(t.TempDir(), strings.Repeat("long-name-", 10))
		must(t, os.Mkdir(layers[i], 0o755))
	}
	must(t, os.WriteFile(filepath.Join(layers[0], "lowest"), nil, 0o644))
	spec := f.spec("ls /v")
	f.mount(t, spec, runner.Volume{Name: "v", Layers: layers}, "/v")
	spec.Layers = append(spec.Layers, layers[1:]...)
	f.want(t, spec, "lowest")
	v := runner.Volume{Class: runner.Sandbox, PodUID: spec.Pod.UID, Name: "more", Layers: append(layers, f.layer)}
	if err := f.SetVolume(&v); err == nil || !strings.Contains(err.Error(), "mount the image") {
		t.Errorf("more than there may be: %v", err)
	}
}

// TestReadVolume: what containers have left in a file of a volume is read, and what they put in
// its way leads nowhere.
func TestReadVolume(t *testing.T) {
	t.Parallel()
	inMemory(t, func(t *testing.T, f *fixture, memory bool) {
		spec := f.spec("mkdir /v/d", "write /v/d/env A", "write /v/secret s")
		f.mount(t, spec, runner.Volume{Name: "v", Memory: memory, Size: 8 << 20, Mode: 0o777}, "/v")
		f.want(t, spec)
		root, err := f.volumes.openSource(spec.Pod.UID, &runner.Mount{Volume: "v"})
		must(t, err)
		defer unix.Close(root)
		for name, target := range map[string]string{"outside": "/etc/passwd", "up": "../../../../etc/passwd", "inside": "/d/env", "loop": "loop"} {
			must(t, unix.Symlinkat(target, root, name))
		}
		must(t, unix.Mknodat(root, "fifo", unix.S_IFIFO|0o600, 0))
		large, err := unix.Openat(root, "large", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		must(t, err)
		must(t, unix.Ftruncate(large, runner.MaxVolumeFile+1))
		must(t, unix.Close(large))
		for path, want := range map[string]string{
			"d/env": "A", "inside": "A", "d/../secret": "s",
			"outside": fs.ErrNotExist.Error(), "up": fs.ErrNotExist.Error(), "nosuch": fs.ErrNotExist.Error(), "d/env/x": "open d/env/x: not a directory",
			"loop": "open loop: too many levels of symbolic links", "fifo": `"fifo" is not a regular file`, "d": `"d" is not a regular file`,
			"large": `"large" has 1048577 bytes; the limit is 1048576`, "../../../../../etc/passwd": fs.ErrNotExist.Error(),
		} {
			data, err := f.ReadVolume(&runner.VolumeFile{Class: runner.Sandbox, PodUID: spec.Pod.UID, Name: "v", Path: path})
			got := string(data)
			if errors.Is(err, fs.ErrNotExist) {
				got = fs.ErrNotExist.Error()
			} else if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s: got %q, want %q", path, got, want)
			}
		}
		if _, err := f.ReadVolume(&runner.VolumeFile{PodUID: spec.Pod.UID, Name: "other", Path: "x"}); !errors.Is(err, runner.ErrNoVolume) {
			t.Errorf("of no volume: %v", err)
		}
	})
}
