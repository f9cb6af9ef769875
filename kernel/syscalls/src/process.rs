//! The life of processes: fork(2), clone(2), execve(2), wait(2), exit(2); and what a thread sets about itself.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::offset_of;

use abi::Errno;
use abi::arch::CLONE_BACKWARDS;
use abi::fallible::{TryVec, try_format, try_to_vec};
use abi::limits::ResourceUsage;
use abi::process::CloneArguments;
use abi::raw::general as raw;
use abi::signal::SignalInfo;
use memory::PAGE_SIZE;
use process::clone::{CloneRequest, clone as make_child};
use process::exec::{self, ExecRequest, Strings};
use process::wait::{Target, Waited};
use process::{Failure, Outcome, Thread, exit, wait};
use vfs::{Lookup, NotReady};

use crate::argument::{Address, CString, CStrings, Descriptor, Flags, In, Out};
use crate::flags::{CloneFlags, ExecFlags, WaitIdOptions, WaitOptions};
use crate::place::HERE;

/// fork(2)
pub(crate) async fn fork(thread: &Arc<Thread>) -> Result<usize, Failure> {
    Ok(thread.pid_number(make_child(thread, CloneRequest::FORK).await?) as usize)
}

/// vfork(2)
pub(crate) async fn vfork(thread: &Arc<Thread>) -> Result<usize, Failure> {
    Ok(thread.pid_number(make_child(thread, CloneRequest::VFORK).await?) as usize)
}

/// clone(2). The low byte of the flags is the signal the parent gets at the end.
pub(crate) async fn clone(
    thread: &Arc<Thread>,
    flags: Flags<CloneFlags>,
    stack: Address,
    parent_tid: Out<i32>,
    child_tid: Out<i32>,
    tls: Address,
) -> Result<usize, Failure> {
    let (child_tid, tls) = if CLONE_BACKWARDS { (tls.0, child_tid.0) } else { (child_tid.0, tls.0) };
    let request = CloneRequest {
        flags: u64::from(flags.0 & !raw::CSIGNAL),
        stack: stack.0,
        parent_tid: parent_tid.0,
        child_tid,
        tls,
        exit_signal: flags.0 & raw::CSIGNAL,
    };
    Ok(thread.pid_number(make_child(thread, request).await?) as usize)
}

/// clone3(2)
pub(crate) async fn clone3(thread: &Arc<Thread>, arguments: In<CloneArguments>, size: usize) -> Result<usize, Failure> {
    let arguments = fetch_clone_arguments(thread, arguments, size).await?;
    let request = clone_request(&arguments)?;
    Ok(thread.pid_number(make_child(thread, request).await?) as usize)
}

/// The arguments of clone3(2), which older programs give shorter, and newer ones longer.
async fn fetch_clone_arguments(
    thread: &Arc<Thread>,
    arguments: In<CloneArguments>,
    size: usize,
) -> Result<CloneArguments, Errno> {
    use zerocopy::IntoBytes;
    /// `CLONE_ARGS_SIZE_VER0`
    const SMALLEST: usize = 64;
    const KNOWN: usize = size_of::<CloneArguments>();
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < SMALLEST {
        return Err(Errno::EINVAL);
    }
    let mut given = CloneArguments::default();
    let bytes = given.as_mut_bytes().get_mut(..size.min(KNOWN)).unwrap_or_default();
    thread.space().copy_in(arguments.0, bytes).await?;
    let rest = thread.space().read_array::<u8>(arguments.0 + KNOWN, size.saturating_sub(KNOWN)).await?;
    if rest.iter().any(|&byte| byte != 0) { Err(Errno::E2BIG) } else { Ok(given) }
}

