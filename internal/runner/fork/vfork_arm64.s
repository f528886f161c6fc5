#include "textflag.h"

#define SYS_exit_group 94
#define SYS_clone3 435

// func rawVfork(args *cloneArgs, size uintptr, head *header, first *Step) (pid, errno uintptr)
//
// As in vfork_amd64.s. The kernel preserves all registers but R0.
//
//	R19 the current step    R20 the header
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-48
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	head+16(FP), R20
	MOVD	first+24(FP), R19
	MOVD	$SYS_clone3, R8
	SVC
	CBZ	R0, child
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, pid+32(FP)
	MOVD	ZR, errno+40(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	$-1, R1
	MOVD	R1, pid+32(FP)
	MOVD	R0, errno+40(FP)
	RET

child:
	MOVD	0(R19), R8
	MOVD	8(R19), R0
	MOVD	16(R19), R1
	MOVD	24(R19), R2
	MOVD	32(R19), R3
	MOVD	40(R19), R4
	MOVD	48(R19), R5
	SVC
	CMN	$4095, R0
	BCS	error
	CBZ	R0, ok
	MOVD	80(R19), R9	// positive
	CBNZ	R9, positive
ok:
	MOVD	56(R19), R9	// save
	CBZ	R9, next
	MOVD	R0, 0(R9)
next:
	MOVD	64(R19), R9	// skip
	ADD	R9, R19, R19
	ADD	$112, R19, R19
	B	child

positive:
	CMP	$1, R9
	BEQ	unwanted
	MOVD	8(R20), R19	// head.last
	B	child
unwanted:
	MOVD	$-130, R0	// EOWNERDEAD
error:
	NEG	R0, R0
	MOVD	R0, 88(R19)	// errno
	CMP	$63, R0
	BLS	small
	MOVD	$63, R0
small:
	MOVD	72(R19), R9	// tolerate
	LSR	R0, R9, R9
	TBZ	$0, R9, fatal
	ADD	$112, R19, R19
	B	child
fatal:
	MOVD	R19, 0(R20)	// head.failed
exit:
	MOVD	$SYS_exit_group, R8
	MOVD	$127, R0
	SVC
	B	exit
