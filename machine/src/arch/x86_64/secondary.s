// How the other CPUs come up: from real mode, at the start of a page below 1 MiB, to `secondary_main`.
// The code up to secondary_end is copied to that page; it uses no address of its own.

.section .rodata.secondary, "a"
.code16
.global secondary_start
secondary_start:
    cli
    cld
    mov ax, cs
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16        // lgdt, 32-bit base
    .word secondary_gdt_pointer - secondary_start
    mov eax, 1 << 5                     // CR4.PAE
    mov cr4, eax
    mov eax, offset early_level4 - {IMAGE_BASE}
    mov cr3, eax
    mov ecx, 0xc0000080                 // EFER
    rdmsr
    or eax, (1 << 8) | (1 << 11)        // LME, NXE
    wrmsr
    mov eax, 0x80010033                 // CR0: PG, WP, NE, ET, MP, PE: straight to long mode
    mov cr0, eax
    .byte 0x66, 0xff, 0x2e              // ljmp, 32-bit offset
    .word secondary_target - secondary_start
secondary_target:
    .long secondary_long - {IMAGE_BASE}
    .word {KERNEL_CODE}
secondary_gdt_pointer:
    .word 4 * 8 - 1
    .long early_gdt - {IMAGE_BASE}
.global secondary_end
secondary_end:

.section .text.secondary, "ax"
.code64
secondary_long:
    movabs rax, offset secondary_upper
    jmp rax
secondary_upper:
    lgdt [rip + early_gdt_pointer_upper]
    mov eax, {KERNEL_DATA}
    mov ss, eax
    mov ds, eax
    mov es, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rax, [rip + secondary_root]
    mov cr3, rax
    mov eax, 1
    lock xadd [rip + secondary_tickets], eax
    cmp eax, {STACKS}
    jae 3f
    lea rcx, [rip + secondary_stacks]
    mov rsp, [rcx + rax * 8]
    test rsp, rsp
    jz 3f
    xor ebp, ebp
    call secondary_main
3:  hlt
    jmp 3b
