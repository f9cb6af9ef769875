//! [`ByteStream`]: an open file of the host as a device: a terminal, a pipe, a file, whatever a standard stream is.
//!
//! The file was opened by others, and others may have it open too: its flags are theirs, so it is not made
//! non-blocking. What never waits (files, `/dev/null`) is read and written at once, so that an error (a full disk) meets the
//! write it belongs to. What may have to wait (terminals, pipes, sockets) is read and written by threads of its own, one a
//! direction, unless the host can do it at once.
//!
//! **Input is fetched on demand**, and never more than was asked for: what the guest does not read stays where it is, for whoever
//! has the file after it. The reading thread looks at the file only while something is wanted of it.
//!
//! **Output is delivered.** The writing thread has a buffer the size of a pipe's before it; [`ByteStream::finish`] waits until it
//! is empty or nobody reads any more. Between two writes the thread listens for the end of the last reader.
//!
//! **Who synchronises.** A mutex a direction, held for a copy. Each event the kernel has asked for is told once, by the interrupt.

mod direction;

#[cfg(test)]
mod tests;

use super::{Connect, Handler, Interrupt};
use crate::{Readiness, StreamStop, WindowSize};
use direction::{Direction, Input, Output, Wanted, look, retry};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The most that waits on the way out, and the most fetched at once: the size of a pipe.
const CAPACITY: usize = 64 << 10;

/// Writes up to this size go out whole or not at all, as pipe(7) promises.
const ATOMIC: usize = 4096;

/// A stream of bytes of the host.
#[derive(Clone)]
pub struct ByteStream(Arc<Shared>);

