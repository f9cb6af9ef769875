//! The line the boot option `strace=1` prints for every call, in strace(1)'s manner.
//!
//! ```text
//! [12] openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC, 00) = 3
//! [12] read(3, "root:x:0:0:"..., 4096) = 31
//! [12] socket(...) = -1 ENOSYS
//! ```
//!
//! Arguments the program gives are written before the call, because execve(2) takes them away; those the kernel fills
//! are written after it. Tracing reads user memory only where a page is present: it never changes what the program does.

use alloc::string::String;
use core::fmt::{self, Write};

use abi::Errno;
use process::Outcome;

use crate::argument::{Argument, Shown};
use crate::table::name_of;

/// The text of a line in the making: what stands before and behind each argument that is filled by the kernel.
pub(crate) struct Line {
    number: usize,
    registers: [usize; 6],
    before: String,
}

/// A reader of user memory that never waits: see [`Shown::memory`].
pub(crate) type Memory<'a> = &'a dyn Fn(usize, &mut [u8]) -> usize;

impl Line {
    /// Writes what is known before the call is done.
    pub(crate) fn begin(number: usize, registers: [usize; 6], memory: Memory<'_>) -> Line {
        let mut before = String::new();
        let _ = show_arguments(number, &Shown { registers, result: None, memory }, &mut before);
        Line { number, registers, before }
    }

    /// The whole line, now that the call has returned.
    pub(crate) fn finish(self, outcome: &Outcome, memory: Memory<'_>) -> String {
        let result = match outcome {
            Outcome::Value(value) => Some(Ok(*value)),
            Outcome::Error(errno) => Some(Err(*errno)),
            Outcome::Interrupted(_) => Some(Err(Errno::EINTR)),
            Outcome::Registers | Outcome::Executed(_) => None,
        };
        let mut line = String::new();
        let _ = self.write(outcome, result, memory, &mut line);
        line
    }

    fn write(
        &self,
        outcome: &Outcome,
        result: Option<Result<usize, Errno>>,
        memory: Memory<'_>,
        line: &mut String,
    ) -> fmt::Result {
        match name_of(self.number) {
            Some(name) => line.write_str(name)?,
            None => write!(line, "syscall_{}", self.number)?,
        }
        line.write_char('(')?;
        if has_filled_argument(self.number) {
            show_arguments(self.number, &Shown { registers: self.registers, result, memory }, line)?;
        } else {
            line.write_str(&self.before)?;
        }
        match (outcome, result) {
            (_, Some(Ok(value))) if value >= 1 << 31 => write!(line, ") = {value:#x}"),
            (_, Some(Ok(value))) => write!(line, ") = {value}"),
            (Outcome::Interrupted(_), _) => line.write_str(") = ? (interrupted)"),
            (_, Some(Err(errno))) => write!(line, ") = -1 {errno}"),
            (_, None) => line.write_str(") = ?"),
        }
    }
}

macro_rules! showing {
    ($($topic:ident { $($(#[$only:meta])? $number:ident: $kind:ident $function:ident $(then $waiting:ident)? ($($argument:ident: $type:ty),*);)* })*) => {
        /// Writes the arguments of call `number`, separated by commas.
        fn show_arguments(number: usize, shown: &Shown<'_>, line: &mut String) -> fmt::Result {
            use crate::table::types::*;
            match number as u32 {
                $($(
                    $(#[$only])?
                    abi::raw::general::$number => {
                        let [$($argument,)* ..] = shown.registers;
                        let separator = "";
                        $(
                            line.write_str(separator)?;
                            <$type as Argument>::show($argument, shown, line)?;
                            let separator = ", ";
                        )*
                        let _ = separator;
                        Ok(())
                    }
                )*)*
                _ => line.write_str("..."),
            }
        }

        /// Whether an argument of call `number` can be shown only afterwards.
        fn has_filled_argument(number: usize) -> bool {
            use crate::table::types::*;
            match number as u32 {
                $($($(#[$only])? abi::raw::general::$number => false $(|| <$type as Argument>::FILLED)*,)*)*
                _ => false,
            }
        }
    };
}
system_calls!(showing);

#[cfg(test)]
mod tests {
    use super::*;
    use abi::raw::general as number;

    fn line(number: u32, registers: [usize; 6], outcome: Outcome) -> String {
        let memory = |address: usize, bytes: &mut [u8]| {
            let from = b"/tmp\0".get(address.wrapping_sub(0x1000)..).unwrap_or_default();
            let length = from.len().min(bytes.len());
            bytes[..length].copy_from_slice(&from[..length]);
            length
        };
        Line::begin(number as usize, registers, &memory).finish(&outcome, &memory)
    }

    #[test]
    fn calls_look_as_strace_shows_them() {
        assert_eq!(line(number::__NR_getpid, [7; 6], Outcome::Value(12)), "getpid() = 12");
        assert_eq!(
            line(number::__NR_mkdir, [0x1000, 0o755, 0, 0, 0, 0], Outcome::Error(Errno::EEXIST)),
            r#"mkdir("/tmp", 0755) = -1 EEXIST"#
        );
        assert_eq!(line(number::__NR_read, [3, 0x1000, 100, 0, 0, 0], Outcome::Value(2)), r#"read(3, "/t", 100) = 2"#);
        assert_eq!(line(number::__NR_exit_group, [1, 0, 0, 0, 0, 0], Outcome::Registers), "exit_group(1) = ?");
        assert_eq!(line(number::__NR_socket, [1; 6], Outcome::Error(Errno::ENOSYS)), "socket(...) = -1 ENOSYS");
        assert_eq!(line(5000, [1; 6], Outcome::Error(Errno::ENOSYS)), "syscall_5000(...) = -1 ENOSYS");
        assert_eq!(
            line(number::__NR_brk, [0, 0, 0, 0, 0, 0], Outcome::Value(0x7f00_0000_0000)),
            "brk(NULL) = 0x7f0000000000"
        );
    }
}
