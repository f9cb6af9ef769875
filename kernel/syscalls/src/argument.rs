//! What an argument of a system call is: how it is parsed from a register, and how a trace line shows it.
//!
//! The table of calls names one of these types for every argument, and the function that does the call takes exactly
//! that type; so a register is interpreted once, at the edge, and the table cannot drift from the code. Integers are
//! cut to their C width here, as a Linux kernel's prologue does: the upper half of a register a program passes for an
//! `int` means nothing.

use alloc::string::String;
use core::fmt::{self, Write};
use core::marker::PhantomData;

use abi::Errno;

/// How many bytes of a string or buffer a trace line shows.
const SHOWN_BYTES: usize = 48;

/// A type an argument can have.
pub trait Argument: Sized {
    /// What the register says.
    fn parse(register: usize) -> Self;

    /// Writes the argument as a trace line shows it.
    fn show(register: usize, shown: &Shown<'_>, line: &mut String) -> fmt::Result;

    /// Whether it can be shown only when the call has returned, because the kernel fills it.
    const FILLED: bool = false;

    /// The flags of this argument that are done, for the coverage page; empty for what is no set of flags.
    const FLAGS: &'static [(u32, &'static str)] = &[];
}

/// What showing an argument may need to know besides its own register.
pub struct Shown<'a> {
    /// All six registers: the length of a buffer is another argument.
    pub registers: [usize; 6],
    /// What the call returned, once it has.
    pub result: Option<Result<usize, Errno>>,
    /// Copies bytes at a user address; returns how many could be read without waiting for a page.
    pub memory: &'a dyn Fn(usize, &mut [u8]) -> usize,
}

macro_rules! plain_integer {
    ($($type:ty)*) => {$(
        impl Argument for $type {
            fn parse(register: usize) -> Self {
                register as $type
            }
            fn show(register: usize, _: &Shown<'_>, line: &mut String) -> fmt::Result {
                write!(line, "{}", register as $type)
            }
        }
    )*};
}
plain_integer!(i32 u32 i64 u64 usize isize);

/// A file descriptor, or `AT_FDCWD` where a directory is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor(pub i32);

impl Argument for Descriptor {
    fn parse(register: usize) -> Self {
        Descriptor(register as i32)
    }
    fn show(register: usize, _: &Shown<'_>, line: &mut String) -> fmt::Result {
        match register as i32 {
            abi::raw::general::AT_FDCWD => line.write_str("AT_FDCWD"),
            descriptor => write!(line, "{descriptor}"),
        }
    }
}

/// An address the call only passes on, or whose use depends on other arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address(pub usize);

impl Argument for Address {
    fn parse(register: usize) -> Self {
        Address(register)
    }
    fn show(register: usize, _: &Shown<'_>, line: &mut String) -> fmt::Result {
        show_address(register, line)
    }
}

/// A NUL-terminated string: a path, a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CString(pub usize);

impl Argument for CString {
    fn parse(register: usize) -> Self {
        CString(register)
    }
    fn show(register: usize, shown: &Shown<'_>, line: &mut String) -> fmt::Result {
        if register == 0 {
            return line.write_str("NULL");
        }
        let mut bytes = [0u8; SHOWN_BYTES + 1];
        let read = (shown.memory)(register, &mut bytes);
        let bytes = bytes.get(..read).unwrap_or_default();
        match bytes.iter().position(|&byte| byte == 0) {
            Some(length) => show_bytes(bytes.get(..length).unwrap_or_default(), false, line),
            None if read == 0 => show_address(register, line),
            None => show_bytes(bytes.get(..SHOWN_BYTES.min(read)).unwrap_or_default(), true, line),
        }
    }
}

/// A null-terminated array of pointers to strings, as execve(2) takes two of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CStrings(pub usize);

impl Argument for CStrings {
    fn parse(register: usize) -> Self {
        CStrings(register)
    }
    fn show(register: usize, shown: &Shown<'_>, line: &mut String) -> fmt::Result {
        const SHOWN_STRINGS: usize = 8;
        if register == 0 {
            return line.write_str("NULL");
        }
        line.write_char('[')?;
        for index in 0..SHOWN_STRINGS {
            let mut pointer = [0u8; size_of::<usize>()];
            let read = (shown.memory)(register.wrapping_add(index * pointer.len()), &mut pointer);
            let pointer = usize::from_ne_bytes(pointer);
            if read < size_of::<usize>() || pointer == 0 {
                return line.write_char(']');
            }
            if index > 0 {
                line.write_str(", ")?;
            }
            CString::show(pointer, shown, line)?;
        }
        line.write_str(", ...]")
    }
}

/// Bytes the program gives; `LENGTH` is the position of the argument that says how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InBuffer<const LENGTH: usize>(pub usize);

