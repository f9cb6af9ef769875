//! The extended state (x87, SSE, AVX...) of a signal frame: how its size is marked, and what becomes of one without a mark.

use machine::user::Registers;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::UserContext;
use crate::arch::StateOwner;

/// The largest extended state taken back from a program: more than that of AVX-512.
const MAXIMUM_STATE: usize = 4096;

/// An extended state up to AVX fits in this.
const USUAL_STATE: usize = 1024;

/// Bytes of the legacy part of an extended state.
const LEGACY_STATE: usize = 512;

/// `struct _fpx_sw_bytes`: at byte 464 of the extended state in a frame, it tells what the rest holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExtendedStateMark {
    /// `magic1`: [`ExtendedStateMark::MAGIC`] if more than the legacy 512 bytes are there
    pub magic: u32,
    /// `extended_size`: all bytes, with the closing magic number
    pub extended_size: u32,
    /// `xfeatures`
    pub features: u64,
    /// `xstate_size`: without the closing magic number
    pub size: u32,
    /// Zeros.
    pub padding: [u32; 7],
}

impl ExtendedStateMark {
    /// Where in the extended state it lies.
    pub const OFFSET: usize = 464;
    /// `FP_XSTATE_MAGIC1`
    pub const MAGIC: u32 = 0x4650_5853;
    /// `FP_XSTATE_MAGIC2`, behind the extended state
    pub const END_MAGIC: u32 = 0x4650_5845;
}

impl ExtendedStateMark {
    /// The mark of a state of so many bytes.
    fn of(size: usize) -> ExtendedStateMark {
        ExtendedStateMark {
            magic: ExtendedStateMark::MAGIC,
            extended_size: (size + size_of::<u32>()) as u32,
            features: machine::user::extended_features(),
            size: size as u32,
            padding: [0; 7],
        }
    }
}

