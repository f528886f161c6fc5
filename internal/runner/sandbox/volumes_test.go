package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// mount makes a volume of the spec's pod and has the container mount it.
func (f *fixture) mount(tb testing.TB, spec *runner.Spec, v runner.Volume, target string) {
	tb.Helper()
	v.Class, v.PodUID = runner.Sandbox, spec.Pod.UID
	must(tb, f.SetVolume(&v))
	spec.Mounts = append(spec.Mounts, runner.Mount{Volume: v.Name, Target: target, ReadOnly: v.Files != nil})
}

// sibling returns another container of the spec's pod, with its mounts.
func (f *fixture) sibling(spec *runner.Spec, commands ...string) *runner.Spec {
	next := f.spec(commands...)
	next.Pod, next.Mounts = spec.Pod, slices.Clone(spec.Mounts)
	next.Hostname, next.UID, next.GID, next.Groups = spec.Hostname, spec.UID, spec.GID, spec.Groups
	return next
}

// inMemory runs a test with volumes on disk, and with both kinds of those in
// memory.
func inMemory(t *testing.T, test func(t *testing.T, f *fixture, memory bool)) {
	for _, c := range []struct {
		name             string
		memory, detached bool
	}{{"disk", false, true}, {"memory", true, true}, {"mounted memory", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			if c.detached && c.memory && !f.host.copiesDetached {
				t.Skip("this kernel cannot copy detached mounts (Linux 6.15)")
			}
			f.host.copiesDetached = c.detached && f.host.copiesDetached
			f.volumes = newVolumes(f.env.Dir, &f.host, f.volumes.scout)
			test(t, f, c.memory)
		})
	}
}

// What the containers of a pod write into its volumes, they share, and it is
// gone after the pod, not before.
func TestVolumeOfAPod(t *testing.T) {
	t.Parallel()
	inMemory(t, func(t *testing.T, f *fixture, memory bool) {
		v := runner.Volume{Name: "v", Memory: memory, Size: 1 << 20, Mode: 0o1777}
		first := f.spec("stat /v", "write /v/a x", "mkdir /v/d", "write /v/d/b y", "flags /v")
		f.mount(t, first, v, "/v")
		flags := "ro=false nosuid=false nodev=true noexec=false"
		if memory {
			flags = "ro=false nosuid=true nodev=true noexec=false"
		}
		f.want(t, first, "dtrwxrwxrwx 0 0", flags)
		v.PodUID = first.Pod.UID
		must(t, f.SetVolume(&v)) // once more: it stays as it is
		f.want(t, f.sibling(first, "ls /v", "cat /v/d/b"), "a d", "y")

		_, err := os.Stat(filepath.Join(f.volumes.path(first.Pod.UID, "v"), "a"))
		if onDisk := err == nil; onDisk == memory {
			t.Errorf("on disk: %v", onDisk)
		}
		other := f.spec("ls /v")
		f.mount(t, other, v, "/v")
		f.want(t, other, "")

		must(t, f.RemovePod(first.Pod.UID))
		if _, err := f.Launch(t.Context(), f.sibling(first, "ls /v"), nil, nil, nil); !errors.Is(err, runner.ErrNoVolume) {
			t.Errorf("the volume outlives its pod: %v", err)
		}
		must(t, f.RemovePod(first.Pod.UID)) // not known any more: no error
		must(t, f.RemovePod(other.Pod.UID))
	})
}

func TestMemoryVolumeIsBounded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, test := range []struct{ size, write int64 }{{16384, 30000}, {1, 5000}} {
		spec := f.spec("write /v/a " + strings.Repeat("x", int(test.write)))
		f.mount(t, spec, runner.Volume{Name: "v", Memory: true, Mode: 0o777, Size: test.size}, "/v")
		if out, _ := f.run(t, spec); !strings.HasSuffix(out, "no space left on device") {
			t.Errorf("size %d: got %q", test.size, out)
		}
	}
	spec := f.spec("write /v/a " + strings.Repeat("x", 100000))
	f.mount(t, spec, runner.Volume{Name: "v", Memory: true, Mode: 0o777}, "/v")
	f.want(t, spec)
}

