package attack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sampan-batch/sampan/torture/audit"
)

// TestRemains shows that what is left would be found: a process, a mount, a group.
func TestRemains(t *testing.T) {
	t.Parallel()
	find := func(what string) {
		t.Helper()
		if !slices.ContainsFunc(audit.Look().Remains(base), func(left string) bool { return strings.HasPrefix(left, what) }) {
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
			if !audit.Groups()[pod] || !audit.Forgotten(pod) {
				t.Errorf("not found: %s", pod)
			}
			return
		}
	}
}
