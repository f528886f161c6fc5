package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

func TestResizeUnified(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "cpu memory pids")
	m := tr.manager(unifiedMount, "0::/\n")
	g, _ := create(t, m, "c1", runner.Resources{CPUShares: 512})
	other, _ := create(t, m, "c2", runner.Resources{CPUShares: 512})
	resize := func(r runner.Resources, want map[string]string) {
		t.Helper()
		if ignored, err := g.Resize(r); err != nil || ignored != "" {
			t.Fatalf("%+v: %q, %v", r, ignored, err)
		}
		for file, want := range want {
			if got := tr.read(inPod, file); got != want {
				t.Errorf("%+v: %s: got %q, want %q", r, file, got, want)
			}
		}
	}
	resize(runner.Resources{CPUShares: 1024, CPUQuota: 20_000, CPUPeriod: 100_000, MemoryLimit: 1 << 20}, map[string]string{
		"c1/cpu.weight": "100", "c1/cpu.max": "20000 100000", "c1/memory.max": "1048576", "c1/memory.oom.group": "1", "cpu.weight": "138"})
	// Less than is used is refused, and nothing is changed.
	tr.write(filepath.Join(tr.root, inPod, "c1", "memory.current"), "600000\n")
	var below *BelowUsageError
	_, err := g.ResizeContainer("web", runner.Resources{CPUShares: 2, MemoryLimit: 600000})
	if want := `cannot decrease memory limits: attempting to set container "web" memory limit (600000) below current usage (600000)`; !errors.As(err, &below) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if got := tr.read(inPod, "c1", "cpu.weight") + tr.read(inPod, "c1", "memory.max"); got != "1001048576" {
		t.Errorf("changed all the same: %s", got)
	}
	resize(runner.Resources{CPUShares: 1024, MemoryLimit: 600001}, map[string]string{"c1/memory.max": "600001"})
	// More is given whatever is used.
	tr.write(filepath.Join(tr.root, inPod, "c1", "memory.current"), "9000000\n")
	resize(runner.Resources{CPUShares: 1024, MemoryLimit: 700000}, map[string]string{"c1/memory.max": "700000"})
	must(t, other.Remove())
	must(t, g.Kill())
	if _, err := g.Resize(everything); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after its end: %v", err)
	}
	must(t, g.Remove())
	if _, err := g.Resize(everything); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after its removal: %v", err)
	}
	if ignored, err := (*Group)(nil).ResizeContainer("x", everything); ignored == "" || err != nil {
		t.Errorf("no group: %q, %v", ignored, err)
	}
}

func TestResizeMissingController(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "cpu pids")
	m := tr.manager(unifiedMount, "0::/\n")
	g, _ := create(t, m, "c1", runner.Resources{CPUShares: 512})
	ignored, err := g.Resize(runner.Resources{CPUShares: 1024, MemoryLimit: 1 << 20})
	if err != nil || !strings.HasPrefix(ignored, "memory: ") || tr.read(inPod, "c1", "cpu.weight") != "100" {
		t.Errorf("got %q, %v, %s", ignored, err, tr.read(inPod, "c1", "cpu.weight"))
	}
	must(t, g.Remove())
}

// Memory and swap together are never less than memory, whichever way a limit goes.
func TestResizeOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "memory.memsw.limit_in_bytes"), []byte("1000\n"), 0o600))
	first := func(limit string) string {
		return inOrder(dir, []setting{{file: "memory.limit_in_bytes", value: limit}, {file: "memory.memsw.limit_in_bytes", value: limit}})[0].file
	}
	if up, down := first("2000"), first("500"); up != "memory.memsw.limit_in_bytes" || down != "memory.limit_in_bytes" {
		t.Errorf("up: %s first, down: %s first", up, down)
	}
}

// On this machine, processes enter the trees that they were not in, with those that they start
// meanwhile, and are bound by what is set there.
func TestResizeReal(t *testing.T) {
	t.Parallel()
	m := NewManager(Config{Owner: t.TempDir()})
	g, ignored, err := m.Create(Container{Pod: "p" + strconv.Itoa(os.Getpid()), Name: "resized", Resources: runner.Resources{PidsLimit: 50}})
	if g == nil {
		t.Skipf("no cgroup can be made here: %s, %v", ignored, err)
	}
	cmd := exec.Command("sh", "-c", "read go; sleep 1000 & sleep 1000 & read more; (head -c 20000000 /dev/zero; sleep 1000) | tail -c 20000000 & wait")
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	must(t, g.Add(cmd.Process.Pid))
	_, err = in.Write([]byte("go\n"))
	must(t, err)
	var ended sync.WaitGroup
	ended.Go(func() { _ = cmd.Wait() })
	for _, r := range []runner.Resources{
		{PidsLimit: 60, MemoryLimit: 64 << 20, CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000},
		{PidsLimit: 60, MemoryLimit: 128 << 20, CPUShares: 256, CPUQuota: 20_000, CPUPeriod: 100_000},
		{PidsLimit: 60, MemoryLimit: 32 << 20, CPUShares: 1024, CPUQuota: 90_000, CPUPeriod: 100_000},
	} {
		ignored, err := g.Resize(r)
		must(t, err)
		if ignored != "" {
			t.Logf("not enforced here: %s", ignored)
		}
		if g.Path(memory) != "" && g.memoryLimit() != r.MemoryLimit {
			t.Errorf("limit of memory %d, want %d", g.memoryLimit(), r.MemoryLimit)
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			all, err := processes(g.dirs[m.layout.track])
			must(t, err)
			slices.Sort(all)
			same := len(all) == 3
			for _, dir := range g.paths() {
				there, err := processes(dir)
				must(t, err)
				slices.Sort(there)
				same = same && slices.Equal(there, all)
			}
			if same {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("not all processes are in all of %v", g.paths())
			}
		}
	}
	if g.Path(memory) != "" {
		_, err = in.Write([]byte("more\n"))
		must(t, err)
		for deadline := time.Now().Add(10 * time.Second); g.memoryUsage() < 20000000 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if _, err := g.Resize(runner.Resources{MemoryLimit: 10000000}); !errors.As(err, new(*BelowUsageError)) || g.memoryLimit() != 32<<20 {
			t.Errorf("half of what is used: %v, the limit is %d", err, g.memoryLimit())
		}
	}
	must(t, g.Remove())
	ended.Wait()
}
