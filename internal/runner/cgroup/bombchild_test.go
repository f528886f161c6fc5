package cgroup

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bombVar makes the test program a fork bomb.
const bombVar = "SAMPAN_TEST_BOMB"

func TestMain(m *testing.M) {
	if os.Getenv(bombVar) != "" {
		explode()
	}
	if name := os.Getenv(stageVar); name != "" {
		if err := stage(name); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// explode starts as many processes as it can, for ever, each of which does the
// same; those that are killed are replaced at once. Nothing but system calls is
// safe in a forked child of a Go program.
func explode() {
	pause := unix.NsecToTimespec((25 * time.Millisecond).Nanoseconds())
	arg := uintptr(unsafe.Pointer(&pause))
	for {
		if _, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0); errno != 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, arg, 0, 0)
		}
	}
}
