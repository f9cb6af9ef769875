# What a stub process can execute of its own. It is copied into a frame of the machine and mapped at one address in every stub,
# without the right to write. Nothing here uses a stack, and nothing depends on where it lies.

    .pushsection .text.machine_stub, "ax", @progbits
    .balign 16
    .globl machine_stub_start, machine_stub_end
    .globl machine_stub_empty, machine_stub_calls, machine_stub_one, machine_stub_clone, machine_stub_park, machine_stub_signal
machine_stub_start:

# The first stub, still full of what it was forked with: maps this code where it belongs, goes on there, and forgets the rest.
# rdi: the address for this code. rsi: the end of user space. rdx: struct sock_fprog, at its address in the end. fd 0: the frames.
machine_stub_empty:
    mov r12, rdi
    mov r13, rsi
    mov r14, rdx
    mov eax, {MMAP}
    mov esi, 4096
    mov edx, 5                          # PROT_READ | PROT_EXEC
    mov r10d, 0x11                      # MAP_SHARED | MAP_FIXED
    xor r8d, r8d
    xor r9d, r9d
    syscall
    cmp rax, r12
    jne 9f
    lea rax, [rip + 1f]
    lea rcx, [rip + machine_stub_start]
    sub rax, rcx
    add rax, r12
    jmp rax
1:  mov eax, {MUNMAP}                   # what is below
    xor edi, edi
    mov rsi, r12
    syscall
    test rax, rax
    jnz 9f
    mov eax, {MUNMAP}                   # what is above
    lea rdi, [r12 + 4096]
    mov rsi, r13
    sub rsi, rdi
    syscall
    test rax, rax
    jnz 9f
    mov eax, {PRCTL}
    mov edi, 22                         # PR_SET_SECCOMP
    mov esi, 2                          # SECCOMP_MODE_FILTER
    mov rdx, r14
    syscall
9:  int3                                # rax: 0, or what failed

# Executes a list of system calls, for the thread that traces us: in a thread of a stub that never runs a program, or in a guest thread
# that has not begun to. The list can't be written by the stub.
# rbx: the list, of number and six arguments each. r12: how many. Stops when one fails or all are done; then r12 says how many are left.
    .balign 16
machine_stub_calls:
1:  mov rax, [rbx]
    mov rdi, [rbx + 8]
    mov rsi, [rbx + 16]
    mov rdx, [rbx + 24]
    mov r10, [rbx + 32]
    mov r8, [rbx + 40]
    mov r9, [rbx + 48]
    syscall
    cmp rax, -4096
    ja 2f
    add rbx, 56
    dec r12
    jnz 1b
2:  int3

# Executes the system call in the registers.
    .balign 16
machine_stub_one:
    syscall
    int3

# clone(2): the parent traps with the number of the child; the child waits to be traced, if it is not from its first moment.
    .balign 16
machine_stub_clone:
    mov eax, {CLONE}
    syscall
    test rax, rax
    jz machine_stub_park
    int3

# The handler of every signal a guest thread gets: tells the kernel, waits for its answer, and goes on with the registers that are in
# the signal's frame by then. All signals are blocked here. edi: the signal. rsi: siginfo. rdx: ucontext. The stack is in the block.
    .balign 16
machine_stub_signal:
    mov rbx, rsp
    and rbx, -{BLOCK}
    mov [rbx + {SIGNAL}], edi
    mov [rbx + {INFORMATION}], rsi
    mov [rbx + {CONTEXT}], rdx
    rdfsbase rax
    mov [rbx + {FS}], rax
    rdgsbase rax
    mov [rbx + {GS}], rax
    mov eax, 1
    xchg [rbx + {TRAPPED}], eax         # and a fence: the kernel announces its sleep before it looks for the last time
    cmp dword ptr [rbx + {KERNEL_SLEEPS}], 0
    je 1f
    mov eax, {FUTEX}
    lea rdi, [rbx + {TRAPPED}]
    mov esi, 1                          # FUTEX_WAKE
    mov edx, 1
    syscall
1:  mov ecx, [rbx + {SPIN}]
2:  cmp dword ptr [rbx + {TRAPPED}], 0
    je 5f
    test ecx, ecx
    jz 3f
    dec ecx
    pause
    jmp 2b
3:  mov eax, 1
    xchg [rbx + {GUEST_SLEEPS}], eax
4:  cmp dword ptr [rbx + {TRAPPED}], 0
    je 5f
    mov eax, {FUTEX}
    lea rdi, [rbx + {TRAPPED}]
    xor esi, esi                        # FUTEX_WAIT
    mov edx, 1
    xor r10d, r10d
    syscall
    jmp 4b
5:  mov dword ptr [rbx + {GUEST_SLEEPS}], 0
    mov rax, [rbx + {FS}]
    wrfsbase rax
    mov rax, [rbx + {GS}]
    wrgsbase rax
    add rsp, 8                          # the return address that nobody uses
    mov eax, {SIGRETURN}
    syscall
    int3

    .balign 16
machine_stub_park:
    mov eax, {PAUSE}
    syscall
    jmp machine_stub_park

machine_stub_end:
    .popsection
