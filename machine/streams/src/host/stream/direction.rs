//! One direction of a stream: its file, what is under way, and the thread that waits where a CPU may not.
//!
//! A file that may have to wait is first tried without waiting, where the host can be asked so (pipes). The thread starts only
//! when that was not enough.

use super::{Shared, lock};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{FileType, RawMode, fstat, major};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// The threads need little: they copy.
const STACK: usize = 64 << 10;

/// The major number of `/dev/null` and its like.
const MEMORY_DEVICES: u32 = 1;

/// Where the file is: at its own position.
const HERE: u64 = u64::MAX;

/// One direction of a stream.
pub struct Direction<T> {
    /// The host's file; `None` once the machine is off.
    file: Mutex<Option<Arc<OwnedFd>>>,
    /// Whether reading or writing it may have to wait.
    pub waits: bool,
    /// Whether the host can be asked not to.
    can_try: AtomicBool,
    pub state: Mutex<T>,
    /// The thread has got on.
    pub progress: Condvar,
    /// Makes the thread look; made with it.
    bell: Mutex<Option<Arc<OwnedFd>>>,
}

/// What is wanted of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Wanted {
    #[default]
    Nothing,
    /// To be told when there is something to read.
    Word,
    /// So many bytes.
    Bytes(usize),
}

/// What is under way to the guest.
#[derive(Default)]
pub struct Input {
    pub wanted: Wanted,
    pub arrived: Vec<u8>,
    /// How much of it was taken.
    pub taken: usize,
    /// What reading gave instead of bytes, to be told once: the end, or an error.
    pub stopped: Option<Result<(), Errno>>,
}

/// What is under way to the host.
#[derive(Default)]
pub struct Output {
    pub pending: Vec<u8>,
    /// The thread has bytes in its hands.
    pub sending: bool,
    /// The kernel was refused, and wants to know when there is room.
    pub refused: bool,
    pub closed: Option<Errno>,
}

impl<T: Default> Direction<T> {
    pub fn new(file: Arc<OwnedFd>) -> Direction<T> {
        let waits = may_wait(file.as_fd());
        Direction {
            file: Mutex::new(Some(file)),
            waits,
            can_try: AtomicBool::new(true),
            state: Mutex::default(),
            progress: Condvar::new(),
            bell: Mutex::default(),
        }
    }

    pub fn file(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.file).clone()
    }

    /// Makes the thread look, which `main` is if there is none yet.
    pub fn ring(&self, stream: &Arc<Shared>, name: &str, main: fn(&Shared)) -> Result<(), Errno> {
        let mut bell = lock(&self.bell);
        if let Some(bell) = &*bell {
            // Full means that it rings already.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
            return Ok(());
        }
        if self.file().is_none() {
            return Err(Errno::IO);
        }
        *bell = Some(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let stream = stream.clone();
        let start = thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || main(&stream));
        start.map(drop).map_err(|_| {
            *bell = None;
            Errno::NOMEM
        })
    }

    /// Whether there is a thread; starts it if not.
    pub fn listens(&self, stream: &Arc<Shared>, name: &str, main: fn(&Shared)) -> bool {
        let started = lock(&self.bell).is_some();
        started || self.ring(stream, name, main).is_ok()
    }

    /// Leaves everything to the thread.
    #[cfg(test)]
    pub fn do_not_try(&self) {
        self.can_try.store(false, Ordering::Relaxed);
    }

    /// Lets go of the file, and ends the thread.
    pub fn close(&self) {
        lock(&self.file).take();
        if let Some(bell) = lock(&self.bell).take() {
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }

    /// Sleeps until the bell rings or something happens to one of the `others`, and returns what.
    pub fn sleep(&self, others: &[Option<(BorrowedFd<'_>, PollFlags)>; 2]) -> [PollFlags; 2] {
        let Some(bell) = lock(&self.bell).clone() else { return [PollFlags::empty(); 2] };
        let mut entries = vec![PollFd::new(&*bell, PollFlags::IN)];
        entries.extend(others.iter().flatten().map(|(file, events)| PollFd::from_borrowed_fd(*file, *events)));
        if poll(&mut entries, None).is_err() {
            return [PollFlags::empty(); 2]; // EINTR
        }
        let mut found = entries.iter().skip(1).map(|entry| entry.revents());
        let found = others.each_ref().map(|other| match other {
            Some(_) => found.next().unwrap_or(PollFlags::empty()),
            None => PollFlags::empty(),
        });
        let _ = rustix::io::read(&*bell, &mut [0; 8]);
        found
    }

    /// Reads what there is. `None`: that would have to wait, or might.
    pub fn read_now(&self, file: &OwnedFd, buffer: &mut [u8]) -> Option<Result<usize, Errno>> {
        self.now(|flags| preadv2(file, &mut [IoSliceMut::new(buffer)], HERE, flags))
    }

    /// Writes what there is room for. `None`: that would have to wait, or might.
    pub fn write_now(&self, file: &OwnedFd, bytes: &[u8]) -> Option<Result<usize, Errno>> {
        self.now(|flags| pwritev2(file, &[IoSlice::new(bytes)], HERE, flags))
    }

    fn now(&self, mut call: impl FnMut(ReadWriteFlags) -> Result<usize, Errno>) -> Option<Result<usize, Errno>> {
        if !self.waits {
            return Some(retry(|| call(ReadWriteFlags::empty())));
        }
        if !self.can_try.load(Ordering::Relaxed) {
            return None;
        }
        match retry(|| call(ReadWriteFlags::NOWAIT)) {
            Err(Errno::AGAIN) => None,
            // Terminals, sockets of old, old hosts: only the thread knows how to wait for them.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.can_try.store(false, Ordering::Relaxed);
                None
            }
            result => Some(result),
        }
    }
}

/// Whether reading or writing the file may have to wait for somebody.
fn may_wait(file: BorrowedFd<'_>) -> bool {
    let Ok(status) = fstat(file) else { return true };
    match FileType::from_raw_mode(status.st_mode as RawMode) {
        FileType::RegularFile | FileType::BlockDevice | FileType::Directory => false,
        FileType::CharacterDevice => major(status.st_rdev) != MEMORY_DEVICES,
        _ => true,
    }
}

/// What `poll` says about `file` at this moment.
pub fn look(file: BorrowedFd<'_>, events: PollFlags) -> PollFlags {
    let mut entries = [PollFd::from_borrowed_fd(file, events)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut entries, Some(&at_once)) {
        Ok(_) => entries[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// Does it again while a signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

impl Input {
    /// Takes at most `wanted` bytes from `read`.
    pub fn fetch(&mut self, wanted: usize, read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) {
        self.taken = 0;
        self.arrived.resize(wanted, 0);
        let result = read(&mut self.arrived);
        self.arrived.truncate(*result.as_ref().unwrap_or(&0));
        self.stopped = match result {
            Ok(0) if wanted > 0 => Some(Ok(())),
            Ok(_) => None,
            Err(errno) => Some(Err(errno)),
        };
    }
}
