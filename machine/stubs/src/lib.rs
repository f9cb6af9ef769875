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
//! | `pool` | [`Pool`]: making stubs ahead of need, handing them out, taking them back |
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
mod pool;
pub mod processes;
pub mod registers;
mod space;
mod state;
mod view;

use boundary::OutOfMemory;
pub use change::Change;
use pages::Owned;
pub use pool::{Pool, Shortage};
pub use space::{Inner, Space};
pub use state::{NOBODY, State, new_number};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// Changes that are made at once.
    const MOST_AT_ONCE: usize;
    /// The most stubs a machine makes.
    const MOST_STUBS: usize;

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

    /// Whether what is taken away is gone at once, as it has to be; not, in a test that shows what comes of it.
    fn takes_at_once() -> bool {
        true
    }

    /// Whether guest threads are killed before a stub shows another space; as above.
    fn retires() -> bool {
        true
    }

    /// Something was taken away from a stub.
    fn note_loss() {}

    /// A stub was handed on.
    fn note_handed_on() {}
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
    /// What it is at.
    fn state(&self) -> &Mutex<State<H>>;

    /// The number it was [made](Pool::serve) with.
    fn number(&self) -> usize;

    /// Makes some changes, [`Host::MOST_AT_ONCE`] at most, one after the other. Returns whether the host was seen to carry out every one.
    ///
    /// # Errors
    /// The process is gone, or does not do what it is told.
    fn make(&self, changes: &[Change]) -> Result<bool, Gone>;

    /// Kills all threads that can reach the stub's memory, and waits until they run no more. [`end`](Self::end) is still to be called.
    fn stop(&self);

    /// Whether there are threads that run programs untraced.
    fn has_guests(&self) -> bool;

    /// Kills those that might still run the program of a space that loses the stub, and wipes out where its pages were.
    fn retire(&self);

    /// Kills the process, and waits until it is gone.
    fn end(&self);

    /// Locks the state if the stub still belongs to `space`.
    fn lock_for(&self, space: u64) -> Option<MutexGuard<'_, State<H>>> {
        Some(lock(self.state())).filter(|state| state.is_of(space))
    }

    /// To be called after changes were noted. What they took away is gone when this returns: the host was seen to carry it out.
    fn settle(&self, state: &mut State<H>) {
        if H::takes_at_once() && state.takes_away() && self.carry_out(state).is_err() {
            // It does not do what it is told, or is gone itself: so no thread that has its memory may go on.
            self.stop();
            state.give_up();
        }
    }

    /// Forgets everything: the stub shows nothing when this returns.
    fn empty(&self, state: &mut State<H>) {
        state.forget();
        self.settle(state);
    }

    /// Carries out all that was noted. If the host refuses something, most likely for want of memory or mappings, all is forgotten: an
    /// empty stub is always right, and what is touched next is shown again.
    ///
    /// # Errors
    /// The process is gone, or there was hardly anything to forget, so that it would not help.
    fn carry_out(&self, state: &mut State<H>) -> Result<(), Gone> {
        while !state.is_settled() {
            let changes = state.take_changes();
            let mut are_made = true;
            for changes in changes.chunks(H::MOST_AT_ONCE) {
                state.count(changes);
                are_made = self.make(changes)?;
                if !are_made {
                    break;
                }
            }
            if are_made {
                state.are_carried_out(changes);
            } else if state.is_nearly_empty() {
                return Err(Gone);
            } else {
                state.forget();
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds to a list of what is in the machine's hands while it changes something.
fn push<H: Host, T>(list: &mut Vec<T>, value: T) {
    if list.len() == list.capacity() {
        H::apart(|| list.reserve(list.len().max(4)));
    }
    list.push(value);
}
