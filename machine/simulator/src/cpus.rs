//! [`Cpus`]: CPUs that are one thread, or a test's; what interrupts them, by the [`Clock`].

use crate::{Clock, Due};
use alloc::sync::Arc;
use boundary::Handler;
use spin::Once;

/// The CPUs of a machine, `CPUS` at most.
pub struct Cpus<const CPUS: usize> {
    /// The machine's time.
    pub clock: Clock<CPUS>,
    handler: Once<Arc<dyn Handler>>,
}

/// Which CPU a thread plays, where there are threads.
#[cfg(not(target_os = "none"))]
mod played {
    use core::cell::Cell;

    std::thread_local! {
        static CURRENT: Cell<usize> = const { Cell::new(0) };
    }

    pub fn get() -> usize {
        CURRENT.get()
    }

    pub fn set(cpu: usize) {
        CURRENT.set(cpu);
    }
}

#[cfg(target_os = "none")]
mod played {
    pub fn get() -> usize {
        0
    }

    pub fn set(_cpu: usize) {}
}

impl<const CPUS: usize> Cpus<CPUS> {
    /// One CPU.
    pub const fn new() -> Cpus<CPUS> {
        Cpus { clock: Clock::new(), handler: Once::new() }
    }

    /// The CPU this thread plays: 0 unless told.
    pub fn current(&self) -> usize {
        played::get().min(CPUS - 1)
    }

    /// Makes this thread play `cpu`. Where there are no threads there is one CPU.
    pub fn set_current(&self, cpu: usize) {
        played::set(cpu);
    }

    /// Sets the kernel's handler. The first call counts.
    pub fn install(&self, handler: Arc<dyn Handler>) {
        self.handler.call_once(|| handler);
    }

    /// Lets time go on to what this CPU waits for, and handles it. If nothing can ever come the machine has stopped for good, and says so.
    ///
    /// # Panics
    /// The only CPU waits, with no alarm set.
    pub fn wait_for_interrupt(&self) {
        while !self.clock.wait(self.current()) {
            assert!(self.clock.count() > 1, "the only CPU waits, with no alarm set: nothing will ever happen again");
            relax();
        }
        self.take_interrupts();
    }

    /// Handles what is pending.
    pub fn take_interrupts(&self) {
        let Due { kicked, alarm } = self.clock.take(self.current());
        if let Some(handler) = self.handler.get() {
            if kicked {
                handler.kicked();
            }
            if alarm {
                handler.alarm();
            }
        }
    }
}

impl<const CPUS: usize> Default for Cpus<CPUS> {
    fn default() -> Cpus<CPUS> {
        Cpus::new()
    }
}

/// One turn of a spin loop: others may go on.
pub fn relax() {
    #[cfg(not(target_os = "none"))]
    std::thread::yield_now();
    #[cfg(target_os = "none")]
    core::hint::spin_loop();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    struct Counting(AtomicUsize);

    impl Handler for Counting {
        fn alarm(&self) {
            self.0.fetch_add(1, SeqCst);
        }

        fn kicked(&self) {
            self.0.fetch_add(10, SeqCst);
        }
    }

    #[test]
    fn an_alarm_and_a_kick_are_handled_once() {
        let (cpus, counting) = (Cpus::<4>::new(), Arc::new(Counting(AtomicUsize::new(0))));
        cpus.install(counting.clone());
        cpus.clock.set_alarm(0, Some(1_000_000));
        cpus.wait_for_interrupt();
        cpus.take_interrupts();
        assert_eq!(counting.0.load(SeqCst), 1);
        cpus.clock.kick(0);
        cpus.wait_for_interrupt();
        assert_eq!(counting.0.load(SeqCst), 11);
        cpus.set_current(1000);
        assert_eq!(cpus.current(), 3);
        cpus.set_current(0);
    }

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "needs unwinding")]
    #[should_panic(expected = "nothing will ever happen again")]
    fn a_machine_that_can_only_wait_says_so() {
        Cpus::<1>::new().wait_for_interrupt();
    }
}