impl<const LENGTH: usize> Argument for InBuffer<LENGTH> {
    fn parse(register: usize) -> Self {
        InBuffer(register)
    }
    fn show(register: usize, shown: &Shown<'_>, line: &mut String) -> fmt::Result {
        show_buffer(register, shown.registers.get(LENGTH).copied().unwrap_or(0), shown, line)
    }
}

/// Room for bytes the kernel gives; `LENGTH` is the position of the argument that says how many fit. The call returns
/// how many were given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutBuffer<const LENGTH: usize>(pub usize);

impl<const LENGTH: usize> Argument for OutBuffer<LENGTH> {
    const FILLED: bool = true;

    fn parse(register: usize) -> Self {
        OutBuffer(register)
    }
    fn show(register: usize, shown: &Shown<'_>, line: &mut String) -> fmt::Result {
        let room = shown.registers.get(LENGTH).copied().unwrap_or(0);
        match shown.result {
            Some(Ok(given)) => show_buffer(register, given.min(room), shown, line),
            _ => show_address(register, line),
        }
    }
}

/// A structure, or array of structures, the program gives. May be null where the call allows it.
pub struct In<T>(pub usize, PhantomData<fn() -> T>);

/// Room for a structure, or array of structures, the kernel fills. May be null where the call allows it.
pub struct Out<T>(pub usize, PhantomData<fn(T)>);

/// A structure the program gives and the kernel changes.
pub struct InOut<T>(pub usize, PhantomData<fn(T) -> T>);

macro_rules! structure_pointer {
    ($($pointer:ident)*) => {$(
        impl<T> Clone for $pointer<T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<T> Copy for $pointer<T> {}

        impl<T> $pointer<T> {
            /// The structure at `address`.
            pub fn at(address: usize) -> Self {
                Self(address, PhantomData)
            }
            /// The structure `index` places further in an array.
            pub fn element(self, index: usize) -> Self {
                Self::at(self.0.wrapping_add(index.wrapping_mul(size_of::<T>())))
            }
        }

        impl<T> Argument for $pointer<T> {
            fn parse(register: usize) -> Self {
                Self::at(register)
            }
            fn show(register: usize, _: &Shown<'_>, line: &mut String) -> fmt::Result {
                show_address(register, line)
            }
        }
    )*};
}
structure_pointer!(In Out InOut);

/// A file mode, shown in octal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode(pub u32);

impl Argument for Mode {
    fn parse(register: usize) -> Self {
        Mode(register as u32)
    }
    fn show(register: usize, _: &Shown<'_>, line: &mut String) -> fmt::Result {
        write!(line, "0{:o}", register as u32)
    }
}

/// A signal number; 0 where kill(2) only asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalNumber(pub i32);

impl Argument for SignalNumber {
    fn parse(register: usize) -> Self {
        SignalNumber(register as i32)
    }
    fn show(register: usize, _: &Shown<'_>, line: &mut String) -> fmt::Result {
        const NAMES: [&str; 31] = [
            "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
            "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
            "WINCH", "IO", "PWR", "SYS",
        ];
        match (register as i32).checked_sub(1).and_then(|index| NAMES.get(usize::try_from(index).ok()?)) {
            Some(name) => write!(line, "SIG{name}"),
            None => write!(line, "{}", register as i32),
        }
    }
}

/// The names of a set of flags that are done. What is not named here is refused, or ignored where Linux ignores it.
pub trait FlagNames {
    /// Every flag that is done, wider ones (`O_SYNC` over `O_DSYNC`) first.
    const NAMES: &'static [(u32, &'static str)];
}

/// A set of flags.
pub struct Flags<N>(pub u32, PhantomData<N>);

impl<N> Clone for Flags<N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N> Copy for Flags<N> {}

impl<N: FlagNames> Flags<N> {
    /// The flags in `bits`.
    pub fn from_bits(bits: u32) -> Self {
        Flags(bits, PhantomData)
    }
    /// Whether all bits of `flag` are set.
    pub fn has(self, flag: u32) -> bool {
        self.0 & flag == flag
    }
    /// The flags, if every one is done.
    ///
    /// # Errors
    /// `EINVAL` for any other, which is what most calls of Linux say to a flag they do not know.
    pub fn known(self) -> Result<Self, Errno> {
        if unknown_bits(N::NAMES, self.0) == 0 { Ok(self) } else { Err(Errno::EINVAL) }
    }
}

