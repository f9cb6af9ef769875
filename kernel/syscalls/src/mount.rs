//! Mounting: mount(2), umount(2).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use abi::Errno;
use abi::fallible::try_to_vec;
use abi::raw::general as raw;
use memory::PAGE_SIZE;
use process::credentials::Capability;
use process::{Failure, Thread};
use vfs::{Context, Lookup, MountFlags as Flag, NotReady, Path};

use crate::argument::{CString, Flags};
use crate::flags::{MountFlags, UnmountFlags};
use crate::place::with_view;
use crate::user::{self, PathBuffer};

/// `MS_MGC_VAL`: what programs of old put in the upper half of the flags.
const MAGIC: u32 = 0xc0ed_0000;

/// How a tree takes part in mounts made elsewhere. There is only one tree: nothing is shared, so all of it is private.
const PROPAGATION: u32 = raw::MS_SHARED | raw::MS_PRIVATE | raw::MS_SLAVE | raw::MS_UNBINDABLE;

/// A string that may be missing.
fn optional(thread: &Arc<Thread>, string: CString) -> Result<Option<PathBuffer>, NotReady> {
    if string.0 == 0 { Ok(None) } else { string.string(thread, PAGE_SIZE, Errno::EINVAL).map(Some) }
}

fn find(thread: &Arc<Thread>, path: &[u8], how: Lookup) -> Result<Path, Errno> {
    with_view(thread, |context, working| context.lookup(working, path, how))
}

/// mount(2), of anything but a tree of mounts.
pub(crate) fn mount(
    thread: &Arc<Thread>,
    source: CString,
    target: CString,
    kind: CString,
    flags: Flags<MountFlags>,
    data: CString,
) -> Result<(), NotReady> {
    let request = Request::read(thread, source, target, kind, flags, data)?;
    if request.is_of_tree() { Err(NotReady::WouldBlock) } else { Ok(request.act()?) }
}

/// mount(MS_BIND | MS_REC)
pub(crate) async fn mount_waiting(
    thread: &Arc<Thread>,
    source: CString,
    target: CString,
    kind: CString,
    flags: Flags<MountFlags>,
    data: CString,
) -> Result<(), Failure> {
    let request = user::fetching(thread, || Request::read(thread, source, target, kind, flags, data)).await?;
    if !request.is_of_tree() {
        return Ok(user::fetching(thread, || Ok(request.act()?)).await?);
    }
    let source = user::fetching(thread, || Ok(request.source_path()?)).await?;
    let hold = |context: &Context<'_>, _: &Path| context.hold_mount_point(&request.target);
    user::fetching(thread, || Ok(with_view(thread, hold)?)).await?;
    // As on Linux it is not given up.
    let mounts = thread.process().namespaces().mounts();
    Ok(Box::pin(mounts.bind_tree(thread.kernel().vfs(), &source, &request.target)).await?)
}

/// What mount(2) was asked for.
struct Request<'a> {
    thread: &'a Arc<Thread>,
    source: Option<PathBuffer>,
    target: Path,
    kind: Option<PathBuffer>,
    flags: Flags<MountFlags>,
    options: String,
}

