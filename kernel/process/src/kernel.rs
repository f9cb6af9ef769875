//! The kernel as a value: everything hangs from here.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use abi::Result;
use abi::cpus::CpuSet;
use drivers::{KernelLog, Level};
use memory::Memory;
use sched::{Executor, Task};
use vfs::{FileTable, FsContext, MountNamespace, Vfs};

use crate::futex::Futexes;
use crate::oom::ProcessKiller;
use crate::process::ExitStatus;
use crate::run::{SystemCalls, run};
use crate::signal::deferred::Deferred;
use crate::{Namespaces, Pid, Processes, Thread};

/// How many buckets the futexes' table has for every CPU, as on Linux.
const FUTEX_BUCKETS_PER_CPU: usize = 256;

/// How the machine is to stop: reboot(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Start again.
    Restart,
    /// Stop and stay on.
    Halt,
    /// Off.
    PowerOff,
}

/// What the kernel needs of the rooms above: who wires it together gives these.
pub struct Hooks {
    /// The first process is over: the machine stops with its status. Should not return.
    pub init_exited: Box<dyn Fn(ExitStatus) + Send + Sync>,
    /// Stops the machine: reboot(2). Should not return.
    pub shut_down: Box<dyn Fn(Shutdown) + Send + Sync>,
    /// Fills bytes with random ones.
    pub random: Box<FillRandom>,
}

/// Fills bytes with random ones.
pub type FillRandom = dyn Fn(&mut [u8]) + Send + Sync;

/// What a kernel is made of.
pub struct Parts {
    /// Who polls the threads.
    pub executor: Arc<Executor>,
    /// Frames, and what address spaces share.
    pub memory: Arc<Memory>,
    /// Devices and file systems.
    pub vfs: Arc<Vfs>,
    /// The mounts of the first process, and with it of all.
    pub mounts: Arc<MountNamespace>,
    /// The kernel's messages.
    pub log: Arc<KernelLog>,
    /// What the rooms above do.
    pub hooks: Hooks,
}

type Start = dyn Fn(Arc<Thread>) + Send + Sync;

/// A kernel. See the module's page.
pub struct Kernel {
    executor: Arc<Executor>,
    memory: Arc<Memory>,
    vfs: Arc<Vfs>,
    /// Those in which the system begins.
    namespaces: Arc<Namespaces>,
    log: Arc<KernelLog>,
    hooks: Hooks,
    processes: Processes,
    futexes: Futexes,
    /// What signals have still to do to very many.
    deferred: Arc<Deferred>,
    /// Makes a thread's future and lets it run: knows the type of the system calls.
    start: Box<Start>,
    /// What a process that is over has.
    no_files: Arc<FileTable>,
    no_fs_context: Arc<FsContext>,
}

impl Kernel {
    /// A kernel without a process. Its programs' calls are answered by `calls`.
    ///
    /// # Errors
    /// `EINVAL` when nothing is mounted as the root.
    pub fn new<C: SystemCalls>(parts: Parts, calls: C) -> Result<Arc<Kernel>> {
        let root = parts.mounts.root()?;
        let start = move |thread: Arc<Thread>| {
            let task = thread.task().clone();
            task.executor().start(&task, run(thread, calls.clone()));
        };
        let kernel = Arc::new(Kernel {
            executor: parts.executor,
            memory: parts.memory,
            vfs: parts.vfs,
            namespaces: Arc::new(Namespaces::first(parts.mounts)),
            log: parts.log,
            hooks: parts.hooks,
            processes: Processes::new(machine::cpu::count()),
            futexes: Futexes::new(machine::cpu::count() * FUTEX_BUCKETS_PER_CPU),
            deferred: Arc::default(),
            start: Box::new(start),
            no_files: FileTable::new(),
            no_fs_context: Arc::new(FsContext::new(root)),
        });
        kernel.memory.set_rescue(ProcessKiller::new(Arc::downgrade(&kernel)));
        Ok(kernel)
    }

    /// Who polls the threads.
    #[inline]
    pub const fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// Frames, and what address spaces share.
    pub const fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Devices and file systems.
    pub const fn vfs(&self) -> &Arc<Vfs> {
        &self.vfs
    }

    /// The kernel's messages.
    pub const fn log(&self) -> &Arc<KernelLog> {
        &self.log
    }

    /// The namespaces in which the system began: those of its first process.
    pub const fn namespaces(&self) -> &Arc<Namespaces> {
        &self.namespaces
    }

    /// All processes.
    #[inline]
    pub const fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Who waits for words of memory.
    pub const fn futexes(&self) -> &Futexes {
        &self.futexes
    }

    /// What signals have still to do to very many.
    pub(crate) const fn deferred(&self) -> &Arc<Deferred> {
        &self.deferred
    }

    /// Prints a message about what programs do.
    pub fn report(&self, message: fmt::Arguments<'_>) {
        self.log.print(Level::Information, message);
    }

    /// Fills `bytes` with random ones.
    pub fn random(&self, bytes: &mut [u8]) {
        (self.hooks.random)(bytes);
    }

    /// A random number.
    pub(crate) fn random_number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Stops the machine.
    pub fn shut_down(&self, how: Shutdown) {
        (self.hooks.shut_down)(how);
    }

    pub(crate) fn init_exited(&self, status: ExitStatus) {
        (self.hooks.init_exited)(status);
    }

    pub(crate) const fn no_files(&self) -> &Arc<FileTable> {
        &self.no_files
    }

    pub(crate) const fn no_fs_context(&self) -> &Arc<FsContext> {
        &self.no_fs_context
    }

    /// Lets a thread run for the first time.
    pub(crate) fn start(&self, thread: Arc<Thread>) {
        (self.start)(thread);
    }

    /// The task of a thread to be, on the CPU of the one that makes it.
    pub(crate) fn thread_task(&self, tid: Pid, nice: i8, affinity: CpuSet) -> Arc<Task> {
        let parameters =
            sched::Parameters { name: "thread", identity: tid.index(), nice, affinity, cpu: machine::cpu::current() };
        self.executor.task(&parameters)
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Kernel({} processes)", self.processes.count())
    }
}
