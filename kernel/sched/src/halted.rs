//! CPUs that halt, and how they are woken.
//!
//! A halting CPU and a waker cannot miss each other: the CPU announces itself *before* it looks at its queue for the last time, the
//! waker looks for the announcement *after* it has queued, and interrupts stay off from that last look to the halt, so the
//! kick ends the halt.
//!
//! ```text
//!     CPU                                  waker
//!     announce                             put the task in its queue
//!     fence                                fence
//!     a task in the queue? -> run it       announced? -> take the announcement away, kick
//! ```

use crate::atomic::{Ordering, fence};
use crate::cpu_set::AtomicCpuSet;

/// CPUs that halt or are about to.
#[derive(Debug)]
pub struct Halted(AtomicCpuSet);

impl Halted {
    /// All run.
    pub const fn new() -> Halted {
        Halted(AtomicCpuSet::new())
    }

    /// `cpu` is about to halt. It looks at its queue afterwards.
    pub fn announce(&self, cpu: usize) {
        self.0.insert(cpu);
        fence(Ordering::SeqCst);
    }

    /// `cpu` does not halt any more.
    pub fn withdraw(&self, cpu: usize) {
        self.0.remove(cpu);
    }

    /// Whether the caller, who has put a task in the queue of `cpu`, has to kick it out of its halt: only the first of several
    /// wakers does.
    pub fn claim(&self, cpu: usize) -> bool {
        fence(Ordering::SeqCst);
        self.0.contains(cpu) && self.0.remove(cpu)
    }

    /// The set, for choosing a CPU.
    pub fn cpus(&self) -> &AtomicCpuSet {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halt_is_announced_and_claimed_once() {
        let halted = Halted::new();
        halted.announce(3);
        halted.announce(5);
        assert_eq!(halted.cpus().word(0), 1 << 3 | 1 << 5);
        halted.withdraw(3);
        assert_eq!(halted.cpus().word(0), 1 << 5);
        assert!(!halted.claim(3) && halted.claim(5) && !halted.claim(5));
        assert_eq!(halted.cpus().word(0), 0);
        halted.announce(1);
        halted.announce(2);
        assert!(halted.claim(2));
        assert_eq!(halted.cpus().word(0), 1 << 1);
    }
}
