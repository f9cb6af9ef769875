# The functions of the vDSO. See mod.rs; the numbers in braces come from there.
#
# These bytes are data here: image.rs copies them to their place in a page programs may execute, and the page of numbers lies
# one page below that. So all they refer to is relative to where they run. Calling convention: System V; only registers
# a call may destroy are used, nothing is pushed. What can't be answered here is asked of the kernel, with the
# arguments still in place.

.pushsection .rodata.vdso, "a", @progbits
.balign 16
.globl orrery_vdso_code
orrery_vdso_code:
.Lvdso_code:
.set .Lvdso_numbers, .Lvdso_code - {code} - {page}

# rax = nanoseconds of the monotonic clock, plus the wall clock's distance where r9 is -1 rather than 0. Goes to `call` if
# the TSC can't tell. Destroys rdx, r8, r10, r11.
#
# An even sequence number that is the same before and after says that nothing was changed in between. LFENCE keeps
# RDTSC from running ahead of the first look.
.macro read_clock call
70: mov     r10d, [rip + .Lvdso_numbers + {sequence}]
    mov     r11, [rip + .Lvdso_numbers + {multiplier}]
    test    r10b, 1
    jnz     71f
    test    r11, r11
    jz      \call
    xor     r8d, r8d
    lfence
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    sub     rax, [rip + .Lvdso_numbers + {base_ticks}]
    cmovb   rax, r8
    mul     r11
    shrd    rax, rdx, 32
    add     rax, [rip + .Lvdso_numbers + {base_nanoseconds}]
    mov     r8, [rip + .Lvdso_numbers + {epoch}]
    and     r8, r9
    add     rax, r8
    cmp     r10d, [rip + .Lvdso_numbers + {sequence}]
    je      72f
71: pause
    jmp     70b
72:
.endm

# rdx = seconds, rcx = nanoseconds that are left, from the nanoseconds in rax. Destroys rax.
.macro split_seconds
    mov     rcx, rax
    mov     rdx, {reciprocal}
    shr     rax, 9
    mul     rdx
    shr     rdx, 11
    imul    rax, rdx, {second}
    sub     rcx, rax
.endm

# A system call with the arguments as they came.
.macro call_kernel number
    mov     eax, \number
    syscall
    ret
.endm

# int clock_gettime(clockid_t, struct timespec *)
.balign 16
.Lvdso_clock_gettime:
    cmp     edi, {last_clock}
    ja      9f
    mov     eax, {clocks}
    bt      eax, edi
    jnc     9f
    mov     eax, {wall_clocks}
    bt      eax, edi
    sbb     r9, r9
    read_clock 9f
    split_seconds
    mov     [rsi], rdx
    mov     [rsi + 8], rcx
    xor     eax, eax
    ret
9:  call_kernel 228
.Lvdso_clock_gettime_end:

# int clock_getres(clockid_t, struct timespec *)
.balign 16
.Lvdso_clock_getres:
    cmp     edi, {last_clock}
    ja      9f
    mov     eax, {clocks}
    bt      eax, edi
    jnc     9f
    test    rsi, rsi
    jz      8f
    mov     ecx, 1
    mov     eax, {coarse_clocks}
    bt      eax, edi
    mov     eax, {tick}
    cmovc   ecx, eax
    mov     qword ptr [rsi], 0
    mov     [rsi + 8], rcx
8:  xor     eax, eax
    ret
9:  call_kernel 229
.Lvdso_clock_getres_end:

# int gettimeofday(struct timeval *, struct timezone *)
.balign 16
.Lvdso_gettimeofday:
    test    rdi, rdi
    jz      8f
    mov     r9, -1
    read_clock 9f
    split_seconds
    # Nanoseconds to microseconds: exact for what is below a second.
    imul    rcx, rcx, 274877907
    shr     rcx, 38
    mov     [rdi], rdx
    mov     [rdi + 8], rcx
8:  test    rsi, rsi
    jz      7f
    mov     qword ptr [rsi], 0
7:  xor     eax, eax
    ret
9:  call_kernel 96
.Lvdso_gettimeofday_end:

# time_t time(time_t *)
.balign 16
.Lvdso_time:
    mov     r9, -1
    read_clock 9f
    split_seconds
    mov     rax, rdx
    test    rdi, rdi
    jz      8f
    mov     [rdi], rax
8:  ret
9:  call_kernel 201
.Lvdso_time_end:

# int getcpu(unsigned *cpu, unsigned *node, void *unused): no register tells a program of every machine which CPU of *Orrery's* it
# runs on.
.balign 16
.Lvdso_getcpu:
    call_kernel 309
.Lvdso_getcpu_end:

.globl orrery_vdso_end
orrery_vdso_end:

# Where each begins, and its length, in the order of image.rs.
.balign 4
.globl orrery_vdso_functions
orrery_vdso_functions:
.irp name, clock_gettime, gettimeofday, time, clock_getres, getcpu
    .long   .Lvdso_\name - .Lvdso_code, .Lvdso_\name\()_end - .Lvdso_\name
.endr
.popsection
