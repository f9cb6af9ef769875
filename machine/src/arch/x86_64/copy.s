# Copying and filling memory. See copy.rs.
#
# Registers as in the C calling convention: rdi to, rsi from (or the byte to fill with), rdx length.
# The `guarded` variants may touch user memory: each access to it has an entry in the exception table, which sends
# a fault to the variant's fix-up. At every such access rdi, rsi and rdx say what is still to do, and the fix-up goes on byte by
# byte up to the very byte that faulted; rax returns how many bytes were not done.
#
# Program's vector registers are live in the CPU: the one that is used is kept on the stack.
#
# `exception AT, FIXUP` and `label NAME` come from who includes this: an entry of the exception table, and a public function.

.section .text.copy, "ax", @progbits

# `access GUARD, FIXUP, instruction...`: the instruction, with its exception table entry if GUARD is 1.
.macro access guard, fixup, instruction:vararg
.if \guard
77: \instruction
    exception 77b, \fixup
.else
    \instruction
.endif
.endm

# rcx: how many bytes from the user address in rcx come before the one that faulted, by CR2. Goes to 2 if none does.
.macro accessible
    mov     rax, cr2
    sub     rax, rcx
    xor     ecx, ecx
    cmp     rax, rdx
    cmovb   rcx, rax
    jrcxz   2f
.endm

# The copy of up to 32 bytes: overlapping loads from both ends, all before the stores, so it is right for memmove too.
.macro copy_short name, guard
.L\name\()_short:
    cmp     edx, 16
    ja      .L\name\()_17
    cmp     edx, 8
    jae     .L\name\()_8
    cmp     edx, 4
    jae     .L\name\()_4
    test    edx, edx
    jz      .L\name\()_done
    mov     ecx, edx
    shr     ecx, 1
    access  \guard, .L\name\()_fixup, movzx r8d, byte ptr [rsi]
    access  \guard, .L\name\()_fixup, movzx r9d, byte ptr [rsi + rcx]
    access  \guard, .L\name\()_fixup, movzx r10d, byte ptr [rsi + rdx - 1]
    access  \guard, .L\name\()_fixup, mov byte ptr [rdi], r8b
    access  \guard, .L\name\()_fixup, mov byte ptr [rdi + rcx], r9b
    access  \guard, .L\name\()_fixup, mov byte ptr [rdi + rdx - 1], r10b
.L\name\()_done:
.if \guard
    xor     eax, eax
.endif
    ret
.L\name\()_4:
    access  \guard, .L\name\()_fixup, mov r8d, dword ptr [rsi]
    access  \guard, .L\name\()_fixup, mov r9d, dword ptr [rsi + rdx - 4]
    access  \guard, .L\name\()_fixup, mov dword ptr [rdi], r8d
    access  \guard, .L\name\()_fixup, mov dword ptr [rdi + rdx - 4], r9d
    jmp     .L\name\()_done
.L\name\()_8:
    access  \guard, .L\name\()_fixup, mov r8, qword ptr [rsi]
    access  \guard, .L\name\()_fixup, mov r9, qword ptr [rsi + rdx - 8]
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi], r8
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi + rdx - 8], r9
    jmp     .L\name\()_done
.L\name\()_17:
    access  \guard, .L\name\()_fixup, mov r8, qword ptr [rsi]
    access  \guard, .L\name\()_fixup, mov r9, qword ptr [rsi + 8]
    access  \guard, .L\name\()_fixup, mov r10, qword ptr [rsi + rdx - 16]
    access  \guard, .L\name\()_fixup, mov r11, qword ptr [rsi + rdx - 8]
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi], r8
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi + 8], r9
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi + rdx - 16], r10
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi + rdx - 8], r11
    jmp     .L\name\()_done
.endm

# Whole blocks of 8 vectors, then single vectors, then the short copy of the rest.
.macro copy_wide name, guard, kind, move, register, size
.L\name\()_\kind:
    sub     rsp, 40
    \move   [rsp], \register
    cmp     rdx, 8 * \size
    jb      2f
    .balign 16
1:
.irp i, 0, 1, 2, 3, 4, 5, 6, 7
    access  \guard, .L\name\()_\kind\()_fixup, \move \register, [rsi + \i * \size]
    access  \guard, .L\name\()_\kind\()_fixup, \move [rdi + \i * \size], \register
