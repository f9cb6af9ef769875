//! Exceptions and interrupts: the stubs of `traps.s`, and what arrives while the kernel itself runs.

use super::block::{KERNEL_STACK, REGISTERS, SCRATCH};
use super::descriptors::{KERNEL_CODE, USER_BASE, USER_CODE, USER_DATA};
use super::{cpu, io_apic, local_apic, paging, panic, time};
use crate::user::General;
use alloc::vec::Vec;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr2, Efer, EferFlags};
use x86_64::registers::model_specific::{LStar, Msr, SFMask};
use x86_64::registers::rflags::RFlags;

/// The vector of [`Return`] for a system call: no vector of the CPU.
pub const SYSCALL: u64 = 256;

/// The vectors of interrupts.
pub mod vector {
    pub use x86::exceptions::{PAGE_FAULT, PROTECTION};

    /// Where the masked legacy controllers would deliver: ignored.
    pub const LEGACY: u8 = 0x20;
    /// The first of the devices' vectors.
    pub const DEVICES: u8 = 0x30;
    /// After the last of the devices' vectors.
    pub const DEVICES_END: u8 = 0xf0;
    /// The alarm.
    pub const ALARM: u8 = 0xf0;
    /// Another CPU's kick.
    pub const KICK: u8 = 0xf1;
    /// Another CPU wants translations forgotten.
    pub const SHOOTDOWN: u8 = 0xf2;
    /// What the local APIC delivers when an interrupt has gone away.
    pub const SPURIOUS: u8 = 0xff;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
}

global_asm!(
    include_str!("traps.s"),
    REGISTERS = const REGISTERS,
    KERNEL_STACK = const KERNEL_STACK,
    SCRATCH = const SCRATCH,
    SYSCALL = const SYSCALL,
    USER_CODE = const USER_CODE,
    USER_DATA = const USER_DATA,
    RAX = const offset_of!(General, rax),
    RBX = const offset_of!(General, rbx),
    RCX = const offset_of!(General, rcx),
    RDX = const offset_of!(General, rdx),
    RSI = const offset_of!(General, rsi),
    RDI = const offset_of!(General, rdi),
    RBP = const offset_of!(General, rbp),
    RSP = const offset_of!(General, rsp),
    R8 = const offset_of!(General, r8),
    R9 = const offset_of!(General, r9),
    R10 = const offset_of!(General, r10),
    R11 = const offset_of!(General, r11),
    R12 = const offset_of!(General, r12),
    R13 = const offset_of!(General, r13),
    R14 = const offset_of!(General, r14),
    R15 = const offset_of!(General, r15),
    RIP = const offset_of!(General, rip),
    RFLAGS = const offset_of!(General, rflags),
    ORIG_RAX = const offset_of!(General, orig_rax),
);

/// Each of these offsets is that of a whole word, whatever `General` has.
const _: fn(&General) -> [&usize; 19] = |general| {
    let General { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, rflags, rsp } =
        general;
    [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, rflags, rsp]
};

/// Why a program came back.
pub struct Return {
    /// The vector, or [`SYSCALL`].
    pub vector: u64,
    /// The error code, 0 where there is none.
    pub error: u64,
}

unsafe extern "C" {
    static trap_stubs: [[u8; 16]; 256];
    fn syscall_entry();
    fn run_by_sysret();
    fn run_by_iret();
}

