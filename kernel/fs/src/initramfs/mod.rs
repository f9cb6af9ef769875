//! The archive the machine is started with, unpacked into the root file system.
//!
//! As Linux has it, an initramfs is one or more archives behind one another, each plain or compressed with gzip, with
//! zeros between them; inside is the "newc" format of cpio(5), with or without checksums. Everything is read as a
//! stream: beside the archive itself and the files made, memory is needed for one window of gzip and one buffer.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | [`unpack`]: the outer layer, which tells plain from compressed |
//! | `stream` | bytes in sequence, and where in the input they are |
//! | `gzip` | decompression, with its checks |
//! | `cpio` | the entries, made into files |
//!
//! An archive may have been damaged or made to do harm: every error says what is wrong at which byte, and names can't
//! lead out of the root.

mod cpio;
mod gzip;
mod stream;

use core::fmt;

use abi::Errno;
use vfs::{Path, Vfs};

use gzip::Gzip;
use stream::{Input, Stream};

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries of all archives, hard links included.
    pub entries: u64,
    /// Bytes of all regular files.
    pub bytes: u64,
}

/// Why an archive could not be unpacked. What came before the damage has been unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackError {
    /// Where in the input.
    pub offset: u64,
    /// Where in the decompressed data, if the input is compressed.
    pub unpacked_offset: Option<u64>,
    /// What is wrong there.
    pub reason: Reason,
}

/// What can be wrong with an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The input ends within an archive.
    Truncated,
    /// What stands where an archive should begin is neither cpio nor gzip.
    UnknownFormat,
    /// It is compressed in another way.
    UnsupportedCompression(&'static str),
    /// An entry does not begin with `070701` or `070702`.
    BadMagic,
    /// A number is not written in hexadecimal digits.
    BadNumber(&'static str),
    /// A name is empty, too long, or does not end with a zero.
    BadName,
    /// The target of a symbolic link is empty or too long.
    BadLink,
    /// The mode is of no kind of file.
    BadMode(u32),
    /// Directories and devices have no contents, but this one does.
    UnexpectedContents,
    /// The contents don't add up to the checksum.
    BadChecksum,
    /// The gzip header is damaged.
    BadGzipHeader,
    /// The compressed data is damaged.
    BadGzipData,
    /// The file system refused to make the file.
    File(Errno),
}

impl fmt::Display for UnpackError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "byte {}", self.offset)?;
        if let Some(offset) = self.unpacked_offset {
            write!(formatter, " (byte {offset} of what is unpacked)")?;
        }
        formatter.write_str(": ")?;
        match self.reason {
            Reason::Truncated => formatter.write_str("the archive is cut off here"),
            Reason::UnknownFormat => formatter.write_str("neither a cpio archive nor gzip data begins here"),
            Reason::UnsupportedCompression(name) => write!(formatter, "compressed with {name}; only gzip is supported"),
            Reason::BadMagic => formatter.write_str("no cpio entry begins here (070701 expected)"),
            Reason::BadNumber(field) => write!(formatter, "the field {field} is no hexadecimal number"),
            Reason::BadName => formatter.write_str("the entry's name is empty, too long or not terminated"),
            Reason::BadLink => formatter.write_str("the symbolic link's target is empty or too long"),
            Reason::BadMode(mode) => write!(formatter, "the mode {mode:o} is of no kind of file"),
            Reason::UnexpectedContents => formatter.write_str("an entry that can't have contents has some"),
            Reason::BadChecksum => formatter.write_str("the checksum is wrong"),
            Reason::BadGzipHeader => formatter.write_str("the gzip header is damaged"),
            Reason::BadGzipData => formatter.write_str("the compressed data is damaged"),
            Reason::File(errno) => write!(formatter, "the file can't be made: {errno}"),
        }
    }
}

impl core::error::Error for UnpackError {}

/// Unpacks `archive` into the directory `root`, which is the root for every name in it.
///
/// # Errors
/// See [`Reason`].
pub fn unpack(archive: &[u8], root: &Path, vfs: &Vfs) -> Result<Summary, UnpackError> {
    let mut input = Input::new(archive);
    let mut target = cpio::Target::new(root, vfs);
    loop {
        match input.peek()? {
            None => return Ok(target.finish()),
            Some(0) => input.skip_zeros()?,
            Some(b'0') => cpio::unpack(&mut input, &mut target)?,
            Some(0x1f) => {
                let mut gzip = Gzip::new(&mut input)?;
                unpack_all(&mut gzip, &mut target)?;
                gzip.finish()?;
            }
            Some(_) => return Err(input.error(unsupported(input.rest()))),
        }
    }
}

/// Archives behind one another inside compressed data.
fn unpack_all(stream: &mut impl Stream, target: &mut cpio::Target<'_>) -> Result<(), UnpackError> {
    loop {
        match stream.peek()? {
            None => return Ok(()),
            Some(0) => stream.skip_zeros()?,
            Some(b'0') => cpio::unpack(stream, target)?,
            Some(_) => return Err(stream.error(Reason::UnknownFormat)),
        }
    }
}

/// Names a compression by its magic number.
fn unsupported(start: &[u8]) -> Reason {
    const KNOWN: [(&[u8], &str); 6] = [
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
        (b"BZh", "bzip2"),
        (&[0x02, 0x21, 0x4c, 0x18], "lz4"),
        (&[0x89, b'L', b'Z', b'O'], "lzo"),
        (&[0x5d, 0, 0], "lzma"),
    ];
    let found = KNOWN.iter().find(|(magic, _)| start.starts_with(magic));
    found.map_or(Reason::UnknownFormat, |(_, name)| Reason::UnsupportedCompression(name))
}

#[cfg(test)]
mod tests;
