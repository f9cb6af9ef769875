//! Of riscv64: the floating-point registers.

use riscv::float::FloatState;

/// The components an extended state has: nothing tells them apart.
pub fn extended_features() -> u64 {
    0
}

/// The floating-point registers.
#[derive(Clone)]
pub struct ProgramState(FloatState);

impl ProgramState {
    /// Of a program that has not run.
    pub fn new() -> ProgramState {
        ProgramState(FloatState::INITIAL)
    }

    /// No CPU has any of it: all is here.
    pub fn park(&mut self) {}

    /// The registers as Linux puts them into a signal frame.
    pub fn extended_state(&mut self) -> &[u8] {
        self.0.bytes()
    }

    /// Replaces them by an image a program made up. False, and nothing changes, if it has another size.
    pub fn set_extended_state(&mut self, image: &[u8]) -> bool {
        self.0.replace(image)
    }
}

impl Default for ProgramState {
    fn default() -> ProgramState {
        ProgramState::new()
    }
}
