//! Pseudoterminals: a terminal whose line is a file. See pty(7), ptmx(4).
//!
//! Opening `/dev/ptmx` makes a pair: the *master*, which is that open file, and the *slave*, the terminal `/dev/pts/N` in the
//! file system of [`DevPts`](crate::DevPts). What is written to the master is typed at the slave; what is shown on the slave is read
//! from the master. The pair ends when the master is closed: the slave is hung up and its name vanishes; the number
//! is free again when nobody has the slave open any more.
//!
//! Packet mode (`TIOCPKT`) and `TIOCGPTPEER` are not done: they get `ENOTTY`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use abi::raw::ioctl as request;
use abi::terminal::Termios;
use abi::{Errno, Result};
use drivers::Received;
use memory::{Destination, Source};
use sync::{Budget, Events, SpinLock, WaitQueue};
use vfs::{
    Caller, DefaultOwner, Device, DeviceClass, DeviceNumber, DeviceRegistry, File, FileTraits, NotReady, OpenRequest,
    PollEvents,
};

use crate::devpts::{Node, Settings};
use crate::terminal::PTY_SLAVE_MAJOR;
use crate::{Alarms, JobControl, Line, Terminal};

/// Bytes moved at once.
const CHUNK: usize = 256;
/// Units of a budget for a chunk.
const UNITS: usize = 4;
/// Pairs there may be at a time, Linux's `kernel.pty.max`.
const MOST_PAIRS: u32 = 4096;

/// The number of `/dev/ptmx`.
pub const PTMX: DeviceNumber = DeviceNumber { major: 5, minor: 2 };

/// All pseudoterminals of one kernel: the device `/dev/ptmx`, and what [`DevPts`](crate::DevPts) shows.
pub struct Pseudoterminals {
    job_control: Arc<dyn JobControl>,
    alarms: Arc<dyn Alarms>,
    pairs: SpinLock<BTreeMap<u32, Arc<Pair>>>,
    /// How device files of slaves come to be.
    pub(crate) settings: SpinLock<Settings>,
    /// Itself, for the pairs and the device of the slaves.
    this: Weak<Pseudoterminals>,
}

/// One master and its slave.
pub(crate) struct Pair {
    pub(crate) number: u32,
    terminal: SpinLock<Weak<Terminal>>,
    /// `TIOCSPTLCK`: the slave can't be opened yet.
    locked: AtomicBool,
    master_open: AtomicBool,
    /// The slave was opened at least once, and whether it is now.
    slave_seen: AtomicBool,
    slave_open: AtomicBool,
    /// Who waits at the master.
    queue: WaitQueue,
    owner: Weak<Pseudoterminals>,
    /// Owner and permissions of the device file.
    pub(crate) node: Arc<Node>,
}

impl Pseudoterminals {
    /// None open yet.
    pub fn new(job_control: Arc<dyn JobControl>, alarms: Arc<dyn Alarms>) -> Arc<Pseudoterminals> {
        Arc::new_cyclic(|this| Pseudoterminals {
            job_control,
            alarms,
            pairs: SpinLock::new(BTreeMap::new()),
            settings: SpinLock::default(),
            this: this.clone(),
        })
    }

    /// A pair with the lowest free number, its slave locked. The slave belongs to `owner`, a user and a group, unless the
    /// file system was mounted so that it belongs to somebody else.
    #[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a short name")]
    fn create(&self, owner: (u32, u32)) -> Result<(Arc<Pair>, Arc<Terminal>)> {
        let node = self.settings.lock().node(owner);
        let mut pairs = self.pairs.lock();
        let number = (0..MOST_PAIRS).find(|number| !pairs.contains_key(number)).ok_or(Errno::ENOSPC)?;
        let pair = Arc::new(Pair {
            number,
            terminal: SpinLock::new(Weak::new()),
            locked: AtomicBool::new(true),
            master_open: AtomicBool::new(true),
            slave_seen: AtomicBool::new(false),
            slave_open: AtomicBool::new(false),
            queue: WaitQueue::new(),
            owner: self.this.clone(),
            node: Arc::new(node),
        });
        let device = DeviceNumber { major: PTY_SLAVE_MAJOR, minor: number };
        let name = format!("pts/{number}");
        let (job_control, alarms) = (self.job_control.clone(), self.alarms.clone());
        let terminal = Terminal::new(device, &name, Termios::default(), pair.clone(), job_control, alarms);
        *pair.terminal.lock() = Arc::downgrade(&terminal);
        pairs.insert(number, pair.clone());
        Ok((pair, terminal))
    }

