//! From the machine's first call to the first program.
//!
//! What can fail here is what the person at the console gave us: too little memory, a damaged archive, a program that is
//! not there. Each ends in one line that says what to do, and a failing exit status.

#![expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use abi::Errno;
use drivers::{KernelLog, Level, kernel_log};
use fs::devfs::{DevFs, DevFsType};
use fs::initramfs::{self, UnpackError};
use fs::random::Random;
use fs::slow::SlowStore;
use fs::slow::names::SlowNames;
use fs::tmpfs::{Store, Tmpfs, TmpfsType};
use machine::device::{Program, StandardStreams};
use machine::memory::{FrameSource, OutOfMemory};
use memory::{Flusher, Memory};
use process::{Hooks, Kernel, Parts, SystemCalls};
use procfs::{ProcFs, ProcFsType};
use sched::Executor;
use syscalls::Calls;
use tty::Terminal;
use vfs::{FileSystem, MountFlags, MountNamespace, Vfs};

use crate::folders::mount_folders;
use crate::options::Options;
use crate::stop::{self, Ending};
use crate::{console, first};

/// Why there is no system.
pub enum Failure {
    /// The memory is not enough for the kernel itself.
    Memory,
    /// No initramfs was given.
    NoArchive,
    /// It is damaged.
    Archive(UnpackError),
    /// The init can't be executed.
    Init(String, Errno),
    /// The program the machine was started for can't be executed.
    Program(String, Errno),
    /// It can't be started there.
    WorkingDirectory(String, Errno),
    /// A folder of the host can't be shown.
    Folder(String, Errno),
    /// A part of the kernel could not be set up.
    Part(&'static str, Errno),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Memory => {
                formatter.write_str("not enough memory to start: give the machine more (24 MiB or more)")
            }
            Failure::NoArchive => formatter.write_str(
                "no initramfs was given, so there is no program to run: give the machine one (QEMU: -initrd FILE)",
            ),
            Failure::Archive(error)
                if matches!(error.reason, initramfs::Reason::File(Errno::ENOMEM | Errno::ENOSPC)) =>
            {
                write!(formatter, "the initramfs does not fit into memory: give the machine more ({error})")
            }
            Failure::Archive(error) => write!(formatter, "the initramfs is damaged at {error}"),
            Failure::Init(path, Errno::ENOENT) => write!(
                formatter,
                "there is no {path} in the initramfs (or not the interpreter it names): add one, or name another program \
                 with init=PATH"
            ),
            Failure::Init(path, errno) => write!(formatter, "{path} can't be executed: {errno}"),
            Failure::Program(path, Errno::ENOENT) => write!(
                formatter,
                "there is no {path} in the machine (or not the interpreter it names): give a path that is valid there"
            ),
            Failure::Program(path, Errno::ENOEXEC) => write!(
                formatter,
                "{path} is no program for this machine: it runs ELF files for x86-64 and scripts that begin with #!"
            ),
            Failure::Program(path, Errno::EACCES) => {
                write!(formatter, "{path} may not be executed: make it an executable file (chmod +x)")
            }
            Failure::Program(path, errno) => write!(formatter, "{path} can't be executed: {errno}"),
            Failure::WorkingDirectory(path, errno) => {
                write!(
                    formatter,
                    "the program can't be started in {path}: {errno}; name a folder that is in the machine"
                )
            }
            Failure::Folder(path, errno) => write!(formatter, "no folder can be shown at {path}: {errno}"),
            Failure::Part(part, errno) => write!(formatter, "{part} can't be set up: {errno}"),
        }
    }
}

impl Failure {
    /// The machine's status: what a shell's would be for a program that can't be executed.
    fn status(&self) -> u8 {
        match self {
            Failure::Program(_, Errno::ENOENT) => stop::NOT_FOUND,
            Failure::Program(..) => stop::NOT_EXECUTABLE,
            _ => stop::NO_SYSTEM,
        }
    }
}

impl From<OutOfMemory> for Failure {
    fn from(_: OutOfMemory) -> Failure {
        Failure::Memory
    }
}

/// Names the part that failed.
pub fn part(name: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| if errno == Errno::ENOMEM { Failure::Memory } else { Failure::Part(name, errno) }
}

