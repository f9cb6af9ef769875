//! Calls, by the chain of frame pointers that each function leaves on the stack.

use core::fmt;

/// More calls than this are not shown.
const DEEPEST: usize = 256;

/// Writes the calls recorded by the chain from `frame` on, innermost first, and only upwards. `word` reads the stack, and has no answer where
/// none is; `place` writes a line for an address.
pub fn write(
    out: &mut dyn fmt::Write,
    mut frame: usize,
    word: impl Fn(usize) -> Option<usize>,
    place: impl Fn(&mut dyn fmt::Write, usize),
) {
    let mut last = 0;
    let mut repeated = 0;
    for _ in 0..DEEPEST {
        let words = word(frame).zip(word(frame.wrapping_add(8)));
        let Some((next, address)) = words.filter(|(_, address)| *address != 0) else { break };
        if address == last {
            repeated += 1;
        } else {
            write_repeats(out, &mut repeated);
            place(out, address);
        }
        last = address;
        if next <= frame {
            break;
        }
        frame = next;
    }
    write_repeats(out, &mut repeated);
}

/// Says how often a function called itself.
fn write_repeats(out: &mut dyn fmt::Write, repeated: &mut usize) {
    if *repeated > 0 {
        let _ = writeln!(out, "    ... and {repeated} times more");
        *repeated = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a stack of words that begins at 0x1000.
    fn shown(stack: &[usize]) -> Vec<String> {
        let word = |address: usize| stack.get(address.checked_sub(0x1000)? / 8).copied();
        let mut out = String::new();
        write(&mut out, 0x1000, word, |out, address| _ = writeln!(out, "at {address:#x}"));
        out.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn calls_are_followed_to_the_outermost() {
        assert_eq!(shown(&[0x1010, 0xa, 0x1020, 0xb, 0, 0xc]), ["at 0xa", "at 0xb", "at 0xc"]);
        assert_eq!(shown(&[0x1010, 0xa, 0x1020, 0]), ["at 0xa"], "an address of 0 ends the chain");
    }

    #[test]
    fn a_function_that_calls_itself_is_shown_once() {
        assert_eq!(
            shown(&[0x1010, 0xa, 0x1020, 0xa, 0x1030, 0xa, 0, 0xb]),
            ["at 0xa", "... and 2 times more", "at 0xb"]
        );
    }

    #[test]
    fn a_damaged_chain_ends() {
        assert_eq!(shown(&[0x1000, 0xa]), ["at 0xa"], "it leads nowhere but here");
        assert_eq!(shown(&[0x9000, 0xa]), ["at 0xa"], "there is no stack");
        let mut long: Vec<usize> = (0..400).flat_map(|frame| [0x1010 + frame * 16, frame + 1]).collect();
        assert_eq!(shown(&long).len(), DEEPEST);
        long.clear();
        assert!(shown(&long).is_empty());
    }
}