// A pod whose supervisor died finds its volumes on disk again; those in memory
// have to be made again.
func TestVolumesAfterTheSupervisor(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("write /disk/a x", "write /memory/a x")
	f.mount(t, spec, runner.Volume{Name: "disk", Mode: 0o777}, "/disk")
	f.mount(t, spec, runner.Volume{Name: "memory", Memory: true, Mode: 0o777}, "/memory")
	f.want(t, spec)
	must(t, f.ReleasePod(spec.Pod.UID))

	f.volumes = newVolumes(f.env.Dir, &f.host, f.volumes.scout)
	must(t, f.Recover(nil))
	if uids, err := f.Pods(); err != nil || !slices.Equal(uids, []string{spec.Pod.UID}) {
		t.Errorf("pods with volumes: %q, %v", uids, err)
	}
	if _, err := f.Launch(t.Context(), f.sibling(spec, "ls /disk"), nil, nil, nil); !errors.Is(err, runner.ErrNoVolume) {
		t.Errorf("started without its volume: %v", err)
	}
	again := f.sibling(spec, "ls /disk", "ls /memory")
	again.Mounts = nil
	f.mount(t, again, runner.Volume{Name: "disk", Mode: 0o777}, "/disk")
	f.mount(t, again, runner.Volume{Name: "memory", Memory: true, Mode: 0o777}, "/memory")
	f.want(t, again, "a")
	must(t, f.RemovePod(spec.Pod.UID))
	if uids, err := f.Pods(); err != nil || len(uids) > 0 {
		t.Errorf("pods with volumes: %q, %v", uids, err)
	}
}

func TestVolumeFiles(t *testing.T) {
	t.Parallel()
	inMemory(t, func(t *testing.T, f *fixture, memory bool) {
		v := runner.Volume{Name: "v", Memory: memory, Mode: 0o755, Files: map[string]runner.File{
			"a": {Data: []byte("1"), Mode: 0o440}, "x/y/z": {Data: []byte("2"), Mode: 0o4755},
		}}
		spec := f.spec("ls /v", "cat /v/a", "stat /v/a", "cat /v/x/y/z", "stat /v/x/y/z", "stat /v/x/y", "write /v/b x", "readlink /v/..data", "readlink /v/a")
		f.mount(t, spec, v, "/v")
		out, _ := f.run(t, spec)
		lines := strings.Split(out, "\n")
		if len(lines) != 9 || !strings.HasSuffix(lines[0], " ..data a x") {
			t.Fatalf("got %q", lines)
		}
		generation := lines[7]
		if want := []string{"1", "-r--r----- 0 0", "2", "urwxr-xr-x 0 0", "drwxr-xr-x 0 0",
			"write /v/b x: error: open /v/b: read-only file system", generation, "..data/a"}; !slices.Equal(lines[1:], want) {
			t.Errorf("got %q, want %q", lines[1:], want)
		}

		// The same again is not written again.
		v.PodUID = spec.Pod.UID
		must(t, f.SetVolume(&v))
		f.want(t, f.sibling(spec, "readlink /v/..data"), generation)

		// A container that runs sees a change; what it has open stays.
		sees := f.sibling(spec, "cat /v/x/y/z", "write /s/seen x", "wait-file /v/new", "ls /v/x", "cat /v/a", "wait-file /v/..data/new")
		f.mount(t, sees, runner.Volume{Name: "s", Mode: 0o777}, "/s")
		watch := f.launch(t, sees)
		for seen := filepath.Join(f.volumes.path(spec.Pod.UID, "s"), "seen"); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(seen); err == nil || t.Context().Err() != nil {
				break
			}
		}
		v.Files = map[string]runner.File{"a": {Data: []byte("changed"), Mode: 0o444}, "new": {Mode: 0o444}}
		must(t, f.SetVolume(&v))
		if got, _ := watch.wait(); got != "2\nls /v/x: error: open /v/x: no such file or directory\nchanged" {
			t.Errorf("got %q", got)
		}
		// Nothing of the former generation is left.
		f.want(t, f.sibling(spec, "ls /v"), f.generation(t, spec)+" ..data a new")
		must(t, f.RemovePod(spec.Pod.UID))
	})
}

