//! The end: of a thread, and with the last thread of a process.
//!
//! In this order, so that whoever is told finds everything done: the thread's futexes are released; the last thread frees
//! memory and closes files; then children find a new parent and, under the lock of its parent's children, the process becomes a
//! zombie; then parents are told, and groups that nobody looks after any more are continued with a hangup.

use alloc::sync::Arc;

use abi::process::ExitStatus;
use abi::raw::general as raw;
use abi::signal::{Signal, SignalAction, SignalSet, action_flags};
use smallvec::SmallVec;
use sync::Budget;

use crate::futex::{ANY, Key, release_robust_list};
use crate::pid::ProcessGroup;
use crate::process::{Children, family};
use crate::signal::{Information, attention, code, send};
use crate::{Kernel, Pid, Process, Thread, ThreadState};

/// exit(2): ends the calling thread. The status counts if it is the process's leader.
pub fn exit(thread: &Thread, status: i32) {
    thread.set_exit_status(ExitStatus::Exited(status as u8).wait_status() as u32);
    thread.raise_attention(attention::EXIT);
}

/// exit_group(2): ends all threads of the process.
pub fn exit_group(thread: &Thread, status: i32) {
    let _signals = thread.process().signals().lock();
    thread.process().begin_exit(ExitStatus::Exited(status as u8));
}

impl Thread {
    /// Everything a thread does once it is not to run any more. Edge 10 of the life of a thread.
    pub(crate) async fn end(self: Arc<Thread>) {
        self.release_futexes().await;
        let process = self.process().clone();
        self.leave_signals();
        let tid = self.tid();
        if tid == process.pid() {
            process.set_leader_status(self.exit_status());
        }
        let last = process.remove_thread(&self);
        // Who is over takes no signals; those that wait count for their user no more, whoever may still look at the thread.
        let untaken = core::mem::take(&mut self.signals().lock().pending);
        untaken.forget().await;
        if last {
            process.fix_exit_status();
            process.forget_signals().await;
            process.cancel_timers();
            process.note_peak_resident(self.space());
            process.end_vfork();
            process.close_files().await;
            self.image().leave().await;
            end_process(&process, &self, tid).await;
        } else {
            let gone = process.kernel().processes().remove_thread(tid, &self);
            drop(gone);
        }
    }

    /// Takes part in no signal or stop any more. What the process was sent and this thread would have taken is left to others.
    fn leave_signals(&self) {
        let process = self.process();
        let (stopped, open) = {
            let mut signals = process.signals().lock();
            let open = {
                let mut own = self.signals().lock();
                own.ending = true;
                SignalSet(!own.mask.0)
            };
            (process.thread_stopped(&mut signals, self), open)
        };
        if let Some(report) = stopped {
            process.notify_parent_of_stop(report);
        }
        send::retarget(self, open);
    }

    /// What other threads may wait for: robust futexes it holds, and the word that tells of its end.
    pub(crate) async fn release_futexes(&self) {
        let head = self.robust_list();
        let futexes = self.kernel().futexes();
        if head != 0 {
            self.set_robust_list(0);
            release_robust_list(futexes, self.space(), head, self.process().pid_number(self.tid())).await;
        }
        let word = self.take_clear_tid();
        let watched = self.process().thread_count() > 1 || self.image().is_shared();
        if word != 0 && watched && self.space().write_value(word, &0_u32).await.is_ok() {
            for private in [true, false] {
                if let Ok(key) = Key::new(self.space(), word, private) {
                    futexes.wake(key, 1, ANY);
                }
            }
        }
    }
}

/// How many children are given away under one holding of the locks of both parents' children.
const BATCH: usize = 16;

/// So many of something, which take no memory: an end can't fail.
type Batch<T> = SmallVec<[T; BATCH]>;

/// Whom to tell what about a batch of children, or about the process itself; collected under the locks of children and
/// done after them.
#[derive(Default)]
struct News {
    /// Parents, the child that is over, and the signal they get about it.
    ended: Batch<(Arc<Process>, Arc<Process>, Option<Signal>)>,
    /// Processes that asked to be told of their parent's death.
    parent_died: Batch<(Arc<ThreadState>, Signal)>,
    /// Collected without anybody asking.
    collected: Batch<Arc<Process>>,
}

