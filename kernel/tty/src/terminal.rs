//! A terminal: line discipline, line, window and session in one object.
//!
//! **Who synchronises.** One spin lock covers discipline, window and session. It is held for one operation, and never while
//! the line or a process is told something: what to tell is collected as [`Effects`] and done afterwards. So the line's
//! driver may call in under its own lock, and job control may take the process table's.

use alloc::string::String;
use alloc::sync::{Arc, Weak};

use abi::Pid;
use abi::terminal::{Termios, WindowSize};
use drivers::Received;
use sync::{Events, SpinLock, WaitQueue};
use vfs::DeviceNumber;

use crate::discipline::{Availability, Discipline, Effects};
use crate::{JobControl, TerminalSignal};

/// What carries a terminal's bytes: a serial line, or the master side of a pseudoterminal. Called with no lock of the
/// terminal held, except where it says so.
pub trait Line: Send + Sync {
    /// There is output in the terminal: [`Terminal::fetch_output`] as much as the line can take.
    fn output_ready(&self);

    /// As [`Line::output_ready`], but wake nobody: a message of the kernel is being printed, under any lock.
    fn output_ready_quietly(&self) {
        self.output_ready();
    }

    /// Whether output that is still in the terminal has yet to be sent, so that tcdrain(3) waits for it. If not, it has
    /// arrived as soon as it is written.
    fn sends(&self) -> bool {
        true
    }

    /// There is room for input again after [`Terminal::input_room`] was 0.
    fn input_room(&self) {}

    /// The settings changed: speed and format of the line follow `c_cflag`.
    fn configure(&self, termios: &Termios) {
        let _ = termios;
    }

    /// Begins or ends a break.
    fn set_break(&self, on: bool) {
        let _ = on;
    }

    /// The terminal has got its first open file, or lost its last.
    fn in_use(&self, used: bool) {
        let _ = used;
    }
}

/// Time for terminals: `VTIME` and breaks. Implemented where the kernel is wired together, over sched's timers.
pub trait Alarms: Send + Sync {
    /// Calls [`Terminal::alarm`] once `machine::time::now` has reached `deadline`. Several may be under way.
    fn wake_at(&self, deadline: u64, terminal: Weak<Terminal>);
}

/// How long `TCSBRK` and `TCSBRKP` hold a break.
pub(crate) const BREAK_TIME: u64 = 250_000_000;
/// How often printing a message tries to push a full ring into the line before the rest of the message is lost.
const PRINT_PATIENCE: usize = 100_000;

/// One terminal: `/dev/ttyS0`, which is also `/dev/console`, or a `/dev/pts/N`.
pub struct Terminal {
    number: DeviceNumber,
    name: String,
    line: Arc<dyn Line>,
    pub(crate) job_control: Arc<dyn JobControl>,
    alarms: Arc<dyn Alarms>,
    state: SpinLock<State>,
    /// Who waits for input, for room in the output, or until all is sent.
    queue: WaitQueue,
}

/// What the terminal's lock covers.
pub(crate) struct State {
    pub discipline: Discipline,
    /// Speed as a number, for `BOTHER`.
    pub speed: u32,
    pub window: WindowSize,
    /// The session it controls.
    pub session: Option<Pid>,
    /// The group in the foreground.
    pub foreground: Option<Pid>,
    /// `TIOCEXCL`: nobody else may open it.
    pub exclusive: bool,
    /// Open files that lead here.
    pub openings: usize,
    /// Counts hangups; files opened before the last one are dead.
    pub generation: u64,
    /// The line was told there is no room, and wants to hear of it when there is.
    line_waits: bool,
    /// Somebody found no room for output, or wants to know when it is sent.
    pub output_awaited: bool,
    /// When the break that is being sent ends.
    break_end: Option<u64>,
}

impl Terminal {
    /// A terminal with the settings `termios`, an unknown window size and no session.
    pub fn new(
        number: DeviceNumber,
        name: &str,
        termios: Termios,
        line: Arc<dyn Line>,
        job_control: Arc<dyn JobControl>,
        alarms: Arc<dyn Alarms>,
    ) -> Arc<Terminal> {
        let state = State {
            discipline: Discipline::new(termios),
            speed: termios.named_speed().unwrap_or_default(),
            window: WindowSize::default(),
            session: None,
            foreground: None,
            exclusive: false,
            openings: 0,
            generation: 0,
            line_waits: false,
            output_awaited: false,
            break_end: None,
        };
        Arc::new(Terminal {
            number,
            name: name.into(),
            line,
            job_control,
            alarms,
            state: SpinLock::new(state),
            queue: WaitQueue::new(),
        })
    }

