//! A thread: one future, one set of registers, one number.
//!
//! [`ThreadState`] is the thread, from clone to exit: what the tables hold, and what others see. [`Thread`] is what its own
//! future holds of it: the thread with the address space it executes in. Only the future exchanges that, when execve(2) has
//! succeeded; so the address space never changes under anybody's hands, and reaching it costs nothing.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::{Future, poll_fn};
use core::ops::Deref;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::task::Poll;

use abi::Result;
use abi::arch::LastTrap;
use abi::pid::AtomicPid;
use abi::signal::{Signal, SignalSet};
use machine::user::Registers;
use memory::AddressSpace;
use sched::Task;
use sync::{RwSpinLock, SpinLock};
use vfs::{FileTable, FsContext, PausedWalks, Vfs};

use crate::credentials::Capability;
use crate::limits::Resource;
use crate::process::Image;
use crate::signal::{Information, Pending, ThreadSignals, attention, code, send};
use crate::ucounts::CountedThread;
use crate::usage::Usage;
use crate::{Credentials, Interrupted, Kernel, Pid, Process, Resume};

/// A thread in one program, for its own future. See the module's page.
pub struct Thread {
    image: Arc<Image>,
    state: Arc<ThreadState>,
}

/// A thread, for everybody. See the module's page.
pub struct ThreadState {
    tid: AtomicPid,
    /// In its process's list of threads; changed under the lock of that.
    position: AtomicUsize,
    process: Arc<Process>,
    task: Arc<Task>,
    /// Touched by the thread's own future only; the lock is what that costs in safe code.
    registers: SpinLock<Registers>,
    signals: SpinLock<ThreadSignals>,
    /// Changed by the thread itself only.
    credentials: RwSpinLock<Arc<Credentials>>,
    /// Its user had too many threads when it became his: execve(2) asks again.
    exceeds_threads: AtomicBool,
    name: SpinLock<Name>,
    trap: SpinLock<LastTrap>,
    /// Where to store 0 and wake a futex at exit: set_tid_address(2), `CLONE_CHILD_CLEARTID`.
    clear_tid: AtomicUsize,
    /// get_robust_list(2)
    robust_list: AtomicUsize,
    /// What restart_syscall(2) has to go on with.
    resume: SpinLock<Option<Resume>>,
    /// The signal it gets when its parent dies, 0 for none: `PR_SET_PDEATHSIG`.
    parent_death_signal: AtomicU32,
    /// What it passed to exit(2).
    exit_status: AtomicU32,
    started: u64,
    minor_faults: AtomicU64,
    major_faults: AtomicU64,
    /// Parked by a stop.
    stopped: AtomicBool,
    /// Waits for what no signal ends: state `D`.
    uninterruptible: AtomicBool,
    /// Paths of its system call that take long.
    paused_walks: PausedWalks,
}

/// A thread's name, `comm`: up to 15 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; 15],
    length: u8,
}

impl Name {
    /// The first 15 bytes of a name, up to a zero.
    pub fn new(name: &[u8]) -> Name {
        let mut short = Name::default();
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        for (to, from) in short.bytes.iter_mut().zip(name.get(..end).unwrap_or_default()) {
            *to = *from;
            short.length += 1;
        }
        short
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// As text, for reports; `?` if it is not.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("?")
    }
}

impl Deref for Thread {
    type Target = ThreadState;

    #[inline]
    fn deref(&self) -> &ThreadState {
        &self.state
    }
}

/// What a new thread begins with.
pub(crate) struct NewThread {
    pub tid: Pid,
    pub process: Arc<Process>,
    pub image: Arc<Image>,
    pub task: Arc<Task>,
    pub registers: Registers,
    pub mask: SignalSet,
    pub credentials: Arc<Credentials>,
    pub name: Name,
}

