package reap

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peek returns the process id of a child that has ended, and leaves it a
// zombie; 0 when there is none.
func peek(info *unix.Siginfo) (int, error) {
	*info = unix.Siginfo{}
	for {
		err := unix.Waitid(unix.P_ALL, 0, info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, os.NewSyscallError("waitid", err)
		}
		return siginfoPID(info), nil
	}
}

// siginfoPID reads si_pid, which x/sys keeps in the padding: the union starts
// at the next multiple of the word size after three ints.
func siginfoPID(info *unix.Siginfo) int {
	const ints = 3 * 4
	word := unsafe.Sizeof(uintptr(0))
	offset := (ints + word - 1) / word * word
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), offset)))
}