/// Checks what only clone3(2) can get wrong.
fn clone_request(arguments: &CloneArguments) -> Result<CloneRequest, Errno> {
    let CloneArguments { flags, exit_signal, stack, stack_size, set_tid_size, .. } = *arguments;
    let low_flags = u64::from(raw::CLONE_DETACHED | raw::CSIGNAL & !raw::CLONE_NEWTIME);
    let silent = flags & u64::from(raw::CLONE_THREAD | raw::CLONE_PARENT) != 0;
    let valid = flags & low_flags == 0
        && exit_signal <= u64::from(abi::signal::MAXIMUM)
        && (stack == 0) == (stack_size == 0)
        && !(silent && exit_signal != 0)
        && set_tid_size == 0;
    if !valid {
        return Err(Errno::EINVAL);
    }
    Ok(CloneRequest {
        flags,
        stack: stack.checked_add(stack_size).ok_or(Errno::EINVAL)? as usize,
        parent_tid: arguments.parent_tid as usize,
        child_tid: arguments.child_tid as usize,
        tls: arguments.tls as usize,
        exit_signal: exit_signal as u32,
    })
}

/// execve(2)
pub(crate) async fn execve(
    thread: &Arc<Thread>,
    path: CString,
    argv: CStrings,
    envp: CStrings,
) -> Result<Outcome, Failure> {
    let path = path.fetch_path(thread).await?;
    let request = ExecRequest {
        directory: None,
        path: &path,
        lookup: Lookup::FOLLOW,
        name: &path,
        arguments: Strings::Program(thread.space(), argv.0),
        environment: Strings::Program(thread.space(), envp.0),
    };
    exec::execve(thread, request).await
}

/// execveat(2)
pub(crate) async fn execveat(
    thread: &Arc<Thread>,
    directory: Descriptor,
    path: CString,
    argv: CStrings,
    envp: CStrings,
    flags: Flags<ExecFlags>,
) -> Result<Outcome, Failure> {
    let flags = flags.known()?;
    let path = path.fetch_path(thread).await?;
    let mut lookup = Lookup::empty();
    lookup.set(Lookup::FOLLOW, !flags.has(raw::AT_SYMLINK_NOFOLLOW));
    lookup.set(Lookup::EMPTY_PATH, flags.has(raw::AT_EMPTY_PATH));
    let is_plain = directory == HERE || path.first() == Some(&b'/');
    let start = if is_plain { None } else { Some(thread.files().get(directory.0)?.path()?) };
    let name = if is_plain { try_to_vec(&path)? } else { descriptor_name(directory, &path)? };
    let request = ExecRequest {
        directory: start,
        path: &path,
        lookup,
        name: &name,
        arguments: Strings::Program(thread.space(), argv.0),
        environment: Strings::Program(thread.space(), envp.0),
    };
    exec::execve(thread, request).await
}

/// How a program that was named by a descriptor is told its own name: `/dev/fd/N`, with the path behind it.
fn descriptor_name(descriptor: Descriptor, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut name = try_format(format_args!("/dev/fd/{}", descriptor.0))?.into_bytes();
    if !path.is_empty() {
        name.try_push(b'/')?;
        name.try_extend_from_slice(path)?;
    }
    Ok(name)
}

/// exit(2): ends the thread. It is over when it would go back to the program.
pub(crate) fn exit(thread: &Arc<Thread>, status: i32) -> Outcome {
    exit::exit(thread, status);
    Outcome::Registers
}

/// exit_group(2)
pub(crate) fn exit_group(thread: &Arc<Thread>, status: i32) -> Outcome {
    exit::exit_group(thread, status);
    Outcome::Registers
}

/// wait4(2)
pub(crate) async fn wait4(
    thread: &Arc<Thread>,
    pid: i32,
    status: Out<i32>,
    options: Flags<WaitOptions>,
    usage: Out<ResourceUsage>,
) -> Result<usize, Failure> {
    let options = wait::WaitOptions(options.known()?.0 | raw::WEXITED);
    let target = Target::from_wait4(pid, thread)?;
    let Some(waited) = wait::wait(thread, target, options).await? else { return Ok(0) };
    status.store_optional(thread, &waited.event.wait_status()).await?;
    usage.store_optional(thread, &waited.usage.to_program()).await?;
    Ok(thread.pid_number(waited.pid) as usize)
}