/// The kernel's main. Called once by the machine on the boot CPU; the other CPUs join in `machine::cpu::start`.
pub fn main() -> ! {
    match assemble() {
        Ok(executor) => machine::cpu::start(Arc::new(move |cpu| executor.run(cpu))),
        Err(failure) => {
            machine::debug::emergency_print(format_args!("orrery: {failure}\n"));
            machine::power::off(stop::NO_SYSTEM)
        }
    }
}

/// Puts the kernel together and queues the task that starts the first program.
fn assemble() -> Result<Arc<Executor>, Failure> {
    let options = Options::parse(&machine::device::command_line());
    #[cfg(feature = "fail-allocations")]
    machine::memory::fail_nth_allocation(options.fail_allocation.unwrap_or(0));
    let memory = Memory::new().map_err(|_| Failure::Memory)?;
    memory.set_randomise(options.randomize_addresses);
    let executor = Executor::new(machine::cpu::count());
    machine::cpu::install(executor.clone());

    let log = Arc::new(KernelLog::default());
    log.set_console(alloc::boxed::Box::new(|line| machine::debug::emergency_print(format_args!("{line}"))));
    let program = machine::device::program();
    log.set_console_level(match &program {
        _ if options.trace_calls => kernel_log::ALL_CONSOLE_LEVEL,
        // What a program writes is not to be mixed with more than what its user has to know.
        Some(_) => options.console_level.unwrap_or(Level::Notice as u8),
        None => options.console_level.unwrap_or(kernel_log::DEFAULT_CONSOLE_LEVEL),
    });
    let cpus = machine::cpu::count();
    let mebibytes = memory.frames().total_frames() / 256;
    log.print(
        Level::Notice,
        format_args!("Orrery {}: {cpus} CPUs, {mebibytes} MiB of memory", env!("CARGO_PKG_VERSION")),
    );
    for complaint in &options.complaints {
        log.print(Level::Error, format_args!("{complaint}"));
    }

    let random = Random::new();
    let vfs = Vfs::new(random.word());
    vfs.cache_in(&memory);
    let store = options.slow_files.map(|seed| slow_store(&executor, &memory, seed));
    let files = store.clone().map(|store| -> Arc<dyn Store> { store });
    let mut root: Arc<dyn FileSystem> =
        Tmpfs::over(&memory, "rootfs", "", random.word(), files).map_err(part("the root file system"))?;
    let names = store.filter(|_| options.slow_names).map(|store| SlowNames::over(root.clone(), store.queue()));
    if let Some(names) = &names {
        root = names.clone();
    }
    let mounts = MountNamespace::new(&vfs, root, "rootfs", MountFlags::empty()).map_err(part("the root mount"))?;
    let calls = Calls::new(options.trace_calls);
    let ending = Arc::new(Ending::new(&options, program.is_some(), calls.clone(), log.clone()));
    let hooks = hooks(&ending, &random);
    let kernel = new_kernel(Parts { executor: executor.clone(), memory, vfs, mounts, log, hooks }, calls)?;
    describe_faults(&kernel);
    options.hostname.iter().for_each(|name| kernel.namespaces().uts().set_host_name(name.as_bytes()));

    let memory = kernel.memory().clone();
    let freeing = sched::Parameters { name: "free", ..Default::default() };
    executor.spawn(&freeing, async move { memory.free_discarded().await });
    let signalling = sched::Parameters { name: "signals", ..Default::default() };
    executor.spawn(&signalling, Kernel::deliver_deferred(Arc::downgrade(&kernel)));
    let changes = kernel.vfs().unfinished_changes.clone();
    let completing = sched::Parameters { name: "changes", ..Default::default() };
    executor.spawn(&completing, async move { changes.complete().await });
    if let Some(names) = &names {
        forget_names(&executor, &kernel, names.clone());
    }
    let boot = start(kernel.clone(), options, program, random, ending.clone(), names);
    executor.spawn(&sched::Parameters { name: "boot", ..Default::default() }, async move {
        if let Err(failure) = boot.await {
            ending.no_system(format_args!("{failure}"), failure.status());
        }
    });
    Ok(executor)
}

