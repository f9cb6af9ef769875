//! How many descriptors folders may take.
//!
//! Two kinds are counted, for the whole process, whose limit (`RLIMIT_NOFILE`) they share with everything else in it. A
//! *known* node has a descriptor only to be found again by: it is opened when it is first needed, and the one longest
//! out of use is closed when there are too many. An *opened* node is in use by a program: it keeps its descriptor, and
//! beyond the limit opening is `ENFILE`, as on a Linux whose table of files is full.

use super::node::Inner;
use crate::{HostError, Result};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// What there may be of each kind.
struct Limits {
    known: usize,
    opened: usize,
}

static LIMITS: LazyLock<Limits> = LazyLock::new(|| {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20).min(1 << 20) as usize;
    // Half of all for programs' files, an eighth to find files by; the rest is for the machine and whoever it lives
    // with.
    Limits { known: (limit / 8).clamp(8, 8192), opened: (limit / 2).max(8) }
});

/// The known nodes that have a descriptor, those longest out of use in front. Nodes that are gone stay until their
/// turn.
static KNOWN: Mutex<VecDeque<Weak<Inner>>> = Mutex::new(VecDeque::new());

static OPENED: AtomicUsize = AtomicUsize::new(0);

fn known() -> MutexGuard<'static, VecDeque<Weak<Inner>>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enters a node that now has a descriptor, and closes those of others if there are too many.
pub fn remember(node: Weak<Inner>) {
    let mut queue = known();
    queue.push_back(node);
    let surplus = queue.len().saturating_sub(LIMITS.known);
    let closed = take_oldest(&mut queue, surplus);
    drop(queue);
    drop(closed);
}

/// Takes `count` nodes out of the queue, but those used since they were last looked at get another round.
fn take_oldest(queue: &mut VecDeque<Weak<Inner>>, count: usize) -> Vec<impl Drop + use<>> {
    let mut closed = Vec::new();
    let (mut left, mut looks) = (count, queue.len() * 2);
    while left > 0
        && looks > 0
        && let Some(oldest) = queue.pop_front()
    {
        looks -= 1;
        match oldest.upgrade() {
            Some(node) if node.was_used() => queue.push_back(oldest),
            Some(node) => {
                node.forget_descriptor();
                // Dropped outside the lock: it may be the last reference, with parents to let go of.
                closed.push(node);
                left -= 1;
            }
            None => left -= 1,
        }
    }
    closed
}

/// Runs a call that makes a descriptor; if the host has none left, once more after closing half of what is known.
pub fn with_room<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> Result<T> {
    let exhausted = |errno: Errno| errno == Errno::MFILE || errno == Errno::NFILE;
    match call() {
        Err(errno) if exhausted(errno) => {
            let mut queue = known();
            let half = queue.len().div_ceil(2);
            let closed = take_oldest(&mut queue, half);
            drop(queue);
            drop(closed);
            // It is the machine's limit, not the program's.
            call().map_err(|errno| if exhausted(errno) { super::ENFILE } else { errno.into() })
        }
        result => Ok(result?),
    }
}

/// The right to one descriptor of an opened node.
#[derive(Debug)]
pub struct Permit(());

impl Permit {
    /// # Errors
    /// `ENFILE`.
    pub fn take() -> Result<Permit> {
        if OPENED.fetch_add(1, Ordering::Relaxed) < LIMITS.opened {
            return Ok(Permit(()));
        }
        OPENED.fetch_sub(1, Ordering::Relaxed);
        Err(super::ENFILE)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        OPENED.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<Errno> for HostError {
    fn from(errno: Errno) -> HostError {
        HostError(errno.raw_os_error() as u16)
    }
}