    /// Bytes that have yet to be sent: `TIOCOUTQ`.
    pub(crate) fn unsent(&self) -> usize {
        if self.line.sends() { self.with_state(|state| state.discipline.output_waiting()) } else { 0 }
    }

    /// Whether all is sent. If not, those who wait for output are woken as it is.
    pub(crate) fn is_sent(&self) -> bool {
        !self.line.sends()
            || self.with_state(|state| {
                let is_sent = state.discipline.output_waiting() == 0;
                state.output_awaited |= !is_sent;
                is_sent
            })
    }

    /// The device number, what field 7 of /proc/PID/stat shows.
    pub const fn number(&self) -> DeviceNumber {
        self.number
    }

    /// The name below /dev.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The session it controls, if any.
    pub fn session(&self) -> Option<Pid> {
        self.state.lock().session
    }

    /// The group in the foreground, what field 8 of /proc/PID/stat shows.
    pub fn foreground_group(&self) -> Option<Pid> {
        self.state.lock().foreground
    }

    /// The settings.
    pub fn termios(&self) -> Termios {
        *self.state.lock().discipline.termios()
    }

    /// The size of the window it is shown in.
    pub fn window_size(&self) -> WindowSize {
        self.state.lock().window
    }

    /// Sets the size of the window; a new one is announced to the foreground group by `SIGWINCH`.
    pub fn set_window_size(&self, window: WindowSize) {
        let mut state = self.state.lock();
        if core::mem::replace(&mut state.window, window) == window {
            return;
        }
        let foreground = state.foreground;
        drop(state);
        self.signal(foreground, TerminalSignal::WindowChange);
    }

    /// Changes the settings, and those of the line with them.
    pub fn set_termios(&self, termios: Termios, speed: u32) {
        let mut state = self.state.lock();
        let effects = state.discipline.set_termios(termios);
        state.speed = speed;
        drop(state);
        self.line.configure(&termios);
        self.act(effects);
    }

