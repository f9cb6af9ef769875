//! `cmdline`, `environ` and `auxv`: what execve(2) gave the program.
//!
//! The strings are shown as they stand in its memory now: a program may write over them.

use core::ops::Range;

use abi::Result;
use memory::{Access, AddressSpace};
use process::Process;

use crate::node::{Cursor, PART, Step};
use crate::subject::Subject;
use crate::text::Text;

/// The arguments, each ended by a zero. Nothing of a zombie.
pub(crate) fn command_line(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    let space = process.space();
    Ok(space.map_or(Step::End, |space| strings(&space, space.program().arguments, text, cursor)))
}

/// The environment, likewise.
pub(crate) fn environment(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    let space = process.space();
    Ok(space.map_or(Step::End, |space| strings(&space, space.program().environment, text, cursor)))
}

/// The auxiliary vector, as bytes.
pub(crate) fn auxiliary_vector(_: &Subject, process: &Process, text: &mut Text) -> Result<()> {
    text.bytes(&process.program().auxiliary);
    Ok(())
}

/// The next bytes of `range`; `cursor.at` is how many were shown.
fn strings(space: &AddressSpace, range: Range<usize>, text: &mut Text, cursor: &mut Cursor) -> Step {
    let mut bytes = [0; PART];
    let length = read(space, range, cursor.at as usize, &mut bytes);
    text.bytes(bytes.get(..length).unwrap_or_default());
    cursor.at += length as u64;
    if length < PART { Step::End } else { Step::More }
}

/// Copies bytes of a program's memory from `offset` in `range` on, as far as they can be read without waiting.
fn read(space: &AddressSpace, range: Range<usize>, offset: usize, to: &mut [u8]) -> usize {
    let rest = range.len().saturating_sub(offset).min(to.len());
    let mut done = 0;
    while let Some(rest) = to.get_mut(done..rest).filter(|rest| !rest.is_empty()) {
        match space.space().read(range.start + offset + done, rest) {
            Ok(()) => done += rest.len(),
            Err(fault) => {
                done += fault.copied;
                if space.resolve(fault.address.into(), Access::READ).is_err() {
                    break;
                }
            }
        }
    }
    done
}
