//! Futexes: sleeping until a word of user memory changes, see futex(2) and futex(7).
//!
//! The kernel keeps nothing about a futex that nobody waits for: those who wait stand in the table, see `table`.
//!
//! **Who calls.** kernel/syscalls parses futex(2) and waits; the exit of a thread wakes its `clear_child_tid` word and walks
//! its robust list.

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use memory::{AddressSpace, USER_TOP};

mod table;

pub use table::{Futexes, Line, Waiting};

/// What a waiter waits for if it doesn't say: any wake-up.
pub const ANY: u32 = raw::FUTEX_BITSET_MATCH_ANY;

/// What spreads the keys over the table.
type Hasher = hashbrown::DefaultHashBuilder;

/// How many entries of a robust list are looked at, as on Linux: the list is the program's, and may be a ring.
const ROBUST_LIST_LIMIT: usize = 2048;

/// Which word it is: the same for everybody who can see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// A word only one address space has.
    Private {
        /// Which address space.
        space: usize,
        /// Where in it.
        address: usize,
    },
    /// A word in memory that may be shared.
    Shared {
        /// What is mapped.
        object: usize,
        /// Where in it.
        offset: u64,
    },
}

impl Key {
    /// The key of the word at `address`; with `private` the program promises that only its own threads use it.
    ///
    /// # Errors
    /// `EINVAL` for an address that is not a multiple of four, `EFAULT` for one no program can have.
    pub fn new(space: &AddressSpace, address: usize, private: bool) -> Result<Key> {
        if !address.is_multiple_of(size_of::<u32>()) {
            return Err(Errno::EINVAL);
        }
        if address >= USER_TOP {
            return Err(Errno::EFAULT);
        }
        let shared = if private { None } else { space.shared_identity(address) };
        Ok(match shared {
            Some((object, offset)) => Key::Shared { object, offset },
            None => Key::Private { space: Arc::as_ptr(space.space()).addr(), address },
        })
    }
}

/// Marks every robust futex that a dying thread holds as owned by a dead one, and wakes a waiter of each: see
/// get_robust_list(2). `head` is what the thread gave to set_robust_list(2). A damaged list ends the walk.
pub async fn release_robust_list(futexes: &Futexes, space: &AddressSpace, head: usize, tid: u32) {
    let _ = walk_robust_list(futexes, space, head, tid).await;
}

async fn walk_robust_list(futexes: &Futexes, space: &AddressSpace, head: usize, tid: u32) -> Result<()> {
    let [mut entry, offset, pending] = space.read_value::<[usize; 3]>(head).await?;
    for _ in 0..ROBUST_LIST_LIMIT {
        // The lowest bit of a pointer tells of a priority-inheriting futex.
        let pointer = entry & !1;
        if pointer == head {
            break;
        }
        let next = space.read_value::<usize>(pointer).await;
        if pointer != pending & !1 {
            release(futexes, space, pointer.wrapping_add(offset), tid, false).await?;
        }
        entry = next?;
    }
    if pending & !1 != 0 {
        release(futexes, space, (pending & !1).wrapping_add(offset), tid, true).await?;
    }
    Ok(())
}

/// Releases one robust futex if `tid` holds it. A `pending` one may have been unlocked just before the thread died, with the
/// wake-up still to come: that is given in its place.
async fn release(futexes: &Futexes, space: &AddressSpace, address: usize, tid: u32, pending: bool) -> Result<()> {
    let key = Key::new(space, address, false)?;
    let mut word = space.load(address).await?;
    loop {
        if pending && word & raw::FUTEX_TID_MASK == 0 {
            futexes.wake(key, 1, ANY);
            return Ok(());
        }
        if word & raw::FUTEX_TID_MASK != tid & raw::FUTEX_TID_MASK {
            return Ok(());
        }
        let dead = word & raw::FUTEX_WAITERS | raw::FUTEX_OWNER_DIED;
        match space.compare_exchange(address, word, dead).await? {
            Ok(_) => break,
            Err(current) => word = current,
        }
    }
    if word & raw::FUTEX_WAITERS != 0 {
        futexes.wake(key, 1, ANY);
    }
    Ok(())
}