    /// The pair whose slave can be found under a number.
    pub(crate) fn find(&self, number: u32) -> Option<Arc<Pair>> {
        let pair = self.pairs.lock().get(&number).cloned()?;
        pair.master_open.load(Ordering::Acquire).then_some(pair)
    }

    /// The lowest number in use that is at least `from`.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let pairs = self.pairs.lock();
        let mut rest = pairs.range(from..);
        rest.find(|(_, pair)| pair.master_open.load(Ordering::Acquire)).map(|(number, _)| *number)
    }
}

/// Lets the nodes of slaves lead to those that are open. Called once, at boot.
///
/// # Errors
/// `EBUSY`.
pub fn register_slaves(terminals: &Arc<Pseudoterminals>, devices: &DeviceRegistry) -> Result<()> {
    devices.register_major(DeviceClass::Character, PTY_SLAVE_MAJOR, "pts", Arc::new(Slaves(terminals.clone())))
}

/// `/dev/ptmx`, 5:2.
impl Device for Pseudoterminals {
    fn open(&self, _number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let (pair, terminal) = self.create(request.caller.file_owner())?;
        Ok(Arc::new(Master { pair, terminal, staged: SpinLock::new(Staged::default()) }))
    }
}

/// `/dev/pts/N`, 136:N.
struct Slaves(Arc<Pseudoterminals>);

impl Device for Slaves {
    fn open(&self, number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let pair = self.0.find(number.minor).ok_or(Errno::EIO)?;
        if pair.locked.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        let terminal = pair.terminal.lock().upgrade().ok_or(Errno::EIO)?;
        terminal.open(request, false)
    }
}

impl Pair {
    /// Takes the pair out of the list when neither side is open.
    fn forget_if_unused(&self) {
        if !self.master_open.load(Ordering::Acquire)
            && !self.slave_open.load(Ordering::Acquire)
            && let Some(owner) = self.owner.upgrade()
        {
            owner.pairs.lock().remove(&self.number);
        }
    }
}

impl Line for Pair {
    fn output_ready(&self) {
        if self.master_open.load(Ordering::Acquire) {
            return self.queue.wake_all_for(Events::INPUT);
        }
        // Nobody reads any more.
        if let Some(terminal) = self.terminal.lock().upgrade() {
            while terminal.fetch_output(&mut [0; CHUNK]) > 0 {}
        }
    }

    /// As on Linux, where what is written to the slave is in the master's buffer at once.
    fn sends(&self) -> bool {
        false
    }

    fn input_room(&self) {
        self.queue.wake_all_for(Events::OUTPUT);
    }

    fn in_use(&self, used: bool) {
        self.slave_open.store(used, Ordering::Release);
        self.slave_seen.store(true, Ordering::Release);
        self.queue.wake_all();
        self.forget_if_unused();
    }
}

/// Output fetched from the slave and not yet taken by the reader, whose memory may fault.
#[derive(Default)]
struct Staged {
    bytes: [u8; 32],
    start: usize,
    end: usize,
}

/// The master side: what opening `/dev/ptmx` gave.
struct Master {
    pair: Arc<Pair>,
    terminal: Arc<Terminal>,
    staged: SpinLock<Staged>,
}

impl Master {
    fn slave_is_gone(&self) -> bool {
        self.pair.slave_seen.load(Ordering::Acquire) && !self.pair.slave_open.load(Ordering::Acquire)
    }

    fn has_output(&self) -> bool {
        let staged = self.staged.lock();
        let waiting = staged.start < staged.end;
        drop(staged);
        waiting || self.terminal.output_ready()
    }
}

impl File for Master {
    fn traits(&self) -> FileTraits {
        FileTraits::SIGNALS
    }

    fn default_owner(&self) -> DefaultOwner {
        DefaultOwner::Caller
    }

