//! Making processes and threads: fork(2), vfork(2), clone(2).

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use vfs::TableUse;

use crate::credentials::Capability;
use crate::limits::Resource;
use crate::pid::ProcessGroup;
use crate::process::{Image, NewProcess, family};
use crate::thread::NewThread;
use crate::ucounts::CountedThread;
use crate::{Failure, Interrupted, Pid, Process, Thread};

/// What clone(2) is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest {
    /// The `CLONE_` flags, without the signal.
    pub flags: u64,
    /// The child's stack pointer; 0 keeps the parent's.
    pub stack: usize,
    /// Where `CLONE_PARENT_SETTID` stores the number.
    pub parent_tid: usize,
    /// Where `CLONE_CHILD_SETTID` and `CLONE_CHILD_CLEARTID` store it.
    pub child_tid: usize,
    /// The base of FS with `CLONE_SETTLS`.
    pub tls: usize,
    /// The signal the parent gets at the end, 0 for none.
    pub exit_signal: u32,
}

impl CloneRequest {
    /// fork(2).
    pub const FORK: CloneRequest =
        CloneRequest { flags: 0, stack: 0, parent_tid: 0, child_tid: 0, tls: 0, exit_signal: raw::SIGCHLD };

    /// vfork(2).
    pub const VFORK: CloneRequest = CloneRequest { flags: flag::VM | flag::VFORK, ..CloneRequest::FORK };

    const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }
}

/// The flags, in the width clone3(2) has.
mod flag {
    use super::raw;
    pub const VM: u64 = raw::CLONE_VM as u64;
    pub const FS: u64 = raw::CLONE_FS as u64;
    pub const FILES: u64 = raw::CLONE_FILES as u64;
    pub const SIGHAND: u64 = raw::CLONE_SIGHAND as u64;
    pub const PIDFD: u64 = raw::CLONE_PIDFD as u64;
    pub const PTRACE: u64 = raw::CLONE_PTRACE as u64;
    pub const VFORK: u64 = raw::CLONE_VFORK as u64;
    pub const PARENT: u64 = raw::CLONE_PARENT as u64;
    pub const THREAD: u64 = raw::CLONE_THREAD as u64;
    pub const SYSVSEM: u64 = raw::CLONE_SYSVSEM as u64;
    pub const SETTLS: u64 = raw::CLONE_SETTLS as u64;
    pub const PARENT_SETTID: u64 = raw::CLONE_PARENT_SETTID as u64;
    pub const CHILD_CLEARTID: u64 = raw::CLONE_CHILD_CLEARTID as u64;
    pub const DETACHED: u64 = raw::CLONE_DETACHED as u64;
    pub const UNTRACED: u64 = raw::CLONE_UNTRACED as u64;
    pub const CHILD_SETTID: u64 = raw::CLONE_CHILD_SETTID as u64;
    pub const IO: u64 = raw::CLONE_IO as u64;
    pub const CLEAR_SIGHAND: u64 = 1 << 32;
    /// New namespaces.
    pub const NAMESPACES: u64 = (raw::CLONE_NEWNS
        | raw::CLONE_NEWCGROUP
        | raw::CLONE_NEWUTS
        | raw::CLONE_NEWIPC
        | raw::CLONE_NEWUSER
        | raw::CLONE_NEWPID
        | raw::CLONE_NEWNET) as u64;
    /// Done, or of no meaning here: nobody traces, there is no System V undo list, and I/O has no contexts.
    pub const KNOWN: u64 = VM
        | FS
        | FILES
        | SIGHAND
        | PTRACE
        | VFORK
        | PARENT
        | THREAD
        | SYSVSEM
        | SETTLS
        | PARENT_SETTID
        | CHILD_CLEARTID
        | DETACHED
        | UNTRACED
        | CHILD_SETTID
        | IO
        | CLEAR_SIGHAND;
}

/// clone(2): makes a child, or a thread, and returns its number. With `CLONE_VFORK` it waits until the child has executed
/// a program or ended.
///
/// Edge 1 of the life of a thread.
///
/// # Errors
/// `EINVAL` for flags that don't go together or aren't done, `EPERM` for namespaces, `EAGAIN` at the limits, `ENOMEM`.
pub async fn clone(thread: &Arc<Thread>, request: CloneRequest) -> Result<Pid, Failure> {
    check(thread, &request)?;
    // A signal that is sent to the whole group now must not miss the child.
    if thread.is_signalled() {
        return Err(Interrupted::RestartAlways.into());
    }
    let kernel = thread.kernel();
    check_limit(thread)?;
    if kernel.memory().is_low() {
        return Err(Errno::ENOMEM.into());
    }
    let files = files_for(thread, &request).await?;
    let child = match create(thread, &request, files.clone()).await {
        Ok(child) => child,
        Err(failure) => {
            if let Some(files) = files {
                files.end().await;
            }
            return Err(failure);
        }
    };
    // When the child ends, its use of them is to be the last.
    drop(files);
    let tid = child.tid();
    let process = request.has(flag::VFORK).then(|| child.process().clone());
    kernel.processes().count_fork();
    kernel.start(child);
    if let Some(process) = process {
        let back = process.vfork_done().wait_until(|| (!process.in_vfork()).then_some(()));
        let _ = thread.killable(back).await;
    }
    Ok(tid)
}

