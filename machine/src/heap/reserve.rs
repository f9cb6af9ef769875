//! Who may draw on the reserve: requests that have no fallible form.
//!
//! A growing vector can be refused, and its caller answers `ENOMEM`. A `Box`, an `Arc`, the node of a tree cannot: a refusal ends
//! the kernel. So the two are told apart. What can be refused runs inside [`fallible`], and is, as soon as the frame source
//! has no more than its reserve; all else goes on down to the last frame. The kernel begins nothing for a program while the
//! reserve isn't full, so that the most a call may draw ([`MOST_DRAWN`]) is there for each CPU.
//!
//! Whether a request can be refused is a mark of the CPU (of the thread, where CPUs are threads): nothing interrupts the kernel
//! between setting the mark and the request, and no poll ends in between.

use super::slab;
#[cfg(target_os = "none")]
use crate::cpu::{self, MAX_CPUS};
#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The most bytes that a program may cause to be allocated without a fallible form between two looks at the reserve: in one poll of
/// a call. clone(2) is the largest: process, thread, and the future that is the thread. `./x test draw` measures it.
pub const MOST_DRAWN: usize = 32 * 1024;

/// Frames that may take.
pub const MOST_FRAMES_DRAWN: usize = slab::most_frames(MOST_DRAWN);

/// A mark for each CPU, in cache lines of their own.
#[cfg(target_os = "none")]
#[repr(align(64))]
struct Mark(AtomicBool);

#[cfg(target_os = "none")]
static MARKS: [Mark; MAX_CPUS] = [const { Mark(AtomicBool::new(false)) }; MAX_CPUS];

#[cfg(not(target_os = "none"))]
thread_local! {
    static MARK: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// Sets this CPU's mark and returns what it was.
#[inline]
fn replace(mark: bool) -> bool {
    #[cfg(target_os = "none")]
    return MARKS.get(cpu::current()).is_some_and(|own| {
        let before = own.0.load(Relaxed);
        own.0.store(mark, Relaxed);
        before
    });
    #[cfg(not(target_os = "none"))]
    MARK.replace(mark)
}

/// Whether the request that is made now can be refused.
#[cfg_attr(machine = "sim", allow(dead_code, reason = "its heap is the target's, and refuses nothing"))]
#[inline]
pub(crate) fn can_be_refused() -> bool {
    #[cfg(target_os = "none")]
    return MARKS.get(cpu::current()).is_some_and(|own| own.0.load(Relaxed));
    #[cfg(not(target_os = "none"))]
    MARK.get()
}

/// Runs `body`, whose requests for kernel memory can be refused, such as `Vec::try_reserve`: it gets nothing of the reserve.
#[inline]
pub fn fallible<R>(body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            replace(self.0);
        }
    }
    let _restore = Restore(replace(true));
    body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "needs unwinding")]
    fn the_mark_is_set_inside_only() {
        assert!(!can_be_refused());
        let inner = fallible(|| (can_be_refused(), fallible(can_be_refused), can_be_refused()));
        assert_eq!(inner, (true, true, true));
        assert!(!can_be_refused());
        let unwound = std::panic::catch_unwind(|| fallible(|| std::panic::resume_unwind(Box::new(()))));
        assert!(unwound.is_err() && !can_be_refused());
    }
}
