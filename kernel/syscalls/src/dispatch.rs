//! From the number of a call to its function.
//!
//! A table and a function are made from the one in `table.rs`. [`ROWS`] has a plain function for each number (`now`, `try` and `part` rows):
//! it takes the registers and gives two words, without a future, the heap or the executor. [`Calls::waiting`] is the future of the
//! rest. A plain function that needs a page of user memory which has to be fetched says so, and is run again when the page is there.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::Errno;
use machine::memory::UserFault;
use process::{Attempt, Call, Failure, Interrupted, Outcome, SystemCalls, Thread};
use vfs::NotReady;

use crate::refusals::{Refusal, Refusals};
use crate::trace::Line;
use crate::user;

/// The system calls of one kernel: the answer to `process::SystemCalls`. Cloning it is cheap and shares the counters.
#[derive(Clone)]
pub struct Calls {
    refusals: Arc<Refusals>,
    trace: bool,
}

impl Calls {
    /// All calls of the table; `trace` prints one line for each.
    pub fn new(trace: bool) -> Calls {
        Calls { refusals: Arc::new(Refusals::default()), trace }
    }

    /// What programs asked for in vain.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Does the call from its start, and prints it when it is done.
    async fn traced(&self, thread: &Arc<Thread>, call: Call) -> Outcome {
        let memory = |address: usize, bytes: &mut [u8]| user::peek(thread, address, bytes);
        let line = Line::begin(call.number, call.arguments, &memory);
        let calls = Calls { trace: false, ..self.clone() };
        let outcome = match calls.attempt(thread, &call) {
            Attempt::Value(value) => outcome_of(value),
            Attempt::Registers => Outcome::Registers,
            reached => match resume_walks(thread).await {
                Ok(()) => calls.waiting(thread, &call, reached).await,
                Err(interrupted) => Outcome::Interrupted(interrupted),
            },
        };
        let text = line.finish(&outcome, &memory);
        thread.kernel().report(format_args!("[{}] {text}", thread.tid()));
        outcome
    }

    /// Runs a plain function until all pages it needs are there and it is done.
    async fn retry(&self, thread: &Arc<Thread>, call: &Call, reached: Attempt) -> Outcome {
        let mut missing = if let Attempt::Missing(page) = reached { Some(page) } else { None };
        loop {
            if let Some(page) = missing.take() {
                let fault = UserFault { copied: 0, address: (page & !1).into(), write: page & 1 != 0 };
                if let Err(errno) = user::fetch(thread, fault).await {
                    return Outcome::Error(errno);
                }
            }
            match self.attempt(thread, call) {
                Attempt::Value(value) => return outcome_of(value),
                Attempt::Registers => return Outcome::Registers,
                // No function of this kind has anything to wait for.
                Attempt::Wait(_) => return Outcome::Error(Errno::EAGAIN),
                Attempt::Yield => {
                    if let Err(interrupted) = thread.resume_walks().await {
                        return Outcome::Interrupted(interrupted);
                    }
                }
                Attempt::Missing(page) => missing = Some(page),
            }
        }
    }
}

/// Waits for what the plain function's paths wait for.
async fn resume_walks(thread: &Arc<Thread>) -> Result<(), Interrupted> {
    if thread.walks_wait() { thread.resume_walks().await } else { Ok(()) }
}

impl SystemCalls for Calls {
    #[inline]
    fn attempt(&self, thread: &Arc<Thread>, call: &Call) -> Attempt {
        if self.trace {
            return Attempt::Wait(0);
        }
        // Linux takes the number as an `int`: the upper half of the register doesn't count.
        let row = ROWS.get(call.number as u32 as usize).copied().unwrap_or(no_call);
        row(thread, &call.arguments)
    }

    async fn dispatch(&self, thread: &Arc<Thread>, call: Call, reached: Attempt) -> Outcome {
        let _end = EndOfWalks(thread);
        if self.trace {
            return Box::pin(self.traced(thread, call)).await;
        }
        if let Err(interrupted) = resume_walks(thread).await {
            return Outcome::Interrupted(interrupted);
        }
        self.waiting(thread, &call, reached).await
    }