// generation returns what ..data of the volume v points to.
func (f *fixture) generation(t *testing.T, spec *runner.Spec) string {
	t.Helper()
	out, _ := f.run(t, f.sibling(spec, "readlink /v/..data"))
	return out
}

// A volume that an attacker has made writable, as a privileged container can, is
// still written without leaving it or waiting for anybody.
func TestFilesOfAChangedVolume(t *testing.T) {
	t.Parallel()
	f := setup(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "keep"), []byte("kept"), 0o644))
	v := runner.Volume{Class: runner.Sandbox, PodUID: "uid-x", Name: "v", Mode: 0o755, Files: map[string]runner.File{
		"a": {Data: []byte("1"), Mode: 0o644}, "d/e": {Data: []byte("1"), Mode: 0o644},
	}}
	must(t, f.SetVolume(&v))
	dir := f.volumes.path("uid-x", "v")
	must(t, os.Remove(filepath.Join(dir, "a")))
	must(t, unix.Mkfifo(filepath.Join(dir, "a"), 0o600))
	must(t, os.Remove(filepath.Join(dir, "..data")))
	must(t, os.Symlink(outside, filepath.Join(dir, "..data")))
	must(t, os.Remove(filepath.Join(dir, "d")))
	must(t, os.Symlink(outside, filepath.Join(dir, "d")))
	must(t, os.Mkdir(filepath.Join(dir, "..data_tmp"), 0o755))
	v.Files["a"] = runner.File{Data: []byte("2"), Mode: 0o644}
	must(t, f.SetVolume(&v))
	for path, want := range map[string]string{"a": "2", "d/e": "1"} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if names, err := readDir(outside); err != nil || !slices.Equal(names, []string{"keep"}) {
		t.Errorf("outside: %q, %v", names, err)
	}
	must(t, f.RemovePod("uid-x"))
}

