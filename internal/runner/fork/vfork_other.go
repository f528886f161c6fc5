//go:build !amd64 && !arm64

package fork

import "syscall"

const supported = false

func vfork(*cloneArgs, *header) (uintptr, syscall.Errno) { return 0, syscall.ENOSYS }

func interpreter() []byte { return nil }
