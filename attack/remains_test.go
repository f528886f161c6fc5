package attack

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// remains returns what the attacks have left on the machine. before are the
// control groups that there were.
func remains(before map[string]bool) (left []string) {
	pids, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range pids {
		if pid := filepath.Base(dir); dir == "/proc/self" || pid == "1" {
			continue
		}
		for _, file := range []string{"cmdline", "environ"} {
			if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil && bytes.Contains(text, []byte(base+"/")) {
				line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
				left = append(left, "process "+filepath.Base(dir)+" "+strings.ReplaceAll(string(line), "\x00", " "))
				break
			}
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, base) {
				left = append(left, "mount "+line)
			}
		}
	}
	for group := range groups() {
		if !before[group] && forgotten(group) {
			left = append(left, "control group "+group)
		}
	}
	return left
}

// groups are the control groups of pods, which have UUIDs, below those that this
// process is in.
// Those of other engines come and go meanwhile: they have processes, or are gone
// in a moment.
func groups() map[string]bool {
	all := map[string]bool{}
	own, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, hierarchy := range []string{strings.TrimPrefix(part[1], "name="), "unified", ""} {
			pods, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", hierarchy, part[2], "sampan", "pod????????-????-????-????-????????????.*"))
			for _, pod := range pods {
				all[pod] = true
			}
		}
	}
	return all
}

// forgotten: nothing is in a group, and it does not go away.
func forgotten(group string) bool {
	for range 50 {
		gone := true
		_ = filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "cgroup.procs" {
				text, err := os.ReadFile(path)
				gone = gone && err == nil && len(text) == 0
			}
			return nil
		})
		if _, err := os.Stat(group); err != nil || !gone {
			return false
		}
		time.Sleep(100 * time.Millisecond)
	}
	return true
}

// TestRemains shows that what is left would be found: a process, a mount, a group.
func TestRemains(t *testing.T) {
	t.Parallel()
	find := func(what string) {
		t.Helper()
		if !slices.ContainsFunc(remains(groups()), func(left string) bool { return strings.HasPrefix(left, what) }) {
			t.Errorf("not found: %s", what)
		}
	}
	forgottenProcess := exec.Command("sleep", "600")
	forgottenProcess.Env = []string{"HOME=" + base + "/somebody"}
	must(t, forgottenProcess.Start())
	defer func() { _ = forgottenProcess.Process.Kill(); _ = forgottenProcess.Wait() }()
	find("process " + strconv.Itoa(forgottenProcess.Process.Pid) + " sleep")
	if os.Geteuid() != 0 {
		return
	}
	dir := filepath.Join(base, "mount")
	must(t, os.Mkdir(dir, 0o700))
	defer os.Remove(dir)
	must(t, syscall.Mount("left", dir, "tmpfs", 0, ""))
	defer syscall.Unmount(dir, 0)
	find("mount ")
	for _, hierarchy := range []string{"pids", "", "unified"} {
		pods := filepath.Join("/sys/fs/cgroup", hierarchy, "sampan")
		pod := filepath.Join(pods, fmt.Sprintf("pod00000000-0000-0000-0000-%012d.left", os.Getpid()))
		if os.Mkdir(pod, 0o755) == nil {
			defer os.Remove(pod)
			if !groups()[pod] || !forgotten(pod) {
				t.Errorf("not found: %s", pod)
			}
			return
		}
	}
}
