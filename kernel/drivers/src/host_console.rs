//! The console of a machine that is a process: the terminal of the host it was started from.
//!
//! **Receiving.** While the user has room the host is asked for as many keys; the interrupt comes when there are some. Without
//! room nothing is asked for, and keys stay with the host, until [`HostConsole::resume`].
//!
//! **Sending.** [`HostConsole::start`] moves the user's output into the stream until it refuses; its interrupt then begins
//! anew. What was fetched and refused waits here. As with a UART there is no state "sending" that could be lost.
//!
//! **Who synchronises.** One spin lock covers the sending side. The receiving side belongs to one CPU at a time; another one that
//! comes meanwhile leaves a note to look once more.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use machine::device::{ByteStream, StreamStop, WindowSize};
use sync::SpinLock;

use crate::one_at_a_time::OneAtATime;
use crate::serial::{Received, SerialUser};

/// What the driver needs of a terminal of the host: the machine's, or a test's imitation.
pub trait HostTerminal: Send + Sync {
    /// Moves keys into `buffer`. Of the host no more than `wanted` are taken. 0: the terminal is gone.
    ///
    /// # Errors
    /// [`StreamStop::WouldBlock`]: none are there; an interrupt comes with them. Any other: the terminal is gone.
    fn read(&self, wanted: usize, buffer: &mut [u8]) -> Result<usize, StreamStop>;

    /// Takes output.
    ///
    /// # Errors
    /// [`StreamStop::WouldBlock`]: there is no room; an interrupt comes when there is. Any other: the terminal is gone.
    fn write(&self, bytes: &[u8]) -> Result<usize, StreamStop>;

    /// Takes output whether there is room or not.
    fn write_last(&self, bytes: &[u8]);

    /// The size of the window now.
    fn window_size(&self) -> Option<WindowSize>;
}

impl HostTerminal for ByteStream {
    fn read(&self, wanted: usize, buffer: &mut [u8]) -> Result<usize, StreamStop> {
        ByteStream::read(self, wanted, |there| {
            let count = there.len().min(buffer.len());
            let parts = buffer.get_mut(..count).zip(there.get(..count));
            parts.map_or(0, |(buffer, there)| {
                buffer.copy_from_slice(there);
                count
            })
        })
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, StreamStop> {
        ByteStream::write(self, bytes)
    }

    fn write_last(&self, bytes: &[u8]) {
        ByteStream::write_last(self, bytes);
    }

    fn window_size(&self) -> Option<WindowSize> {
        ByteStream::window_size(self)
    }
}

/// Who uses the console: a terminal of the guest. Called with interrupts off.
pub trait ConsoleUser: SerialUser {
    /// The window has this size.
    fn resize(&self, size: WindowSize);

    /// The host's terminal is gone.
    fn hang_up(&self);
}

/// Items given to the user at once.
const BATCH: usize = 64;
/// Bytes taken from the user at once.
const BURST: usize = 512;
/// Rounds of one interrupt, or of one [`HostConsole::start`], before others get a turn.
const ROUNDS: usize = 1024;

/// A driver of the host's terminal.
pub struct HostConsole<T: HostTerminal = ByteStream> {
    terminal: T,
    user: SpinLock<Option<Weak<dyn ConsoleUser>>>,
    unsent: SpinLock<Unsent>,
    /// The size the user was told last. The user may have set another since.
    window: SpinLock<Option<WindowSize>>,
    gone: AtomicBool,
    receiving: OneAtATime,
}

/// Bytes the user has given up and the terminal has not taken.
struct Unsent {
    bytes: [u8; BURST],
    length: usize,
}

impl Unsent {
    /// Makes sure there is something, if the user has anything.
    fn fill(&mut self, user: &dyn ConsoleUser) -> &[u8] {
        if self.length == 0 {
            self.length = user.fetch(&mut self.bytes);
        }
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn remove(&mut self, count: usize) {
        let length = self.length.min(BURST);
        let count = count.min(length);
        self.bytes.copy_within(count..length, 0);
        self.length = length - count;
    }
}

impl<T: HostTerminal> HostConsole<T> {
    /// A driver that does nothing until [`HostConsole::attach`].
    pub fn new(terminal: T) -> Arc<HostConsole<T>> {
        Arc::new(HostConsole {
            terminal,
            user: SpinLock::new(None),
            unsent: SpinLock::new(Unsent { bytes: [0; BURST], length: 0 }),
            window: SpinLock::new(None),
            gone: AtomicBool::new(false),
            receiving: OneAtATime::default(),
        })
    }

