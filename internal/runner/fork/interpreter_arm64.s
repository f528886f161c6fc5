#include "textflag.h"

#define SYS_write 64
#define SYS_exit_group 94
#define SYS_clone3 435

// func rawVfork(args *cloneArgs, size uintptr, head *header) (pid, errno uintptr)
//
// As in interpreter_amd64.s. The kernel preserves all registers but R0.
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-40
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	head+16(FP), R20
	MOVD	$SYS_clone3, R8
	SVC
	CBZ	R0, child
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, pid+24(FP)
	MOVD	ZR, errno+32(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	$-1, R1
	MOVD	R1, pid+24(FP)
	MOVD	R0, errno+32(FP)
	RET
child:
	B	·interpret(SB)

// func interpreterAddress() unsafe.Pointer
TEXT ·interpreterAddress(SB),NOSPLIT|NOFRAME,$0-8
	MOVD	$·interpret(SB), R0
	MOVD	R0, ret+0(FP)
	RET

// interpret is as in interpreter_amd64.s.
//
//	R19 the current step    R20 the header
TEXT ·interpret(SB),NOSPLIT|NOFRAME,$0-0
	CBNZ	R20, begin
	MOVZ	$0xffc0, R20	// headerBase
	MOVK	$(0x200f<<16), R20
begin:
	MOVD	0(R20), R19	// first
step:
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
	ADD	$96, R19, R19
	B	step

positive:
	CMP	$1, R9
	BEQ	unwanted
	MOVD	24(R20), R19	// last
	B	step
unwanted:
	MOVD	$-130, R0	// EOWNERDEAD
error:
	NEG	R0, R0
	MOVD	R0, 88(R19)	// errno
	MOVD	R0, R10
	CMP	$63, R10
	BLS	small
	MOVD	$63, R10
small:
	MOVD	72(R19), R9	// tolerate
	LSR	R10, R9, R9
	TBZ	$0, R9, fatal
	ADD	$96, R19, R19
	B	step
fatal:
	MOVD	R19, 8(R20)	// failed
	MOVD	R0, 16(R20)	// errno
	MOVD	32(R20), R0	// status
	MOVD	40(R20), R1	// report
	MOVD	48(R20), R2	// size
	MOVD	$SYS_write, R8
	SVC
exit:
	MOVD	$SYS_exit_group, R8
	MOVD	$127, R0
	SVC
	B	exit
	// "sampan: the end."
	WORD	$0x706d6173
	WORD	$0x203a6e61
	WORD	$0x20656874
	WORD	$0x2e646e65
