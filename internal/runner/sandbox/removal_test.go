package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// levels are more than removeNaively may have files open, and in names of one
// letter more than a path may be long. Most take longer to make than to remove,
// so that only one test has many.
const levels, manyLevels = 6000, 40000

// removeNaively is what TestMain becomes to show that a tree cannot be removed
// by holding a descriptor for each level.
func removeNaively(dir string) error {
	limit := unix.Rlimit{Cur: 4096, Max: 4096}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, "d"))
}

func naivelyRemovable(t *testing.T, dir string) bool {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", dir)
	cmd.Env = append(os.Environ(), stageVar+"=naive")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("removed naively: %.200s", out)
	return err == nil
}

// Whatever a container has made is gone with it, or with its pod.
func TestWhateverAContainerMadeIsRemoved(t *testing.T) {
	t.Parallel()
	nest := fmt.Sprintf("deep %% %d", levels)
	tests := []struct {
		name     string
		commands []string // %: where it does it
		caps     []string
		ids      bool // it needs other ids
		root     bool // it needs the machine's root
	}{
		{name: "deep", commands: []string{nest}},
		{name: "deeper", root: true, commands: []string{fmt.Sprintf("deep %% %d", manyLevels)}},
		{name: "closed directories", commands: []string{
			"mkdir %/a", "mkdir %/a/b", "write %/a/b/c x", "chmod 0 %/a/b", "chmod 555 %/a", "mkdir %/d", "write %/d/e x", "chmod 555 %/d"}},
		{name: "other owners", ids: true, commands: []string{
			"mkdir %/a", "write %/a/b x", "chmod 700 %/a", "chown 4000 %/a/b", "chown 3000 %/a"}},
		{name: "special files", commands: []string{"fifo %/fifo", "listen %/socket", "link /proc/self/root %/link"}},
		{name: "device", root: true, commands: []string{"device %/null"}},
		{name: "immutable", root: true, caps: []string{"CAP_LINUX_IMMUTABLE"},
			commands: []string{"mkdir %/a", "write %/a/b x", "fix %/a/b", "fix %/a", "fix %"}},
	}
	for _, test := range tests {
		for _, place := range []string{"/", "/v"} {
			if test.name == "deeper" && place == "/" {
				continue // to make them through overlayfs takes even longer
			}
			t.Run(test.name+" in "+place, func(t *testing.T) {
				t.Parallel()
				f := setup(t)
				if test.ids && !f.host.uids.has(4000) || test.root && f.host.userNS {
					t.Skip("not with the ids of this user")
				}
				spec := f.spec()
				for _, c := range test.commands {
					spec.Args = append(spec.Args, strings.ReplaceAll(strings.ReplaceAll(c, "%/", place+"/"), "%", place))
				}
				spec.Capabilities = append(slices.Clone(defaultCapabilities), test.caps...)
				f.mount(t, spec, runner.Volume{Name: "v", Mode: 0o777}, "/v")
				c := f.launch(t, spec)
				info, err := c.Wait()
				if out := <-c.out; err != nil || info.Code != 0 || out != "" {
					t.Fatalf("%v %+v: %q", err, info, out)
				}
				made := map[string]string{"/": f.layerDirs(spec).upper, "/v": f.volumes.path(spec.Pod.UID, "v")}[place]
				if strings.HasPrefix(test.name, "deep") && naivelyRemovable(t, made) {
					t.Error("it could be removed the naive way: that is no test")
				}
				if names, err := readDir(made); err != nil || len(names) == 0 {
					t.Errorf("it has made %q, %v", names, err)
				}
				must(t, c.Release())
				f.want(t, f.sibling(spec, "echo meanwhile"), "meanwhile")
				must(t, f.RemovePod(spec.Pod.UID))
				must(t, f.Finish(t.Context()))
				for _, dir := range []string{"upper", "work", "volumes", "aside"} {
					if names, err := readDir(filepath.Join(f.env.Dir, dir)); err != nil || len(names) > 0 {
						t.Errorf("left in %s: %q, %v", dir, names, err)
					}
				}
			})
		}
	}
}

// What is mounted in a volume is not the pod's to remove. It is set aside with
// the volume, said, and in nobody's way.
func TestWhatIsMountedStays(t *testing.T) {
	t.Parallel()
	f := setup(t)
	precious := t.TempDir()
	must(t, os.WriteFile(filepath.Join(precious, "file"), []byte("x"), 0o600))
	spec := f.spec("mkdir /v/a", "mkdir /v/a/at", "write /v/b x")
	f.mount(t, spec, runner.Volume{Name: "v", Mode: 0o777}, "/v")
	f.want(t, spec)
	pod := filepath.Join(f.volumes.dir, spec.Pod.UID)
	must(t, unix.Mount(precious, filepath.Join(pod, "v", "a", "at"), "", unix.MS_BIND, ""))

	must(t, f.RemovePod(spec.Pod.UID))
	if _, err := os.Stat(pod); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still in the way: %v", err)
	}
	err := f.Finish(t.Context())
	if !errors.Is(err, runner.ErrRemains) || len(err.Error()) > 500 || !strings.Contains(err.Error(), spec.Pod.UID) {
		t.Errorf("got %v", err)
	}
	must(t, f.Recover(nil))
	f.want(t, f.spec("echo another"), "another")
	if text, err := os.ReadFile(filepath.Join(precious, "file")); err != nil || string(text) != "x" {
		t.Fatalf("what was mounted has lost its file: %q, %v", text, err)
	}
	aside, err := filepath.Glob(filepath.Join(f.env.Dir, "aside", "*", "v", "a", "at"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %q, %v", aside, err)
	}
	if names, _ := readDir(filepath.Join(aside[0], "..", "..")); !slices.Equal(names, []string{"a"}) {
		t.Errorf("the rest was not removed: %q", names)
	}
	must(t, unix.Unmount(aside[0], unix.MNT_DETACH))
	must(t, f.Finish(t.Context()))
}

