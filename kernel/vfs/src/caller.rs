//! Who makes a file operation: the thin view of a thread that open, ioctl and terminals need.

use abi::{Errno, Pid, Result};
use memory::{AddressSpace, UserFault};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Vfs;
use crate::file::NotReady;
use crate::paused_walk::PausedWalks;

/// The thread an operation is done for. The process room implements it for its threads; [`KernelCaller`] is the kernel
/// itself.
pub trait Caller: Send + Sync {
    /// The process, by which the terminal room asks for sessions and groups; nobody for the kernel.
    fn process(&self) -> Pid;

    /// The thread; `/proc/thread-self` leads there.
    fn thread(&self) -> Pid {
        self.process()
    }

    /// The number by which the caller knows somebody: that of its pid namespace. 0 for who is not in it. The kernel is in the first.
    fn pid_number(&self, pid: Pid) -> u32 {
        pid.index()
    }

    /// Whom the caller means by a number.
    fn pid_of(&self, number: u32) -> Option<Pid> {
        Some(Pid::new(number))
    }

    /// Where a walk that takes long stops and lets others run. `None` for the kernel, whose walks go through.
    fn paused_walks(&self) -> Option<&PausedWalks> {
        None
    }

    /// It wrote to a pipe or socket nobody reads any more: `SIGPIPE` for the thread.
    fn broken_pipe(&self);

    /// The longest a file may become that it writes: `RLIMIT_FSIZE`.
    fn file_size_limit(&self) -> u64 {
        u64::MAX
    }

    /// It wanted to make a file longer than that: `SIGXFSZ` for the thread.
    fn file_too_large(&self) {}

    /// The user and group that own what it makes: `fsuid` and `fsgid`.
    fn file_owner(&self) -> (u32, u32) {
        (0, 0)
    }

    /// Whether a file's group is one of its groups.
    fn in_group(&self, group: u32) -> bool {
        let _ = group;
        true
    }

    /// Whether a file keeps its set-ID bits when this caller changes its contents: `CAP_FSETID`.
    fn keeps_set_id(&self) -> bool {
        true
    }

    /// The program's memory, for arguments that point into it. `None` for the kernel: ioctls then get `EFAULT`.
    fn memory(&self) -> Option<&AddressSpace>;

    /// The kernel's devices and file systems.
    fn vfs(&self) -> &Vfs;
}

impl dyn Caller + '_ {
    /// Reads the value an argument of ioctl(2) points at.
    ///
    /// # Errors
    /// [`NotReady::Fault`] when a page is missing: the operation is to change nothing and return it, and is called again.
    pub fn read_value<T: FromBytes + IntoBytes>(&self, address: usize) -> Result<T, NotReady> {
        let mut value = T::new_zeroed();
        let memory = self.memory().ok_or(Errno::EFAULT)?;
        memory.space().read(address, value.as_mut_bytes()).map_err(NotReady::Fault)?;
        Ok(value)
    }

    /// Writes a value where an argument of ioctl(2) points at.
    ///
    /// # Errors
    /// [`NotReady::Fault`] as for `read_value`; what was written before the fault stays and is written
    /// again.
    pub fn write_value<T: IntoBytes + Immutable + ?Sized>(&self, address: usize, value: &T) -> Result<(), NotReady> {
        let memory = self.memory().ok_or(Errno::EFAULT)?;
        memory.space().write(address, value.as_bytes()).map_err(NotReady::Fault)
    }

    /// Makes the page of a fault present. The caller then tries again.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`.
    pub async fn fault_in(&self, fault: UserFault) -> Result<()> {
        self.memory().ok_or(Errno::EFAULT)?.fault_in(fault).await
    }
}

/// The kernel acting on its own behalf: unpacking the initramfs, opening the first console.
pub struct KernelCaller<'a>(pub &'a Vfs);

impl Caller for KernelCaller<'_> {
    fn process(&self) -> Pid {
        Pid::NOBODY
    }

    fn broken_pipe(&self) {}

    fn memory(&self) -> Option<&AddressSpace> {
        None
    }

    fn vfs(&self) -> &Vfs {
        self.0
    }
}
