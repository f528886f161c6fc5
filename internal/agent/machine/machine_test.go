package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
)

// made is a machine of files: path → text.
func made(t *testing.T, files map[string]string) *Machine {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &Machine{Dir: root, ImageDir: root, Root: root}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	base := map[string]string{
		"proc/meminfo":                "MemTotal:        4000 kB\nMemFree:  100 kB\nMemAvailable:    3000 kB\n",
		"proc/loadavg":                "0.10 0.20 0.30 2/345 6789\n",
		"proc/sys/kernel/pid_max":     "32768\n",
		"proc/sys/kernel/threads-max": "1000\n",
	}
	with := func(more map[string]string) map[string]string {
		files := map[string]string{}
		for _, m := range []map[string]string{base, more} {
			for k, v := range m {
				files[k] = v
			}
		}
		return files
	}
	const v2mount = "30 1 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
	for name, test := range map[string]struct {
		files        map[string]string
		memory, pids eviction.Observation
	}{
		"no groups": {base, eviction.Observation{Available: 3000 << 10, Capacity: 4000 << 10}, eviction.Observation{Available: 655, Capacity: 1000}},
		"no limit": {with(map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2mount,
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/pids.max": "max\n",
		}), eviction.Observation{Available: 3000 << 10, Capacity: 4000 << 10}, eviction.Observation{Available: 655, Capacity: 1000}},
		"version 2, above": {with(map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2mount,
			"sys/fs/cgroup/a/memory.max": "1048576\n", "sys/fs/cgroup/a/memory.current": "1000000\n",
			"sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 500000\n",
			"sys/fs/cgroup/a/pids.max":    "300\n", "sys/fs/cgroup/a/pids.current": "290\n",
		}), eviction.Observation{Available: 548576, Capacity: 1 << 20}, eviction.Observation{Available: 10, Capacity: 300}},
		"version 2, the root of a container": {with(map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2mount,
			"sys/fs/cgroup/memory.max": "1048576\n", "sys/fs/cgroup/memory.current": "2000000\n",
		}), eviction.Observation{Available: 0, Capacity: 1 << 20}, eviction.Observation{Available: 655, Capacity: 1000}},
		"version 1, mounted from within": {with(map[string]string{
			"proc/self/cgroup": "8:pids:/docker/x\n4:cpu,memory:/docker/x/y\n1:name=systemd:/\n",
			"proc/self/mountinfo": "32 31 0:31 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory\n" +
				"33 31 0:32 /elsewhere /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
			"sys/fs/cgroup/memory/y/memory.limit_in_bytes": "2097152\n",
			"sys/fs/cgroup/memory/y/memory.usage_in_bytes": "1048576\n",
			"sys/fs/cgroup/memory/y/memory.stat":           "total_inactive_file 1024\n",
			"sys/fs/cgroup/pids/pids.max":                  "20\n",
			"sys/fs/cgroup/pids/pids.current":              "7\n",
		}), eviction.Observation{Available: 1<<20 + 1024, Capacity: 2 << 20}, eviction.Observation{Available: 13, Capacity: 20}},
		"a mount with a blank in its name, of a group named like the beginning of ours": {with(map[string]string{
			"proc/self/cgroup": "0::/a b/cd\n", "proc/self/mountinfo": `30 1 0:26 /a\040b/c /c\040g rw - cgroup2 cgroup2 rw` + "\n",
			"c g/pids.max": "300\n", "c g/pids.current": "290\n", "c g/d/pids.max": "20\n", "c g/d/pids.current": "19\n",
		}), eviction.Observation{Available: 3000 << 10, Capacity: 4000 << 10}, eviction.Observation{Available: 10, Capacity: 300}},
		"a wide limit where the machine has less": {with(map[string]string{
			"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": v2mount,
			"sys/fs/cgroup/a/memory.max": "4000000\n", "sys/fs/cgroup/a/memory.current": "100000\n",
		}), eviction.Observation{Available: 3000 << 10, Capacity: 4000 << 10}, eviction.Observation{Available: 655, Capacity: 1000}},
	} {
		seen, err := made(t, test.files).Observe()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := seen[eviction.MemoryAvailable]; got != test.memory {
			t.Errorf("%s: memory %+v", name, got)
		}
		if got := seen[eviction.PIDAvailable]; got != test.pids {
			t.Errorf("%s: pids %+v", name, got)
		}
		if disk := seen[eviction.NodefsAvailable]; disk.Available <= 0 || disk.Capacity < disk.Available {
			t.Errorf("%s: disk %+v", name, disk)
		}
	}
}

