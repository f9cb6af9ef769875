//! Making CPUs forget translations (TLB shootdown).
//!
//! Each CPU states in `LOADED` the root of the tables it uses: [`load`]. Whoever has changed entries of a space calls
//! [`flush`], with the space's lock held and before the frames that were mapped are dropped. It flushes this CPU, and writes a
//! request for the others that have the space loaded: into its own `REQUESTS` slot what to forget and a bit for each CPU that
//! must, into each one's `INCOMING` the bit of its own number; then it interrupts them and waits until all bits are
//! gone.
//!
//! **No deadlock.** A CPU that has to answer is in user mode or idle (the interrupt makes it serve), or in the kernel with
//! interrupts off, where every loop that waits for another CPU, spin locks and this one included, calls
//! `cpu::relax`, which serves; and where code that does not wait leaves the kernel soon.
//!
//! **No stale translation.** Let A change an entry and flush, and B load the space. In A: exchange of the entry (a full
//! barrier), then the read of `LOADED[B]`. In B: exchange of `LOADED[B]` (a full barrier), then `mov cr3`, then walks.
//! If A reads the old `LOADED[B]`, A's read came before B's exchange in the order of all locked instructions, so A's
//! entry was visible before B's first walk. Otherwise A sees B and asks it. While B changes from one space to another it says
//! `CHANGING`, which everybody takes for their own space: so a CPU that still has the old root in CR3 is
//! asked by the old space too, and answers after the change. Hence, when [`flush`] returns, no CPU uses what was removed,
//! and when [`evict`] returns, none has the root in CR3: the frames may be used for other things.
//!
//! **Requests are not mixed up.** A CPU has one request at a time, and writes it only while no bit of its slot is set. The
//! bit in `INCOMING` is set (release) after the slot is written, and taken (acquire) before it is read; the bit in the
//! slot is cleared (release) after the flush, and seen (acquire) before frames are dropped.

use super::{local_apic, paging};
use crate::cpu::{self, MAX_CPUS};
use crate::memory::PAGE_SIZE;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// More pages than this are forgotten by forgetting everything of the space.
const MOST_PAGES: usize = 32;
/// In `LOADED`: no user space.
const NOTHING: usize = 0;
/// In `LOADED`: between two spaces. No physical address of a table.
const CHANGING: usize = 1;

#[repr(align(128))]
struct Cpu {
    loaded: AtomicUsize,
    incoming: AtomicU64,
    /// The request this CPU has sent: who has not answered yet, of which space, which pages, and whether to unload it.
    unanswered: AtomicU64,
    root: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    unload: AtomicBool,
}

static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        loaded: AtomicUsize::new(NOTHING),
        incoming: AtomicU64::new(0),
        unanswered: AtomicU64::new(0),
        root: AtomicUsize::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        unload: AtomicBool::new(false),
    }
}; MAX_CPUS];

#[inline]
fn this_cpu() -> &'static Cpu {
    // SAFETY: CPU numbers are below MAX_CPUS.
    unsafe { CPUS.get_unchecked(cpu::current()) }
}

/// True if this CPU uses the tables at `root`.
#[inline]
pub fn is_loaded(root: usize) -> bool {
    this_cpu().loaded.load(Ordering::Relaxed) == root
}

/// Makes this CPU use the tables at `root`, a space's.
///
/// # Safety
/// `root` is the root of a space, which calls [`evict`] before it frees it.
#[inline]
pub unsafe fn load(root: usize) {
    if !is_loaded(root) {
        // SAFETY: by contract of the caller.
        unsafe { change(root, root) }
    }
}

/// Makes this CPU use the kernel's own tables.
pub fn unload() {
    if !is_loaded(NOTHING) {
        // SAFETY: the kernel's tables are for ever.
        unsafe { change(paging::kernel_root(), NOTHING) }
    }
}

