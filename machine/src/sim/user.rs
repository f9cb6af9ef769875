//! Programs: their registers. There is no CPU of software yet that could run one, and [`enter`] says so; a test can play it.

use crate::memory::{OutOfMemory, Space};
#[cfg(any(test, feature = "test-hooks"))]
use crate::user::Script;
use crate::user::{General, Trap};
use alloc::sync::Arc;
use core::ops::{Deref, DerefMut};
use simulator::ProgramState;
pub use simulator::extended_features;

/// The state of a program.
pub struct Registers {
    /// The general registers.
    pub general: General,
    state: ProgramState,
    #[cfg(any(test, feature = "test-hooks"))]
    script: Option<Script>,
}

impl Deref for Registers {
    type Target = ProgramState;

    fn deref(&self) -> &ProgramState {
        &self.state
    }
}

impl DerefMut for Registers {
    fn deref_mut(&mut self) -> &mut ProgramState {
        &mut self.state
    }
}

impl Registers {
    /// A program about to start at `entry`.
    pub fn new(entry: usize, stack: usize) -> Result<Registers, OutOfMemory> {
        Ok(Registers {
            general: General::initial(entry, stack),
            state: ProgramState::new(),
            #[cfg(any(test, feature = "test-hooks"))]
            script: None,
        })
    }

    /// Lets `script` play the program.
    #[cfg(any(test, feature = "test-hooks"))]
    pub fn play(&mut self, script: Script) {
        self.script = Some(script);
    }

    /// As `new`, in place: the program is replaced by another.
    pub fn reset(&mut self, entry: usize, stack: usize) {
        (self.general, self.state) = (General::initial(entry, stack), ProgramState::new());
    }

    /// A copy for a fork.
    pub fn duplicate(&mut self) -> Result<Registers, OutOfMemory> {
        Ok(Registers {
            general: self.general,
            state: self.state.clone(),
            #[cfg(any(test, feature = "test-hooks"))]
            script: self.script.clone(),
        })
    }
}

/// Nothing runs the program: it is lost, but for one that a test plays.
pub fn enter(registers: &mut Registers, space: &Arc<Space>) -> Trap {
    #[cfg(any(test, feature = "test-hooks"))]
    if let Some(script) = registers.script.clone() {
        return crate::user::play(&script, &mut registers.general, space);
    }
    let _ = (registers, space);
    Trap::Lost
}
