//! A process: a group of threads that share memory, files, signals and a place in the tree of processes.
//!
//! **Who synchronises.** Each part has its own small lock. Where several are held, the order is that of `pid`: children, groups, the
//! process's signals, its list of threads, a thread's signals. The numbers of parent, group and session can be read freely.

mod attributes;
mod children;
pub(crate) mod family;
mod image;
mod report;
mod threads;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::Result;
use abi::pid::AtomicPid;
pub use abi::process::ExitStatus;
use abi::signal::SignalSet;
use memory::AddressSpace;
use sync::{RwSpinLock, SpinGuard, SpinLock, WaitQueue};
use vfs::{FileTable, FsContext, Path, TableUse};

use crate::limits::Limits;
use crate::pid::ProcessGroup;
use crate::signal::{Actions, ProcessSignals, attention};
use crate::thread::{Name, RunState};
use crate::timers::IntervalTimers;
use crate::usage::Usage;
use crate::{Credentials, Kernel, Namespaces, Pid, PidNamespace, ThreadState};

pub(crate) use children::Children;
use children::Siblings;
pub use image::Image;
use threads::Threads;

/// What a process executes.
#[derive(Clone, Default)]
pub struct Program {
    /// The file.
    pub executable: Option<Path>,
    /// The auxiliary vector, as the program found it on its stack.
    pub auxiliary: Arc<[u8]>,
}

/// What is gone when the process is over.
struct Resources {
    files: TableUse,
    fs: Arc<FsContext>,
    image: Arc<Image>,
}

/// How many threads are told to end at once. Each that ends tells some of the rest.
const TOLD_AT_ONCE: usize = 256;
const TOLD_BY_EACH: usize = 16;

/// What children and threads that are no more have used.
#[derive(Clone, Copy, Default)]
struct PastUsage {
    threads: Usage,
    children: Usage,
}

/// `exit_status` of a process that isn't ending.
const RUNNING: u32 = u32::MAX;

/// A process.
pub struct Process {
    pid: Pid,
    kernel: Arc<Kernel>,
    namespaces: Arc<Namespaces>,
    parent: SpinLock<Option<Arc<Process>>>,
    /// Copies, for those who only want to know the numbers.
    parent_pid: AtomicPid,
    group_id: AtomicPid,
    session_id: AtomicPid,
    /// Its neighbours among the children of its parent.
    siblings: SpinLock<Siblings>,
    children: SpinLock<Children>,
    group: SpinLock<Arc<ProcessGroup>>,
    /// Sent to the parent at the end; 0 for none.
    exit_signal: AtomicU32,
    threads: SpinLock<Threads>,
    /// Woken when a thread ends: execve(2) waits to be alone.
    thread_event: WaitQueue,
    signals: SpinLock<ProcessSignals>,
    shared_pending: AtomicU64,
    resources: SpinLock<Option<Resources>>,
    program: RwSpinLock<Program>,
    /// Its leader's.
    credentials: RwSpinLock<Arc<Credentials>>,
    limits: SpinLock<Limits>,
    past: SpinLock<PastUsage>,
    timers: SpinLock<IntervalTimers>,
    /// The status word, once the end has begun.
    exit_status: AtomicU32,
    /// What the leader passed to exit(2), as a status word.
    leader_status: AtomicU32,
    /// The thread that is executing a new program, and needs to be alone.
    executing: AtomicPid,
    /// No thread is left: a zombie until somebody collects it.
    zombie: AtomicBool,
    /// What a parent can collect of a living process, as `report` encodes it.
    report: AtomicU32,
    /// Woken when a child has something to report.
    child_event: WaitQueue,
    /// The parent of a vfork(2) waits for this child to execute or end.
    in_vfork: AtomicBool,
    vfork_done: WaitQueue,
    /// Init: signals with default actions do nothing.
    unkillable: AtomicBool,
    /// It has called execve(2): its parent can't set its group any more.
    executed: AtomicBool,
    /// `PR_SET_CHILD_SUBREAPER`
    reaps: AtomicBool,
    dumpable: AtomicU32,
    personality: AtomicU32,
    out_of_memory_adjustment: AtomicU32,
    /// What the thread that left last was called.
    last_name: SpinLock<Name>,
    started: u64,
}

/// What a new process begins with.
pub(crate) struct NewProcess {
    pub pid: Pid,
    pub kernel: Arc<Kernel>,
    pub namespaces: Arc<Namespaces>,
    pub group: Arc<ProcessGroup>,
    pub exit_signal: u32,
    pub actions: Arc<Actions>,
    pub files: TableUse,
    pub fs: Arc<FsContext>,
    pub image: Arc<Image>,
    pub program: Program,
    pub credentials: Arc<Credentials>,
    pub limits: Limits,
}