    fn read(&self, _position: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        let mut moved = 0;
        let mut staged = self.staged.lock();
        while destination.remaining() > 0 {
            if staged.start == staged.end {
                staged.start = 0;
                staged.end = self.terminal.fetch_output(&mut staged.bytes);
            }
            let Some(bytes @ [_, ..]) = staged.bytes.get(staged.start..staged.end) else { break };
            let before = destination.remaining();
            let outcome = destination.write(bytes);
            let taken = before.saturating_sub(destination.remaining());
            staged.start += taken;
            moved += taken;
            outcome?;
        }
        drop(staged);
        self.terminal.output_fetched();
        match moved {
            0 if self.slave_is_gone() => Err(Errno::EIO.into()),
            0 if destination.remaining() > 0 => Err(NotReady::WouldBlock),
            moved => Ok(moved),
        }
    }

    fn write(&self, _position: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        let mut moved = 0;
        let mut budget = Budget::new();
        while source.remaining() > 0 {
            let room = self.terminal.input_room();
            if room == 0 {
                return Err(NotReady::WouldBlock);
            }
            let mut bytes = [0; CHUNK];
            let wanted = bytes.get_mut(..room.min(CHUNK)).unwrap_or_default();
            let length = match source.peek(wanted) {
                Ok(length) => length,
                Err(fault) if fault.copied == 0 => return Err(fault.into()),
                Err(fault) => fault.copied,
            };
            let received = bytes.map(Received::Byte);
            let taken = self.terminal.receive(received.get(..length).unwrap_or_default());
            source.advance(taken);
            moved += taken;
            // A full line takes one byte at a time.
            if budget.spend(UNITS) && source.remaining() > 0 {
                return Err(NotReady::Yield);
            }
        }
        Ok(moved)
    }

    fn poll(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        if self.has_output() {
            events |= PollEvents::READABLE;
        }
        if self.terminal.input_room() > 0 {
            events |= PollEvents::WRITABLE;
        }
        if self.slave_is_gone() {
            events |= PollEvents::HANG_UP;
        }
        events
    }

    fn wait_queue(&self, _: PollEvents) -> Option<&WaitQueue> {
        Some(&self.pair.queue)
    }

    fn ioctl(&self, number: u32, argument: usize, caller: &dyn Caller) -> Result<usize, NotReady> {
        match number {
            request::TIOCGPTN => caller.write_value(argument, &self.pair.number)?,
            request::TIOCSPTLCK => {
                let locked = caller.read_value::<u32>(argument)? != 0;
                self.pair.locked.store(locked, Ordering::Release);
            }
            request::TIOCGPTLCK => {
                caller.write_value(argument, &u32::from(self.pair.locked.load(Ordering::Acquire)))?;
            }
            request::FIONREAD => {
                let waiting = self.terminal.with_state(|state| state.discipline.output_waiting());
                caller.write_value(argument, &(waiting as u32))?;
            }
            // Whoever holds the master may ask and set all this without being in the slave's session.
            request::TIOCGPGRP => {
                let group = self.terminal.foreground_group().map_or(0, |group| caller.pid_number(group));
                caller.write_value(argument, &group)?;
            }
            request::TIOCGSID => {
                let session = self.terminal.session().ok_or(Errno::ENOTTY)?;
                caller.write_value(argument, &caller.pid_number(session))?;
            }
            request::TCGETS
            | request::TCGETS2
            | request::TCSETS
            | request::TCSETSW
            | request::TCSETSF
            | request::TCSETS2
            | request::TCSETSW2
            | request::TCSETSF2
            | request::TIOCGWINSZ
            | request::TIOCSWINSZ
            | request::TCFLSH
            | request::TIOCOUTQ => {
                return crate::ioctl::terminal(&self.terminal, true, number, argument, caller);
            }
            _ => return Err(Errno::ENOTTY.into()),
        }
        Ok(0)
    }
}

impl Drop for Master {
    /// The slave's line is cut.
    fn drop(&mut self) {
        self.pair.master_open.store(false, Ordering::Release);
        self.terminal.hang_up();
        self.pair.forget_if_unused();
    }
}