/// Calls one of the two, which lose all registers but the stack pointer.
macro_rules! run {
    ($how:ident, $registers:ident) => {{
        let (vector, error);
        asm!(
            "push rbp",
            "push rbx",
            "call {}",
            "pop rbx",
            "pop rbp",
            sym $how,
            inout("rdi") $registers => _,
            out("rax") vector,
            out("rdx") error,
            out("rcx") _, out("rsi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
        Return { vector, error }
    }};
}

/// Runs the program until it traps, beginning as after a system call: `rip` and `rflags` are taken from `rcx` and `r11`.
///
/// # Safety
/// `registers` must be writable and not used otherwise; `rcx` an address in the lower half, `r11` flags a program may have.
#[inline(always)]
pub unsafe fn return_to(registers: *mut General) -> Return {
    // SAFETY: the caller's promise. The program cannot reach the kernel's memory, and the stack comes back as it was.
    unsafe { run!(run_by_sysret, registers) }
}

/// Runs the program until it traps.
///
/// # Safety
/// `registers` must be writable and not used otherwise; `rip` canonical, `rflags` flags a program may have.
pub unsafe fn start(registers: *mut General) -> Return {
    // SAFETY: as above.
    unsafe { run!(run_by_iret, registers) }
}

/// The address of the stub of `vector`.
pub fn stub(vector: u8) -> usize {
    (&raw const trap_stubs).addr() + usize::from(vector) * 16
}

/// Switches `syscall` on, on this CPU.
pub fn enable_syscall() {
    const STAR: u32 = 0xc000_0081;
    const SYSENTER_CS: u32 = 0x174;
    let cleared = RFlags::INTERRUPT_FLAG
        | RFlags::TRAP_FLAG
        | RFlags::DIRECTION_FLAG
        | RFlags::ALIGNMENT_CHECK
        | RFlags::NESTED_TASK
        | RFlags::RESUME_FLAG
        | RFlags::IOPL_LOW
        | RFlags::IOPL_HIGH;
    // SAFETY: the entry point is `syscall_entry` with its segments, and `sysenter` stays impossible.
    unsafe {
        LStar::write(VirtAddr::new(syscall_entry as *const () as u64));
        SFMask::write(cleared);
        Msr::new(STAR).write(u64::from(USER_BASE) << 48 | u64::from(KERNEL_CODE) << 32);
        Msr::new(SYSENTER_CS).write(0);
        Efer::update(|flags| flags.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
    }
}

/// The state of the kernel at a trap, as `traps.s` pushes it.
#[repr(C)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct KernelFrame {
    pub r15: usize,
    pub r14: usize,
    pub r13: usize,
    pub r12: usize,
    pub rbp: usize,
    pub rbx: usize,
    pub r11: usize,
    pub r10: usize,
    pub r9: usize,
    pub r8: usize,
    pub rdi: usize,
    pub rsi: usize,
    pub rdx: usize,
    pub rcx: usize,
    pub rax: usize,
    pub vector: u64,
    pub error: u64,
    pub rip: usize,
    pub cs: usize,
    pub rflags: usize,
    pub rsp: usize,
    pub ss: usize,
}

/// Called by `traps.s` for what arrives while the kernel runs, and for NMI, double fault and machine check at any time.
#[unsafe(no_mangle)]
extern "C" fn kernel_trap(frame: &mut KernelFrame) {
    match frame.vector as u8 {
        vector::NMI => panic::stop_if_asked(),
        vector::SHOOTDOWN => {
            local_apic::end_of_interrupt();
            paging::serve_shootdown_idle(); // no program runs here: better let go of its space altogether
        }
        vector @ 32.. => interrupt(vector),
        vector => match fixup(frame.rip) {
            // 8 and 18 are not the faulting instruction's fault.
            Some(fixup) if vector != 8 && vector != 18 => frame.rip = fixup,
            _ => panic::kernel_fault(frame, Cr2::read_raw() as usize),
        },
    }
}

/// Handles an interrupt, with interrupts off and no lock held.
pub fn interrupt(vector: u8) {
    match vector {
        vector::ALARM => {
            local_apic::end_of_interrupt();
            time::alarm_interrupt();
        }
        vector::KICK => {
            local_apic::end_of_interrupt();
            cpu::kicked();
        }
        vector::SHOOTDOWN => {
            local_apic::end_of_interrupt();
            paging::serve_shootdown();
        }
        vector::DEVICES..vector::DEVICES_END => {
            io_apic::serve(vector);
            local_apic::end_of_interrupt();
        }
        _ => {}
    }
}

static FIXUPS: Once<Vec<[usize; 2]>> = Once::new();

/// Sorts the exception table: the instructions that may fault (copies to and from user memory, loading a program's
/// extended state), each with the place to go on at then.
pub fn initialise() {
    unsafe extern "C" {
        static __exception_table_start: [usize; 2];
        static __exception_table_end: [usize; 2];
    }
    // SAFETY: the linker script puts the pairs between these symbols, in read-only memory.
    let table = unsafe {
        let start = &raw const __exception_table_start;
        core::slice::from_raw_parts(start, (&raw const __exception_table_end).offset_from_unsigned(start))
    };
    let mut fixups = table.to_vec();
    fixups.sort_unstable();
    FIXUPS.call_once(|| fixups);
}

/// Where to go on after a fault at `address`, if it is one that may happen.
fn fixup(address: usize) -> Option<usize> {
    let fixups = FIXUPS.get()?;
    let found = fixups.binary_search_by_key(&address, |[instruction, _]| *instruction).ok()?;
    fixups.get(found).map(|[_, fixup]| *fixup)
}
