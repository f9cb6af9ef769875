//! The per-CPU block: what the entry code needs at hand, reached through GS.
//!
//! In the kernel GS's base is the block; in user mode it is the program's, and the block waits in the MSR `swapgs`
//! exchanges it with. Handlers on the interrupt stacks (NMI, double fault, machine check) may arrive in between, and find
//! the block at the top of their stack instead.

use super::descriptors::Descriptors;
use crate::user::General;
use alloc::boxed::Box;
use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ptr;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

/// Words for what the CPU pushes when a program traps; copied away at once.
const ENTRY_STACK: usize = 16;

/// What belongs to one CPU. Only that CPU touches it, once it runs.
#[repr(C, align(128))]
pub struct Block {
    this: *const Block,
    /// Where the entry code stores the program's registers.
    registers: Cell<*mut General>,
    /// The kernel's stack while a program runs.
    kernel_stack: Cell<usize>,
    /// The program's stack for two instructions.
    scratch: Cell<usize>,
    /// This CPU's number.
    pub cpu: usize,
    /// The number of the last load of a [`super::extended::State`] into this CPU, different from those of all CPUs.
    pub last_load: Cell<u64>,
    /// The deadline of the alarm; `u64::MAX` is none.
    pub alarm: Cell<u64>,
    /// The number by which interrupt controllers know this CPU.
    pub apic_id: Cell<u32>,
    /// Segments, task state, interrupt stacks.
    pub descriptors: UnsafeCell<Descriptors>,
    entry_stack: UnsafeCell<[u128; ENTRY_STACK / 2]>,
}

// SAFETY: a block is used by its own CPU only; interrupt handlers that touch it run while the kernel is not in the
// middle of using it, as interrupts are off whenever the kernel runs.
unsafe impl Sync for Block {}
// SAFETY: it is made on the boot CPU and handed over before its own CPU uses it.
unsafe impl Send for Block {}

/// Offsets for the entry code.
pub const REGISTERS: usize = offset_of!(Block, registers);
/// See [`REGISTERS`].
pub const KERNEL_STACK: usize = offset_of!(Block, kernel_stack);
/// See [`REGISTERS`].
pub const SCRATCH: usize = offset_of!(Block, scratch);

impl Block {
    const fn make(this: *const Block, cpu: usize) -> Block {
        Block {
            this,
            registers: Cell::new(ptr::null_mut()),
            kernel_stack: Cell::new(0),
            scratch: Cell::new(0),
            cpu,
            last_load: Cell::new(cpu as u64 + 1),
            alarm: Cell::new(u64::MAX),
            apic_id: Cell::new(0),
            descriptors: UnsafeCell::new(Descriptors::new()),
            entry_stack: UnsafeCell::new([0; ENTRY_STACK / 2]),
        }
    }

    /// The block of `cpu`, for good.
    pub fn new(cpu: usize, apic_id: u32) -> &'static Block {
        let block = Box::leak(Box::new(Block::make(ptr::null(), cpu)));
        block.this = block;
        block.apic_id.set(apic_id);
        block
    }

    /// Makes this block the current CPU's.
    ///
    /// # Safety
    /// Once for each block, on its CPU; GS must not be in use otherwise.
    pub unsafe fn adopt(&'static self) {
        GsBase::write(VirtAddr::from_ptr(self));
        KernelGsBase::write(VirtAddr::zero());
    }

    /// The top of the stack on which programs' traps arrive.
    pub fn entry_stack_top(&self) -> usize {
        self.entry_stack.get().addr() + size_of::<[u128; ENTRY_STACK / 2]>()
    }
}

/// The boot CPU's block: there before there is a heap.
pub fn first() -> &'static Block {
    static FIRST: Block = Block::make(&raw const FIRST, 0);
    &FIRST
}

/// This CPU's block. Only after it was adopted.
#[inline]
pub fn current() -> &'static Block {
    let block: *const Block;
    // SAFETY: GS is the block whenever Rust code runs after boot, and its first word is its address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) block, options(pure, readonly, nostack, preserves_flags));
        &*block
    }
}

/// This CPU's number.
#[inline]
pub fn current_cpu() -> usize {
    let cpu;
    // SAFETY: as above.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) cpu, const offset_of!(Block, cpu), options(pure, readonly, nostack, preserves_flags));
    }
    cpu
}
