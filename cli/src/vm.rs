//! Runs the guest on a virtual machine: the kernel image in QEMU, with this terminal as its serial console.
//!
//! An initramfs starts by its own `/init`. For a command, another archive follows it with two files: `/.orrery/init`
//! (`user/init` of the repository, built into this program) and `/.orrery/session`, which describes the command. A
//! folder is packed into an archive, so what the guest writes stays in the guest.

use crate::arguments::Run;
use crate::command;
use crate::failure::Failure;
use crate::root::{self, Root};
use anyhow::{Context, Result, anyhow, bail};
use launch::archive::Archive;
use launch::console::{self, Input};
use launch::qemu::{Machine, Vm};
use launch::terminal;
use machine::device::Program;
use rustix::stdio::{stdin, stdout};
use rustix::termios::isatty;
use std::path::{Path, PathBuf};

/// The first process of a guest that runs a single command. Empty where there was no compiler for it.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
const SESSION: &str = ".orrery/session";
const INPUT: &str = ".orrery/input";

/// MiB of memory, unless told.
const MEMORY: u32 = 256;

/// Runs the machine to its end; gives the exit status.
pub fn run(run: Run) -> Result<u8, Failure> {
    if !run.volumes.is_empty() {
        return Err(anyhow!("--volume needs --machine host: a virtual machine is shown no folders of this host").into());
    }
    let root = root::open(&run.target)?;
    let kernel = kernel(run.kernel.as_deref())?;
    let on_terminal = isatty(stdin());
    let environment = command::environment(&run, on_terminal);
    let mut options = command::for_kernel(&run, terminal::window());
    let (mut archive, program) = match root {
        Root::Archive(bytes) if run.words.is_empty() => {
            options.extend(command::for_init(&run, on_terminal)?);
            (bytes, None)
        }
        Root::Archive(_) | Root::Folder(_) => {
            let program = command::in_root(&run, &root, environment)?;
            let archive = match root {
                Root::Folder(path) => root::pack(&path)?.bytes(),
                Root::Archive(bytes) | Root::Program(bytes) => bytes,
            };
            (archive, Some(program))
        }
        Root::Program(bytes) => {
            let (archive, path) = root::around(bytes, &run.target, &[])?;
            let archive = archive.bytes();
            let program = command::alone(&run, &archive, path, environment)?;
            (archive, Some(program))
        }
    };
    let (input, early) = Input::open(program.is_some())?;
    if let Some(program) = &program {
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(session(program, early)?.bytes());
        options.push("init=/.orrery/init".into());
    }
    let mut vm = Vm::new(Machine::Q35, kernel, archive, options.join(" "));
    vm.cpus = run.cpus.map_or(1, u32::from);
    vm.memory = match run.memory {
        Some(bytes) => u32::try_from(bytes >> 20).context("--memory: QEMU takes up to 4 PiB")?,
        None => MEMORY,
    };
    Ok(console::attach(&vm, input, program.is_some())?)
}

/// The archive with the first process and what it shall run: see `user/init/init.c`.
fn session(program: &Program, input: Option<Vec<u8>>) -> Result<Archive> {
    if INIT.is_empty() {
        bail!(
            "this orrery was built without a C compiler and cannot run commands on a vm: install gcc and build it again"
        );
    }
    let mut flags = String::from("a");
    if !isatty(stdout()) {
        flags.push('o');
    }
    if !isatty(stdin()) {
        flags.push('i');
    }
    let mut archive = Archive::default();
    let input_path = input.as_ref().map(|_| format!("/{INPUT}")).unwrap_or_default();
    let count = program.arguments.len().to_string();
    let head = [flags.as_bytes(), input_path.as_bytes(), &program.working_directory, &program.path, count.as_bytes()];
    let words = program.arguments.iter().chain(&program.environment).map(Vec::as_slice);
    let description: Vec<u8> = head.into_iter().chain(words).flat_map(|word| [word, b"\0"].concat()).collect();
    archive.file(".orrery/init", 0o755, INIT);
    archive.file(SESSION, 0o600, description);
    if let Some(input) = input {
        archive.file(INPUT, 0o600, input);
    }
    Ok(archive)
}

/// The kernel's image: named, told by the environment, beside us, or in the checkout we were built in.
fn kernel(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return path
            .is_file()
            .then(|| path.into())
            .with_context(|| format!("--kernel: there is no {}", path.display()));
    }
    if let Some(path) = std::env::var_os("ORRERY_KERNEL").map(PathBuf::from) {
        let shown = path.display().to_string();
        return path
            .is_file()
            .then_some(path)
            .with_context(|| format!("$ORRERY_KERNEL names {shown}, which is not there"));
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let ours = std::env::current_exe().unwrap_or_default();
    let beside = ours.parent().unwrap_or(Path::new("/"));
    let places = [beside.join("orrery-kernel"), beside.join("../kernel/orrery"), checkout.join("target/kernel/orrery")];
    places.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "there is no kernel image for a vm: build one with `./x build` in {}, or name one with --kernel FILE or \
             ORRERY_KERNEL",
            checkout.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_describes_its_command() {
        let program = Program {
            path: b"/bin/ls".to_vec(),
            arguments: vec![b"ls".to_vec(), b"".to_vec()],
            environment: vec![b"A=1".to_vec()],
            working_directory: b"/work".to_vec(),
        };
        let bytes = session(&program, Some(b"text".to_vec())).unwrap().bytes();
        let index = launch::archive::Index::read(&bytes);
        let description = index.find(b"/.orrery/session").unwrap().content;
        assert!(description.ends_with(b"\0/.orrery/input\0/work\0/bin/ls\x002\0ls\0\0A=1\0"));
        assert!(index.find(b"/.orrery/init").unwrap().is_executable());
    }
}