impl Request<'_> {
    fn read(
        thread: &Arc<Thread>,
        source: CString,
        target: CString,
        kind: CString,
        flags: Flags<MountFlags>,
        data: CString,
    ) -> Result<Request<'_>, NotReady> {
        let kind = optional(thread, kind)?;
        let source = optional(thread, source)?;
        let data = optional(thread, data)?;
        let mut room = PathBuffer::new();
        let target = target.path(thread, &mut room)?;
        let target = find(thread, target, Lookup::FOLLOW)?;
        thread.credentials().require(Capability::SysAdmin)?;
        let flags = match flags.0 {
            bits if bits & 0xffff_0000 == MAGIC => Flags::from_bits(bits & 0xffff),
            _ => flags,
        };
        let options = String::from_utf8(try_to_vec(data.as_deref().unwrap_or_default())?).map_err(|_| Errno::EINVAL)?;
        Ok(Request { thread, source, target, kind, flags: flags.known()?, options })
    }

    /// Whether it is of a mount with all below it, which may be very many.
    fn is_of_tree(&self) -> bool {
        self.flags.has(raw::MS_BIND) && self.flags.has(raw::MS_REC) && !self.flags.has(raw::MS_REMOUNT)
    }

    fn act(&self) -> Result<(), Errno> {
        with_view(self.thread, |context, _| context.on_mount_point(&self.target, || self.act_on_target()))
    }

    /// Which of the five things mount(2) does is decided by its flags, in this order.
    fn act_on_target(&self) -> Result<(), Errno> {
        let kernel = self.thread.kernel();
        let mounts = self.thread.process().namespaces().mounts();
        let has = |flag| self.flags.has(flag);
        if has(raw::MS_REMOUNT) {
            return mounts.remount(&self.target, self.mount_flags(), &self.options, has(raw::MS_BIND));
        }
        if has(raw::MS_BIND) {
            return mounts.bind(kernel.vfs(), &self.source_path()?, &self.target);
        }
        if self.flags.0 & PROPAGATION != 0 {
            return self.check_propagation();
        }
        if has(raw::MS_MOVE) {
            return mounts.move_mount(&self.source_path()?, &self.target);
        }
        let kind = self.kind.as_ref().ok_or(Errno::EINVAL)?;
        let source = self.source.as_deref().unwrap_or(b"none");
        let kind = kernel.vfs().file_system_types.find(kind)?;
        let filesystem = kind.mount(source, &self.options, &**self.thread)?;
        mounts.mount(kernel.vfs(), filesystem, source, &self.target, self.mount_flags())
    }

    /// The file or directory that `source` names.
    fn source_path(&self) -> Result<Path, Errno> {
        let source = self.source.as_ref().ok_or(Errno::EINVAL)?;
        find(self.thread, source, Lookup::FOLLOW)
    }

    /// `MS_PRIVATE` is how everything is already.
    fn check_propagation(&self) -> Result<(), Errno> {
        let is_root = Arc::ptr_eq(&self.target.dentry, self.target.mount.root());
        let private = self.flags.0 & !(raw::MS_REC | raw::MS_SILENT) == raw::MS_PRIVATE;
        if is_root && private { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The flags the mount will have. Access times are relative unless said otherwise; a remount that says nothing of
    /// them leaves them as they are.
    fn mount_flags(&self) -> Flag {
        const TIMES: Flag =
            Flag::NO_ACCESS_TIMES.union(Flag::NO_DIRECTORY_ACCESS_TIMES).union(Flag::RELATIVE_ACCESS_TIMES);
        let mut flags = Flag::from_bits_truncate(self.flags.0);
        let exact = self.flags.0 & (raw::MS_NOATIME | raw::MS_STRICTATIME) != 0;
        if self.flags.has(raw::MS_REMOUNT) && !exact && !flags.intersects(TIMES) {
            return flags | (self.target.mount.flags() & TIMES);
        }
        flags.set(Flag::RELATIVE_ACCESS_TIMES, !exact);
        flags
    }
}

/// umount2(2), of a mount without others below, with nothing to write back.
pub(crate) fn umount2(thread: &Arc<Thread>, target: CString, flags: Flags<UnmountFlags>) -> Result<(), NotReady> {
    let flags = flags.known()?;
    let target = find_mounted(thread, target, flags)?;
    let flusher = target.mount.super_block().filesystem().flusher();
    let is_lazy = flags.has(raw::MNT_DETACH);
    let has_to_wait = match is_lazy {
        true => target.mount.has_children(),
        false => flusher.is_some_and(|flusher| flusher.unwritten() > 0),
    };
    if has_to_wait {
        return Err(NotReady::WouldBlock);
    }
    Ok(thread.process().namespaces().mounts().unmount(target, is_lazy)?)
}

/// umount2(2) of a whole tree, or of what has to be written back first.
pub(crate) async fn umount2_waiting(
    thread: &Arc<Thread>,
    target: CString,
    flags: Flags<UnmountFlags>,
) -> Result<(), Failure> {
    let flags = flags.known()?;
    let target = user::fetching(thread, || find_mounted(thread, target, flags)).await?;
    if !flags.has(raw::MNT_DETACH)
        && let Some(flusher) = target.mount.super_block().filesystem().flusher()
    {
        // Who wants to know whether all could be written calls fsync(2).
        let _ = flusher.synchronise().await;
    }
    let gone = thread.process().namespaces().mounts().begin_to_unmount(target, flags.has(raw::MNT_DETACH))?;
    gone.take_apart().await;
    Ok(())
}

fn find_mounted(thread: &Arc<Thread>, target: CString, flags: Flags<UnmountFlags>) -> Result<Path, NotReady> {
    let mut room = PathBuffer::new();
    let target = target.path(thread, &mut room)?;
    let how = if flags.has(raw::UMOUNT_NOFOLLOW) { Lookup::empty() } else { Lookup::FOLLOW };
    let target = find(thread, target, how)?;
    // Where the walk has been on its way does not keep the mount busy.
    thread.forget_walks();
    thread.credentials().require(Capability::SysAdmin)?;
    Ok(target)
}