.endr
    add     rsi, 8 * \size
    add     rdi, 8 * \size
    sub     rdx, 8 * \size
    cmp     rdx, 8 * \size
    jae     1b
2:  cmp     rdx, \size
    jb      4f
3:  access  \guard, .L\name\()_\kind\()_fixup, \move \register, [rsi]
    access  \guard, .L\name\()_\kind\()_fixup, \move [rdi], \register
    add     rsi, \size
    add     rdi, \size
    sub     rdx, \size
    cmp     rdx, \size
    jae     3b
4:  \move   \register, [rsp]
    add     rsp, 40
    jmp     .L\name\()_short
.if \guard
.L\name\()_\kind\()_fixup:
    \move   \register, [rsp]
    add     rsp, 40
    jmp     .L\name\()_fixup
.endif
.endm

# A forward copy.
.macro copy name, guard
copy_wide \name, \guard, avx, vmovdqu, ymm0, 32     # first, so that its exceptions are found first
.balign 16
.L\name:
    cmp     rdx, 32
    jbe     .L\name\()_short
    cmp     rdx, 128
    ja      .L\name\()_long
.L\name\()_words:
    access  \guard, .L\name\()_fixup, mov r8, qword ptr [rsi]
    access  \guard, .L\name\()_fixup, mov r9, qword ptr [rsi + 8]
    access  \guard, .L\name\()_fixup, mov r10, qword ptr [rsi + 16]
    access  \guard, .L\name\()_fixup, mov r11, qword ptr [rsi + 24]
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi], r8
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi + 8], r9
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi + 16], r10
    access  \guard, .L\name\()_fixup, mov qword ptr [rdi + 24], r11
    add     rsi, 32
    add     rdi, 32
    sub     rdx, 32
    cmp     rdx, 32
    ja      .L\name\()_words
copy_short \name, \guard
.L\name\()_long:
    cmp     byte ptr [rip + machine_copy_method], 1
    je      .L\name\()_sse
    ja      .L\name\()_avx
    mov     rcx, rdx
    access  \guard, .L\name\()_string_fixup, rep movsb
    xor     edx, edx
    jmp     .L\name\()_done
copy_wide \name, \guard, sse, movups, xmm0, 16
.if \guard
.L\name\()_string_fixup:
    mov     rdx, rcx
.L\name\()_fixup:
    mov     rcx, rdi                # the user's side: its addresses are positive
    test    rdi, rdi
    cmovs   rcx, rsi
    accessible
1:  access  1, 2f, mov r8b, byte ptr [rsi]
    access  1, 2f, mov byte ptr [rdi], r8b
    inc     rsi
    inc     rdi
    dec     rdx
    dec     rcx
    jnz     1b
2:  mov     rax, rdx
    ret
.endif
.endm

# A fill with the byte that r8 repeats.
.macro fill_wide name, guard, kind, move, register, size
.L\name\()_\kind:
    sub     rsp, 40
    \move   [rsp], \register
.ifc \kind, avx
    vmovq   xmm0, r8
    vpunpcklqdq xmm0, xmm0, xmm0
    vinsertf128 ymm0, ymm0, xmm0, 1
.else
    movq    xmm0, r8
    punpcklqdq xmm0, xmm0
.endif
    cmp     rdx, 16 * \size
    jb      2f
    .balign 16
1:
.irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    access  \guard, .L\name\()_\kind\()_fixup, \move [rdi + \i * \size], \register
.endr
    add     rdi, 16 * \size
    sub     rdx, 16 * \size
    cmp     rdx, 16 * \size
    jae     1b
2:  cmp     rdx, \size
    jb      4f
3:  access  \guard, .L\name\()_\kind\()_fixup, \move [rdi], \register
    add     rdi, \size
    sub     rdx, \size
    cmp     rdx, \size
    jae     3b
4:  \move   \register, [rsp]
    add     rsp, 40
    jmp     .L\name\()_words
.if \guard
.L\name\()_\kind\()_fixup:
    \move   \register, [rsp]
    add     rsp, 40
    jmp     .L\name\()_fixup
.endif
.endm

