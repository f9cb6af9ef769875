//! Forks, ends and waits against one another, and a signal to a group against a fork: every order of two and three threads.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use abi::Pid;
use loom::future::block_on;
use loom::thread;
use models::every_order;
use models::family::{Process, ProcessGroup, Session, tree};

const INIT: u32 = 1;

/// Tells a parent that a child has ended, as exit does when it holds no lock any more.
fn tell(parent: &Process) {
    parent.child_event.wake_all();
}

/// The last thread of a process that has no children has gone.
fn end(process: &Arc<Process>) {
    let parent = tree::end(process, |_, _| {});
    tell(&parent.expect("init does not end here"));
}

/// A process with children has gone, but is no zombie yet.
fn leave_children(process: &Arc<Process>) {
    process.begin_exit();
    loop {
        let mut heirs = Vec::new();
        let given = tree::give_children_away(process, 1, |child, heir, _| {
            if child.is_zombie() {
                heirs.push(heir.clone());
            }
        });
        heirs.iter().for_each(|heir| tell(heir));
        if given == 0 {
            return;
        }
    }
}

/// wait4(2) with WNOHANG: the pid of a child that is collected; `Err` without children.
fn look(process: &Process) -> Result<Option<Pid>, ()> {
    let mut children = process.children().lock();
    let Some(zombie) = children.ended().next() else {
        return if children.living().next().is_some() { Ok(None) } else { Err(()) };
    };
    children.collect(&zombie);
    Ok(Some(zombie.pid()))
}

/// wait4(2).
fn wait(process: &Process) -> Result<Pid, ()> {
    block_on(process.child_event.wait_until(|| look(process).transpose()))
}

fn spawn<R: 'static>(body: impl FnOnce() -> R + 'static) -> thread::JoinHandle<R> {
    thread::spawn(body)
}

#[test]
fn who_waits_is_told_of_the_child_that_ends() {
    every_order(Some(3), || {
        let init = Process::new(INIT, None);
        let child = Process::new(2, Some(&init));
        let other = child.clone();
        let ending = spawn(move || end(&other));
        assert_eq!(wait(&init), Ok(child.pid()));
        assert!(child.parent().is_none() && child.is_zombie());
        ending.join().unwrap();
        assert_eq!(look(&init), Err(()));
    });
}

#[test]
fn of_two_who_wait_one_collects_and_the_other_has_no_children() {
    every_order(Some(2), || {
        let init = Process::new(INIT, None);
        let child = Process::new(2, Some(&init));
        let other = init.clone();
        let waiter = spawn(move || wait(&other));
        let ending = spawn(move || end(&child));
        ending.join().unwrap();
        let own = look(&init);
        let theirs = waiter.join().unwrap();
        let collected = usize::from(own.is_ok_and(|found| found.is_some())) + usize::from(theirs.is_ok());
        assert_eq!(collected, 1);
    });
}

#[test]
fn who_ends_while_its_parent_ends_is_collected_by_the_heir() {
    every_order(Some(2), || {
        let init = Process::new(INIT, None);
        let parent = Process::new(2, Some(&init));
        let child = Process::new(3, Some(&parent));
        let other = parent.clone();
        let leaving = spawn(move || leave_children(&other));
        let ending = spawn(move || end(&child));
        // Its parent does not end to the last, so that the child is all there is to collect.
        assert_eq!(wait(&init), Ok(Pid::new(3)));
        leaving.join().unwrap();
        ending.join().unwrap();
        assert_eq!(look(&init), Ok(None));
        assert!(parent.children().lock().is_closed());
    });
}

#[test]
fn a_child_comes_to_who_takes_it_when_two_generations_end() {
    every_order(Some(2), || {
        let init = Process::new(INIT, None);
        let reaper = Process::new(2, Some(&init));
        reaper.reap();
        let parent = Process::new(3, Some(&reaper));
        let child = Process::new(4, Some(&parent));
        let other = reaper.clone();
        let elder = spawn(move || leave_children(&other));
        leave_children(&parent);
        elder.join().unwrap();
        for orphan in [&parent, &child] {
            assert!(orphan.is_child_of(&init));
        }
        assert_eq!(init.children().lock().living().count(), 3);
        assert!([&reaper, &parent].iter().all(|gone| gone.children().lock().is_closed()));
    });
}

/// clone(2) with `CLONE_PARENT`, while the parent's parent ends.
#[test]
fn a_fork_finds_a_parent_that_lives() {
    every_order(Some(3), || {
        let init = Process::new(INIT, None);
        let elder = Process::new(2, Some(&init));
        let own = Process::new(3, Some(&elder));
        let child = Process::new(4, None);
        let other = elder.clone();
        let leaving = spawn(move || leave_children(&other));
        while tree::adopt(&own.parent().unwrap(), &child, || Ok::<_, ()>(())) == Ok(false) {}
        leaving.join().unwrap();
        assert!(child.is_child_of(&init) && own.is_child_of(&init));
        assert_eq!(init.children().lock().living().count(), 3);
    });
}

/// kill(2) of a group, whose members are told one after the other, while one forks. Whether the fork went through, and whether the
/// child was told.
fn signal_and_fork(asks: bool) -> (bool, bool) {
    let group = ProcessGroup::new(Pid::new(5), Arc::new(Session));
    let parent = Process::new(5, None);
    parent.set_group(&group);
    group.lock().insert(parent.clone());
    // Numbers have begun again: the walk is past the child's.
    let child = Process::new(2, None);
    let (own, new) = (parent.clone(), child.clone());
    let fork = spawn(move || {
        ProcessGroup::join_that_of(&own, &new, |members| {
            let signalled = own.signalled.load(loom::sync::atomic::Ordering::Relaxed);
            if signalled || asks && members.are_signalled() { Err(()) } else { Ok(()) }
        })
        .is_ok()
    });
    assert!(group.lock().begin_signalling());
    let mut next = Pid::NOBODY;
    while let Some(member) = group.next_member(next) {
        member.signalled.store(true, loom::sync::atomic::Ordering::Relaxed);
        next = member.pid().next();
    }
    group.lock().end_signalling();
    let forked = fork.join().unwrap();
    (forked, child.signalled.load(loom::sync::atomic::Ordering::Relaxed))
}

#[test]
fn a_signal_to_a_group_reaches_the_child_or_the_fork_begins_again() {
    let forks = Arc::new(AtomicUsize::new(0));
    let counted = forks.clone();
    every_order(None, move || {
        let (forked, told) = signal_and_fork(true);
        assert_eq!(forked, told);
        counted.fetch_add(usize::from(forked), Ordering::Relaxed);
    });
    assert!(forks.load(Ordering::Relaxed) > 0);
}

#[test]
#[should_panic(expected = "the child was passed over")]
fn it_is_found_when_a_fork_does_not_ask_for_signals_on_their_way() {
    every_order(None, || {
        let (forked, told) = signal_and_fork(false);
        assert!(!forked || told, "the child was passed over");
    });
}