impl Thread {
    pub(crate) fn new(new: NewThread) -> Arc<Thread> {
        let signals = ThreadSignals { mask: new.mask, ..ThreadSignals::default() };
        let state = ThreadState {
            tid: AtomicPid::new(new.tid),
            position: AtomicUsize::new(0),
            process: new.process,
            task: new.task,
            registers: SpinLock::new(new.registers),
            signals: SpinLock::new(signals),
            credentials: RwSpinLock::new(new.credentials),
            exceeds_threads: AtomicBool::new(false),
            name: SpinLock::new(new.name),
            trap: SpinLock::default(),
            clear_tid: AtomicUsize::new(0),
            robust_list: AtomicUsize::new(0),
            resume: SpinLock::new(None),
            parent_death_signal: AtomicU32::new(0),
            exit_status: AtomicU32::new(0),
            started: machine::time::now(),
            minor_faults: AtomicU64::new(0),
            major_faults: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            uninterruptible: AtomicBool::new(false),
            paused_walks: PausedWalks::default(),
        };
        Arc::new(Thread { image: new.image, state: Arc::new(state) })
    }

    /// The same thread in another program.
    pub(crate) fn executing(&self, image: Arc<Image>) -> Arc<Thread> {
        Arc::new(Thread { image, state: self.state.clone() })
    }

    /// Its memory. A zombie's and a dying thread's is empty.
    #[inline]
    pub fn space(&self) -> &Arc<AddressSpace> {
        self.image.space()
    }

    /// The thread as others know it.
    pub const fn state(&self) -> &Arc<ThreadState> {
        &self.state
    }

    pub(crate) const fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// What `future` gives, or [`Interrupted::Restart`] if a signal comes first, the process stops, or the thread has to end;
    /// the future is dropped then. How the interrupted call goes on is the caller's to say: see [`Interrupted`].
    ///
    /// # Errors
    /// [`Interrupted::Restart`].
    pub async fn interruptible<F: Future>(&self, future: F) -> Result<F::Output, Interrupted> {
        self.unless(attention::SIGNAL | attention::STOP | attention::EXIT, future).await
    }

    /// What `future` gives, unless the thread has to end first.
    ///
    /// # Errors
    /// [`Interrupted::Restart`], which nobody will see.
    pub async fn killable<F: Future>(&self, future: F) -> Result<F::Output, Interrupted> {
        self.uninterruptible.store(true, Ordering::Relaxed);
        let result = self.unless(attention::EXIT, future).await;
        self.uninterruptible.store(false, Ordering::Relaxed);
        result
    }

    async fn unless<F: Future>(&self, bits: u32, future: F) -> Result<F::Output, Interrupted> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if self.has_attention(bits) { Poll::Ready(Err(Interrupted::Restart)) } else { Poll::Pending }
        })
        .await
    }
}

impl ThreadState {
    /// Its number.
    #[inline]
    pub fn tid(&self) -> Pid {
        self.tid.load()
    }

    /// The number by which it knows somebody; 0 for who is not in its pid namespace.
    #[inline]
    pub fn pid_number(&self, pid: Pid) -> u32 {
        self.process.pid_number(pid)
    }

    /// Whom it means by a number, if anybody can have that.
    #[inline]
    pub fn pid_of(&self, number: u32) -> Option<Pid> {
        self.process.namespaces().pids().pid(number)
    }

    /// A thread that executes a new program becomes its process's leader.
    pub(crate) fn set_tid(&self, tid: Pid) {
        self.tid.store(tid);
    }

    pub(crate) fn position(&self) -> usize {
        self.position.load(Ordering::Relaxed)
    }

    pub(crate) fn set_position(&self, position: usize) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// The process it belongs to.
    #[inline]
    pub const fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The kernel.
    #[inline]
    pub fn kernel(&self) -> &Arc<Kernel> {
        self.process.kernel()
    }

    /// Its task.
    #[inline]
    pub const fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Its process's descriptors; an empty table when the process is over.
    pub fn files(&self) -> Arc<FileTable> {
        self.process.files()
    }

