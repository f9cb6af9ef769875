//! An open terminal: job control at the door, then bytes in and out of the discipline.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::{Errno, Pid, Result};
use memory::{Destination, Source};
use sync::{Budget, WaitQueue};
use vfs::{Caller, DefaultOwner, File, FileTraits, NotReady, OpenFlags, OpenRequest, Operation, PollEvents};

use crate::discipline::{Availability, Effects};
use crate::terminal::State;
use crate::{JobControl, Member, Terminal, TerminalSignal};

/// Bytes taken from a program at once.
const CHUNK: usize = 512;

/// Units of a budget for a chunk.
const UNITS: usize = 8;

/// What one open(2) of a terminal gave.
pub struct TerminalFile {
    terminal: Arc<Terminal>,
    /// The terminal's generation when it was opened; another one now means that it was hung up.
    generation: u64,
    /// Opened as `/dev/console`: reading it is no matter of job control, and it outlives hangups.
    console: bool,
    readable: bool,
    /// `O_NONBLOCK` at this moment: a read takes what is there instead of waiting for `VMIN` bytes.
    nonblocking: AtomicBool,
    /// When the read that is under way began, for `VTIME`.
    read_began: AtomicU64,
}

impl Terminal {
    /// Opens the terminal: open(2) of its device file. For a session leader without a terminal it becomes the controlling
    /// one, unless `O_NOCTTY`, or it is another session's, or it is opened as `console` or for writing only.
    ///
    /// # Errors
    /// `EBUSY` under `TIOCEXCL`, except for an administrator.
    pub fn open(self: &Arc<Self>, request: &OpenRequest<'_>, console: bool) -> Result<Arc<dyn File>> {
        let administrator = self.job_control.is_administrator(request.caller.thread());
        let (generation, first) = self.with_state(|state| {
            if state.exclusive && !administrator {
                return Err(Errno::EBUSY);
            }
            state.openings += 1;
            Ok((state.generation, state.openings == 1))
        })?;
        if first {
            self.tell_in_use(true);
        }
        let flags = request.flags;
        let file = Arc::new(TerminalFile {
            terminal: self.clone(),
            generation,
            console,
            readable: flags.readable(),
            nonblocking: AtomicBool::new(flags.contains(OpenFlags::NON_BLOCK)),
            read_began: AtomicU64::new(0),
        });
        let wants_control = !console && !flags.contains(OpenFlags::NO_CONTROLLING_TERMINAL) && flags.readable();
        if let Some(member) = self.job_control.member(request.caller.process())
            && wants_control
            && member.leads_session()
            && self.job_control.controlling_terminal(member.session).is_none()
        {
            self.become_controlling(member);
        }
        Ok(file)
    }

    /// Gives the terminal to a session, with the leader's group in the foreground. `false`: it has one.
    pub fn become_controlling(self: &Arc<Self>, leader: Member) -> bool {
        let free = self.with_state(|state| {
            if state.session.is_some_and(|session| session != leader.session) {
                return false;
            }
            state.session = Some(leader.session);
            state.foreground = Some(leader.group);
            true
        });
        if free {
            self.job_control.set_controlling_terminal(leader.session, Some(self.clone()));
        }
        free
    }

    /// Whether a process may do what only the foreground may; Linux's `tty_check_change`.
    ///
    /// # Errors
    /// [`NotReady::Signalled`] after sending `signal` to the caller's group; `EIO` where a stop would last for ever, because
    /// the group is orphaned, or a read could not be stopped, because the signal is ignored.
    pub(crate) fn check_foreground(&self, process: Pid, thread: Pid, signal: TerminalSignal) -> Result<(), NotReady> {
        let job_control: &dyn JobControl = &*self.job_control;
        let (session, foreground) = self.with_state(|state| (state.session, state.foreground));
        let (Some(member), Some(foreground)) = (job_control.member(process), foreground) else { return Ok(()) };
        if session != Some(member.session) || member.group == foreground {
            return Ok(());
        }
        if job_control.blocks_or_ignores(thread, signal) {
            return if signal == TerminalSignal::BackgroundRead { Err(Errno::EIO.into()) } else { Ok(()) };
        }
        if job_control.is_orphaned(member.group) {
            return Err(Errno::EIO.into());
        }
        job_control.signal_group(member.group, signal);
        Err(NotReady::Signalled)
    }
}

impl TerminalFile {
    /// Whether the terminal was hung up since this file was opened. `/dev/console` is never: init keeps its voice.
    fn is_dead(&self, state: &State) -> bool {
        !self.console && state.generation != self.generation
    }

    fn is_hung_up(&self) -> bool {
        self.terminal.with_state(|state| self.is_dead(state))
    }
}

impl File for TerminalFile {
    fn traits(&self) -> FileTraits {
        FileTraits::ADMITS | FileTraits::SIGNALS
    }

    fn default_owner(&self) -> DefaultOwner {
        self.terminal.foreground_group().map_or(DefaultOwner::Caller, DefaultOwner::Group)
    }

