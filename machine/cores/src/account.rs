//! What the host gave a CPU: the processor time of its thread, and of the processes in which it let programs run.
//!
//! Time that passes is measured at every border between a program and the kernel by a clock that costs nothing. But the host may have
//! taken the processor away meanwhile. Its own accounts know; reading them takes system calls, so they are read seldom: when what has passed
//! since is more than [`BELIEVED`]. Until then it is taken for given, and counts at the next reading: too much now is too little then.
//!
//! What the host says of a process of a stub is the time of all threads in it. With shared memory there is one for each CPU, which also
//! waits awake now and then; so the account can only say that less was given than passed, and this is all it is asked. With ptrace the
//! threads of one program on several CPUs share one account: there the time that the host took is seen only as far as it took it from all.

use crate::Number;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Nanoseconds for which the host is believed to have given all that passed.
const BELIEVED: u64 = 200_000;

/// The host's accounts of processor time, in nanoseconds.
pub trait ProcessorTime {
    /// The clock of a thread.
    type Clock: Copy + Send;

    /// What a process has been given, all its threads together; none if it is gone.
    fn of_process(process: Number) -> Option<u64>;

    /// The clock of this thread, for others too.
    fn of_this_thread() -> Option<Self::Clock>;

    /// What a thread has been given.
    fn read(clock: Self::Clock) -> Option<u64>;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One CPU's account.
pub struct Account<T: ProcessorTime> {
    /// The process programs ran in last, to be compared without the lock. One writer: the CPU.
    process: AtomicI32,
    books: Mutex<Books<T>>,
}

struct Books<T: ProcessorTime> {
    /// The clock of the CPU's thread, when it has begun.
    own: Option<T::Clock>,
    /// The process programs run in, and its clock when that began.
    program: Option<(Number, u64)>,
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

impl<T: ProcessorTime> Default for Account<T> {
    fn default() -> Account<T> {
        let books = Books { own: None, program: None, before: 0, is_incomplete: false, given_out: Given::default() };
        Account { process: AtomicI32::new(0), books: Mutex::new(books) }
    }
}

impl<T: ProcessorTime> Account<T> {
    /// The CPU lets a program run in this process from now on.
    pub fn run(&self, process: Number) {
        if self.process.load(Ordering::Relaxed) != process {
            self.process.store(process, Ordering::Relaxed);
            self.change(process);
        }
    }

    #[cold]
    fn change(&self, process: Number) {
        let books = &mut *lock(&self.books);
        books.close();
        books.program = T::of_process(process).map(|time| (process, time));
        books.is_incomplete |= books.program.is_none();
    }

    /// Of so much that has passed on this CPU since the last call: what the host gave.
    pub fn worked(&self, user: u64, kernel: u64) -> (u64, u64) {
        let books = &mut *lock(&self.books);
        if books.own.is_none() {
            // It begins: nothing is known of what was before.
            books.own = T::of_this_thread();
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

impl<T: ProcessorTime> Books<T> {
    /// The account of the process that ran programs is added up.
    fn close(&mut self) {
        if let Some((process, start)) = self.program.take() {
            match T::of_process(process) {
                Some(time) => self.before += time.saturating_sub(start),
                None => self.is_incomplete = true,
            }
        }
    }

    fn read(&self) -> Given {
        let program = self.program.and_then(|(process, start)| Some(T::of_process(process)?.saturating_sub(start)));
        Given { user: self.before + program.unwrap_or(0), kernel: self.own.and_then(T::read).unwrap_or(0) }
    }

    /// What of it can have been given. Where the host can't tell any more, all.
    fn limit(&self, given: Given, user: u64, kernel: u64) -> (u64, u64) {
        let is_gone = self.program.is_some_and(|(process, _)| T::of_process(process).is_none());
        let most =
            if self.is_incomplete || is_gone { u64::MAX } else { given.user.saturating_sub(self.given_out.user) };
        (user.min(most), kernel.min(given.kernel.saturating_sub(self.given_out.kernel)))
    }
}
