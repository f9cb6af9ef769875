//! Mounts: file systems grafted into one tree.
//!
//! A [`Mount`] shows a dentry of a super block (its root, or any directory or file for a bind mount) at a dentry of its
//! parent mount. A [`Path`] is a mount and a dentry: the two together say where one is, since one dentry may be seen
//! through several mounts. A walk asks a mount for what is mounted on a dentry only when the dentry says that something
//! may be.
//!
//! **Locks.** A namespace's list of mounts (see [`crate::namespace`]) is the lock of all changes of its tree; under it
//! comes that of what is mounted on one mount. A walk takes neither: it reads both tables and places as it reads those of dentries.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::fallible::TryVec;
use abi::raw::general as raw;
use abi::{Errno, Result};
use bitflags::bitflags;
use machine::rcu::{self, RcuCell, ReadSection, Retired, Shared};
use sync::SpinLock;

use crate::dentry::Dentry;
use crate::filesystem::{FileSystem, SuperBlock};
use crate::inode::{FileKind, Inode};
use crate::rcu_tree::{RcuTree, Writer};

bitflags! {
    /// The flags of one mount, with mount(2)'s values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MountFlags: u32 {
        /// Nothing can be changed.
        const READ_ONLY = raw::MS_RDONLY;
        /// Set-user-ID bits do nothing.
        const NO_SET_USER_ID = raw::MS_NOSUID;
        /// Device nodes can't be opened.
        const NO_DEVICES = raw::MS_NODEV;
        /// Nothing can be executed.
        const NO_EXECUTE = raw::MS_NOEXEC;
        /// Access times stay.
        const NO_ACCESS_TIMES = raw::MS_NOATIME;
        /// Access times of directories stay.
        const NO_DIRECTORY_ACCESS_TIMES = raw::MS_NODIRATIME;
        /// Access times are updated when they are older than the modification, or a day.
        const RELATIVE_ACCESS_TIMES = raw::MS_RELATIME;
    }
}

/// Where one is: a dentry, seen through a mount.
#[derive(Clone)]
pub struct Path {
    /// Through which mount.
    pub mount: Arc<Mount>,
    /// Which name.
    pub dentry: Arc<Dentry>,
}

/// A file system, or a part of one, grafted into the tree.
pub struct Mount {
    id: u64,
    super_block: Arc<SuperBlock>,
    root: Arc<Dentry>,
    /// What was mounted, as /proc/mounts names it.
    source: Arc<[u8]>,
    flags: AtomicU32,
    /// In no namespace any more. Changed under the lock of the namespace's list.
    gone: AtomicBool,
    /// It is being unmounted, if nobody uses it: who finds it asks again under the lock of its parent.
    closing: AtomicBool,
    /// Where it is mounted; empty for the root of a namespace and for what was unmounted while in use.
    place: RcuCell<MountPoint>,
    /// What is mounted on dentries of this mount, by the dentry: one on each. Asked only for dentries that carry a mount somewhere.
    children: RcuTree<Mount>,
    /// The lock of its changes.
    writer: SpinLock<Writer>,
}

/// The id of the mounts anonymous files claim to be on.
const ANONYMOUS: u64 = 0;

struct MountPoint {
    parent: Weak<Mount>,
    dentry: Arc<Dentry>,
}

impl Mount {
    pub(crate) fn new(
        id: u64,
        super_block: Arc<SuperBlock>,
        root: Arc<Dentry>,
        source: Arc<[u8]>,
        flags: MountFlags,
    ) -> Arc<Mount> {
        Arc::new(Mount {
            id,
            super_block,
            root,
            source,
            flags: AtomicU32::new(flags.bits()),
            gone: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            place: RcuCell::empty(),
            children: RcuTree::default(),
            writer: SpinLock::default(),
        })
    }

    /// The number of the mount in /proc/PID/mountinfo.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The file system shown here.
    pub fn super_block(&self) -> &Arc<SuperBlock> {
        &self.super_block
    }