/// # Safety
/// `root` is the root of tables with the kernel's half in them that stay while this CPU uses them.
#[inline(never)]
unsafe fn change(root: usize, name: usize) {
    let loaded = &this_cpu().loaded;
    loaded.swap(CHANGING, Ordering::SeqCst);
    // SAFETY: by contract of the caller; the kernel's half is the same in all tables.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
    loaded.store(name, Ordering::Release);
}

/// Forgets the translations of `pages` that this CPU has cached of its current space, and all of tables.
fn forget(root: usize, pages: &Range<usize>) {
    if pages.len() > MOST_PAGES * PAGE_SIZE {
        // SAFETY: `root` is what CR3 holds already.
        unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
        return;
    }
    for page in pages.clone().step_by(PAGE_SIZE) {
        // SAFETY: forgetting a translation has no effect but time.
        unsafe { asm!("invlpg [{}]", in(reg) page, options(nostack, preserves_flags)) };
    }
}

/// Makes all CPUs forget the translations of `pages` in the space at `root`. An empty range does nothing.
#[inline]
pub fn flush(root: usize, pages: Range<usize>) {
    if pages.is_empty() {
        return;
    }
    if is_loaded(root) {
        forget(root, &pages);
    }
    let others = users_elsewhere(root);
    if others != 0 {
        ask(others, root, &pages, false);
    }
}

/// Makes all CPUs let go of the space at `root`, whose tables are about to be freed or emptied.
pub fn evict(root: usize) {
    if is_loaded(root) {
        unload();
    }
    let others = users_elsewhere(root);
    if others != 0 {
        ask(others, root, &(0..0), true);
    }
}

/// The other CPUs that use the tables at `root`, as bits. What was changed in the tables before must have been changed by locked
/// instructions, or not be in use.
#[inline]
fn users_elsewhere(root: usize) -> u64 {
    let this = cpu::current();
    let mut users = 0;
    for (number, cpu) in CPUS.iter().take(cpu::count()).enumerate() {
        let loaded = cpu.loaded.load(Ordering::SeqCst);
        if number != this && (loaded == root || loaded == CHANGING) {
            users |= 1 << number;
        }
    }
    users
}

#[cold]
fn ask(cpus: u64, root: usize, pages: &Range<usize>, unload: bool) {
    let this = this_cpu();
    this.root.store(root, Ordering::Relaxed);
    this.start.store(pages.start, Ordering::Relaxed);
    this.end.store(pages.end, Ordering::Relaxed);
    this.unload.store(unload, Ordering::Relaxed);
    this.unanswered.store(cpus, Ordering::Relaxed);
    for (number, cpu) in CPUS.iter().enumerate() {
        if cpus >> number & 1 == 1 {
            cpu.incoming.fetch_or(1 << cpu::current(), Ordering::Release);
        }
    }
    local_apic::send_shootdown(cpus);
    while this.unanswered.load(Ordering::Acquire) != 0 {
        cpu::relax();
    }
}

/// Does what other CPUs have asked this one to do. `idle` says that it runs no program: then it lets go of the space
/// altogether, and is not asked again.
#[inline]
pub fn serve(idle: bool) {
    if this_cpu().incoming.load(Ordering::Relaxed) != 0 {
        answer(idle);
    }
}

#[cold]
fn answer(idle: bool) {
    let bit = 1 << cpu::current();
    let senders = this_cpu().incoming.swap(0, Ordering::Acquire);
    for (number, sender) in CPUS.iter().enumerate() {
        if senders >> number & 1 == 0 {
            continue;
        }
        let root = sender.root.load(Ordering::Relaxed);
        if is_loaded(root) {
            if idle || sender.unload.load(Ordering::Relaxed) {
                unload();
            } else {
                forget(root, &(sender.start.load(Ordering::Relaxed)..sender.end.load(Ordering::Relaxed)));
            }
        }
        sender.unanswered.fetch_and(!bit, Ordering::Release);
    }
}
