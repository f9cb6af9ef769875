//! The general registers of riscv64's programs: the crate `riscv` has them, since none of them can break memory.

use super::Registers;
pub use riscv::General;

impl Registers {
    /// Sets what a thread finds its own variables by: `tp`.
    pub fn set_thread_pointer(&mut self, address: usize) {
        self.general.set_thread_pointer(address);
    }
}
