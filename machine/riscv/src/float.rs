//! The floating-point registers, of the extensions F and D: `f0` to `f31` and `fcsr`.

/// Bytes of the registers: `struct __riscv_d_ext_state`, at the end of which are four that nothing has.
pub const LENGTH: usize = 33 * 8;

/// Where `fcsr` is.
const CONTROL: usize = 32 * 8;

/// What of `fcsr` there is: the rounding mode, and the flags of exceptions.
const CONTROL_MASK: u32 = 0xff;

/// The registers as a program's memory has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatState([u8; LENGTH]);

impl FloatState {
    /// Of a program that has not run: zeros, rounding to the nearest.
    pub const INITIAL: FloatState = FloatState([0; LENGTH]);

    /// Their bytes.
    #[inline]
    pub const fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// Takes the registers from bytes a program made up. What `fcsr` does not have is dropped, as a CPU does. False, and nothing changes, if
    /// there are too few or too many.
    pub fn replace(&mut self, image: &[u8]) -> bool {
        let Ok(mut image) = <[u8; LENGTH]>::try_from(image) else { return false };
        let (_, end) = image.split_at_mut(CONTROL);
        let mut mask = [0; LENGTH - CONTROL];
        let (low, _) = mask.split_at_mut(size_of::<u32>());
        low.copy_from_slice(&CONTROL_MASK.to_le_bytes());
        end.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
        self.0 = image;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_made_up_is_taken_as_far_as_a_cpu_has_it() {
        let mut state = FloatState::INITIAL;
        assert!(!state.replace(&[1; LENGTH - 1]) && !state.replace(&[1; LENGTH + 1]));
        assert_eq!(state, FloatState::INITIAL);
        assert!(state.replace(&[0xff; LENGTH]));
        assert!(state.bytes()[..CONTROL] == [0xff; CONTROL]);
        assert_eq!(state.bytes()[CONTROL..], [0xff, 0, 0, 0, 0, 0, 0, 0]);
    }
}
