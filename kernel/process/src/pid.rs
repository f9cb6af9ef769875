//! Process numbers and the tree of processes: who exists, whose child it is, in which group and session.
//!
//! One table, indexed by number, in pieces of 64 made when first needed and freed when nothing has their numbers: looking a
//! number up is two steps, and walking all processes in order of their numbers is what /proc does. A number is taken while a thread, a process, a process group
//! or a session has it.
//!
//! **Who synchronises.** One spin lock over all of it, held for a few steps; fork, exit, wait, setpgid and signals to groups
//! take it. Under it come the locks of a process (its signals). Children are linked through the table by number, so the
//! tree needs no memory of its own and has no cycles of references. A process's copies of its parent, group and session
//! (atomics in [`Process`]) change only under the lock.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::memory::fallible;
use sync::{SpinGuard, SpinLock};
use tty::Terminal;

use crate::{Process, ThreadState, UserCounts};

/// The number of a thread, a process, a group or a session; 0 is nobody.
pub type Pid = u32;

/// Numbers are below this: /proc/sys/kernel/pid_max.
pub const PID_LIMIT: Pid = 32768;

/// After the highest number, numbers start here again: the low ones are the system's first processes'.
const FIRST_REUSED: Pid = 300;

/// The group of all processes, to [`ProcessTable::begin_signalling`]: no group has this number.
pub(crate) const EVERYBODY: Pid = 0;

/// Entries in a piece of the table.
const PIECE: usize = 64;

/// Everything that can have a number.
#[derive(Default)]
pub(crate) struct Entry {
    pub thread: Option<Arc<ThreadState>>,
    pub process: Option<Node>,
    /// Promised to a thread that is being made.
    reserved: bool,
    /// Processes in the group of this number.
    group_members: u32,
    /// Processes in the session of this number.
    session_members: u32,
    /// Signals on their way to the group of this number.
    signals: u32,
    /// Which of all that had the number has it: see [`ProcessTable::life`].
    life: u64,
    /// The user the thread is counted for; a process's leader until the process is collected.
    counted: Option<Arc<UserCounts>>,
}

impl Entry {
    fn is_free(&self) -> bool {
        let named = self.group_members > 0 || self.session_members > 0;
        self.thread.is_none() && self.process.is_none() && !self.reserved && !named && self.signals == 0
    }

    /// Counts the thread of this number for another user, or for nobody. Returns the one before.
    fn count_for(&mut self, user: Option<Arc<UserCounts>>) -> Option<Arc<UserCounts>> {
        if let Some(user) = &user {
            user.count_thread(true);
        }
        let before = core::mem::replace(&mut self.counted, user);
        if let Some(before) = &before {
            before.count_thread(false);
        }
        before
    }
}

/// A process in the tree. Siblings form a list, the youngest first.
pub(crate) struct Node {
    pub process: Arc<Process>,
    first_child: Pid,
    next: Pid,
    previous: Pid,
}

/// The table, locked.
#[derive(Default)]
pub(crate) struct ProcessTable {
    pieces: Vec<Option<Box<[Entry; PIECE]>>>,
    last: Pid,
    /// How many numbers were given, ever.
    lives: u64,
    processes: usize,
    threads: usize,
    /// Signals on their way to all processes.
    signals_to_all: u32,
    /// Controlling terminals by session.
    terminals: Vec<(Pid, Arc<Terminal>)>,
}

impl ProcessTable {
    fn entry(&self, pid: Pid) -> Option<&Entry> {
        self.pieces.get(pid as usize / PIECE)?.as_ref()?.get(pid as usize % PIECE)
    }

    fn entry_mut(&mut self, pid: Pid) -> Option<&mut Entry> {
        self.pieces.get_mut(pid as usize / PIECE)?.as_mut()?.get_mut(pid as usize % PIECE)
    }

    fn node_mut(&mut self, pid: Pid) -> Option<&mut Node> {
        self.entry_mut(pid)?.process.as_mut()
    }

    /// The process of a number.
    pub fn process(&self, pid: Pid) -> Option<&Arc<Process>> {
        self.entry(pid)?.process.as_ref().map(|node| &node.process)
    }

    /// The thread of a number.
    pub fn thread(&self, tid: Pid) -> Option<&Arc<ThreadState>> {
        self.entry(tid)?.thread.as_ref()
    }

