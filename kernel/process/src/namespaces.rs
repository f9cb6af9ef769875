//! Namespaces: what of the system a process sees. See namespaces(7).
//!
//! A process has one value, [`Namespaces`] (Linux's `nsproxy`), through which it reaches its mounts, the host's name, pids, users, IPC
//! and network; a child gets its parent's. There is one of each kind for now, the first, in which the system began.

use alloc::sync::Arc;

use abi::Pid;
use arrayvec::ArrayVec;
use sync::RwSpinLock;
use vfs::MountNamespace;

use crate::Processes;
use crate::ucounts::Users;

/// The namespaces of a process.
pub struct Namespaces {
    mounts: Arc<MountNamespace>,
    uts: Arc<UtsNamespace>,
    pids: Arc<PidNamespace>,
    users: Arc<UserNamespace>,
    ipc: Arc<IpcNamespace>,
    network: Arc<NetworkNamespace>,
}

impl Namespaces {
    /// The first of each kind, over these mounts.
    pub(crate) fn first(mounts: Arc<MountNamespace>) -> Namespaces {
        Namespaces {
            mounts,
            uts: Arc::default(),
            pids: Arc::default(),
            users: Arc::default(),
            ipc: Arc::default(),
            network: Arc::default(),
        }
    }

    /// What is mounted where: mount_namespaces(7).
    pub const fn mounts(&self) -> &Arc<MountNamespace> {
        &self.mounts
    }

    /// The names of the host: uts_namespaces(7).
    pub fn uts(&self) -> &UtsNamespace {
        &self.uts
    }

    /// Which number means whom: pid_namespaces(7).
    #[inline]
    pub fn pids(&self) -> &PidNamespace {
        &self.pids
    }

    /// What users have and may: user_namespaces(7).
    pub fn users(&self) -> &UserNamespace {
        &self.users
    }

    /// System V IPC and message queues: ipc_namespaces(7).
    pub fn ipc(&self) -> &IpcNamespace {
        &self.ipc
    }

    /// Interfaces, addresses, sockets: network_namespaces(7).
    pub fn network(&self) -> &NetworkNamespace {
        &self.network
    }
}

/// The longest host or domain name, in bytes: Linux's `__NEW_UTS_LEN`.
pub const NAME_LENGTH: usize = 64;

/// A host or domain name.
pub type HostName = ArrayVec<u8, NAME_LENGTH>;

/// The names of the host: uts_namespaces(7).
pub struct UtsNamespace {
    host_name: RwSpinLock<HostName>,
    domain_name: RwSpinLock<HostName>,
}

impl UtsNamespace {
    /// The host's name.
    pub fn host_name(&self) -> HostName {
        self.host_name.read().clone()
    }

    /// sethostname(2). Longer names are cut.
    pub fn set_host_name(&self, name: &[u8]) {
        *self.host_name.write() = cut(name);
    }

    /// The NIS domain's name.
    pub fn domain_name(&self) -> HostName {
        self.domain_name.read().clone()
    }

    /// setdomainname(2). Longer names are cut.
    pub fn set_domain_name(&self, name: &[u8]) {
        *self.domain_name.write() = cut(name);
    }
}

impl Default for UtsNamespace {
    /// As Linux has them until somebody sets them.
    fn default() -> UtsNamespace {
        let none = || RwSpinLock::new(cut(b"(none)"));
        UtsNamespace { host_name: none(), domain_name: none() }
    }
}

fn cut(name: &[u8]) -> HostName {
    let kept = name.get(..name.len().min(NAME_LENGTH)).unwrap_or_default();
    HostName::try_from(kept).unwrap_or_default()
}

/// Which number means whom: pid_namespaces(7). Everybody is in the first, where the numbers are those of the process table.
#[derive(Default)]
pub struct PidNamespace {
    /// Its init, who gets its orphans; nobody before there is one.
    init: abi::pid::AtomicPid,
}

impl PidNamespace {
    /// The number of somebody, or 0 if he is not in it.
    #[inline]
    pub fn number(&self, pid: Pid) -> u32 {
        pid.index()
    }

    /// Whom a number means, if anybody can have it.
    #[inline]
    pub fn pid(&self, number: u32) -> Option<Pid> {
        Some(Pid::new(number)).filter(|pid| !pid.is_nobody())
    }

    /// The smallest number above `after` that a process has.
    pub fn next_process(&self, processes: &Processes, after: u32) -> Option<u32> {
        processes.next(Pid::new(after.checked_add(1)?)).map(|process| self.number(process.pid()))
    }

    /// Its init.
    pub fn init(&self) -> Pid {
        self.init.load()
    }

    pub(crate) fn set_init(&self, pid: Pid) {
        self.init.store(pid);
    }
}

/// What users have and may: user_namespaces(7). In the first their numbers are those of the kernel.
#[derive(Default)]
pub struct UserNamespace {
    counts: Users,
}

impl UserNamespace {
    /// What is counted for users.
    pub(crate) const fn counts(&self) -> &Users {
        &self.counts
    }
}

/// System V IPC and message queues: ipc_namespaces(7). There are none yet.
#[derive(Default)]
pub struct IpcNamespace {}

/// Interfaces, addresses and sockets: network_namespaces(7). There are none yet.
#[derive(Default)]
pub struct NetworkNamespace {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_linux_s_first_and_are_cut() {
        let uts = UtsNamespace::default();
        assert_eq!((uts.host_name(), uts.domain_name()), (cut(b"(none)"), cut(b"(none)")));
        uts.set_host_name(&[b'h'; 100]);
        uts.set_domain_name(b"example");
        assert_eq!((uts.host_name(), uts.domain_name()), (cut(&[b'h'; NAME_LENGTH]), cut(b"example")));
    }

    #[test]
    fn the_first_namespace_has_the_numbers_of_the_table() {
        let pids = PidNamespace::default();
        let pid = pids.pid(7).unwrap();
        assert_eq!((pids.number(pid), pids.number(Pid::NOBODY), pids.pid(0)), (7, 0, None));
        pids.set_init(pid);
        assert_eq!(pids.init(), pid);
    }
}
