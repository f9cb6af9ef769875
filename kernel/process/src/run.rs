//! The heart: a thread enters user mode, comes back with a reason, gets its answer, and settles what is due before it goes
//! again.

use alloc::sync::Arc;
use core::future::{Future, poll_fn};
use core::pin::pin;

use abi::Errno;
use machine::user::{self, Exception, PageFault, Registers, Trap};
use memory::MemoryFault;

use crate::Thread;
use crate::signal::{attention, mask};

/// A system call as the program made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub number: usize,
    /// Its six registers.
    pub arguments: [usize; 6],
}

/// What a system call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returns this.
    Value(usize),
    /// It fails.
    Error(Errno),
    /// A signal interrupted it.
    Interrupted(Interrupted),
    /// The registers are as they should be: execve(2), rt_sigreturn(2), and calls that don't return.
    Registers,
}

/// What becomes of a call that was interrupted, once the signal has been dealt with. See signal(7), "Interruption of
/// system calls".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// `EINTR`, whatever happened.
    Eintr,
    /// Starts again, unless a handler ran that was set without `SA_RESTART` (Linux's `ERESTARTSYS`).
    Restart,
    /// Starts again (`ERESTARTNOINTR`).
    RestartAlways,
    /// Starts again, unless any handler ran (`ERESTARTNOHAND`).
    RestartUnlessHandled,
    /// Goes on with restart_syscall(2), unless any handler ran (`ERESTART_RESTARTBLOCK`): for relative timeouts.
    RestartBlock(Resume),
}

/// How restart_syscall(2) goes on with a call: the same call, with its deadline fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The call.
    pub call: Call,
    /// When it is over, in nanoseconds of `machine::time::now`; `None`: never.
    pub deadline: Option<u64>,
}

/// Why a call did not succeed: for `?` in the functions that do calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It failed.
    Errno(Errno),
    /// It was interrupted.
    Interrupted(Interrupted),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Errno(errno)
    }
}

impl From<Interrupted> for Failure {
    fn from(interrupted: Interrupted) -> Failure {
        Failure::Interrupted(interrupted)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Outcome {
        match failure {
            Failure::Errno(errno) => Outcome::Error(errno),
            Failure::Interrupted(interrupted) => Outcome::Interrupted(interrupted),
        }
    }
}

impl From<Result<usize, Failure>> for Outcome {
    fn from(result: Result<usize, Failure>) -> Outcome {
        result.map_or_else(Outcome::from, Outcome::Value)
    }
}

/// How far a call got without a future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    /// To the end: this goes into `rax`.
    Result(usize),
    /// To the end: the registers are as they should be.
    Registers,
    /// It has to wait, or is of a kind that may. So many bytes were moved already.
    Unfinished(usize),
}

/// Who answers system calls: the syscalls room. Cloned for every thread.
pub trait SystemCalls: Clone + Send + Sync + 'static {
    /// Does a call if it needs no future: most need none, and save the making of one.
    fn immediate(&self, thread: &Arc<Thread>, call: &Call) -> Immediate {
        let _ = (thread, call);
        Immediate::Unfinished(0)
    }

    /// Does a call, or what `immediate` has left of it: `moved` bytes were moved already.
    fn dispatch(&self, thread: &Arc<Thread>, call: Call, moved: usize) -> impl Future<Output = Outcome> + Send;
}

/// Why a thread is back in the kernel.
enum Event {
    Call(Call),
    PageFault(PageFault),
    Exception(Exception),
    Interrupted,
    Lost,
}

/// The whole life of a thread, as its task polls it. When a poll leaves the thread waiting, what the program has in the
/// CPU's floating-point registers is saved.
pub(crate) async fn run<C: SystemCalls>(thread: Arc<Thread>, calls: C) {
    let state = thread.state().clone();
    let mut life = pin!(live(thread, calls));
    poll_fn(move |context| {
        let result = life.as_mut().poll(context);
        if result.is_pending() {
            state.with_registers(Registers::park);
        }
        result
    })
    .await;
}

async fn live<C: SystemCalls>(mut thread: Arc<Thread>, calls: C) {
    loop {
        let mut interrupted = None;
        match thread.enter_user() {
            Event::Call(call) => match calls.immediate(&thread, &call) {
                Immediate::Result(value) => thread.with_registers(|registers| registers.set_result(value)),
                Immediate::Registers => {}
                Immediate::Unfinished(moved) => {
                    interrupted = thread.finish(calls.dispatch(&thread, call, moved).await);
                }
            },
            Event::PageFault(fault) => thread.resolve(fault).await,
            Event::Exception(exception) => thread.raise_exception(exception),
            Event::Interrupted => thread.heed_shortage().await,
            Event::Lost => thread.raise_loss(),
        }
        if !thread.is_ready() || interrupted.is_some() {
            let mut over = thread.settle(interrupted).await;
            // Even if it is over: what ends is the new program, whose memory is to be given back. And what came for the
            // thread while it executed is to be seen to before the new program runs.
            while let Some(successor) = thread.take_successor() {
                thread = successor;
                over = over || thread.settle(None).await;
            }
            if over {
                break;
            }
        }
    }
    thread.end().await;
}