func readDir(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// With fsGroup a container of any user reads what only root and the group may,
// wherever it has such a group; where it has only one id, it is that.
func TestVolumeOfAGroup(t *testing.T) {
	t.Parallel()
	inMemory(t, func(t *testing.T, f *fixture, memory bool) {
		const group = 4321
		have := f.host.gids.has(group)
		spec := f.spec("cat /v/a", "cat /v/d/b", "write /e/x y", "mkdir /e/sub", "stat /e", "stat /e/sub")
		spec.UID, spec.GID, spec.Groups = ptr[uint32](1000), ptr[uint32](1000), []uint32{group}
		f.mount(t, spec, runner.Volume{Name: "v", Memory: memory, Mode: 0o2750, Group: ptr[uint32](group), Files: map[string]runner.File{
			"a": {Data: []byte("secret"), Mode: 0o440}, "d/b": {Data: []byte("deep"), Mode: 0o440},
		}}, "/v")
		f.mount(t, spec, runner.Volume{Name: "e", Memory: memory, Mode: 0o2770, Group: ptr[uint32](group)}, "/e")
		want := []string{"secret", "deep", "dgrwxrwx--- 0 4321", "dgrwxr-xr-x 1000 4321"}
		if !have { // the one id that there is looks like the container's own
			want = []string{"secret", "deep", "dgrwxrwx--- 1000 1000", "dgrwxr-xr-x 1000 1000"}
		}
		f.want(t, spec, want...)
		if have {
			// Without the group it is as closed as it looks.
			other := f.sibling(spec, "cat /v/a", "write /e/x y")
			other.Groups = nil
			f.want(t, other, "cat /v/a: error: open /v/a: permission denied", "write /e/x y: error: open /e/x: permission denied")
		}
		must(t, f.RemovePod(spec.Pod.UID))
	})
}

// A directory that is there is given to a group with all that is in it, as often as it is asked for,
// but where it may stop to answer.
func TestSourceOfAGroup(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const group = 4321
	dir := t.TempDir()
	must(t, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "old"), []byte("kept"), 0o600)))
	spec := f.spec("cat /v/old", "write /v/new x", "stat /v/new")
	spec.UID, spec.GID, spec.Groups = ptr[uint32](1000), ptr[uint32](1000), []uint32{group}
	v := runner.Volume{Class: runner.Sandbox, PodUID: spec.Pod.UID, Name: "v", Source: dir, Group: ptr[uint32](group)}
	must(t, errors.Join(f.SetVolume(&v), f.SetVolume(&v)))
	spec.Mounts = []runner.Mount{{Volume: "v", Source: dir, Target: "/v", Recursive: true}}
	want := []string{"kept", "-rw-r--r-- 1000 4321"}
	if !f.host.gids.has(group) { // the one id that there is looks like the container's own
		want[1] = "-rw-r--r-- 1000 1000"
	}
	f.want(t, spec, want...)
	if _, err := os.Lstat(filepath.Join(f.env.Dir, "volumes", spec.Pod.UID, "v")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a volume was made besides: %v", err)
	}
	must(t, f.RemovePod(spec.Pod.UID))
	if _, err := os.Lstat(filepath.Join(dir, "old")); err != nil {
		t.Errorf("it went with its pod: %v", err)
	}

	for source, says := range map[string]string{"/proc/self": "may stop to answer", dir + "/no": "no such file", dir + "/old": "not a directory"} {
		v.Source = source
		if err := f.SetVolume(&v); f.host.gids.has(group) && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestSubPath(t *testing.T) {
	t.Parallel()
	inMemory(t, func(t *testing.T, f *fixture, memory bool) {
		outside := t.TempDir()
		must(t, os.WriteFile(filepath.Join(outside, "secret"), nil, 0o644))
		spec := f.spec("mkdir /v/real", "mkdir /v/real/deep", "write /v/real/deep/x mine", "link real /v/in", "link in/deep /v/in2",
			"link /etc /v/abs", "link ../../../.. /v/up", "link nowhere /v/dangling", "fifo /v/fifo",
			"link "+outside+" /v/outside", "link ../real/deep /v/real/back")
		f.mount(t, spec, runner.Volume{Name: "v", Memory: memory, Mode: 0o2777}, "/v")
		f.want(t, spec)
		const refused = "failed to prepare subPath for volumeMount \"v\" of container \"main\": "
		for _, test := range []struct {
			sub  string
			want []string // what stat and ls say
			err  string
		}{
			{sub: "real", want: []string{"dgrwxr-xr-x 0 0", "back deep"}},
			{sub: "in", want: []string{"dgrwxr-xr-x 0 0", "back deep"}},
			{sub: "in2", want: []string{"dgrwxr-xr-x 0 0", "x"}},
			{sub: "real/back", want: []string{"dgrwxr-xr-x 0 0", "x"}},
			{sub: "./real//deep/", want: []string{"dgrwxr-xr-x 0 0", "x"}},
			{sub: "a/b/c", want: []string{"dgrwxrwxrwx 0 0", ""}},
			{sub: "a/b", want: []string{"dgrwxr-xr-x 0 0", "c"}}, // what the umask left
			{sub: "in/new", want: []string{"dgrwxrwxrwx 0 0", ""}},
			{sub: "in2/x", want: []string{"-rw-r--r-- 0 0", ""}},
			{sub: "abs", err: `subPath "abs": it escapes from the volume`},
			{sub: "abs/passwd", err: `subPath "abs/passwd": it escapes from the volume`},
			{sub: "up", err: `subPath "up": it escapes from the volume`},
			{sub: "up/new/x", err: `subPath "up/new/x": it escapes from the volume`},
			{sub: "outside/made", err: `subPath "outside/made": it escapes from the volume`},
			{sub: "../v", err: "it escapes from the volume"},
			{sub: "dangling", err: `subPath "dangling": too many levels of symbolic links`},
			{sub: "fifo/x", err: `subPath "fifo/x": not a directory`},
		} {
			s := f.sibling(spec, "stat /m")
			if test.err == "" && test.want[0][0] == 'd' {
				s.Args = append(s.Args, "ls /m")
			}
			s.Mounts = []runner.Mount{{Volume: "v", SubPath: test.sub, Target: "/m"}}
			if test.err == "" {
				f.want(t, s, slices.DeleteFunc(test.want, func(s string) bool { return s == "" })...)
				continue
			}
			_, err := f.Launch(t.Context(), s, nil, nil, nil)
			var start *runner.StartError
			if !errors.As(err, &start) || start.Reason != "CreateContainerConfigError" || start.Message != refused+test.err {
				t.Errorf("%q: %v, want %q", test.sub, err, refused+test.err)
			}
		}
		if names, err := readDir(outside); err != nil || len(names) != 1 {
			t.Errorf("outside the volume: %q, %v", names, err)
		}
		must(t, f.RemovePod(spec.Pod.UID))
	})
}

// A hostPath has subPaths too.
func TestSubPathOfASource(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o750))
	spec := f.spec("write /m/f x", "stat /m")
	spec.Mounts = []runner.Mount{{Volume: "h", Source: dir, SubPath: "a/b", Target: "/m", Recursive: true}}
	f.want(t, spec, "drwxr-x--- 0 0")
	if _, err := os.Stat(filepath.Join(dir, "a", "b", "f")); err != nil {
		t.Error(err)
	}
	must(t, f.RemovePod(spec.Pod.UID))
	if _, err := os.Stat(filepath.Join(dir, "a", "b", "f")); err != nil {
		t.Error("the machine's files went with the pod:", err)
	}
}

