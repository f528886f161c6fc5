package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// bomb is a script that becomes a fork bomb; see explode.
func bomb() string { return "exec env " + bombVar + "=1 " + os.Args[0] }

// outerLimit is what the test itself allows its bombs, and stands for the
// TasksMax of a service.
const outerLimit = 200

// bounded returns a Manager that takes a group made here for the own one, in
// which no more than outerLimit processes can be.
func bounded(t *testing.T) (m *Manager, outer string) {
	t.Helper()
	real := NewManager(Config{})
	real.discover()
	track := real.layout.track
	if track == nil || !track.has(pids) {
		t.Skip("no pids controller here: " + real.Absent())
	}
	outer = filepath.Join(track.base, "sampan-test-"+strings.ReplaceAll(t.Name(), "/", "-")+fmt.Sprint(os.Getpid()))
	must(t, track.cfg.Kernel.Mkdir(outer))
	t.Cleanup(func() {
		if err := track.remove(outer); err != nil {
			t.Error(err)
		}
	})
	must(t, track.cfg.Kernel.Write(filepath.Join(outer, "pids.max"), fmt.Sprint(outerLimit)))
	proc := filepath.Join(t.TempDir(), "self")
	must(t, os.Mkdir(proc, 0o755))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(proc, "mountinfo"), mounts, 0o600))
	own, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	var lines strings.Builder
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if parts[1] == pids || track.unified && parts[1] == "" {
			parts[2] = filepath.Join(parts[2], filepath.Base(outer))
		}
		fmt.Fprintln(&lines, strings.Join(parts, ":"))
	}
	must(t, os.WriteFile(filepath.Join(proc, "cgroup"), []byte(lines.String()), 0o600))
	m = NewManager(Config{Owner: t.Name(), Proc: proc})
	if m.discover(); m.layout.track == nil || m.layout.track.base != outer {
		t.Fatalf("its base is not %s: %+v, %s", outer, m.layout.track, m.absent)
	}
	return m, outer
}

// run starts a script in a group, by the files that a container's child uses.
func run(t *testing.T, g *Group, script string) {
	t.Helper()
	fds, err := g.ProcsFDs()
	must(t, err)
	if fd, err := g.UnifiedProcsFD(); err == nil && fd >= 0 {
		fds = append(fds, fd)
	}
	enter := ""
	cmd := exec.Command("sh")
	for i, fd := range fds {
		own, err := unix.Dup(fd)
		must(t, err)
		f := os.NewFile(uintptr(own), "procs")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		enter += fmt.Sprintf("echo 0 >&%d && exec %d>&- || exit 1; ", i+3, i+3)
	}
	cmd.Args = append(cmd.Args, "-c", enter+script)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() })
}

// count is how many processes are in a group at most, over a while.
func count(t *testing.T, dir string) int64 {
	t.Helper()
	var most int64
	for range 50 {
		most = max(most, readNumber(filepath.Join(dir, "pids.current")))
		time.Sleep(4 * time.Millisecond)
	}
	return most
}

// none fails the test if processes are left in a group. Zombies are not listed,
// though they count until somebody has waited for them.
func none(t *testing.T, dir string) {
	t.Helper()
	if all, err := processes(dir); err != nil || len(all) > 0 {
		t.Errorf("processes are left: %v %v", all, err)
	}
}

// full waits until the processes in a group are at least so many.
func full(t *testing.T, dir string, n int64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); readNumber(filepath.Join(dir, "pids.current")) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the bomb does not go off: %d in %s", readNumber(filepath.Join(dir, "pids.current")), dir)
		}
	}
}

// starts tells whether somebody in a group can start processes, as many at once
// as the reserve allows.
func starts(dir string) error {
	out, err := exec.Command("sh", "-c", "echo $$ > "+filepath.Join(dir, "cgroup.procs")+` || exit 3
		n=0; while [ $n -lt 20 ]; do sleep 0.3 & n=$((n+1)); done; wait`).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestForkBombs: whatever pods do, who keeps them can start processes.
func TestForkBombs(t *testing.T) {
	m, outer := bounded(t)
	var groups []*Group
	for _, pod := range []string{"a", "b"} {
		g, _, err := m.Create(Container{Pod: pod, Name: "bomb"})
		must(t, err)
		t.Cleanup(func() { _ = g.Remove() })
		groups = append(groups, g)
		run(t, g, bomb())
	}
	all := m.layout.track.home()
	full(t, all, outerLimit-reserve(outerLimit)-2)
	if err := starts(outer); err != nil {
		t.Errorf("nothing can be started beside the bombs: %v", err)
	}
	// Who enters a group is let in, though it is full.
	if n := count(t, all); n > outerLimit-reserve(outerLimit)+int64(len(groups)) {
		t.Errorf("the bombs have %d processes", n)
	}

	// Without the limit, they take all that there is.
	must(t, m.cfg.Kernel.Write(filepath.Join(all, "pids.max"), "max"))
	full(t, all, outerLimit-10)
	failed := false
	for range 20 {
		failed = failed || starts(outer) != nil
	}
	if !failed {
		t.Error("without the limit the bombs leave room: the test shows nothing")
	}
	for _, g := range groups {
		must(t, g.Kill())
		none(t, g.paths()[0])
		must(t, g.Remove())
	}
}

// TestPodBomb: a pod's limit holds for its containers together, and leaves the
// other pods alone.
func TestPodBomb(t *testing.T) {
	m, _ := bounded(t)
	first, _, err := m.Create(Container{Pod: "a", PodPids: 30, Name: "bomb"})
	must(t, err)
	second, _, err := m.Create(Container{Pod: "a", PodPids: 30, Name: "also"})
	must(t, err)
	other, _, err := m.Create(Container{Pod: "b", PodPids: 30, Name: "innocent", Resources: runner.Resources{PidsLimit: 25}})
	must(t, err)
	run(t, second, "exec sleep 1000")
	full(t, second.paths()[0], 1)
	run(t, first, bomb())
	pod := filepath.Dir(first.paths()[0])
	full(t, pod, 28)
	if n := count(t, pod); n > 30+1 {
		t.Errorf("the pod has %d processes", n)
	}
	if err := starts(other.paths()[0]); err != nil {
		t.Errorf("another pod: %v", err)
	}
	must(t, first.Kill())
	none(t, first.paths()[0])
	if all, err := processes(second.paths()[0]); err != nil || len(all) != 1 {
		t.Errorf("the other container has %v %v", all, err)
	}
	must(t, second.Kill())
	none(t, pod)
	for _, g := range []*Group{first, second, other} {
		must(t, g.Remove())
	}
	if _, err := os.Stat(pod); err == nil {
		t.Error("the pod's group is left")
	}
}

// TestRecoverBomb: a bomb is found by a manager that knows nothing of it.
func TestRecoverBomb(t *testing.T) {
	m, outer := bounded(t)
	g, _, err := m.Create(Container{Pod: "a", Name: "bomb"})
	must(t, err)
	run(t, g, "exec setsid env -i "+bombVar+"=1 "+os.Args[0])
	full(t, g.paths()[0], 100)
	must(t, NewManager(m.cfg).Recover(nil))
	none(t, outer)
	if _, err := os.Stat(filepath.Join(outer, home)); err == nil {
		t.Error("the group of all pods is left")
	}
	must(t, g.Remove())
}
