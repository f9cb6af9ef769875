//! The end: of a thread, and with the last thread of a process.
//!
//! In this order, so that whoever is told finds everything done: the thread's futexes are released; the last thread frees
//! memory and closes files; then, under the family's lock, children find a new parent and the process becomes a
//! zombie; then parents are told, and groups that nobody looks after any more are continued with a hangup.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::process::ExitStatus;
use abi::raw::general as raw;
use abi::signal::{Signal, SignalAction, action_flags};

use crate::futex::{ANY, Key, release_robust_list};
use crate::pid::Family;
use crate::signal::{Information, attention, code, send};
use crate::{Pid, Process, Thread};

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
    /// Everything a thread does once it is not to run any more.
    pub(crate) async fn end(self: Arc<Thread>) {
        self.release_futexes().await;
        let process = self.process().clone();
        let stopped = {
            let mut signals = process.signals().lock();
            if signals.stop.is_stopped() && !self.is_stopped() { process.thread_stopped(&mut signals) } else { None }
        };
        if let Some(report) = stopped {
            process.notify_parent_of_stop(report);
        }
        let tid = self.tid();
        if tid == process.pid() {
            process.set_leader_status(self.exit_status());
        }
        let last = process.remove_thread(&self);
        if last {
            process.settle_exit_status();
            process.cancel_timers();
            process.note_peak_resident(self.space());
            process.give_back();
            process.close_files();
            self.image().leave().await;
            end_process(&process, tid);
        } else {
            let gone = process.kernel().processes().lock().remove_thread(tid);
            drop(gone);
        }
    }

    /// What other threads may wait for: robust futexes it holds, and the word that tells of its end.
    pub(crate) async fn release_futexes(&self) {
        let head = self.robust_list();
        let futexes = self.kernel().futexes();
        if head != 0 {
            self.set_robust_list(0);
            release_robust_list(futexes, self.space(), head, self.tid()).await;
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

/// Whom to tell what, collected under the family's lock and done after it.
#[derive(Default)]
struct News {
    /// Parents, the child that is over, and the signal they get about it.
    ended: Vec<(Arc<Process>, Arc<Process>, Option<Signal>)>,
    /// Processes that asked to be told of their parent's death.
    parent_died: Vec<(Arc<Thread>, Signal)>,
    /// Groups that are orphaned now and have stopped members.
    orphaned: Vec<Pid>,
    /// Collected without anybody asking.
    collected: Vec<Arc<Process>>,
}

/// The last thread of a process has ended.
fn end_process(process: &Arc<Process>, tid: Pid) {
    let kernel = process.kernel();
    let processes = kernel.processes();
    let pid = process.pid();
    if pid == processes.init() {
        kernel.init_exited(process.end());
    }
    if process.session_id() == pid
        && let Some(terminal) = processes.terminal(pid)
    {
        terminal.leave_session(pid, true);
    }
    let mut news = News::default();
    let mut family = processes.lock();
    let gone = family.remove_thread(tid);
    let groups = groups_held_together(&family, process);
    give_children_away(&mut family, process, &mut news);
    process.become_zombie();
    news.orphaned = groups.into_iter().filter(|&group| family.is_forsaken(group)).collect();
    announce(&mut family, process, &mut news);
    drop(family);
    drop(gone);
    for group in &news.orphaned {
        send::post_group(kernel, *group, Signal::HUP);
        send::post_group(kernel, *group, Signal::CONT);
    }
    news.tell();
}

/// Groups that this process may be the last link of to the rest of its session: those of its children, and its own.
fn groups_held_together(family: &Family, process: &Process) -> Vec<Pid> {
    let mut groups = Vec::new();
    let mut note = |group: Pid| {
        if !groups.contains(&group) {
            groups.push(group);
        }
    };
    let session = process.session_id();
    let parent = family.process(process.parent_pid());
    if parent.is_some_and(|parent| parent.session_id() == session && parent.group_id() != process.group_id()) {
        note(process.group_id());
    }
    for child in family.children(process.pid()) {
        if child.session_id() == session && child.group_id() != process.group_id() {
            note(child.group_id());
        }
    }
    groups
}

/// Children get the nearest ancestor that asked for orphans, or else init.
fn give_children_away(family: &mut Family, process: &Arc<Process>, news: &mut News) {
    let heir = heir(family, process);
    while let Some(child) = family.first_child(process.pid()).cloned() {
        if let Some(thread) = child.first_thread()
            && let Some(signal) = thread.parent_death_signal()
        {
            news.parent_died.push((thread, signal));
        }
        family.adopt(child.pid(), heir);
        // The new parent never asked for a signal of another kind.
        child.set_exit_signal(raw::SIGCHLD);
        if child.is_zombie() {
            announce(family, &child, news);
        }
    }
}

fn heir(family: &Family, process: &Process) -> Pid {
    let init = process.kernel().processes().init();
    if process.pid() == init {
        // The machine is about to stop; nobody is left.
        return 0;
    }
    let mut ancestor = process.parent_pid();
    while let Some(candidate) = family.process(ancestor) {
        if candidate.is_subreaper() && !candidate.is_dead() {
            return ancestor;
        }
        ancestor = candidate.parent_pid();
    }
    init
}

/// A zombie is reported to its parent, or collected if the parent doesn't want to know.
fn announce(family: &mut Family, zombie: &Arc<Process>, news: &mut News) {
    let Some(parent) = family.process(zombie.parent_pid()).cloned() else {
        // Nobody is left who could ask: init itself, at the end.
        return;
    };
    let action = parent.signals().lock().actions.get(Signal::CHLD);
    let ignored = action.handler == SignalAction::IGNORE;
    let usual = zombie.exit_signal() == raw::SIGCHLD;
    if usual && (ignored || action.has(action_flags::NO_CHILD_WAIT)) {
        news.collected.extend(family.remove(zombie.pid()));
    }
    let signal = Signal::new(zombie.exit_signal() as i32).ok().filter(|_| !(usual && ignored));
    news.ended.push((parent, zombie.clone(), signal));
}

impl News {
    fn tell(self) {
        for (parent, child, signal) in self.ended {
            if let Some(signal) = signal {
                let (code, status) = match child.end() {
                    ExitStatus::Exited(status) => (code::CHILD_EXITED, i32::from(status)),
                    ExitStatus::Killed(signal) => (code::CHILD_KILLED, signal.number().into()),
                };
                let user = child.credentials().users.real;
                let times = child.usage().ticks();
                let _ = send::post(&parent, Information::child(signal, code, child.pid(), user, status, times));
            }
            parent.child_event().wake_all();
        }
        for (thread, signal) in self.parent_died {
            let _ = send::post(thread.process(), Information::user(signal, code::USER, 0, 0));
        }
    }
}
