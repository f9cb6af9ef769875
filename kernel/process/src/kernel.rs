//! The kernel as a value: everything hangs from here.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use abi::cpus::CpuSet;
use abi::{Errno, Result};
use drivers::{KernelLog, Level};
use machine::memory::FrameSource;
use memory::{AddressSpace, Memory};
use sched::{Executor, Task};
use tty::Terminal;
use vfs::{FileTable, FsContext, MountNamespace, Path, TableUse, Vfs};

use crate::futex::Futexes;
use crate::limits::Limits;
use crate::oom::ProcessKiller;
use crate::process::{ExitStatus, NewProcess, Program};
use crate::run::{SystemCalls, run};
use crate::signal::Actions;
use crate::signal::deferred::Deferred;
use crate::thread::{Name, NewThread};
use crate::ucounts::CountedThread;
use crate::{Credentials, Namespaces, Pid, Process, Processes, Thread};

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

    /// Makes the first process, number 1, and lets it execute the program at `path`.
    ///
    /// # Errors
    /// Those of execve(2).
    pub async fn start_init(self: &Arc<Self>, program: FirstProgram<'_>) -> Result<Arc<Process>> {
        self.start_init_playing(program, |_| {}).await
    }

    /// As [`Kernel::start_init`], with something done to the registers before the program runs: on the host, tests play
    /// programs so.
    ///
    /// # Errors
    /// As [`Kernel::start_init`].
    pub async fn start_init_playing(
        self: &Arc<Self>,
        program: FirstProgram<'_>,
        prepare: impl FnOnce(&mut machine::user::Registers) + Send,
    ) -> Result<Arc<Process>> {
        let fs = FsContext::new(self.namespaces.mounts().root()?);
        if let Some(directory) = program.working_directory {
            fs.set_working(directory);
        }
        let limits = Limits::initial(self.memory.frames().total_frames());
        let space = AddressSpace::new(&self.memory, limits.memory(), self.random_number())?;
        let image = crate::process::Image::new(space);
        let number = self.processes.number()?;
        let pid = number.pid();
        let credentials = Arc::new(Credentials::superuser(self.namespaces.users().counts().counts(0)?));
        let process = Arc::new(Process::new(NewProcess {
            pid,
            kernel: self.clone(),
            namespaces: self.namespaces.clone(),
            // Those of the kernel: like any process it can become the leader of its own.
            group: self.processes.kernel_group().clone(),
            exit_signal: abi::raw::general::SIGCHLD,
            actions: Arc::new(Actions::default()),
            files: TableUse::new(program.files),
            fs: Arc::new(fs),
            image: image.clone(),
            program: Program::default(),
            credentials: credentials.clone(),
            limits,
        }));
        process.set_unkillable(matches!(program.role, Role::Init));
        let registers = machine::user::Registers::new(0, 0).map_err(|_| Errno::ENOMEM)?;
        let thread = Thread::new(NewThread {
            tid: pid,
            process: process.clone(),
            image,
            task: self.thread_task(pid, 0, CpuSet::ALL),
            registers,
            mask: abi::signal::SignalSet::EMPTY,
            credentials,
            name: Name::new(b"init"),
        });
        {
            let counted = CountedThread::count(thread.credentials().counts());
            self.processes.enter(pid, thread.state().clone(), counted, Some(process.clone()));
            self.processes.enter_kernel_group(&process);
        }
        process.add_thread(thread.state())?;
        let prepared = match &program.role {
            Role::Init => Ok(()),
            Role::Program { terminal } => crate::group::begin_session(&thread, terminal.as_ref()),
        };
        let executed = match prepared {
            Ok(()) => crate::exec::execute_first(&thread, program.path, program.arguments, program.environment).await,
            Err(errno) => Err(errno),
        };
        match executed {
            Ok(thread) => {
                thread.with_registers(prepare);
                self.namespaces.pids().set_init(pid);
                self.start(thread);
                self.processes.count_fork();
                Ok(process)
            }
            Err(errno) => {
                process.remove_thread(&thread);
                drop(self.processes.remove_thread(pid, &thread));
                self.processes.remove(&process);
                self.processes.forget_last();
                Err(errno)
            }
        }
    }
}

/// What the first process executes.
pub struct FirstProgram<'a> {
    /// Its path.
    pub path: &'a [u8],
    /// Its arguments, with its name.
    pub arguments: &'a [Vec<u8>],
    /// Its environment.
    pub environment: &'a [Vec<u8>],
    /// Its open files: the console as 0, 1 and 2.
    pub files: Arc<FileTable>,
    /// Where it starts; `None` for the root.
    pub working_directory: Option<Path>,
    /// What it is to the system.
    pub role: Role,
}

/// What the first process is to the system.
pub enum Role {
    /// Its init: no signal without a handler reaches it.
    Init,
    /// A program like any other, which the machine was started for. It leads a session, with this terminal as the controlling
    /// one.
    Program {
        /// The terminal.
        terminal: Option<Arc<Terminal>>,
    },
}

impl fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Kernel({} processes)", self.processes.count())
    }
}
