//! Mount namespaces: one tree of mounts, as mount(2) and umount(2) change it and /proc/mounts shows it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use abi::{Errno, Result};
use sync::SpinLock;

use crate::Vfs;
use crate::filesystem::FileSystem;
use crate::inode::DeviceNumber;
use crate::mount::{Mount, MountFlags, Path};

/// The mounts one set of processes sees.
pub struct MountNamespace {
    /// All of them in the order they were mounted, the root first. Holding the lock allows changing the tree.
    mounts: SpinLock<Vec<Arc<Mount>>>,
}

impl MountNamespace {
    /// A namespace with nothing but `filesystem` at its root.
    ///
    /// # Errors
    /// `ENOMEM`, `EIO` for a file system without a root.
    pub fn new(
        vfs: &Vfs,
        filesystem: Arc<dyn FileSystem>,
        source: &str,
        flags: MountFlags,
    ) -> Result<Arc<MountNamespace>> {
        let super_block = vfs.super_block(filesystem)?;
        let root = super_block.root().clone();
        let mount = Mount::new(vfs.new_mount_id(), super_block, root, source.as_bytes().into(), flags);
        Ok(Arc::new(MountNamespace { mounts: SpinLock::new(alloc::vec![mount]) }))
    }

    /// The top of the tree: the root of the first mount, or of what was mounted over it since.
    ///
    /// # Errors
    /// `EINVAL` when the namespace was taken apart.
    pub fn root(&self) -> Result<Path> {
        let mount = self.mounts.lock().first().cloned().ok_or(Errno::EINVAL)?;
        let dentry = mount.root().clone();
        Ok(Path { mount, dentry }.topmost())
    }