// A supervisor that comes up after another waits for no removal.
func TestRecoverWaitsForNoRemoval(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, name := range []string{"upper", "work"} {
		deep(t, filepath.Join(f.env.Dir, name, "uid-x_main_0"), 3000)
	}
	// As it is taken up by one who removes the naive way, it fails or takes long.
	began := time.Now()
	must(t, f.Recover([]*runner.Spec{f.spec()}))
	took := time.Since(began)
	for _, name := range []string{"upper", "work"} {
		if names, err := readDir(filepath.Join(f.env.Dir, name)); err != nil || len(names) > 0 {
			t.Errorf("left in %s: %q, %v", name, names, err)
		}
	}
	f.want(t, f.spec("echo at once"), "at once")
	began = time.Now()
	must(t, f.Finish(context.Background()))
	t.Logf("recovered in %v; the removal took %v more", took, time.Since(began))
}

// deep makes directories one in another.
func deep(t *testing.T, dir string, levels int) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range levels {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		next, err := unix.Openat(fd, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		must(t, err)
		fd = next
	}
	unix.Close(fd)
}

// A pod's usage is that of its containers' layers and its volumes, however deep
// and closed they are, and whatever the containers do meanwhile.
func TestUsage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("deep /v 5000", "write /x "+strings.Repeat("x", 20000), "chmod 0 /v/d", "fifo /fifo", "chmod 0 /x", "echo ready", "wait-file /v/go")
	f.mount(t, spec, runner.Volume{Name: "v", Mode: 0o777}, "/v")
	f.mount(t, spec, runner.Volume{Name: "m", Mode: 0o777, Memory: true}, "/m")
	c := f.launch(t, spec)
	memory := f.sibling(spec, "echo in memory")
	memory.ReadOnlyRoot = true
	f.want(t, memory, "in memory")

	dir := f.volumes.path(spec.Pod.UID, "v")
	var usage runner.PodUsage
	for deadline := time.Now().Add(time.Minute); usage.Containers[spec.ID].Inodes != 5 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var err error
		usage, err = f.Usage(spec.Pod.UID, []*runner.Spec{spec, memory})
		must(t, err)
	}
	layer := usage.Containers[spec.ID]
	if layer.Bytes < 20000 || layer.Bytes > 200000 || layer.Inodes != 5 || usage.Containers[memory.ID] != (runner.DiskUsage{}) || len(usage.Containers) != 2 {
		t.Errorf("containers: %+v", usage.Containers)
	}
	v := usage.Volumes["v"]
	if v.Bytes < 100<<10 || v.Inodes != 5002 || len(usage.Volumes) != 1 {
		t.Errorf("volumes: %+v", usage.Volumes)
	}
	// A walk by paths does not find it.
	naive := int64(0)
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			if info, err := d.Info(); err == nil {
				naive += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return nil
	})
	if naive >= v.Bytes {
		t.Errorf("the attack does not work: %d bytes, and %d by paths", v.Bytes, naive)
	}
	must(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	c.wait()
	must(t, f.RemovePod(spec.Pod.UID))
	if usage, err := f.Usage(spec.Pod.UID, nil); err != nil || len(usage.Containers)+len(usage.Volumes) > 0 {
		t.Errorf("without containers and volumes: %+v, %v", usage, err)
	}
}

// A container that moves its directories about all the time does not make
// itself smaller.
func TestUsageOfWhoMovesAbout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, side := range []string{"a", "b"} {
		must(t, os.Mkdir(filepath.Join(dir, side), 0o755))
	}
	deep(t, filepath.Join(dir, "a", "x"), 200)
	must(t, os.WriteFile(filepath.Join(dir, "a", "x", "d", "file"), make([]byte, 1<<20), 0o600))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		a, b := filepath.Join(dir, "a", "x"), filepath.Join(dir, "b", "x")
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.Rename(a, b)
				a, b = b, a
			}
		}
	}()
	defer func() { close(stop); <-done }()
	seen := 0
	for range 50 {
		if diskUsage(dir).Bytes >= 1<<20 {
			seen++
		}
	}
	// How often depends on who gets the processors; never would be a way to hide.
	if seen < 5 {
		t.Errorf("seen %d times of 50", seen)
	}
}