impl Process {
    pub(crate) fn new(new: NewProcess) -> Process {
        let resources = Resources { files: new.files, fs: new.fs, image: new.image };
        Process {
            pid: new.pid,
            kernel: new.kernel,
            namespaces: new.namespaces,
            parent: SpinLock::new(None),
            parent_pid: AtomicPid::default(),
            group_id: AtomicPid::new(new.group.id()),
            session_id: AtomicPid::new(new.group.session().id()),
            siblings: SpinLock::default(),
            children: SpinLock::default(),
            group: SpinLock::new(new.group),
            exit_signal: AtomicU32::new(new.exit_signal),
            threads: SpinLock::default(),
            thread_event: WaitQueue::new(),
            signals: SpinLock::new(ProcessSignals::new(new.actions)),
            shared_pending: AtomicU64::new(0),
            resources: SpinLock::new(Some(resources)),
            program: RwSpinLock::new(new.program),
            credentials: RwSpinLock::new(new.credentials),
            limits: SpinLock::new(new.limits),
            past: SpinLock::default(),
            timers: SpinLock::default(),
            exit_status: AtomicU32::new(RUNNING),
            leader_status: AtomicU32::new(0),
            executing: AtomicPid::default(),
            zombie: AtomicBool::new(false),
            report: AtomicU32::new(report::NONE),
            child_event: WaitQueue::new(),
            in_vfork: AtomicBool::new(false),
            vfork_done: WaitQueue::new(),
            unkillable: AtomicBool::new(false),
            executed: AtomicBool::new(false),
            reaps: AtomicBool::new(false),
            dumpable: AtomicU32::new(1),
            personality: AtomicU32::new(0),
            out_of_memory_adjustment: AtomicU32::new(0),
            last_name: SpinLock::default(),
            started: machine::time::now(),
        }
    }

    /// Its pid.
    #[inline]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// The kernel.
    #[inline]
    pub const fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// The namespaces it is in.
    #[inline]
    pub const fn namespaces(&self) -> &Arc<Namespaces> {
        &self.namespaces
    }

    /// The number by which it knows somebody; 0 for who is not in its pid namespace.
    #[inline]
    pub fn pid_number(&self, pid: Pid) -> u32 {
        self.namespaces.pids().number(pid)
    }

    /// Its parent's pid; nobody for the first process.
    pub fn parent_pid(&self) -> Pid {
        self.parent_pid.load()
    }

    /// Its parent. It may have another at once, unless the lock of this one's children is held.
    pub(crate) fn parent(&self) -> Option<Arc<Process>> {
        self.parent.lock().clone()
    }

    /// It has another parent. The caller holds the locks of the children of both.
    pub(crate) fn set_parent(&self, parent: Option<Arc<Process>>) {
        self.parent_pid.store(parent.as_ref().map_or(Pid::NOBODY, |parent| parent.pid));
        let old = core::mem::replace(&mut *self.parent.lock(), parent);
        drop(old);
    }

    /// Whether it is the parent's child. For certain only while the lock of the parent's children is held.
    pub(crate) fn is_child_of(&self, parent: &Arc<Process>) -> bool {
        self.parent.lock().as_ref().is_some_and(|own| Arc::ptr_eq(own, parent))
    }

    /// Whether it is the init of its pid namespace.
    pub(crate) fn is_init(&self) -> bool {
        self.pid == self.namespaces.pids().init()
    }