fn check(thread: &Thread, request: &CloneRequest) -> Result<()> {
    let has = |flag| request.has(flag);
    let flags = request.flags;
    let together = |one: u64, other: u64| has(one) && has(other);
    if together(raw::CLONE_NEWNS.into(), flag::FS) || together(raw::CLONE_NEWUSER.into(), flag::FS) {
        return Err(Errno::EINVAL);
    }
    if has(flag::THREAD) && !has(flag::SIGHAND) || has(flag::SIGHAND) && !has(flag::VM) {
        return Err(Errno::EINVAL);
    }
    // The first process has no parent its child could have.
    if together(flag::CLEAR_SIGHAND, flag::SIGHAND) || has(flag::PARENT) && thread.process().parent_pid().is_nobody() {
        return Err(Errno::EINVAL);
    }
    if flags & flag::NAMESPACES != 0 {
        thread.credentials().require(Capability::SysAdmin)?;
        return Err(Errno::EINVAL);
    }
    if flags & !flag::KNOWN != 0 || has(flag::PIDFD) {
        return Err(Errno::EINVAL);
    }
    // Handlers are shared by the threads of a process, and only by them; likewise threads share files and directories.
    let thread_shares = flag::SIGHAND | flag::FILES | flag::FS;
    if has(flag::SIGHAND) != has(flag::THREAD) || has(flag::THREAD) && flags & thread_shares != thread_shares {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// `EAGAIN` if the user has as many threads as he may.
fn check_limit(parent: &Thread) -> Result<()> {
    let counts = parent.credentials().counts().clone();
    if exceeds_limit(parent, u64::from(counts.threads()) + 1) {
        return Err(Errno::EAGAIN);
    }
    parent.forget_exceeding();
    Ok(())
}

/// Counts one more thread of the user. Who comes at the same time is counted too, so that the limit holds.
fn count(parent: &Thread) -> Result<CountedThread> {
    let counted = CountedThread::count(parent.credentials().counts());
    if exceeds_limit(parent, counted.user().threads().into()) { Err(Errno::EAGAIN) } else { Ok(counted) }
}

fn exceeds_limit(parent: &Thread, threads: u64) -> bool {
    let limit = parent.process().lock_limits().soft(Resource::Processes);
    let credentials = parent.credentials();
    let exempt = || credentials.has(Capability::SysResource) || credentials.has(Capability::SysAdmin);
    threads > limit && !credentials.counts().is_superuser() && !exempt()
}

/// The descriptors of a new process; none for a thread, which has those of its process.
async fn files_for(parent: &Thread, request: &CloneRequest) -> Result<Option<TableUse>> {
    if request.has(flag::THREAD) {
        return Ok(None);
    }
    let own = parent.process();
    match own.share_files() {
        Some(files) if request.has(flag::FILES) => Ok(Some(files)),
        _ => own.files().duplicate().await.map(Some),
    }
}

/// Makes the thread, and makes it known. It does not run yet.
async fn create(parent: &Arc<Thread>, request: &CloneRequest, files: Option<TableUse>) -> Result<Arc<Thread>, Failure> {
    let child = parent.killable(make(parent, request, files)).await??;
    if request.has(flag::PARENT_SETTID) {
        // As on Linux, an address that can't be written is the caller's own problem.
        let _ = parent.space().write_value(request.parent_tid, &parent.pid_number(child.tid())).await;
    }
    if request.has(flag::CHILD_SETTID) {
        let _ = child.space().write_value(request.child_tid, &child.pid_number(child.tid())).await;
    }
    enter(parent, request, &child)?;
    Ok(child)
}

/// Makes the thread, with its process if it is to have one of its own. Nobody can see it yet.
async fn make(parent: &Arc<Thread>, request: &CloneRequest, files: Option<TableUse>) -> Result<Arc<Thread>> {
    let kernel = parent.kernel();
    let number = kernel.processes().number()?;
    let tid = number.pid();
    let mut registers = parent.with_registers(|registers| registers.duplicate()).map_err(|_| Errno::ENOMEM)?;
    registers.set_result(0);
    if request.stack != 0 {
        registers.set_stack_pointer(request.stack);
    }
    if request.has(flag::SETTLS) {
        registers.set_thread_pointer(request.tls);
    }
    let (process, image) = match files {
        Some(files) => make_process(parent, request, tid, files).await?,
        None => (parent.process().clone(), parent.image().clone()),
    };
    let task = kernel.thread_task(tid, parent.task().nice(), parent.task().affinity());
    let (mask, stack) = {
        let own = parent.signals().lock();
        // The alternate stack is the program's: a copy of the memory has it too, another thread in it hasn't.
        let keeps = !request.has(flag::VM) || request.has(flag::VFORK);
        (own.mask, if keeps { own.stack } else { Default::default() })
    };
    let (credentials, name) = (parent.credentials(), parent.name());
    let thread = Thread::new(NewThread { tid, process, image, task, registers, mask, credentials, name });
    thread.signals().lock().stack = stack;
    if request.has(flag::CHILD_CLEARTID) {
        thread.set_clear_tid(request.child_tid);
    }
    number.hold();
    Ok(thread)
}

async fn make_process(
    parent: &Arc<Thread>,
    request: &CloneRequest,
    pid: Pid,
    files: TableUse,
) -> Result<(Arc<Process>, Arc<Image>)> {
    let own = parent.process();
    let image = if request.has(flag::VM) {
        parent.image().join();
        parent.image().clone()
    } else {
        Image::new(parent.space().fork().await?)
    };
    let fs = own.fs_context();
    let actions = own.signals().lock().actions.clone();
    let reset = if request.has(flag::CLEAR_SIGHAND) { actions.executed() } else { None };
    let actions = reset.map_or(actions, Arc::new);
    let process = Process::new(NewProcess {
        pid,
        kernel: own.kernel().clone(),
        namespaces: own.namespaces().clone(),
        group: own.group(),
        exit_signal: request.exit_signal,
        actions,
        files,
        fs: if request.has(flag::FS) { fs } else { Arc::new(fs.duplicate()) },
        image: image.clone(),
        program: own.program(),
        credentials: parent.credentials(),
        limits: own.limits(),
    });
    process.inherit(own);
    if request.has(flag::VFORK) {
        process.begin_vfork();
    }
    Ok((Arc::new(process), image))
}

/// Makes the new thread known, unless the parent has been sent a signal in the meantime: then a child would miss what
/// was sent to the whole group.
fn enter(parent: &Arc<Thread>, request: &CloneRequest, child: &Arc<Thread>) -> Result<(), Failure> {
    let processes = parent.kernel().processes();
    let result = match add_thread(parent, child) {
        Ok(counted) if request.has(flag::THREAD) => {
            processes.enter(child.tid(), child.state().clone(), counted, None);
            Ok(())
        }
        Ok(counted) => enter_process(parent, request, child, counted),
        Err(failure) => {
            processes.release(child.tid());
            Err(failure)
        }
    };
    if result.is_err() {
        forget_image(request, child);
    }
    result
}

/// Counts the new thread for its user, and adds it to its process.
fn add_thread(parent: &Thread, child: &Thread) -> Result<CountedThread, Failure> {
    if parent.is_signalled() {
        return Err(Interrupted::RestartAlways.into());
    }
    let counted = count(parent)?;
    child.process().add_thread(child.state())?;
    Ok(counted)
}

/// Enters the process in the table before it is linked to anybody: see [`crate::pid`].
fn enter_process(
    parent: &Thread,
    request: &CloneRequest,
    child: &Thread,
    counted: CountedThread,
) -> Result<(), Failure> {
    let processes = parent.kernel().processes();
    let process = child.process();
    processes.enter(child.tid(), child.state().clone(), counted, Some(process.clone()));
    let linked = if processes.are_all_signalled() {
        Err(Interrupted::RestartAlways.into())
    } else {
        link(parent, request, process)
    };
    if linked.is_err() {
        drop(processes.remove_thread(child.tid(), child));
        processes.remove_process(process.pid());
        // They have each other: neither would ever go.
        process.remove_thread(child);
    }
    linked
}

/// Makes the new process a child, and a member of its parent's group.
fn link(parent: &Thread, request: &CloneRequest, process: &Arc<Process>) -> Result<(), Failure> {
    let own = parent.process();
    let of_parent = request.has(flag::PARENT);
    let join_group = || -> Result<(), Failure> {
        ProcessGroup::join_that_of(own, process, |members| {
            // While a signal is on its way through the group, a child might be passed over.
            let restart = parent.is_signalled() || members.are_signalled();
            if restart { Err(Failure::from(Interrupted::RestartAlways)) } else { Ok(()) }
        })?;
        if of_parent {
            process.set_exit_signal(own.exit_signal());
        }
        Ok(())
    };
    loop {
        let elder = if of_parent { own.parent().ok_or(Errno::EINVAL)? } else { own.clone() };
        // The parent's parent may just have given it away.
        if family::adopt(&elder, process, join_group)? {
            return Ok(());
        }
    }
}

/// A process that was to share its parent's memory will not come to be.
fn forget_image(request: &CloneRequest, child: &Thread) {
    if request.has(flag::VM) && !request.has(flag::THREAD) {
        child.image().unjoin();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_linux_s() {
        assert_eq!(flag::KNOWN & flag::NAMESPACES, 0);
        assert_eq!((CloneRequest::VFORK.flags, CloneRequest::FORK.exit_signal), (0x4100, 17));
    }
}
