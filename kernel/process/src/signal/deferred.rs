//! What a signal has still to do to very many, where nobody waits until it is done.
//!
//! Who posts a signal often can't wait: an interrupt, or a call that is over at once. Some hundred processes or threads are told there
//! and then; the others are told by a task of the kernel, in slices ([`Kernel::deliver_deferred`]). Without the task, or without memory
//! to note what is left, all are told at once.
//!
//! **In order.** A signal never overtakes an earlier one on its way to the same group: it is deferred as a whole, and kill(2) waits
//! ([`Deferred::passed`]). Of a signal that is deferred again before it has begun its way, only the later one remains: so the list is
//! never longer than there are groups and signals.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::mem;

use abi::signal::Signal;
use machine::memory::fallible;
use sync::{Budget, SpinLock, WaitQueue};

use super::send::{self, Recipients, Walk};
use crate::{Kernel, Pid, Process};

/// Who is told at once; of others, who is left is told by the task.
pub(crate) const AT_ONCE: usize = 256;

/// What the task has to do.
enum Work {
    /// A signal of the kernel goes on its way through a group.
    Signal(Signal, Walk),
    /// Threads have yet to look whether their process is stopped.
    Stop(Arc<Process>),
}

impl Work {
    /// The group a signal is on its way to.
    fn group(&self) -> Option<Pid> {
        match self {
            Work::Signal(_, walk) => walk.group(),
            Work::Stop(_) => None,
        }
    }

    /// Whether it is this signal to this group, and has not begun its way.
    fn is_unbegun(&self, signal: Signal, group: Option<Pid>) -> bool {
        matches!(self, Work::Signal(other, walk) if *other == signal && walk.group() == group && !walk.has_begun())
    }
}

/// See the module's page.
#[derive(Default)]
pub(crate) struct Deferred {
    state: SpinLock<State>,
    /// Woken when there is work.
    arrived: WaitQueue,
    /// Woken when a signal has reached its whole group.
    ended: WaitQueue,
}

#[derive(Default)]
struct State {
    list: VecDeque<(u64, Work)>,
    /// The signal that is on its way now: its number, and its group.
    current: Option<(u64, Pid)>,
    /// The number of the work that came last.
    last: u64,
    /// The task is there.
    served: bool,
}

impl State {
    /// Adds work at the end. Gives it back if it is to be done at once.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn push(&mut self, work: Work) -> Result<(), Work> {
        if !self.served || fallible(|| self.list.try_reserve(1)).is_err() {
            return Err(work);
        }
        self.last += 1;
        self.list.push_back((self.last, work));
        Ok(())
    }

    /// The next work. What there was before has ended.
    fn take(&mut self) -> Option<Work> {
        let next = self.list.pop_front();
        self.current = next.as_ref().and_then(|(number, work)| Some((*number, work.group()?)));
        next.map(|(_, work)| work)
    }

    /// Takes out a signal to a group that has not begun its way.
    fn take_unbegun(&mut self, signal: Signal, group: Option<Pid>) -> Option<Work> {
        let place = self.list.iter().position(|(_, work)| work.is_unbegun(signal, group))?;
        self.list.remove(place).map(|(_, work)| work)
    }

    /// Whether a signal to `group` that came before `last` has yet to reach somebody.
    fn concerns(&self, group: Pid, last: u64) -> bool {
        let waiting = self.list.iter().filter_map(|(number, work)| Some((*number, work.group()?)));
        waiting.chain(self.current).any(|(number, of)| of == group && number <= last)
    }
}

impl Deferred {
    /// A signal goes on to the rest of its recipients.
    pub fn signal(&self, kernel: &Kernel, signal: Signal, recipients: Recipients<'_>) {
        let mut state = self.state.lock();
        let Some(walk) = recipients.suspend() else { return };
        // Who was to get the earlier one gets the later.
        let earlier = if walk.has_begun() { None } else { state.take_unbegun(signal, walk.group()) };
        let refused = state.push(Work::Signal(signal, walk));
        drop(state);
        if let Some(Work::Signal(_, earlier)) = earlier {
            drop(earlier.resume(kernel));
        }
        match refused {
            Err(Work::Signal(signal, walk)) => send::post_to_all(walk.resume(kernel), signal),
            _ => _ = self.arrived.wake_one(),
        }
    }

    /// The threads of a process that have not looked yet are told to.
    pub fn stop(&self, process: &Arc<Process>) {
        let refused = self.state.lock().push(Work::Stop(process.clone()));
        match refused {
            Err(_) => while process.nudge_some() {},
            Ok(()) => _ = self.arrived.wake_one(),
        }
    }

    /// Whether a signal is on its way to a group.
    pub fn concerns(&self, group: Pid) -> bool {
        self.state.lock().concerns(group, u64::MAX)
    }

    /// Waits until the signals that are on their way to a group now have reached everybody.
    pub async fn passed(&self, group: Pid) {
        let last = self.state.lock().last;
        self.ended.wait_until(|| (!self.state.lock().concerns(group, last)).then_some(())).await;
    }

    fn take(&self) -> Option<Work> {
        let work = self.state.lock().take();
        self.ended.wake_all();
        work
    }
}

/// The task is there for as long as this lives.
struct Serving<'a>(&'a Deferred);

impl Serving<'_> {
    fn begin(deferred: &Deferred) -> Serving<'_> {
        deferred.state.lock().served = true;
        Serving(deferred)
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.served = false;
        let left = mem::take(&mut state.list);
        drop(state);
        drop(left);
    }
}

impl Kernel {
    /// Does what is deferred, for ever: to be run by a task, which is not to keep the kernel alive.
    pub async fn deliver_deferred(kernel: Weak<Kernel>) {
        let Some(deferred) = kernel.upgrade().map(|kernel| kernel.deferred().clone()) else { return };
        let _serving = Serving::begin(&deferred);
        loop {
            let work = deferred.arrived.wait_until(|| deferred.take()).await;
            let Some(kernel) = kernel.upgrade() else { return };
            match work {
                Work::Signal(signal, walk) => send::post_to_all_slowly(walk.resume(&kernel), signal).await,
                Work::Stop(process) => {
                    let mut budget = Budget::new();
                    while process.nudge_some() {
                        budget.pace(super::stop::NUDGED).await;
                    }
                }
            }
        }
    }
}
