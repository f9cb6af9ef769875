//! Waiting for children: wait4(2), waitid(2).

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};

use crate::process::{Children, ExitStatus};
use crate::signal::{Report, code};
use crate::usage::Usage;
use crate::{Failure, Pid, Process, Thread};

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All.
    Any,
    /// One.
    Process(Pid),
    /// Those of a group.
    Group(Pid),
}

impl Target {
    /// As wait4(2) names them: a number, -1 for all, 0 for the caller's group, a negative number for a group.
    ///
    /// # Errors
    /// `ESRCH` for the most negative number.
    pub fn from_wait4(pid: i32, thread: &Thread) -> Result<Target> {
        Ok(match pid {
            -1 => Target::Any,
            0 => Target::Group(thread.process().group_id()),
            i32::MIN => return Err(Errno::ESRCH),
            1.. => Target::process(thread, pid as u32),
            _ => Target::group(thread, pid.unsigned_abs()),
        })
    }

    /// The child that the caller knows by a number. Who is not in the caller's namespace is no child of his.
    pub fn process(thread: &Thread, number: u32) -> Target {
        Target::Process(thread.pid_of(number).unwrap_or(Pid::NOBODY))
    }

    /// Those of the group that the caller knows by a number.
    pub fn group(thread: &Thread, number: u32) -> Target {
        Target::Group(thread.pid_of(number).unwrap_or(Pid::NOBODY))
    }

    fn matches(self, process: &Process) -> bool {
        match self {
            Target::Any => true,
            Target::Process(pid) => process.pid() == pid,
            Target::Group(group) => process.group_id() == group,
        }
    }
}

/// What is waited for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitOptions(pub u32);

impl WaitOptions {
    const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    /// Whether a child is of the kind that is waited for: without `__WALL`, only those that end with `SIGCHLD`, or with
    /// `__WCLONE` only the others.
    fn admits(self, process: &Process) -> bool {
        self.has(raw::__WALL) || (process.exit_signal() != raw::SIGCHLD) == self.has(raw::__WCLONE)
    }
}

/// What happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It ended.
    Ended(ExitStatus),
    /// It was stopped, or continued.
    Reported(Report),
}

impl Event {
    /// The status word of wait4(2).
    pub const fn wait_status(self) -> i32 {
        match self {
            Event::Ended(status) => status.wait_status(),
            Event::Reported(report) => report.wait_status(),
        }
    }

    /// `si_code` and `si_status` of waitid(2).
    pub fn code_and_status(self) -> (i32, i32) {
        match self {
            Event::Ended(ExitStatus::Exited(status)) => (code::CHILD_EXITED, status.into()),
            Event::Ended(ExitStatus::Killed(signal)) => (code::CHILD_KILLED, signal.number().into()),
            Event::Reported(Report::Stopped(signal)) => (code::CHILD_STOPPED, signal.number().into()),
            Event::Reported(Report::Continued) => (code::CHILD_CONTINUED, raw::SIGCONT as i32),
        }
    }
}

/// What waiting found.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// The child.
    pub pid: Pid,
    /// Its real user.
    pub user: u32,
    /// What happened to it.
    pub event: Event,
    /// What it and its own children have used.
    pub usage: Usage,
}

/// wait4(2) and waitid(2): the next event of a child. `None` with `WNOHANG` when there is none yet.
///
/// `options` says which events count: `WEXITED`, which wait4(2) implies and its caller adds, `WSTOPPED`, `WCONTINUED`.
///
/// # Errors
/// `ECHILD` if there is no such child; interrupted.
pub async fn wait(thread: &Arc<Thread>, target: Target, options: WaitOptions) -> Result<Option<Waited>, Failure> {
    let process = thread.process();
    let look = || match find(process, target, options) {
        Ok(None) if options.has(raw::WNOHANG) => Some(Ok(None)),
        Ok(None) => None,
        Ok(found) => Some(Ok(found)),
        Err(errno) => Some(Err(Failure::Errno(errno))),
    };
    if let Some(result) = look() {
        return result;
    }
    // The signal of a child's end comes before the event it tells of is waked for: whoever it interrupts finds the child.
    match thread.interruptible(process.child_event().wait_until(look)).await {
        Ok(result) => result,
        Err(interrupted) => look().unwrap_or(Err(interrupted.into())),
    }
}

/// Looks once. A child that ended is collected unless `WNOWAIT` is set. Edge 12 of the life of a thread.
fn find(process: &Arc<Process>, target: Target, options: WaitOptions) -> Result<Option<Waited>> {
    let processes = process.kernel().processes();
    let mut children = process.children().lock();
    let found = match target {
        // One child is found by its number.
        Target::Process(pid) => {
            let child = processes.process(pid);
            let child = child.filter(|child| child.is_child_of(process) && options.admits(child));
            let child = child.ok_or(Errno::ECHILD)?;
            event_of(&child, options).map(|event| (child, event))
        }
        _ => find_among(&children, target, options)?,
    };
    let Some((child, event)) = found else { return Ok(None) };
    let collect = matches!(event, Event::Ended(_)) && !options.has(raw::WNOWAIT);
    if collect {
        children.collect(&child);
    }
    drop(children);
    if collect {
        processes.remove(&child);
    }
    let mut usage = child.usage();
    usage.add(&child.children_usage());
    if collect {
        process.inherit_usage(&child);
    }
    Ok(Some(Waited { pid: child.pid(), user: child.credentials().users.real, event, usage }))
}

/// The first child of a kind that has something to report: among those that ended, and then among the others.
fn find_among(children: &Children, target: Target, options: WaitOptions) -> Result<Option<(Arc<Process>, Event)>> {
    let mut any = false;
    let reports = options.has(raw::WSTOPPED) || options.has(raw::WCONTINUED);
    for child in children.ended().chain(children.living()) {
        if !target.matches(&child) || !options.admits(&child) {
            continue;
        }
        any = true;
        if let Some(event) = event_of(&child, options) {
            return Ok(Some((child, event)));
        }
        if !reports && !child.is_zombie() {
            // None of the others has ended, either.
            break;
        }
    }
    if any { Ok(None) } else { Err(Errno::ECHILD) }
}

/// What of a child is worth reporting.
fn event_of(child: &Process, options: WaitOptions) -> Option<Event> {
    if child.is_zombie() {
        return options.has(raw::WEXITED).then(|| Event::Ended(child.end()));
    }
    let report = child.report()?;
    let wanted = match report {
        Report::Stopped(_) => raw::WSTOPPED,
        Report::Continued => raw::WCONTINUED,
    };
    let taken = options.has(wanted) && (options.has(raw::WNOWAIT) || child.take_report(report));
    taken.then_some(Event::Reported(report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::signal::Signal;

    #[test]
    fn events_are_encoded_for_both_calls() {
        let killed = Event::Ended(ExitStatus::Killed(Signal::TERM));
        assert_eq!((killed.wait_status(), killed.code_and_status()), (15, (2, 15)));
        let stopped = Event::Reported(Report::Stopped(Signal::TSTP));
        assert_eq!((stopped.wait_status(), stopped.code_and_status()), (0x147f, (5, 20)));
        assert_eq!(Event::Reported(Report::Continued).wait_status(), 0xffff);
    }
}
