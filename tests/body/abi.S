# SPDX-License-Identifier: Apache-2.0
# int abi_call(void (*block)(void *), void *body): calls block with canaries in every callee-saved register and in the
# stack around it; returns a mask of what was not preserved (0: all well).
	.text
	.globl abi_call
	.type abi_call, @function
abi_call:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	sub $40, %rsp
	mov %rdi, %rax
	mov %rsi, %rdi
	movabs $0x1122334455667788, %rbx
	lea 1(%rbx), %rbp
	lea 2(%rbx), %r12
	lea 3(%rbx), %r13
	lea 4(%rbx), %r14
	lea 5(%rbx), %r15
	mov %rbx, 0(%rsp)
	mov %rbx, 8(%rsp)
	mov %rsp, saved_rsp(%rip)
	stmxcsr 16(%rsp)
	fnstcw 20(%rsp)
	cld
	call *%rax
	xor %eax, %eax
	movabs $0x1122334455667788, %rcx
	xor %edx, %edx
	cmp %rcx, %rbx
	setne %dl
	or %edx, %eax
	inc %rcx
	cmp %rcx, %rbp
	setne %dl
	lea (,%edx,2), %edx
	or %edx, %eax
	inc %rcx
	xor %edx, %edx
	cmp %rcx, %r12
	setne %dl
	shl $2, %edx
	or %edx, %eax
	inc %rcx
	xor %edx, %edx
	cmp %rcx, %r13
	setne %dl
	shl $3, %edx
	or %edx, %eax
	inc %rcx
	xor %edx, %edx
	cmp %rcx, %r14
	setne %dl
	shl $4, %edx
	or %edx, %eax
	inc %rcx
	xor %edx, %edx
	cmp %rcx, %r15
	setne %dl
	shl $5, %edx
	or %edx, %eax
	xor %edx, %edx
	cmp saved_rsp(%rip), %rsp
	setne %dl
	shl $6, %edx
	or %edx, %eax
	mov saved_rsp(%rip), %rsp
	pushf
	pop %rdx
	and $0x400, %edx
	or %edx, %eax
	stmxcsr 24(%rsp)
	mov 24(%rsp), %edx
	xor 16(%rsp), %edx
	shl $16, %edx
	or %edx, %eax
	fnstcw 28(%rsp)
	movzwl 28(%rsp), %edx
	xor 20(%rsp), %dx
	setne %dl
	movzbl %dl, %edx
	shl $7, %edx
	or %edx, %eax
	movabs $0x1122334455667788, %rcx
	xor %edx, %edx
	cmp %rcx, 0(%rsp)
	setne %dl
	shl $8, %edx
	or %edx, %eax
	add $40, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret
	.size abi_call, .-abi_call
	.local saved_rsp
	.comm saved_rsp, 8, 8
	.section .note.GNU-stack,"",@progbits
