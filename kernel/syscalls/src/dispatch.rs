//! From the number of a call to its function.
//!
//! Two functions made from the table do it: [`attempt`] calls what is plain (`now`, `try` and `part` rows), without a future,
//! the heap or the executor; [`waiting`] is the future of the rest. A plain function that needs a page of user memory
//! which has to be fetched says so, and is run again when the page is there.
//!
//! [`attempt`] is on the path of every call, and stays short: every row has a function of its own, which takes the
//! registers and gives two words, so that it is a jump through a table.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::Errno;
use machine::memory::UserFault;
use memory::PAGE_SIZE;
use process::{Call, Failure, Immediate, Outcome, SystemCalls, Thread};
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
        let outcome = match attempt(thread, &call) {
            Step::Value(value) => outcome_of(value),
            Step::Registers => Outcome::Registers,
            Step::Wait(moved) => waiting(thread, call, moved).await,
            Step::Missing(_) => waiting(thread, call, 0).await,
            Step::Yield => match thread.resume_walks().await {
                Ok(()) => waiting(thread, call, 0).await,
                Err(interrupted) => Outcome::Interrupted(interrupted),
            },
        };
        let text = line.finish(&outcome, &memory);
        thread.kernel().report(format_args!("[{}] {text}", thread.tid()));
        outcome
    }

    /// Counts a failed call if it failed for want of a function or a flag.
    #[cold]
    fn note(&self, call: &Call, errno: Errno) {
        let flags = unknown_flags(call);
        let unknown_call = errno == Errno::ENOSYS && flags == 0;
        if unknown_call || (flags != 0 && matches!(errno, Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS)) {
            self.refusals.count(Refusal { number: call.number, flags });
        }
    }
}

impl SystemCalls for Calls {
    #[inline]
    fn immediate(&self, thread: &Arc<Thread>, call: &Call) -> Immediate {
        if self.trace {
            return Immediate::Unfinished(0);
        }
        match attempt(thread, call) {
            Step::Value(value) => {
                if let Some(errno) = Errno::of_return_value(value) {
                    self.note(call, errno);
                }
                Immediate::Result(value)
            }
            Step::Registers => Immediate::Registers,
            Step::Wait(moved) => Immediate::Unfinished(moved),
            Step::Missing(_) | Step::Yield => Immediate::Unfinished(0),
        }
    }