/// Steps of a slow store's time that a request takes at most, and how long one is, in nanoseconds.
const SLOWNESS: u64 = 8;
const STEP: u64 = 20_000;

/// How often its pages are forgotten that are not in use, in nanoseconds.
const FORGET: u64 = 100_000_000;

/// As many names are forgotten then as make so many pages.
const FORGOTTEN: u64 = 4;

/// A store that takes its time, and the tasks that serve it.
fn slow_store(executor: &Arc<Executor>, memory: &Arc<Memory>, seed: u64) -> Arc<SlowStore> {
    let store = SlowStore::new(memory, seed, SLOWNESS);
    let (queue, flusher, forgetful) = (store.queue().clone(), store.flusher().clone(), store.clone());
    let sleep = {
        let executor = executor.clone();
        move |nanoseconds| executor.sleep_until(machine::time::now().saturating_add(nanoseconds))
    };
    let (step, pause) = (sleep.clone(), sleep);
    let disk = sched::Parameters { name: "slow store", ..Default::default() };
    executor.spawn(&disk, async move { queue.run(|| step(STEP)).await });
    let forgetting = sched::Parameters { name: "forget", ..Default::default() };
    executor.spawn(&forgetting, async move {
        loop {
            pause(FORGET).await;
            forgetful.forget().await;
        }
    });
    run_flusher(executor, &flusher);
    store
}

/// Lets a task write a file system's files back for as long as the machine runs.
pub fn run_flusher(executor: &Arc<Executor>, flusher: &Arc<Flusher>) {
    let (timer, flusher) = (executor.clone(), flusher.clone());
    let sleep = move |nanoseconds| timer.sleep_until(machine::time::now().saturating_add(nanoseconds));
    let writer = sched::Parameters { name: "flusher", ..Default::default() };
    executor.spawn(&writer, async move { flusher.run(sleep).await });
}

/// Has names that nobody uses looked up again.
fn forget_names(executor: &Arc<Executor>, kernel: &Arc<Kernel>, names: Arc<SlowNames>) {
    let (kernel, clock) = (Arc::downgrade(kernel), executor.clone());
    let forgetting = sched::Parameters { name: "forget names", ..Default::default() };
    executor.spawn(&forgetting, async move {
        let names: Arc<dyn FileSystem> = names;
        loop {
            clock.sleep_until(machine::time::now().saturating_add(FORGET)).await;
            let Some(kernel) = kernel.upgrade() else { return };
            let slow = kernel.vfs().super_blocks().find(|block| Arc::ptr_eq(block.filesystem(), &names));
            if let Some(slow) = slow {
                slow.forget_unused(FORGOTTEN);
            }
        }
    });
}

fn new_kernel(parts: Parts, calls: impl SystemCalls) -> Result<Arc<Kernel>, Failure> {
    Kernel::new(parts, calls).map_err(part("the kernel"))
}

fn hooks(ending: &Arc<Ending>, random: &Arc<Random>) -> Hooks {
    let (on_init, on_shutdown, random) = (ending.clone(), ending.clone(), random.clone());
    Hooks {
        init_exited: alloc::boxed::Box::new(move |status| on_init.init_exited(status)),
        shut_down: alloc::boxed::Box::new(move |how| on_shutdown.shut_down(how)),
        random: alloc::boxed::Box::new(move |bytes| random.fill(bytes)),
    }
}

/// Lets the kernel say whose fault a fault of the kernel was.
fn describe_faults(kernel: &Arc<Kernel>) {
    let executor = kernel.executor().clone();
    machine::debug::describe_context(Arc::new(move |out| {
        let _ = match executor.current_identity() {
            0 => writeln!(out, "in the kernel's own work"),
            identity => writeln!(out, "in thread {identity}"),
        };
    }));
}

/// Milliseconds after which Linux, too, says that a CPU is stuck (twice its `kernel.watchdog_thresh`).
const SOFT_LOCKUP: u64 = 20_000;

