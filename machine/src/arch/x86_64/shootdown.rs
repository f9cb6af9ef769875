//! Making CPUs forget translations (TLB shootdown): the instructions. What CPUs tell each other is in [`protocol`].

mod protocol;

use super::{local_apic, paging, speculation};
use crate::cpu::{self, MAX_CPUS};
use crate::memory::PAGE_SIZE;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic;
use protocol::{Hardware, Shootdown, Slot};

/// More pages than this are forgotten by forgetting everything of the space.
const MOST_PAGES: usize = 32;

static CPUS: Shootdown<Cpus, MAX_CPUS> = Shootdown::new(Cpus);

/// The machine's CPUs.
struct Cpus;

impl Hardware for Cpus {
    #[inline]
    fn current(&self) -> usize {
        cpu::current()
    }

    #[inline]
    fn count(&self) -> usize {
        cpu::count()
    }

    #[inline]
    fn own<'a>(&self, slots: &'a [Slot]) -> &'a Slot {
        // SAFETY: CPU numbers are below MAX_CPUS, and so many slots there are.
        unsafe { slots.get_unchecked(cpu::current()) }
    }

    fn kernel_root(&self) -> usize {
        paging::kernel_root()
    }

    fn use_tables(&self, root: usize) {
        // SAFETY: the kernel's tables are for ever, others stay by the contract of `load`; the kernel's half is the same in all.
        unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
    }

    fn forget(&self, pages: &Range<usize>) {
        if pages.len() > MOST_PAGES * PAGE_SIZE {
            return self.forget_everything();
        }
        for page in pages.clone().step_by(PAGE_SIZE) {
            // SAFETY: forgetting a translation has no effect but time.
            unsafe { asm!("invlpg [{}]", in(reg) page, options(nostack, preserves_flags)) };
        }
    }

    fn forget_everything(&self) {
        // SAFETY: CR3 keeps what it holds.
        unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags)) };
    }

    fn interrupt(&self, cpu: usize) {
        local_apic::send_shootdown(cpu);
    }

    fn pause(&self) {
        core::hint::spin_loop();
    }
}

/// As [`Shootdown::is_loaded`].
#[inline]
pub fn is_loaded(root: usize) -> bool {
    CPUS.is_loaded(root)
}

/// As [`Shootdown::load`], for a program other than the last.
///
/// # Safety
/// `root` is the root of a space, which calls [`evict`] before it frees it.
#[inline]
pub unsafe fn load(root: usize) {
    if !is_loaded(root) {
        speculation::between_programs();
        CPUS.load(root);
    }
}

/// As [`Shootdown::is_used_elsewhere`].
#[inline]
pub fn is_used_elsewhere(root: usize) -> bool {
    CPUS.is_used_elsewhere(root)
}

/// As [`Shootdown::join`].
pub fn join() {
    CPUS.join();
}

/// As [`Shootdown::flush`].
#[inline]
pub fn flush(root: usize, pages: Range<usize>) {
    CPUS.flush(root, pages);
}

/// As [`Shootdown::flush_kernel`].
pub fn flush_kernel() {
    CPUS.flush_kernel();
}

/// As [`Shootdown::evict`].
pub fn evict(root: usize) {
    CPUS.evict(root);
}

/// As [`Shootdown::serve`].
#[inline]
pub fn serve(idle: bool) {
    CPUS.serve(idle);
}
