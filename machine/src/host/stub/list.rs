//! The page with a stub's list of system calls, as the kernel reaches it. The stub can read it, and can't write it.

use super::code::{CALLS, Call, Entry};
use super::trace::{self, Carried, Gone, Halted};
use crate::memory::PAGE_SIZE;
use crate::platform::copy;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system calls a list can hold: all but the end of the page.
pub const LIST_LENGTH: usize = (PAGE_SIZE - STACK_SIZE) / size_of::<Call>();

/// At the end, the stack for signals of the guest thread that is being made.
const STACK_SIZE: usize = 24;
const STACK: usize = PAGE_SIZE - STACK_SIZE;

/// See the module's page. The calls to it are made one at a time: with the stub's state locked, or before anybody has it.
pub struct List {
    page: *mut u8,
}

// SAFETY: the page is of the machine's memory, which outlives the stub, and is written atomically.
unsafe impl Send for List {}
// SAFETY: as above.
unsafe impl Sync for List {}

impl List {
    /// Where a stub has the stack that was written last.
    pub const STACK_ADDRESS: usize = CALLS + STACK;

    /// The list at `page`.
    ///
    /// # Safety
    /// `page` must stay valid for [`PAGE_SIZE`] bytes, be aligned to 8, and be for lists only.
    pub unsafe fn new(page: *mut u8) -> List {
        List { page }
    }

    /// Lets `thread` make these calls, [`LIST_LENGTH`] at most, one after the other. The proof is there if the host has carried out every
    /// one; None if it refused one: then that and the ones after it were not carried out.
    pub fn run(&self, thread: Halted, calls: impl Iterator<Item = Call>) -> Result<Option<Carried>, Gone> {
        let mut count = 0;
        for call in calls.take(LIST_LENGTH) {
            self.write(count * size_of::<Call>(), &call.0);
            count += 1;
        }
        trace::run_list(thread, Entry::Calls, CALLS, count)
    }

    /// Writes a stack for signals, as sigaltstack(2) wants it.
    pub fn put_stack(&self, stack: [usize; 3]) {
        self.write(STACK, &stack);
    }

    /// Writes words, atomically: even two stubs that had one page by mistake would do no more than each what the other is told.
    fn write(&self, offset: usize, words: &[usize]) {
        for (offset, word) in (offset..PAGE_SIZE).step_by(size_of::<usize>()).zip(words) {
            // SAFETY: the page has room for it, aligned to 8, and its words are accessed atomically.
            unsafe { AtomicUsize::from_ptr(self.page.add(offset).cast()) }.store(*word, Ordering::Relaxed);
        }
    }

    /// Wipes out where the last program's pages were.
    pub fn wipe(&self) {
        // SAFETY: the page is ours; the stub reads it only when told to, which nobody does now.
        unsafe { copy::zero(self.page, PAGE_SIZE) };
    }
}
