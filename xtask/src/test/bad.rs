//! Bad input to the machine itself: strange options, a damaged initramfs, too little memory, too many CPUs.
//!
//! Each boot must end by itself within its time, or come to a prompt: with a clear line on the console and a failing status
//! where the machine cannot go on; never silently, never with a kernel fault.

use super::damage::{DAMAGES, Damage};
use super::{Context, Job};
use crate::console::Console;
use crate::initramfs::{Initramfs, Session};
use crate::qemu::{Machine, Vm};
use anyhow::{Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// What must happen.
enum Expected {
    /// A shell that answers.
    Prompt,
    /// A failing status, and a line on the console that says this.
    Failure(&'static str),
    /// This status.
    Status(u8),
}

struct Case {
    name: &'static str,
    vm: fn(&Context) -> Result<Vm>,
    expected: Expected,
}

const CASES: &[Case] = &[
    Case {
        name: "unknown options",
        vm: |context| {
            let options = "nonsense=1 foo bar.baz=qux console.size=potato init= = -x \"unfinished quote";
            context.vm(Machine::Microvm, 1, 128, Initramfs::standard()?, options)
        },
        expected: Expected::Prompt,
    },
    Case {
        name: "a very long command line",
        vm: |context| context.vm(Machine::Microvm, 1, 128, Initramfs::standard()?, &"word=value ".repeat(150)),
        expected: Expected::Prompt,
    },
    Case {
        name: "no initramfs",
        vm: |context| with_archive(context, None),
        expected: Expected::Failure("no initramfs was given"),
    },
    Case {
        name: "an empty initramfs",
        vm: |context| with_archive(context, Some(Initramfs::default().bytes())),
        expected: Expected::Failure("there is no /init in the initramfs"),
    },
    Case {
        name: "an initramfs of noise",
        vm: |context| {
            with_archive(context, Some((0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()))
        },
        expected: Expected::Failure(
            "the initramfs is damaged at byte 1: neither a cpio archive nor gzip data begins here",
        ),
    },
    Case {
        name: "an initramfs cut in the middle",
        vm: |context| {
            let mut bytes = Initramfs::standard()?.bytes();
            bytes.truncate(bytes.len() / 2);
            with_archive(context, Some(bytes))
        },
        expected: Expected::Failure("the archive is cut off here"),
    },
    Case {
        name: "no /init",
        vm: |context| {
            let mut archive = Initramfs::standard()?;
            archive.remove("init");
            with_archive(context, Some(archive.bytes()))
        },
        expected: Expected::Failure("there is no /init in the initramfs"),
    },
    Case {
        name: "an /init that is no program",
        vm: |context| {
            let mut archive = Initramfs::standard()?;
            archive.file("init", 0o755, "neither a script nor ELF\n");
            with_archive(context, Some(archive.bytes()))
        },
        expected: Expected::Failure("/init can't be executed: ENOEXEC"),
    },
    Case {
        name: "an /init that exits with 41",
        vm: |context| {
            let mut archive = Initramfs::standard()?;
            archive.file("init", 0o755, "#!/bin/sh\nexit 41\n");
            with_archive(context, Some(archive.bytes()))
        },
        expected: Expected::Status(41),
    },
    Case {
        name: "an /init that is killed",
        vm: |context| {
            let mut archive = Initramfs::standard()?;
            archive.link("init", "/bin/crash");
            archive.file("bin/crash", 0o755, crashing_program());
            with_archive(context, Some(archive.bytes()))
        },
        expected: Expected::Failure("init was killed by SIGILL"),
    },
    Case {
        name: "init= names a file that is not there",
        vm: |context| context.vm(Machine::Microvm, 1, 128, Initramfs::standard()?, "init=/nowhere rdinit=/nowhere"),
        expected: Expected::Failure("there is no /nowhere in the initramfs"),
    },
    Case {
        name: "8 MiB of memory",
        vm: |context| context.vm(Machine::Microvm, 1, 8, Initramfs::standard()?, "quiet"),
        expected: Expected::Failure("too little memory to start"),
    },
    Case {
        name: "9 MiB of memory",
        vm: |context| context.vm(Machine::Microvm, 1, 9, Initramfs::standard()?, "quiet"),
        expected: Expected::Failure("the initramfs does not fit into memory: give the machine more"),
    },
    Case {
        name: "24 MiB of memory",
        vm: |context| context.vm(Machine::Microvm, 1, 24, Initramfs::standard()?, "quiet"),
        expected: Expected::Prompt,
    },
    Case {
        name: "more CPUs than are supported",
        vm: |context| context.vm(Machine::Q35, 80, 512, Initramfs::standard()?, "quiet"),
        expected: Expected::Prompt,
    },
    Case {
        name: "a command's status",
        vm: |context| {
            let mut archive = Initramfs::standard()?;
            let command = ["sh", "-c", "exit 203"].map(String::from).to_vec();
            archive.session(Session { command, ..Session::default() });
            with_archive(context, Some(archive.bytes()))
        },
        expected: Expected::Status(203),
    },
];

/// One job for all cases, one for the damaged archives.
pub fn jobs() -> Vec<Job> {
    let name = |case: &str| format!("bad {case}");
    let cases = CASES.iter().map(|case| name(case.name)).collect();
    let first = Job::new("bad input", cases, 1, move |context, report| {
        for case in CASES.iter().filter(|case| context.wants(&name(case.name))) {
            let result = (case.vm)(context).and_then(|vm| observe(&vm, &case.expected));
            report.check(&name(case.name), result);
        }
        Ok(())
    });
    let names = DAMAGES.iter().map(|damage| name(&format!("archive: {}", damage.name))).collect();
    let second = Job::new("bad archives", names, 1, move |context, report| {
        for damage in DAMAGES {
            let name = name(&format!("archive: {}", damage.name));
            if context.wants(&name) {
                report.check(&name, boot_damaged(context, damage));
            }
        }
        Ok(())
    });
    vec![first, second]
}

/// Boots with a damaged archive. It is told what is wrong and where; what can't be seen hurts nobody.
fn boot_damaged(context: &Context, damage: &Damage) -> Result<()> {
    let mut bytes = Initramfs::standard()?.bytes();
    let place = (damage.inflict)(&mut bytes)?;
    let vm = with_archive(context, Some(bytes))?;
    let Some(complaint) = damage.complaint else { return observe(&vm, &Expected::Prompt) };
    let (status, screen) = Console::start(&vm)?.end(PATIENCE)?;
    says_why(status, &screen, &format!("] the initramfs is damaged at byte {place}: {complaint}\n"))
}

fn with_archive(context: &Context, bytes: Option<Vec<u8>>) -> Result<Vm> {
    let mut vm = context.vm(Machine::Microvm, 1, 128, Initramfs::default(), "quiet")?;
    vm.initramfs = bytes;
    Ok(vm)
}

/// Boots, and sees what becomes of it.
fn observe(vm: &Vm, expected: &Expected) -> Result<()> {
    let mut console = Console::start(vm)?;
    if matches!(expected, Expected::Prompt) {
        console.expect_prompt(PATIENCE)?;
        let output = console.command("echo al''ive", PATIENCE)?;
        ensure!(output.contains("alive"), "the shell says {output:?}");
        return Ok(());
    }
    let (status, screen) = console.end(PATIENCE)?;
    ensure!(!screen.contains("panicked at"), "a kernel fault:\n{screen}");
    match expected {
        Expected::Status(wanted) => ensure!(status == *wanted, "it ended with {status}, not {wanted}:\n{screen}"),
        Expected::Failure(words) => says_why(status, &screen, words)?,
        Expected::Prompt => {}
    }
    Ok(())
}

/// The machine ended with a failure and said this.
fn says_why(status: u8, screen: &str, words: &str) -> Result<()> {
    ensure!(status != 0, "it ended with status 0:\n{screen}");
    ensure!(screen.contains(words), "it does not say {words:?} but:\n{screen}");
    Ok(())
}

/// The smallest ELF program, whose only instruction is forbidden (`ud2`).
fn crashing_program() -> Vec<u8> {
    let mut elf = vec![0; 0x7a];
    let mut put = |at: usize, bytes: &[u8]| {
        elf.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, b"\x7fELF\x02\x01\x01");
    put(0x10, &[2, 0, 0x3e, 0, 1]);
    put(0x18, &0x40_0078u64.to_le_bytes());
    put(0x20, &0x40u64.to_le_bytes());
    put(0x34, &[0x40, 0, 0x38, 0, 1]);
    put(0x40, &[1, 0, 0, 0, 5]);
    put(0x50, &0x40_0000u64.to_le_bytes());
    put(0x58, &0x40_0000u64.to_le_bytes());
    put(0x60, &0x7au64.to_le_bytes());
    put(0x68, &0x7au64.to_le_bytes());
    put(0x70, &0x1000u64.to_le_bytes());
    put(0x78, &[0x0f, 0x0b]);
    elf
}
