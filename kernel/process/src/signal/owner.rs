//! Who gets the signals of a file that became ready: fcntl(2), `F_SETOWN` and `O_ASYNC`.

use alloc::sync::{Arc, Weak};

use abi::signal::{Signal, SignalSet};
use abi::{Errno, Result};
use vfs::{Band, DefaultOwner, IoReason, OwnerKind};

use super::send::{Recipients, post, post_thread};
use super::{Information, code};
use crate::{Credentials, Kernel, Pid, Processes, Thread};

/// A thread, a process or a process group, and who named it. It is meant by its pid, and gets nothing once that is
/// another's.
pub struct FileOwner {
    kernel: Weak<Kernel>,
    kind: OwnerKind,
    pid: Pid,
    life: u64,
    /// Who named it, real and effective user: the signals are sent with these rights.
    users: (u32, u32),
}

impl FileOwner {
    /// The owner a program names.
    ///
    /// # Errors
    /// `ESRCH`: there is nobody of this pid.
    pub fn new(thread: &Thread, kind: OwnerKind, pid: Pid) -> Result<Arc<FileOwner>> {
        let kernel = thread.kernel();
        let life = kernel.processes().life(pid).ok_or(Errno::ESRCH)?;
        let credentials = thread.credentials();
        let users = (credentials.users.real, credentials.users.effective);
        Ok(Arc::new(FileOwner { kernel: Arc::downgrade(kernel), kind, pid, life, users }))
    }

    /// The owner of a file that has none yet, when the caller makes it signal-driven.
    pub fn by_default(thread: &Thread, owner: DefaultOwner) -> Option<Arc<FileOwner>> {
        let (kind, pid) = match owner {
            DefaultOwner::Nobody => return None,
            DefaultOwner::Caller => (OwnerKind::Process, thread.process().pid()),
            DefaultOwner::Group(group) => (OwnerKind::Group, group),
        };
        FileOwner::new(thread, kind, pid).ok()
    }

    /// Linux's `sigio_perm`.
    fn may_signal(&self, target: &Credentials) -> bool {
        let (real, effective) = self.users;
        effective == 0 || [real, effective].iter().any(|id| [target.users.saved, target.users.real].contains(id))
    }

    /// Looks something up while the number is whose it was.
    fn look_up<T>(&self, look: impl FnOnce(&Processes) -> Option<T>) -> Option<T> {
        let kernel = self.kernel.upgrade()?;
        let found = look(kernel.processes());
        // What was found keeps the number: so it is whose it was.
        found.filter(|_| kernel.processes().life(self.pid) == Some(self.life))
    }

    /// Sends a signal to all whom it concerns: the first of `reasons` that there is room for.
    fn send(&self, reasons: &[Information]) {
        let send = |credentials: &Credentials, post: &dyn Fn(Information) -> Result<()>| {
            if self.may_signal(credentials) {
                let _ = reasons.iter().any(|information| post(*information).is_ok());
            }
        };
        match self.kind {
            OwnerKind::Thread => {
                if let Some(thread) = self.look_up(|processes| processes.thread(self.pid)) {
                    send(&thread.credentials(), &|information| post_thread(&thread, information));
                }
            }
            OwnerKind::Process => {
                if let Some(process) = self.look_up(|processes| processes.process(self.pid)) {
                    send(&process.credentials(), &|information| post(&process, information));
                }
            }
            OwnerKind::Group => {
                let Some(kernel) = self.kernel.upgrade() else { return };
                if let Some(group) = self.look_up(|processes| processes.group(self.pid)) {
                    Recipients::new(&kernel, Some(group))
                        .for_each(|process| send(&process.credentials(), &|information| post(&process, information)));
                }
            }
        }
    }
}

impl vfs::FileOwner for FileOwner {
    fn tell(&self, signal: u32, reason: IoReason) {
        let without_reason = Information::kernel(Signal::IO);
        match Signal::new(signal as i32) {
            Ok(signal) => self.send(&[with_reason(signal, reason), without_reason]),
            Err(_) => self.send(&[without_reason]),
        }
    }

    fn identity(&self) -> (OwnerKind, Option<Pid>) {
        let is_there = self.look_up(|processes| {
            let is_there = match self.kind {
                OwnerKind::Thread => processes.thread(self.pid).is_some(),
                OwnerKind::Process => processes.process(self.pid).is_some(),
                OwnerKind::Group => processes.has_group(self.pid),
            };
            is_there.then_some(self.pid)
        });
        (self.kind, is_there)
    }

    fn users(&self) -> (u32, u32) {
        self.users
    }
}

/// A signal that says what is ready. Numbers that have reasons of their own get one that none of them has.
fn with_reason(signal: Signal, reason: IoReason) -> Information {
    let own_reasons = SignalSet::SYNCHRONOUS.union(SignalSet::of(&[Signal::CHLD]));
    let code = match reason.band {
        _ if own_reasons.contains(signal) => code::IO,
        Band::Input => code::POLL_IN,
        Band::Output => code::POLL_OUT,
    };
    Information::io(signal, code, reason.band.events().bits(), reason.descriptor)
}
