//go:build !amd64 && !arm64

package fork

import "syscall"

// Supported tells whether there are programs on this processor.
const Supported = false

func vfork(*cloneArgs, *header) (uintptr, syscall.Errno) { return 0, syscall.ENOSYS }

func interpreter() []byte { return nil }