    fn admit(&self, operation: Operation, caller: &dyn Caller) -> Result<(), NotReady> {
        if self.is_hung_up() {
            return Ok(());
        }
        let check = |signal| self.terminal.check_foreground(caller.process(), caller.thread(), signal);
        match operation {
            Operation::Read => {
                if !self.console {
                    check(TerminalSignal::BackgroundRead)?;
                }
                self.read_began.store(machine::time::now(), Ordering::Relaxed);
                Ok(())
            }
            Operation::Write => {
                let stops = self.terminal.termios().local().contains(abi::terminal::LocalFlags::TOSTOP);
                if stops { check(TerminalSignal::BackgroundWrite) } else { Ok(()) }
            }
        }
    }

    fn read(&self, _position: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        let wanted = destination.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        let began = self.read_began.load(Ordering::Relaxed);
        let patient = !self.nonblocking.load(Ordering::Relaxed);
        let now = machine::time::now();
        let mut effects = Effects::empty();
        let outcome = self.terminal.with_state(|state| {
            if self.is_dead(state) {
                return Ok(0);
            }
            let availability = state.discipline.availability(wanted, began, now, patient);
            if availability != Availability::Now {
                return Err((NotReady::WouldBlock, availability));
            }
            // The copy does not sleep: a missing page ends it, and only what arrived is consumed.
            let front = state.discipline.front(wanted);
            let mut result = Ok(front.length);
            for piece in state.discipline.bytes(front.length) {
                if let Err(fault) = destination.write(piece) {
                    result = Err((fault.into(), availability));
                    break;
                }
            }
            let moved = wanted.saturating_sub(destination.remaining());
            effects |= state.discipline.consume(front, moved);
            result
        });
        self.terminal.act(effects);
        outcome.map_err(|(stop, availability)| {
            if patient {
                self.terminal.expect_end_of_read(availability);
            }
            stop
        })
    }

    fn write(&self, _position: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        let mut written = 0;
        let mut budget = Budget::new();
        while source.remaining() > 0 {
            let mut chunk = [0; CHUNK];
            let length = match source.peek(&mut chunk) {
                Ok(length) => length,
                Err(fault) if fault.copied == 0 => return Err(fault.into()),
                Err(fault) => fault.copied,
            };
            let bytes = chunk.get(..length).unwrap_or_default();
            let taken = self.terminal.with_state(|state| {
                let taken = if self.is_dead(state) { None } else { Some(state.discipline.write(bytes)) };
                state.output_awaited |= taken.is_some_and(|taken| taken < length);
                taken
            });
            let taken = taken.ok_or(Errno::EIO)?;
            source.advance(taken);
            written += taken;
            // The line may take everything at once, and then there is room again.
            self.terminal.start_output();
            if taken == 0 && self.terminal.with_state(|state| state.discipline.write_room()) < CHUNK {
                return Err(NotReady::WouldBlock);
            }
            if budget.spend(UNITS) && source.remaining() > 0 {
                return Err(NotReady::Yield);
            }
        }
        Ok(written)
    }

    fn poll(&self) -> PollEvents {
        self.terminal.with_state(|state| {
            let mut events = PollEvents::empty();
            if self.is_dead(state) {
                return PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::ERROR | PollEvents::HANG_UP;
            }
            if state.discipline.is_readable_for_poll() {
                events |= PollEvents::READABLE;
            }
            if state.discipline.is_writable() {
                events |= PollEvents::WRITABLE;
            } else {
                state.output_awaited = true;
            }
            events
        })
    }

    fn wait_queue(&self, _: PollEvents) -> Option<&WaitQueue> {
        Some(self.terminal.queue())
    }

    fn ioctl(&self, request: u32, argument: usize, caller: &dyn Caller) -> Result<usize, NotReady> {
        if self.is_hung_up() {
            let foreground = request == abi::raw::ioctl::TIOCSPGRP;
            return Err(if foreground { Errno::ENOTTY } else { Errno::EIO }.into());
        }
        crate::ioctl::terminal(&self.terminal, self.readable, request, argument, caller)
    }

    fn flags_changed(&self, flags: OpenFlags) {
        self.nonblocking.store(flags.contains(OpenFlags::NON_BLOCK), Ordering::Relaxed);
    }
}

impl Drop for TerminalFile {
    /// The last one to close takes the terminal from its session, and what was typed is forgotten.
    fn drop(&mut self) {
        let last = self.terminal.with_state(|state| {
            state.openings = state.openings.saturating_sub(1);
            if state.openings > 0 {
                return None;
            }
            state.exclusive = false;
            state.foreground = None;
            state.discipline.discard_input();
            Some(state.session.take())
        });
        let Some(session) = last else { return };
        if let Some(session) = session {
            self.terminal.job_control.set_controlling_terminal(session, None);
        }
        self.terminal.tell_in_use(false);
    }
}
