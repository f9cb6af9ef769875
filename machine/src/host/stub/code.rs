//! The stubs' own code, and where it lies: one page of instructions and of filters, followed by a page with the list of system
//! calls to make. Both can't be written by the stub; the kernel writes them through its own aliases.

use super::block;
use super::filter;
use crate::memory::PAGE_SIZE;
use crate::platform::bpf::Instruction;
use std::arch::global_asm;
use stubs::frame::{self, BLOCK_SIZE};

global_asm!(
    include_str!("code.s"),
    MMAP = const libc::SYS_mmap,
    MUNMAP = const libc::SYS_munmap,
    PRCTL = const libc::SYS_prctl,
    CLONE = const libc::SYS_clone,
    PAUSE = const libc::SYS_pause,
    FUTEX = const libc::SYS_futex,
    SIGRETURN = const libc::SYS_rt_sigreturn,
    BLOCK = const BLOCK_SIZE,
    TRAPPED = const block::TRAPPED,
    KERNEL_SLEEPS = const block::KERNEL_SLEEPS,
    GUEST_SLEEPS = const block::GUEST_SLEEPS,
    SPIN = const block::SPIN,
    SIGNAL = const frame::SIGNAL,
    INFORMATION = const frame::INFORMATION,
    CONTEXT = const frame::CONTEXT,
    FS = const frame::FS,
    GS = const frame::GS,
);

unsafe extern "C" {
    static machine_stub_start: u8;
    static machine_stub_end: u8;
    static machine_stub_empty: u8;
    static machine_stub_calls: u8;
    static machine_stub_one: u8;
    static machine_stub_clone: u8;
    static machine_stub_park: u8;
    static machine_stub_signal: u8;
}

/// Where the stubs' own pages are: the end of what programs may have.
pub const BASE: usize = 0x7fff_ff00_0000;

/// The code.
pub const CODE: usize = BASE;

/// The list of calls.
pub const CALLS: usize = BASE + PAGE_SIZE;

/// The blocks of the guest threads, one for each CPU.
pub const BLOCKS: usize = BASE + (1 << 20);

/// The end of user space on the host, in any case.
pub const HOST_TOP: usize = 0x7fff_ffff_f000;

/// Where the filters' programs lie in the page of code. What describes each lies right before it.
const FILTER: usize = 2048;
const GUEST_FILTER: usize = 3072;
const DESCRIPTION: usize = 16;

/// One system call of a list: number and arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Call(pub [usize; 7]);

/// An entry point.
#[derive(Clone, Copy)]
pub enum Entry {
    /// Executes the list.
    Calls,
    /// Executes the one system call that is in the registers.
    One,
    /// Makes a child or a thread.
    Clone,
    /// Waits.
    Park,
    /// The handler of a guest thread's signals.
    Signal,
}

impl Entry {
    /// Its address in a stub.
    pub fn address(self) -> usize {
        let symbol = match self {
            Entry::Calls => &raw const machine_stub_calls,
            Entry::One => &raw const machine_stub_one,
            Entry::Clone => &raw const machine_stub_clone,
            Entry::Park => &raw const machine_stub_park,
            Entry::Signal => &raw const machine_stub_signal,
        };
        CODE + offset(symbol)
    }
}

/// Where a stub has the instruction that makes any call: what a test of its walls jumps to.
#[cfg(test)]
pub fn one_call() -> usize {
    Entry::One.address()
}

/// Whether an address in a stub is right behind one of the traps with which each piece of its code ends.
pub fn is_behind_trap(address: usize) -> bool {
    const TRAP: u8 = 0xcc;
    let length = offset(&raw const machine_stub_end);
    let before = address.wrapping_sub(CODE + 1);
    // SAFETY: the code lies between the two symbols.
    before < length && unsafe { (&raw const machine_stub_start).add(before).read() } == TRAP
}

fn offset(symbol: *const u8) -> usize {
    symbol.addr() - (&raw const machine_stub_start).addr()
}

/// Where the emptying code begins, from the start of the page.
pub fn emptying_offset() -> usize {
    offset(&raw const machine_stub_empty)
}

/// Where the description of the filter lies in a stub.
pub const fn filter_description() -> usize {
    CODE + FILTER - DESCRIPTION
}

/// The same for the filter of guest threads.
pub const fn guest_filter_description() -> usize {
    CODE + GUEST_FILTER - DESCRIPTION
}

/// Fills the page of code.
///
/// # Safety
/// `page` is writable for 4096 bytes, and nobody executes it yet.
pub unsafe fn write_page(page: *mut u8) {
    let length = offset(&raw const machine_stub_end);
    let (stubs, guests) = (filter::of_stubs(CODE), filter::of_guests(CODE));
    assert!(length <= FILTER - DESCRIPTION && FILTER + size_of_val(&*stubs) <= GUEST_FILTER - DESCRIPTION);
    assert!(GUEST_FILTER + size_of_val(&*guests) <= PAGE_SIZE);
    // SAFETY: by contract of the caller; everything fits, as was just checked.
    unsafe {
        page.copy_from_nonoverlapping(&raw const machine_stub_start, length);
        for (at, filter) in [(FILTER, stubs), (GUEST_FILTER, guests)] {
            page.add(at - DESCRIPTION).cast::<[u64; 2]>().write([filter.len() as u64, (CODE + at) as u64]);
            page.add(at).cast::<Instruction>().copy_from_nonoverlapping(filter.as_ptr(), filter.len());
        }
    }
}
