//! Executing programs: execve(2).
//!
//! | module | holds |
//! | --- | --- |
//! | `elf` | what an ELF file wants |
//! | `script` | `#!` |
//! | `stack` | arguments, environment, auxiliary vector |
//! | `load` | putting segments in place |
//!
//! The new program is built in an address space of its own while the old one still stands: anything that is wrong up to there
//! is an error the old program gets. Then there is no way back: the other threads end, the new memory takes the old one's
//! place, and what still goes wrong kills the process with `SIGSEGV`, as on Linux.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fallible::try_to_vec;
use abi::memory::Protection;
use abi::raw::{auxvec, general as raw};
use abi::signal::{Signal, SignalStack};
use abi::{Errno, Result};
use machine::user::Registers;
use memory::{AddressSpace, Destination, PAGE_SIZE};
use vfs::wait::{self, At};
use vfs::{Context, Lookup, MountFlags, OpenFile, Path};

use crate::process::{Image, Program};
use crate::run::NewImage;
use crate::signal::{Information, send};
use crate::{Credentials, Failure, Interrupted, Outcome, Thread, oom};

mod elf;
mod load;
mod script;
mod stack;

pub use stack::Strings;

use load::{Binary, Loaded};
use script::{BEGINNING, Script};
use stack::{AuxiliaryVector, StackStrings};

/// How many interpreters may follow one another.
const MOST_INTERPRETERS: usize = 5;

/// What execve(2) is asked for.
pub struct ExecRequest<'a> {
    /// Where a relative path begins; `None` for the working directory.
    pub directory: Option<Path>,
    /// The path.
    pub path: &'a [u8],
    /// How it is resolved: execveat(2) may forbid links or allow an empty path.
    pub lookup: Lookup,
    /// What a script's interpreter is given as the script's name, and `AT_EXECFN`: the path, or `/dev/fd/N`.
    pub name: &'a [u8],
    /// The arguments.
    pub arguments: Strings<'a>,
    /// The environment.
    pub environment: Strings<'a>,
}

/// execve(2) and execveat(2): on success the registers are those of the new program.
///
/// # Errors
/// Those of execve(2); interrupted if the thread has to end.
pub async fn execve(thread: &Arc<Thread>, request: ExecRequest<'_>) -> Result<Outcome, Failure> {
    if thread.exceeds_threads() {
        return Err(Errno::EAGAIN.into());
    }
    // Who has to end may not wait for memory: for that, others would have to end.
    let prepared = thread.killable(Box::pin(prepare(thread, &request))).await??;
    become_alone(thread).await?;
    // What is closed here must not be closed in a process that shares the table by CLONE_FILES.
    thread.process().unshare_files().await?;
    Ok(Outcome::Executed(NewImage(commit(thread, prepared).await)))
}

/// The first program of the first process, which has none to go back to. Returns the thread as it will run.
pub(crate) async fn execute_first(
    thread: &Arc<Thread>,
    path: &[u8],
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
) -> Result<Arc<Thread>> {
    let request = ExecRequest {
        directory: None,
        path,
        lookup: Lookup::FOLLOW,
        name: path,
        arguments: Strings::Kernel(arguments),
        environment: Strings::Kernel(environment),
    };
    // Nothing here is copied from a program.
    let prepared = prepare(thread, &request).await.map_err(want_of_memory)?;
    if let Err(errno) = prepared.loaded {
        return Err(if want_of_memory(errno) == Errno::ENOMEM { Errno::ENOMEM } else { Errno::ENOEXEC });
    }
    let image = commit(thread, prepared).await;
    Ok(thread.executing(image))
}

/// Why writing to the new program's memory failed: who can't write to a stack of his own making has no memory for it.
fn want_of_memory(errno: Errno) -> Errno {
    if errno == Errno::EFAULT { Errno::ENOMEM } else { errno }
}