    /// Reserves a number nobody has: the next after the last one given, so that numbers are not reused soon.
    ///
    /// # Errors
    /// `EAGAIN`: all are taken. `ENOMEM`.
    pub fn allocate(&mut self) -> Result<Pid> {
        let mut pid = self.last;
        for _ in 0..PID_LIMIT {
            pid = if pid + 1 >= PID_LIMIT { FIRST_REUSED } else { pid + 1 };
            if self.entry(pid).is_none_or(Entry::is_free) {
                self.make_piece(pid)?;
                self.lives += 1;
                let life = self.lives;
                if let Some(entry) = self.entry_mut(pid) {
                    (entry.reserved, entry.life) = (true, life);
                }
                let before = core::mem::replace(&mut self.last, pid);
                self.free_piece(before);
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// What tells who has a number now from all who had it before and will have it: who keeps a number and this does not mistake
    /// another for the one it meant. `None`: nobody has it.
    pub fn life(&self, pid: Pid) -> Option<u64> {
        self.entry(pid).filter(|entry| !entry.is_free()).map(|entry| entry.life)
    }

    /// Gives a reserved number back, or makes it free for what now has it.
    pub fn release(&mut self, pid: Pid) {
        if let Some(entry) = self.entry_mut(pid) {
            entry.reserved = false;
        }
        self.free_piece(pid);
    }

    /// Begins again at 1: the first process could not be made.
    pub fn forget_last(&mut self) {
        self.last = 0;
    }

    #[expect(clippy::disallowed_methods, reason = "bounded by the numbers there are, or by the terminals")]
    fn make_piece(&mut self, pid: Pid) -> Result<()> {
        let index = pid as usize / PIECE;
        if index >= self.pieces.len() {
            fallible(|| self.pieces.try_reserve(index + 1 - self.pieces.len())).map_err(|_| Errno::ENOMEM)?;
            self.pieces.resize_with(index + 1, || None);
        }
        if let Some(piece @ None) = self.pieces.get_mut(index) {
            *piece = Some(Box::new(core::array::from_fn(|_| Entry::default())));
        }
        Ok(())
    }

    /// Frees the piece of a number that may have become free, if that was the last one taken in it. The piece that gives
    /// numbers now stays: most processes are short, and begin and end in it.
    #[inline]
    fn free_piece(&mut self, pid: Pid) {
        let index = pid as usize / PIECE;
        if index == self.last as usize / PIECE {
            return;
        }
        if let Some(place) = self.pieces.get_mut(index)
            && place.as_ref().is_some_and(|piece| piece.iter().all(Entry::is_free))
        {
            *place = None;
        }
    }

    /// Enters a thread, in the place of the one that had the number.
    pub fn set_thread(&mut self, tid: Pid, thread: Arc<ThreadState>) -> Option<Arc<ThreadState>> {
        let counts = thread.credentials().counts().clone();
        let entry = self.entry_mut(tid)?;
        let old = entry.thread.replace(thread);
        entry.count_for(Some(counts));
        self.threads += usize::from(old.is_none());
        old
    }

    /// Takes a thread out, unless its number is another's by now: a leader's goes to the thread that executes a program.
    pub fn remove_thread(&mut self, tid: Pid, thread: &ThreadState) -> Option<Arc<ThreadState>> {
        let entry = self.entry_mut(tid)?;
        let thread = entry.thread.take_if(|entered| core::ptr::eq(&**entered, thread));
        if entry.thread.is_none() && entry.process.is_none() {
            entry.count_for(None);
        }
        self.threads -= usize::from(thread.is_some());
        self.free_piece(tid);
        thread
    }

    /// Enters a process as a child of `parent`, in the group and session it names.
    pub fn insert(&mut self, process: Arc<Process>, parent: Pid) {
        let pid = process.pid();
        let counts = process.credentials().counts().clone();
        self.count_group(process.group_id(), true);
        self.count_session(process.session_id(), true);
        if let Some(entry) = self.entry_mut(pid) {
            entry.count_for(Some(counts));
            entry.process = Some(Node { process, first_child: 0, next: 0, previous: 0 });
            self.processes += 1;
            self.link(pid, parent);
        }
    }

    /// Takes a process out for good: it was collected.
    pub fn remove(&mut self, pid: Pid) -> Option<Arc<Process>> {
        self.unlink(pid);
        let entry = self.entry_mut(pid)?;
        let node = entry.process.take()?;
        entry.count_for(None);
        self.processes -= 1;
        self.count_group(node.process.group_id(), false);
        self.count_session(node.process.session_id(), false);
        self.free_piece(pid);
        Some(node.process)
    }

    /// A thread has another real user. Returns the counts of the one before.
    pub fn change_user(&mut self, tid: Pid, user: &Arc<UserCounts>) -> Option<Arc<UserCounts>> {
        self.entry_mut(tid)?.count_for(Some(user.clone()))
    }

    /// Makes `pid` a child of `parent`.
    fn link(&mut self, pid: Pid, parent: Pid) {
        let first = match self.node_mut(parent) {
            Some(node) => core::mem::replace(&mut node.first_child, pid),
            None => 0,
        };
        if let Some(node) = self.node_mut(first) {
            node.previous = pid;
        }
        if let Some(node) = self.node_mut(pid) {
            (node.next, node.previous) = (first, 0);
            node.process.set_parent(parent);
        }
    }

    fn unlink(&mut self, pid: Pid) {
        let Some(node) = self.node_mut(pid) else { return };
        let (next, previous, parent) = (node.next, node.previous, node.process.parent_pid());
        (node.next, node.previous) = (0, 0);
        if let Some(node) = self.node_mut(next) {
            node.previous = previous;
        }
        if let Some(node) = self.node_mut(previous) {
            node.next = next;
        } else if let Some(node) = self.node_mut(parent)
            && node.first_child == pid
        {
            node.first_child = next;
        }
    }

    /// Gives a child to another parent.
    pub fn adopt(&mut self, pid: Pid, parent: Pid) {
        self.unlink(pid);
        self.link(pid, parent);
    }

    /// The first child of a process, the youngest.
    pub fn first_child(&self, pid: Pid) -> Option<&Arc<Process>> {
        self.process(self.entry(pid)?.process.as_ref()?.first_child)
    }

    /// The children of a process, the oldest last.
    pub fn children(&self, pid: Pid) -> impl Iterator<Item = &Arc<Process>> {
        let mut next = self.entry(pid).and_then(|entry| entry.process.as_ref()).map_or(0, |node| node.first_child);
        core::iter::from_fn(move || {
            let node = self.entry(next)?.process.as_ref()?;
            next = node.next;
            Some(&node.process)
        })
    }

    fn count_group(&mut self, group: Pid, more: bool) {
        if let Some(entry) = self.entry_mut(group) {
            entry.group_members = if more { entry.group_members + 1 } else { entry.group_members.saturating_sub(1) };
        }
        if !more {
            self.free_piece(group);
        }
    }

    fn count_session(&mut self, session: Pid, more: bool) {
        if let Some(entry) = self.entry_mut(session) {
            entry.session_members =
                if more { entry.session_members + 1 } else { entry.session_members.saturating_sub(1) };
        }
        if self.entry(session).is_some_and(|entry| entry.session_members == 0) {
            self.terminals.retain(|(owner, _)| *owner != session);
        }
        if !more {
            self.free_piece(session);
        }
    }

    /// Whether there is a process group of this number.
    pub fn has_group(&self, group: Pid) -> bool {
        self.entry(group).is_some_and(|entry| entry.group_members > 0)
    }

    /// Moves a process to a group.
    pub fn set_group(&mut self, process: &Process, group: Pid) {
        self.count_group(group, true);
        self.count_group(process.group_id(), false);
        process.set_group_id(group);
    }

    /// Moves a process to a session.
    pub fn set_session(&mut self, process: &Process, session: Pid) {
        self.count_session(session, true);
        self.count_session(process.session_id(), false);
        process.set_session_id(session);
    }

    /// All processes, by ascending number, beginning with `from`.
    pub fn from(&self, from: Pid) -> impl Iterator<Item = &Arc<Process>> {
        let first = from as usize / PIECE;
        let pieces = self.pieces.iter().enumerate().skip(first);
        pieces.filter_map(|(index, piece)| piece.as_ref().map(|piece| (index, piece))).flat_map(
            move |(index, piece)| {
                let skip = if index == first { from as usize % PIECE } else { 0 };
                piece.iter().skip(skip).filter_map(|entry| entry.process.as_ref()).map(|node| &node.process)
            },
        )
    }

    /// The processes of a group.
    pub fn group(&self, group: Pid) -> impl Iterator<Item = &Arc<Process>> {
        let mut left = self.entry(group).map_or(0, |entry| entry.group_members);
        let mut all = self.from(1);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            all.find(|process| process.group_id() == group)
        })
    }

    /// A signal begins its way to all processes of a group, one after the other: none of them forks or leaves the group until
    /// [`ProcessTable::end_signalling`]. False if there is no such group.
    pub fn begin_signalling(&mut self, group: Pid) -> bool {
        if group == EVERYBODY {
            self.signals_to_all += 1;
            return true;
        }
        let entry = self.entry_mut(group).filter(|entry| entry.group_members > 0);
        entry.map(|entry| entry.signals += 1).is_some()
    }

    /// The signal has reached everybody.
    pub fn end_signalling(&mut self, group: Pid) {
        if group == EVERYBODY {
            self.signals_to_all -= 1;
        } else if let Some(entry) = self.entry_mut(group) {
            entry.signals -= 1;
            self.free_piece(group);
        }
    }

    /// Whether a signal is on its way to a group.
    pub fn is_signalled(&self, group: Pid) -> bool {
        self.signals_to_all > 0 || self.entry(group).is_some_and(|entry| entry.signals > 0)
    }

    /// The controlling terminal of a session.
    pub fn terminal(&self, session: Pid) -> Option<Arc<Terminal>> {
        self.terminals.iter().find(|(owner, _)| *owner == session).map(|(_, terminal)| terminal.clone())
    }

    /// Sets or takes away the controlling terminal of a session. Returns the old one, to be dropped outside the lock.
    #[expect(clippy::disallowed_methods, reason = "bounded by the numbers there are, or by the terminals")]
    pub fn set_terminal(&mut self, session: Pid, terminal: Option<Arc<Terminal>>) -> Option<Arc<Terminal>> {
        let place = self.terminals.iter().position(|(owner, _)| *owner == session);
        let old = place.map(|place| self.terminals.swap_remove(place).1);
        if let Some(terminal) = terminal {
            self.terminals.push((session, terminal));
        }
        old
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

    /// Leaves the number reserved; [`ProcessTable::release`] ends that.
    pub fn hold(self) {
        core::mem::forget(self);
    }
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        self.processes.lock().release(self.pid);
    }
}

/// All processes of a kernel.
#[derive(Default)]
pub struct Processes {
    table: SpinLock<ProcessTable>,
    forks: AtomicU64,
    /// The first process; 0 before there is one.
    init: AtomicU32,
}

impl Processes {
    pub(crate) fn lock(&self) -> SpinGuard<'_, ProcessTable> {
        self.table.lock()
    }