impl Thread {
    /// Leaves the kernel; returns why it came back.
    fn enter_user(&self) -> Event {
        let task = self.task();
        let stretch = task.clock().enter_user();
        if stretch > sched::WATCHDOG_LIMIT {
            task.executor().report(task, stretch);
        }
        let mut registers = self.registers().lock();
        let trap = user::enter(&mut registers, self.space().space());
        task.clock().leave_user();
        match trap {
            Trap::Syscall => Event::Call(Call { number: registers.syscall_number(), arguments: registers.arguments() }),
            Trap::PageFault(fault) => Event::PageFault(fault),
            Trap::Exception(exception) => Event::Exception(exception),
            Trap::Interrupted => Event::Interrupted,
            Trap::Lost => Event::Lost,
        }
    }

    /// Gives the program what its call returns. An interrupted call is returned: what it gives depends on the signal.
    fn finish(&self, outcome: Outcome) -> Option<Interrupted> {
        let value = match outcome {
            Outcome::Value(value) => value,
            Outcome::Error(errno) => errno.as_return_value(),
            Outcome::Interrupted(Interrupted::Eintr) => Errno::EINTR.as_return_value(),
            Outcome::Interrupted(interrupted) => return Some(interrupted),
            Outcome::Registers => return None,
        };
        self.with_registers(|registers| registers.set_result(value));
        None
    }

    /// Supplies the page that is missing, or sends the signal.
    async fn resolve(self: &Arc<Self>, fault: PageFault) {
        self.count_fault(false);
        match self.space().resolve(fault.address, fault.access) {
            Ok(_) => {}
            Err(reason @ (MemoryFault::Wait(_) | MemoryFault::OutOfMemory)) => self.resolve_later(fault, reason).await,
            Err(reason) => self.raise_fault(&fault, &reason),
        }
    }

    /// The page has to be fetched from a device, or somebody has to give memory back.
    #[cold]
    async fn resolve_later(self: &Arc<Self>, fault: PageFault, reason: MemoryFault) {
        self.count_fault(matches!(reason, MemoryFault::Wait(_)));
        let space = self.space().clone();
        if let Ok(Err(reason)) = self.killable(space.fault(fault.address, fault.access)).await {
            self.raise_fault(&fault, &reason);
        }
    }

    /// Goes no further while the kernel is short of memory for itself.
    async fn heed_shortage(&self) {
        if self.space().memory().frames().is_critical() {
            let _ = self.killable(self.space().wait_for_reserve()).await;
        }
    }

    /// Whether nothing stands between the thread and user mode.
    #[inline]
    fn is_ready(&self) -> bool {
        !self.has_attention(u32::MAX) && !self.task().executor().should_yield()
    }

    /// Sees to everything that is due before user mode: the end, a stop, signals, somebody else's turn. True if the thread
    /// is to end.
    async fn settle(self: &Arc<Self>, interrupted: Option<Interrupted>) -> bool {
        let mut interrupted = interrupted;
        loop {
            if self.has_attention(attention::EXIT) {
                return true;
            }
            if self.has_attention(attention::EXECUTED) {
                return false;
            }
            if self.has_attention(attention::PROCESSOR_TIMERS) {
                self.lower_attention(attention::PROCESSOR_TIMERS);
                self.process().watch_processor_time();
            }
            if self.has_attention(attention::STOP) {
                self.park_stopped().await;
                continue;
            }
            if self.has_attention(attention::SIGNAL) && self.deliver(&mut interrupted).await {
                continue;
            }
            if let Some(interrupted) = interrupted.take() {
                self.restart(interrupted);
            }
            if self.has_attention(attention::RESTORE_MASK) {
                mask::restore(self);
                continue;
            }
            if self.task().executor().should_yield() {
                sched::yield_now().await;
                self.heed_shortage().await;
                continue;
            }
            if self.is_ready() {
                return false;
            }
        }
    }

    /// The call was interrupted and no handler ran: it starts again.
    fn restart(&self, interrupted: Interrupted) {
        self.with_registers(|registers| match interrupted {
            Interrupted::Eintr => resume_call(registers, false),
            Interrupted::Restart | Interrupted::RestartAlways | Interrupted::RestartUnlessHandled => {
                resume_call(registers, true);
            }
            Interrupted::RestartBlock(resume) => {
                self.set_resume(resume);
                resume_call(registers, true);
                registers.general.rax = abi::raw::general::__NR_restart_syscall as usize;
            }
        });
    }
}

/// Makes an interrupted call fail with `EINTR`, or start again when the program goes on.
pub(crate) fn resume_call(registers: &mut Registers, restarts: bool) {
    if restarts {
        registers.restart_call();
    } else {
        registers.set_result(Errno::EINTR.as_return_value());
    }
}