    /// Gives its process a table of its own, with the same open files: `CLOSE_RANGE_UNSHARE`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub async fn unshare_files(&self) -> Result<()> {
        self.process.unshare_files().await
    }

    /// Root, working directory and umask.
    pub fn fs_context(&self) -> Arc<FsContext> {
        self.process.fs_context()
    }

    /// Who it is.
    #[inline]
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }

    /// Replaces its credentials. For the thread itself only; the call has checked that it may.
    ///
    /// # Errors
    /// `EAGAIN` without memory for what is counted for a new real user.
    pub fn set_credentials(&self, mut new: Credentials) -> Result<()> {
        let old = self.credentials();
        let user = new.users.real;
        if new.counts.user() != user {
            new.counts = self.process.namespaces().users().counts().counts(user)?;
            // As on Linux, too many threads are no reason for this to fail: programs that give up rights don't look.
            let limit = self.process.lock_limits().soft(Resource::Processes);
            let exceeds = u64::from(new.counts.threads()) > limit && !new.counts.is_superuser();
            self.exceeds_threads.store(exceeds, Ordering::Relaxed);
            let before = self.kernel().processes().change_user(self.tid(), CountedThread::count(&new.counts));
            drop(before);
        }
        let changed = old.users.effective != new.users.effective
            || old.users.files != new.users.files
            || old.groups.effective != new.groups.effective
            || old.groups.files != new.groups.files;
        let new = Arc::new(new);
        let replaced = core::mem::replace(&mut *self.credentials.write(), new.clone());
        drop(replaced);
        if self.tid() == self.process.pid() {
            self.process.set_credentials(new);
        }
        if changed {
            self.process.set_dumpable(0);
            self.set_parent_death_signal(None);
        }
        Ok(())
    }

    /// Whether its user had too many threads when it became his, and still has: execve(2) fails then. Forgotten once he
    /// has not.
    pub(crate) fn exceeds_threads(&self) -> bool {
        let limit = self.process.lock_limits().soft(Resource::Processes);
        let exceeds =
            self.exceeds_threads.load(Ordering::Relaxed) && u64::from(self.credentials().counts.threads()) > limit;
        self.exceeds_threads.store(exceeds, Ordering::Relaxed);
        exceeds
    }

    /// It was allowed another thread: its user has not too many.
    pub(crate) fn forget_exceeding(&self) {
        self.exceeds_threads.store(false, Ordering::Relaxed);
    }

    /// The registers of the program, while it is in the kernel. Only for the thread's own future.
    #[inline]
    pub fn with_registers<R>(&self, act: impl FnOnce(&mut Registers) -> R) -> R {
        act(&mut self.registers.lock())
    }

    pub(crate) const fn registers(&self) -> &SpinLock<Registers> {
        &self.registers
    }

    pub(crate) const fn signals(&self) -> &SpinLock<ThreadSignals> {
        &self.signals
    }

    /// What it is called.
    pub fn name(&self) -> Name {
        *self.name.lock()
    }

    /// Calls it something else: `PR_SET_NAME`, /proc/PID/comm.
    pub fn set_name(&self, name: &[u8]) {
        *self.name.lock() = Name::new(name);
    }

    pub(crate) fn last_trap(&self) -> LastTrap {
        *self.trap.lock()
    }

    pub(crate) fn set_last_trap(&self, trap: LastTrap) {
        *self.trap.lock() = trap;
    }

    /// set_tid_address(2).
    pub fn set_clear_tid(&self, address: usize) {
        self.clear_tid.store(address, Ordering::Relaxed);
    }

    pub(crate) fn take_clear_tid(&self) -> usize {
        self.clear_tid.swap(0, Ordering::Relaxed)
    }

    /// set_robust_list(2).
    pub fn set_robust_list(&self, head: usize) {
        self.robust_list.store(head, Ordering::Relaxed);
    }

    /// get_robust_list(2).
    pub fn robust_list(&self) -> usize {
        self.robust_list.load(Ordering::Relaxed)
    }

    /// Leaves word how restart_syscall(2) goes on.
    pub(crate) fn set_resume(&self, resume: Resume) {
        *self.resume.lock() = Some(resume);
    }

    /// What restart_syscall(2) goes on with; `None` if there is nothing (`EINTR`).
    pub fn take_resume(&self) -> Option<Resume> {
        self.resume.lock().take()
    }

    /// `PR_GET_PDEATHSIG`.
    pub fn parent_death_signal(&self) -> Option<Signal> {
        Signal::new(self.parent_death_signal.load(Ordering::Relaxed) as i32).ok()
    }

    /// `PR_SET_PDEATHSIG`.
    pub fn set_parent_death_signal(&self, signal: Option<Signal>) {
        self.parent_death_signal.store(signal.map_or(0, |signal| signal.number().into()), Ordering::Relaxed);
    }

    /// What it passed to exit(2), as a status word.
    pub(crate) fn exit_status(&self) -> u32 {
        self.exit_status.load(Ordering::Relaxed)
    }

    pub(crate) fn set_exit_status(&self, status: u32) {
        self.exit_status.store(status, Ordering::Relaxed);
    }

    /// When it was made, in nanoseconds since boot.
    pub const fn started(&self) -> u64 {
        self.started
    }

    /// Nanoseconds it has run.
    pub fn cpu_time(&self) -> u64 {
        self.task.clock().user_time() + self.task.clock().kernel_time()
    }

    pub(crate) fn count_fault(&self, major: bool) {
        let counter = if major { &self.major_faults } else { &self.minor_faults };
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// What it has used.
    pub fn usage(&self) -> Usage {
        let clock = self.task.clock();
        Usage {
            user: clock.user_time(),
            system: clock.kernel_time(),
            minor_faults: self.minor_faults.load(Ordering::Relaxed),
            major_faults: self.major_faults.load(Ordering::Relaxed),
            voluntary_switches: clock.voluntary_switches(),
            involuntary_switches: clock.involuntary_switches(),
            peak_resident: 0,
        }
    }

    pub(crate) fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::Relaxed);
    }

    /// What it is doing, as /proc names it.
    pub fn run_state(&self) -> RunState {
        if self.stopped.load(Ordering::Relaxed) {
            RunState::Stopped
        } else if self.task.is_runnable() {
            RunState::Running
        } else if self.uninterruptible.load(Ordering::Relaxed) {
            RunState::Uninterruptible
        } else {
            RunState::Sleeping
        }
    }

    /// Signals pending for this thread alone, and those it blocks.
    pub fn pending_and_blocked(&self) -> (SignalSet, SignalSet) {
        let own = self.signals.lock();
        (Pending::set(&own.pending), own.mask)
    }

    /// Whether it has to see to one of these before user mode.
    #[inline]
    pub(crate) fn has_attention(&self, bits: u32) -> bool {
        self.task.attention().load(Ordering::Acquire) & bits != 0
    }

    pub(crate) fn raise_attention(&self, bits: u32) {
        self.task.attention().fetch_or(bits, Ordering::AcqRel);
    }

    pub(crate) fn lower_attention(&self, bits: u32) {
        self.task.attention().fetch_and(!bits, Ordering::AcqRel);
    }

    /// Blocks other signals. `SIGKILL` and `SIGSTOP` can't be. What the process has been sent and this thread would have taken
    /// is left to others.
    pub(crate) fn set_mask(&self, mask: SignalSet) {
        let mask = mask.without(SignalSet::UNBLOCKABLE);
        let old = core::mem::replace(&mut self.signals.lock().mask, mask);
        self.review_attention();
        send::retarget(self, mask.without(old));
    }

    /// Sets the attention bit of signals by what is pending and not blocked now.
    pub(crate) fn review_attention(&self) {
        let own = self.signals.lock();
        // After the mask is in place and under the lock: see the page of the signal module.
        let pending = own.pending.set().union(self.process.shared_pending());
        let has = !pending.without(own.mask).is_empty();
        if has != self.has_attention(attention::SIGNAL) {
            if has {
                self.raise_attention(attention::SIGNAL);
            } else {
                self.lower_attention(attention::SIGNAL);
            }
        }
    }

    /// Whether it would be ended by now: long loops in the kernel ask.
    pub fn must_end(&self) -> bool {
        self.has_attention(attention::EXIT)
    }

    /// Whether a signal waits to be delivered, or the thread must stop or end.
    #[inline]
    pub fn is_signalled(&self) -> bool {
        self.has_attention(attention::SIGNAL | attention::STOP | attention::EXIT)
    }
}

