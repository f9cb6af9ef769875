//! A thread that stays outside: it looks for confined threads at what they can't open.
//!
//! It answers one question, in what state the host has a thread of a stub, from /proc. Only numbers go to it, and one letter comes back.
//! It is asked on rare ways: when a program does not come back, and when a stub is taken from one that runs.

use rustix::process::RawPid;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talk {
    /// Nobody asks.
    Silent,
    Question {
        process: RawPid,
        thread: RawPid,
    },
    Answer(Option<u8>),
    /// Nobody answers any more.
    Over,
}

/// Where confined threads and the thread outside meet.
pub struct Outside {
    /// Held by who asks.
    turn: Mutex<()>,
    talk: Mutex<Talk>,
    changed: Condvar,
}

impl Default for Outside {
    fn default() -> Outside {
        Outside { turn: Mutex::new(()), talk: Mutex::new(Talk::Silent), changed: Condvar::new() }
    }
}

impl Outside {
    /// Answers until it is over. To be run by a thread that is not confined.
    pub fn serve(&self) {
        let mut talk = lock(&self.talk);
        loop {
            match *talk {
                Talk::Question { process, thread } => {
                    *talk = Talk::Answer(state_of(process, thread));
                    self.changed.notify_all();
                }
                Talk::Over => return,
                Talk::Silent | Talk::Answer(_) => talk = self.wait(talk),
            }
        }
    }

    /// Ends `serve`: no confined thread is there any more.
    pub fn end(&self) {
        *lock(&self.talk) = Talk::Over;
        self.changed.notify_all();
    }

    /// As [`state_of`], for a thread that can't look itself.
    pub fn ask(&self, process: RawPid, thread: RawPid) -> Option<u8> {
        let _turn = lock(&self.turn);
        let mut talk = lock(&self.talk);
        if *talk != Talk::Over {
            *talk = Talk::Question { process, thread };
            self.changed.notify_all();
        }
        loop {
            match *talk {
                Talk::Answer(state) => {
                    *talk = Talk::Silent;
                    return state;
                }
                Talk::Over => return None,
                Talk::Silent | Talk::Question { .. } => talk = self.wait(talk),
            }
        }
    }

    fn wait<'a>(&self, talk: MutexGuard<'a, Talk>) -> MutexGuard<'a, Talk> {
        self.changed.wait(talk).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a thread of a process of ours, as the letter in /proc/PID/task/TID/stat. None if it is no more.
pub fn state_of(process: RawPid, thread: RawPid) -> Option<u8> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/stat")).ok()?;
    stat.rsplit(") ").next()?.bytes().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_answered_until_it_is_over() {
        let process = std::process::id() as RawPid;
        let outside = Outside::default();
        std::thread::scope(|scope| {
            let server = scope.spawn(|| outside.serve());
            let askers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| (0..100).all(|_| matches!(outside.ask(process, process), Some(b'S' | b'R')))))
                .collect();
            assert!(askers.into_iter().all(|asker| asker.join().unwrap()));
            assert_eq!(outside.ask(process, 1), None, "it is no thread of ours");
            outside.end();
            server.join().unwrap();
            assert_eq!(outside.ask(process, process), None);
        });
        assert!(state_of(process, process).is_some());
    }
}