// TestObserveThis: this machine can be observed, whole.
func TestObserveThis(t *testing.T) {
	t.Parallel()
	m := &Machine{Dir: t.TempDir(), ImageDir: t.TempDir()}
	seen, err := m.Observe()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []eviction.Signal{eviction.MemoryAvailable, eviction.NodefsAvailable, eviction.ImagefsAvailable, eviction.PIDAvailable} {
		if o := seen[s]; o.Available <= 0 || o.Available > o.Capacity {
			t.Errorf("%s: %+v", s, o)
		}
	}
}

func TestWhatCannotBeObserved(t *testing.T) {
	t.Parallel()
	m := made(t, map[string]string{"proc/meminfo": "MemTotal: 10 kB\nMemAvailable: 5 kB\n"})
	m.ImageDir = "/no/such/directory"
	seen, err := m.Observe()
	if err == nil || !strings.Contains(err.Error(), "pid_max") || !strings.Contains(err.Error(), "/no/such/directory") {
		t.Errorf("got %v", err)
	}
	if _, ok := seen[eviction.PIDAvailable]; ok || len(seen) < 2 {
		t.Errorf("got %v", seen)
	}
}

func TestUse(t *testing.T) {
	t.Parallel()
	stat := func(pid, ppid, threads, pages string) string {
		return pid + " (a ) b(\n) S " + ppid + " 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 " + threads + " 0 0 0 " + pages + " 0\n"
	}
	m := made(t, map[string]string{
		"proc/1/stat": stat("1", "0", "1", "1"), "proc/10/stat": stat("10", "1", "2", "10"), "proc/11/stat": stat("11", "10", "3", "20"),
		"proc/12/stat": stat("12", "11", "1", "40"), "proc/20/stat": stat("20", "1", "1", "100"), "proc/30/stat": stat("30", "31", "1", "7"),
		"proc/31/stat": stat("31", "30", "1", "7"), "proc/self/stat": "x", "proc/40/stat": "broken",
	})
	page := int64(os.Getpagesize())
	got := m.Use([]int{10, 20, 99})
	if want := (eviction.Use{Memory: 70 * page, Processes: 6}); got[10] != want {
		t.Errorf("got %+v, want %+v", got[10], want)
	}
	if want := (eviction.Use{Memory: 100 * page, Processes: 1}); got[20] != want || len(got) != 2 {
		t.Errorf("got %+v", got)
	}
}