/// Everything about the new program, before the old one is given up.
struct Prepared {
    space: Arc<AddressSpace>,
    /// An error here is found too late to go back.
    loaded: Result<Start>,
    program: Program,
    credentials: Credentials,
    /// The program runs with other rights than who started it.
    secure: bool,
    name: Vec<u8>,
}

/// Where the program starts.
struct Start {
    entry: usize,
    pointer: usize,
    auxiliary: Vec<u8>,
}

async fn prepare(thread: &Arc<Thread>, request: &ExecRequest<'_>) -> Result<Prepared> {
    let kernel = thread.kernel();
    let limits = thread.process().limits();
    let mut file = open(thread, request.directory.as_ref(), request.path, request.lookup).await?;
    let space = AddressSpace::new(kernel.memory(), limits.memory(), kernel.random_number())?;
    if thread.process().space().is_some_and(|old| old.forbids_huge_pages()) {
        space.forbid_huge_pages(true);
    }
    let top = space.map_stack()?;
    let most = i32::MAX as usize;
    let mut arguments = request.arguments.count(most).await?;
    let environment = request.environment.count(most).await?;
    let mut strings = StackStrings::new(&space, top, &limits, arguments.max(1) + environment)?;
    strings.push(request.name).await?;
    let executed_name = strings.bottom();
    strings.push_all(request.environment, environment).await?;
    strings.push_all(request.arguments, arguments).await?;
    if arguments == 0 {
        // Programs believe in argv[0]: Linux gives them an empty one.
        strings.push(b"").await?;
        arguments = 1;
    }
    let mut script_name = try_to_vec(request.name)?;
    let mut depth = 0;
    let binary = loop {
        let beginning = beginning_of(thread, &file).await?;
        let Ok(script) = Script::parse(&beginning) else {
            break Binary::read(thread, &file, &beginning).await?;
        };
        strings.pop().await?;
        strings.push(&script_name).await?;
        if let Some(argument) = script.argument {
            strings.push(argument).await?;
            arguments += 1;
        }
        strings.push(script.interpreter).await?;
        arguments += 1;
        script_name = try_to_vec(script.interpreter)?;
        file = open(thread, None, script.interpreter, Lookup::FOLLOW).await?;
        depth += 1;
        if depth > MOST_INTERPRETERS {
            return Err(Errno::ELOOP);
        }
    };
    if binary.has_executable_stack() {
        let all = Protection::READ | Protection::WRITE | Protection::EXECUTE;
        space.protect(top - PAGE_SIZE, PAGE_SIZE, all | Protection::GROWS_DOWN).await?;
    }
    let interpreter = match binary.interpreter(thread, &file).await? {
        Some(path) => Some(load::open_interpreter(thread, &path).await?),
        None => None,
    };
    let (credentials, secure) = credentials_for(thread, &file);
    let strings = strings.bottom();
    let counts = (arguments, environment);
    let about = Telling { executed_name, strings, counts, credentials: &credentials, secure };
    let loaded = load::place(&space, &binary, interpreter.as_ref()).await;
    let loaded = match loaded {
        Ok(loaded) => finish_stack(thread, &space, &loaded, &about).await,
        Err(errno) => Err(errno),
    };
    let program = Program { executable: file.named_path().cloned(), auxiliary: Arc::new([]) };
    let name = try_to_vec(request.name.rsplit(|&byte| byte == b'/').next().unwrap_or_default())?;
    Ok(Prepared { space, loaded, program, credentials, secure, name })
}

/// Opens a program. Others run where its path takes long, or has to be waited for.
async fn open(thread: &Arc<Thread>, directory: Option<&Path>, path: &[u8], lookup: Lookup) -> Result<Arc<OpenFile>> {
    loop {
        match try_to_open(thread, directory, path, lookup) {
            Err(Errno::ERESTART) => thread.resume_walks().await.map_err(|_| Errno::EINTR)?,
            result => return result,
        }
    }
}

