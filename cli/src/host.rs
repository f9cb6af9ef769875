//! Runs the guest on the host machine: the kernel in this process, its programs in processes of their own.
//!
//! If standard input is a terminal, it is the guest's too: raw here, since the guest has its own line discipline, and
//! every standard stream that leads to a terminal goes through that. All other streams pass as they are.
//!
//! There are three ways out, and the terminal is put back on each: the machine ends and [`run`] returns; a panic; a
//! signal, whose thread exits the process, and with it go the processes of the guest.

use crate::arguments::{Engine, Run, Volume};
use crate::command;
use crate::failure::Failure;
use crate::root::{self, Root};
use anyhow::{Context, Result, anyhow};
use launch::terminal::{self, Event, Raw};
use machine::folder::SharedFolder;
use machine::host::{self, Configuration, Console, Devices, StandardStream, Terminal};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::isatty;
use std::sync::Arc;

/// Bytes of memory, unless told. They cost nothing before the guest uses them.
const MEMORY: usize = 1 << 30;

/// Runs the machine to its end; gives the exit status.
pub fn run(run: Run) -> Result<u8, Failure> {
    let on_terminal = isatty(stdin());
    let mut devices = devices(&run, on_terminal)?;

    let resized = on_terminal.then(|| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new));
    let resized = resized.transpose().context("the host gives no eventfd")?;
    devices.console = console(resized.as_deref()).context("a standard stream cannot be used")?;
    let raw = Raw::enter()?;
    terminal::answer_signals(move |event| {
        if let (Event::Resized(..), Some(resized)) = (event, &resized) {
            // Full means that it was told already.
            let _ = rustix::io::write(resized, &1_u64.to_ne_bytes());
        }
    })?;

    let configuration =
        Configuration { cpus: cpus(&run), memory: run.memory.unwrap_or(MEMORY), engine: engine(run.engine), devices };
    let ended = host::run(configuration, kernel::main);
    drop(raw);
    // Its text names the host's reason already.
    Ok(ended.map_err(|error| anyhow!("{error}"))?)
}

/// As many as asked for, or as this host has for us.
fn cpus(run: &Run) -> usize {
    run.cpus.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from).min(255)
}

fn engine(asked: Option<Engine>) -> host::Engine {
    match asked {
        None => host::Engine::default(),
        Some(Engine::Ptrace) => host::Engine::Ptrace,
        Some(Engine::SharedMemory) => host::Engine::SharedMemory,
    }
}

/// What the machine is given, but for its streams.
fn devices(run: &Run, on_terminal: bool) -> Result<Devices, Failure> {
    let root = root::open(&run.target)?;
    let mut options = command::for_kernel(run, None);
    let environment = command::environment(run, on_terminal);
    let mut devices = Devices::default();
    let program = match root {
        Root::Archive(bytes) if run.words.is_empty() => {
            options.extend(command::for_init(run, on_terminal)?);
            devices.initramfs = Some(bytes);
            None
        }
        Root::Program(bytes) => {
            let mount_points: Vec<&[u8]> = run.volumes.iter().map(|volume| volume.guest.0.as_slice()).collect();
            let (archive, path) = root::around(bytes, &run.target, &mount_points)?;
            let archive = archive.bytes();
            let program = command::alone(run, &archive, path, environment)?;
            devices.initramfs = Some(archive);
            Some(program)
        }
        root => {
            let program = command::in_root(run, &root, environment)?;
            match root {
                Root::Folder(path) => {
                    let shared = SharedFolder::open(&path, b"/", run.read_only).map_err(|error| anyhow!("{error}"))?;
                    devices.folders.push(shared);
                }
                Root::Archive(bytes) | Root::Program(bytes) => devices.initramfs = Some(bytes),
            }
            Some(program)
        }
    };
    for Volume { host, guest, read_only } in &run.volumes {
        let shared = SharedFolder::open(host, &guest.0, *read_only).map_err(|error| anyhow!("--volume: {error}"))?;
        devices.folders.push(shared);
    }
    devices.program = program;
    devices.command_line = options.join(" ");
    Ok(devices)
}

/// Our standard streams as the guest's.
fn console(resized: Option<&OwnedFd>) -> Result<Console> {
    let ours: [BorrowedFd<'static>; 3] = [stdin(), stdout(), stderr()];
    let Some(resized) = resized else {
        let [input, output, errors] = ours.map(|stream| stream.try_clone_to_owned().map(StandardStream::Host));
        return Ok(Console { terminal: None, streams: [input?, output?, errors?] });
    };
    let stream = |stream: BorrowedFd<'_>| -> Result<StandardStream> {
        Ok(match isatty(stream) {
            true => StandardStream::Terminal,
            false => StandardStream::Host(stream.try_clone_to_owned()?),
        })
    };
    let shown = [stdout(), stderr()].into_iter().find(|stream| isatty(stream)).unwrap_or(stdin());
    let terminal = Terminal {
        input: stdin().try_clone_to_owned()?,
        output: shown.try_clone_to_owned()?,
        resized: Some(resized.try_clone()?),
    };
    let [input, output, errors] = ours;
    Ok(Console { terminal: Some(terminal), streams: [stream(input)?, stream(output)?, stream(errors)?] })
}
