//! [`Registers`]: a program's.
//!
//! The extended state (x87, SSE, AVX...) stays in the stub's thread while the kernel runs; a number tells whose it is. A state that is
//! loaded gets a new number; if the thread's is the same, it still has the newest values.

use crate::{Gone, NOBODY, new_number};
use std::sync::Arc;
use x86::extended::replace;
use x86::general::General;
use x86::signals::Reason;

/// The bits MXCSR can have on every CPU that Linux runs on today.
const MXCSR_MASK: u32 = 0xffff;

/// A program that has stopped.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// Why, as the host tells it.
    pub reason: Reason,
    /// Its registers.
    pub general: General,
    /// The base of FS.
    pub fs_base: usize,
    /// The base of GS.
    pub gs_base: usize,
}

/// A stub, for this CPU: its thread holds the extended state of the program that ran last.
pub trait Holder {
    /// The end of what programs can have.
    const END: usize;

    /// Whose it is.
    fn owner(&self) -> u64;
    /// Copies the extended state of `owner` out.
    ///
    /// # Errors
    /// The thread is gone.
    fn save_extended_state(&self, owner: u64, image: &mut [u8]) -> Result<(), Gone>;
    /// Loads the extended state of `owner`. False if the host takes it for damaged.
    fn load_extended_state(&self, owner: u64, image: &[u8]) -> bool;
}

/// See the module's page.
pub struct Registers<S> {
    /// The general registers.
    pub general: General,
    extended: Vec<u8>,
    /// The number of its last load into a thread.
    number: u64,
    /// The stub whose thread, of this CPU, has newer values than `extended`.
    live: Option<Arc<S>>,
    fs_base: usize,
    gs_base: usize,
}

impl<S: Holder> Registers<S> {
    /// A program about to start at `entry`, with this extended state.
    pub fn new(entry: usize, stack: usize, extended: Vec<u8>) -> Registers<S> {
        let general = General::initial(entry, stack);
        Registers { general, extended, number: NOBODY, live: None, fs_base: 0, gs_base: 0 }
    }

    /// A copy for a fork.
    pub fn duplicate(&mut self) -> Registers<S> {
        self.park();
        Registers { extended: self.extended.clone(), number: NOBODY, live: None, ..*self }
    }

    /// Saves what only the stub's thread has: to be called before the program may run on another CPU.
    pub fn park(&mut self) {
        if let Some(stub) = self.live.take() {
            // If the process is gone, so is the program.
            let _ = stub.save_extended_state(self.number, &mut self.extended);
        }
    }

    /// The base of FS.
    pub fn fs_base(&self) -> usize {
        self.fs_base
    }

    /// Sets the base of FS. An address outside user space is taken as 0.
    pub fn set_fs_base(&mut self, base: usize) {
        self.fs_base = if base < S::END { base } else { 0 };
    }

    /// The base of GS.
    pub fn gs_base(&self) -> usize {
        self.gs_base
    }

    /// Sets the base of GS. An address outside user space is taken as 0.
    pub fn set_gs_base(&mut self, base: usize) {
        self.gs_base = if base < S::END { base } else { 0 };
    }

    /// The extended state in XSAVE's standard format.
    pub fn extended_state(&mut self) -> &[u8] {
        self.park();
        &self.extended
    }

    /// Replaces the extended state by an image a program made up: of the size [`extended_state`](Self::extended_state) has, or just the
    /// 512 bytes of `fxsave`. False, and nothing changes, if no CPU could have made it.
    pub fn set_extended_state(&mut self, image: &[u8], components: u64) -> bool {
        if !replace(&mut self.extended, image, components, MXCSR_MASK) {
            return false;
        }
        (self.live, self.number) = (None, NOBODY);
        true
    }

    /// Sees to it that `stub`'s thread of this CPU has the extended state.
    pub fn bring(&mut self, stub: &Arc<S>, initial: impl Fn() -> Vec<u8>) {
        let is_there = self.number != NOBODY && stub.owner() == self.number;
        if is_there && self.live.as_ref().is_none_or(|live| Arc::ptr_eq(live, stub)) {
            return;
        }
        self.park();
        self.number = new_number();
        if !stub.load_extended_state(self.number, &self.extended) {
            // The host knows better what its CPUs can have: such a state does not exist.
            self.extended = initial();
            stub.load_extended_state(self.number, &self.extended);
        }
    }

    /// Its stub is gone, and what it held.
    pub fn lose(&mut self) {
        self.live = None;
    }

    /// Takes what the program's registers have become.
    pub fn take(&mut self, stopped: &Stopped, stub: &Arc<S>) {
        self.general = stopped.general;
        (self.fs_base, self.gs_base) = (stopped.fs_base, stopped.gs_base);
        self.live = Some(stub.clone());
    }
}