    /// All mounts, in the order they were mounted.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.mounts.lock().clone()
    }

    /// Mounts a file system at `target`.
    ///
    /// # Errors
    /// `ENOTDIR` when one is a directory and the other not, `EBUSY` when the same lies there already, `EINVAL` when
    /// `target` is of another namespace, `ENOENT` when it was removed.
    pub fn mount(
        &self,
        vfs: &Vfs,
        filesystem: Arc<dyn FileSystem>,
        source: &[u8],
        target: &Path,
        flags: MountFlags,
    ) -> Result<()> {
        let super_block = vfs.super_block(filesystem)?;
        let root = super_block.root().clone();
        let target = target.clone().topmost();
        let same =
            Arc::ptr_eq(target.mount.super_block(), &super_block) && Arc::ptr_eq(&target.dentry, target.mount.root());
        if same && target.mount.mount_point().is_some() {
            return Err(Errno::EBUSY);
        }
        let mount = Mount::new(vfs.new_mount_id(), super_block, root, source.into(), flags);
        self.graft(mount, &target)
    }

    /// Shows what is at `source` at `target` as well; with `recursive`, also what is mounted below it: mount(MS_BIND).
    ///
    /// # Errors
    /// As [`MountNamespace::mount`].
    pub fn bind(&self, vfs: &Vfs, source: &Path, target: &Path, recursive: bool) -> Result<()> {
        let copy = |mount: &Arc<Mount>, root| {
            let id = vfs.new_mount_id();
            Mount::new(id, mount.super_block().clone(), root, mount.source().into(), mount.flags())
        };
        let top = copy(&source.mount, source.dentry.clone());
        // Copied before grafting, lest a tree bound into itself be copied for ever.
        let mut copies = alloc::vec![(source.mount.clone(), top.clone())];
        let below = if recursive { source.mount.tree() } else { Vec::new() };
        let mut attached = Vec::new();
        for mount in below.iter().skip(1) {
            let Some(point) = mount.mount_point() else { continue };
            let parent = copies.iter().find(|(old, _)| Arc::ptr_eq(old, &point.mount)).map(|(_, new)| new.clone());
            let (Some(parent), true) = (parent, point.is_within(source)) else { continue };
            let new = copy(mount, mount.root().clone());
            copies.push((mount.clone(), new.clone()));
            attached.push((new, Path { mount: parent, dentry: point.dentry }));
        }
        self.graft(top, &target.clone().topmost())?;
        let mut mounts = self.mounts.lock();
        for (mount, at) in attached {
            mount.attach(&at);
            mounts.push(mount);
        }
        Ok(())
    }

    /// Moves the mount whose root `source` is to `target`, with all below it: mount(MS_MOVE).
    ///
    /// # Errors
    /// `EINVAL` when `source` is no mount's root or the root of the namespace, `ELOOP` when `target` lies below it,
    /// `ENOTDIR`.
    pub fn move_mount(&self, source: &Path, target: &Path) -> Result<()> {
        let target = target.clone().topmost();
        let mounts = self.mounts.lock();
        let mount = &source.mount;
        self.check_member(&mounts, mount)?;
        self.check_member(&mounts, &target.mount)?;
        if !Arc::ptr_eq(&source.dentry, mount.root()) || mount.mount_point().is_none() {
            return Err(Errno::EINVAL);
        }
        if mount.root().is_directory() != target.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if mount.tree().iter().any(|below| Arc::ptr_eq(below, &target.mount)) {
            return Err(Errno::ELOOP);
        }
        mount.detach();
        mount.attach(&target);
        Ok(())
    }

    /// Changes a mount's flags, and unless `bind_only` also its file system's options and whether that is read-only.
    ///
    /// # Errors
    /// `EINVAL` when `target` is no mount's root, or for an unknown option.
    pub fn remount(&self, target: &Path, flags: MountFlags, options: &str, bind_only: bool) -> Result<()> {
        if !Arc::ptr_eq(&target.dentry, target.mount.root()) {
            return Err(Errno::EINVAL);
        }
        let _changing = self.mounts.lock();
        if !bind_only {
            target.mount.super_block().filesystem().remount(options)?;
            target.mount.super_block().set_read_only(flags.contains(MountFlags::READ_ONLY));
        }
        target.mount.set_flags(flags);
        Ok(())
    }

    /// Unmounts what is mounted at `target`. With `detach` (`MNT_DETACH`) it vanishes at once, with everything below
    /// it, and its file system goes when the last user does. The root of the namespace becomes read-only instead.
    ///
    /// # Errors
    /// `EINVAL` when `target` is no mount's root, `EBUSY` when it is in use.
    pub fn unmount(&self, target: Path, detach: bool) -> Result<()> {
        let Path { mount, dentry } = target;
        if !Arc::ptr_eq(&dentry, mount.root()) {
            return Err(Errno::EINVAL);
        }
        drop(dentry);
        let mut mounts = self.mounts.lock();
        self.check_member(&mounts, &mount)?;
        if mount.mount_point().is_none() {
            if detach {
                return Err(Errno::EINVAL);
            }
            mount.super_block().set_read_only(true);
            return Ok(());
        }
        // Held by the list, by its parent, and by us; anybody else is using it.
        if !detach && (mount.has_children() || Arc::strong_count(&mount) > 3) {
            return Err(Errno::EBUSY);
        }
        let gone = mount.tree();
        mounts.retain(|member| !gone.iter().any(|mount| Arc::ptr_eq(member, mount)));
        for mount in gone.iter().rev() {
            mount.detach();
        }
        // A file system may have a lot to take apart: not under the lock.
        drop(mounts);
        Ok(())
    }

    /// A namespace that begins as a copy of this one: clone(CLONE_NEWNS). The second value finds the new place of an
    /// old path.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate(&self, vfs: &Vfs) -> Result<(Arc<MountNamespace>, impl Fn(&Path) -> Path + use<>)> {
        let mounts = self.mounts.lock();
        let copy = |old: &Arc<Mount>| {
            let (block, root) = (old.super_block().clone(), old.root().clone());
            (old.clone(), Mount::new(vfs.new_mount_id(), block, root, old.source().into(), old.flags()))
        };
        let copies: Vec<(Arc<Mount>, Arc<Mount>)> = mounts.iter().map(copy).collect();
        let all = copies.iter().map(|(_, new)| new.clone()).collect();
        let find = move |path: &Path| {
            let mount =
                copies.iter().find(|(old, _)| Arc::ptr_eq(old, &path.mount)).map_or(&path.mount, |(_, new)| new);
            Path { mount: mount.clone(), dentry: path.dentry.clone() }
        };
        for old in mounts.iter() {
            if let Some(point) = old.mount_point() {
                find(&Path { mount: old.clone(), dentry: old.root().clone() }).mount.attach(&find(&point));
            }
        }
        drop(mounts);
        Ok((Arc::new(MountNamespace { mounts: SpinLock::new(all) }), find))
    }

    fn check_member(&self, mounts: &[Arc<Mount>], mount: &Arc<Mount>) -> Result<()> {
        if mounts.iter().any(|member| Arc::ptr_eq(member, mount)) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn graft(&self, mount: Arc<Mount>, target: &Path) -> Result<()> {
        if mount.root().is_directory() != target.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if target.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        let mut mounts = self.mounts.lock();
        self.check_member(&mounts, &target.mount)?;
        mount.attach(target);
        mounts.push(mount);
        Ok(())
    }

    /// The text of /proc/mounts as a process with the given root sees it.
    pub fn mounts_text(&self, root: &Path) -> String {
        let mut text = String::new();
        for (mount, point) in self.visible(root) {
            let filesystem = mount.super_block().filesystem();
            let source: &[u8] = if mount.source().is_empty() { b"none" } else { mount.source() };
            escape(&mut text, source);
            text.push(' ');
            escape(&mut text, &point);
            let _ = writeln!(text, " {} {}{} 0 0", filesystem.name(), flag_names(&mount, true), filesystem.options());
        }
        text
    }

    /// The text of /proc/PID/mountinfo.
    pub fn mountinfo_text(&self, root: &Path) -> String {
        let mut text = String::new();
        for (mount, point) in self.visible(root) {
            let super_block = mount.super_block();
            let DeviceNumber { major, minor } = DeviceNumber::decode(super_block.device());
            let parent = mount.mount_point().map_or(mount.id(), |point| point.mount.id());
            let _ = write!(text, "{} {parent} {major}:{minor} ", mount.id());
            escape(&mut text, &mount.root_within_filesystem());
            text.push(' ');
            escape(&mut text, &point);
            let _ = write!(text, " {} - {} ", flag_names(&mount, false), super_block.filesystem().name());
            escape(&mut text, if mount.source().is_empty() { b"none" } else { mount.source() });
            let access = if super_block.is_read_only() { "ro" } else { "rw" };
            let _ = writeln!(text, " {access}{}", super_block.filesystem().options());
        }
        text
    }

    /// The mounts at or below `root`, with the text of where they are.
    fn visible(&self, root: &Path) -> Vec<(Arc<Mount>, Vec<u8>)> {
        let mut visible = Vec::new();
        for mount in self.mounts() {
            let top = Path { mount: mount.clone(), dentry: mount.root().clone() };
            if let Some(text) = top.text_below(root) {
                visible.push((mount, text));
            }
        }
        visible
    }
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        for mount in core::mem::take(self.mounts.get_mut()).iter().rev() {
            mount.detach();
        }
    }
}

