//! The command line.
//!
//! What a word means is told by pure functions of this file; whether what it names exists is for those who use it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Runs Linux programs on Orrery, a Linux-compatible kernel of its own.
#[derive(Debug, Parser)]
#[command(name = "orrery", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a program, a root folder or an initramfs
    Run(Run),
}

const MORE: &str = "\
The guest sees nothing of this host but what is named here. With a program, / holds that program, the usual folders,
/proc and /dev. A folder becomes the guest's /, and what the guest writes there is written to the folder. An initramfs
(cpio newc, plain or gzip) is unpacked into memory, and its /init runs unless a command is given.

Examples:
  orrery run ./hello                             a static program, alone
  orrery run /bin/busybox -- sh                  the same with arguments
  orrery run rootfs                              a shell in a root folder
  orrery run rootfs -- make -j4                  a command there
  orrery run --read-only / -- python3            this system's programs, read-only
  orrery run initramfs.cpio.gz                   an initramfs, by its own /init
  orrery run --volume .:/src --workdir /src rootfs -- ./configure

The exit status is that of the program, or 128+N if signal N killed it; 125 if orrery itself failed, 126 if the program
cannot be executed, 127 if it was not found.";

/// What `orrery run` is asked for.
#[derive(Args, Debug)]
#[command(after_help = MORE)]
pub struct Run {
    /// Where the kernel runs: `host`, in this process, or `vm`, in QEMU
    #[arg(long, value_enum, default_value = "host", hide_possible_values = true)]
    pub machine: Machine,

    /// How many CPUs the guest has [default: as many as this host; vm: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub cpus: Option<u8>,

    /// How much memory it has: a number with K, M or G [default: 1G; vm: 256M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<usize>,

    /// Sets a variable of the program's environment; NAME alone copies ours. May be repeated
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = parser(variable))]
    pub env: Vec<Variable>,

    /// The folder the program starts in [default: /]
    #[arg(long, value_name = "FOLDER", value_parser = parser(absolute))]
    pub workdir: Option<GuestPath>,

    /// Shows a folder of this host to the guest; with :ro it cannot be written. May be repeated (host machine)
    #[arg(long = "volume", value_name = "HOST:GUEST[:ro]", value_parser = parser(volume))]
    pub volumes: Vec<Volume>,

    /// Shows a root folder to the guest without letting it write there (host machine)
    #[arg(long)]
    pub read_only: bool,

    /// Prints what the guest does to standard error: `syscalls`
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true)]
    pub trace: Option<Trace>,

    /// Lets the kernel tell what it does
    #[arg(long)]
    pub verbose: bool,

    /// More boot options for the kernel
    #[arg(long, default_value = "", value_name = "WORDS", allow_hyphen_values = true, hide_default_value = true)]
    pub append: String,

    /// The kernel image for the vm [default: $ORRERY_KERNEL, or what ./x built]
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// How the host machine runs programs
    #[arg(long, value_enum, hide = true)]
    pub engine: Option<Engine>,

    /// A root folder, an initramfs, or a static program
    #[arg(value_name = "ROOT|PROGRAM")]
    pub target: PathBuf,

    /// For a program its arguments; otherwise the command to run instead of /bin/sh or /init
    #[arg(last = true, value_name = "ARG")]
    pub words: Vec<OsString>,
}

/// Where the kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    /// In this process.
    Host,
    /// In QEMU.
    Vm,
}

/// What is printed while the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trace {
    /// A line for each system call.
    Syscalls,
}

/// How the host machine runs programs: see `machine::host::Engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Traced.
    Ptrace,
    /// Untraced, handing over by shared memory.
    SharedMemory,
}

/// One `--env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `NAME=VALUE`, as it is.
    Set(Vec<u8>),
    /// The value it has for us.
    Copy(OsString),
}

/// An absolute path of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestPath(pub Vec<u8>);

/// One `--volume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The folder of the host.
    pub host: PathBuf,
    /// Where the guest sees it.
    pub guest: GuestPath,
    /// The guest cannot write there.
    pub read_only: bool,
}

/// Gives clap a function from a word's bytes.
fn parser<T: Clone + Send + Sync + 'static>(
    parse: fn(&[u8]) -> Result<T, String>,
) -> impl clap::builder::TypedValueParser<Value = T> {
    use clap::builder::TypedValueParser;
    clap::builder::OsStringValueParser::new().try_map(move |word| parse(&word.into_vec()))
}

/// With less than this the kernel starts, but hardly a program does.
const LEAST_MEMORY: usize = 4 << 20;

/// An amount of memory.
fn size(text: &str) -> Result<usize, String> {
    let shift = match text.bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        Some(b'0'..=b'9') => return Err(format!("it has no unit: try {text}M")),
        _ => return Err("no amount of memory: try 512M or 2G".into()),
    };
    let digits = text.get(..text.len() - 1).unwrap_or_default();
    let number: usize = digits.parse().map_err(|_| "no amount of memory: try 512M or 2G")?;
    let bytes = number.checked_shl(shift).filter(|bytes| bytes >> shift == number);
    let bytes = bytes.ok_or("no machine has as much: try 512M or 2G")?;
    if bytes < LEAST_MEMORY { Err("too little for any guest: try 64M".into()) } else { Ok(bytes) }
}

