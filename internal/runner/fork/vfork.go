//go:build amd64 || arm64

package fork

import (
	"syscall"
	"unsafe" // for go:linkname
)

const (
	supported = true
	// What the assembly assumes; a difference does not compile.
	_ = -(unsafe.Sizeof(Step{}) ^ stepSize)
	_ = -(unsafe.Offsetof(call{}.args) ^ 8)
	_ = -(unsafe.Offsetof(call{}.save) ^ 56)
	_ = -(unsafe.Offsetof(call{}.skip) ^ 64)
	_ = -(unsafe.Offsetof(call{}.tolerate) ^ 72)
	_ = -(unsafe.Offsetof(call{}.positive) ^ 80)
	_ = -(unsafe.Offsetof(call{}.errno) ^ 88)

	stepSize = 112
)

// vfork calls clone3. The child performs the steps; the parent returns when
// the child has executed a program or ended.
//
// Between entersyscall and exitsyscall the goroutine is, for the runtime, in a
// system call: its stack is not moved, its processor is given to others, and
// the garbage collector runs. Nothing in between may grow the stack or write a
// pointer, hence the pragmas.
//
//go:nosplit
//go:norace
//go:noinline
func vfork(args *cloneArgs, head *header, first *Step) (pid uintptr, errno syscall.Errno) {
	var e uintptr
	entersyscall()
	pid, e = rawVfork(args, unsafe.Sizeof(*args), head, first)
	exitsyscall()
	return pid, syscall.Errno(e)
}

// rawVfork is in assembly. That its arguments escape is wanted: the child holds
// addresses of them as numbers, so they must not be on a stack that moves.
func rawVfork(args *cloneArgs, size uintptr, head *header, first *Step) (pid, errno uintptr)

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