/// What a thread or process is doing, as /proc/PID/stat names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// `R`: runs or wants to.
    Running,
    /// `S`: waits; a signal would wake it.
    Sleeping,
    /// `D`: waits; only its end would wake it.
    Uninterruptible,
    /// `T`: stopped.
    Stopped,
    /// `Z`: over, and not collected yet.
    Zombie,
}

impl RunState {
    /// The letter.
    pub const fn letter(self) -> char {
        match self {
            RunState::Running => 'R',
            RunState::Sleeping => 'S',
            RunState::Uninterruptible => 'D',
            RunState::Stopped => 'T',
            RunState::Zombie => 'Z',
        }
    }
}

impl Thread {
    /// Whether the system call is to wait before it is made again ([`vfs::PausedWalks`]).
    #[inline]
    pub fn walks_wait(&self) -> bool {
        self.state.paused_walks.any()
    }

    /// Waits for what the paths of the system call wait for; at the least others run.
    ///
    /// # Errors
    /// [`Interrupted::Restart`] if the thread has to end first, which nobody will see.
    pub async fn resume_walks(&self) -> Result<(), Interrupted> {
        Box::pin(self.killable(self.state.paused_walks.ready())).await
    }

    /// The system call is over: where its paths were is forgotten.
    #[inline]
    pub fn forget_walks(&self) {
        self.state.paused_walks.forget();
    }
}

