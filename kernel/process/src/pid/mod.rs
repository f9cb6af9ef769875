//! The process table: who has which number.
//!
//! | module | holds |
//! | --- | --- |
//! | `numbers` | which numbers are taken: a bitmap without a lock |
//! | `shard` | a part of the table |
//! | `broadcast` | signals to all, against forks |
//! | `group`, `session` | process groups with their members, and sessions |
//!
//! A number is taken while a thread, a process, a process group or a session has it; Linux's `struct pid`. What has a number is found
//! in one of many shards, in which neighbouring numbers are apart, so that those who make processes at the same time don't meet.
//!
//! **Who synchronises.** There is no lock over all of it. A shard's lock is held for one look or one change, and nothing is locked under
//! it. The family tree lies in the processes: who is whose child changes under the lock of the parent's children (`process/family`). Who is
//! in which group changes under the lock of the group.
//!
//! The order of locks: children (an ending process's, then its heir's), groups (the lower number first), a process's
//! signals, its list of threads, a thread's signals; sessions, shards, and a process's reference to parent and group last.
//!
//! **A new process** is entered here before it is linked to its parent and group: so whoever signals all processes either sees it, or is
//! seen by [`Processes::are_all_signalled`], and the fork is tried again.

mod broadcast;
mod group;
mod numbers;
mod session;
mod shard;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Pid, Result};
use sync::SpinLock;
use tty::Terminal;

pub(crate) use group::{Members, ProcessGroup};
pub(crate) use session::Session;

use crate::ucounts::CountedThread;
use crate::{Process, ThreadState};
use broadcast::Broadcasts;
use numbers::{FIRST_REUSED, HIGHEST_LIMIT, Numbers};
use shard::{Entries, Entry};

/// What /proc/sys/kernel/pid_max is at first, on up to 32 CPUs; with more, there are so many numbers for each.
const FIRST_LIMIT: u32 = 32768;
const NUMBERS_PER_CPU: u32 = 1024;

/// Shards of the table.
const SHARDS: usize = 64;

/// The entries of some numbers. In a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Shard(SpinLock<Entries>);

/// All processes of a kernel. See the module's page.
pub struct Processes {
    numbers: Numbers,
    shards: Box<[Shard]>,
    processes: AtomicUsize,
    threads: AtomicUsize,
    forks: AtomicU64,
    /// Signals on their way to all processes.
    broadcasts: Broadcasts,
    /// What the first process is in before it has a group of its own.
    kernel_group: Arc<ProcessGroup>,
}

impl Processes {
    /// Nobody, on a machine with so many CPUs.
    #[expect(clippy::disallowed_methods, reason = "as many as there are shards")]
    pub fn new(cpus: usize) -> Processes {
        let limit = FIRST_LIMIT.max(NUMBERS_PER_CPU * cpus as u32);
        Processes {
            numbers: Numbers::new(limit),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            processes: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            forks: AtomicU64::new(0),
            broadcasts: Broadcasts::default(),
            kernel_group: ProcessGroup::new(Pid::NOBODY, Session::new(Pid::NOBODY)),
        }
    }

    fn shard(&self, pid: Pid) -> Option<&SpinLock<Entries>> {
        self.shards.get(pid.index() as usize % SHARDS).map(|shard| &shard.0)
    }

    /// Looks at what has a number.
    #[inline]
    fn look<R>(&self, pid: Pid, look: impl FnOnce(&Entry) -> Option<R>) -> Option<R> {
        self.shard(pid)?.lock().get(pid.index() as usize / SHARDS).and_then(look)
    }

    /// Changes what has a number, and frees the number if nothing has it then. What `change` returns is dropped by the caller: not
    /// under the lock.
    fn change<R>(&self, pid: Pid, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let (result, is_free) = self.shard(pid)?.lock().change(pid.index() as usize / SHARDS, change)?;
        if is_free {
            self.numbers.free(pid.index());
        }
        Some(result)
    }