    /// The dentry shown at the top.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// What was mounted, as /proc/mounts names it.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The flags of this mount.
    #[inline]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Fails with `EROFS` when nothing may be changed through this mount.
    ///
    /// # Errors
    /// `EROFS`.
    pub fn check_writable(&self) -> Result<()> {
        if self.flags().contains(MountFlags::READ_ONLY) || self.super_block.is_read_only() {
            return Err(Errno::EROFS);
        }
        Ok(())
    }

    pub(crate) fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// The path of this mount's root within its file system, for mountinfo.
    pub(crate) fn root_within_filesystem(&self) -> Result<Vec<u8>> {
        let (mut text, mut at) = (Vec::new(), self.root.clone());
        while let Some(parent) = at.name_backwards(&mut text)? {
            at = parent;
        }
        if text.is_empty() {
            text.try_push(b'/')?;
        }
        text.reverse();
        Ok(text)
    }

    /// Whether something is mounted on it.
    pub fn has_children(&self) -> bool {
        !self.children.is_empty()
    }

    /// The path this is mounted at; `None` for the root of a namespace.
    pub fn mount_point(&self) -> Option<Path> {
        let place = self.place.get()?;
        Some(Path { mount: place.parent.upgrade()?, dentry: place.dentry.clone() })
    }

    /// What is mounted on `dentry` of this mount, if that can be told without a lock.
    pub(crate) fn find_mounted<'s>(&'s self, section: &'s ReadSection, dentry: &Dentry) -> Option<Shared<'s, Mount>> {
        let found = self.children.find(section, place_of(dentry), |mount| mount.get().is_on(section, dentry))?;
        (!found.closing.load(Ordering::Relaxed)).then_some(found)
    }

    /// What is mounted on `dentry` of this mount.
    pub(crate) fn mounted_on(&self, dentry: &Dentry) -> Option<Arc<Mount>> {
        let _writer = self.writer.lock();
        self.children.get(place_of(dentry), |mount| mount.is_on(&rcu::read(), dentry))
    }

    fn is_on(&self, section: &ReadSection, dentry: &Dentry) -> bool {
        self.place.read(section).is_some_and(|place| ptr::eq(&*place.get().dentry, dentry))
    }

    /// Makes everything ready for [`Mount::attach`] at this place, which is not removed from then on.
    ///
    /// # Errors
    /// `ENOENT` when it was removed, `ENOMEM`.
    pub(crate) fn prepare(to: &Path) -> Result<()> {
        to.mount.children.reserve(&mut to.mount.writer.lock(), place_of(&to.dentry))?;
        to.dentry.add_mount()
    }

    /// Mounts this where it was prepared, and where nothing is mounted.
    pub(crate) fn attach(self: &Arc<Mount>, to: &Path) {
        let place = MountPoint { parent: Arc::downgrade(&to.mount), dentry: to.dentry.clone() };
        let before = self.place.replace(Some(Arc::new(place)));
        // Room was made before.
        let _ = to.mount.children.insert(&mut to.mount.writer.lock(), place_of(&to.dentry), self.clone());
        drop(before);
    }

    /// Takes it off where it is mounted.
    pub(crate) fn detach(self: &Arc<Mount>) {
        let Some(place) = self.place.get() else { return };
        let Some(parent) = place.parent.upgrade() else { return self.leave_place() };
        let removed = self.take_off(&parent, &mut parent.writer.lock(), &place.dentry);
        drop(removed);
        self.leave_place();
    }

