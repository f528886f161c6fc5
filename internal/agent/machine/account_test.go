package machine

import (
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// A container is measured by its control groups, where there are some that count what is
// asked, else by its processes.
func TestAccount(t *testing.T) {
	t.Parallel()
	page := int64(os.Getpagesize())
	base := map[string]string{
		"proc/meminfo": "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n",
		"proc/stat":    "cpu  100 20 30 5000 400 6 7 80 9 0\ncpu0 1 2 3\n",
		"proc/self/mountinfo": "30 1 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" +
			"31 1 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 1 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
		// 10 has a child; 12, its grandchild, has waited for some; 20 is another's; 30 is nobody's.
		"proc/10/stat": "10 (a) b) c) S 1 10 10 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 0 0 2 0\n",
		"proc/11/stat": "11 (x) S 10 10 10 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 0 0 3 0\n",
		"proc/12/stat": "12 (x) S 11 10 10 0 -1 0 0 0 0 0 0 0 30 4 20 0 1 0 0 0 5 0\n",
		"proc/20/stat": "20 (y) S 1 10 10 0 -1 0 0 0 0 0 700 0 0 0 20 0 1 0 0 0 7 0\n",
		"proc/30/stat": "30 (z) S 1 10 10 0 -1 0 0 0 0 0 900 0 0 0 20 0 1 0 0 0 9 0\n",
	}
	with := func(files map[string]string) map[string]string {
		all := maps.Clone(base)
		maps.Copy(all, files)
		return all
	}
	const v2 = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	list := []Container{{ID: "uid_a_0", PID: 10}, {ID: "uid_b_0", PID: 20}, {ID: "gone", PID: 40}}
	processes := map[string]Usage{
		"uid_a_0": {CPU: 2370 * time.Millisecond, Memory: 10 * page}, "uid_b_0": {CPU: 7 * time.Second, Memory: 7 * page},
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  map[string]Usage
	}{
		"no groups": {base, processes},
		"version 1, with limits": {with(map[string]string{
			"proc/10/cgroup": "4:cpu,cpuacct:/sampan/podx/uid_a_0\n3:memory:/sampan/podx/uid_a_0\n2:pids:/sampan/podx/uid_a_0\n",
			"sys/fs/cgroup/cpu/sampan/podx/uid_a_0/cpuacct.usage":            "1500000000\n",
			"sys/fs/cgroup/memory/sampan/podx/uid_a_0/memory.usage_in_bytes": "5000\n",
			"sys/fs/cgroup/memory/sampan/podx/uid_a_0/memory.stat":           "inactive_file 1\ntotal_inactive_file 1000\n",
		}), map[string]Usage{"uid_a_0": {CPU: 1500 * time.Millisecond, Memory: 4000}, "uid_b_0": processes["uid_b_0"]}},
		"version 1, a group for its memory only": {with(map[string]string{
			"proc/10/cgroup":                  "4:cpu,cpuacct:/\n3:memory:/sampan/podx/uid_a_0\n",
			"sys/fs/cgroup/cpu/cpuacct.usage": "99999999999999\n",
			"sys/fs/cgroup/memory/sampan/podx/uid_a_0/memory.usage_in_bytes": "500\n",
			"sys/fs/cgroup/memory/sampan/podx/uid_a_0/memory.stat":           "total_inactive_file 1000\n",
		}), map[string]Usage{"uid_a_0": {CPU: processes["uid_a_0"].CPU, Memory: 0}, "uid_b_0": processes["uid_b_0"]}},
		"version 2, in a group of its own below": {with(map[string]string{
			"proc/self/mountinfo": v2, "proc/10/cgroup": "0::/sampan/podx/uid_a_0/inner\n",
			"sys/fs/cgroup/sampan/podx/uid_a_0/cpu.stat":       "usage_usec 2500000\nuser_usec 1\n",
			"sys/fs/cgroup/sampan/podx/uid_a_0/memory.current": "9000\n",
			"sys/fs/cgroup/sampan/podx/uid_a_0/memory.stat":    "anon 1\ninactive_file 2000\n",
		}), map[string]Usage{"uid_a_0": {CPU: 2500 * time.Millisecond, Memory: 7000}, "uid_b_0": processes["uid_b_0"]}},
		"version 2, without the memory controller": {with(map[string]string{
			"proc/self/mountinfo": v2, "proc/10/cgroup": "0::/sampan/podx/uid_a_0\n",
			"sys/fs/cgroup/sampan/podx/uid_a_0/cpu.stat": "usage_usec 2500000\n",
		}), map[string]Usage{"uid_a_0": {CPU: 2500 * time.Millisecond, Memory: 10 * page}, "uid_b_0": processes["uid_b_0"]}},
	} {
		whole, of, err := made(t, test.files).Account(list)
		if err != nil || !maps.Equal(of, test.want) {
			t.Errorf("%s: got %v, %v, want %v", name, of, err, test.want)
		}
		if want := (Usage{CPU: 1630 * time.Millisecond, Memory: 1000 << 10}); whole != want {
			t.Errorf("%s: the machine uses %v, want %v", name, whole, want)
		}
	}
	for what, text := range map[string]string{"nothing": "", "another line": "intr 1 2 3 4 5 6 7 8\n", "too few": "cpu 1 2 3\n", "no numbers": "cpu a b c d e f g h\n"} {
		if _, _, err := made(t, with(map[string]string{"proc/stat": text})).Account(nil); err == nil || !strings.Contains(err.Error(), "/proc/stat") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// This process is measured as it is.
func TestAccountOfThisMachine(t *testing.T) {
	t.Parallel()
	var m Machine
	list := []Container{{ID: "this", PID: os.Getpid()}}
	_, before, err := m.Account(list)
	if err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(50 * time.Millisecond); time.Now().Before(until); {
	}
	for range 200 { // the kernel counts in hundredths of a second, and others want to work, too
		whole, after, err := m.Account(list)
		if err != nil || after["this"].Memory < 1<<20 || whole.Memory < after["this"].Memory || whole.CPU <= 0 {
			t.Fatalf("got %v of %v, %v", after, whole, err)
		}
		if after["this"].CPU > before["this"].CPU {
			return
		}
		for until := time.Now().Add(20 * time.Millisecond); time.Now().Before(until); {
		}
	}
	t.Error("this process has used nothing")
}

// BenchmarkAccount measures one container among all the processes of this machine.
func BenchmarkAccount(b *testing.B) {
	var m Machine
	list := []Container{{ID: "this", PID: os.Getpid()}}
	for b.Loop() {
		if _, _, err := m.Account(list); err != nil {
			b.Fatal(err)
		}
	}
	entries, _ := os.ReadDir("/proc")
	b.ReportMetric(float64(len(entries)), "entries-of-/proc")
}