/// Lets the kernel say which thread kept a CPU for too long. How loud depends on how long: an emulated machine whose host is
/// busy now and then takes seconds for what is a few instructions. From [`SOFT_LOCKUP`] on it is an error, which a quiet console shows, too.
/// Where CPUs are another system's threads, that system is the first to be suspected.
fn watch(kernel: &Arc<Kernel>) {
    let log = kernel.log().clone();
    kernel.executor().set_watchdog(Arc::new(move |task, nanoseconds| {
        let (name, identity) = (task.name(), task.identity());
        let milliseconds = nanoseconds / 1_000_000;
        let level = match milliseconds {
            _ if machine::cpu::ARE_THREADS && milliseconds < 10_000 => Level::Debug,
            ..100 => Level::Debug,
            100..SOFT_LOCKUP => Level::Warning,
            SOFT_LOCKUP.. => Level::Error,
        };
        log.print(
            level,
            format_args!("{name} {identity} kept CPU {} in the kernel for {milliseconds} ms", machine::cpu::current()),
        );
    }));
}

/// What the first task does: devices, file systems, the archive, the first program.
async fn start(
    kernel: Arc<Kernel>,
    options: Options,
    program: Option<Program>,
    random: Arc<Random>,
    ending: Arc<Ending>,
    slow: Option<Arc<SlowNames>>,
) -> Result<(), Failure> {
    let vfs = kernel.vfs().clone();
    let dev = DevFs::new(&vfs, kernel.memory(), &random, kernel.log()).map_err(part("/dev"))?;
    let streams = machine::device::standard_streams();
    let [.., error_stream] = streams.descriptors;
    let console = console::open(&kernel, &dev, options.console_size, error_stream).map_err(part("the console"))?;
    let terminal = console.as_ref().map(|console| console.terminal.clone());
    if let Some(console) = console {
        ending.set_console(console);
    }
    let proc = ProcFs::new(&kernel, terminal.as_deref(), stop::name_of);
    let types = &vfs.file_system_types;
    let tmpfs = TmpfsType { memory: kernel.memory().clone(), random: random.clone() };
    types.register(Arc::new(tmpfs)).map_err(part("tmpfs"))?;
    types.register(Arc::new(ProcFsType(proc))).map_err(part("procfs"))?;
    types.register(Arc::new(DevFsType(dev.clone()))).map_err(part("devtmpfs"))?;

    let (roots, folders): (Vec<_>, Vec<_>) =
        machine::device::folders().into_iter().partition(|folder| folder.guest_path() == b"/");
    unpack(&kernel, program.is_some() || !roots.is_empty())?;
    mount_folders(&kernel, &ending, &roots)?;
    if program.is_some() {
        first::mount_usual(&kernel, roots.is_empty());
    }
    mount_folders(&kernel, &ending, &folders)?;
    // What came before took its time with nobody there to wait for it. The watch begins with a poll of its own.
    sched::yield_now().await;
    watch(&kernel);
    // The kernel itself does not wait for names.
    let begin = || {
        slow.iter().for_each(|names| names.begin());
        ending.begin_to_wait();
    };
    start_first(&kernel, &dev, streams, terminal, program, &options, &begin).await
}

async fn start_first(
    kernel: &Arc<Kernel>,
    dev: &DevFs,
    streams: StandardStreams,
    terminal: Option<Arc<Terminal>>,
    program: Option<Program>,
    options: &Options,
    begin: &(dyn Fn() + Sync),
) -> Result<(), Failure> {
    match program {
        Some(program) => first::start_program(kernel, dev, streams, terminal, &program, begin).await,
        None => first::start_init(kernel, dev, streams, options, begin).await,
    }
}

/// Fills the root file system from the initramfs, whose memory is then given back. Only an init has to find something there.
fn unpack(kernel: &Arc<Kernel>, may_be_missing: bool) -> Result<(), Failure> {
    let image = match machine::device::initramfs() {
        None if may_be_missing => return Ok(()),
        image => image.ok_or(Failure::NoArchive)?,
    };
    let root = kernel.namespaces().mounts().root().map_err(part("the root mount"))?;
    let summary = initramfs::unpack(image.bytes(), &root, kernel.vfs()).map_err(Failure::Archive)?;
    let (entries, kibibytes) = (summary.entries, summary.bytes / 1024);
    kernel.log().print(Level::Information, format_args!("initramfs: {entries} files, {kibibytes} KiB"));
    image.release();
    Ok(())
}
