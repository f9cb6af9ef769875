//! The heart: a thread enters user mode, comes back with a reason, gets its answer, and settles what is due before it goes
//! again.

use alloc::sync::Arc;
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use abi::Errno;
use machine::memory::UserFault;
use machine::user::{self, Exception, PageFault, Registers, Trap};
use memory::MemoryFault;
use vfs::NotReady;

use crate::Thread;
use crate::process::Image;
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
    /// The registers are as they should be: rt_sigreturn(2), and calls that don't return.
    Registers,
    /// The registers are as they should be, and the thread goes on in this: execve(2).
    Executed(NewImage),
}

/// What a thread that has executed a new program goes on in.
#[derive(Clone)]
pub struct NewImage(pub(crate) Arc<Image>);

impl fmt::Debug for NewImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NewImage")
    }
}

impl PartialEq for NewImage {
    fn eq(&self, other: &NewImage) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for NewImage {}

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

/// How far a call got without a future. Two words, to be returned in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// To the end: this goes into `rax`.
    Value(usize),
    /// To the end: the registers are as they should be.
    Registers,
    /// It has to wait, or is of a kind that may. So many bytes were moved already.
    Wait(usize),
    /// A page of user memory has to be fetched first: its address, with bit 0 set if it is to be written.
    Missing(usize),
    /// It takes long: others are to run, and then it goes on.
    Yield,
}

impl Attempt {
    /// How many bytes a transfer moved that has to wait now.
    pub fn moved(self) -> usize {
        if let Attempt::Wait(moved) = self { moved } else { 0 }
    }
}

impl From<Errno> for Attempt {
    fn from(errno: Errno) -> Attempt {
        Attempt::Value(errno.as_return_value())
    }
}

impl From<NotReady> for Attempt {
    fn from(stop: NotReady) -> Attempt {
        match stop {
            NotReady::Error(errno) => errno.into(),
            NotReady::WouldBlock | NotReady::Page(_) | NotReady::Elsewhere | NotReady::Signalled => Attempt::Wait(0),
            NotReady::Yield => Attempt::Yield,
            NotReady::Fault(UserFault { address, write, .. }) => {
                Attempt::Missing(usize::from(address.page().start()) + usize::from(write))
            }
        }
    }
}

/// Who answers system calls: the syscalls room. Cloned for every thread.
pub trait SystemCalls: Clone + Send + Sync + 'static {
    /// Does a call if it needs no future: most need none, and save the making of one.
    fn attempt(&self, thread: &Arc<Thread>, call: &Call) -> Attempt {
        let _ = (thread, call);
        Attempt::Wait(0)
    }

    /// Does what `attempt` has left of a call: `reached` is what it said.
    fn dispatch(&self, thread: &Arc<Thread>, call: Call, reached: Attempt) -> impl Future<Output = Outcome> + Send;

    /// Is told of every call that failed.
    #[cold]
    fn failed(&self, call: &Call, errno: Errno) {
        let _ = (call, errno);
    }
}

