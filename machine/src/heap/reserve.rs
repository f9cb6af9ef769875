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

/// What was drawn, for tests.
#[cfg(feature = "fail-allocations")]
pub(crate) mod drawn {
    use crate::cpu::{self, MAX_CPUS};
    use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

    /// As many kinds of work as are told apart.
    const KINDS: usize = 512;

    /// Bytes each CPU has drawn since it last looked, and what was the most at any time since.
    static NOW: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
    static PEAK: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
    /// The most of each kind of work.
    static MOST: [AtomicU32; KINDS] = [const { AtomicU32::new(0) }; KINDS];

    /// Counts a request that can't be refused.
    pub fn add(bytes: usize) {
        let Some((now, peak)) = NOW.get(cpu::current()).zip(PEAK.get(cpu::current())) else { return };
        peak.fetch_max(now.fetch_add(bytes, Relaxed) + bytes, Relaxed);
    }

    /// Counts what comes back. What was there before doesn't count: it need not be of a class that is asked for.
    pub fn subtract(bytes: usize) {
        NOW.get(cpu::current()).inspect(|now| now.store(now.load(Relaxed).saturating_sub(bytes), Relaxed));
    }

    /// What this CPU has drawn since the last call of this was for work of that kind.
    pub fn end(kind: u32) {
        NOW.get(cpu::current()).inspect(|now| now.store(0, Relaxed));
        let drawn = PEAK.get(cpu::current()).map_or(0, |peak| peak.swap(0, Relaxed));
        MOST.get(kind as usize).inspect(|most| _ = most.fetch_max(drawn as u32, Relaxed));
    }

    /// The most that was drawn for each kind of work, where anything was.
    pub fn each(mut tell: impl FnMut(u32, u32)) {
        for (kind, most) in (0..).zip(&MOST) {
            match most.load(Relaxed) {
                0 => {}
                drawn => tell(kind, drawn),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_set_inside_only() {
        assert!(!can_be_refused());
        let inner = fallible(|| (can_be_refused(), fallible(can_be_refused), can_be_refused()));
        assert_eq!(inner, (true, true, true));
        assert!(!can_be_refused());
        let unwound = std::panic::catch_unwind(|| fallible(|| std::panic::resume_unwind(Box::new(()))));
        assert!(unwound.is_err() && !can_be_refused());
    }
}
