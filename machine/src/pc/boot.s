// From the loader to Rust on the boot CPU.
//
// PVH (https://xenbits.xen.org/docs/unstable/misc/pvh.html): 32-bit protected mode, flat segments, paging off,
// EBX = physical address of the start info. The image is linked at IMAGE_BASE + its physical address.

.section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                      // name and description sizes, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry - {IMAGE_BASE}

.section .text.boot, "ax"
.code32
.global pvh_entry
pvh_entry:
    cli
    cld
    mov ebp, ebx                        // cpuid overwrites ebx
    mov esp, offset boot_stack_top - {IMAGE_BASE}
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb 2f
    mov eax, 0x80000001
    cpuid
    and edx, (1 << 29) | (1 << 20)      // long mode, no-execute pages
    cmp edx, (1 << 29) | (1 << 20)
    jne 2f

    mov eax, 1 << 5                     // CR4.PAE
    mov cr4, eax
    mov eax, offset early_level4 - {IMAGE_BASE}
    mov cr3, eax
    mov ecx, 0xc0000080                 // EFER
    rdmsr
    or eax, (1 << 8) | (1 << 11)        // LME, NXE
    wrmsr
    mov eax, 0x80010033                 // CR0: PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lgdt [early_gdt_pointer - {IMAGE_BASE}]
    push {KERNEL_CODE}
    mov eax, offset boot_long - {IMAGE_BASE}
    push eax
    retf

2:  // Not a 64-bit CPU: say so on COM1, and stop with status 1 where there is a way.
    mov esi, offset no_long_mode - {IMAGE_BASE}
    mov edx, 0x3f8
3:  lodsb
    out dx, al
    test al, al
    jnz 3b
    mov al, {FAILED}
    out {DEBUG_EXIT}, al
4:  hlt
    jmp 4b

.code64
boot_long:
    movabs rax, offset boot_upper
    jmp rax
boot_upper:
    lgdt [rip + early_gdt_pointer_upper]
    mov esp, {KERNEL_DATA}
    mov ss, esp
    mov ds, esp
    mov es, esp
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + boot_stack_top]
    mov edi, ebp
    xor ebp, ebp                        // the end of the chain of frame pointers
    call boot_start
    ud2

.section .rodata.boot, "a"
no_long_mode:
    .asciz "Orrery needs a 64-bit CPU with no-execute pages.\r\n"
    .balign 8
.global early_gdt
early_gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff            // KERNEL_CODE: 64-bit
    .quad 0x00cf93000000ffff            // KERNEL_DATA
early_gdt_pointer:
    .word . - early_gdt - 1
    .long early_gdt - {IMAGE_BASE}
.global early_gdt_pointer_upper
early_gdt_pointer_upper:
    .word 4 * 8 - 1
    .quad early_gdt

// Early tables: 4 GiB at 0 and at DIRECT_MAP, the first GiB also at IMAGE_BASE; all with every right.
.section .data.early_tables, "aw"
    .balign 4096
.global early_level4
early_level4:
    .quad early_level3 + 3 - {IMAGE_BASE}
    .fill 255, 8, 0
    .quad early_level3 + 3 - {IMAGE_BASE}
    .fill 254, 8, 0
    .quad early_level3_image + 3 - {IMAGE_BASE}
early_level3:
    .quad early_level2 + 0x0003 - {IMAGE_BASE}
    .quad early_level2 + 0x1003 - {IMAGE_BASE}
    .quad early_level2 + 0x2003 - {IMAGE_BASE}
    .quad early_level2 + 0x3003 - {IMAGE_BASE}
    .fill 508, 8, 0
early_level3_image:
    .fill 510, 8, 0
    .quad early_level2 + 3 - {IMAGE_BASE}
    .quad 0
early_level2:
    .set early_page, 0
    .rept 2048
    .quad (early_page << 21) + 0x83     // 2 MiB page, writable, present
    .set early_page, early_page + 1
    .endr

// The first thing in .bss; the page below is not mapped. Only for booting: the kernel's main has a stack of its own.
.section .bss.boot_stack, "aw", @nobits
    .balign 4096
    .skip {BOOT_STACK}
boot_stack_top:
