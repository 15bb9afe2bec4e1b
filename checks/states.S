/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest without an operating system: executes what the checks put into its
 * mailbox, one instruction at a time, and tells how each ended.
 *
 * The host sees guest storage as a file.  It stores operands and a command;
 * the guest executes the instruction in the state that the PSW mask in the
 * mailbox gives, stores the outcome and clears the command.
 */
	.set	MAILBOX,	0x20000
	.set	COMMAND,	0	/* number of the instruction + 1, or 0 */
	.set	MASK,		8	/* PSW mask for it */
	.set	PSW,		16	/* its address; made here */
	.set	REGISTERS,	24	/* 2 to 5, before and after */
	.set	PGM_CODE,	56	/* program interruption, or 0 */
	.set	PGM_ILC,	64
	.set	PGM_PSW,	72	/* address in the old PSW */
	.set	PGM_TEC,	80	/* translation exception code */
	.set	AT,		88	/* address of the instruction */
	.set	STARTS,		96	/* how often this program was started */

	.set	LC_ILC,		0x8c
	.set	LC_TEC,		0xa8
	.set	LC_PGM_OLD,	0x150
	.set	LC_SVC_NEW,	0x1c0
	.set	LC_PGM_NEW,	0x1d0

	.text
	.globl	_start
_start:
	/* 64-bit, also if load normal came here by a PSW at 0 */
	sam64
	llilh	%r1,MAILBOX >> 16
	larl	%r8,restart
	lg	%r9,0(%r8)
	stg	%r9,0
	larl	%r8,new_svc
	mvc	LC_SVC_NEW(32),0(%r8)
	larl	%r8,real_space
	lctlg	%c1,%c1,0(%r8)
	agsi	STARTS(%r1),1
next:
	lg	%r9,COMMAND(%r1)
	ltgr	%r9,%r9
	jz	next
	lmg	%r2,%r5,REGISTERS(%r1)
	larl	%r8,instructions-8
	sllg	%r9,%r9,3
	agr	%r8,%r9
	stg	%r8,PSW(%r1)
	stg	%r8,AT(%r1)
	larl	%r14,done
	lghi	%r0,31		/* doublewords, for stfle; no options, for mvpg */
	lpswe	MASK(%r1)

done:	svc	0

completed:
	llilh	%r1,MAILBOX >> 16
	stmg	%r2,%r5,REGISTERS(%r1)
	xc	PGM_CODE(8,%r1),PGM_CODE(%r1)
	j	answer

interrupted:
	llilh	%r1,MAILBOX >> 16
	stmg	%r2,%r5,REGISTERS(%r1)
	llgh	%r9,LC_ILC+2
	stg	%r9,PGM_CODE(%r1)
	llgh	%r9,LC_ILC
	stg	%r9,PGM_ILC(%r1)
	mvc	PGM_PSW(8,%r1),LC_PGM_OLD+8
	mvc	PGM_TEC(8,%r1),LC_TEC
answer:
	xc	COMMAND(8,%r1),COMMAND(%r1)
	j	next

	/* 8 bytes each */
	.balign	8
instructions:
	.macro	instruction	words:vararg
	.balign	8
	\words
	svc	0
	.balign	8
	.endm
	.irp	orc,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	instruction .insn	rrf,0xb9ab0000,%r3,%r2,\orc,0
	.endr
	instruction llgc	%r3,0(%r2)		/* 16 */
	instruction stc	%r3,0(%r2)
	instruction mvc	0(8,%r2),0(%r4)
	instruction mvc	0(8,%r4),0(%r2)
	instruction clc	0(8,%r2),0(%r4)			/* 20 */
	instruction mvcl	%r2,%r4
	instruction mvcle	%r2,%r4,0
	instruction csg	%r3,%r4,0(%r2)
	instruction br	%r2
	instruction lra	%r3,0(%r2)			/* 25 */
	instruction diag	%r2,%r4,0x308
	instruction spx	0(%r2)
	instruction lpswe	0(%r2)
	instruction stcrw	0(%r2)
	instruction mvpg	%r2,%r4				/* 30 */
	instruction lg	%r3,0(%r2)
	instruction stfle	0(%r2)
	instruction jg	race
	instruction diag	%r2,%r4,0x1f4
	instruction diag	%r3,%r4,0x1f4		/* 35 */
	instruction diag	%r2,%r4,0x8
	instruction jg	signal

	/* An order in %r5 to the CPU in %r4, with a parameter in %r3; then the condition code is in %r2. */
signal:
	sigp	%r2,%r4,0(%r5)
	lghi	%r2,0
	ipm	%r2
	srl	%r2,28
	svc	0

	/*
	 * Uses %r3 pages from %r2 on %r4 times each: makes one stable, looks
	 * whether it is as it was left, changes it, looks again, and makes it
	 * volatile.  Then %r2 is how often a page had been discarded and %r3
	 * how often one was not as it must be.
	 */
	.set	LAST,	4088
race:
	lghi	%r10,0
	lghi	%r11,0
	lghi	%r6,0			/* what the pages hold */
1:	lgr	%r8,%r2
	lgr	%r9,%r3
2:	.insn	rrf,0xb9ab0000,%r7,%r8,6,0
	nilf	%r7,0x0f
	chi	%r7,0x0f
	jne	3f
	aghi	%r10,1
	.insn	rrf,0xb9ab0000,%r7,%r8,1,0
	j	4f
3:	clg	%r6,0(%r8)
	jne	6f
	clg	%r6,LAST(%r8)
	jne	6f
4:	la	%r7,1(%r6)
	stg	%r7,0(%r8)
	stg	%r7,LAST(%r8)
	lghi	%r5,200
	brct	%r5,.
	clg	%r7,0(%r8)
	jne	6f
	clg	%r7,LAST(%r8)
	jne	6f
5:	.insn	rrf,0xb9ab0000,%r7,%r8,3,0
	aghi	%r8,4096
	brctg	%r9,2b
	aghi	%r6,1
	brctg	%r4,1b
	lgr	%r2,%r10
	lgr	%r3,%r11
	svc	0
6:	aghi	%r11,1
	j	5b

	.balign	8
restart:
	/* a PSW of 8 bytes as load normal wants it: 31-bit, to _start */
	.long	0x00080000, _start + 0x80000000
	.balign	8
new_svc:
	.quad	0x0000000180000000, completed
	.quad	0x0000000180000000, interrupted
	/* DAT on, but virtual addresses are real ones */
real_space:
	.quad	0x20
