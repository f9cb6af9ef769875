//! Programs in tests: a closure plays the program. Real programs on the host are a later machine.

use crate::memory::{OutOfMemory, Space};
use crate::user::{Exception, General, Trap};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// Plays a program: looks at and changes its registers and memory, and says how it trapped. What it must remember
/// it keeps in the registers, as programs do; so it survives a fork.
pub type Script = Arc<dyn Fn(&mut General, &Space) -> Trap + Send + Sync>;

/// Bytes of an extended state with x87 and SSE only.
const STATE_BYTES: usize = 576;

/// The state of a program, with the interface of `pc`.
pub struct Registers {
    /// The general registers.
    pub general: General,
    extended: Vec<u8>,
    fs_base: usize,
    gs_base: usize,
    script: Option<Script>,
}

/// The components an extended state has (XCR0): x87 and SSE.
pub fn extended_features() -> u64 {
    3
}

/// The state of a program that has not run.
fn initial_state() -> Vec<u8> {
    let mut state = vec![0x7f, 0x03]; // the x87's control word
    state.resize(24, 0);
    state.extend([0x80, 0x1f]); // MXCSR
    state.resize(STATE_BYTES, 0);
    state
}

impl Registers {
    /// A program about to start at `entry`.
    pub fn new(entry: usize, stack: usize) -> Result<Registers, OutOfMemory> {
        let general = General { rip: entry, rsp: stack, rflags: 0x202, ..General::default() };
        Ok(Registers { general, extended: initial_state(), fs_base: 0, gs_base: 0, script: None })
    }

    /// Lets `script` play the program.
    pub fn play(&mut self, script: Script) {
        self.script = Some(script);
    }

    /// As `new`, in place: the program is replaced by another.
    pub fn reset(&mut self, entry: usize, stack: usize) {
        self.general = General { rip: entry, rsp: stack, rflags: 0x202, ..General::default() };
        (self.extended, self.fs_base, self.gs_base) = (initial_state(), 0, 0);
    }

    /// A copy for a fork.
    pub fn duplicate(&mut self) -> Result<Registers, OutOfMemory> {
        Ok(Registers { general: self.general, extended: self.extended.clone(), script: self.script.clone(), ..*self })
    }

    /// Nothing is in a CPU on the host.
    pub fn park(&mut self) {}

    /// The base of FS.
    pub fn fs_base(&mut self) -> usize {
        self.fs_base
    }

    /// Sets the base of FS.
    pub fn set_fs_base(&mut self, base: usize) {
        self.fs_base = base;
    }

    /// The base of GS.
    pub fn gs_base(&mut self) -> usize {
        self.gs_base
    }

    /// Sets the base of GS.
    pub fn set_gs_base(&mut self, base: usize) {
        self.gs_base = base;
    }

    /// The extended state in XSAVE's standard format.
    pub fn extended_state(&mut self) -> &[u8] {
        &self.extended
    }

    /// Replaces the extended state. False if it is too short.
    pub fn set_extended_state(&mut self, state: &[u8]) -> bool {
        let Some(state) = state.get(..STATE_BYTES) else { return false };
        self.extended.copy_from_slice(state);
        true
    }
}

/// One step of the script. A program without one executes an invalid opcode.
pub fn enter(registers: &mut Registers, space: &Arc<Space>) -> Trap {
    let trap = match registers.script.clone() {
        Some(script) => script(&mut registers.general, space),
        None => Trap::Exception(Exception { vector: 6, error: 0, address: registers.general.rip }),
    };
    if trap == Trap::Interrupted {
        // As on `pc`, the handlers have run when this returns.
        super::cpu::take_interrupts();
    }
    if trap == Trap::Syscall {
        registers.general.orig_rax = registers.general.rax;
        registers.general.rax = -38_isize as usize;
    }
    trap
}
