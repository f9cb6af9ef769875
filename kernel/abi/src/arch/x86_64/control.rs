//! arch_prctl(2).

use machine::memory::USER_TOP;
use machine::user::Registers;

use crate::{Errno, Result};

const ARCH_SET_GS: u32 = 0x1001;
const ARCH_SET_FS: u32 = 0x1002;
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;
const ARCH_GET_CPUID: u32 = 0x1011;
const ARCH_SET_CPUID: u32 = 0x1012;

/// What [`arch_prctl`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Returned(usize),
    /// 0, when this has been written to the address that is the argument.
    Told(usize),
}

/// arch_prctl(2): gets and sets what of the registers has no instruction of its own everywhere.
///
/// # Errors
/// `EPERM` for an address that is none of a program's, `ENODEV` for what no CPU here can do, `EINVAL` for other codes.
pub fn arch_prctl(registers: &mut Registers, code: u32, argument: usize) -> Result<Answer> {
    match code {
        ARCH_SET_FS | ARCH_SET_GS if argument >= USER_TOP => return Err(Errno::EPERM),
        ARCH_SET_FS => registers.set_fs_base(argument),
        ARCH_SET_GS => registers.set_gs_base(argument),
        ARCH_GET_FS => return Ok(Answer::Told(registers.fs_base())),
        ARCH_GET_GS => return Ok(Answer::Told(registers.gs_base())),
        // The CPUID instruction can't be made to fault.
        ARCH_GET_CPUID => return Ok(Answer::Returned(1)),
        ARCH_SET_CPUID => return Err(Errno::ENODEV),
        _ => return Err(Errno::EINVAL),
    }
    Ok(Answer::Returned(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_set_and_told() {
        let mut registers = Registers::new(0, 0).unwrap();
        assert_eq!(arch_prctl(&mut registers, ARCH_SET_FS, 0x1000), Ok(Answer::Returned(0)));
        assert_eq!(arch_prctl(&mut registers, ARCH_SET_GS, 0x2000), Ok(Answer::Returned(0)));
        assert_eq!(arch_prctl(&mut registers, ARCH_GET_FS, 0), Ok(Answer::Told(0x1000)));
        assert_eq!(arch_prctl(&mut registers, ARCH_GET_GS, 0), Ok(Answer::Told(0x2000)));
        assert_eq!(arch_prctl(&mut registers, ARCH_SET_FS, USER_TOP), Err(Errno::EPERM));
        assert_eq!(arch_prctl(&mut registers, ARCH_GET_CPUID, 0), Ok(Answer::Returned(1)));
        assert_eq!(arch_prctl(&mut registers, 0, 0), Err(Errno::EINVAL));
    }
}