    /// Counts it if it failed for want of a function or a flag.
    fn failed(&self, call: &Call, errno: Errno) {
        let flags = unknown_flags(call);
        let unknown_call = errno == Errno::ENOSYS && flags == 0;
        if unknown_call || (flags != 0 && matches!(errno, Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS)) {
            self.refusals.count(Refusal { number: call.number, flags });
        }
    }
}

/// Forgets the walks of a call that is over, or given up.
struct EndOfWalks<'a>(&'a Arc<Thread>);

impl Drop for EndOfWalks<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.forget_walks();
    }
}

/// What plain functions of calls return.
trait Answer {
    fn attempt(self) -> Attempt;
}

impl Answer for usize {
    fn attempt(self) -> Attempt {
        Attempt::Value(self)
    }
}

impl Answer for Outcome {
    fn attempt(self) -> Attempt {
        match self {
            Outcome::Value(value) => Attempt::Value(value),
            Outcome::Error(errno) => Attempt::Value(errno.as_return_value()),
            Outcome::Interrupted(_) => Attempt::Value(Errno::EINTR.as_return_value()),
            // Only a future executes a program.
            Outcome::Registers | Outcome::Executed(_) => Attempt::Registers,
        }
    }
}

impl Answer for Result<usize, Errno> {
    fn attempt(self) -> Attempt {
        self.map_or_else(|errno| Attempt::from(NotReady::from(errno)), Attempt::Value)
    }
}

impl<T: Answer> Answer for Result<T, NotReady> {
    fn attempt(self) -> Attempt {
        self.map_or_else(Attempt::from, T::attempt)
    }
}

impl Answer for () {
    fn attempt(self) -> Attempt {
        Attempt::Value(0)
    }
}

impl Answer for Result<(), Errno> {
    fn attempt(self) -> Attempt {
        self.map(|()| 0).attempt()
    }
}

impl Answer for Result<usize, Attempt> {
    fn attempt(self) -> Attempt {
        self.map_or_else(|unfinished| unfinished, Attempt::Value)
    }
}

/// What asynchronous functions return, as an outcome.
trait Conclusion {
    fn outcome(self) -> Outcome;
}

impl Conclusion for Result<Outcome, Failure> {
    fn outcome(self) -> Outcome {
        self.unwrap_or_else(Outcome::from)
    }
}

impl Conclusion for Result<usize, Failure> {
    fn outcome(self) -> Outcome {
        self.into()
    }
}

impl Conclusion for Result<(), Failure> {
    fn outcome(self) -> Outcome {
        self.map(|()| 0).into()
    }
}

/// What `rax` means to a program.
fn outcome_of(value: usize) -> Outcome {
    Errno::of_return_value(value).map_or(Outcome::Value(value), Outcome::Error)
}

/// A row of the table, for calls that need no future: takes the registers, gives two words.
type Row = fn(&Arc<Thread>, &[usize; 6]) -> Attempt;

/// More than there are numbers of calls.
const NUMBERS: usize = 512;

/// A number that no call has.
fn no_call(_: &Arc<Thread>, _: &[usize; 6]) -> Attempt {
    Errno::ENOSYS.into()
}

/// A call that is always done by its future.
fn only_waiting(_: &Arc<Thread>, _: &[usize; 6]) -> Attempt {
    Attempt::Wait(0)
}

macro_rules! row {
    (wait $function:path [$($argument:ident: $type:ty),*]) => { only_waiting };
    (rare $function:path [$($argument:ident: $type:ty),*]) => { only_waiting };
    ($kind:ident $function:path [$($argument:ident: $type:ty),*]) => {{
        fn row(thread: &Arc<Thread>, registers: &[usize; 6]) -> Attempt {
            let &[$($argument,)* ..] = registers;
            Answer::attempt($function(thread, $(<$type as Argument>::parse($argument)),*))
        }
        row
    }};
}