/// `NAME=VALUE` or `NAME`.
fn variable(word: &[u8]) -> Result<Variable, String> {
    match word.iter().position(|byte| *byte == b'=') {
        Some(0) => Err("a variable needs a name before the '='".into()),
        Some(_) => Ok(Variable::Set(word.to_vec())),
        None if word.is_empty() => Err("a variable needs a name".into()),
        None => Ok(Variable::Copy(OsStr::from_bytes(word).into())),
    }
}

/// A path that begins with a slash.
fn absolute(word: &[u8]) -> Result<GuestPath, String> {
    if word.starts_with(b"/") {
        Ok(GuestPath(word.to_vec()))
    } else {
        Err("a folder of the guest is named from its root: begin it with /".into())
    }
}

/// `HOST:GUEST`, `HOST:GUEST:ro` or `HOST:GUEST:rw`.
fn volume(word: &[u8]) -> Result<Volume, String> {
    let parts: Vec<&[u8]> = word.split(|byte| *byte == b':').collect();
    let (host, guest, read_only) = match parts.as_slice() {
        [host, guest] | [host, guest, b"rw"] => (*host, *guest, false),
        [host, guest, b"ro"] => (*host, *guest, true),
        [_, _, option] => {
            return Err(format!("'{}' is no option of a volume: there are ro and rw", String::from_utf8_lossy(option)));
        }
        _ => return Err("a volume is HOST:GUEST or HOST:GUEST:ro, as in --volume ./src:/src:ro".into()),
    };
    if host.is_empty() || guest.is_empty() {
        return Err("a volume needs both folders: HOST:GUEST, as in --volume ./src:/src".into());
    }
    Ok(Volume { host: OsStr::from_bytes(host).into(), guest: absolute(guest)?, read_only })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(words: &[&str]) -> Result<Run, clap::Error> {
        let words = ["orrery", "run"].iter().chain(words);
        Arguments::try_parse_from(words).map(|arguments| {
            let Command::Run(run) = arguments.command;
            run
        })
    }

    #[test]
    fn the_description_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4096K"), Ok(4 << 20));
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("2g"), Ok(2 << 30));
        for wrong in
            ["", "M", "0M", "-1M", "1.5G", "big", "99999999999999999999G", "18014398509481984K", "99999999999G"]
        {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(size("512").unwrap_err().contains("512M"));
    }

    #[test]
    fn variables_are_set_or_copied() {
        assert_eq!(variable(b"A=b=c"), Ok(Variable::Set(b"A=b=c".to_vec())));
        assert_eq!(variable(b"A="), Ok(Variable::Set(b"A=".to_vec())));
        assert_eq!(variable(b"HOME"), Ok(Variable::Copy("HOME".into())));
        assert!(variable(b"=x").is_err() && variable(b"").is_err());
    }

    #[test]
    fn volumes_name_both_folders() {
        let expected = |read_only| Ok(Volume { host: "src".into(), guest: GuestPath(b"/src".to_vec()), read_only });
        assert_eq!(volume(b"src:/src"), expected(false));
        assert_eq!(volume(b"src:/src:rw"), expected(false));
        assert_eq!(volume(b"src:/src:ro"), expected(true));
        for wrong in ["src", "src:", ":/src", "src:dst", "src:/src:readonly", "a:/b:ro:ro", ""] {
            assert!(volume(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_after_the_dashes_belong_to_the_guest() {
        let run = run(&["--cpus", "2", "--env", "A=1", "--env=HOME", "root", "--", "ls", "--help", "-l"]).unwrap();
        assert_eq!(run.cpus, Some(2));
        assert_eq!(run.env.len(), 2);
        assert_eq!(run.target, PathBuf::from("root"));
        assert_eq!(run.words, ["ls", "--help", "-l"]);
        assert_eq!(run.machine, Machine::Host);
    }

    #[test]
    fn options_may_follow_the_target() {
        let run = run(&["root", "--memory", "1G", "--trace", "syscalls", "--volume", ".:/src:ro", "--workdir=/src"]);
        let run = run.unwrap();
        assert_eq!((run.memory, run.trace), (Some(1 << 30), Some(Trace::Syscalls)));
        assert_eq!((run.volumes.len(), run.workdir), (1, Some(GuestPath(b"/src".to_vec()))));
    }

    #[test]
    fn wrong_words_are_refused() {
        for wrong in [
            &["--cpus", "0", "x"][..],
            &["--cpus", "256", "x"],
            &["--memory", "12", "x"],
            &["--machine", "moon", "x"],
            &["--workdir", "src", "x"],
            &["--volume", "src", "x"],
            &["--trace", "everything", "x"],
            &["root", "ls"],
            &[],
        ] {
            assert!(run(wrong).is_err(), "{wrong:?}");
        }
    }
}