impl<N: FlagNames> Argument for Flags<N> {
    const FLAGS: &'static [(u32, &'static str)] = N::NAMES;

    fn parse(register: usize) -> Self {
        Flags::from_bits(register as u32)
    }
    fn show(register: usize, _: &Shown<'_>, line: &mut String) -> fmt::Result {
        let mut rest = register as u32;
        let mut first = true;
        for &(bits, name) in N::NAMES {
            let named = if bits == 0 { register as u32 == 0 } else { rest & bits == bits };
            if named {
                line.write_str(if first { "" } else { "|" })?;
                line.write_str(name)?;
                first = false;
                rest &= !bits;
            }
        }
        match (rest, first) {
            (0, true) => line.write_char('0'),
            (0, false) => Ok(()),
            (rest, true) => write!(line, "{rest:#x}"),
            (rest, false) => write!(line, "|{rest:#x}"),
        }
    }
}

/// The bits of `flags` that no name in `names` covers.
pub fn unknown_bits(names: &[(u32, &str)], flags: u32) -> u32 {
    flags & !names.iter().fold(0, |all, (bits, _)| all | bits)
}

fn show_address(address: usize, line: &mut String) -> fmt::Result {
    if address == 0 { line.write_str("NULL") } else { write!(line, "{address:#x}") }
}

fn show_buffer(address: usize, length: usize, shown: &Shown<'_>, line: &mut String) -> fmt::Result {
    let mut bytes = [0u8; SHOWN_BYTES];
    let wanted = bytes.get_mut(..length.min(SHOWN_BYTES)).unwrap_or_default();
    let read = if address == 0 { 0 } else { (shown.memory)(address, wanted) };
    if read < wanted.len() {
        return show_address(address, line);
    }
    show_bytes(wanted, length > SHOWN_BYTES, line)
}

/// Writes bytes as a C string literal, with `...` behind it when there are more.
fn show_bytes(bytes: &[u8], more: bool, line: &mut String) -> fmt::Result {
    write!(line, "\"{}\"", bytes.escape_ascii())?;
    line.write_str(if more { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Open;
    impl FlagNames for Open {
        const NAMES: &'static [(u32, &'static str)] = &[(0o4010000, "O_SYNC"), (0o10000, "O_DSYNC"), (2, "O_RDWR")];
    }

    fn show<A: Argument>(register: usize, registers: [usize; 6], result: Option<Result<usize, Errno>>) -> String {
        let text = b"hello\n\0world";
        let memory = |address: usize, bytes: &mut [u8]| {
            let from = text.get(address.wrapping_sub(0x1000)..).unwrap_or_default();
            let length = from.len().min(bytes.len());
            bytes[..length].copy_from_slice(&from[..length]);
            length
        };
        let mut line = String::new();
        A::show(register, &Shown { registers, result, memory: &memory }, &mut line).unwrap();
        line
    }

    #[test]
    fn strings_and_buffers_are_shown_as_c_writes_them() {
        assert_eq!(show::<CString>(0x1000, [0; 6], None), r#""hello\n""#);
        assert_eq!(show::<CString>(0x5000, [0; 6], None), "0x5000");
        assert_eq!(show::<CString>(0, [0; 6], None), "NULL");
        assert_eq!(show::<InBuffer<2>>(0x1000, [0, 0, 3, 0, 0, 0], None), r#""hel""#);
        assert_eq!(show::<OutBuffer<2>>(0x1000, [0, 0, 9, 0, 0, 0], Some(Ok(2))), r#""he""#);
        assert_eq!(show::<OutBuffer<2>>(0x1000, [0, 0, 9, 0, 0, 0], Some(Err(Errno::EIO))), "0x1000");
        assert_eq!(show::<InBuffer<2>>(0x1000, [0, 0, 40, 0, 0, 0], None), "0x1000");
    }

    #[test]
    fn flags_are_shown_by_name_and_what_is_left_in_hexadecimal() {
        assert_eq!(show::<Flags<Open>>(0o4010002, [0; 6], None), "O_SYNC|O_RDWR");
        assert_eq!(show::<Flags<Open>>(0o10000, [0; 6], None), "O_DSYNC");
        assert_eq!(show::<Flags<Open>>(0, [0; 6], None), "0");
        assert_eq!(show::<Flags<Open>>(0x12, [0; 6], None), "O_RDWR|0x10");
        assert!(Flags::<Open>::from_bits(0x12).known().is_err());
        assert!(Flags::<Open>::from_bits(2).known().is_ok());
    }

    #[test]
    fn integers_are_cut_to_their_width() {
        assert_eq!(i32::parse(0xffff_ffff_0000_0001), 1);
        assert_eq!(Descriptor::parse(0xffff_ff9c), Descriptor(-100));
        assert_eq!(show::<Descriptor>(0xffff_ff9c, [0; 6], None), "AT_FDCWD");
        assert_eq!(show::<SignalNumber>(9, [0; 6], None), "SIGKILL");
        assert_eq!(show::<SignalNumber>(0, [0; 6], None), "0");
        assert_eq!(show::<Mode>(0o644, [0; 6], None), "0644");
    }
}