/// `rw,nosuid,relatime` and so on, in Linux's order. /proc/mounts says `ro` also for a read-only super block.
fn flag_names(mount: &Mount, with_super_block: bool) -> String {
    let flags = mount.flags();
    let read_only = flags.contains(MountFlags::READ_ONLY) || (with_super_block && mount.super_block().is_read_only());
    let mut text = String::from(if read_only { "ro" } else { "rw" });
    let names = [
        (MountFlags::NO_SET_USER_ID, ",nosuid"),
        (MountFlags::NO_DEVICES, ",nodev"),
        (MountFlags::NO_EXECUTE, ",noexec"),
        (MountFlags::NO_ACCESS_TIMES, ",noatime"),
        (MountFlags::NO_DIRECTORY_ACCESS_TIMES, ",nodiratime"),
        (MountFlags::RELATIVE_ACCESS_TIMES, ",relatime"),
    ];
    names.iter().filter(|(flag, _)| flags.contains(*flag)).for_each(|(_, name)| text.push_str(name));
    text
}

/// Blanks, backslashes and `#` as three octal digits, as the readers of /proc/mounts expect.
fn escape(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                ' ' | '\t' | '\n' | '\\' | '#' => {
                    let _ = write!(text, "\\{:03o}", character as u32);
                }
                _ => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\{byte:03o}");
        }
    }
}