/// waitid(2). The kernel's has one more argument than the library's: what was used.
pub(crate) async fn waitid(
    thread: &Arc<Thread>,
    kind: u32,
    id: i32,
    information: Out<SignalInfo>,
    options: Flags<WaitIdOptions>,
    usage: Out<ResourceUsage>,
) -> Result<usize, Failure> {
    let options = options.known()?;
    if options.0 & (raw::WEXITED | raw::WSTOPPED | raw::WCONTINUED) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let target = match (kind, id) {
        (raw::P_ALL, _) => Target::Any,
        (raw::P_PID, 1..) => Target::process(thread, id as u32),
        (raw::P_PGID, 0) => Target::Group(thread.process().group_id()),
        (raw::P_PGID, 1..) => Target::group(thread, id as u32),
        // There are no descriptors of processes.
        (raw::P_PIDFD, 0..) => return Err(Errno::EBADF.into()),
        _ => return Err(Errno::EINVAL.into()),
    };
    let waited = wait::wait(thread, target, wait::WaitOptions(options.0)).await?;
    if let Some(waited) = &waited {
        usage.store_optional(thread, &waited.usage.to_program()).await?;
    }
    if !information.is_null() {
        store_event(thread, information, waited.as_ref()).await?;
    }
    Ok(0)
}

/// Writes the fields of `siginfo_t` that waitid(2) fills, and no others. All are 0 if nothing happened.
async fn store_event(thread: &Arc<Thread>, information: Out<SignalInfo>, waited: Option<&Waited>) -> Result<(), Errno> {
    let (head, tail) = match waited {
        Some(waited) => {
            let (code, status) = waited.event.code_and_status();
            ([raw::SIGCHLD as i32, 0, code], [thread.pid_number(waited.pid) as i32, waited.user as i32, status])
        }
        None => ([0; 3], [0; 3]),
    };
    let space = thread.space();
    space.write_value(information.0, &head).await?;
    space.write_value(information.0.wrapping_add(offset_of!(SignalInfo, fields)), &tail).await
}

/// getpid(2)
pub(crate) fn getpid(thread: &Arc<Thread>) -> usize {
    thread.pid_number(thread.process().pid()) as usize
}

/// getppid(2)
pub(crate) fn getppid(thread: &Arc<Thread>) -> usize {
    thread.pid_number(thread.process().parent_pid()) as usize
}

/// gettid(2)
pub(crate) fn gettid(thread: &Arc<Thread>) -> usize {
    thread.pid_number(thread.tid()) as usize
}

/// set_tid_address(2)
pub(crate) fn set_tid_address(thread: &Arc<Thread>, address: Address) -> usize {
    thread.set_clear_tid(address.0);
    thread.pid_number(thread.tid()) as usize
}

/// The size of `struct robust_list_head`.
const ROBUST_LIST_HEAD: usize = 24;

/// set_robust_list(2)
pub(crate) fn set_robust_list(thread: &Arc<Thread>, head: Address, length: usize) -> Result<(), Errno> {
    if length != ROBUST_LIST_HEAD {
        return Err(Errno::EINVAL);
    }
    thread.set_robust_list(head.0);
    Ok(())
}

/// get_robust_list(2)
pub(crate) fn get_robust_list(
    thread: &Arc<Thread>,
    pid: i32,
    head: Out<usize>,
    length: Out<usize>,
) -> Result<(), NotReady> {
    let target = match pid {
        0 => thread.state().clone(),
        _ => {
            let tid = thread.pid_of(pid as u32).ok_or(Errno::ESRCH)?;
            thread.kernel().processes().thread(tid).ok_or(Errno::ESRCH)?
        }
    };
    let own = thread.process().pid() == target.process().pid();
    let dumpable = target.process().dumpable() == 1;
    if !own && !thread.credentials().may_inspect(&target.credentials(), dumpable) {
        return Err(Errno::EPERM.into());
    }
    length.write(thread, &ROBUST_LIST_HEAD)?;
    head.write(thread, &target.robust_list())
}

/// personality(2). Only the bits are kept: there is one way to execute programs.
pub(crate) fn personality(thread: &Arc<Thread>, persona: u32) -> usize {
    let process = thread.process();
    let old = process.personality();
    if persona != u32::MAX {
        process.set_personality(persona);
    }
    old as usize
}