    /// Reserves a number for a new thread, the next after the last one given.
    ///
    /// # Errors
    /// `EAGAIN`: all are taken. `ENOMEM`.
    pub(crate) fn number(&self) -> Result<Number<'_>> {
        let pid = Pid::new(self.numbers.take()?);
        let shard = self.shard(pid).ok_or(Errno::EAGAIN)?;
        match shard.lock().reserve(pid.index() as usize / SHARDS) {
            Ok(()) => Ok(Number { processes: self, pid }),
            Err(errno) => {
                self.numbers.free(pid.index());
                Err(errno)
            }
        }
    }

    /// What tells who has a number now from all who had it before and will have it: who keeps a number and this does not mistake
    /// another for the one it meant. `None`: nobody has it.
    pub(crate) fn life(&self, pid: Pid) -> Option<u64> {
        self.look(pid, |entry| Some(entry.life))
    }

    /// The process of a number.
    pub fn process(&self, pid: Pid) -> Option<Arc<Process>> {
        self.look(pid, |entry| entry.process.clone())
    }

    /// The thread of a number.
    pub fn thread(&self, tid: Pid) -> Option<Arc<ThreadState>> {
        self.look(tid, |entry| entry.thread.clone())
    }

    /// The group of a number; it has had members at least.
    pub(crate) fn group(&self, group: Pid) -> Option<Arc<ProcessGroup>> {
        self.look(group, |entry| entry.group.clone())
    }

    /// Whether there is a process group of this number.
    pub(crate) fn has_group(&self, group: Pid) -> bool {
        self.group(group).is_some_and(|group| !group.lock().is_empty())
    }

    fn session(&self, session: Pid) -> Option<Arc<Session>> {
        self.look(session, |entry| entry.session.clone())
    }

    /// The number of a leader is that of another thread of its process from now on. Returns the leader, if it has not ended.
    pub(crate) fn replace_leader(&self, tid: Pid, thread: Arc<ThreadState>) -> Option<Arc<ThreadState>> {
        let old = self.change(tid, |entry| entry.thread.replace(thread))?;
        if old.is_none() {
            self.threads.fetch_add(1, Ordering::Relaxed);
        }
        old
    }

    /// Takes a thread out, unless its number is another's by now: a leader's goes to the thread that executes a program.
    pub(crate) fn remove_thread(&self, tid: Pid, thread: &ThreadState) -> Option<Arc<ThreadState>> {
        let (gone, counted) = self.change(tid, |entry| {
            let gone = entry.thread.take_if(|entered| core::ptr::eq(&**entered, thread));
            let over = entry.thread.is_none() && entry.process.is_none();
            (gone, if over { entry.counted.take() } else { None })
        })?;
        drop(counted);
        if gone.is_some() {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
        gone
    }

    /// A thread has another real user. Returns what was counted for the one before.
    pub(crate) fn change_user(&self, tid: Pid, counted: CountedThread) -> Option<CountedThread> {
        self.change(tid, |entry| entry.counted.replace(counted)).flatten()
    }

    /// Takes a process out that is linked to nobody.
    pub(crate) fn remove_process(&self, pid: Pid) {
        let gone = self.change(pid, |entry| (entry.process.take(), entry.counted.take()));
        if gone.is_some_and(|(process, _)| process.is_some()) {
            self.processes.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Enters a new thread under the number that is reserved for it, and its process if that is new, too.
    pub(crate) fn enter(
        &self,
        tid: Pid,
        thread: Arc<ThreadState>,
        counted: CountedThread,
        process: Option<Arc<Process>>,
    ) {
        self.threads.fetch_add(1, Ordering::Relaxed);
        if process.is_some() {
            self.processes.fetch_add(1, Ordering::Relaxed);
        }
        self.change(tid, |entry| {
            (entry.thread, entry.counted, entry.process) = (Some(thread), Some(counted), process);
            entry.reserved = false;
        });
    }

    /// The number of a thread that is made is free.
    pub(crate) fn release(&self, pid: Pid) {
        self.change(pid, |entry| entry.reserved = false);
    }

    /// Takes a process out of its group and session, and out of the table: it is nobody's child any more.
    pub(crate) fn remove(&self, process: &Process) {
        let (group, gone, unused) = loop {
            let group = process.group();
            let mut members = group.lock();
            if process.is_in(&group) {
                let gone = members.remove(process.pid());
                let unused = members.is_unused();
                drop(members);
                break (group, gone, unused);
            }
        };
        drop(gone);
        self.left(&group, unused);
        self.left_session(group.session());
        self.remove_process(process.pid());
    }

    /// Moves a process to a new group of its own, in its session, or in a new one.
    ///
    /// # Errors
    /// `ESRCH`: it was collected. That of `may`, which is asked while the members of the group it leaves are locked.
    pub(crate) fn begin_group<E: From<Errno>>(
        &self,
        process: &Arc<Process>,
        session: Option<Arc<Session>>,
        may: impl FnOnce(&ProcessGroup, &Members) -> Result<(), E>,
    ) -> Result<(), E> {
        let own = process.pid();
        loop {
            let before = process.group();
            let mut members = before.lock();
            if !process.is_in(&before) {
                continue;
            }
            if !members.contains(process) {
                return Err(Errno::ESRCH.into());
            }
            may(&before, &members)?;
            let group = ProcessGroup::new(own, session.clone().unwrap_or_else(|| before.session().clone()));
            // Nobody can have the new one yet, so there is no order to keep.
            group.lock().insert(process.clone());
            let gone = members.remove(own);
            process.set_group(&group);
            let unused = members.is_unused();
            drop(members);
            drop(gone);
            if let Some(session) = &session {
                session.join();
            }
            let old = self.change(own, |entry| {
                let session = session.clone().and_then(|session| entry.session.replace(session));
                (entry.group.replace(group), session)
            });
            drop(old);
            self.left(&before, unused);
            if session.is_some() {
                self.left_session(before.session());
            }
            return Ok(());
        }
    }

    /// Moves a process to another group of its session.
    ///
    /// # Errors
    /// `EPERM`: nobody is in the group. `ESRCH`: it was collected. That of `may`, which is asked while the members of the group it leaves are locked.
    pub(crate) fn change_group<E: From<Errno>>(
        &self,
        process: &Arc<Process>,
        to: &Arc<ProcessGroup>,
        may: impl FnOnce(&ProcessGroup, &Members) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let from = process.group();
            if Arc::ptr_eq(&from, to) {
                return Ok(());
            }
            let (mut members, mut others);
            if from.id() < to.id() {
                members = from.lock();
                others = to.lock();
            } else {
                others = to.lock();
                members = from.lock();
            }
            if !process.is_in(&from) {
                continue;
            }
            if !members.contains(process) {
                return Err(Errno::ESRCH.into());
            }
            may(&from, &members)?;
            if others.is_empty() || !Arc::ptr_eq(from.session(), to.session()) {
                return Err(Errno::EPERM.into());
            }
            let gone = members.remove(process.pid());
            others.insert(process.clone());
            process.set_group(to);
            let unused = members.is_unused();
            drop((members, others));
            drop(gone);
            self.left(&from, unused);
            return Ok(());
        }
    }

    /// A group was left; nothing needs it any more if it is `unused`.
    fn left(&self, group: &Arc<ProcessGroup>, unused: bool) {
        if unused {
            let gone = self.change(group.id(), |entry| entry.group.take_if(|entered| Arc::ptr_eq(entered, group)));
            drop(gone);
        }
    }

    fn left_session(&self, session: &Arc<Session>) {
        if session.leave() {
            let gone =
                self.change(session.id(), |entry| entry.session.take_if(|entered| Arc::ptr_eq(entered, session)));
            drop(gone);
        }
    }

    /// A signal begins its way to all members of a group, one after the other: none of them forks or leaves the group until
    /// [`Processes::end_signalling`]. `None` stands for all processes. False if there is nobody.
    pub(crate) fn begin_signalling(&self, group: Option<&Arc<ProcessGroup>>) -> bool {
        match group {
            Some(group) => group.lock().begin_signalling(),
            None => {
                self.broadcasts.begin();
                true
            }
        }
    }

    /// The signal has reached everybody.
    pub(crate) fn end_signalling(&self, group: Option<&Arc<ProcessGroup>>) {
        match group {
            Some(group) => {
                let mut members = group.lock();
                members.end_signalling();
                let unused = members.is_unused();
                drop(members);
                self.left(group, unused);
            }
            None => self.broadcasts.end(),
        }
    }

    /// Whether a signal is on its way to all processes. Who asks after entering a process, and hears no, knows that whoever
    /// begins to signal all of them will find it.
    pub(crate) fn are_all_signalled(&self) -> bool {
        self.broadcasts.any()
    }

    /// The first process whose number is at least `from`: /proc walks with it.
    pub fn next(&self, from: Pid) -> Option<Arc<Process>> {
        let mut from = from;
        loop {
            let pid = Pid::new(self.numbers.next_taken(from.index())?);
            if let Some(process) = self.process(pid) {
                return Some(process);
            }
            from = pid.next();
        }
    }

    /// The controlling terminal of a session.
    pub fn terminal(&self, session: Pid) -> Option<Arc<Terminal>> {
        self.session(session)?.terminal()
    }

    /// Sets or takes away the controlling terminal of a session. Returns the old one.
    pub(crate) fn set_terminal(&self, session: Pid, terminal: Option<Arc<Terminal>>) -> Option<Arc<Terminal>> {
        self.session(session)?.set_terminal(terminal)
    }

    /// The first process is in the kernel's group.
    pub(crate) fn enter_kernel_group(&self, process: &Arc<Process>) {
        self.kernel_group.session().join();
        self.kernel_group.lock().insert(process.clone());
    }

    /// The group and session of the first process before it has its own.
    pub(crate) fn kernel_group(&self) -> &Arc<ProcessGroup> {
        &self.kernel_group
    }

    /// How many processes there are, zombies included.
    pub fn count(&self) -> usize {
        self.processes.load(Ordering::Relaxed)
    }

    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    /// The number given last, as /proc/loadavg shows it.
    pub fn last_pid(&self) -> Pid {
        Pid::new(self.numbers.last())
    }

    /// Begins again at 1: the first process could not be made.
    pub(crate) fn forget_last(&self) {
        self.numbers.set_last(0);
    }

    /// Numbers are below this: /proc/sys/kernel/pid_max.
    pub fn limit(&self) -> u32 {
        self.numbers.limit()
    }

    /// Sets that for the numbers that are given from now on.
    ///
    /// # Errors
    /// `EINVAL` below 301 and above 4,194,304, as on Linux.
    pub fn set_limit(&self, limit: u64) -> Result<()> {
        let limit = u32::try_from(limit).map_err(|_| Errno::EINVAL)?;
        if limit <= FIRST_REUSED || limit > HIGHEST_LIMIT {
            return Err(Errno::EINVAL);
        }
        self.numbers.set_limit(limit);
        Ok(())
    }

    /// How many processes and threads were ever made, as /proc/stat shows it.
    pub fn forks(&self) -> u64 {
        self.forks.load(Ordering::Relaxed)
    }

    pub(crate) fn count_fork(&self) {
        self.forks.fetch_add(1, Ordering::Relaxed);
    }
}

/// A number reserved for a thread that is being made. Dropping it gives the number back.
pub(crate) struct Number<'a> {
    processes: &'a Processes,
    pid: Pid,
}

