//! What a filter answers, as the host finds it out: for tests.

use super::{AND, ARCHITECTURE, ARGUMENTS, IF_ABOVE, IF_EQUAL, Instruction, LOAD, NUMBER, POINTER_HIGH, POINTER_LOW};

/// A system call as filters see it.
#[derive(Clone, Copy)]
pub struct Call {
    pub architecture: u32,
    pub number: u32,
    pub pointer: usize,
    pub arguments: [u64; 6],
}

impl Call {
    /// The word at an offset.
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64| if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 };
        match offset {
            NUMBER => self.number,
            ARCHITECTURE => self.architecture,
            POINTER_LOW | POINTER_HIGH => half(self.pointer as u64),
            _ => half(self.arguments[(offset - ARGUMENTS) as usize / 8]),
        }
    }

    /// What a filter answers.
    pub fn decide(&self, filter: &[Instruction]) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = &filter[at];
            at += 1;
            let jump = |taken| usize::from(if taken { instruction.jt } else { instruction.jf });
            match instruction.code {
                LOAD => value = self.word(instruction.k),
                AND => value &= instruction.k,
                IF_EQUAL => at += jump(value == instruction.k),
                IF_ABOVE => at += jump(value > instruction.k),
                _ => return instruction.k,
            }
        }
    }
}
