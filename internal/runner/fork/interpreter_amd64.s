#include "textflag.h"

#define SYS_write 1
#define SYS_exit_group 231
#define SYS_clone3 435

// func rawVfork(args *cloneArgs, size uintptr, head *header) (pid, errno uintptr)
//
// The child shares this stack with the suspended parent, and so does not touch
// it: no CALL, PUSH, POP or RET, no use of a frame variable. It also must not
// touch R14 and the thread-local storage, which are the parent's goroutine; it
// has no need to. The kernel preserves all registers but AX, CX and R11.
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	head+16(FP), R13
	MOVQ	$SYS_clone3, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	AX, pid+24(FP)
	MOVQ	$0, errno+32(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, pid+24(FP)
	MOVQ	AX, errno+32(FP)
	RET
child:
	JMP	·interpret(SB)

// func interpreterAddress() unsafe.Pointer
TEXT ·interpreterAddress(SB),NOSPLIT|NOFRAME,$0-8
	LEAQ	·interpret(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// interpret performs the steps of a header. It is executed in two places: here,
// by a child that has just been cloned, with the header's address in R13; and,
// copied, as the whole code of an executable (image.go), which the kernel
// begins with all registers zero: then the header is where every program has it.
//
//	R12 the current step    R13 the header
TEXT ·interpret(SB),NOSPLIT|NOFRAME,$0-0
	TESTQ	R13, R13
	JNZ	begin
	MOVQ	$0x200fffc0, R13	// headerBase
begin:
	MOVQ	0(R13), R12	// first
step:
	MOVQ	0(R12), AX
	MOVQ	8(R12), DI
	MOVQ	16(R12), SI
	MOVQ	24(R12), DX
	MOVQ	32(R12), R10
	MOVQ	40(R12), R8
	MOVQ	48(R12), R9
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JCC	error
	TESTQ	AX, AX
	JZ	ok
	MOVQ	80(R12), BX	// positive
	TESTQ	BX, BX
	JNZ	positive
ok:
	MOVQ	56(R12), BX	// save
	TESTQ	BX, BX
	JZ	next
	MOVQ	AX, 0(BX)
next:
	ADDQ	64(R12), R12	// skip
	ADDQ	$96, R12
	JMP	step

positive:
	CMPQ	BX, $1
	JEQ	unwanted
	MOVQ	24(R13), R12	// last
	JMP	step
unwanted:
	MOVQ	$-130, AX	// EOWNERDEAD
error:
	NEGQ	AX
	MOVQ	AX, 88(R12)	// errno
	MOVQ	AX, CX
	CMPQ	CX, $63
	JLS	small
	MOVQ	$63, CX
small:
	MOVQ	72(R12), BX	// tolerate
	BTQ	CX, BX
	JCC	fatal
	ADDQ	$96, R12
	JMP	step
fatal:
	MOVQ	R12, 8(R13)	// failed
	MOVQ	AX, 16(R13)	// errno
	MOVQ	32(R13), DI	// status
	MOVQ	40(R13), SI	// report
	MOVQ	48(R13), DX	// size
	MOVQ	$SYS_write, AX
	SYSCALL
exit:
	MOVQ	$SYS_exit_group, AX
	MOVQ	$127, DI
	SYSCALL
	JMP	exit
	// "sampan: the end."
	QUAD	$0x203a6e61706d6173
	QUAD	$0x2e646e6520656874
