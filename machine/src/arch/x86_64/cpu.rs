//! The CPUs that run.

use super::block::{self, Block};
use super::traps::vector;
use super::{descriptors, features, local_apic, paging, panic, shootdown, speculation, traps};
use crate::cpu::Handler;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::asm;
use spin::Once;
use x86_64::instructions::hlt;

type Main = Arc<dyn Fn(usize) + Send + Sync>;

static CPUS: Once<Vec<&'static Block>> = Once::new();
static HANDLER: Once<Arc<dyn Handler>> = Once::new();
static MAIN: Once<Main> = Once::new();

/// See [`crate::cpu::ARE_THREADS`].
pub const ARE_THREADS: bool = false;

/// Fixes which CPUs there are, in the order of their numbers.
pub fn settle(cpus: Vec<&'static Block>) {
    CPUS.call_once(|| cpus);
}

/// Prepares the CPU this runs on: features, tables, block, system calls, local APIC.
///
/// # Safety
/// `block` is this CPU's and prepared; interrupts are off.
pub unsafe fn set_up(block: &'static Block) {
    features::enable();
    // SAFETY: the caller's promise.
    unsafe {
        descriptors::load(block);
        block.adopt();
    }
    speculation::enable();
    traps::enable_syscall();
    local_apic::enable();
    shootdown::join();
    panic::ready();
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    loop {
        hlt();
    }
}

/// How many CPUs there are.
#[inline]
pub fn count() -> usize {
    CPUS.get().map_or(1, Vec::len)
}

/// Slots a [`crate::cpu::PerCpu`] needs.
#[inline]
pub fn slots() -> usize {
    count()
}

/// How many CPUs may be reading ([`crate::rcu`]).
#[inline]
pub fn readers() -> usize {
    count()
}

/// This CPU's number.
#[inline]
pub fn current() -> usize {
    block::current_cpu()
}

/// `index` if it is below `length`, else 0: by computing, which no guess precedes.
#[inline]
pub fn clamp_index(index: usize, length: usize) -> usize {
    let mask: usize;
    // SAFETY: computes; the borrow of the comparison becomes all ones.
    unsafe {
        asm!("cmp {index}, {length}", "sbb {mask}, {mask}", index = in(reg) index, length = in(reg) length,
            mask = lateout(reg) mask, options(pure, nomem, nostack));
    }
    index & mask
}

/// The number by which interrupt controllers know `cpu`.
#[inline]
pub fn apic_id(cpu: usize) -> Option<u32> {
    CPUS.get()?.get(cpu).map(|block| block.apic_id.get())
}

/// Sets the kernel's handler.
pub fn install(handler: Arc<dyn Handler>) {
    HANDLER.call_once(|| handler);
}

/// The kernel's handler.
#[inline]
pub fn handler() -> Option<&'static dyn Handler> {
    HANDLER.get().map(|handler| &**handler)
}

/// A kick arrived.
pub fn kicked() {
    if let Some(handler) = handler() {
        handler.kicked();
    }
}

/// Runs `main` on every CPU.
pub fn start(main: Main) -> ! {
    MAIN.call_once(|| main);
    for cpu in (0..count()).filter(|cpu| *cpu != current()) {
        kick(cpu);
    }
    run()
}

/// Runs the kernel's main as soon as there is one.
pub fn run() -> ! {
    let main = loop {
        match MAIN.get() {
            Some(main) => break main,
            None => wait_for_interrupt(),
        }
    };
    main(current());
    loop {
        wait_for_interrupt();
    }
}

/// Interrupts `cpu`.
pub fn kick(cpu: usize) {
    local_apic::send_vector(cpu, vector::KICK);
}

/// Halts until an interrupt.
pub fn wait_for_interrupt() {
    // `sti` takes effect after the next instruction, so that nothing can come between the two.
    // SAFETY: the kernel is in a state where interrupts may be taken: it called this function.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Takes pending interrupts.
#[inline]
pub fn take_interrupts() {
    // SAFETY: as above.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}

/// One turn of a spin loop.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
    paging::serve_shootdown();
}
