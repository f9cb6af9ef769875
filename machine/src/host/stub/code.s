# What a stub process can execute of its own. It is copied into a frame of the machine and mapped at one address in every stub,
# without the right to write. Nothing here uses a stack, and nothing depends on where it lies.

    .pushsection .text.machine_stub, "ax", @progbits
    .balign 16
    .globl machine_stub_start, machine_stub_end
    .globl machine_stub_empty, machine_stub_calls, machine_stub_one, machine_stub_clone, machine_stub_park
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

# Executes a list of system calls, for the thread that traces us.
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

# clone(2): the parent traps with the number of the child, the child waits to be traced.
    .balign 16
machine_stub_clone:
    mov eax, {CLONE}
    syscall
    test rax, rax
    jz machine_stub_park
    int3

    .balign 16
machine_stub_park:
    mov eax, {PAUSE}
    syscall
    jmp machine_stub_park

machine_stub_end:
    .popsection
