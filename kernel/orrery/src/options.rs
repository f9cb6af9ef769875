//! Boot options: the words of the kernel command line.
//!
//! As on Linux (kernel-parameters(7)) words the kernel does not know are init's: `NAME=VALUE` joins its environment, other
//! words and everything after `--` its arguments. A word the kernel knows with a value it cannot use is reported and
//! ignored, so a typing error costs an option, never the boot.

#![expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use drivers::kernel_log;

/// What the command line asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// `init=PATH`: the first program, instead of `/init`.
    pub init: Option<String>,
    /// `hostname=NAME`: the host's name at first.
    pub hostname: Option<String>,
    /// `console.size=ROWSxCOLUMNS`: the window of the terminal behind the serial console.
    pub console_size: Option<(u16, u16)>,
    /// `loglevel=N`, `quiet`: messages of the kernel below this level reach the console; `None`: those that usually do.
    pub console_level: Option<u8>,
    /// `norandmaps`: no address space randomisation.
    pub randomize_addresses: bool,
    /// `strace`: one line for each system call.
    pub trace_calls: bool,
    /// `report_unknown`: at power off, the system calls that programs asked for and the kernel lacks.
    pub report_unknown: bool,
    /// `fail_allocation=N`: the Nth request for kernel memory that can be refused is, for tests.
    #[cfg(feature = "fail-allocations")]
    pub fail_allocation: Option<u64>,
    /// `slow_files=SEED`: the files of the root file system lie in a store that takes its time, for tests.
    pub slow_files: Option<u64>,
    /// `slow_names`: with `slow_files`, lookups and changes of directories take their time as well.
    pub slow_names: bool,
    /// Words for init's argument list.
    pub init_arguments: Vec<String>,
    /// Words for init's environment.
    pub init_environment: Vec<String>,
    /// What was wrong, a line each.
    pub complaints: Vec<Complaint>,
}

/// A boot option that was not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The word as it was given.
    pub word: String,
    /// What the kernel expected, or did with it instead.
    pub reason: &'static str,
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "boot option '{}': {}", self.word, self.reason)
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            init: None,
            hostname: None,
            console_size: None,
            console_level: None,
            randomize_addresses: true,
            trace_calls: false,
            report_unknown: false,
            #[cfg(feature = "fail-allocations")]
            fail_allocation: None,
            slow_files: None,
            slow_names: false,
            init_arguments: Vec::new(),
            init_environment: Vec::new(),
            complaints: Vec::new(),
        }
    }
}

impl Options {
    /// Reads a command line. Cannot fail: what is wrong stands in `complaints`.
    pub fn parse(command_line: &str) -> Options {
        let mut options = Options::default();
        let mut words = words(command_line).into_iter();
        for word in words.by_ref() {
            if word == "--" {
                break;
            }
            options.take(&word);
        }
        // bounded: at boot
        options.init_arguments.extend(words);
        options
    }

