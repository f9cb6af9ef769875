//! What the host machine knows of its stubs, the processes in which programs run, and decides about them: which pages of a space a stub
//! shows, with what rights, and what is still to be done there; and what its programs say.
//!
//! A stub is a **cache** of a space, as a TLB is of page tables. It shows what was touched, and may forget any of it at any time: a touch
//! then comes back as a fault, and the page is shown again.
//!
//! | file | what it has |
//! | --- | --- |
//! | `space` | [`Space`]: the pages of a space, its stub, and every change of them |
//! | `view` | what programs see of a space while it is changed |
//! | `state` | [`State`]: whose a stub is, what it shows, what is noted to be done |
//! | `change` | [`Change`]: one thing to be done |
//! | `claim` | what programs say |
//! | `registers` | a program's registers, of which a stub's thread may have the newest |
//! | `processes` | their end |
//! | `outside` | in what state the host has a thread, for threads that can't look |
//! | `meaning` | what it means that a program has stopped |
//! | `frame` | in which words: the registers of a program that has stopped |
//!
//! **Who calls.** `machine`, which makes the processes, and has them do what is noted here. It makes each change a system call of a kind that
//! can show nothing but frames of the machine, and only where programs have their memory, whatever is noted. Frames are handed around as the
//! owned references they are. So a mistake here can show a program a wrong page, and breaks no memory: of the kernel's own nothing is in a
//! frame that a process could map.
//!
//! **Who synchronises.** One lock around a space, and inside it that of its stub's state.

#![forbid(unsafe_code)]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod change;
pub mod claim;
pub mod frame;
pub mod meaning;
pub mod outside;
pub mod processes;
pub mod registers;
mod space;
mod state;
mod view;

use boundary::OutOfMemory;
pub use change::Change;
use pages::Owned;
pub use space::{Inner, Space};
pub use state::{NOBODY, State, new_number};
use std::sync::MutexGuard;
pub use view::Shown;

/// What a machine has its spaces and stubs from.
pub trait Host: Sized {
    /// A reference to a frame.
    type Frame: Owned;
    /// A process in which programs run.
    type Stub: Stub<Self>;

    /// The end of what programs can have.
    const END: usize;
    /// Pages that are shown together when one is touched: a power of two.
    const AROUND: usize;
    /// Changes that are noted before a stub is rather emptied.
    const MOST_CHANGES: usize;

    /// Runs `body`, which takes memory that can't be refused it in the middle of a change.
    fn apart<R>(body: impl FnOnce() -> R) -> R;
    /// Where in the machine's memory a frame lies, in bytes; none if it is another machine's.
    fn offset(frame: usize) -> Option<usize>;
    /// Mappings that the host lets a process have.
    fn most_mappings() -> usize;
    /// Counts pages that maps get.
    ///
    /// # Errors
    /// The machine may have no more of them.
    fn charge(pages: usize) -> Result<(), OutOfMemory>;
    /// Counts pages that have left maps.
    fn uncharge(pages: usize);
}

/// A stub's process, or the thread that was asked, is no more: somebody killed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl From<frame::Broken> for Gone {
    fn from(frame::Broken: frame::Broken) -> Gone {
        Gone
    }
}

/// A process in which programs run.
pub trait Stub<H: Host> {
    /// Locks the state if the stub still belongs to `space`.
    fn lock_for(&self, space: u64) -> Option<MutexGuard<'_, State<H>>>;
    /// To be called after changes were noted. What they took away is gone when this returns.
    fn settle(&self, state: &mut State<H>);
    /// Forgets everything: the stub shows nothing when this returns.
    fn empty(&self, state: &mut State<H>);
}

/// Adds to a list of what is in the machine's hands while it changes something.
fn push<H: Host, T>(list: &mut Vec<T>, value: T) {
    if list.len() == list.capacity() {
        H::apart(|| list.reserve(list.len().max(4)));
    }
    list.push(value);
}
