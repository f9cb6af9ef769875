//! Process numbers and the family tree: who exists, whose child it is, in which group and session.
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
use hashbrown::HashMap;
use sync::{SpinGuard, SpinLock};
use tty::Terminal;

use crate::{Process, Thread};

/// The number of a thread, a process, a group or a session; 0 is nobody.
pub type Pid = u32;

/// Numbers are below this: /proc/sys/kernel/pid_max.
pub const PID_LIMIT: Pid = 32768;

/// After the highest number, numbers start here again: the low ones are the system's first processes'.
const FIRST_REUSED: Pid = 300;

/// Entries in a piece of the table.
const PIECE: usize = 64;

/// Everything that can have a number.
#[derive(Default)]
pub(crate) struct Entry {
    pub thread: Option<Arc<Thread>>,
    pub process: Option<Node>,
    /// Promised to a thread that is being made.
    reserved: bool,
    /// Processes in the group of this number.
    group_members: u32,
    /// Processes in the session of this number.
    session_members: u32,
}

impl Entry {
    fn is_free(&self) -> bool {
        let named = self.group_members > 0 || self.session_members > 0;
        self.thread.is_none() && self.process.is_none() && !self.reserved && !named
    }
}

/// A process in the tree. Siblings form a list, the youngest first.
pub(crate) struct Node {
    pub process: Arc<Process>,
    /// The user it is counted for.
    user: u32,
    first_child: Pid,
    next: Pid,
    previous: Pid,
}

/// The table, locked.
#[derive(Default)]
pub(crate) struct Family {
    pieces: Vec<Option<Box<[Entry; PIECE]>>>,
    last: Pid,
    processes: usize,
    threads: usize,
    /// How many processes each user has, but for user 0, whom nothing limits.
    users: HashMap<u32, u32>,
    /// Controlling terminals by session.
    terminals: Vec<(Pid, Arc<Terminal>)>,
}

impl Family {
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
    pub fn thread(&self, tid: Pid) -> Option<&Arc<Thread>> {
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
                if let Some(entry) = self.entry_mut(pid) {
                    entry.reserved = true;
                }
                let before = core::mem::replace(&mut self.last, pid);
                self.free_piece(before);
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
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

    fn make_piece(&mut self, pid: Pid) -> Result<()> {
        let index = pid as usize / PIECE;
        if index >= self.pieces.len() {
            self.pieces.try_reserve(index + 1 - self.pieces.len()).map_err(|_| Errno::ENOMEM)?;
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

    /// Enters a thread, or puts the image it has become in its place.
    pub fn set_thread(&mut self, tid: Pid, thread: Arc<Thread>) -> Option<Arc<Thread>> {
        let old = self.entry_mut(tid)?.thread.replace(thread);
        self.threads += usize::from(old.is_none());
        old
    }

    /// Takes a thread out.
    pub fn remove_thread(&mut self, tid: Pid) -> Option<Arc<Thread>> {
        let thread = self.entry_mut(tid)?.thread.take();
        self.threads -= usize::from(thread.is_some());
        self.free_piece(tid);
        thread
    }

    /// Enters a process as a child of `parent`, in the group and session it names.
    pub fn insert(&mut self, process: Arc<Process>, parent: Pid) {
        let pid = process.pid();
        let user = process.credentials().users.real;
        self.count_group(process.group_id(), true);
        self.count_session(process.session_id(), true);
        self.count_user(user, true);
        if let Some(entry) = self.entry_mut(pid) {
            entry.process = Some(Node { process, user, first_child: 0, next: 0, previous: 0 });
            self.processes += 1;
            self.link(pid, parent);
        }
    }

    /// Takes a process out for good: it was collected.
    pub fn remove(&mut self, pid: Pid) -> Option<Arc<Process>> {
        self.unlink(pid);
        let node = self.entry_mut(pid)?.process.take()?;
        self.processes -= 1;
        self.count_group(node.process.group_id(), false);
        self.count_session(node.process.session_id(), false);
        self.count_user(node.user, false);
        self.free_piece(pid);
        Some(node.process)
    }

    fn count_user(&mut self, user: u32, more: bool) {
        if user == 0 {
            return;
        }
        let count = self.users.entry(user).or_insert(0);
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.users.remove(&user);
        }
    }

    /// A process has another real user.
    pub fn change_user(&mut self, pid: Pid, user: u32) {
        let Some(node) = self.node_mut(pid) else { return };
        let old = core::mem::replace(&mut node.user, user);
        self.count_user(old, false);
        self.count_user(user, true);
    }

    /// How many processes a user has; always 0 for user 0.
    pub fn processes_of(&self, user: u32) -> u32 {
        self.users.get(&user).copied().unwrap_or(0)
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

    /// The controlling terminal of a session.
    pub fn terminal(&self, session: Pid) -> Option<Arc<Terminal>> {
        self.terminals.iter().find(|(owner, _)| *owner == session).map(|(_, terminal)| terminal.clone())
    }

    /// Sets or takes away the controlling terminal of a session. Returns the old one, to be dropped outside the lock.
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

    /// Leaves the number reserved; [`Family::release`] ends that.
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
    family: SpinLock<Family>,
    forks: AtomicU64,
    /// The first process; 0 before there is one.
    init: AtomicU32,
}

impl Processes {
    pub(crate) fn lock(&self) -> SpinGuard<'_, Family> {
        self.family.lock()
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
    pub fn thread(&self, tid: Pid) -> Option<Arc<Thread>> {
        self.lock().thread(tid).cloned()
    }

    /// The first process whose number is at least `from`: /proc walks with it.
    pub fn next(&self, from: Pid) -> Option<Arc<Process>> {
        self.lock().from(from).next().cloned()
    }

    /// All processes now, in order of their numbers.
    pub fn all(&self) -> Vec<Arc<Process>> {
        self.lock().from(1).cloned().collect()
    }

    /// The numbers of a process's children.
    pub fn children(&self, pid: Pid) -> Vec<Pid> {
        self.lock().children(pid).map(|child| child.pid()).collect()
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