// TestUseOfThis: a real process with a child, among all others.
func TestUseOfThis(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "sleep 60 & sleep 60")
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		cmd.Wait()
	}()
	m := &Machine{}
	deadline := time.Now().Add(10 * time.Second)
	for {
		u := m.Use([]int{cmd.Process.Pid})[cmd.Process.Pid]
		if u.Processes >= 3 && u.Memory > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %+v", u)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// keep keeps a cap on a directory until the test ends, and returns what was cut.
func keeps(t *testing.T, dir string, size int64) <-chan string {
	t.Helper()
	cut := make(chan string, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- (&Machine{}).Keep(ctx, []Cap{{Dir: dir, Size: size}}, func(path string) {
			select {
			case cut <- path:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Keep: %v", err)
		}
	})
	return cut
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestKeep: whatever way a file grows, it ends at its cap.
func TestKeep(t *testing.T) {
	t.Parallel()
	const size = 64 << 10
	for name, grow := range map[string]func(f *os.File) error{
		"write":    func(f *os.File) error { _, err := f.Write(make([]byte, 1<<20)); return err },
		"far":      func(f *os.File) error { _, err := f.WriteAt([]byte("x"), 1<<30); return err },
		"truncate": func(f *os.File) error { return f.Truncate(1 << 30) },
		"allocate": func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, 1<<20) },
		"allocate behind the end": func(f *os.File) error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20)
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString("begin"); err != nil {
				t.Fatal(err)
			}
			cut := keeps(t, dir, size)
			time.Sleep(10 * time.Millisecond) // or it is cut by the first look, which counts, too
			if err := grow(f); errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-cut:
				if got != path {
					t.Errorf("cut %s", got)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("not cut: %+v", stat(t, path))
			}
			if st := stat(t, path); st.Size > size || st.Blocks*512 > 2*size {
				t.Errorf("%d bytes, %d blocks", st.Size, st.Blocks)
			}
			begin := make([]byte, 5)
			if _, err := f.ReadAt(begin, 0); err != nil || string(begin) != "begin" && name != "write" {
				t.Errorf("%q, %v", begin, err)
			}
		})
	}
}

// TestKeepAgainstAWriter: who goes on writing does not get far.
func TestKeepAgainstAWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cut := keeps(t, dir, 4096)
	var written, largest int64
	for written < 256<<20 && len(cut) < 20 {
		n, err := f.Write(make([]byte, 16<<10))
		if err != nil {
			t.Fatal(err)
		}
		written += int64(n)
		largest = max(largest, stat(t, path).Size)
	}
	if len(cut) == 0 || largest >= 256<<20 {
		t.Errorf("cut %d times, %d bytes", len(cut), largest)
	}
}

// TestKeepFindsWhatGrewBefore, and follows no link.
func TestKeepFindsWhatGrewBefore(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	for _, path := range []string{filepath.Join(dir, "file"), other} {
		if err := os.WriteFile(path, make([]byte, 9000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(other, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	cut := keeps(t, dir, 4096)
	if got := <-cut; got != filepath.Join(dir, "file") {
		t.Errorf("cut %s", got)
	}
	if got := stat(t, filepath.Join(dir, "file")).Size; got != 4096 {
		t.Errorf("%d bytes", got)
	}
	if got := stat(t, other).Size; got != 9000 {
		t.Errorf("a link was followed: %d bytes", got)
	}
}

// TestKeepWithoutWatches: who has used up what the kernel tells this user, as a container
// of the same user can, does not get rid of the caps.
func TestKeepWithoutWatches(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	ctx, cancel := context.WithCancel(t.Context())
	cut, done := make(chan string, 10), make(chan error)
	go func() {
		done <- keep(ctx, []Cap{{Dir: dir, Size: 4096}}, func(path string) { cut <- path }, func([]Cap) (*os.File, map[int32]Cap, error) {
			return nil, nil, fmt.Errorf("inotify: %w", unix.EMFILE)
		})
	}()
	for range 2 {
		if err := os.WriteFile(path, make([]byte, 9000), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := <-cut; got != path {
			t.Errorf("cut %s", got)
		}
		if got := stat(t, path).Size; got != 4096 {
			t.Errorf("%d bytes", got)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestKeepRefusesWhatIsNoDirectory(t *testing.T) {
	t.Parallel()
	err := (&Machine{}).Keep(t.Context(), []Cap{{Dir: filepath.Join(t.TempDir(), "none"), Size: 1}}, func(string) {})
	if err == nil {
		t.Error("no error")
	}
}

// TestKeepOfWhatIsRemoved: the kernel's watch goes with the directory, and another
// one of that name has none.
func TestKeepOfWhatIsRemoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	began, done := make(chan string, 1), make(chan error, 1)
	for _, path := range []string{dir, filepath.Join(dir, "d")} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 9000), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- (&Machine{}).Keep(t.Context(), []Cap{{Dir: dir, Size: 4096}}, func(path string) { began <- path })
	}()
	<-began
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), dir+": it has been removed") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("nothing is said")
	}
}
