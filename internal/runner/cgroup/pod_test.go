package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// service makes a version 2 tree in which we are a service whose group is ours.
func service(t *testing.T, controllers string) (tr *made, own string, m *Manager) {
	tr = newUnified(t, controllers)
	tr.make("/system.slice", controllers)
	own = tr.make("/system.slice/sampan.service", "", "4711")
	tr.denied[tr.root], tr.denied[filepath.Join(tr.root, "system.slice")] = true, true
	return tr, own, tr.manager(unifiedMount, "0::/system.slice/sampan.service\n")
}

// TestReserve: all pods together get less than the least that holds for us.
func TestReserve(t *testing.T) {
	t.Parallel()
	tr, own, m := service(t, "memory pids")
	tr.write(filepath.Join(own, "pids.max"), "300\n")
	tr.write(filepath.Join(filepath.Dir(own), "pids.max"), "max\n")
	must(t, os.MkdirAll(filepath.Join(tr.proc, "../sys/kernel"), 0o755))
	tr.write(filepath.Join(tr.proc, "../sys/kernel/pid_max"), "32768\n")
	g, _, err := m.Create(Container{Pod: "p", PodPids: 100, Name: "c1"})
	must(t, err)
	if got := readNumber(filepath.Join(own, home, "pids.max")); got != 225 {
		t.Errorf("all pods: %d", got)
	}
	if got := readNumber(filepath.Join(own, inPod, "pids.max")); got != 100 {
		t.Errorf("the pod: %d", got)
	}
	if got := tr.read("system.slice/sampan.service", leaf, "cgroup.procs"); got != "4711" {
		t.Errorf("ourselves: %q", got)
	}
	must(t, g.Remove())
	for most, want := range map[int64]int64{0: 0, 1: 0, 10: 5, 100: 50, 128: 64, 300: 225, 32768: 28672, 4194304: 4190208} {
		if got := most - reserve(most); got != want {
			t.Errorf("of %d they get %d, want %d", most, got, want)
		}
	}
}

// TestShares: pods compete by the sum of what their containers ask for, and
// those that ask for nothing get the least.
func TestShares(t *testing.T) {
	t.Parallel()
	tr, own, m := service(t, "cpu pids")
	weightOf := func(path ...string) string {
		text, err := os.ReadFile(filepath.Join(append([]string{own, home}, path...)...))
		must(t, err)
		return string(text)
	}
	pods := map[string]*Group{}
	add := func(pod, name string, shares int64) {
		g, ignored, err := m.Create(Container{Pod: pod, Name: name, Resources: runner.Resources{CPUShares: shares}})
		if g == nil || ignored != "" || err != nil {
			t.Fatalf("%v %q %v", g, ignored, err)
		}
		pods[pod+name] = g
	}
	add("early", "idle", 0)
	add("busy", "a", 1024)
	add("busy", "b", 1024)
	add("busy", "idle", 0)
	add("late", "idle", 0)
	dir := func(pod string) string { return "pod" + pod + "." + m.key }
	for path, want := range map[string]string{
		dir("early"): "1", dir("late"): "1", dir("busy"): fmt.Sprint(weight(2048)),
		dir("busy") + "/a": "100", dir("busy") + "/idle": "1",
	} {
		if got := weightOf(path, "cpu.weight"); got != want {
			t.Errorf("%s: %q, want %s", path, got, want)
		}
	}
	must(t, pods["busya"].Remove())
	if got := weightOf(dir("busy"), "cpu.weight"); got != "100" {
		t.Errorf("with one container left: %q", got)
	}
	if _, err := os.Stat(filepath.Join(own, home, dir("busy"), "b", "memory.max")); err == nil {
		t.Error("it has a controller that nobody asked for")
	}
	_ = tr
}

