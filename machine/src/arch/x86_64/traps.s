// Into the kernel and out of it. The layout of the program's registers is `user::General` in RDI or RSP.

.section .text.traps, "ax"

// One stub of 16 bytes for each vector: pushes an error code where the CPU does not, and the vector.
.balign 16
.global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    push 0
    .endif
    .byte 0x68                          // push imm32
    .long vector
    .if vector == 2 || vector == 8 || vector == 18
    jmp trap_on_own_stack
    .else
    jmp trap
    .endif
    .set vector, vector + 1
    .endr

// [rsp]: vector, error code, rip, cs, rflags, rsp, ss
.balign 16
trap:
    test byte ptr [rsp + 24], 3
    jz trap_in_kernel
    swapgs
    lfence                              // nothing is loaded by GS before it is known which one it is: the jump was a guess
    cld
    push rdi
    mov rdi, gs:[{REGISTERS}]
    mov [rdi + {RAX}], rax
    mov [rdi + {RCX}], rcx
    mov [rdi + {RDX}], rdx
    mov [rdi + {RSI}], rsi
    mov [rdi + {R8}], r8
    mov [rdi + {R9}], r9
    mov [rdi + {R10}], r10
    mov [rdi + {R11}], r11
    mov [rdi + {RBX}], rbx
    mov [rdi + {RBP}], rbp
    mov [rdi + {R12}], r12
    mov [rdi + {R13}], r13
    mov [rdi + {R14}], r14
    mov [rdi + {R15}], r15
    pop qword ptr [rdi + {RDI}]
    pop rax                             // vector and error code: what `run` returns
    pop rdx
    pop qword ptr [rdi + {RIP}]
    pop rcx                             // cs is the program's only one
    pop qword ptr [rdi + {RFLAGS}]
    pop qword ptr [rdi + {RSP}]
    jmp back_to_kernel

.balign 16
.global syscall_entry
syscall_entry:
    swapgs
    mov gs:[{SCRATCH}], rsp
    mov rsp, gs:[{REGISTERS}]
    mov [rsp + {RCX}], rcx
    mov [rsp + {RIP}], rcx
    mov [rsp + {R11}], r11
    mov [rsp + {RFLAGS}], r11
    mov [rsp + {ORIG_RAX}], rax
    mov qword ptr [rsp + {RAX}], -38    // -ENOSYS, as Linux has it there
    mov [rsp + {RDX}], rdx
    mov [rsp + {RSI}], rsi
    mov [rsp + {RDI}], rdi
    mov [rsp + {R8}], r8
    mov [rsp + {R9}], r9
    mov [rsp + {R10}], r10
    mov [rsp + {RBX}], rbx
    mov [rsp + {RBP}], rbp
    mov [rsp + {R12}], r12
    mov [rsp + {R13}], r13
    mov [rsp + {R14}], r14
    mov [rsp + {R15}], r15
    mov rcx, gs:[{SCRATCH}]
    mov [rsp + {RSP}], rcx
    mov eax, {SYSCALL}
back_to_kernel:
    mov rsp, gs:[{KERNEL_STACK}]        // as it was when run_by_... was called
    ret

.macro load_registers
    mov r15, [rdi + {R15}]
    mov r14, [rdi + {R14}]
    mov r13, [rdi + {R13}]
    mov r12, [rdi + {R12}]
    mov rbp, [rdi + {RBP}]
    mov rbx, [rdi + {RBX}]
    mov r10, [rdi + {R10}]
    mov r9, [rdi + {R9}]
    mov r8, [rdi + {R8}]
    mov rax, [rdi + {RAX}]
    mov rdx, [rdi + {RDX}]
    mov rsi, [rdi + {RSI}]
.endm

// run_by_sysret(rdi: the program's registers): for a return from a system call. rip and rflags arrive in rcx and r11.
// Returns with the vector in rax, the error code in rdx, and all other registers but rsp lost.
.balign 16
.global run_by_sysret
run_by_sysret:
    mov gs:[{KERNEL_STACK}], rsp
    mov gs:[{REGISTERS}], rdi
    mov rcx, [rdi + {RCX}]
    mov r11, [rdi + {R11}]
    load_registers
    mov rsp, [rdi + {RSP}]
    mov rdi, [rdi + {RDI}]
    swapgs
    sysretq

// run_by_iret(rdi: the program's registers): for all other returns.
.balign 16
.global run_by_iret
run_by_iret:
    mov gs:[{KERNEL_STACK}], rsp
    mov gs:[{REGISTERS}], rdi
    push {USER_DATA}
    push qword ptr [rdi + {RSP}]
    push qword ptr [rdi + {RFLAGS}]
    push {USER_CODE}
    push qword ptr [rdi + {RIP}]
    mov rcx, [rdi + {RCX}]
    mov r11, [rdi + {R11}]
    load_registers
    mov rdi, [rdi + {RDI}]
    swapgs
    iretq

.macro save_all
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    cld
.endm

.macro restore_all
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16                         // vector and error code
.endm

// An interrupt while the kernel waits for one, a user copy that faulted, or a fault of the kernel. The CPU has aligned
// the stack; 22 words are on it at the call.
.balign 16
trap_in_kernel:
    lfence                              // as above
    save_all
    call kernel_trap
    restore_all
    iretq

// NMI, double fault and machine check may hit before swapgs, after it, or before GS was ever set: they take the block from
// the top of their stack (descriptors::prepare), and put GS back as it was.
.balign 16
trap_on_own_stack:
    save_all
    mov ecx, 0xc0000101                 // IA32_GS_BASE
    rdmsr
    mov r12, rax
    mov r13, rdx
    mov rax, [rsp + 22 * 8]
    mov rdx, rax
    shr rdx, 32
    wrmsr
    call kernel_trap
    mov ecx, 0xc0000101
    mov rax, r12
    mov rdx, r13
    wrmsr
    restore_all
    iretq
