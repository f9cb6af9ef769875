//! The emergency console and backtraces.

use super::{layout, serial, symbols};
use crate::debug::Describe;
use core::arch::asm;
use core::fmt;
use spin::Once;

static DESCRIBE: Once<Describe> = Once::new();

/// Prints at once.
pub fn emergency_print(text: fmt::Arguments<'_>) {
    serial::print(text);
}

/// Sets what describes the current thread.
pub fn describe_context(describe: Describe) {
    DESCRIBE.call_once(|| describe);
}

/// The description that was set.
pub fn description() -> Option<&'static Describe> {
    DESCRIBE.get()
}

/// Writes the calls that lead to this one.
pub fn backtrace(out: &mut dyn fmt::Write) {
    let frame: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    backtrace_from(out, frame);
}

/// Writes the calls recorded by the chain of frame pointers from `frame` on. Follows it only upwards within kernel stacks.
pub fn backtrace_from(out: &mut dyn fmt::Write, frame: usize) {
    x86::backtrace::write(out, frame, stack_word, write_place);
}

/// Writes an address, with its function's name if it is known.
pub fn write_place(out: &mut dyn fmt::Write, address: usize) {
    let _ = match symbols::find(address) {
        Some((name, distance)) => writeln!(out, "    {address:#018x} {name}+{distance:#x}"),
        None => writeln!(out, "    {address:#018x}"),
    };
}

/// The word at `address`, if it is in the area of stacks, and mapped.
fn stack_word(address: usize) -> Option<usize> {
    let boot = layout::bss_start()..layout::bss_start() + layout::BOOT_STACK;
    let stacks = layout::STACKS..layout::DEVICES;
    if !address.is_multiple_of(8) || !(boot.contains(&address) || stacks.contains(&address)) {
        return None;
    }
    let (word, missing): (usize, usize);
    // SAFETY: stacks may be read at any time; a fault ends at label 3 (see traps::fixup).
    unsafe {
        asm!(
            "xor {missing:e}, {missing:e}",
            "2: mov {word}, [{address}]",
            "jmp 4f",
            "3: mov {missing:e}, 1",
            "4:",
            ".pushsection .exception_table, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            address = in(reg) address,
            word = out(reg) word,
            missing = out(reg) missing,
            options(nostack, readonly),
        );
    }
    (missing == 0).then_some(word)
}