impl Number<'_> {
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Leaves the number reserved; [`Processes::release`] ends that.
    pub fn hold(self) {
        core::mem::forget(self);
    }
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        self.processes.release(self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Processes {
        fn has(&self, pid: Pid) -> bool {
            self.look(pid, |_| Some(())).is_some()
        }
    }

    #[test]
    fn who_has_a_number_is_told_from_who_had_it() {
        let processes = Processes::new(1);
        let number = processes.number().unwrap();
        let pid = number.pid();
        let life = processes.life(pid);
        assert!(life.is_some() && processes.life(pid.next()).is_none());
        let group = ProcessGroup::new(pid, Session::new(pid));
        processes.change(pid, |entry| entry.group = Some(group.clone()));
        drop(number);
        assert_eq!(processes.life(pid), life, "its group is there still");
        processes.left(&group, true);
        assert_eq!(processes.life(pid), None);
        processes.forget_last();
        assert_eq!(processes.number().unwrap().pid(), pid);
        processes.forget_last();
        let number = processes.number().unwrap();
        assert!(processes.life(number.pid()).is_some() && processes.life(number.pid()) != life);
    }

    #[test]
    fn a_number_is_free_when_nothing_has_it() {
        let processes = Processes::new(1);
        let pid = Pid::new(1);
        let session = Session::new(pid);
        let group = ProcessGroup::new(pid, session.clone());
        let number = processes.number().unwrap();
        number.hold();
        processes.change(pid, |entry| (entry.group, entry.session) = (Some(group.clone()), Some(session.clone())));
        processes.release(pid);
        session.join();
        session.join();
        processes.left_session(&session);
        assert!(processes.has(pid));
        processes.left_session(&session);
        assert!(processes.has(pid) && processes.terminal(pid).is_none());
        let other = ProcessGroup::new(pid, session);
        processes.left(&other, true);
        assert!(processes.has(pid), "that is another group");
        processes.left(&group, true);
        assert!(!processes.has(pid) && processes.numbers.next_taken(1).is_none());
    }

    #[test]
    fn a_number_that_is_not_held_is_given_back() {
        let processes = Processes::new(1);
        let number = processes.number().unwrap();
        let pid = number.pid();
        assert!(processes.has(pid));
        drop(number);
        assert!(!processes.has(pid));
        let number = processes.number().unwrap();
        let held = number.pid();
        number.hold();
        assert_eq!((held, processes.last_pid()), (pid.next(), held));
        assert!(processes.has(held));
        processes.release(held);
        assert!(!processes.has(held));
        assert_eq!((processes.count(), processes.thread_count(), processes.forks()), (0, 0, 0));
        processes.count_fork();
        assert_eq!(processes.forks(), 1);
    }

    #[test]
    fn the_limit_is_linux_s() {
        assert_eq!([1, 32, 33, 128].map(|cpus| Processes::new(cpus).limit()), [32768, 32768, 33792, 131_072]);
        let processes = Processes::new(1);
        for limit in [0, 300, 4_194_305, 1 << 40] {
            assert_eq!(processes.set_limit(limit), Err(Errno::EINVAL));
        }
        for limit in [301, 4_194_304] {
            assert_eq!((processes.set_limit(limit), processes.limit()), (Ok(()), limit as u32));
        }
        processes.numbers.set_last(4_194_302);
        assert_eq!(processes.number().unwrap().pid(), Pid::new(4_194_303));
    }

    #[test]
    fn a_signal_to_all_is_on_its_way_until_it_has_reached_them() {
        let processes = Processes::new(1);
        assert!(!processes.are_all_signalled());
        assert!(processes.begin_signalling(None) && processes.begin_signalling(None));
        processes.end_signalling(None);
        assert!(processes.are_all_signalled());
        processes.end_signalling(None);
        assert!(!processes.are_all_signalled());
        let group = ProcessGroup::new(Pid::new(5), Session::new(Pid::new(5)));
        assert!(!processes.begin_signalling(Some(&group)), "nobody is in it");
    }
}