    fn take(&mut self, word: &str) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match (name, value) {
            ("init" | "rdinit", Some(path)) if path.starts_with('/') => self.init = Some(path.to_string()),
            ("init" | "rdinit", _) => self.complain(word, "wants an absolute path, as in init=/bin/sh; ignored"),
            ("hostname", Some(name)) if !name.is_empty() => self.hostname = Some(name.to_string()),
            ("hostname", _) => self.complain(word, "wants a name, as in hostname=orrery; ignored"),
            ("console.size", value) => match value.and_then(parse_size) {
                Some(size) => self.console_size = Some(size),
                None => self.complain(word, "wants ROWSxCOLUMNS, as in console.size=24x80; ignored"),
            },
            ("quiet", None) => self.console_level = Some(kernel_log::QUIET_CONSOLE_LEVEL),
            ("loglevel", value) => match value.and_then(|level| level.parse().ok()) {
                Some(level @ 0..=kernel_log::ALL_CONSOLE_LEVEL) => self.console_level = Some(level),
                _ => self.complain(word, "wants a number from 0 to 8, as in loglevel=7; ignored"),
            },
            #[cfg(feature = "fail-allocations")]
            ("fail_allocation", number) => match number.and_then(|number| number.parse().ok()) {
                Some(number) => self.fail_allocation = Some(number),
                None => self.complain(word, "wants a number, as in fail_allocation=100; ignored"),
            },
            ("slow_files", seed) => match seed.and_then(|seed| seed.parse().ok()) {
                Some(seed) => self.slow_files = Some(seed),
                None => self.complain(word, "wants a number, as in slow_files=1; ignored"),
            },
            ("slow_names", None) => self.slow_names = true,
            ("norandmaps", None) => self.randomize_addresses = false,
            ("strace", None | Some("1")) => self.trace_calls = true,
            ("strace", Some("0")) => self.trace_calls = false,
            ("report_unknown", None) => self.report_unknown = true,
            ("quiet" | "norandmaps" | "slow_names" | "strace" | "report_unknown", _) => {
                self.complain(word, "takes no such value; ignored");
            }
            (_, Some(_)) => self.init_environment.push(word.to_string()),
            (_, None) => {
                self.complain(word, "unknown to the kernel; handed to init as an argument");
                self.init_arguments.push(word.to_string());
            }
        }
    }

    fn complain(&mut self, word: &str, reason: &'static str) {
        self.complaints.push(Complaint { word: word.to_string(), reason });
    }
}

/// Splits at spaces, except within double quotes, which are dropped.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            character if character.is_ascii_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(core::mem::take(&mut word));
                }
            }
            character => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn parse_size(value: &str) -> Option<(u16, u16)> {
    let (rows, columns) = value.split_once('x')?;
    let size = (rows.parse().ok()?, columns.parse().ok()?);
    (size.0 > 0 && size.1 > 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_options_are_taken_and_the_rest_is_init_s() {
        let options = Options::parse(
            "quiet init=/bin/sh hostname=moon console.size=30x100 TERM=xterm single norandmaps -- -c \"echo hi\"",
        );
        assert_eq!((options.console_level, options.randomize_addresses), (Some(4), false));
        assert_eq!(options.init.as_deref(), Some("/bin/sh"));
        assert_eq!(options.hostname.as_deref(), Some("moon"));
        assert_eq!(options.console_size, Some((30, 100)));
        assert_eq!(options.init_environment, ["TERM=xterm"]);
        assert_eq!(options.init_arguments, ["single", "-c", "echo hi"]);
        assert_eq!(options.complaints.len(), 1, "'single' is reported: {:?}", options.complaints);
    }

    #[test]
    fn an_unusable_value_is_reported_and_ignored() {
        for word in [
            "console.size=0x80",
            "console.size=24x0",
            "console.size=80",
            "console.size",
            "hostname=",
            "hostname",
            "init=sh",
            "strace=maybe",
            "quiet=1",
            "loglevel=9",
        ] {
            let options = Options::parse(word);
            assert_eq!(options.complaints.len(), 1, "{word}");
            assert!(options.complaints[0].to_string().contains(word));
            assert_eq!(Options { complaints: Vec::new(), ..options }, Options::default(), "{word}");
        }
    }

    #[test]
    fn what_is_for_whoever_looks_for_a_fault_is_off_unless_asked_for() {
        let asked = |line| (Options::parse(line).trace_calls, Options::parse(line).report_unknown);
        assert_eq!((asked(""), asked("report_unknown")), ((false, false), (false, true)));
        assert_eq!((asked("strace"), asked("strace=1")), ((true, false), (true, false)));
        assert_eq!(asked("strace strace=0"), (false, false), "the last word counts");
    }

    #[test]
    fn an_empty_line_asks_for_nothing() {
        assert_eq!(Options::parse(" \t "), Options::default());
    }
}