// TestPodsLast: directories go with the last user, whatever the order, and come
// again while others go.
func TestPodsLast(t *testing.T) {
	t.Parallel()
	m := NewManager(Config{Owner: t.TempDir()})
	if g, ignored := create(t, m, "c0", runner.Resources{PidsLimit: 5}); g == nil {
		t.Skip(ignored)
	} else {
		must(t, g.Remove())
	}
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 100 {
				g, _, err := m.Create(Container{Pod: fmt.Sprint(n % 2), PodPids: 30, Name: fmt.Sprintf("c%d-%d", i, n)})
				if g == nil || err != nil {
					t.Errorf("%v %v", g, err)
					return
				}
				if err := g.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if len(m.pods) > 0 {
		t.Errorf("pods are left: %v", m.pods)
	}
	left, err := filepath.Glob(filepath.Join(m.layout.track.home(), "*."+m.key))
	if err != nil || len(left) > 0 {
		t.Errorf("directories are left: %v %v", left, err)
	}
}

// TestRecoverPods: a manager finds what a former one of the same owner has left,
// and nobody else's.
func TestRecoverPods(t *testing.T) {
	t.Parallel()
	tr, own, m := service(t, "pids")
	mine, theirs := filepath.Join(own, home, "podx."+m.key), filepath.Join(own, home, "podx.00000000")
	for _, dir := range []string{filepath.Join(own, home), mine, filepath.Join(mine, "c1"), filepath.Join(mine, "c1", "nested"), theirs, filepath.Join(own, home, "old")} {
		must(t, tr.Mkdir(dir))
	}
	must(t, m.Recover([]string{"old", "other"}))
	left, err := os.ReadDir(filepath.Join(own, home))
	must(t, err)
	var names []string
	for _, e := range left {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if strings.Join(names, " ") != "podx.00000000" {
		t.Errorf("left are %v", names)
	}
}

// busy is a kernel that does not let go of one directory.
type busy struct {
	realKernel
	dir     string
	release chan struct{}
}

func (b *busy) Rmdir(dir string) error {
	if strings.HasSuffix(dir, b.dir) {
		select {
		case <-b.release:
		default:
			return &os.PathError{Op: "rmdir", Path: dir, Err: unix.EBUSY}
		}
	}
	return b.realKernel.Rmdir(dir)
}

// TestBusy: a group that cannot be removed for a while holds up nobody else.
func TestBusy(t *testing.T) {
	t.Parallel()
	kernel := &busy{dir: "/stuck", release: make(chan struct{})}
	m := NewManager(Config{Owner: t.TempDir(), Kernel: kernel})
	stuck, _, err := m.Create(Container{Pod: "a", Name: "stuck"})
	must(t, err)
	if stuck == nil {
		t.Skip(m.Absent())
	}
	removed := make(chan error, 1)
	go func() { removed <- stuck.Remove() }()
	began := time.Now()
	for n := range 100 {
		g, _, err := m.Create(Container{Pod: "b", Name: fmt.Sprint("c", n)})
		must(t, errors.Join(err, g.Remove()))
	}
	select {
	case err := <-removed:
		t.Fatalf("it was not busy: %v", err)
	default:
	}
	if took := time.Since(began); took > patience {
		t.Errorf("it took %v", took)
	}
	close(kernel.release)
	must(t, <-removed)
}

// TestHold: a process that is being added when the group ends is ended by who
// adds it.
func TestHold(t *testing.T) {
	t.Parallel()
	tr, own, m := service(t, "pids")
	kill := filepath.Join(own, inPod, "c1", "cgroup.kill")
	g, _ := create(t, m, "c1", runner.Resources{})
	release, ok := g.Hold()
	if !ok {
		t.Fatal("a new group cannot be held")
	}
	must(t, g.Kill())
	if _, ok := g.Hold(); ok {
		t.Error("a process can be added after the end")
	}
	tr.write(filepath.Join(own, inPod, "c1", "cgroup.procs"), "999999999")
	tr.write(kill, "")
	done := make(chan struct{})
	go func() { release(); close(done) }()
	for readNumber(kill) != 1 {
		time.Sleep(time.Millisecond)
	}
	tr.write(filepath.Join(own, inPod, "c1", "cgroup.procs"), "")
	<-done
	must(t, g.Remove())
	if _, ok := (*Group)(nil).Hold(); !ok {
		t.Error("nothing cannot be held")
	}
}