    /// The same, unless it is used by more than its namespace's list, its parent and the caller; true if it was done. Who finds it
    /// meanwhile waits for the lock.
    pub(crate) fn detach_if_unused(self: &Arc<Mount>) -> bool {
        const KNOWN: usize = 3;
        let Some(place) = self.place.get() else { return false };
        let Some(parent) = place.parent.upgrade() else { return false };
        let mut writer = parent.writer.lock();
        self.closing.store(true, Ordering::Relaxed);
        rcu::wait_for_readers();
        if self.has_children() || Arc::strong_count(self) > KNOWN {
            self.closing.store(false, Ordering::Relaxed);
            return false;
        }
        let removed = self.take_off(&parent, &mut writer, &place.dentry);
        drop(writer);
        drop(removed);
        self.leave_place();
        true
    }

    fn take_off(&self, parent: &Mount, writer: &mut Writer, dentry: &Dentry) -> Option<Retired<Mount>> {
        parent.children.remove(writer, place_of(dentry), |_, mount| ptr::eq(mount, self))
    }

    fn leave_place(&self) {
        if let Some(place) = self.place.replace(None).map(Retired::into_arc) {
            place.dentry.remove_mount();
        }
    }

    /// This mount and all below it, parents first.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn tree(self: &Arc<Mount>) -> Result<Vec<Arc<Mount>>> {
        let mut found = Vec::new();
        found.try_push(self.clone())?;
        let mut next = 0;
        while let Some(mount) = found.get(next).cloned() {
            mount.children_to(&mut found, Clone::clone)?;
            next += 1;
        }
        Ok(found)
    }

    /// Adds what is mounted on this one to a list.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn children_to<T>(&self, list: &mut Vec<T>, entry: impl Fn(&Arc<Mount>) -> T) -> Result<()> {
        let mut entered = Ok(());
        self.children.each(&mut self.writer.lock(), |child| {
            if entered.is_ok() {
                entered = list.try_push(entry(&child));
            }
        });
        entered
    }

    /// Says that it is leaving its namespace's list.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Whether it is leaving its namespace's list, or has left it.
    pub(crate) fn has_left(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// Where a dentry is found among those that something is mounted on.
fn place_of(dentry: &Dentry) -> u64 {
    let mixed = (ptr::from_ref(dentry).addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

impl Path {
    /// The file here.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// Whether both are the same place.
    #[inline]
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.dentry, &other.dentry) && Arc::ptr_eq(&self.mount, &other.mount)
    }

    /// A path to a file that has no name anywhere (a pipe, an eventfd), so that it can be opened again through /proc.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn anonymous(inode: Arc<dyn Inode>) -> Result<Path> {
        let name = inode.anonymous_name()?;
        let dentry = Dentry::root(inode.clone(), 0, name.as_bytes())?;
        let super_block = SuperBlock::with_root(Arc::new(Anonymous { inode }), 0, dentry.clone(), None);
        let mount = Mount::new(ANONYMOUS, super_block, dentry.clone(), Arc::new([]), MountFlags::empty());
        Ok(Path { mount, dentry })
    }

    /// The absolute path as a process with the given root sees it, the way /proc shows it: ` (deleted)` is added when
    /// the name is gone, and anonymous files have their own names (`pipe:[17]`).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn text(&self, root: &Path) -> Result<Vec<u8>> {
        self.text_within(root, usize::MAX)
    }

    /// As [`Path::text`] where it has to fit into `PATH_MAX`, as what readlink(2) tells of a file in /proc has.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, `ENOMEM`.
    pub fn short_text(&self, root: &Path) -> Result<Vec<u8>> {
        self.text_within(root, PATH_MAX)
    }

    fn text_within(&self, root: &Path, most: usize) -> Result<Vec<u8>> {
        let mut text = self.way_from(root, most)?.text;
        if self.dentry.is_removed() {
            text.try_extend_from_slice(b" (deleted)")?;
        }
        if text.len() < most { Ok(text) } else { Err(Errno::ENAMETOOLONG) }
    }

    /// The absolute path from the top of the namespace, whoever looks: /proc/PID/maps.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn full_text(&self) -> Result<Vec<u8>> {
        let mut top = self.clone();
        while let Some(outer) = top.mount.mount_point() {
            top = outer;
        }
        top.dentry = top.mount.root().clone();
        self.text(&top)
    }

    /// The working directory as getcwd(2) tells it: `(unreachable)` is put in front when it lies outside `root`.
    ///
    /// # Errors
    /// `ENOENT` when the directory was removed, `ENAMETOOLONG` beyond `PATH_MAX`, `ENOMEM`.
    pub fn working_directory(&self, root: &Path) -> Result<Vec<u8>> {
        if self.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        let Way { mut text, reachable, .. } = self.way_from(root, PATH_MAX)?;
        if !reachable {
            const MARK: &[u8] = b"(unreachable)";
            text.try_extend_from_slice(MARK)?;
            text.rotate_right(MARK.len());
        }
        Ok(text)
    }

    /// What is seen at this place: the root of what was last mounted here, or else the place itself.
    pub(crate) fn topmost(mut self) -> Path {
        while self.dentry.is_mount_point() {
            let Some(mount) = self.mount.mounted_on(&self.dentry) else { break };
            self = Path { dentry: mount.root().clone(), mount };
        }
        self
    }

    /// Whether this lies at or below `other`, through mounts.
    pub(crate) fn is_within(&self, other: &Path) -> bool {
        let mut at = self.clone();
        while !at.same(other) {
            match at.above() {
                Some(above) => at = above,
                None => return false,
            }
        }
        true
    }

    /// One step up, through mounts; none at the top.
    fn above(&self) -> Option<Path> {
        if Arc::ptr_eq(&self.dentry, self.mount.root()) {
            return self.mount.mount_point();
        }
        Some(Path { mount: self.mount.clone(), dentry: self.dentry.parent()? })
    }

    /// The way from `root` down to here. It is read on the way up, so every name is written backwards.
    ///
    /// # Errors
    /// `ENAMETOOLONG` for a text that has not less than `most` bytes, `ENOMEM`.
    pub(crate) fn way_from(&self, root: &Path, most: usize) -> Result<Way> {
        let (mut text, mut steps) = (Vec::new(), 0);
        let mut at = self.clone();
        let reachable = loop {
            if at.same(root) {
                break true;
            }
            steps += 1;
            if Arc::ptr_eq(&at.dentry, at.mount.root()) {
                let Some(outer) = at.mount.mount_point() else { break false };
                at = outer;
                continue;
            }
            let Some(parent) = at.dentry.name_backwards(&mut text)? else { break false };
            if text.len() >= most {
                return Err(Errno::ENAMETOOLONG);
            }
            at.dentry = parent;
        };
        if at.mount.id == ANONYMOUS {
            text.try_extend(at.dentry.name().iter().rev().copied())?;
        }
        if text.is_empty() {
            text.try_push(b'/')?;
        }
        text.reverse();
        Ok(Way { text, reachable, steps })
    }
}

/// How a place is reached.
pub(crate) struct Way {
    /// The names from the root that was asked for, or from the top if that lies elsewhere.
    pub text: Vec<u8>,
    /// Whether that root was met on the way up.
    pub reachable: bool,
    /// How many names and mounts there are on the way.
    pub steps: usize,
}

/// The most bytes of a path that a call tells, with the zero at its end.
const PATH_MAX: usize = raw::PATH_MAX as usize;

/// The file system an anonymous file claims to be on.
struct Anonymous {
    inode: Arc<dyn Inode>,
}

impl FileSystem for Anonymous {
    fn name(&self) -> &'static str {
        "anon_inodefs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn statistics(&self) -> crate::Statistics {
        let pipe = FileKind::of_mode(self.inode.permissions().mode) == Some(FileKind::Fifo);
        let magic = if pipe { 0x5049_5045 } else { 0x0904_1934 };
        crate::Statistics { magic, block_size: 4096, name_length: 255, ..Default::default() }
    }
}
