//! The host's accounts of processor time, for [`cores::Account`].

use cores::ProcessorTime;

/// This host.
pub struct Host;

impl ProcessorTime for Host {
    type Clock = libc::clockid_t;

    fn read(clock: libc::clockid_t) -> Option<u64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: fills the time.
        let result = unsafe { libc::clock_gettime(clock, &mut time) };
        (result == 0).then_some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    fn of_process(process: libc::pid_t) -> Option<u64> {
        let mut clock = 0;
        // SAFETY: fills the clock's number.
        let result = unsafe { libc::clock_getcpuclockid(process, &mut clock) };
        Self::read(clock).filter(|_| result == 0)
    }

    fn of_this_thread() -> Option<libc::clockid_t> {
        let mut clock = 0;
        // SAFETY: fills the clock's number.
        let result = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
        (result == 0).then_some(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::super::confine::state_of;
    use super::*;
    use cores::Account;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    const SECOND: u64 = 1_000_000_000;

    /// A process that computes until it is dropped.
    struct Busy(Child);

    impl Busy {
        fn new() -> Busy {
            Busy(Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap())
        }

        fn process(&self) -> libc::pid_t {
            self.0.id() as libc::pid_t
        }

        fn time(&self) -> u64 {
            Host::of_process(self.process()).unwrap()
        }

        /// Waits until it got so much.
        fn get(&self, nanoseconds: u64) {
            let start = self.time();
            while self.time() < start + nanoseconds {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn no_more_is_given_than_the_host_gave() {
        let account = Account::<Host>::default();
        let (first, second) = (Busy::new(), Busy::new());
        account.run(first.process());
        account.worked(SECOND, SECOND);
        let start = first.time();
        first.get(20_000_000);
        let (user, kernel) = account.worked(100 * SECOND, 100 * SECOND);
        assert!((20_000_000..=first.time() - start + 20_000_000).contains(&user), "{user}");
        assert!(kernel < SECOND, "this thread slept: {kernel}");
        // The time of both counts when the CPU goes from one to the other.
        first.get(10_000_000);
        account.run(second.process());
        second.get(10_000_000);
        assert!(account.working(100 * SECOND, 0).0 >= 20_000_000);
        let (user, _) = account.worked(100 * SECOND, 0);
        assert!((20_000_000..100 * SECOND).contains(&user), "{user}");
        // What passed is never made more.
        second.get(10_000_000);
        assert_eq!(account.worked(1_000_000, 0).0, 1_000_000);
        let spin = Instant::now();
        while spin.elapsed() < Duration::from_millis(20) {}
        assert_eq!(account.worked(0, 1_000).1, 1_000);
        assert!(account.worked(0, 100 * SECOND).1 > 1_000_000);
    }

    #[test]
    fn short_times_are_believed_and_count_later() {
        let account = Account::<Host>::default();
        let busy = Busy::new();
        account.run(busy.process());
        account.worked(SECOND, SECOND);
        for _ in 0..1000 {
            assert_eq!(account.worked(100_000, 0).0, 100_000);
        }
        // A tenth of a second was given out: the process must have got it before it gets more.
        busy.get(20_000_000);
        let (user, _) = account.worked(SECOND, 0);
        assert!(user < SECOND / 2, "{user}");
    }

    #[test]
    fn what_was_before_the_beginning_is_no_matter() {
        let account = Account::<Host>::default();
        let gone = Busy::new();
        let process = gone.process();
        drop(gone);
        account.run(process);
        let busy = Busy::new();
        account.run(busy.process());
        account.worked(SECOND, SECOND);
        assert!(account.worked(100 * SECOND, 0).0 < 100 * SECOND);
    }

    #[test]
    fn programs_and_the_kernel_are_believed_together_and_both_count_later() {
        let account = Account::<Host>::default();
        let stopped = Busy::new();
        account.run(stopped.process());
        // SAFETY: a child of this test.
        unsafe { libc::kill(stopped.process(), libc::SIGSTOP) };
        while state_of(stopped.process(), stopped.process()) != Some(b'T') {
            std::thread::yield_now();
        }
        account.worked(SECOND, SECOND);
        for _ in 0..1000 {
            assert_eq!(account.worked(0, 100_000).1, 100_000);
        }
        assert_eq!(
            account.worked(0, SECOND).1,
            0,
            "a tenth of a second was given out, which this thread has yet to get"
        );
        let (user, _) = account.worked(150_000, 100_000);
        assert_eq!(user, 0, "together more than is believed, and it got nothing");
    }

    #[test]
    fn of_a_process_that_is_gone_all_is_believed() {
        let account = Account::<Host>::default();
        let busy = Busy::new();
        account.run(busy.process());
        account.worked(SECOND, SECOND);
        drop(busy);
        assert_eq!(account.worked(SECOND, 0).0, SECOND);
        let other = Busy::new();
        account.run(other.process());
        assert_eq!(account.worked(SECOND, 0).0, SECOND, "nobody knows what the first one got at last");
        assert!(account.worked(100 * SECOND, 0).0 < 100 * SECOND);
    }
}