// While a container swaps a directory for a link that leads out, nobody else's
// mount ever shows what is there. That it would, were the way resolved first
// and opened then, is shown beside it.
func TestNobodyRedirectsASubPath(t *testing.T) {
	t.Parallel()
	f := setup(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), nil, 0o644))
	spec := f.spec("mkdir /v/a")
	f.mount(t, spec, runner.Volume{Name: "v", Mode: 0o777}, "/v")
	f.want(t, spec)
	dir := f.volumes.path(spec.Pod.UID, "v")
	must(t, os.Symlink(outside, filepath.Join(dir, "evil")))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		a, evil := filepath.Join(dir, "a"), filepath.Join(dir, "evil")
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, evil, unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-done }()

	leaks := func(fd int, err error) bool {
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		return unix.Faccessat(fd, "secret", unix.F_OK, 0) == nil
	}
	naive := func() (int, error) {
		path, err := filepath.EvalSymlinks(filepath.Join(dir, "a"))
		if err != nil || path != filepath.Join(dir, "a") {
			return -1, unix.EXDEV
		}
		return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	leaked, opened := 0, 0
	for deadline := time.Now().Add(time.Minute); (leaked < 3 || opened < 100) && time.Now().Before(deadline); {
		if leaks(naive()) {
			leaked++
		}
		for _, sub := range []string{"a", "a/new"} {
			fd, _, err := f.volumes.open(t.Context(), spec.Pod.UID, &runner.Mount{Volume: "v", SubPath: sub})
			if err == nil {
				opened++
			}
			if leaks(fd, err) {
				t.Fatalf("%s is outside of the volume", sub)
			}
		}
	}
	if leaked == 0 || opened == 0 {
		t.Errorf("the attack worked %d times on a step that is open to it, the mount %d times", leaked, opened)
	}
	if names, err := readDir(outside); err != nil || !slices.Equal(names, []string{"secret"}) {
		t.Errorf("outside the volume: %q, %v", names, err)
	}
	must(t, f.RemovePod(spec.Pod.UID))
}

// Names of pods and volumes are names of files.
func TestVolumeNames(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".new"} {
		spec := f.spec("ls /m")
		spec.Mounts = []runner.Mount{{Volume: name, Target: "/m"}}
		if _, err := f.Launch(t.Context(), spec, nil, nil, nil); !errors.Is(err, runner.ErrNoVolume) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, path := range []string{"../x", "/x", "..data", "..x/y"} {
		err := f.SetVolume(&runner.Volume{PodUID: "uid-x", Name: "v", Mode: 0o755, Files: map[string]runner.File{path: {}}})
		if err == nil || err.Error() != fmt.Sprintf("invalid path %q in a volume", path) {
			t.Errorf("%q: %v", path, err)
		}
	}
	must(t, f.RemovePod("uid-x"))
	if _, err := os.Stat(filepath.Join(f.volumes.dir, "uid-x")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