/// What a thread does in the kernel beside system calls, for `sched::Executor::longest_polls`: numbers no call has.
pub mod activity {
    /// A page fault.
    pub const FAULT: u32 = 508;
    /// Another exception.
    pub const EXCEPTION: u32 = 509;
    /// An interrupt, and what was due then.
    pub const INTERRUPTED: u32 = 510;
    /// Nothing yet: a new thread; and the kernel's own tasks.
    pub const NONE: u32 = 511;
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
    let mut passed = 0;
    poll_fn(move |context| {
        // Many that wait in calls may be woken at once, and each may draw on the reserve.
        if state.kernel().memory().frames().is_critical() && passed < TURNS && !state.has_attention(attention::EXIT) {
            passed += 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        passed = 0;
        let result = life.as_mut().poll(context);
        if result.is_pending() {
            state.with_registers(|registers| registers.park());
        }
        machine::memory::end_draw(state.task().clock().activity());
        result
    })
    .await;
}

/// So often a thread lets the others go first while the kernel is short of memory. Then it goes on, since it may hold what
/// somebody waits for who would give memory back.
const TURNS: u32 = 16;

async fn live<C: SystemCalls>(mut thread: Arc<Thread>, calls: C) {
    // Its process may have been stopped or ended before it began.
    let mut over = !thread.is_ready() && thread.settle(None).await;
    while !over {
        let mut interrupted = None;
        match thread.enter_user() {
            Event::Call(call) => {
                // What has no fallible form draws on the kernel's reserve: no call begins while that is short.
                if thread.lacks_memory() {
                    thread.wait_for_memory().await;
                }
                match calls.attempt(&thread, &call) {
                    Attempt::Value(value) => {
                        if let Some(errno) = Errno::of_return_value(value) {
                            calls.failed(&call, errno);
                        }
                        thread.with_registers(|registers| registers.set_result(value));
                    }
                    Attempt::Registers => {}
                    reached => match calls.dispatch(&thread, call, reached).await {
                        // Nobody but the thread itself exchanges what it executes in.
                        Outcome::Executed(image) => thread = thread.executing(image.0),
                        outcome => {
                            if let Outcome::Error(errno) = outcome {
                                calls.failed(&call, errno);
                            }
                            interrupted = thread.finish(outcome);
                        }
                    },
                }
            }
            Event::PageFault(fault) => thread.resolve(fault).await,
            Event::Exception(exception) => thread.raise_exception(exception),
            Event::Interrupted if thread.lacks_memory() => thread.wait_for_memory().await,
            Event::Interrupted => {}
            Event::Lost => thread.raise_loss(),
        }
        over = (!thread.is_ready() || interrupted.is_some()) && thread.settle(interrupted).await;
    }
    thread.end().await;
}

impl Thread {
    /// Leaves the kernel; returns why it came back. Edges 3 and 4 of the life of a thread.
    fn enter_user(&self) -> Event {
        let task = self.task();
        machine::memory::end_draw(task.clock().activity());
        let stretch = task.clock().enter_user();
        if stretch > sched::NOTED {
            task.executor().note(task, stretch);
        }
        let mut registers = self.registers().lock();
        let trap = user::enter(&mut registers, self.space().space());
        task.executor().begin_stretch(task.clock().leave_user());
        let (activity, event) = match trap {
            Trap::Syscall => {
                let call = Call { number: registers.syscall_number(), arguments: registers.arguments() };
                (call.number as u32, Event::Call(call))
            }
            Trap::PageFault(fault) => (activity::FAULT, Event::PageFault(fault)),
            Trap::Exception(exception) => (activity::EXCEPTION, Event::Exception(exception)),
            Trap::Interrupted => (activity::INTERRUPTED, Event::Interrupted),
            Trap::Lost => (activity::EXCEPTION, Event::Lost),
        };
        task.clock().set_activity(activity);
        event
    }

    /// Gives the program what its call returns. An interrupted call is returned: what it gives depends on the signal.
    fn finish(&self, outcome: Outcome) -> Option<Interrupted> {
        let value = match outcome {
            Outcome::Value(value) => value,
            Outcome::Error(errno) => errno.as_return_value(),
            Outcome::Interrupted(Interrupted::Eintr) => Errno::EINTR.as_return_value(),
            Outcome::Interrupted(interrupted) => return Some(interrupted),
            Outcome::Registers | Outcome::Executed(_) => return None,
        };
        self.with_registers(|registers| registers.set_result(value));
        None
    }

    /// Supplies the page that is missing, or sends the signal.
    async fn resolve(self: &Arc<Self>, fault: PageFault) {
        match self.space().resolve(fault.address.into(), fault.access) {
            Ok(_) => self.count_fault(false),
            Err(reason @ (MemoryFault::Wait(_) | MemoryFault::Busy | MemoryFault::OutOfMemory)) => {
                self.resolve_later(fault, reason).await;
            }
            Err(reason) => {
                self.count_fault(false);
                self.raise_fault(&fault, &reason);
            }
        }
    }

    /// The page has to be fetched from a device, somebody else changes the space, or somebody has to give memory back.
    #[cold]
    async fn resolve_later(self: &Arc<Self>, fault: PageFault, reason: MemoryFault) {
        self.count_fault(matches!(reason, MemoryFault::Wait(_)));
        let space = self.space().clone();
        if let Ok(Err(reason)) = self.killable(space.fault(fault.address.into(), fault.access)).await {
            self.raise_fault(&fault, &reason);
        }
    }

    /// Whether the kernel is short of memory for itself: nothing is begun then that may draw on its reserve.
    #[inline]
    fn lacks_memory(&self) -> bool {
        self.space().memory().frames().is_critical()
    }

    /// Goes no further until the kernel has memory for itself again.
    #[cold]
    async fn wait_for_memory(&self) {
        let _ = self.killable(self.space().wait_for_reserve()).await;
    }

    /// Whether nothing stands between the thread and user mode.
    #[inline]
    fn is_ready(&self) -> bool {
        !self.has_attention(u32::MAX) && !self.task().executor().should_yield()
    }

    /// Sees to everything that is due before user mode: the end, a stop, signals, somebody else's turn. True if the thread
    /// is to end. Edge 7 of the life of a thread, and the way to 8 and 10.
    async fn settle(self: &Arc<Self>, interrupted: Option<Interrupted>) -> bool {
        let mut interrupted = interrupted;
        loop {
            if self.has_attention(attention::EXIT) {
                return true;
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
                if self.lacks_memory() {
                    self.wait_for_memory().await;
                }
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
                registers.replace_call(abi::raw::general::__NR_restart_syscall as usize);
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