/// What a stream's holders and threads share.
struct Shared {
    input: Option<Direction<Input>>,
    output: Option<Direction<Output>>,
    /// Becomes readable when the window's size has changed; the reading thread takes it.
    resized: Mutex<Option<OwnedFd>>,
    /// The input has no end: when the file has no more, nothing comes any more.
    endless: bool,
    connect: Connect,
    interrupt: OnceLock<Interrupt>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ByteStream {
    /// A stream over a file, in the directions it is open for.
    ///
    /// # Errors
    /// The descriptor is of no open file.
    pub fn new(file: OwnedFd, connect: Connect) -> io::Result<ByteStream> {
        let access = fcntl_getfl(&file)? & OFlags::RWMODE;
        let file = Arc::new(file);
        let input = (access != OFlags::WRONLY).then(|| Direction::new(file.clone()));
        let output = (access != OFlags::RDONLY).then(|| Direction::new(file));
        Ok(ByteStream(Arc::new(Shared {
            input,
            output,
            resized: Mutex::default(),
            endless: false,
            connect,
            interrupt: OnceLock::new(),
        })))
    }

    /// A terminal: keys from one file, what is shown to another (or the same one), and something that becomes readable when
    /// its window has another size. The end of its input says that the terminal is gone, unless keys come from something
    /// that is no terminal, as in a script: then just nobody types any more.
    pub fn terminal(input: OwnedFd, output: OwnedFd, resized: Option<OwnedFd>, connect: Connect) -> ByteStream {
        let (endless, resized) = (!input.is_terminal(), Mutex::new(resized));
        let (input, output) = (Direction::new(Arc::new(input)), Direction::new(Arc::new(output)));
        ByteStream(Arc::new(Shared {
            input: Some(input),
            output: Some(output),
            resized,
            endless,
            connect,
            interrupt: OnceLock::new(),
        }))
    }

    /// Calls `handler` from now on, as the handler of an interrupt, whenever something may have changed that the kernel asked
    /// for and did not get; the first call counts.
    pub fn connect(&self, handler: Handler) {
        self.set_interrupt((self.0.connect)(handler));
    }

    fn set_interrupt(&self, interrupt: Interrupt) {
        let _ = self.0.interrupt.set(interrupt);
    }

    /// Whether it can be read.
    pub fn is_readable(&self) -> bool {
        self.0.input.is_some()
    }

    /// Whether it can be written.
    pub fn is_writable(&self) -> bool {
        self.0.output.is_some()
    }

    /// Hands what is there to `take`, which says how much it took; of the host no more than `wanted` bytes are fetched.
    /// 0 is the end of the file.
    ///
    /// # Errors
    /// [`StreamStop::WouldBlock`] while nothing is there: the interrupt comes when there is. [`StreamStop::Failed`].
    pub fn read(&self, wanted: usize, take: impl FnOnce(&[u8]) -> usize) -> Result<usize, StreamStop> {
        let input = self.0.input.as_ref().ok_or(StreamStop::Failed(Errno::BADF.raw_os_error()))?;
        let mut state = lock(&input.state);
        if state.arrived.is_empty() && state.stopped.is_none() {
            let file = input.file().ok_or(StreamStop::Failed(Errno::IO.raw_os_error()))?;
            let wanted = wanted.min(CAPACITY);
            // What the thread reads at this moment comes first.
            if !matches!(state.wanted, Wanted::Bytes(_)) {
                state.fetch(wanted, |buffer| input.read_now(&file, buffer).unwrap_or(Err(Errno::AGAIN)));
            }
            if state.arrived.is_empty() && matches!(state.stopped, None | Some(Err(Errno::AGAIN))) {
                state.stopped = None;
                self.want(input, &mut state, Wanted::Bytes(wanted))?;
                return Err(StreamStop::WouldBlock);
            }
        }
        if self.0.endless && state.stopped.is_some() {
            return Err(StreamStop::WouldBlock);
        }
        match state.stopped.take() {
            Some(Err(errno)) => Err(errno.into()),
            Some(Ok(())) => Ok(0),
            None => {
                let left = state.arrived.get(state.taken..).unwrap_or_default();
                let taken = take(left).min(left.len());
                state.taken += taken;
                if state.taken == state.arrived.len() {
                    state.arrived.clear();
                    state.taken = 0;
                }
                Ok(taken)
            }
        }
    }

    /// Takes bytes on their way out: as many as there is room for, but all or none of up to [`ATOMIC`].
    ///
    /// # Errors
    /// [`StreamStop::WouldBlock`] without room: the interrupt comes when there is some. [`StreamStop::Closed`] when nobody
    /// reads any more, [`StreamStop::Failed`].
    pub fn write(&self, bytes: &[u8]) -> Result<usize, StreamStop> {
        let output = self.0.output.as_ref().ok_or(StreamStop::Failed(Errno::BADF.raw_os_error()))?;
        let mut state = lock(&output.state);
        if let Some(errno) = state.closed {
            return Err(errno.into());
        }
        // What the thread still has comes first.
        if state.pending.is_empty() && !state.sending {
            let file = output.file().ok_or(StreamStop::Closed)?;
            if let Some(result) = output.write_now(&file, bytes) {
                return Ok(result?);
            }
        }
        let room = CAPACITY.saturating_sub(state.pending.len());
        if room == 0 || bytes.len() <= ATOMIC && room < bytes.len() {
            state.refused = true;
            return Err(StreamStop::WouldBlock);
        }
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.send(output, state, taken)?;
        Ok(taken.len())
    }

    /// Takes bytes whether there is room or not: the kernel's last words.
    pub fn write_last(&self, bytes: &[u8]) {
        let Some(output) = &self.0.output else { return };
        let state = lock(&output.state);
        if state.closed.is_some() || bytes.is_empty() {
        } else if output.waits {
            let _ = self.send(output, state, bytes);
        } else if let Some(file) = output.file() {
            let _ = deliver(&file, bytes);
        }
    }

    fn send(&self, output: &Direction<Output>, mut state: MutexGuard<'_, Output>, bytes: &[u8]) -> Result<(), Errno> {
        let asleep = state.pending.is_empty() && !state.sending;
        state.pending.extend_from_slice(bytes);
        drop(state);
        if !asleep {
            return Ok(());
        }
        output.ring(&self.0, "stream output", write_all).inspect_err(|errno| {
            let mut state = lock(&output.state);
            state.pending.clear();
            state.closed = Some(*errno);
        })
    }

    /// What could be done now. Of what could not, the interrupt tells when it can.
    pub fn readiness(&self) -> Readiness {
        let mut ready = Readiness::empty();
        if let Some(input) = &self.0.input {
            ready |= self.input_readiness(input);
        }
        if let Some(output) = &self.0.output {
            ready |= self.output_readiness(output);
        }
        ready
    }

    fn input_readiness(&self, input: &Direction<Input>) -> Readiness {
        let mut state = lock(&input.state);
        if !input.waits || !state.arrived.is_empty() {
            return Readiness::INPUT;
        }
        let Some(file) = input.file() else { return Readiness::INPUT_ENDED };
        let found = look(file.as_fd(), PollFlags::IN);
        let mut ready = Readiness::empty();
        ready.set(Readiness::INPUT, found.contains(PollFlags::IN) || matches!(state.stopped, Some(Err(_))));
        ready.set(Readiness::INPUT_ENDED, found.contains(PollFlags::HUP) || matches!(state.stopped, Some(Ok(()))));
        if ready.is_empty() {
            let _ = self.want(input, &mut state, Wanted::Word);
        }
        ready
    }

    fn output_readiness(&self, output: &Direction<Output>) -> Readiness {
        if !output.waits {
            return Readiness::OUTPUT;
        }
        // The thread listens for the end of the last reader.
        let started = output.listens(&self.0, "stream output", write_all);
        let mut state = lock(&output.state);
        let file = output.file();
        let gone = file.is_none_or(|file| look(file.as_fd(), PollFlags::empty()).contains(PollFlags::ERR));
        if state.closed.is_some() || gone || !started {
            return Readiness::OUTPUT | Readiness::OUTPUT_CLOSED;
        }
        if CAPACITY.saturating_sub(state.pending.len()) >= ATOMIC {
            return Readiness::OUTPUT;
        }
        state.refused = true;
        Readiness::empty()
    }

    /// How many bytes could be read at once, as far as the host says.
    pub fn waiting(&self) -> usize {
        let Some(input) = &self.0.input else { return 0 };
        let state = lock(&input.state);
        let arrived = state.arrived.len() - state.taken;
        let behind = input.file().and_then(|file| rustix::io::ioctl_fionread(&*file).ok()).unwrap_or(0);
        arrived + behind as usize
    }

    /// The size of the window, if it is a terminal.
    pub fn window_size(&self) -> Option<WindowSize> {
        let file = self.0.output.as_ref()?.file()?;
        let size = rustix::termios::tcgetwinsize(&*file).ok()?;
        Some(WindowSize { rows: size.ws_row, columns: size.ws_col, width: size.ws_xpixel, height: size.ws_ypixel })
    }

    fn want(&self, input: &Direction<Input>, state: &mut Input, wanted: Wanted) -> Result<(), Errno> {
        let idle = state.wanted == Wanted::Nothing;
        state.wanted = state.wanted.max(wanted);
        if idle {
            let rung = input.ring(&self.0, "stream input", read_on_demand);
            return rung.inspect_err(|_| state.wanted = Wanted::Nothing);
        }
        Ok(())
    }

    /// Waits until all that was written is delivered, or nobody reads it.
    pub fn finish(&self) {
        let Some(output) = &self.0.output else { return };
        let mut state = lock(&output.state);
        while state.closed.is_none() && (state.sending || !state.pending.is_empty()) {
            state = output.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the threads and closes the files, whoever still has the stream.
    pub fn close(&self) {
        self.0.input.iter().for_each(Direction::close);
        self.0.output.iter().for_each(Direction::close);
        lock(&self.0.resized).take();
    }
}

impl Shared {
    fn tell(&self) {
        if let Some(interrupt) = self.interrupt.get() {
            interrupt();
        }
    }
}

/// The thread of a stream that is read.
fn read_on_demand(stream: &Shared) {
    let Some(input) = &stream.input else { return };
    let mut resized = lock(&stream.resized).take();
    while let Some(file) = input.file() {
        let wanted = lock(&input.state).wanted;
        let watched = (wanted != Wanted::Nothing).then(|| (file.as_fd(), PollFlags::IN));
        let window = resized.as_ref().map(|resized| (resized.as_fd(), PollFlags::IN));
        let [ready, found] = input.sleep(&[watched, window]);
        if found.contains(PollFlags::IN) {
            let _ = resized.as_ref().map(|resized| rustix::io::read(resized, &mut [0; 64]));
            stream.tell();
        } else if !found.is_empty() {
            resized = None; // whoever told of it is gone
        }
        if ready.is_empty() {
            continue;
        }
        // Somebody may ask for more than a word meanwhile, and others may have read what was there: the read waits without
        // the lock.
        let wanted = lock(&input.state).wanted;
        let mut fetched = Input::default();
        if let Wanted::Bytes(count) = wanted {
            fetched.fetch(count, |buffer| retry(|| rustix::io::read(&*file, &mut *buffer)));
        }
        if fetched.stopped == Some(Err(Errno::AGAIN)) {
            continue; // the file is non-blocking, and others were faster
        }
        let mut state = lock(&input.state);
        if wanted != Wanted::Word {
            *state = fetched;
        } else if state.wanted == Wanted::Word {
            state.wanted = Wanted::Nothing;
        }
        drop(state);
        stream.tell();
    }
}

/// The thread of a stream that is written.
fn write_all(stream: &Shared) {
    let Some(output) = &stream.output else { return };
    let mut bytes = Vec::new();
    while let Some(file) = output.file() {
        let mut state = lock(&output.state);
        bytes.clear();
        std::mem::swap(&mut state.pending, &mut bytes);
        state.sending = !bytes.is_empty();
        let refused = std::mem::take(&mut state.refused);
        drop(state);
        if refused {
            stream.tell();
        }
        let result = if bytes.is_empty() {
            output.progress.notify_all();
            let [found, _] = output.sleep(&[Some((file.as_fd(), PollFlags::empty())), None]);
            if found.contains(PollFlags::ERR) { Err(Errno::PIPE) } else { Ok(()) }
        } else {
            deliver(&file, &bytes)
        };
        if let Err(errno) = result {
            let mut state = lock(&output.state);
            state.closed = Some(errno);
            state.pending = Vec::new();
            state.sending = false;
            drop(state);
            output.progress.notify_all();
            stream.tell();
            return;
        }
    }
}

/// Writes all of `bytes`, waiting for room.
fn deliver(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // Somebody who shares the file made it non-blocking.
                let _ = poll(&mut [PollFd::new(file, PollFlags::OUT)], None);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

impl From<Errno> for StreamStop {
    fn from(errno: Errno) -> StreamStop {
        match errno {
            Errno::PIPE | Errno::CONNRESET => StreamStop::Closed,
            Errno::AGAIN => StreamStop::WouldBlock,
            errno => StreamStop::Failed(errno.raw_os_error()),
        }
    }
}
