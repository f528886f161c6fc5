//go:build amd64 || arm64

package fork

import (
	"bytes"
	"syscall"
	"unsafe" // for go:linkname
)

const (
	// Supported tells whether there are programs on this processor.
	Supported = true
	// What the assembly assumes; a difference does not compile.
	_ = -(unsafe.Sizeof(call{}) ^ 96)
	_ = -(unsafe.Offsetof(call{}.args) ^ 8)
	_ = -(unsafe.Offsetof(call{}.save) ^ 56)
	_ = -(unsafe.Offsetof(call{}.skip) ^ 64)
	_ = -(unsafe.Offsetof(call{}.tolerate) ^ 72)
	_ = -(unsafe.Offsetof(call{}.positive) ^ 80)
	_ = -(unsafe.Offsetof(call{}.errno) ^ 88)
	_ = -unsafe.Offsetof(header{}.first)
	_ = -(unsafe.Offsetof(header{}.failed) ^ 8)
	_ = -(unsafe.Offsetof(header{}.errno) ^ 16)
	_ = -(unsafe.Offsetof(header{}.last) ^ 24)
	_ = -(unsafe.Offsetof(header{}.status) ^ 32)
	_ = -(unsafe.Offsetof(header{}.report) ^ 40)
	_ = -(unsafe.Offsetof(header{}.size) ^ 48)
	_ = -(headerBase ^ 0x200fffc0)
)

// vfork calls clone3. The child performs the steps that head names; the parent
// returns when the child has executed a program or ended.
//
// Between entersyscall and exitsyscall the goroutine is, for the runtime, in a
// system call: its stack is not moved, its processor is given to others, and
// the garbage collector runs. Nothing in between may grow the stack or write a
// pointer, hence the pragmas.
//
//go:nosplit
//go:norace
//go:noinline
func vfork(args *cloneArgs, head *header) (pid uintptr, errno syscall.Errno) {
	var e uintptr
	entersyscall()
	pid, e = rawVfork(args, unsafe.Sizeof(*args), head)
	exitsyscall()
	return pid, syscall.Errno(e)
}

// rawVfork is in assembly. That its arguments escape is wanted: the child holds
// addresses of them as numbers, so they must not be on a stack that moves.
func rawVfork(args *cloneArgs, size uintptr, head *header) (pid, errno uintptr)

// interpreterAddress is where the code of the loop begins.
func interpreterAddress() unsafe.Pointer

// codeEnd stands behind the last instruction of the loop.
var codeEnd = []byte("sampan: the end.")

// interpreter returns the machine code of the loop. It refers to nothing by
// address, so that a copy of it works anywhere.
func interpreter() []byte {
	const longest = 1024
	code := unsafe.Slice((*byte)(interpreterAddress()), longest)
	n := bytes.Index(code, codeEnd)
	if n < 0 {
		return nil
	}
	return code[:n]
}

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
