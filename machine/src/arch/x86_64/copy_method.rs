//! Which instructions `copy.s` copies with.

/// String instructions.
pub const STRINGS: u8 = 0;
/// SSE's vector moves.
pub const SSE: u8 = 1;
/// AVX's vector moves.
pub const AVX: u8 = 2;

/// AVX's components of the state that programs have (XCR0): vector registers and their upper halves.
const AVX_STATE: u64 = 0b110;
/// AVX-512's.
const AVX512_STATE: u64 = 0b1110_0000;

/// The method for a CPU: whether it says that strings are fast (FSRM), whether it is emulated, and the components of programs' state.
///
/// AVX's instructions clear what lies above their 32 bytes in the same register, and the one that is borrowed is restored by
/// such an instruction. That is right only where nothing lies above. With AVX-512 it is SSE, whose moves leave the rest of the
/// register alone.
pub fn choose(fast_strings: bool, emulated: bool, xcr0: u64) -> u8 {
    if fast_strings && !emulated {
        STRINGS
    } else if xcr0 & AVX_STATE == AVX_STATE && xcr0 & AVX512_STATE == 0 {
        AVX
    } else {
        SSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_have_is_not_lost() {
        assert_eq!(choose(false, true, 0b111), AVX);
        assert_eq!(choose(true, true, 0b111), AVX);
        assert_eq!(choose(true, false, 0b1110_0111), STRINGS);
        assert_eq!(choose(false, false, 0b1110_0111), SSE, "upper halves of 512 bits");
        assert_eq!((choose(false, false, 0b011), choose(false, false, 0)), (SSE, SSE));
    }
}
