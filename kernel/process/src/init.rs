//! The first process: made from nothing, it executes the program that the machine was started for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::cpus::CpuSet;
use abi::{Errno, Result};
use machine::memory::FrameSource;
use memory::AddressSpace;
use tty::Terminal;
use vfs::{FileTable, FsContext, Path, TableUse};

use crate::limits::Limits;
use crate::process::{Image, NewProcess, Program};
use crate::signal::Actions;
use crate::thread::{Name, NewThread};
use crate::ucounts::CountedThread;
use crate::{Credentials, Kernel, Process, Thread};

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

impl Kernel {
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
        let thread = self.first_thread(&program)?;
        let process = thread.process().clone();
        let pid = process.pid();
        match execute(&thread, &program).await {
            Ok(thread) => {
                thread.with_registers(prepare);
                self.namespaces().pids().set_init(pid);
                self.start(thread);
                self.processes().count_fork();
                Ok(process)
            }
            Err(errno) => {
                process.remove_thread(&thread);
                drop(self.processes().remove_thread(pid, &thread));
                self.processes().remove(&process);
                self.processes().forget_last();
                Err(errno)
            }
        }
    }

    /// The first thread in its process, known by its number. It has no memory yet.
    fn first_thread(self: &Arc<Self>, program: &FirstProgram<'_>) -> Result<Arc<Thread>> {
        let fs = FsContext::new(self.namespaces().mounts().root()?);
        if let Some(directory) = &program.working_directory {
            fs.set_working(directory.clone());
        }
        let limits = Limits::initial(self.memory().frames().total_frames());
        let image = Image::new(AddressSpace::new(self.memory(), limits.memory(), self.random_number())?);
        let number = self.processes().number()?;
        let pid = number.pid();
        let credentials = Arc::new(Credentials::superuser(self.namespaces().users().counts().counts(0)?));
        let process = Arc::new(Process::new(NewProcess {
            pid,
            kernel: self.clone(),
            namespaces: self.namespaces().clone(),
            // Those of the kernel: like any process it can become the leader of its own.
            group: self.processes().kernel_group().clone(),
            exit_signal: abi::raw::general::SIGCHLD,
            actions: Arc::new(Actions::default()),
            files: TableUse::new(program.files.clone()),
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
        process.add_thread(thread.state())?;
        let counted = CountedThread::count(thread.credentials().counts());
        self.processes().enter(pid, thread.state().clone(), counted, Some(process.clone()));
        self.processes().enter_kernel_group(&process);
        Ok(thread)
    }
}

/// Lets the first thread execute its program, and returns what it goes on as.
async fn execute(thread: &Arc<Thread>, program: &FirstProgram<'_>) -> Result<Arc<Thread>> {
    if let Role::Program { terminal } = &program.role {
        crate::group::begin_session(thread, terminal.as_ref())?;
    }
    crate::exec::execute_first(thread, program.path, program.arguments, program.environment).await
}