    async fn dispatch(&self, thread: &Arc<Thread>, call: Call, moved: usize) -> Outcome {
        let _end = EndOfWalks(thread);
        if thread.walks_wait()
            && let Err(interrupted) = thread.resume_walks().await
        {
            return Outcome::Interrupted(interrupted);
        }
        let outcome =
            if self.trace { Box::pin(self.traced(thread, call)).await } else { waiting(thread, call, moved).await };
        if let Outcome::Error(errno) = outcome {
            self.note(&call, errno);
        }
        outcome
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

/// How far a plain function got. Two words, to be returned in registers.
#[derive(Clone, Copy)]
enum Step {
    /// To the end: what goes into `rax`.
    Value(usize),
    /// To the end, and the registers are as they should be.
    Registers,
    /// It can't finish now: the future must do it, of which so many bytes were moved already.
    Wait(usize),
    /// A page of user memory has to be fetched first: its address, with bit 0 set if it is to be written.
    Missing(usize),
    /// It takes long: others are to run, and then it goes on.
    Yield,
}

/// A transfer that did not succeed in one try.
pub(crate) enum Unfinished {
    /// It can't.
    Failed(Errno),
    /// It has to wait; so many bytes were moved already.
    Moved(usize),
}

impl From<Errno> for Unfinished {
    fn from(errno: Errno) -> Unfinished {
        Unfinished::Failed(errno)
    }
}

/// What plain functions of calls return.
trait Answer {
    fn step(self) -> Step;
}

impl Answer for usize {
    fn step(self) -> Step {
        Step::Value(self)
    }
}

impl Answer for Outcome {
    fn step(self) -> Step {
        match self {
            Outcome::Value(value) => Step::Value(value),
            Outcome::Error(errno) => Step::Value(errno.as_return_value()),
            Outcome::Interrupted(_) => Step::Value(Errno::EINTR.as_return_value()),
            // Only a future executes a program.
            Outcome::Registers | Outcome::Executed(_) => Step::Registers,
        }
    }
}

impl Answer for Result<usize, Errno> {
    fn step(self) -> Step {
        Step::Value(self.unwrap_or_else(Errno::as_return_value))
    }
}

impl Answer for NotReady {
    fn step(self) -> Step {
        match self {
            NotReady::Error(errno) => Step::Value(errno.as_return_value()),
            NotReady::WouldBlock | NotReady::Page(_) | NotReady::Elsewhere | NotReady::Signalled => Step::Wait(0),
            NotReady::Yield => Step::Yield,
            NotReady::Fault(UserFault { address, write, .. }) => {
                Step::Missing(address - address % PAGE_SIZE + usize::from(write))
            }
        }
    }
}

impl<T: Answer> Answer for Result<T, NotReady> {
    fn step(self) -> Step {
        self.map_or_else(NotReady::step, T::step)
    }
}

impl Answer for () {
    fn step(self) -> Step {
        Step::Value(0)
    }
}

impl Answer for Result<(), Errno> {
    fn step(self) -> Step {
        self.map(|()| 0).step()
    }
}

impl Answer for Result<usize, Unfinished> {
    fn step(self) -> Step {
        match self {
            Ok(moved) => Step::Value(moved),
            Err(Unfinished::Failed(errno)) => Step::Value(errno.as_return_value()),
            Err(Unfinished::Moved(moved)) => Step::Wait(moved),
        }
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

/// Runs a plain function until all pages it needs are there and it is done.
async fn retry(thread: &Arc<Thread>, call: &Call) -> Outcome {
    loop {
        match attempt(thread, call) {
            Step::Value(value) => return outcome_of(value),
            Step::Registers => return Outcome::Registers,
            // No function of this kind has anything to wait for.
            Step::Wait(_) => return Outcome::Error(Errno::EAGAIN),
            Step::Yield => {
                if let Err(interrupted) = thread.resume_walks().await {
                    return Outcome::Interrupted(interrupted);
                }
            }
            Step::Missing(page) => {
                let fault = UserFault { copied: 0, address: page & !1, write: page & 1 != 0 };
                if let Err(errno) = user::fetch(thread, fault).await {
                    return Outcome::Error(errno);
                }
            }
        }
    }
}

macro_rules! plain_call {
    (wait $call:ident $thread:ident $function:path [$($argument:ident: $type:ty),*]) => {
        Step::Wait(0)
    };
    (rare $call:ident $thread:ident $function:path [$($argument:ident: $type:ty),*]) => {
        Step::Wait(0)
    };
    ($kind:ident $call:ident $thread:ident $function:path [$($argument:ident: $type:ty),*]) => {{
        #[inline(never)]
        fn row(thread: &Arc<Thread>, registers: &[usize; 6]) -> Step {
            let &[$($argument,)* ..] = registers;
            Answer::step($function(thread, $(<$type as Argument>::parse($argument)),*))
        }
        row($thread, &$call.arguments)
    }};
}

macro_rules! waiting_call {
    (now $call:ident $thread:ident $moved:ident $topic:ident $function:ident [$($argument:expr),*]) => {
        retry($thread, &$call).await
    };
    (try $call:ident $thread:ident $moved:ident $topic:ident $function:ident then $waiting:ident [$($argument:expr),*]) => {
        Conclusion::outcome(crate::$topic::$waiting($thread, $($argument),*).await)
    };
    (part $call:ident $thread:ident $moved:ident $topic:ident $function:ident then $waiting:ident [$($argument:expr),*]) => {
        Conclusion::outcome(crate::$topic::$waiting($thread, $moved, $($argument),*).await)
    };
    (wait $call:ident $thread:ident $moved:ident $topic:ident $function:ident [$($argument:expr),*]) => {
        Conclusion::outcome(crate::$topic::$function($thread, $($argument),*).await)
    };
    (rare $call:ident $thread:ident $moved:ident $topic:ident $function:ident [$($argument:expr),*]) => {
        Conclusion::outcome(Box::pin(crate::$topic::$function($thread, $($argument),*)).await)
    };
}

macro_rules! dispatch {
    ($($topic:ident { $($number:ident: $kind:ident $function:ident $(then $waiting:ident)? ($($argument:ident: $type:ty),*);)* })*) => {
        /// Calls plain functions; says [`Step::Wait`] for a call that needs the future.
        fn attempt(thread: &Arc<Thread>, call: &Call) -> Step {
            #[allow(unused_imports)]
            use crate::{argument::Argument, table::types::*};
            // Linux takes the number as an `int`: the upper half of the register doesn't count.
            match call.number as u32 {
                $($(
                    abi::raw::general::$number => {
                        plain_call!($kind call thread crate::$topic::$function [$($argument: $type),*])
                    }
                )*)*
                _ => Step::Value(Errno::ENOSYS.as_return_value()),
            }
        }

        /// The calls that may wait, and those whose plain function lacked a page.
        async fn waiting(thread: &Arc<Thread>, call: Call, moved: usize) -> Outcome {
            #[allow(unused_imports)]
            use crate::{argument::Argument, table::types::*};
            match call.number as u32 {
                $($(
                    abi::raw::general::$number => {
                        #[allow(unused_variables)]
                        let [$($argument,)* ..] = call.arguments;
                        waiting_call!(
                            $kind call thread moved $topic $function $(then $waiting)?
                            [$(<$type as Argument>::parse($argument)),*]
                        )
                    }
                )*)*
                _ => Outcome::Error(Errno::ENOSYS),
            }
        }

        /// The flags of a call that have no name in the table.
        fn unknown_flags(call: &Call) -> u32 {
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
    fn future_size<'a, F: Future>(_: fn(&'a Calls, &'a Arc<Thread>, Call, usize) -> F) -> usize {
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