fn try_to_open(thread: &Arc<Thread>, directory: Option<&Path>, path: &[u8], lookup: Lookup) -> Result<Arc<OpenFile>> {
    let fs = thread.fs_context();
    let credentials = thread.credentials();
    let paths = fs.paths();
    let context =
        Context { root: &paths.root, credentials: credentials.for_files(), caller: &**thread, umask: fs.umask() };
    context.open_program(directory.unwrap_or(&paths.working), path, lookup)
}

/// The first bytes of a file, followed by zeros.
async fn beginning_of(thread: &Arc<Thread>, file: &OpenFile) -> Result<[u8; BEGINNING]> {
    let mut beginning = [0; BEGINNING];
    read(thread, file, 0, &mut beginning).await?;
    Ok(beginning)
}

/// Reads from a file; returns how much there was.
async fn read(thread: &Arc<Thread>, file: &OpenFile, offset: u64, bytes: &mut [u8]) -> Result<usize> {
    let length = bytes.len();
    let mut destination = Destination::kernel(bytes);
    loop {
        let done = destination.progress();
        let at = offset.checked_add(done as u64).and_then(|at| i64::try_from(at).ok()).ok_or(Errno::ENOEXEC)?;
        wait::read(file, At::Offset(at), &mut destination, &**thread).await?;
        if destination.progress() == done || destination.progress() == length {
            break;
        }
    }
    Ok(destination.progress())
}

/// Who the program runs as: the set-user-ID and set-group-ID bits of its file count unless its mount or the process says
/// otherwise.
fn credentials_for(thread: &Arc<Thread>, file: &OpenFile) -> (Credentials, bool) {
    let permissions = file.inode().permissions();
    let own = thread.credentials();
    let allowed = !own.no_new_privileges
        && file.named_path().is_some_and(|path| !path.mount.flags().contains(MountFlags::NO_SET_USER_ID));
    let set_user = allowed && permissions.mode & raw::S_ISUID != 0;
    let executable_group = raw::S_ISGID | raw::S_IXGRP;
    let set_group = allowed && permissions.mode & executable_group == executable_group;
    own.execute(set_user.then_some(permissions.user), set_group.then_some(permissions.group))
}

/// What the stack tells the program.
struct Telling<'a> {
    executed_name: usize,
    strings: usize,
    counts: (usize, usize),
    credentials: &'a Credentials,
    secure: bool,
}

async fn finish_stack(
    thread: &Arc<Thread>,
    space: &Arc<AddressSpace>,
    loaded: &Loaded,
    about: &Telling<'_>,
) -> Result<Start> {
    const RANDOM_BYTES: usize = 16;
    /// A random gap keeps the stacks of two threads from competing for the same lines of the cache.
    const GAP: u64 = 8192;
    let kernel = thread.kernel();
    let gap = if kernel.memory().randomise() { (kernel.random_number() % GAP) as usize } else { 0 };
    let name = abi::arch::PLATFORM.unwrap_or_default();
    let platform = ((about.strings - gap) & !15) - name.len();
    space.copy_out(platform, name).await?;
    let mut bytes = [0; RANDOM_BYTES];
    kernel.random(&mut bytes);
    let random = platform - RANDOM_BYTES;
    space.copy_out(random, &bytes).await?;
    let state_size = thread.with_registers(|registers| registers.extended_state().len());
    let mut vector = AuxiliaryVector::default();
    if let Some(vdso) = space.map_vdso()? {
        vector.push(auxvec::AT_SYSINFO_EHDR, vdso);
    }
    let (users, groups) = (about.credentials.users, about.credentials.groups);
    vector.push(auxvec::AT_MINSIGSTKSZ, abi::arch::SignalFrame::largest(state_size));
    vector.push(auxvec::AT_HWCAP, abi::arch::hardware());
    vector.push(auxvec::AT_PAGESZ, memory::PAGE_SIZE);
    vector.push(auxvec::AT_CLKTCK, 100);
    vector.push(auxvec::AT_PHDR, loaded.headers);
    vector.push(auxvec::AT_PHENT, elf::PROGRAM_HEADER);
    vector.push(auxvec::AT_PHNUM, loaded.header_count);
    vector.push(auxvec::AT_BASE, loaded.interpreter_base);
    vector.push(auxvec::AT_FLAGS, 0);
    vector.push(auxvec::AT_ENTRY, loaded.program_entry);
    vector.push(auxvec::AT_UID, users.real as usize);
    vector.push(auxvec::AT_EUID, users.effective as usize);
    vector.push(auxvec::AT_GID, groups.real as usize);
    vector.push(auxvec::AT_EGID, groups.effective as usize);
    vector.push(auxvec::AT_SECURE, about.secure.into());
    vector.push(auxvec::AT_RANDOM, random);
    if let Some(more) = abi::arch::more_hardware() {
        vector.push(auxvec::AT_HWCAP2, more);
    }
    vector.push(auxvec::AT_EXECFN, about.executed_name);
    if abi::arch::PLATFORM.is_some() {
        vector.push(auxvec::AT_PLATFORM, platform);
    }
    let auxiliary = vector.bytes();
    let finished = stack::finish(space, random, about.strings, about.counts, &auxiliary).await?;
    space.set_program(loaded.layout(&finished));
    Ok(Start { entry: loaded.start, pointer: finished.pointer, auxiliary })
}

