//! What is pending for one CPU, and where the CPU is.

use crate::lock;
use cores::{Account, Number, ProcessorTime};
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex};

/// What a handler of an interrupt is.
pub type Handler = Arc<dyn Fn() + Send + Sync>;

/// A thread of a program's process, as the host knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostThread {
    /// The process.
    pub process: Number,
    /// The thread.
    pub thread: Number,
    /// Its CPU waits for it by ptrace.
    pub is_traced: bool,
}

/// What the lines need of the machine and its host.
pub trait World: ProcessorTime {
    /// Nanoseconds of the machine's clock, for a thread that works for the machine.
    fn now() -> u64;

    /// Makes a program come back to its CPU. If it is back already, it comes back once more: nobody minds. The thread is not reaped before
    /// its CPU has left it, under the line's lock.
    fn interrupt(thread: HostThread);

    /// Whether a traced thread is not back yet. If it is, its CPU only has not come to see it: all of us may have been stopped for
    /// long.
    fn is_away(thread: Number) -> bool;

    /// Ends a thread's process, which ends the wait for it.
    fn kill(thread: Number);

    /// Nanoseconds for which a traced thread is waited for: beyond what a processor that the host is short of could explain.
    fn patience() -> u64;
}

/// Where a CPU is.
#[derive(Clone, Copy, Default)]
pub enum Place {
    /// In the kernel: it will look.
    #[default]
    Kernel,
    /// Waiting for an interrupt.
    Idle,
    /// Running a program.
    User(HostThread),
    /// Waiting for a traced thread of a stub, which runs the stubs' own code.
    Calling(Number),
}

/// What was pending.
pub struct Due {
    /// A kick.
    pub kicked: bool,
    /// The alarm.
    pub alarm: bool,
    /// Interrupts of devices.
    pub handlers: Vec<Handler>,
}

/// What is pending for a CPU.
#[derive(Default)]
pub struct Pending {
    pub place: Place,
    pub kicked: bool,
    pub alarm: Option<u64>,
    pub handlers: Vec<Handler>,
    /// When the traced thread for which this CPU waits has to be back, once it was told to come.
    pub deadline: Option<u64>,
}

impl Pending {
    /// Makes the program come back.
    pub fn interrupt<W: World>(&mut self, thread: HostThread) {
        W::interrupt(thread);
        if thread.is_traced && self.deadline.is_none() {
            self.deadline = Some(W::now() + W::patience());
        }
    }

    /// What this CPU waits for in vain.
    fn late(&self, now: u64) -> Option<Late> {
        let thread = match self.place {
            Place::User(HostThread { thread, .. }) | Place::Calling(thread) => thread,
            Place::Kernel | Place::Idle => return None,
        };
        let deadline = self.deadline.filter(|deadline| *deadline <= now)?;
        Some(Late { thread, deadline })
    }

    pub fn is_due<W: World>(&self) -> bool {
        let alarm_is_due = || self.alarm.is_some_and(|deadline| deadline <= W::now());
        self.kicked || !self.handlers.is_empty() || alarm_is_due()
    }

    pub fn take<W: World>(&mut self) -> Due {
        let kicked = std::mem::take(&mut self.kicked);
        let alarm = self.alarm.take_if(|deadline| *deadline <= W::now()).is_some();
        Due { kicked, alarm, handlers: std::mem::take(&mut self.handlers) }
    }
}

/// A traced thread that did not come back in time. No program can bring that about: its thread has all signals open, and stops for each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Late {
    thread: Number,
    deadline: u64,
}

/// One CPU's.
#[repr(align(128))]
pub struct Line<W: World> {
    pub pending: Mutex<Pending>,
    pub raised: Condvar,
    pub account: Account<W>,
    world: PhantomData<fn() -> W>,
}

impl<W: World> Default for Line<W> {
    fn default() -> Line<W> {
        Line { pending: Mutex::default(), raised: Condvar::new(), account: Account::default(), world: PhantomData }
    }
}

impl<W: World> Line<W> {
    /// Notes something, and makes the CPU look. Returns the deadline of what it waits for, if there is one.
    pub fn note(&self, what: impl FnOnce(&mut Pending)) -> Option<u64> {
        let mut pending = lock(&self.pending);
        what(&mut pending);
        match pending.place {
            Place::Kernel | Place::Calling(_) => {}
            Place::Idle => self.raised.notify_all(),
            Place::User(thread) => pending.interrupt::<W>(thread),
        }
        pending.deadline
    }

    /// The CPU goes to another place, where nothing is late yet.
    pub fn go(&self, place: Place, deadline: Option<u64>) {
        let mut pending = lock(&self.pending);
        (pending.place, pending.deadline) = (place, deadline);
    }

    /// Kills what its CPU waits for in vain.
    pub fn end_late(&self, now: u64) {
        let Some(late) = lock(&self.pending).late(now).filter(|late| W::is_away(late.thread)) else { return };
        let pending = lock(&self.pending);
        if pending.late(now) == Some(late) {
            W::kill(late.thread);
        }
    }
}
