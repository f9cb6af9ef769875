//! The extended state of a signal frame: the floating-point registers, and behind them what says that nothing else follows.

use machine::user::Registers;
use riscv::float;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::UserContext;
use crate::arch::StateOwner;

/// What fills `struct __riscv_q_ext_state`, whose registers are twice as wide and there are none.
const UNUSED: usize = 516 - float::LENGTH;

/// The union of `union __riscv_fp_state` and `struct __riscv_extra_ext_header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExtendedState {
    /// `sc_fpregs.d`
    pub float: [u64; float::LENGTH / 8],
    /// Nothing.
    pub unused: [u8; UNUSED],
    /// `sc_extdesc.reserved`: 0, or the frame is refused
    pub reserved: u32,
    /// `sc_extdesc.hdr`: which extension's state comes next, and how long it is: none
    pub next: [u32; 2],
}

impl ExtendedState {
    /// With no extension, and all registers 0.
    pub fn initial() -> ExtendedState {
        ExtendedState::new_zeroed()
    }

    /// The registers, if the rest says what a frame from here says: no other extension's state follows.
    pub fn registers(&self) -> Option<&[u8]> {
        (self.reserved == 0 && self.next == [0; 2]).then_some(self.float.as_bytes())
    }
}

/// Puts a program's state down at `address`, which is within its frame.
///
/// # Errors
/// What `put` says.
#[inline]
pub fn write<E>(
    registers: &mut Registers,
    address: usize,
    mut put: impl FnMut(usize, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    put(address, registers.extended_state())
}

/// Takes the state that is in a frame. False if it makes no sense.
///
/// # Errors
/// None: it is there.
pub fn take<P: StateOwner>(program: &P, context: &UserContext) -> Result<bool, P::Stop> {
    let Some(state) = context.registers.extended.registers() else { return Ok(false) };
    Ok(program.change_registers(|registers| registers.set_extended_state(state)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    /// asm/ptrace.h and asm/sigcontext.h of riscv.
    #[test]
    fn the_layout_is_linux_s() {
        assert_eq!(size_of::<ExtendedState>(), 528);
        assert_eq!((offset_of!(ExtendedState, reserved), offset_of!(ExtendedState, next)), (516, 520));
        assert_eq!(float::LENGTH, 264);
    }

    #[test]
    fn what_linux_refuses_is_refused() {
        let good = ExtendedState { float: [7; 33], ..ExtendedState::initial() };
        assert_eq!(good.registers(), Some([7_u64; 33].as_bytes()));
        assert_eq!(ExtendedState { reserved: 1, ..good }.registers(), None);
        // RISCV_V_MAGIC, and an end that has a length.
        assert_eq!(ExtendedState { next: [0x5346_5457, 0], ..good }.registers(), None);
        assert_eq!(ExtendedState { next: [0, 8], ..good }.registers(), None);
    }
}
