package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The user's limit, that of a service and the machine's: the nearest counts.
func TestRoom(t *testing.T) {
	t.Parallel()
	tr := newUnified(t, "")
	own := tr.make("/user.slice", "")
	must(t, os.MkdirAll(filepath.Join(tr.proc, "../sys/kernel"), 0o755))
	tr.write(filepath.Join(tr.proc, "../sys/kernel/pid_max"), "32768\n")
	tr.write(filepath.Join(tr.proc, "../loadavg"), "0.1 0.2 0.3 1/768 4711\n")
	tr.denied[tr.root], tr.denied[own] = true, true
	m := tr.manager(unifiedMount, "0::/user.slice\n")
	if got := m.room(1<<40, 200); got != 32000 {
		t.Errorf("of the machine: %d", got)
	}
	if got := m.room(1000, 200); got != 800 {
		t.Errorf("of the user: %d", got)
	}
	tr.write(filepath.Join(own, "pids.max"), "300\n")
	tr.write(filepath.Join(own, "pids.current"), "50\n")
	if got := m.room(1000, 200); got != 250 {
		t.Errorf("of the service: %d", got)
	}
	if got := processLimit(20, 250); got != 20+250-64 {
		t.Errorf("the limit is %d", got)
	}
	if got := processLimit(20, 0); got != 0 {
		t.Errorf("no room: %d", got)
	}
}

// stageVar says what the test program is for TestNamespaceLimit: "user" an
// ordinary user, "inside" the first process of a user namespace of a single id.
const stageVar = "SAMPAN_TEST_STAGE"

// TestNamespaceLimit: in a user namespace of a single id, a fork bomb with a lower
// limit leaves those with a higher one room; with the same it does not.
func TestNamespaceLimit(t *testing.T) {
	t.Parallel()
	if !countsByNamespace() {
		t.Skip("before Linux 5.14")
	}
	const ours, theirs = 120, 80
	for _, limit := range []int{theirs, ours} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), stageVar+"=user", fmt.Sprintf("LIMITS=%d %d", ours, limit))
		if os.Geteuid() == 0 {
			// The test program lies where nobody can go.
			cmd.Path = "/proc/self/exe"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		text := strings.TrimSpace(string(out))
		if strings.HasPrefix(text, "no namespaces") {
			t.Skip(text)
		}
		want := "can start"
		if limit == ours {
			want = "cannot start"
		}
		if err != nil || text != want {
			t.Errorf("a bomb of %d beside %d: %v, %s", limit, ours, err, text)
		}
	}
}

// stage is what the test program does instead of running tests.
func stage(name string) error {
	if name == "user" {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), stageVar+"=inside")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			// All that is in the pid namespace ends with its first process.
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			Pdeathsig:   syscall.SIGKILL,
		}
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			fmt.Println("no namespaces:", err)
			return nil
		}
		return err
	}
	var ours, theirs uint64
	if _, err := fmt.Sscan(os.Getenv("LIMITS"), &ours, &theirs); err != nil {
		return err
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	bomb := exec.Command("sh", "-c", "read x; exec env "+bombVar+"=1 /proc/self/fd/3")
	bomb.ExtraFiles, bomb.Stderr = []*os.File{self}, os.Stdout
	in, err := bomb.StdinPipe()
	if err != nil {
		return err
	}
	if err := bomb.Start(); err != nil {
		return err
	}
	for pid, limit := range map[int]uint64{0: ours, bomb.Process.Pid: theirs} {
		if err := unix.Prlimit(pid, unix.RLIMIT_NPROC, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
			return err
		}
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		return err
	}
	time.Sleep(time.Second) // it has all that it can get long before
	for range 20 {
		if err := exec.Command("true").Run(); err != nil {
			if errors.Is(err, unix.EAGAIN) {
				fmt.Println("cannot start")
				return nil
			}
			return err
		}
	}
	fmt.Println("can start")
	return nil
}