macro_rules! waiting_call {
    (now $calls:ident $call:ident $thread:ident $reached:ident $topic:ident $function:ident [$($argument:expr),*]) => {
        $calls.retry($thread, $call, $reached).await
    };
    (try $calls:ident $call:ident $thread:ident $reached:ident $topic:ident $function:ident then $waiting:ident [$($argument:expr),*]) => {
        Conclusion::outcome(crate::$topic::$waiting($thread, $($argument),*).await)
    };
    (part $calls:ident $call:ident $thread:ident $reached:ident $topic:ident $function:ident then $waiting:ident [$($argument:expr),*]) => {
        Conclusion::outcome(crate::$topic::$waiting($thread, $reached.moved(), $($argument),*).await)
    };
    (wait $calls:ident $call:ident $thread:ident $reached:ident $topic:ident $function:ident [$($argument:expr),*]) => {
        Conclusion::outcome(crate::$topic::$function($thread, $($argument),*).await)
    };
    (rare $calls:ident $call:ident $thread:ident $reached:ident $topic:ident $function:ident [$($argument:expr),*]) => {
        Conclusion::outcome(Box::pin(crate::$topic::$function($thread, $($argument),*)).await)
    };
}

macro_rules! dispatch {
    ($($topic:ident { $($(#[$only:meta])? $number:ident: $kind:ident $function:ident $(then $waiting:ident)? ($($argument:ident: $type:ty),*);)* })*) => {
        /// The rows by number.
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        static ROWS: [Row; NUMBERS] = {
            #[allow(unused_imports)]
            use crate::{argument::Argument, table::types::*};
            let mut rows: [Row; NUMBERS] = [no_call; NUMBERS];
            $($(
                $(#[$only])?
                {
                    rows[abi::raw::general::$number as usize] = row!($kind crate::$topic::$function [$($argument: $type),*]);
                }
            )*)*
            rows
        };

        impl Calls {
            /// The calls that may wait, and those whose plain function lacked a page.
            async fn waiting(&self, thread: &Arc<Thread>, call: &Call, reached: Attempt) -> Outcome {
                #[allow(unused_imports)]
                use crate::{argument::Argument, table::types::*};
                match call.number as u32 {
                    $($(
                        $(#[$only])?
                        abi::raw::general::$number => {
                            #[allow(unused_variables)]
                            let [$($argument,)* ..] = call.arguments;
                            waiting_call!(
                                $kind self call thread reached $topic $function $(then $waiting)?
                                [$(<$type as Argument>::parse($argument)),*]
                            )
                        }
                    )*)*
                    _ => Outcome::Error(Errno::ENOSYS),
                }
            }
        }

        /// The flags of a call that have no name in the table.
        fn unknown_flags(call: &Call) -> u32 {
            #[allow(unused_imports)]
            use crate::{argument::{Argument, unknown_bits}, table::types::*};
            match call.number as u32 {
                $($(
                    $(#[$only])?
                    abi::raw::general::$number => {
                        #[allow(unused_variables)]
                        let [$($argument,)* ..] = call.arguments;
                        0 $(| if <$type as Argument>::FLAGS.is_empty() {
                            0
                        } else {
                            unknown_bits(<$type as Argument>::FLAGS, $argument as u32)
                        })*
                    }
                )*)*
                _ => 0,
            }
        }
    };
}
system_calls!(dispatch);

#[cfg(test)]
mod tests {
    use super::*;
    use abi::raw::general as number;

    /// The size of the future a function makes.
    fn future_size<'a, F: Future>(_: fn(&'a Calls, &'a Arc<Thread>, Call, Attempt) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_a_call_is_small() {
        let size = future_size(<Calls as SystemCalls>::dispatch);
        assert!(size <= 1536, "{size} bytes: a thread's future is to stay below 4 KiB with all around it");
    }

    #[test]
    fn unknown_flags_are_found_in_all_arguments() {
        let call = |number: u32, arguments| Call { number: number as usize, arguments };
        let cloexec = number::O_CLOEXEC as usize;
        assert_eq!(unknown_flags(&call(number::__NR_pipe2, [0, cloexec | 0x4000, 0, 0, 0, 0])), 0x4000);
        assert_eq!(unknown_flags(&call(number::__NR_mprotect, [0, 0, 0x100, 0, 0, 0])), 0x100);
        assert_eq!(unknown_flags(&call(number::__NR_getpid, [usize::MAX; 6])), 0);
        assert_eq!(unknown_flags(&call(number::__NR_socket, [usize::MAX; 6])), 0);
    }
}