    /// Whether a signal has stopped it, and none has continued it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.signals.lock().stop.is_stopped()
    }

    /// Its children.
    pub(crate) const fn children(&self) -> &SpinLock<Children> {
        &self.children
    }

    /// For [`Children`].
    pub(crate) const fn siblings(&self) -> &SpinLock<Siblings> {
        &self.siblings
    }

    /// Its process group. It may be in another at once, unless the lock of this one's members is held.
    pub(crate) fn group(&self) -> Arc<ProcessGroup> {
        self.group.lock().clone()
    }

    /// Whether it is in a group. For certain only while the lock of the group's members is held.
    pub(crate) fn is_in(&self, group: &Arc<ProcessGroup>) -> bool {
        Arc::ptr_eq(&self.group.lock(), group)
    }

    /// It is in another group. The caller holds the locks of the members of both.
    pub(crate) fn set_group(&self, group: &Arc<ProcessGroup>) {
        self.group_id.store(group.id());
        self.session_id.store(group.session().id());
        let old = core::mem::replace(&mut *self.group.lock(), group.clone());
        drop(old);
    }

    /// The number of its process group.
    pub fn group_id(&self) -> Pid {
        self.group_id.load()
    }

    /// The number of its session.
    pub fn session_id(&self) -> Pid {
        self.session_id.load()
    }

    /// The signal its parent gets when it ends, 0 for none.
    pub fn exit_signal(&self) -> u32 {
        self.exit_signal.load(Ordering::Relaxed)
    }

    pub(crate) fn set_exit_signal(&self, signal: u32) {
        self.exit_signal.store(signal, Ordering::Relaxed);
    }

    /// Its thread with this number.
    pub fn thread(&self, tid: Pid) -> Option<Arc<ThreadState>> {
        self.threads.lock().iter().find(|thread| thread.tid() == tid).cloned()
    }

    /// Fills `found` with the smallest numbers above `after` that threads have in `pids`, in ascending order, and returns how many.
    pub fn next_threads(&self, pids: &PidNamespace, after: u32, found: &mut [u32]) -> usize {
        let mut count = 0;
        self.each_thread(|thread| {
            let tid = pids.number(thread.tid());
            let known = found.get(..count).unwrap_or_default();
            if tid <= after || (count == found.len() && known.last().is_none_or(|last| *last < tid)) {
                return;
            }
            let at = known.partition_point(|known| *known < tid);
            count = found.len().min(count + 1);
            let behind = found.get_mut(at..count).unwrap_or_default();
            behind.rotate_right(1);
            if let Some(place) = behind.first_mut() {
                *place = tid;
            }
        });
        count
    }

    /// How many threads it has.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// The leader, or else the oldest thread.
    pub fn first_thread(&self) -> Option<Arc<ThreadState>> {
        self.threads.lock().first().cloned()
    }

    /// Calls `act` for each thread, under the lock of their list.
    pub fn each_thread(&self, act: impl FnMut(&Arc<ThreadState>)) {
        self.threads.lock().iter().for_each(act);
    }

    /// Whether some thread satisfies `test`; the oldest is asked first.
    pub(crate) fn find_thread(&self, test: impl FnMut(&Arc<ThreadState>) -> bool) -> bool {
        self.threads.lock().iter().any(test)
    }

    /// Whether the process is stopped has changed: `most` threads are told to look. True if somebody has to tell the others, and nobody
    /// is about it yet.
    pub(crate) fn begin_nudging(&self, most: usize) -> bool {
        let mut threads = self.threads.lock();
        threads.begin_nudging();
        threads.nudge(most) && !core::mem::replace(&mut threads.nudging, true)
    }

    /// Goes on with that. False when all have been told.
    pub(crate) fn nudge(&self, most: usize) -> bool {
        let mut threads = self.threads.lock();
        threads.nudging = threads.nudge(most);
        threads.nudging
    }

    /// A thread joins, and shares the fate of the others: a stop, or the end.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn add_thread(&self, thread: &Arc<ThreadState>) -> Result<()> {
        // A stop or an end either finds the thread in the list, or is found here.
        let mut signals = self.signals.lock();
        let mut threads = self.threads.lock();
        threads.add(thread.clone())?;
        drop(threads);
        signals.stop.join(thread);
        if self.watches_processor_time() {
            thread.raise_attention(attention::PROCESSOR_TIMERS);
        }
        let executing = self.executing.load();
        if self.exit_status.load(Ordering::Acquire) != RUNNING || !executing.is_nobody() {
            thread.raise_attention(attention::EXIT);
        }
        Ok(())
    }

    /// A thread leaves. True if it was the last.
    pub(crate) fn remove_thread(&self, thread: &ThreadState) -> bool {
        let mut threads = self.threads.lock();
        let gone = threads.remove(thread);
        let last = threads.len() == 0;
        let executing = self.executing.load();
        if self.exit_status().is_some() || !executing.is_nobody() {
            threads.tell(TOLD_BY_EACH, self.exit_status().is_none().then_some(executing));
        }
        drop(threads);
        self.past.lock().threads.add(&thread.usage());
        *self.last_name.lock() = thread.name();
        self.thread_event.wake_all();
        drop(gone);
        last
    }

    pub(crate) const fn thread_event(&self) -> &WaitQueue {
        &self.thread_event
    }

    pub(crate) const fn signals(&self) -> &SpinLock<ProcessSignals> {
        &self.signals
    }

    /// Signals pending for the process as a whole.
    #[inline]
    pub fn shared_pending(&self) -> SignalSet {
        SignalSet(self.shared_pending.load(Ordering::Relaxed))
    }

    /// Makes the atomic agree with what is pending. The caller holds the lock.
    pub(crate) fn publish_pending(&self, signals: &ProcessSignals) {
        let pending = signals.pending.set().0;
        if self.shared_pending.load(Ordering::Relaxed) != pending {
            self.shared_pending.store(pending, Ordering::Relaxed);
        }
    }

    /// Signals it ignores, and those it has handlers for.
    pub fn ignored_and_caught(&self) -> (SignalSet, SignalSet) {
        let actions = self.signals.lock().actions.clone();
        actions.ignored_and_caught()
    }

    /// Its descriptors; an empty table once it is over.
    pub fn files(&self) -> Arc<FileTable> {
        match &*self.resources.lock() {
            Some(resources) => resources.files.table().clone(),
            None => self.kernel.no_files().clone(),
        }
    }

    /// Begins to share its descriptors with another process: `CLONE_FILES`. `None` once it is over.
    pub(crate) fn share_files(&self) -> Option<TableUse> {
        self.resources.lock().as_ref().map(|resources| resources.files.clone())
    }

    /// Gives it a table of its own with the same open files, if another process uses the one it has: unshare(CLONE_FILES).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) async fn unshare_files(&self) -> Result<()> {
        let Some(shared) = self.share_files() else { return Ok(()) };
        // Besides this use for the length of the call.
        if shared.users() > 2 {
            let own = shared.duplicate().await?;
            let old = self.resources.lock().as_mut().map(|now| core::mem::replace(&mut now.files, own));
            drop(old);
            shared.end().await;
        }
        Ok(())
    }

    /// Root, working directory and umask; the kernel's root once it is over.
    pub fn fs_context(&self) -> Arc<FsContext> {
        match &*self.resources.lock() {
            Some(resources) => resources.fs.clone(),
            None => self.kernel.no_fs_context().clone(),
        }
    }

    /// Its memory; `None` once it is over.
    pub fn space(&self) -> Option<Arc<AddressSpace>> {
        self.resources.lock().as_ref().map(|resources| resources.image.space().clone())
    }

    pub(crate) fn set_image(&self, image: Arc<Image>) -> Option<Arc<Image>> {
        self.resources.lock().as_mut().map(|resources| core::mem::replace(&mut resources.image, image))
    }

    /// The end: files are closed unless another process shares the table, and root and working directory are let go of.
    pub(crate) async fn close_files(&self) {
        let resources = self.resources.lock().take();
        if let Some(resources) = resources {
            resources.files.end().await;
        }
    }

    /// What it executes.
    pub fn program(&self) -> Program {
        self.program.read().clone()
    }

    pub(crate) fn set_program(&self, program: Program) {
        let old = core::mem::replace(&mut *self.program.write(), program);
        drop(old);
    }

    /// Who it is: its leader's credentials, also when the leader has ended.
    #[inline]
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }

    /// Its leader has other credentials.
    pub(crate) fn set_credentials(&self, credentials: Arc<Credentials>) {
        let old = core::mem::replace(&mut *self.credentials.write(), credentials);
        drop(old);
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        *self.limits.lock()
    }

    pub(crate) fn lock_limits(&self) -> SpinGuard<'_, Limits> {
        self.limits.lock()
    }

    pub(crate) const fn interval_timers(&self) -> &SpinLock<IntervalTimers> {
        &self.timers
    }

    /// What it has used: its threads, also those that ended.
    pub fn usage(&self) -> Usage {
        let mut sum = self.past.lock().threads;
        self.each_thread(|thread| sum.add(&thread.usage()));
        if let Some(space) = self.space() {
            sum.peak_resident = sum.peak_resident.max(peak_resident(&space));
        }
        sum
    }

    pub(crate) fn note_peak_resident(&self, space: &AddressSpace) {
        let peak = peak_resident(space);
        let mut past = self.past.lock();
        past.threads.peak_resident = past.threads.peak_resident.max(peak);
    }

    /// What its collected children have used, with theirs.
    pub fn children_usage(&self) -> Usage {
        self.past.lock().children
    }

    /// Adds a child that is collected.
    pub(crate) fn inherit_usage(&self, child: &Process) {
        let mut usage = child.usage();
        usage.add(&child.children_usage());
        self.past.lock().children.add(&usage);
    }

    /// Nanoseconds it has run.
    pub fn cpu_time(&self) -> u64 {
        let (user, system) = self.processor_times();
        user + system
    }

    /// Nanoseconds it has run in user mode and in the kernel.
    pub(crate) fn processor_times(&self) -> (u64, u64) {
        let past = self.past.lock().threads;
        let mut times = (past.user, past.system);
        self.each_thread(|thread| {
            times.0 += thread.task().clock().user_time();
            times.1 += thread.task().clock().kernel_time();
        });
        times
    }

    /// How it ends or ended; `None` while it lives.
    pub fn exit_status(&self) -> Option<i32> {
        match self.exit_status.load(Ordering::Acquire) {
            RUNNING => None,
            status => Some(status as i32),
        }
    }

    /// How it ended, once it has.
    pub fn end(&self) -> ExitStatus {
        let word = self.exit_status().unwrap_or(0);
        match abi::signal::Signal::new(word & 0x7f) {
            Ok(signal) => ExitStatus::Killed(signal),
            Err(_) => ExitStatus::Exited((word >> 8) as u8),
        }
    }

    /// Makes all its threads end. The first call decides how. The caller holds the signals' lock.
    pub(crate) fn begin_exit(&self, status: ExitStatus) {
        let word = status.wait_status() as u32;
        if self.exit_status.compare_exchange(RUNNING, word, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let mut threads = self.threads.lock();
            threads.begin_telling();
            threads.tell(TOLD_AT_ONCE, None);
        }
    }

    /// All threads have ended: if nothing else decided how the process ends, its leader's status does.
    pub(crate) fn fix_exit_status(&self) {
        let leader = self.leader_status.load(Ordering::Relaxed);
        let _ = self.exit_status.compare_exchange(RUNNING, leader, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn set_leader_status(&self, status: u32) {
        self.leader_status.store(status, Ordering::Relaxed);
    }

    /// A thread begins to execute a new program: all others have to end. False if another one was first.
    pub(crate) fn begin_execution(&self, thread: &ThreadState) -> bool {
        let _signals = self.signals.lock();
        if self.exit_status().is_some() || !self.executing.store_if_nobody(thread.tid()) {
            return false;
        }
        let mut threads = self.threads.lock();
        threads.begin_telling();
        threads.tell(TOLD_AT_ONCE, Some(thread.tid()));
        true
    }

    pub(crate) fn end_execution(&self) {
        self.executing.store(Pid::NOBODY);
    }

    /// Whether it is over and waits to be collected.
    pub fn is_zombie(&self) -> bool {
        self.zombie.load(Ordering::Acquire)
    }

    pub(crate) fn become_zombie(&self) {
        self.zombie.store(true, Ordering::Release);
    }

    /// Whether signals are of no use any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_zombie() || self.exit_status().is_some()
    }

    pub(crate) const fn child_event(&self) -> &WaitQueue {
        &self.child_event
    }

    /// It executes in its parent's memory, and the parent waits.
    pub(crate) fn begin_vfork(&self) {
        self.in_vfork.store(true, Ordering::Relaxed);
    }

    pub(crate) fn in_vfork(&self) -> bool {
        self.in_vfork.load(Ordering::Acquire)
    }

    /// It has left its parent's memory.
    pub(crate) fn end_vfork(&self) {
        if self.in_vfork.load(Ordering::Relaxed) {
            self.in_vfork.store(false, Ordering::Release);
            self.vfork_done.wake_all();
        }
    }

    pub(crate) const fn vfork_done(&self) -> &WaitQueue {
        &self.vfork_done
    }

    /// When it was made, in nanoseconds since boot.
    pub const fn started(&self) -> u64 {
        self.started
    }

    /// What it is called: what its first thread is, or its last one was.
    pub fn name(&self) -> Name {
        self.first_thread().map_or_else(|| *self.last_name.lock(), |thread| thread.name())
    }

    /// Forgets the signals that wait for it: it is over.
    pub(crate) async fn forget_signals(&self) {
        let untaken = {
            let mut signals = self.signals.lock();
            let untaken = core::mem::take(&mut signals.pending);
            self.publish_pending(&signals);
            untaken
        };
        untaken.forget().await;
    }

    /// What it is doing, as /proc names it: what its first thread does.
    pub fn run_state(&self) -> RunState {
        match self.first_thread() {
            Some(thread) if !self.is_zombie() => thread.run_state(),
            _ => RunState::Zombie,
        }
    }
}

/// The most memory a space ever had, in KiB.
fn peak_resident(space: &AddressSpace) -> u64 {
    (space.usage().peak_resident * memory::PAGE_SIZE / 1024) as u64
}
