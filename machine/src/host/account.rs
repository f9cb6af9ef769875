//! What the host gave a CPU: the processor time of its thread, and of the processes in which it let programs run.
//!
//! Time that passes is measured at every border between a program and the kernel by a clock that costs nothing. But the host may have
//! taken the processor away meanwhile. Its own accounts know; reading them takes system calls, so they are read seldom: when what has passed
//! since is more than [`BELIEVED`]. Until then it is taken for given, and counts at the next reading: too much now is too little then.
//!
//! What the host says of a process of a stub is the time of all threads in it. With shared memory there is one for each CPU, which also
//! waits awake now and then; so the account can only say that less was given than passed, and this is all it is asked. With ptrace the
//! threads of one program on several CPUs share one account: there the time that the host took is seen only as far as it took it from all.

use super::cpu::HostThread;
use super::machine::lock;
use libc::{clockid_t, pid_t};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

/// Nanoseconds for which the host is believed to have given all that passed.
const BELIEVED: u64 = 200_000;

/// One CPU's account.
#[derive(Default)]
pub struct Account {
    /// The process programs ran in last, to be compared without the lock. One writer: the CPU.
    process: AtomicI32,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// The clock of the CPU's thread, when it has begun.
    own: Option<clockid_t>,
    /// The process programs run in, and its clock when that began.
    program: Option<(pid_t, u64)>,
    /// What processes before it were given.
    before: u64,
    /// One of them was gone before its clock was read.
    is_incomplete: bool,
    /// What `worked` has given out so far.
    given_out: Given,
}

/// Nanoseconds for programs, and for the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Given {
    user: u64,
    kernel: u64,
}

/// A clock of the host, or none if its process is gone.
fn read(clock: clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the time.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    (result == 0).then_some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// What a process has been given, all its threads together.
fn of_process(process: pid_t) -> Option<u64> {
    let mut clock = 0;
    // SAFETY: fills the clock's number.
    let result = unsafe { libc::clock_getcpuclockid(process, &mut clock) };
    read(clock).filter(|_| result == 0)
}

/// The clock of this thread, for others too.
fn of_this_thread() -> Option<clockid_t> {
    let mut clock = 0;
    // SAFETY: fills the clock's number.
    let result = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
    (result == 0).then_some(clock)
}

impl Account {
    /// The CPU lets a program run in `thread`'s process from now on.
    pub fn run(&self, thread: HostThread) {
        if self.process.load(Ordering::Relaxed) != thread.process {
            self.process.store(thread.process, Ordering::Relaxed);
            self.change(thread.process);
        }
    }

    #[cold]
    fn change(&self, process: pid_t) {
        let books = &mut *lock(&self.books);
        books.close();
        books.program = of_process(process).map(|time| (process, time));
        books.is_incomplete |= books.program.is_none();
    }

    /// Of so much that has passed on this CPU since the last call: what the host gave.
    pub fn worked(&self, user: u64, kernel: u64) -> (u64, u64) {
        let books = &mut *lock(&self.books);
        if books.own.is_none() {
            // It begins: nothing is known of what was before.
            books.own = of_this_thread();
            books.given_out = books.read();
            books.is_incomplete = false;
            return (user, kernel);
        }
        if user + kernel < BELIEVED {
            books.given_out.user += user;
            books.given_out.kernel += kernel;
            return (user, kernel);
        }
        let given = books.read();
        let worked = books.limit(given, user, kernel);
        books.is_incomplete = false;
        books.given_out = given;
        worked
    }

    /// The same for who looks at another CPU: nothing is given out.
    pub fn working(&self, user: u64, kernel: u64) -> (u64, u64) {
        let books = lock(&self.books);
        if books.own.is_none() { (user, kernel) } else { books.limit(books.read(), user, kernel) }
    }
}

impl Books {
    /// The account of the process that ran programs is added up.
    fn close(&mut self) {
        if let Some((process, start)) = self.program.take() {
            match of_process(process) {
                Some(time) => self.before += time.saturating_sub(start),
                None => self.is_incomplete = true,
            }
        }
    }

    fn read(&self) -> Given {
        let program = self.program.and_then(|(process, start)| Some(of_process(process)?.saturating_sub(start)));
        Given { user: self.before + program.unwrap_or(0), kernel: self.own.and_then(read).unwrap_or(0) }
    }

    /// What of it can have been given. Where the host can't tell any more, all.
    fn limit(&self, given: Given, user: u64, kernel: u64) -> (u64, u64) {
        let is_gone = self.program.is_some_and(|(process, _)| of_process(process).is_none());
        let most =
            if self.is_incomplete || is_gone { u64::MAX } else { given.user.saturating_sub(self.given_out.user) };
        (user.min(most), kernel.min(given.kernel.saturating_sub(self.given_out.kernel)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::confine::outside::state_of;
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    const SECOND: u64 = 1_000_000_000;

    /// A process that computes until it is dropped.
    struct Busy(Child);

    impl Busy {
        fn new() -> Busy {
            Busy(Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap())
        }

        fn thread(&self) -> HostThread {
            let process = self.0.id() as pid_t;
            HostThread { process, thread: process, is_traced: false }
        }

        fn time(&self) -> u64 {
            of_process(self.0.id() as pid_t).unwrap()
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
        let account = Account::default();
        let (first, second) = (Busy::new(), Busy::new());
        account.run(first.thread());
        account.worked(SECOND, SECOND);
        let start = first.time();
        first.get(20_000_000);
        let (user, kernel) = account.worked(100 * SECOND, 100 * SECOND);
        assert!((20_000_000..=first.time() - start + 20_000_000).contains(&user), "{user}");
        assert!(kernel < SECOND, "this thread slept: {kernel}");
        // The time of both counts when the CPU goes from one to the other.
        first.get(10_000_000);
        account.run(second.thread());
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
        let account = Account::default();
        let busy = Busy::new();
        account.run(busy.thread());
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
        let account = Account::default();
        let gone = Busy::new();
        let thread = gone.thread();
        drop(gone);
        account.run(thread);
        let busy = Busy::new();
        account.run(busy.thread());
        account.worked(SECOND, SECOND);
        assert!(account.worked(100 * SECOND, 0).0 < 100 * SECOND);
    }

    #[test]
    fn programs_and_the_kernel_are_believed_together_and_both_count_later() {
        let account = Account::default();
        let stopped = Busy::new();
        account.run(stopped.thread());
        // SAFETY: a child of this test.
        unsafe { libc::kill(stopped.thread().process, libc::SIGSTOP) };
        while state_of(stopped.thread().process, stopped.thread().process) != Some(b'T') {
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
        let account = Account::default();
        let busy = Busy::new();
        account.run(busy.thread());
        account.worked(SECOND, SECOND);
        drop(busy);
        assert_eq!(account.worked(SECOND, 0).0, SECOND);
        let other = Busy::new();
        account.run(other.thread());
        assert_eq!(account.worked(SECOND, 0).0, SECOND, "nobody knows what the first one got at last");
        assert!(account.worked(100 * SECOND, 0).0 < 100 * SECOND);
    }
}
