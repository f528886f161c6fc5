//go:build !amd64 && !arm64

package fork

import "syscall"

const supported = false

func vfork(*cloneArgs, *header, *Step) (uintptr, syscall.Errno) { return 0, syscall.ENOSYS }
