#include "textflag.h"

#define SYS_exit_group 231
#define SYS_clone3 435

// func rawVfork(args *cloneArgs, size uintptr, head *header, first *Step) (pid, errno uintptr)
//
// The child shares this stack with the suspended parent, and so does not touch
// it: no CALL, PUSH, POP or RET, no use of a frame variable. It also must not
// touch R14 and the thread-local storage, which are the parent's goroutine; it
// has no need to. The kernel preserves all registers but AX, CX and R11.
//
//	R12 the current step    R13 the header
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-48
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	head+16(FP), R13
	MOVQ	first+24(FP), R12
	MOVQ	$SYS_clone3, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	AX, pid+32(FP)
	MOVQ	$0, errno+40(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, pid+32(FP)
	MOVQ	AX, errno+40(FP)
	RET

child:
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
	ADDQ	$112, R12
	JMP	child

positive:
	CMPQ	BX, $1
	JEQ	unwanted
	MOVQ	8(R13), R12	// head.last
	JMP	child
unwanted:
	MOVQ	$-130, AX	// EOWNERDEAD
error:
	NEGQ	AX
	MOVQ	AX, 88(R12)	// errno
	CMPQ	AX, $63
	JLS	small
	MOVQ	$63, AX
small:
	MOVQ	72(R12), BX	// tolerate
	BTQ	AX, BX
	JCC	fatal
	ADDQ	$112, R12
	JMP	child
fatal:
	MOVQ	R12, 0(R13)	// head.failed
exit:
	MOVQ	$SYS_exit_group, AX
	MOVQ	$127, DI
	SYSCALL
	JMP	exit
