//! `#!`: programs that name their interpreter, execve(2) "Interpreter scripts".

use abi::{Errno, Result};

/// How much of a file is looked at to find out what it is: `BINPRM_BUF_SIZE`.
pub const BEGINNING: usize = 256;

/// The line `#!interpreter [argument]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script<'a> {
    /// The path of the interpreter.
    pub interpreter: &'a [u8],
    /// Everything behind it, as one argument.
    pub argument: Option<&'a [u8]>,
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

impl Script<'_> {
    /// Reads the first line of a file, of which `beginning` holds the first bytes, followed by zeros.
    ///
    /// # Errors
    /// `ENOEXEC` if it is no script, names no interpreter, or the name may have been cut off.
    pub fn parse(beginning: &[u8; BEGINNING]) -> Result<Script<'_>> {
        let rest = beginning.strip_prefix(b"#!").ok_or(Errno::ENOEXEC)?;
        let line = match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => rest.get(..end),
            None => {
                // The line is longer than what was read. The interpreter's name must be whole; the argument may be cut.
                let name = rest.iter().position(|&byte| !is_blank(byte)).ok_or(Errno::ENOEXEC)?;
                let named = rest.get(name..).unwrap_or_default();
                named.iter().position(|&byte| is_blank(byte) || byte == 0).ok_or(Errno::ENOEXEC)?;
                Some(rest)
            }
        };
        let line = trim(line.unwrap_or_default());
        let end = line.iter().position(|&byte| is_blank(byte) || byte == 0).unwrap_or(line.len());
        let (interpreter, behind) = line.split_at_checked(end).ok_or(Errno::ENOEXEC)?;
        if interpreter.is_empty() {
            return Err(Errno::ENOEXEC);
        }
        // A zero ends the line like a string.
        let behind = behind.split(|&byte| byte == 0).next().unwrap_or_default();
        let argument = trim(behind);
        Ok(Script { interpreter, argument: (!argument.is_empty()).then_some(argument) })
    }
}

/// Without blanks at both ends.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(text: &[u8]) -> [u8; BEGINNING] {
        let mut bytes = [0; BEGINNING];
        let length = text.len().min(BEGINNING);
        bytes[..length].copy_from_slice(&text[..length]);
        bytes
    }

    fn parse(text: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let bytes = beginning(text);
        let script = Script::parse(&bytes).ok()?;
        Some((script.interpreter.to_vec(), script.argument.map(<[u8]>::to_vec)))
    }

    fn is(name: &str, argument: Option<&str>) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        Some((name.as_bytes().to_vec(), argument.map(|argument| argument.as_bytes().to_vec())))
    }

    #[test]
    fn interpreter_and_one_argument_are_found() {
        assert_eq!(parse(b"#!/bin/sh\necho"), is("/bin/sh", None));
        assert_eq!(parse(b"#! \t/bin/sh \t\n"), is("/bin/sh", None));
        assert_eq!(parse(b"#!/usr/bin/env  python3 -u \nx"), is("/usr/bin/env", Some("python3 -u")));
        assert_eq!(parse(b"#!/bin/sh"), is("/bin/sh", None));
        assert_eq!(parse(b"#!/bin/sh -e\0junk\n"), is("/bin/sh", Some("-e")));
    }

    #[test]
    fn what_names_no_interpreter_is_no_program() {
        for text in [b"".as_slice(), b"#", b"#!", b"#!\n/bin/sh", b"#! \t\n", b"echo", b" #!/bin/sh\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_name_that_may_be_cut_off_is_refused_and_an_argument_is_cut() {
        let long = [b"#!/".as_slice(), &[b'a'; 300]].concat();
        assert_eq!(parse(&long), None);
        let argument = [b"#!/bin/sh ".as_slice(), &[b'a'; 300]].concat();
        assert_eq!(parse(&argument).unwrap().1.unwrap().len(), BEGINNING - 10);
    }
}