impl vfs::Caller for Thread {
    fn process(&self) -> Pid {
        self.state.process.pid()
    }

    fn thread(&self) -> Pid {
        self.tid()
    }

    fn pid_number(&self, pid: Pid) -> u32 {
        self.state.pid_number(pid)
    }

    fn pid_of(&self, number: u32) -> Option<Pid> {
        self.state.pid_of(number)
    }

    fn memory(&self) -> Option<&AddressSpace> {
        Some(self.space())
    }

    fn vfs(&self) -> &Vfs {
        self.kernel().vfs()
    }

    fn paused_walks(&self) -> Option<&PausedWalks> {
        Some(&self.state.paused_walks)
    }

    fn file_size_limit(&self) -> u64 {
        self.state.process.lock_limits().soft(Resource::FileSize)
    }

    fn file_too_large(&self) {
        let _ = send::post_thread(self, Information::kernel(Signal::XFSZ));
    }

    fn file_owner(&self) -> (u32, u32) {
        let credentials = self.credentials();
        (credentials.for_files().user, credentials.for_files().group)
    }

    fn in_group(&self, group: u32) -> bool {
        self.credentials().for_files().in_group(group)
    }

    fn keeps_set_id(&self) -> bool {
        self.credentials().has(Capability::Fsetid)
    }

    fn broken_pipe(&self) {
        let process = &self.state.process;
        let sender = process.pid_number(process.pid());
        let user = self.credentials().users.real;
        let _ = send::post_thread(self, Information::user(Signal::PIPE, code::USER, sender, user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_fifteen_bytes() {
        assert_eq!(Name::new(b"a-very-long-program-name").as_str(), "a-very-long-pro");
        assert_eq!(Name::new(b"sh\0junk").as_bytes(), b"sh");
        assert_eq!(Name::new(&[0xff]).as_str(), "?");
    }
}
