package hostpath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// asVar makes the test program something else: itself in a mount namespace, or a
// process with a lock that looks at the path that is its argument.
const asVar = "SAMPAN_TEST_AS"

func TestMain(m *testing.M) {
	switch as := os.Getenv(asVar); as {
	case "":
		os.Exit(again())
	case "inside":
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL: keep mounts to itself:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	default:
		if err := locked(as, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// again runs the tests where they may mount.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), asVar+"=inside")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return 0
}

// lookers is how many look at the path at the same time.
const lookers = 8

// locked is a process like an engine: it holds a lock, and looks at paths. It says
// so with a line, and ends when its input does.
func locked(how, lock, path string) error {
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := New(reap.New())
	for range lookers {
		switch how {
		case "naive":
			go os.Stat(path)
		case "stat":
			go s.Stat(ctx, path, Directory)
		case "open":
			go s.Open(ctx, path, "")
		}
	}
	fmt.Println("ready")
	_, err = os.Stdin.Read(make([]byte, 1))
	if err.Error() == "EOF" {
		err = nil
	}
	return err
}