    /// Runs `change` on the discipline and does what follows from it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Discipline) -> Effects) {
        let effects = change(&mut self.state.lock().discipline);
        self.act(effects);
    }

    pub(crate) fn with_state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// Does what the discipline found necessary. No lock is held.
    pub(crate) fn act(&self, effects: Effects) {
        for (effect, signal) in [
            (Effects::INTERRUPT, TerminalSignal::Interrupt),
            (Effects::QUIT, TerminalSignal::Quit),
            (Effects::SUSPEND, TerminalSignal::Suspend),
        ] {
            if effects.contains(effect) {
                self.signal(self.foreground_group(), signal);
            }
        }
        if effects.contains(Effects::READABLE) {
            self.queue.wake_all_for(Events::INPUT);
        }
        if effects.contains(Effects::OUTPUT) {
            self.line.output_ready();
        }
        if effects.contains(Effects::WRITABLE) {
            self.queue.wake_all_for(Events::OUTPUT);
        }
        if effects.contains(Effects::ROOM) && core::mem::take(&mut self.state.lock().line_waits) {
            self.line.input_room();
        }
    }

    fn signal(&self, group: Option<Pid>, signal: TerminalSignal) {
        if let Some(group) = group {
            self.job_control.signal_group(group, signal);
        }
    }

    // ---- for the line ---------------------------------------------------------------------------------------------

    /// How many items [`Terminal::receive`] would take. After a 0 the line is told when there is room again.
    pub fn input_room(&self) -> usize {
        let mut state = self.state.lock();
        let room = state.discipline.room();
        state.line_waits = room == 0;
        room
    }

    /// Takes what arrived on the line: edits, echoes, sends the signals of the keys, wakes readers. Returns how many
    /// items it took. It allocates nothing, so interrupt handlers call it directly, and keys work though nobody reads.
    pub fn receive(&self, received: &[Received]) -> usize {
        let (taken, effects) = self.state.lock().discipline.receive(received, machine::time::now());
        self.act(effects);
        taken
    }

    /// Moves output for the line into `buffer`; returns how many bytes. Afterwards, and with no lock held, the line calls
    /// [`Terminal::output_fetched`].
    pub fn fetch_output(&self, buffer: &mut [u8]) -> usize {
        self.state.lock().discipline.fetch(buffer)
    }

    /// Whether there is output the line may fetch.
    pub fn output_ready(&self) -> bool {
        self.state.lock().discipline.output_ready()
    }

    /// The line has fetched: wakes those who wait for it if there is room enough.
    pub fn output_fetched(&self) {
        let mut state = self.state.lock();
        let is_over = state.output_awaited && state.discipline.is_writable();
        if is_over {
            state.output_awaited = false;
        }
        drop(state);
        if is_over {
            self.queue.wake_all_for(Events::OUTPUT);
        }
    }

    /// Where changes are told.
    pub(crate) const fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    // ---- for files ------------------------------------------------------------------------------------------------

    /// Arranges to be woken when a read that found nothing is over.
    pub(crate) fn expect_end_of_read(self: &Arc<Self>, availability: Availability) {
        if let Availability::Later(Some(deadline)) = availability {
            self.alarms.wake_at(deadline, Arc::downgrade(self));
        }
    }

    /// A deadline handed to [`Alarms::wake_at`] has passed.
    pub fn alarm(&self) {
        let mut state = self.state.lock();
        let over = state.break_end.is_some_and(|end| machine::time::now() >= end);
        if over {
            state.break_end = None;
        }
        drop(state);
        if over {
            self.line.set_break(false);
        }
        self.queue.wake_all_for(Events::INPUT);
    }

    /// Sends a break; the alarm ends it.
    pub(crate) fn send_break(self: &Arc<Self>) {
        let end = machine::time::now().saturating_add(BREAK_TIME);
        self.state.lock().break_end = Some(end);
        self.line.set_break(true);
        self.alarms.wake_at(end, Arc::downgrade(self));
    }

    /// Begins or ends a break: `TIOCSBRK`, `TIOCCBRK`.
    pub(crate) fn set_break(&self, on: bool) {
        self.line.set_break(on);
    }

    /// Tells the line whether anybody has the terminal open.
    pub(crate) fn tell_in_use(&self, used: bool) {
        self.line.in_use(used);
    }

    /// Tells the line of output that was written.
    pub(crate) fn start_output(&self) {
        self.line.output_ready();
    }

    // ---- for the kernel -------------------------------------------------------------------------------------------

    /// Prints a message of the kernel. It shares the ring with programs' output, so the two come out in order, and
    /// takes no other lock than the terminal's and the line's: it may be called under any but these. What a dead line
    /// does not take is lost.
    pub fn print(&self, text: &[u8]) {
        let mut rest = text;
        for _ in 0..PRINT_PATIENCE {
            let printed = self.state.lock().discipline.print(rest);
            rest = rest.get(printed..).unwrap_or_default();
            self.line.output_ready_quietly();
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The line is gone, or vhangup(2): the session loses its terminal, its leader and the foreground group get
    /// `SIGHUP` and `SIGCONT`, and files that are open here read as ended and can't be written any more.
    pub fn hang_up(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        let session = state.session.take();
        let foreground = state.foreground.take();
        let mut effects = state.discipline.discard_input() | state.discipline.discard_output();
        if self.number.major == PTY_SLAVE_MAJOR {
            // Serial lines keep their settings, as in Linux: only getty(8) changes them for the next user.
            effects |= state.discipline.set_termios(Termios::default());
        }
        drop(state);
        if let Some(session) = session {
            self.job_control.set_controlling_terminal(session, None);
            self.job_control.signal_leader(session, TerminalSignal::Hangup);
            self.job_control.signal_leader(session, TerminalSignal::Continue);
        }
        self.signal(foreground, TerminalSignal::Hangup);
        self.signal(foreground, TerminalSignal::Continue);
        self.act(effects);
        self.queue.wake_all();
    }

    /// The session ends its use of the terminal: its leader exits, or gives it up by `TIOCNOTTY`. The foreground
    /// group gets `SIGHUP` and `SIGCONT`. On exit Linux hangs the terminal up as well, so that no program that was left
    /// behind goes on with it, unless it is a pseudoterminal.
    pub fn leave_session(&self, session: Pid, leader_exits: bool) {
        if self.session() != Some(session) {
            return;
        }
        if leader_exits && self.number.major != PTY_SLAVE_MAJOR {
            return self.hang_up();
        }
        let mut state = self.state.lock();
        state.session = None;
        let foreground = state.foreground.take();
        drop(state);
        self.job_control.set_controlling_terminal(session, None);
        self.signal(foreground, TerminalSignal::Hangup);
        self.signal(foreground, TerminalSignal::Continue);
    }
}

/// The major number of `/dev/pts/N`.
pub(crate) const PTY_SLAVE_MAJOR: u32 = 136;
