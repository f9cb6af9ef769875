//! Mount namespaces: one tree of mounts, as mount(2) and umount(2) change it and /proc/mounts shows it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use abi::{Errno, Result};
use machine::memory::fallible;
use sync::{Budget, SpinLock};

use crate::Vfs;
use crate::dentry::Dentry;
use crate::filesystem::FileSystem;
use crate::inode::DeviceNumber;
use crate::mount::{Mount, MountFlags, Path};

/// The most mounts of a namespace: Linux's `fs.mount-max`.
const MOST_MOUNTS: usize = 100_000;

/// The mounts one set of processes sees.
pub struct MountNamespace {
    /// All of them by their numbers, which is the order they were mounted in, the root first. Holding the lock allows changing the tree.
    mounts: SpinLock<Vec<Arc<Mount>>>,
}

impl MountNamespace {
    /// A namespace with nothing but `filesystem` at its root.
    ///
    /// # Errors
    /// `ENOMEM`, `EIO` for a file system without a root.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn new(
        vfs: &Vfs,
        filesystem: Arc<dyn FileSystem>,
        source: &str,
        flags: MountFlags,
    ) -> Result<Arc<MountNamespace>> {
        let super_block = vfs.super_block(filesystem)?;
        let root = super_block.root().clone();
        let mount = Mount::new(vfs.new_mount_id(), super_block, root, source.as_bytes().into(), flags);
        let mut mounts = Vec::new();
        fallible(|| mounts.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        mounts.push(mount);
        Ok(Arc::new(MountNamespace { mounts: SpinLock::new(mounts) }))
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

    /// How many mounts there are.
    pub fn count(&self) -> usize {
        self.mounts.lock().len()
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

    /// Shows what is at `source` at `target` as well: mount(MS_BIND).
    ///
    /// # Errors
    /// As [`MountNamespace::mount`].
    pub fn bind(&self, vfs: &Vfs, source: &Path, target: &Path) -> Result<()> {
        self.graft(copy(vfs, &source.mount, &source.dentry), &target.clone().topmost())
    }

    /// Also what is mounted below it: mount(MS_BIND | MS_REC). The copies are mounted on each other first, where nobody sees them, others
    /// running meanwhile; they are seen when the topmost is mounted, which is the last step.
    ///
    /// # Errors
    /// As [`MountNamespace::mount`].
    pub async fn bind_tree(&self, vfs: &Vfs, source: &Path, target: &Path) -> Result<()> {
        let top = copy(vfs, &source.mount, &source.dentry);
        let mut done = self.copy_below(vfs, source, &top).await;
        if done.is_ok() {
            done = self.graft(top.clone(), &target.clone().topmost());
        }
        if done.is_err() {
            let gone = remove_tree(&mut self.mounts.lock(), &top)?;
            gone.take_apart().await;
        }
        done
    }

    /// Mounts on `top`, which shows what is at `source` and is not seen yet, copies of all that is mounted below that.
    async fn copy_below(&self, vfs: &Vfs, source: &Path, top: &Arc<Mount>) -> Result<()> {
        // Of each mount what it is, and the copy of what it is mounted on.
        let mut below = Vec::new();
        source.mount.children_to(&mut below, |child| (child.clone(), top.clone()))?;
        let (mut next, mut budget) = (0, Budget::new());
        while let Some((mount, parent)) = below.get(next).cloned() {
            budget.pace(4).await;
            next += 1;
            let Some(point) = mount.mount_point() else { continue };
            if Arc::ptr_eq(&parent, top) && !point.is_within(source) {
                continue;
            }
            let new = copy(vfs, &mount, mount.root());
            self.enter(new.clone(), &Path { mount: parent, dentry: point.dentry })?;
            mount.children_to(&mut below, |child| (child.clone(), new.clone()))?;
        }
        Ok(())
    }

    /// Moves the mount whose root `source` is to `target`, with all below it: mount(MS_MOVE).
    ///
    /// # Errors
    /// `EINVAL` when `source` is no mount's root or the root of the namespace, `ELOOP` when `target` lies below it,
    /// `ENOTDIR`.
    pub fn move_mount(&self, source: &Path, target: &Path) -> Result<()> {
        let mounts = self.mounts.lock();
        let target = target.clone().topmost();
        let mount = &source.mount;
        self.check_member(&mounts, mount)?;
        self.check_member(&mounts, &target.mount)?;
        if !Arc::ptr_eq(&source.dentry, mount.root()) || mount.mount_point().is_none() {
            return Err(Errno::EINVAL);
        }
        if mount.root().is_directory() != target.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if mount.tree()?.iter().any(|below| Arc::ptr_eq(below, &target.mount)) {
            return Err(Errno::ELOOP);
        }
        Mount::prepare(&target)?;
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
        self.begin_to_unmount(target, detach).map(drop)
    }

    /// As [`MountNamespace::unmount`], of which there is something left to do that may take long.
    ///
    /// # Errors
    /// The same.
    pub fn begin_to_unmount(&self, target: Path, detach: bool) -> Result<Gone> {
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
            return Ok(Gone::default());
        }
        if !detach && !mount.detach_if_unused() {
            return Err(Errno::EBUSY);
        }
        remove_tree(&mut mounts, &mount)
    }

    /// A namespace that begins as a copy of this one: clone(CLONE_NEWNS). The second value finds the new place of an
    /// old path.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn duplicate(&self, vfs: &Vfs) -> Result<(Arc<MountNamespace>, impl Fn(&Path) -> Path + use<>)> {
        let mounts = self.mounts.lock();
        let (mut copies, mut all) = (Vec::new(), Vec::new());
        fallible(|| copies.try_reserve_exact(mounts.len())).map_err(|_| Errno::ENOMEM)?;
        fallible(|| all.try_reserve_exact(mounts.len())).map_err(|_| Errno::ENOMEM)?;
        for old in mounts.iter() {
            let (block, root) = (old.super_block().clone(), old.root().clone());
            let new = Mount::new(vfs.new_mount_id(), block, root, old.source().into(), old.flags());
            all.push(new.clone());
            copies.push((old.clone(), new));
        }
        // From here on it takes itself apart if memory runs out.
        let new = Arc::new(MountNamespace { mounts: SpinLock::new(all) });
        let find = move |path: &Path| {
            // As they were listed: by their numbers.
            let place = copies.binary_search_by_key(&path.mount.id(), |(old, _): &(Arc<Mount>, Arc<Mount>)| old.id());
            let found = place.ok().and_then(|place| copies.get(place)).filter(|(old, _)| Arc::ptr_eq(old, &path.mount));
            let mount = found.map_or(&path.mount, |(_, new)| new);
            Path { mount: mount.clone(), dentry: path.dentry.clone() }
        };
        for old in mounts.iter() {
            if let Some(point) = old.mount_point().map(|point| find(&point)) {
                Mount::prepare(&point)?;
                find(&Path { mount: old.clone(), dentry: old.root().clone() }).mount.attach(&point);
            }
        }
        drop(mounts);
        Ok((new, find))
    }

    fn check_member(&self, mounts: &[Arc<Mount>], mount: &Arc<Mount>) -> Result<()> {
        if find(mounts, mount.id()).is_some_and(|(_, member)| Arc::ptr_eq(member, mount)) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn graft(&self, mount: Arc<Mount>, target: &Path) -> Result<()> {
        if mount.root().is_directory() != target.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let mut mounts = self.mounts.lock();
        // Somebody may have mounted something there meanwhile.
        let target = target.clone().topmost();
        self.check_member(&mounts, &target.mount)?;
        enter(&mut mounts, mount, &target)
    }

    /// Enters a mount on another that is not seen yet. What is copied may change between two slices: so something may lie there already.
    fn enter(&self, mount: Arc<Mount>, target: &Path) -> Result<()> {
        enter(&mut self.mounts.lock(), mount, &target.clone().topmost())
    }

    /// The mount with the smallest number above `id`, for whoever goes through them.
    pub fn after(&self, id: u64) -> Option<Arc<Mount>> {
        let mounts = self.mounts.lock();
        mounts.get(mounts.partition_point(|mount| mount.id() <= id)).cloned()
    }
}

/// The mount with that number in a list, and its place there.
fn find(mounts: &[Arc<Mount>], id: u64) -> Option<(usize, &Arc<Mount>)> {
    let place = mounts.binary_search_by_key(&id, |mount| mount.id()).ok()?;
    Some((place, mounts.get(place)?))
}

/// A mount that shows the same as another, or a part of it.
fn copy(vfs: &Vfs, mount: &Mount, root: &Arc<Dentry>) -> Arc<Mount> {
    let id = vfs.new_mount_id();
    Mount::new(id, mount.super_block().clone(), root.clone(), mount.source().into(), mount.flags())
}

/// Mounts it, and enters it by its number: at the end, but for one that was made before others were entered.
#[expect(clippy::disallowed_methods, reason = "room was made before")]
fn enter(mounts: &mut Vec<Arc<Mount>>, mount: Arc<Mount>, target: &Path) -> Result<()> {
    if mounts.len() >= MOST_MOUNTS {
        return Err(Errno::ENOSPC);
    }
    fallible(|| mounts.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
    Mount::prepare(target)?;
    mount.attach(target);
    let place = mounts.partition_point(|other| other.id() < mount.id());
    mounts.insert(place, mount);
    Ok(())
}

impl Mount {
    /// The text of where it is, as a process with the given root sees it; none if it lies elsewhere. `steps` is counted up by how many
    /// names and mounts are on the way.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn place_below(self: &Arc<Mount>, root: &Path, steps: &mut usize) -> Result<Option<Vec<u8>>> {
        let way = Path { mount: self.clone(), dentry: self.root().clone() }.way_from(root, usize::MAX)?;
        *steps += way.steps;
        Ok(way.reachable.then_some(way.text))
    }

    /// Its line in /proc/mounts, seen at `point`.
    ///
    /// # Errors
    /// `ENOMEM` if `text` has no room.
    pub fn mounts_line(&self, point: &[u8], text: &mut dyn Write) -> Result<()> {
        let write = |text: &mut dyn Write| {
            escape(text, self.shown_source())?;
            text.write_char(' ')?;
            escape(text, point)?;
            write!(text, " {} ", self.super_block().filesystem().name())?;
            self.flag_names(true, text)?;
            self.super_block().filesystem().options(text)?;
            text.write_str(" 0 0\n")
        };
        write(text).map_err(|_| Errno::ENOMEM)
    }

    /// Its line in /proc/PID/mountinfo.
    ///
    /// # Errors
    /// As [`Mount::mounts_line`].
    pub fn mountinfo_line(&self, point: &[u8], text: &mut dyn Write) -> Result<()> {
        let super_block = self.super_block();
        let DeviceNumber { major, minor } = DeviceNumber::decode(super_block.device());
        let parent = self.mount_point().map_or(self.id(), |point| point.mount.id());
        let root = self.root_within_filesystem()?;
        let write = |text: &mut dyn Write| {
            write!(text, "{} {parent} {major}:{minor} ", self.id())?;
            escape(text, &root)?;
            text.write_char(' ')?;
            escape(text, point)?;
            text.write_char(' ')?;
            self.flag_names(false, text)?;
            write!(text, " - {} ", super_block.filesystem().name())?;
            escape(text, self.shown_source())?;
            text.write_str(if super_block.is_read_only() { " ro" } else { " rw" })?;
            super_block.filesystem().options(text)?;
            text.write_char('\n')
        };
        write(text).map_err(|_| Errno::ENOMEM)
    }

    /// Its line in /proc/PID/mountstats.
    ///
    /// # Errors
    /// As [`Mount::mounts_line`].
    pub fn mountstats_line(&self, point: &[u8], text: &mut dyn Write) -> Result<()> {
        let write = |text: &mut dyn Write| {
            text.write_str("device ")?;
            escape(text, self.shown_source())?;
            text.write_str(" mounted on ")?;
            escape(text, point)?;
            writeln!(text, " with fstype {}", self.super_block().filesystem().name())
        };
        write(text).map_err(|_| Errno::ENOMEM)
    }

    fn shown_source(&self) -> &[u8] {
        if self.source().is_empty() { b"none" } else { self.source() }
    }

    /// `rw,nosuid,relatime` and so on, in Linux's order. /proc/mounts says `ro` also for a read-only super block.
    fn flag_names(&self, with_super_block: bool, text: &mut dyn Write) -> fmt::Result {
        let flags = self.flags();
        let read_only =
            flags.contains(MountFlags::READ_ONLY) || (with_super_block && self.super_block().is_read_only());
        text.write_str(if read_only { "ro" } else { "rw" })?;
        let names = [
            (MountFlags::NO_SET_USER_ID, ",nosuid"),
            (MountFlags::NO_DEVICES, ",nodev"),
            (MountFlags::NO_EXECUTE, ",noexec"),
            (MountFlags::NO_ACCESS_TIMES, ",noatime"),
            (MountFlags::NO_DIRECTORY_ACCESS_TIMES, ",nodiratime"),
            (MountFlags::RELATIVE_ACCESS_TIMES, ",relatime"),
        ];
        names.iter().filter(|(flag, _)| flags.contains(*flag)).try_for_each(|(_, name)| text.write_str(name))
    }
}

/// Takes a mount and all below it out of a namespace's list.
fn remove_tree(mounts: &mut Vec<Arc<Mount>>, mount: &Arc<Mount>) -> Result<Gone> {
    let gone = mount.tree()?;
    if let [only] = gone.as_slice() {
        find(mounts, only.id()).map(|(place, _)| place).map(|place| mounts.remove(place));
    } else {
        gone.iter().for_each(|mount| mount.leave());
        mounts.retain(|member| !member.has_left());
    }
    mount.detach();
    Ok(Gone(gone))
}

/// Mounts that are in no namespace any more. Those below the topmost are still to be taken from each other, and each from the file it
/// is mounted on, with the file systems that nobody else uses. There may be many: do it with nothing locked.
#[derive(Default)]
#[must_use = "they are still mounted on each other"]
pub struct Gone(Vec<Arc<Mount>>);

impl Gone {
    /// Takes them apart, in slices between which others run.
    pub async fn take_apart(mut self) {
        let mut budget = Budget::new();
        while self.take_one() {
            budget.pace(4).await;
        }
    }

    /// The lowest goes first: nothing is mounted on it any more.
    fn take_one(&mut self) -> bool {
        let Some(mount) = self.0.pop() else { return false };
        mount.detach();
        true
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        while self.take_one() {}
    }
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        for mount in core::mem::take(self.mounts.get_mut()).iter().rev() {
            mount.detach();
        }
    }
}

/// Blanks, backslashes and `#` as three octal digits, as the readers of /proc/mounts expect.
fn escape(text: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                ' ' | '\t' | '\n' | '\\' | '#' => write!(text, "\\{:03o}", character as u32)?,
                _ => text.write_char(character)?,
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\{byte:03o}")?;
        }
    }
    Ok(())
}
