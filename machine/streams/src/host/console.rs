//! The standard streams: which are the terminal, which are streams of the host, and which of those are one and the same.

use super::{ByteStream, Connect};
use crate::StandardStreams;
use rustix::fs::{OFlags, fcntl_getfl, fstat};
use std::os::fd::OwnedFd;

/// What the first program finds at its descriptors 0, 1 and 2.
#[derive(Default)]
pub struct Console {
    /// The terminal the user sits at. It is to be in raw mode: the guest does its own line editing.
    pub terminal: Option<Terminal>,
    /// The standard input, output and error stream.
    pub streams: [StandardStream; 3],
}

/// A terminal of the host.
pub struct Terminal {
    /// Where keys come from.
    pub input: OwnedFd,
    /// Where output is shown; often the same open file.
    pub output: OwnedFd,
    /// Becomes readable when the window's size has changed: the reading end of a pipe, or an eventfd, that the handler of
    /// `SIGWINCH` writes to.
    pub resized: Option<OwnedFd>,
}

/// What a standard stream is.
#[derive(Default)]
pub enum StandardStream {
    /// The guest's `/dev/null`.
    #[default]
    Nothing,
    /// The terminal, through the guest's own line discipline.
    Terminal,
    /// An open file of the host (a pipe, a file, a socket), in the direction it is open for. Its bytes go through as they
    /// are.
    Host(OwnedFd),
}

/// The streams of a machine.
pub struct Streams {
    terminal: Option<ByteStream>,
    /// The others, each once.
    streams: Vec<ByteStream>,
    standard: [crate::StandardStream; 3],
}

/// Two descriptors of the same file, opened for the same, are one stream: what a program writes to both (`2>&1`) comes out in
/// the order it was written.
#[derive(PartialEq)]
struct Identity {
    device: u64,
    number: u64,
    flags: OFlags,
}

impl Identity {
    fn of(file: &OwnedFd) -> Option<Identity> {
        let status = fstat(file).ok()?;
        let flags = fcntl_getfl(file).ok()? & (OFlags::RWMODE | OFlags::APPEND);
        Some(Identity { device: status.st_dev, number: status.st_ino, flags })
    }
}

impl Streams {
    /// Makes streams of open files; interrupts reach the kernel by `connect`.
    pub fn new(console: Console, connect: Connect) -> Streams {
        let Console { terminal, streams: given } = console;
        let terminal =
            terminal.map(|Terminal { input, output, resized }| ByteStream::terminal(input, output, resized, connect));
        let mut streams = Vec::new();
        let mut known: Vec<Option<Identity>> = Vec::new();
        let standard = given.map(|stream| match stream {
            StandardStream::Terminal if terminal.is_some() => crate::StandardStream::Terminal,
            StandardStream::Terminal | StandardStream::Nothing => crate::StandardStream::Nothing,
            StandardStream::Host(file) => {
                let identity = Identity::of(&file);
                if let Some(index) = known.iter().position(|other| identity.is_some() && *other == identity) {
                    return crate::StandardStream::Stream(index);
                }
                match ByteStream::new(file, connect) {
                    Ok(stream) => {
                        streams.push(stream);
                        known.push(identity);
                        crate::StandardStream::Stream(streams.len() - 1)
                    }
                    Err(_) => crate::StandardStream::Nothing,
                }
            }
        });
        Streams { terminal, streams, standard }
    }

    /// What the first program's descriptors are.
    pub fn standard(&self) -> StandardStreams {
        StandardStreams { streams: self.streams.clone(), descriptors: self.standard }
    }

    /// The terminal, if there is one.
    pub fn terminal(&self) -> Option<ByteStream> {
        self.terminal.clone()
    }

    /// The machine is off: delivers what was written, for as long as somebody reads it, and lets go of the files.
    pub fn finish(&self) {
        let all = || self.streams.iter().chain(&self.terminal);
        all().for_each(ByteStream::finish);
        all().for_each(ByteStream::close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Handler, Interrupt};
    use std::fs::File;
    use std::io::pipe;

    fn unconnected(_: Handler) -> Interrupt {
        Box::new(|| {})
    }

    fn host(file: impl Into<OwnedFd>) -> StandardStream {
        StandardStream::Host(file.into())
    }

    #[test]
    fn descriptors_of_one_pipe_are_one_stream() {
        let (reader, writer) = pipe().unwrap();
        let second = writer.try_clone().unwrap();
        let console = Console { terminal: None, streams: [host(reader), host(writer), host(second)] };
        let streams = Streams::new(console, unconnected).standard();
        use crate::StandardStream::Stream;
        assert_eq!(streams.descriptors, [Stream(0), Stream(1), Stream(1)], "the ends of a pipe are two");
        assert!(streams.streams[0].is_readable() && !streams.streams[0].is_writable());
        assert!(!streams.streams[1].is_readable() && streams.streams[1].is_writable());
    }

    #[test]
    fn a_terminal_there_is_not_is_nothing() {
        let null = File::open("/dev/null").unwrap();
        let console =
            Console { terminal: None, streams: [StandardStream::Terminal, host(null), StandardStream::Nothing] };
        let streams = Streams::new(console, unconnected);
        use crate::StandardStream::{Nothing, Stream};
        assert_eq!(streams.standard().descriptors, [Nothing, Stream(0), Nothing]);
        assert!(streams.terminal().is_none());
        streams.finish();
    }
}