    /// Reserves a number for a new thread.
    ///
    /// # Errors
    /// `EAGAIN`, `ENOMEM`.
    pub(crate) fn number(&self) -> Result<Number<'_>> {
        let pid = self.lock().allocate()?;
        Ok(Number { processes: self, pid })
    }

    /// The process of a number.
    pub fn process(&self, pid: Pid) -> Option<Arc<Process>> {
        self.lock().process(pid).cloned()
    }

    /// The thread of a number.
    pub fn thread(&self, tid: Pid) -> Option<Arc<ThreadState>> {
        self.lock().thread(tid).cloned()
    }

    /// The first process whose number is at least `from`: /proc walks with it.
    pub fn next(&self, from: Pid) -> Option<Arc<Process>> {
        self.lock().from(from).next().cloned()
    }

    /// The controlling terminal of a session.
    pub fn terminal(&self, session: Pid) -> Option<Arc<Terminal>> {
        self.lock().terminal(session)
    }

    /// How many processes there are, zombies included.
    pub fn count(&self) -> usize {
        self.lock().processes
    }

    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.lock().threads
    }

    /// The number given last, as /proc/loadavg shows it.
    pub fn last_pid(&self) -> Pid {
        self.lock().last
    }

    /// How many processes and threads were ever made, as /proc/stat shows it.
    pub fn forks(&self) -> u64 {
        self.forks.load(Ordering::Relaxed)
    }

    pub(crate) fn count_fork(&self) {
        self.forks.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of the first process.
    pub fn init(&self) -> Pid {
        self.init.load(Ordering::Relaxed)
    }

    pub(crate) fn set_init(&self, pid: Pid) {
        self.init.store(pid, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_to_the_limit_and_begin_again_behind_the_system_s() {
        let mut table = ProcessTable::default();
        assert_eq!([(); 3].map(|()| table.allocate().unwrap()), [1, 2, 3]);
        table.release(2);
        assert_eq!(table.allocate(), Ok(4), "not reused soon");
        table.last = PID_LIMIT - 2;
        assert_eq!(table.allocate(), Ok(PID_LIMIT - 1));
        assert_eq!([(); 2].map(|()| table.allocate().unwrap()), [FIRST_REUSED, FIRST_REUSED + 1]);
        table.last = PID_LIMIT - 1;
        assert_eq!(table.allocate(), Ok(FIRST_REUSED + 2), "those are taken");
        table.forget_last();
        assert_eq!(table.allocate(), Ok(2), "what was given back is free");
    }

    #[test]
    fn who_has_a_number_is_told_from_who_had_it() {
        let mut table = ProcessTable::default();
        let pid = table.allocate().unwrap();
        let life = table.life(pid);
        assert!(life.is_some() && table.life(pid + 1).is_none());
        table.count_group(pid, true);
        table.release(pid);
        assert_eq!(table.life(pid), life, "its group is there still");
        table.count_group(pid, false);
        assert_eq!(table.life(pid), None);
        table.forget_last();
        assert_eq!(table.allocate(), Ok(pid));
        assert!(table.life(pid).is_some() && table.life(pid) != life);
    }

    #[test]
    fn when_all_numbers_are_taken_there_is_none() {
        let mut table = ProcessTable::default();
        let mut count = 0;
        while table.allocate().is_ok() {
            count += 1;
        }
        assert_eq!((count, table.allocate()), (PID_LIMIT - 1, Err(Errno::EAGAIN)));
        table.release(FIRST_REUSED + 7);
        assert_eq!((table.allocate(), table.allocate()), (Ok(FIRST_REUSED + 7), Err(Errno::EAGAIN)));
        // Low numbers are for the first round only.
        table.release(5);
        assert_eq!(table.allocate(), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_piece_whose_numbers_are_all_free_is_freed_but_for_the_one_in_use() {
        let mut table = ProcessTable::default();
        let pieces = |table: &ProcessTable| table.pieces.iter().map(Option::is_some).collect::<Vec<_>>();
        let all: Vec<Pid> = (0..130).map(|_| table.allocate().unwrap()).collect();
        assert_eq!(pieces(&table), [true, true, true]);
        for pid in &all[63..126] {
            table.release(*pid);
        }
        assert_eq!(pieces(&table), [true, true, true], "one is left in the second");
        table.release(127);
        assert_eq!(pieces(&table), [true, false, true]);
        for pid in 128..=130 {
            table.release(pid);
        }
        assert_eq!(pieces(&table), [true, false, true], "the one that gives numbers stays");
        // What stands for a number without a process keeps it.
        for take in [
            |entry: &mut Entry| entry.group_members = 1,
            |entry: &mut Entry| entry.session_members = 1,
            |entry: &mut Entry| entry.signals = 1,
            |entry: &mut Entry| entry.reserved = true,
        ] {
            let mut entry = Entry::default();
            assert!(entry.is_free());
            take(&mut entry);
            assert!(!entry.is_free());
        }
    }

    #[test]
    fn groups_and_sessions_are_there_while_they_have_members() {
        let mut table = ProcessTable::default();
        let group = table.allocate().unwrap();
        assert!(!table.has_group(group) && !table.begin_signalling(group));
        table.count_group(group, true);
        table.count_group(group, true);
        table.count_session(group, true);
        table.release(group);
        assert!(table.has_group(group) && !table.is_signalled(group));
        assert!(table.begin_signalling(group) && table.begin_signalling(group));
        table.count_group(group, false);
        table.count_group(group, false);
        assert!(!table.has_group(group) && !table.begin_signalling(group));
        table.end_signalling(group);
        assert!(table.is_signalled(group), "two were on their way");
        table.end_signalling(group);
        assert!(!table.is_signalled(group) && !table.entry(group).unwrap().is_free());
        table.count_session(group, false);
        assert!(table.entry(group).unwrap().is_free());
        assert!(table.begin_signalling(EVERYBODY) && table.is_signalled(group) && table.is_signalled(99));
        table.end_signalling(EVERYBODY);
        assert!(!table.is_signalled(group));
    }

    #[test]
    fn a_number_that_is_not_held_is_given_back() {
        let processes = Processes::default();
        let number = processes.number().unwrap();
        let pid = number.pid();
        assert!(!processes.lock().entry(pid).unwrap().is_free());
        drop(number);
        assert!(processes.lock().entry(pid).unwrap().is_free());
        let number = processes.number().unwrap();
        let held = number.pid();
        number.hold();
        assert_eq!((held, processes.last_pid()), (pid + 1, held));
        assert!(!processes.lock().entry(held).unwrap().is_free());
        processes.lock().release(held);
        assert!(processes.lock().entry(held).unwrap().is_free());
        assert_eq!((processes.count(), processes.thread_count(), processes.forks(), processes.init()), (0, 0, 0, 0));
        processes.set_init(7);
        processes.count_fork();
        assert_eq!((processes.init(), processes.forks()), (7, 1));
    }
}