/// Puts a program's state down at `address`, with its marks.
///
/// # Errors
/// What `put` says.
#[inline]
pub fn write<E>(
    registers: &mut Registers,
    address: usize,
    mut put: impl FnMut(usize, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let state = registers.extended_state();
    let size = state.len();
    put(address, state)?;
    put(address.wrapping_add(ExtendedStateMark::OFFSET), ExtendedStateMark::of(size).as_bytes())?;
    put(address.wrapping_add(size), ExtendedStateMark::END_MAGIC.as_bytes())
}

/// Takes the state that a frame names. False if it can't be read or makes no sense.
///
/// # Errors
/// What the program's memory says.
pub fn take<P: StateOwner>(program: &P, context: &UserContext) -> Result<bool, P::Stop> {
    let address = context.registers.extended_state;
    if address == 0 {
        return Ok(program.change_registers(reset_state));
    }
    let mut legacy = [0; LEGACY_STATE];
    if !program.read(address, &mut legacy)? {
        return Ok(false);
    }
    match marked_size(&legacy) {
        LEGACY_STATE => Ok(program.change_registers(|registers| set_legacy_state(registers, &legacy))),
        // Two sizes of buffer: clearing the large one costs more than all the rest.
        size if size <= USUAL_STATE => take_whole::<P, { USUAL_STATE + 4 }>(program, address, size, &legacy),
        size => take_whole::<P, { MAXIMUM_STATE + 4 }>(program, address, size, &legacy),
    }
}

fn take_whole<P: StateOwner, const ROOM: usize>(
    program: &P,
    address: usize,
    size: usize,
    legacy: &[u8; LEGACY_STATE],
) -> Result<bool, P::Stop> {
    let mut state = [0; ROOM];
    let Some((first, rest)) = state.split_at_mut_checked(LEGACY_STATE) else { return Ok(false) };
    first.copy_from_slice(legacy);
    let Some(rest) = rest.get_mut(..size + size_of::<u32>() - LEGACY_STATE) else { return Ok(false) };
    if !program.read(address.wrapping_add(LEGACY_STATE), rest)? {
        return Ok(false);
    }
    let complete = state.get(size..size + size_of::<u32>()) == Some(ExtendedStateMark::END_MAGIC.as_bytes());
    Ok(program.change_registers(|registers| match state.get(..size) {
        Some(state) if complete => registers.set_extended_state(state),
        // Only the legacy part is there: Linux takes that and resets the rest.
        _ => set_legacy_state(registers, legacy),
    }))
}

/// How long the state is by its mark; [`LEGACY_STATE`] if the mark makes no sense.
fn marked_size(legacy: &[u8]) -> usize {
    let mark = legacy
        .get(ExtendedStateMark::OFFSET..ExtendedStateMark::OFFSET + size_of::<ExtendedStateMark>())
        .and_then(|bytes| ExtendedStateMark::read_from_bytes(bytes).ok());
    match mark {
        Some(mark)
            if mark.magic == ExtendedStateMark::MAGIC
                && (LEGACY_STATE..=MAXIMUM_STATE).contains(&(mark.size as usize))
                && mark.extended_size as usize >= mark.size as usize + size_of::<u32>() =>
        {
            mark.size as usize
        }
        _ => LEGACY_STATE,
    }
}

/// Puts every part of the extended state back to what a program starts with.
fn reset_state(registers: &mut Registers) -> bool {
    set_legacy_state(registers, &[])
}

/// Replaces x87 and SSE state by a legacy image (none: their initial state), with everything else as at the start.
fn set_legacy_state(registers: &mut Registers, legacy: &[u8]) -> bool {
    let size = registers.extended_state().len().min(MAXIMUM_STATE);
    let mut image = [0; MAXIMUM_STATE];
    let Some(image) = image.get_mut(..size) else { return false };
    let kept = ExtendedStateMark::OFFSET.min(legacy.len());
    if let (Some(to), Some(from)) = (image.get_mut(..kept), legacy.get(..kept)) {
        to.copy_from_slice(from);
    }
    if legacy.is_empty() {
        // The initial control words; the rest of the initial state is zero.
        for (at, byte) in [(0, 0x7f), (1, 0x03), (24, 0x80), (25, 0x1f)] {
            if let Some(place) = image.get_mut(at) {
                *place = byte;
            }
        }
    }
    // Which parts the image has: x87 and SSE.
    if let Some(features) = image.get_mut(LEGACY_STATE) {
        *features = 3;
    }
    registers.set_extended_state(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A legacy state whose mark says so.
    fn marked(magic: u32, size: u32, extended: u32) -> [u8; LEGACY_STATE] {
        let mark = ExtendedStateMark { magic, extended_size: extended, features: 7, size, padding: [0; 7] };
        let mut legacy = [0; LEGACY_STATE];
        let at = ExtendedStateMark::OFFSET;
        legacy[at..at + size_of::<ExtendedStateMark>()].copy_from_slice(mark.as_bytes());
        legacy
    }

    #[test]
    fn a_mark_that_makes_no_sense_is_that_of_a_legacy_state() {
        let magic = ExtendedStateMark::MAGIC;
        for (mark, size) in [
            (marked(magic, 832, 836), 832),
            (marked(magic, 832, 835), 512),
            (marked(magic, 4096, 4100), 4096),
            (marked(magic, 4097, 4101), 512),
            (marked(magic, 512, 516), 512),
            (marked(magic, 511, 516), 512),
            (marked(magic + 1, 832, 836), 512),
        ] {
            assert_eq!(marked_size(&mark), size);
        }
        assert_eq!(marked_size(&[0; 10]), 512);
    }

    #[test]
    fn a_legacy_state_replaces_the_first_part_and_resets_the_rest() {
        let mut registers = Registers::new(0, 0).unwrap();
        let mut legacy = [0; LEGACY_STATE];
        legacy[..2].copy_from_slice(&0x027f_u16.to_le_bytes());
        legacy[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        // XMM0
        legacy[160..176].fill(0xab);
        assert!(set_legacy_state(&mut registers, &legacy));
        let state = registers.extended_state();
        assert!(state[..2] == legacy[..2] && state[160..176] == [0xab; 16] && state[176..416] == [0; 240]);
        assert!(reset_state(&mut registers));
        let state = registers.extended_state();
        assert_eq!((&state[..2], &state[24..28]), (&[0x7f, 3][..], &[0x80, 0x1f, 0, 0][..]));
        assert_eq!(state[160..176], [0; 16]);
    }
}