/// The last thread of a process has ended.
async fn end_process(process: &Arc<Process>, thread: &ThreadState, tid: Pid) {
    let kernel = process.kernel();
    let processes = kernel.processes();
    let pid = process.pid();
    if process.is_init() {
        kernel.init_exited(process.end());
    }
    if process.session_id() == pid
        && let Some(terminal) = processes.terminal(pid)
    {
        terminal.leave_session(pid, true);
    }
    let gone = processes.remove_thread(tid, thread);
    drop(gone);
    let mut budget = Budget::new();
    loop {
        let (given, orphaned) = give_children_away(process);
        if !orphaned.is_empty() {
            hang_up(kernel, orphaned).await;
        }
        if given == 0 {
            break;
        }
        budget.pace(BATCH).await;
    }
    if let Some(orphaned) = become_zombie(process) {
        hang_up(kernel, Batch::from_iter([orphaned])).await;
    }
}

/// Nobody looks after these groups any more, and some of their members are stopped.
async fn hang_up(kernel: &Kernel, groups: Batch<Arc<ProcessGroup>>) {
    for group in groups.into_iter().filter(|group| group.is_newly_orphaned_and_stopped()) {
        send::post_group_slowly(kernel, &group, Signal::HUP).await;
        send::post_group_slowly(kernel, &group, Signal::CONT).await;
    }
}

/// The process has no threads and no children any more: its parent is told. Returns its group if that may be orphaned now.
fn become_zombie(process: &Arc<Process>) -> Option<Arc<ProcessGroup>> {
    let mut news = News::default();
    let parent = family::end(process, |parent, siblings| announce(parent, siblings, process, &mut news));
    news.tell(process.kernel());
    let linked =
        |parent: &Arc<Process>| parent.session_id() == process.session_id() && parent.group_id() != process.group_id();
    parent.filter(linked).map(|_| process.group())
}

/// Gives some children away. The process may have been the last link of their groups to the rest of its session. Returns how
/// many, and the groups that may be orphaned now.
fn give_children_away(process: &Arc<Process>) -> (usize, Batch<Arc<ProcessGroup>>) {
    let mut news = News::default();
    let mut groups = Batch::new();
    let given = family::give_children_away(process, BATCH, |child, heir, others| {
        given_away(process, child, heir, others, &mut news, &mut groups);
    });
    news.tell(process.kernel());
    (given, groups)
}

/// A child of `process` is one of `heir` now, whose children are `others`.
#[expect(clippy::disallowed_methods, reason = "a batch at most, which lies in place")]
fn given_away(
    process: &Process,
    child: Arc<Process>,
    heir: &Arc<Process>,
    others: &mut Children,
    news: &mut News,
    groups: &mut Batch<Arc<ProcessGroup>>,
) {
    let group = child.group();
    let linked = child.session_id() == process.session_id() && group.id() != process.group_id();
    if linked && !groups.iter().any(|known| Arc::ptr_eq(known, &group)) {
        groups.push(group);
    }
    if let Some(thread) = child.first_thread()
        && let Some(signal) = thread.parent_death_signal()
    {
        news.parent_died.push((thread, signal));
    }
    // The new parent never asked for a signal of another kind.
    child.set_exit_signal(raw::SIGCHLD);
    if child.is_zombie() {
        announce(heir, others, &child, news);
    }
}

/// A zombie is reported to its parent, or collected if the parent doesn't want to know.
#[expect(clippy::disallowed_methods, reason = "a batch at most, which lies in place")]
fn announce(parent: &Arc<Process>, siblings: &mut Children, zombie: &Arc<Process>, news: &mut News) {
    let action = parent.signals().lock().actions.get(Signal::CHLD);
    let ignored = action.handler == SignalAction::IGNORE;
    let usual = zombie.exit_signal() == raw::SIGCHLD;
    if usual && (ignored || action.has(action_flags::NO_CHILD_WAIT)) {
        siblings.collect(zombie);
        news.collected.push(zombie.clone());
    }
    let signal = Signal::new(zombie.exit_signal() as i32).ok().filter(|_| !(usual && ignored));
    news.ended.push((parent.clone(), zombie.clone(), signal));
}

impl News {
    fn tell(self, kernel: &Kernel) {
        for child in self.collected {
            kernel.processes().remove(&child);
        }
        for (parent, child, signal) in self.ended {
            if let Some(signal) = signal {
                let (code, status) = match child.end() {
                    ExitStatus::Exited(status) => (code::CHILD_EXITED, i32::from(status)),
                    ExitStatus::Killed(signal) => (code::CHILD_KILLED, signal.number().into()),
                };
                let user = child.credentials().users.real;
                let times = child.usage().ticks();
                let number = parent.pid_number(child.pid());
                let _ = send::post(&parent, Information::child(signal, code, number, user, status, times));
            }
            parent.child_event().wake_all();
        }
        for (thread, signal) in self.parent_died {
            let _ = send::post(thread.process(), Information::user(signal, code::USER, 0, 0));
        }
    }
}