.macro fill name, guard
.balign 16
.L\name:
    cmp     rdx, 128
    ja      .L\name\()_long
.L\name\()_words:
    cmp     edx, 8
    jb      2f
1:  access  \guard, .L\name\()_fixup, mov qword ptr [rdi], r8
    add     rdi, 8
    sub     edx, 8
    cmp     edx, 8
    jae     1b
2:  test    edx, edx
    jz      4f
3:  access  \guard, .L\name\()_fixup, mov byte ptr [rdi], r8b
    inc     rdi
    dec     edx
    jnz     3b
4:
.if \guard
    xor     eax, eax
.endif
    ret
.L\name\()_long:
    cmp     byte ptr [rip + machine_copy_method], 1
    je      .L\name\()_sse
    ja      .L\name\()_avx
    mov     rcx, rdx
.if \guard
    xor     eax, eax
.else
    mov     r9, rax
    mov     eax, r8d
.endif
    access  \guard, .L\name\()_string_fixup, rep stosb
.ifeq \guard
    mov     rax, r9
.endif
    ret
fill_wide \name, \guard, sse, movups, xmm0, 16
fill_wide \name, \guard, avx, vmovdqu, ymm0, 32
.if \guard
.L\name\()_string_fixup:
    mov     rdx, rcx
.L\name\()_fixup:
    mov     rcx, rdi
    accessible
1:  access  1, 2f, mov byte ptr [rdi], r8b
    inc     rdi
    dec     rdx
    dec     rcx
    jnz     1b
2:  mov     rax, rdx
    ret
.endif
.endm

copy kernel_copy, 0
copy user_copy, 1
fill kernel_fill, 0
fill user_fill, 1

.macro function name
.balign 16
label \name
.endm

# What the compiler calls by these names.
function memmove
    mov     rax, rdi
    mov     rcx, rdi
    sub     rcx, rsi
    cmp     rcx, rdx
    jae     .Lkernel_copy           # not inside [from, from + length)
    cmp     rdx, 32
    jbe     .Lkernel_copy_short
1:  mov     r8, qword ptr [rsi + rdx - 8]
    mov     qword ptr [rdi + rdx - 8], r8
    sub     rdx, 8
    cmp     rdx, 32
    ja      1b
    jmp     .Lkernel_copy_short

function memcpy
    mov     rax, rdi
    jmp     .Lkernel_copy

function memset
    mov     rax, rdi
    movzx   esi, sil
    movabs  r8, 0x0101010101010101
    imul    r8, rsi
    jmp     .Lkernel_fill

function bcmp
function memcmp
    cmp     rdx, 8
    jb      2f
1:  mov     r8, qword ptr [rdi]
    mov     r9, qword ptr [rsi]
    cmp     r8, r9
    jne     4f
    add     rdi, 8
    add     rsi, 8
    sub     rdx, 8
    cmp     rdx, 8
    jae     1b
2:  test    rdx, rdx
    jz      3f
    movzx   eax, byte ptr [rdi]
    movzx   ecx, byte ptr [rsi]
    sub     eax, ecx
    jne     5f
    inc     rdi
    inc     rsi
    dec     rdx
    jmp     2b
3:  xor     eax, eax
    ret
4:  bswap   r8
    bswap   r9
    cmp     r8, r9
    sbb     eax, eax
    or      eax, 1
5:  ret

# Bytes not copied <- (to, from, length), one side user memory.
.global machine_user_copy
.set machine_user_copy, .Luser_copy

# Bytes not zeroed <- (to, _, length).
function machine_user_zero
    xor     r8d, r8d
    jmp     .Luser_fill

# 0, or 1 if it faulted <- (address, where the value goes).
function machine_user_load_u32
    access  1, .Luser_word_fixup, mov eax, dword ptr [rdi]
    mov     dword ptr [rsi], eax
    xor     eax, eax
    ret

# 0, or 1 if it faulted <- (address, expected and found, new).
function machine_user_compare_exchange_u32
    mov     eax, dword ptr [rsi]
    access  1, .Luser_word_fixup, lock cmpxchg dword ptr [rdi], edx
    mov     dword ptr [rsi], eax
    xor     eax, eax
    ret

.Luser_word_fixup:
    mov     eax, 1
    ret