/// Ends all other threads of the process, and makes the caller its leader: it takes over the number of the leader that was, who may
/// still be on his way out.
async fn become_alone(thread: &Arc<Thread>) -> Result<(), Failure> {
    let process = thread.process();
    if !process.begin_execution(thread) {
        return Err(Interrupted::RestartAlways.into());
    }
    let alone = process.thread_event().wait_until(|| (process.thread_count() == 1).then_some(()));
    let result = thread.killable(alone).await;
    process.end_execution();
    result?;
    if thread.tid() != process.pid() {
        let processes = thread.kernel().processes();
        let tid = thread.tid();
        // The leader's number stays counted, and for a moment both numbers are the thread's.
        let leader = processes.replace_leader(process.pid(), thread.state().clone());
        thread.set_tid(process.pid());
        let entry = processes.remove_thread(tid, thread);
        drop((entry, leader));
    }
    Ok(())
}

/// Gives up the old program. Returns what the thread executes in from now on.
async fn commit(thread: &Arc<Thread>, prepared: Prepared) -> Arc<Image> {
    let process = thread.process();
    thread.release_futexes().await;
    let image = Image::new(prepared.space);
    let old = process.set_image(image.clone());
    process.end_vfork();
    if let Some(old) = old {
        process.note_peak_resident(old.space());
        old.leave().await;
    }
    process.files().close_for_exec(process.pid()).await;
    {
        let mut signals = process.signals().lock();
        if let Some(actions) = signals.actions.executed() {
            signals.actions = Arc::new(actions);
        }
        thread.signals().lock().stack = SignalStack::default();
    }
    thread.set_name(&prepared.name);
    thread.set_robust_list(0);
    // The real user stays, so there is nothing that could be missing.
    let _ = thread.set_credentials(prepared.credentials);
    process.set_dumpable(if prepared.secure { 0 } else { 1 });
    if prepared.secure {
        thread.set_parent_death_signal(None);
    }
    process.set_exit_signal(raw::SIGCHLD);
    process.set_executed();
    let mut program = prepared.program;
    match prepared.loaded {
        Ok(start) => {
            thread.with_registers(|registers: &mut Registers| registers.reset(start.entry, start.pointer));
            program.auxiliary = start.auxiliary.into();
        }
        Err(errno) => {
            if want_of_memory(errno) == Errno::ENOMEM {
                oom::tell(thread.kernel(), process);
            }
            send::force(thread, Information::kernel(Signal::SEGV));
        }
    }
    process.set_program(program);
    image
}
