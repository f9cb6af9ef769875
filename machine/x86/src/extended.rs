//! A program's extended state (x87, SSE, AVX...) as bytes, in the standard format of XSAVE: Intel SDM, volume 1, section 13.4.

/// The part every CPU has: what `fxsave` stores.
pub const LEGACY: usize = 512;
/// With the header of `xsave`.
pub const WITH_HEADER: usize = LEGACY + 64;

/// Offsets: the control word of the x87; MXCSR, and the mask of its valid bits; the components that are present.
const FCW: usize = 0;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const PRESENT: usize = LEGACY;

/// The components x87 and SSE.
pub const X87_AND_SSE: u64 = 3;

fn word(state: &[u8], offset: usize) -> u32 {
    let bytes = state.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

fn long(state: &[u8], offset: usize) -> u64 {
    u64::from(word(state, offset)) | u64::from(word(state, offset + 4)) << 32
}

/// Puts as much as there is room for.
fn put(state: &mut [u8], offset: usize, bytes: &[u8]) {
    let to = state.get_mut(offset..).unwrap_or_default();
    to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// The state of a program that has not run: nothing but the control words.
pub fn clear(state: &mut [u8]) {
    state.fill(0);
    put(state, FCW, &0x37f_u16.to_le_bytes());
    put(state, MXCSR, &0x1f80_u32.to_le_bytes());
}

/// The mask of the bits MXCSR can have, as `fxsave` told it; that of the first CPUs where it told none.
pub fn mxcsr_mask(state: &[u8]) -> u32 {
    const FIRST: u32 = 0xffbf;
    match word(state, MXCSR_MASK) {
        0 => FIRST,
        mask => mask,
    }
}

/// Whether the last exception of a vector instruction was one that its program wants to hear of, so that it, and no instruction of the
/// x87, is what trapped.
pub fn has_vector_exception(state: &[u8]) -> bool {
    let control = word(state, MXCSR);
    control & !(control >> 7) & 0x3f != 0
}

/// Replaces a state by an image a program made up: of the same length at least, or the part of `fxsave`, with which the other
/// components start anew. Components beyond `components`, and bits of MXCSR beyond the mask, no CPU could have made. False, and
/// nothing changes, for such an image.
pub fn replace(state: &mut [u8], image: &[u8], components: u64, mxcsr_mask: u32) -> bool {
    let is_whole = image.len() >= state.len();
    let is_possible = is_possible(image, is_whole, components, mxcsr_mask);
    if is_possible {
        state.fill(0);
        put(state, 0, if is_whole { image } else { image.get(..LEGACY).unwrap_or_default() });
        if !is_whole {
            put(state, PRESENT, &X87_AND_SSE.to_le_bytes());
        }
    }
    is_possible
}

fn is_possible(image: &[u8], is_whole: bool, components: u64, mxcsr_mask: u32) -> bool {
    if image.len() < LEGACY || word(image, MXCSR) & !mxcsr_mask != 0 {
        return false;
    }
    let rest = image.get(PRESENT + 8..WITH_HEADER).unwrap_or_default();
    !is_whole || long(image, PRESENT) & !components == 0 && rest.iter().all(|byte| *byte == 0)
}

/// Which components a Linux host saves, as it says in the bytes XSAVE leaves to software.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn component_word(state: &[u8]) -> u64 {
    state.get(464..472).and_then(|bytes| bytes.try_into().ok()).map_or(3, u64::from_ne_bytes)
}

/// Components that a process has only if it asks for them (`ARCH_REQ_XCOMP_PERM` of arch_prctl(2)): the tiles of AMX, 8 KiB. Where nobody
/// asked the host lets no program use them, and leaves them out of its signal frames.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub const ON_REQUEST: u64 = 1 << 18;

/// How long an extended state with these components is in XSAVE's standard format. (Intel SDM, volume 1, section 13.4)
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn state_length(components: u64) -> usize {
    const STATES: u32 = 0xd;
    const SHORTEST: usize = 576;
    let ends = (2..63).filter(|component| components >> component & 1 == 1).map(|component| {
        let place = core::arch::x86_64::__cpuid_count(STATES, component);
        (place.eax + place.ebx) as usize
    });
    ends.fold(SHORTEST, usize::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = WITH_HEADER + 256;

    fn replaced(image: &[u8]) -> Option<Vec<u8>> {
        let mut state = vec![0xee; SIZE];
        let done = replace(&mut state, image, 7, 0xffff);
        assert!(done || state == [0xee; SIZE], "it is as it was");
        done.then_some(state)
    }

    #[test]
    fn a_state_that_has_not_run_is_possible() {
        let mut state = vec![1; SIZE];
        clear(&mut state);
        assert_eq!((word(&state, 0), word(&state, MXCSR)), (0x37f, 0x1f80));
        assert_eq!(state.iter().filter(|byte| **byte != 0).count(), 4);
        assert_eq!(replaced(&state).unwrap(), state);
    }

    #[test]
    fn what_no_cpu_could_have_made_is_refused() {
        let mut state = vec![0; SIZE];
        clear(&mut state);
        let with = |offset: usize, value: u8| {
            let mut image = state.clone();
            image[offset] = value;
            replaced(&image)
        };
        assert!(with(PRESENT, 7).is_some() && with(PRESENT, 8).is_none(), "a component it has not");
        assert!(with(PRESENT + 15, 0x80).is_none(), "the compact format");
        assert!(with(WITH_HEADER - 1, 1).is_none() && with(WITH_HEADER, 1).is_some());
        assert!(with(MXCSR + 2, 1).is_none());
        assert!(replaced(&state[..LEGACY - 1]).is_none() && replaced(&[]).is_none());
    }

    #[test]
    fn with_the_old_part_alone_the_rest_starts_anew() {
        let state = replaced(&[5; LEGACY][..]);
        assert!(state.is_none(), "its MXCSR");
        let mut image = [5; LEGACY];
        image[MXCSR + 2..MXCSR + 4].fill(0);
        let state = replaced(&image).unwrap();
        assert_eq!((&state[..LEGACY], long(&state, PRESENT)), (&image[..], X87_AND_SSE));
        assert!(state[PRESENT + 8..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn masks_and_exceptions() {
        let mut state = [0; LEGACY];
        assert_eq!(mxcsr_mask(&state), 0xffbf);
        state[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&0xffff_u32.to_le_bytes());
        assert_eq!(mxcsr_mask(&state), 0xffff);
        for (control, expected) in [(0x1f80, false), (0x1f81, false), (0x1f01, true), (0x1f00, false)] {
            state[MXCSR..MXCSR + 4].copy_from_slice(&u32::to_le_bytes(control));
            assert_eq!(has_vector_exception(&state), expected, "{control:#x}");
        }
    }
}
