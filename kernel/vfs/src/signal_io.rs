//! Signal-driven I/O: a file tells its owner by a signal that it became readable or writable. fcntl(2), "Managing signals";
//! Linux calls it fasync.
//!
//! An open file description that does so stands in the file's wait queue for good. Its waker, which runs wherever the file was
//! changed, interrupt handlers included, sends the signal. Who the owner is and how a signal reaches it, the process room knows.
//!
//! **No cycle of references.** The queue holds the waker and with it the [`Settings`]; the description holds the file. Nothing
//! that the waker holds leads back to the file.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::ops::Deref;
use core::task::Waker;

use abi::{Errno, Pid, Result};
use sync::{Kind, Listener, SpinLock, WaitQueue};

use crate::file::{File, PollEvents};
use crate::open::OpenFlags;

/// Who gets the signals of a file: `F_SETOWN`. Implemented by the process room.
pub trait FileOwner: Send + Sync {
    /// Sends `signal`, or `SIGIO` without a reason for 0. Called in any context, with no lock of this room held.
    fn tell(&self, signal: u32, reason: IoReason);

    /// Which kind of owner, and who, if it is there still. For `F_GETOWN_EX`.
    fn identity(&self) -> (OwnerKind, Option<Pid>);

    /// The real and the effective user who named it, whose rights the signals are sent with: `F_GETOWNER_UIDS`.
    fn users(&self) -> (u32, u32);
}

/// What kind of owner, with the values of `F_SETOWN_EX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// `F_OWNER_TID`
    Thread = 0,
    /// `F_OWNER_PID`
    Process = 1,
    /// `F_OWNER_PGRP`
    Group = 2,
}

/// Who owns a file that becomes signal-driven before an owner was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultOwner {
    /// Nobody: no signal is sent.
    Nobody,
    /// The calling process.
    Caller,
    /// This process group.
    Group(Pid),
}

/// Why a signal is sent: `si_code`, `si_band` and `si_fd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoReason {
    /// What became possible.
    pub band: Band,
    /// The descriptor by which the file became signal-driven.
    pub descriptor: i32,
}

/// What became possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// `POLL_IN`
    Input,
    /// `POLL_OUT`
    Output,
}

impl Band {
    /// What poll(2) reports of it: `si_band`.
    pub fn events(self) -> PollEvents {
        match self {
            Band::Input => PollEvents::READABLE,
            Band::Output => PollEvents::WRITABLE | PollEvents::WRITE_BAND,
        }
    }
}

/// What was set by fcntl(2).
#[derive(Clone, Default)]
struct Settings {
    owner: Option<Arc<dyn FileOwner>>,
    /// `F_SETSIG`
    signal: u32,
    descriptor: i32,
}

/// Signal-driven I/O of one open file description; made when fcntl(2) first asks for a part of it.
#[derive(Default)]
pub(crate) struct SignalIo {
    settings: Arc<SpinLock<Settings>>,
    /// Where it stands: for input, for output.
    places: [Option<Listener<FileQueue>>; 2],
}

impl SignalIo {
    pub fn owner(&self) -> Option<Arc<dyn FileOwner>> {
        self.settings.lock().owner.clone()
    }

    pub fn set_owner(&self, owner: Option<Arc<dyn FileOwner>>) {
        let old = core::mem::replace(&mut self.settings.lock().owner, owner);
        drop(old);
    }

    pub fn signal(&self) -> u32 {
        self.settings.lock().signal
    }

    pub fn set_signal(&self, signal: u32) {
        self.settings.lock().signal = signal;
    }

    /// Takes places in the queue of `file`, or has those it has tell of `descriptor` from now on.
    ///
    /// # Errors
    /// `ENOMEM`: it is off then.
    pub fn turn_on(&mut self, file: &Arc<dyn File>, flags: OpenFlags, descriptor: i32) -> Result<()> {
        self.settings.lock().descriptor = descriptor;
        let bands = [(Band::Input, flags.readable()), (Band::Output, flags.writable())];
        for (place, (band, is_wanted)) in self.places.iter_mut().zip(bands) {
            if !is_wanted || place.is_some() || file.wait_queue(band.events()).is_none() {
                continue;
            }
            let queue = FileQueue { file: file.clone(), events: band.events(), none: WaitQueue::new() };
            let listener = place.insert(Listener::new(queue, Kind::Standing, band.events().to_wait_for()));
            let waker = Waker::from(Arc::new(Alarm { settings: self.settings.clone(), band }));
            if listener.register_with(&waker).is_err() {
                self.turn_off();
                return Err(Errno::ENOMEM);
            }
        }
        Ok(())
    }

    /// Leaves the queue.
    pub fn turn_off(&mut self) {
        self.places = [None, None];
    }
}

/// The queue of a file, kept by the file.
struct FileQueue {
    file: Arc<dyn File>,
    events: PollEvents,
    /// In the place of the file's, if that has none any more. There is no such kind of file.
    none: WaitQueue,
}

impl Deref for FileQueue {
    type Target = WaitQueue;

    fn deref(&self) -> &WaitQueue {
        self.file.wait_queue(self.events).unwrap_or(&self.none)
    }
}

/// What a wake-up of the file's queue calls.
struct Alarm {
    settings: Arc<SpinLock<Settings>>,
    band: Band,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Settings { owner, signal, descriptor } = self.settings.lock().clone();
        if let Some(owner) = owner {
            owner.tell(signal, IoReason { band: self.band, descriptor });
        }
    }
}
