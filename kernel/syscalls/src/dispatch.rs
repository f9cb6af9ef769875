//! From the number of a call to its function.
//!
//! Two functions made from the table do it: [`immediate`] calls what is plain (`now` and `try` rows), without a future,
//! the heap or the executor; [`waiting`] is the future of the rest. A plain function that needs a page of user memory
//! which has to be fetched says so, and is run again when the page is there.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::Errno;
use machine::memory::UserFault;
use process::{Call, Failure, Interrupted, Outcome, SystemCalls, Thread};
use vfs::Stop;

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

    /// Prints the call when it is done.
    async fn traced(&self, thread: &Arc<Thread>, call: Call) -> Outcome {
        let memory = |address: usize, bytes: &mut [u8]| user::peek(thread, address, bytes);
        let line = Line::begin(call.number, call.arguments, &memory);
        let outcome = answer(thread, call).await;
        let text = line.finish(&outcome, &memory);
        thread.kernel().report(format_args!("[{}] {text}", thread.tid()));
        outcome
    }

    /// Counts a failed call if it failed for want of a function or a flag.
    #[cold]
    fn note(&self, call: Call, errno: Errno) {
        let flags = unknown_flags(call);
        let unknown_call = errno == Errno::ENOSYS && flags == 0;
        if unknown_call || (flags != 0 && matches!(errno, Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS)) {
            self.refusals.count(Refusal { number: call.number, flags });
        }
    }
}

impl SystemCalls for Calls {
    async fn dispatch(&self, thread: &Arc<Thread>, call: Call) -> Outcome {
        let outcome = if self.trace { Box::pin(self.traced(thread, call)).await } else { answer(thread, call).await };
        if let Outcome::Error(errno) = outcome {
            self.note(call, errno);
        }
        outcome
    }
}

/// How far a plain function got.
enum Step {
    /// To the end.
    Done(Outcome),
    /// It can't finish now: the future must do it.
    Wait,
    /// User memory has to be fetched first.
    Fault(UserFault),
}

/// What functions of calls return, as an outcome.
trait Answer {
    fn step(self) -> Step;
}

impl Answer for usize {
    fn step(self) -> Step {
        Step::Done(Outcome::Value(self))
    }
}

impl Answer for Outcome {
    fn step(self) -> Step {
        Step::Done(self)
    }
}

impl Answer for Result<usize, Errno> {
    fn step(self) -> Step {
        Step::Done(match self {
            Ok(value) => Outcome::Value(value),
            Err(errno) => Outcome::Error(errno),
        })
    }
}

impl Answer for Result<usize, Stop> {
    fn step(self) -> Step {
        match self {
            Ok(value) => Step::Done(Outcome::Value(value)),
            Err(Stop::Error(errno)) => Step::Done(Outcome::Error(errno)),
            Err(Stop::WouldBlock) => Step::Wait,
            Err(Stop::Signalled) => Step::Done(Outcome::Interrupted(Interrupted::Restart)),
            Err(Stop::Fault(fault)) => Step::Fault(fault),
        }
    }
}

impl Answer for Result<Outcome, Stop> {
    fn step(self) -> Step {
        match self {
            Ok(outcome) => Step::Done(outcome),
            Err(stop) => Err::<usize, Stop>(stop).step(),
        }
    }
}

impl Answer for Result<(), Errno> {
    fn step(self) -> Step {
        self.map(|()| 0).step()
    }
}

impl Answer for Result<(), Stop> {
    fn step(self) -> Step {
        self.map(|()| 0).step()
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

/// Does a call: at once if that is possible.
async fn answer(thread: &Arc<Thread>, call: Call) -> Outcome {
    loop {
        match immediate(thread, call) {
            Step::Done(outcome) => return outcome,
            Step::Wait => return waiting(thread, call).await,
            Step::Fault(fault) => match user::fetch(thread, fault).await {
                Ok(()) => {}
                Err(errno) => return Outcome::Error(errno),
            },
        }
    }
}

macro_rules! plain_call {
    (now $topic:ident $function:ident ($($argument:expr),*) $thread:ident) => {
        Answer::step(crate::$topic::$function($thread, $($argument),*))
    };
    (try $topic:ident $function:ident ($($argument:expr),*) $thread:ident) => {
        Answer::step(crate::$topic::$function($thread, $($argument),*))
    };
    ($kind:ident $topic:ident $function:ident ($($argument:expr),*) $thread:ident) => {
        Step::Wait
    };
}

macro_rules! waiting_call {
    (now $topic:ident $function:ident ($($argument:expr),*) $thread:ident) => {
        Outcome::Error(Errno::ENOSYS)
    };
    (try $topic:ident $function:ident then $waiting:ident ($($argument:expr),*) $thread:ident) => {
        Conclusion::outcome(crate::$topic::$waiting($thread, $($argument),*).await)
    };
    (wait $topic:ident $function:ident ($($argument:expr),*) $thread:ident) => {
        Conclusion::outcome(crate::$topic::$function($thread, $($argument),*).await)
    };
    (rare $topic:ident $function:ident ($($argument:expr),*) $thread:ident) => {
        Conclusion::outcome(Box::pin(crate::$topic::$function($thread, $($argument),*)).await)
    };
}

macro_rules! dispatch {
    ($($topic:ident { $($number:ident: $kind:ident $function:ident $(then $waiting:ident)? ($($argument:ident: $type:ty),*);)* })*) => {
        /// Calls plain functions; says [`Step::Wait`] for a call that needs the future.
        #[inline]
        fn immediate(thread: &Arc<Thread>, call: Call) -> Step {
            #[allow(unused_imports)]
            use crate::{argument::Argument, table::types::*};
            // Linux takes the number as an `int`: the upper half of the register doesn't count.
            match call.number as u32 {
                $($(
                    abi::raw::general::$number => {
                        #[allow(unused_variables)]
                        let [$($argument,)* ..] = call.arguments;
                        plain_call!($kind $topic $function ($(<$type as Argument>::parse($argument)),*) thread)
                    }
                )*)*
                _ => Step::Done(Outcome::Error(Errno::ENOSYS)),
            }
        }

        /// The calls that may wait.
        async fn waiting(thread: &Arc<Thread>, call: Call) -> Outcome {
            #[allow(unused_imports)]
            use crate::{argument::Argument, table::types::*};
            match call.number as u32 {
                $($(
                    abi::raw::general::$number => {
                        #[allow(unused_variables)]
                        let [$($argument,)* ..] = call.arguments;
                        waiting_call!(
                            $kind $topic $function $(then $waiting)? ($(<$type as Argument>::parse($argument)),*) thread
                        )
                    }
                )*)*
                _ => Outcome::Error(Errno::ENOSYS),
            }
        }

        /// The flags of a call that have no name in the table.
        fn unknown_flags(call: Call) -> u32 {
            #[allow(unused_imports)]
            use crate::{argument::{Argument, unknown_bits}, table::types::*};
            match call.number as u32 {
                $($(
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
    fn future_size<'a, F: Future>(_: fn(&'a Calls, &'a Arc<Thread>, Call) -> F) -> usize {
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
        assert_eq!(unknown_flags(call(number::__NR_pipe2, [0, cloexec | 0x4000, 0, 0, 0, 0])), 0x4000);
        assert_eq!(unknown_flags(call(number::__NR_mprotect, [0, 0, 0x100, 0, 0, 0])), 0x100);
        assert_eq!(unknown_flags(call(number::__NR_getpid, [usize::MAX; 6])), 0);
        assert_eq!(unknown_flags(call(number::__NR_socket, [usize::MAX; 6])), 0);
    }
}
