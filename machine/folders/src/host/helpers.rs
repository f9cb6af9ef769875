//! Threads that make calls of the host that may take long, so that no CPU of the machine waits for them.
//!
//! Each folder has its own, so that one that stalls holds up nobody who uses another. They are made when they are needed, [`MOST`] at the
//! most, and end when there has been nothing to do for a while.
//!
//! **What crosses is plain data.** A request has descriptors of its own, and its answer is what the helper allocates; what the
//! kernel's threads allocate here is allocated [apart](Lent). So a call that the host never answers holds nothing of the kernel's: who
//! asked may be killed meanwhile, and the machine ends without it. Closing may take long as well: a request that is not wanted any more
//! stays in the queue until a helper lets go of it.

use super::requests::Task;
use crate::{Answer, Result, Ticket};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Calls of one folder that wait for the host at once.
const MOST: usize = 16;

/// How long a helper stays that has nothing to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of a helper's stack.
const STACK: usize = 64 << 10;

/// What hears of answers: it wakes and queues only.
pub type Handler = Arc<dyn Fn() + Send + Sync>;

/// What a helper does when it has an answer.
pub type Interrupt = Box<dyn Fn() + Send + Sync>;

/// What a machine lends its folders.
#[derive(Clone, Copy, Debug)]
pub struct Lent {
    /// Makes a handler an interrupt of the machine's. Called by the kernel.
    pub connect: fn(Handler) -> Interrupt,
    /// Runs a function whose memory is the process's own, and not the machine's. It does not unwind.
    pub apart: fn(&mut dyn FnMut()),
}

impl Default for Lent {
    /// Without a machine the helper calls the handler itself.
    fn default() -> Lent {
        Lent { connect: |handler| Box::new(move || handler()), apart: |body| body() }
    }
}

/// The helpers of a folder.
#[derive(Default)]
pub struct Helpers {
    lent: OnceLock<Lent>,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    asked: VecDeque<Asked>,
    answered: VecDeque<(Ticket, Result<Answer>)>,
    threads: usize,
    idle: usize,
    /// None while nobody hears of answers: then nothing is taken.
    interrupt: Option<Interrupt>,
}

/// A request; without a ticket it is only to be let go of.
struct Asked {
    ticket: Option<Ticket>,
    task: Task,
}

impl Helpers {
    /// The machine they work for. The first call counts.
    pub fn lend(&self, lent: Lent) {
        let _ = self.lent.set(lent);
    }

    /// From now on `handler` hears of answers.
    pub fn attend(&self, handler: Handler) {
        let interrupt = (self.lent().connect)(handler);
        let before = self.state().interrupt.replace(interrupt);
        drop(before);
    }

    /// Nobody hears of answers any more. What was asked for and has not begun is not done.
    pub fn end(&self) {
        let mut state = self.state();
        let (interrupt, left) = (state.interrupt.take(), std::mem::take(&mut state.asked));
        drop(state);
        self.arrived.notify_all();
        // What the interrupt holds was the kernel's, and is gone with it.
        std::mem::forget(interrupt);
        drop(left);
    }

    /// Takes the request that `make` makes. False if there is nobody to do it.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn ask(self: &Arc<Helpers>, ticket: Ticket, mut make: impl FnMut() -> Result<Task>) -> Result<bool> {
        let mut taken = Ok(false);
        (self.lent().apart)(&mut || taken = make().map(|task| self.take(Some(ticket), task).is_ok()));
        taken
    }

    /// Lets go of a file whose closing may take long.
    pub fn close(self: &Arc<Helpers>, file: OwnedFd) {
        let mut file = Some(file);
        (self.lent().apart)(&mut || {
            if let Some(file) = file.take() {
                let _ = self.take(None, Task::Close(file));
            }
        });
    }

    /// Queues a task, and sees to it that there is somebody to do it. It comes back if there is nobody.
    fn take(self: &Arc<Helpers>, ticket: Option<Ticket>, task: Task) -> Result<(), Task> {
        let mut state = self.state();
        let short = state.idle <= state.asked.len() && state.threads < MOST;
        if state.interrupt.is_none() || !((short && self.start(&mut state)) || state.threads > 0) {
            return Err(task);
        }
        state.asked.push_back(Asked { ticket, task });
        self.arrived.notify_one();
        Ok(())
    }

    /// What was asked for is not wanted any more: it is not done, unless a helper is at it; then this is false.
    pub fn withdraw(&self, ticket: Ticket) -> bool {
        let mut state = self.state();
        let asked = state.asked.iter_mut().find(|asked| asked.ticket == Some(ticket));
        asked.map(|asked| asked.ticket = None).is_some()
    }

    /// The next answer.
    pub fn take_answer(&self) -> Option<(Ticket, Result<Answer>)> {
        self.state().answered.pop_front()
    }

    fn lent(&self) -> Lent {
        self.lent.get().copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Helpers>, state: &mut State) -> bool {
        let helpers = self.clone();
        let started = thread::Builder::new().name("folder".into()).stack_size(STACK).spawn(move || helpers.help());
        state.threads += usize::from(started.is_ok());
        started.is_ok()
    }

    /// What a helper does.
    fn help(&self) {
        while let Some(Asked { ticket, task }) = self.next() {
            let Some(ticket) = ticket else {
                drop(task);
                continue;
            };
            let answer = task.run();
            let mut state = self.state();
            if state.interrupt.is_some() {
                state.answered.push_back((ticket, answer));
                state.interrupt.iter().for_each(|interrupt| interrupt());
            }
        }
    }

    /// What to do next; none when the helper is to end.
    fn next(&self) -> Option<Asked> {
        let mut state = self.state();
        loop {
            if let Some(asked) = state.asked.pop_front() {
                return Some(asked);
            }
            state.idle += 1;
            let (woken, time) = self.arrived.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if state.asked.is_empty() && (time.timed_out() || state.interrupt.is_none()) {
                state.threads -= 1;
                return None;
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.state().threads
    }
}