    /// Gives the console to its user, tells it the window's size, and begins to receive.
    pub fn attach(&self, user: Weak<dyn ConsoleUser>) {
        *self.user.lock() = Some(user);
        self.interrupt();
    }

    fn user(&self) -> Option<Arc<dyn ConsoleUser>> {
        self.user.lock().as_ref().and_then(Weak::upgrade)
    }

    /// The interrupt handler: keys arrived, there is room for output, the window has another size, or the terminal is gone.
    pub fn interrupt(&self) {
        self.receive();
        self.start();
        let size = self.terminal.window_size();
        let news = size.filter(|_| core::mem::replace(&mut *self.window.lock(), size) != size);
        if let (Some(size), Some(user)) = (news, self.user()) {
            user.resize(size);
        }
    }

    /// The user has room again.
    pub fn resume(&self) {
        self.receive();
    }

    /// Hands keys to the user until there are none or the user has no room.
    fn receive(&self) {
        self.receiving.run(|| {
            if let Some(user) = self.user() {
                self.receive_for(&*user);
            }
        });
    }

    fn receive_for(&self, user: &dyn ConsoleUser) {
        for _ in 0..ROUNDS {
            let room = user.room();
            if room == 0 || self.gone.load(Ordering::Relaxed) {
                return;
            }
            let mut keys = [0; BATCH];
            let batch = keys.get_mut(..room.min(BATCH)).unwrap_or_default();
            let count = match self.terminal.read(room, batch) {
                Err(StreamStop::WouldBlock) => return,
                Ok(0) | Err(_) => {
                    self.gone.store(true, Ordering::Relaxed);
                    return user.hang_up();
                }
                Ok(count) => count,
            };
            let received = keys.map(Received::Byte);
            user.receive(received.get(..count).unwrap_or(&received));
        }
    }

    /// Sends what the user has, as far as the terminal takes it now; the rest when its interrupt comes.
    pub fn start(&self) {
        if let Some(user) = self.user() {
            self.send_for(&*user);
            user.fetched();
        }
    }

    /// As [`HostConsole::start`], but wakes nobody, so it may be called under any lock except the user's: for the messages of
    /// the kernel. Who waits for room waits for a terminal that has refused, and is woken when its interrupt comes.
    pub fn start_quietly(&self) {
        if let Some(user) = self.user() {
            self.send_for(&*user);
        }
    }

    fn send_for(&self, user: &dyn ConsoleUser) {
        let mut unsent = self.unsent.lock();
        for _ in 0..ROUNDS {
            let bytes = unsent.fill(user);
            let count = bytes.len();
            if count == 0 {
                return;
            }
            match self.terminal.write(bytes) {
                Ok(taken) => unsent.remove(taken),
                Err(StreamStop::WouldBlock) => return,
                // Nobody is there to see it: as on an unplugged line.
                Err(_) => unsent.remove(count),
            }
        }
    }

    /// Sends all the user has, room or not: the machine is about to stop.
    pub fn flush(&self) {
        let Some(user) = self.user() else { return };
        let mut unsent = self.unsent.lock();
        loop {
            let bytes = unsent.fill(&*user);
            let count = bytes.len();
            if count == 0 {
                return;
            }
            self.terminal.write_last(bytes);
            unsent.remove(count);
        }
    }
}

#[cfg(test)]
mod tests;
