//! Changing directories by name: mkdir(2), mknod(2), symlink(2), link(2), unlink(2), rmdir(2), rename(2).
//!
//! Each function checks in Linux's order (programs see it in the errno), then holds the directories' locks over the
//! file system's change and the cache's. What a change lets go of is dropped after the locks.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use sync::SpinGuard;

use crate::changing::{Change, Changed};
use crate::credentials::{Access, Capabilities, Credentials};
use crate::dentry::{Children, Dentry, Found, Place};
use crate::in_lookup::Asking;
use crate::inode::{FileKind, Inode, NewContents, NewInode, Permissions, RenameFlags};
use crate::mount::{Mount, Path};
use crate::paused_walk::Wait;
use crate::waiting::Pending;
use crate::walk::{Context, Last, Takes, Walk};

impl Context<'_> {
    /// Makes a directory.
    ///
    /// # Errors
    /// mkdir(2).
    pub fn mkdir(&self, start: &Path, name: &[u8], mode: u32) -> Result<()> {
        self.make(start, name, mode & 0o1777, NewContents::Directory).map(|_| ())
    }

    /// Makes a file of the kind `mode` says; of none, a regular one.
    ///
    /// # Errors
    /// mknod(2).
    pub fn mknod(&self, start: &Path, name: &[u8], mode: u32, device: u64) -> Result<()> {
        let device = crate::DeviceNumber::decode(device);
        let contents = match FileKind::of_mode(mode) {
            None if mode & raw::S_IFMT == 0 => NewContents::Regular,
            Some(FileKind::Regular) => NewContents::Regular,
            Some(FileKind::Fifo) => NewContents::Fifo,
            Some(FileKind::Socket) => NewContents::Socket,
            Some(FileKind::CharacterDevice) => NewContents::CharacterDevice(device),
            Some(FileKind::BlockDevice) => NewContents::BlockDevice(device),
            Some(FileKind::Directory) => return Err(Errno::EPERM),
            Some(FileKind::Symlink) | None => return Err(Errno::EINVAL),
        };
        self.make(start, name, mode & 0o7777, contents).map(|_| ())
    }

    /// Makes a symbolic link with the text `target`.
    ///
    /// # Errors
    /// symlink(2).
    pub fn symlink(&self, target: &[u8], start: &Path, name: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        let new = Context { umask: 0, ..*self };
        new.make(start, name, 0o777, NewContents::Symlink(target)).map(|_| ())
    }

    /// What the change of this call came to, if it had to wait for that and is made again: then it is done. The functions of this page look
    /// first; whoever resolves another path before them does so too.
    #[inline]
    pub fn take_changed(&self) -> Option<Result<Option<Path>>> {
        self.caller.paused_walks()?.take_changed()
    }

    /// Makes a file under a name that must not exist, and returns where it is; `permissions` are cut by the umask.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EACCES`, `EPERM`, `ENOSPC` and those of path resolution.
    pub fn make(&self, start: &Path, name: &[u8], permissions: u32, contents: NewContents<'_>) -> Result<Path> {
        if let Some(changed) = self.take_changed() {
            return changed?.ok_or(Errno::ENOENT);
        }
        let mut walk = Walk::new(self, start, name, Takes::Parent);
        walk.begin()?;
        let last = walk.walk_to_last()?;
        let Last::Name(component) = last else { return Err(Errno::EEXIST) };
        let name = walk.name(component);
        let (directory, hash) = (walk.dentry(), component.hash);
        let _locks = self.locks(directory);
        self.hold(directory, None)?;
        let mut children = directory.lock();
        match directory.lookup_locked(self.caller, &mut children, hash, name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) if directory.inode().takes_names() => {}
            Err(errno) => return Err(errno),
        }
        // "new/" may only become a directory.
        if walk.trailing_slash() && contents.kind() != FileKind::Directory {
            return Err(Errno::ENOENT);
        }
        walk.mount().check_writable()?;
        may_add(directory, &children, self.credentials)?;
        // Character device 0:0 is a whiteout, which anybody makes: there is nothing behind it.
        let device = match contents {
            NewContents::CharacterDevice(number) => number.encode() != 0,
            NewContents::BlockDevice(_) => true,
            _ => false,
        };
        if device && !self.credentials.has(Capabilities::MKNOD) {
            return Err(Errno::EPERM);
        }
        let new = self.new_inode(directory.inode().permissions(), permissions, contents);
        let dentry = self.make_locked((walk.mount(), directory), &mut children, hash, name, &new)?;
        drop(children);
        Ok(Path { mount: walk.mount().clone(), dentry })
    }

    pub(crate) fn make_locked(
        &self,
        (mount, directory): (&Arc<Mount>, &Arc<Dentry>),
        children: &mut Children,
        hash: u64,
        name: &[u8],
        new: &NewInode<'_>,
    ) -> Result<Arc<Dentry>> {
        directory.reserve(children, hash)?;
        if let Some((waiting, slow)) = directory.waiting() {
            let asking = slow.in_lookup.ask(hash, name)?;
            return Err(self.enter_later((mount, directory), asking, waiting.create(name, new)));
        }
        let inode = directory.inode().create(name, new)?;
        directory.adopt(children, hash, name, inode)
    }

    /// Owner, group and mode of a file made in a directory with these permissions.
    pub(crate) fn new_inode<'n>(
        &self,
        directory: Permissions,
        permissions: u32,
        contents: NewContents<'n>,
    ) -> NewInode<'n> {
        let mut permissions = permissions & !self.umask;
        let mut group = self.credentials.group;
        if directory.mode & raw::S_ISGID != 0 {
            group = directory.group;
            if contents.kind() == FileKind::Directory {
                permissions |= raw::S_ISGID;
            } else if permissions & (raw::S_ISGID | 0o010) == raw::S_ISGID | 0o010
                && !self.credentials.in_group(group)
                && !self.credentials.has(Capabilities::FSETID)
            {
                permissions &= !raw::S_ISGID;
            }
        }
        NewInode { permissions, user: self.credentials.user, group, contents }
    }

    /// Gives the file at `old` one more name.
    ///
    /// # Errors
    /// link(2).
    pub fn link(&self, old: &Path, start: &Path, name: &[u8]) -> Result<()> {
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        let mut walk = Walk::new(self, start, name, Takes::Parent);
        walk.begin()?;
        let last = walk.walk_to_last()?;
        let Last::Name(component) = last else { return Err(Errno::EEXIST) };
        let name = walk.name(component);
        let (directory, hash) = (walk.dentry(), component.hash);
        let _locks = self.locks(directory);
        self.hold(directory, None)?;
        let mut children = directory.lock();
        match directory.lookup_locked(self.caller, &mut children, hash, name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) if directory.inode().takes_names() && !walk.trailing_slash() => {}
            Err(errno) => return Err(errno),
        }
        walk.mount().check_writable()?;
        if !Arc::ptr_eq(&old.mount, walk.mount()) {
            return Err(Errno::EXDEV);
        }
        may_add(directory, &children, self.credentials)?;
        if old.dentry.is_directory() {
            return Err(Errno::EPERM);
        }
        directory.reserve(&mut children, hash)?;
        if let Some((waiting, slow)) = directory.waiting() {
            let asking = slow.in_lookup.ask(hash, name)?;
            let (linked, inode) = (waiting.link(name, old.inode()), old.inode().clone());
            let entered = Box::pin(async move { linked.await.map(|()| inode) });
            return Err(self.enter_later((walk.mount(), directory), asking, entered));
        }
        directory.inode().link(name, old.inode())?;
        directory.adopt(&mut children, hash, name, old.inode().clone())?;
        Ok(())
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// unlink(2).
    pub fn unlink(&self, start: &Path, name: &[u8]) -> Result<()> {
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        let mut walk = Walk::new(self, start, name, Takes::Parent);
        walk.begin()?;
        let last = walk.walk_to_last()?;
        let Last::Name(component) = last else { return Err(Errno::EISDIR) };
        walk.mount().check_writable()?;
        let name = walk.name(component);
        let (directory, hash) = (walk.dentry(), component.hash);
        let _locks = self.locks(directory);
        self.hold(directory, None)?;
        let mut children = directory.lock();
        let victim = directory.lookup_locked(self.caller, &mut children, hash, name)?;
        if walk.trailing_slash() {
            return Err(if victim.is_directory() { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        may_remove(directory, &children, &victim, Some(false), self.credentials)?;
        if victim.is_mount_point() {
            return Err(Errno::EBUSY);
        }
        if let Some((waiting, _)) = directory.waiting() {
            return Err(self.remove_later(walk.mount(), directory, victim, waiting.unlink(name)));
        }
        directory.inode().unlink(name)?;
        let removed = directory.remove_entry(&mut children, hash, name);
        victim.mark_removed();
        drop(children);
        drop((victim, removed));
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// rmdir(2).
    pub fn rmdir(&self, start: &Path, name: &[u8]) -> Result<()> {
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        let mut walk = Walk::new(self, start, name, Takes::Parent);
        walk.begin()?;
        let last = walk.walk_to_last()?;
        let component = match last {
            Last::Name(component) => component,
            Last::Dot => return Err(Errno::EINVAL),
            Last::DotDot => return Err(Errno::ENOTEMPTY),
            Last::Root => return Err(Errno::EBUSY),
        };
        walk.mount().check_writable()?;
        let name = walk.name(component);
        let (directory, hash) = (walk.dentry(), component.hash);
        let _locks = self.locks(directory);
        self.hold(directory, None)?;
        let mut children = directory.lock();
        let victim = directory.lookup_locked(self.caller, &mut children, hash, name)?;
        may_remove(directory, &children, &victim, Some(true), self.credentials)?;
        if victim.is_mount_point() {
            return Err(Errno::EBUSY);
        }
        if let Some((waiting, _)) = directory.waiting() {
            self.hold(directory, Some(&victim))?;
            return Err(self.remove_later(walk.mount(), directory, victim, waiting.rmdir(name)));
        }
        // Held over the removal, so that nobody makes something in a directory that is going.
        let mut inside = victim.lock();
        directory.inode().rmdir(name)?;
        inside.set_removed();
        drop(inside);
        let removed = directory.remove_entry(&mut children, hash, name);
        victim.mark_removed();
        drop(children);
        victim.take_apart();
        drop((victim, removed));
        Ok(())
    }

    /// Moves a name.
    ///
    /// # Errors
    /// renameat2(2).
    pub fn rename(
        &self,
        (old_start, old_name): (&Path, &[u8]),
        (new_start, new_name): (&Path, &[u8]),
        flags: RenameFlags,
    ) -> Result<()> {
        if flags.contains(RenameFlags::NO_REPLACE | RenameFlags::EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        if let Some(changed) = self.take_changed() {
            return changed.map(drop);
        }
        let mut from = Walk::new(self, old_start, old_name, Takes::Parent);
        from.begin()?;
        let old_last = from.walk_to_last()?;
        let mut to = Walk::new(self, new_start, new_name, Takes::Parent);
        to.begin()?;
        let new_last = to.walk_to_last()?;
        if !Arc::ptr_eq(from.mount(), to.mount()) {
            return Err(Errno::EXDEV);
        }
        let Last::Name(old_component) = old_last else { return Err(Errno::EBUSY) };
        let Last::Name(new_component) = new_last else {
            return Err(if flags.contains(RenameFlags::NO_REPLACE) { Errno::EEXIST } else { Errno::EBUSY });
        };
        from.mount().check_writable()?;
        let super_block = from.mount().super_block().clone();
        let _locks = self.locks(from.dentry());
        self.hold_two(&super_block, from.dentry(), to.dentry(), None)?;
        let shape = super_block.rename.write();
        let old = Name { text: from.name(old_component), hash: old_component.hash, slash: from.trailing_slash() };
        let new = Name { text: to.name(new_component), hash: new_component.hash, slash: to.trailing_slash() };
        let gone = self.rename_locked(from.mount(), (from.dentry(), old), (to.dentry(), new), flags);
        // The replaced file may be large: it goes outside the lock.
        drop(shape);
        if let Some(replaced) = gone? {
            replaced.take_apart();
        }
        Ok(())
    }

    /// The renaming itself, under the rename lock. Returns what was replaced.
    fn rename_locked(
        &self,
        mount: &Arc<Mount>,
        (from, old): (&Arc<Dentry>, Name<'_>),
        (to, new): (&Arc<Dentry>, Name<'_>),
        flags: RenameFlags,
    ) -> Result<Option<Arc<Dentry>>> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let (old_hash, new_hash) = (old.hash, new.hash);
        let mut locked = BothLocked::lock(from, to);
        let moved = from.lookup_locked(self.caller, locked.from(), old_hash, old.text)?;
        let target = match to.lookup_locked(self.caller, locked.to(), new_hash, new.text) {
            Ok(_) if flags.contains(RenameFlags::NO_REPLACE) => return Err(Errno::EEXIST),
            Ok(target) => Some(target),
            Err(Errno::ENOENT) if !exchange && to.inode().takes_names() => None,
            Err(errno) => return Err(errno),
        };
        if exchange && new.slash && target.as_ref().is_some_and(|target| !target.is_directory()) {
            return Err(Errno::ENOTDIR);
        }
        if !moved.is_directory() && (old.slash || (!exchange && new.slash)) {
            return Err(Errno::ENOTDIR);
        }
        if to.is_within(&moved) {
            return Err(Errno::EINVAL);
        }
        if target.as_ref().is_some_and(|target| from.is_within(target)) {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if target.as_ref().is_some_and(|target| Arc::ptr_eq(target.inode(), moved.inode())) {
            return Ok(None);
        }
        may_remove(from, locked.from(), &moved, None, self.credentials)?;
        match &target {
            Some(target) => {
                let wanted = if exchange { None } else { Some(moved.is_directory()) };
                may_remove(to, locked.to(), target, wanted, self.credentials)?;
            }
            None => may_add(to, locked.to(), self.credentials)?,
        }
        // A directory that changes parents has its ".." changed.
        if !Arc::ptr_eq(from, to) {
            let changed = [Some(&moved), target.as_ref().filter(|_| exchange)];
            for directory in changed.into_iter().flatten().filter(|dentry| dentry.is_directory()) {
                self.credentials.check(directory.inode().permissions(), Access::WRITE)?;
            }
        }
        if moved.is_mount_point() || target.as_ref().is_some_and(|target| target.is_mount_point()) {
            return Err(Errno::EBUSY);
        }
        let (old_place, new_place) = (Place::new(from, old.text)?, Place::new(to, new.text)?);
        to.reserve(locked.to(), new_hash)?;
        if exchange {
            from.reserve(locked.from(), old_hash)?;
        }
        let moving = Moving { moved, target, exchange, old: (old_hash, old_place), new: (new_hash, new_place) };
        if let (Some((waiting, _)), Some((_, slow))) = (from.waiting(), to.waiting()) {
            self.hold_two(mount.super_block(), from, to, moving.replaced_directory())?;
            let asking = if moving.target.is_none() { Some(slow.in_lookup.ask(new_hash, new.text)?) } else { None };
            let renamed = waiting.rename(old.text, to.inode(), new.text, flags);
            return Err(self.move_later(mount, (from, to), moving, asking, renamed));
        }
        let inside = moving.replaced_directory().map(|target| target.lock());
        from.inode().rename(old.text, to.inode(), new.text, flags)?;
        mark_removed(inside);
        Ok(moving.finish((from, to), locked))
    }
}

/// A renaming as the cache makes it.
struct Moving {
    moved: Arc<Dentry>,
    target: Option<Arc<Dentry>>,
    exchange: bool,
    /// Hashes and places of the two names.
    old: (u64, Arc<Place>),
    new: (u64, Arc<Place>),
}

impl Moving {
    /// The directory that goes, in which nobody makes anything meanwhile.
    fn replaced_directory(&self) -> Option<&Arc<Dentry>> {
        self.target.as_ref().filter(|target| target.is_directory() && !self.exchange)
    }

    /// Does in the cache what the file system has done. Returns what was replaced.
    fn finish(self, (from, to): (&Arc<Dentry>, &Arc<Dentry>), mut locked: BothLocked<'_>) -> Option<Arc<Dentry>> {
        let Moving { moved, target, exchange, old: (old_hash, old_place), new: (new_hash, new_place) } = self;
        let left = from.remove_entry(locked.from(), old_hash, old_place.name());
        let replaced = to.remove_entry(locked.to(), new_hash, new_place.name());
        let old_places = match &target {
            Some(target) if exchange => {
                let other = target.move_to(from, locked.from(), old_hash, old_place);
                [moved.move_to(to, locked.to(), new_hash, new_place), other]
            }
            _ => [moved.move_to(to, locked.to(), new_hash, new_place), None],
        };
        let target = target.filter(|_| !exchange);
        if let Some(target) = &target {
            target.mark_removed();
        }
        drop(locked);
        drop((left, replaced, old_places));
        target
    }
}

/// A directory that was held over its removal can take no names any more.
fn mark_removed(inside: Option<SpinGuard<'_, Children>>) {
    if let Some(mut inside) = inside {
        inside.set_removed();
    }
}

/// Changes that wait for their file system ([`crate::changing`]).
impl Context<'_> {
    /// The call waits for a change. The change keeps the locks the call holds, and its mount.
    pub(crate) fn wait_for_change(
        &self,
        mount: &Arc<Mount>,
        change: impl Future<Output = Changed> + Send + 'static,
    ) -> Errno {
        let Some(walks) = self.caller.paused_walks() else { return Errno::EAGAIN };
        let kept = (walks.take_held(), mount.clone());
        let change = async move {
            let changed = change.await;
            drop(kept);
            changed
        };
        match Change::new(&self.caller.vfs().unfinished_changes, change) {
            Ok(change) => walks.wait_for(Wait::Change(change), None),
            Err(errno) => errno,
        }
    }

    /// Enters what the file system will have made under a name.
    fn enter_later(
        &self,
        (mount, directory): (&Arc<Mount>, &Arc<Dentry>),
        asking: Asking<Found>,
        entered: Pending<Arc<dyn Inode>>,
    ) -> Errno {
        let (at, directory) = (mount.clone(), directory.clone());
        self.wait_for_change(mount, async move {
            let inode = entered.await?;
            let (hash, name) = asking.name();
            let dentry = directory.adopt(&mut directory.lock(), hash, name, inode)?;
            drop(asking);
            Ok(Some(Path { mount: at, dentry }))
        })
    }

    /// Takes out a name that the file system will have removed.
    fn remove_later(
        &self,
        mount: &Arc<Mount>,
        directory: &Arc<Dentry>,
        victim: Arc<Dentry>,
        removed: Pending<()>,
    ) -> Errno {
        let directory = directory.clone();
        self.wait_for_change(mount, async move {
            removed.await?;
            let name = victim.name();
            let mut children = directory.lock();
            if victim.is_directory() {
                mark_removed(Some(victim.lock()));
            }
            let entry = directory.remove_entry(&mut children, directory.hash(&name), &name);
            victim.mark_removed();
            drop(children);
            drop(entry);
            victim.take_apart();
            Ok(None)
        })
    }

    /// Moves what the file system will have moved. `asking`: nobody looks the new name up meanwhile.
    fn move_later(
        &self,
        mount: &Arc<Mount>,
        (from, to): (&Arc<Dentry>, &Arc<Dentry>),
        moving: Moving,
        asking: Option<Asking<Found>>,
        renamed: Pending<()>,
    ) -> Errno {
        let (from, to, super_block) = (from.clone(), to.clone(), mount.super_block().clone());
        self.wait_for_change(mount, async move {
            renamed.await?;
            let shape = super_block.rename.write();
            let locked = BothLocked::lock(&from, &to);
            mark_removed(moving.replaced_directory().map(|target| target.lock()));
            let replaced = moving.finish((&from, &to), locked);
            drop(shape);
            drop(asking);
            if let Some(replaced) = replaced {
                replaced.take_apart();
            }
            Ok(None)
        })
    }
}

/// A last component, and whether a slash followed.
#[derive(Clone, Copy)]
struct Name<'a> {
    text: &'a [u8],
    hash: u64,
    slash: bool,
}

/// The locks of the one or two directories a rename changes: an ancestor before its descendant, and otherwise by
/// address, which nobody else does with two at a time (see the page of `dentry`).
enum BothLocked<'a> {
    Same(SpinGuard<'a, Children>),
    Apart { from: SpinGuard<'a, Children>, to: SpinGuard<'a, Children> },
}

impl<'a> BothLocked<'a> {
    fn lock(from: &'a Arc<Dentry>, to: &'a Arc<Dentry>) -> BothLocked<'a> {
        if Arc::ptr_eq(from, to) {
            return BothLocked::Same(from.lock());
        }
        if Arc::ptr_eq(in_order(from, to).0, from) {
            let from = from.lock();
            BothLocked::Apart { from, to: to.lock() }
        } else {
            let to = to.lock();
            BothLocked::Apart { from: from.lock(), to }
        }
    }

    fn from(&mut self) -> &mut Children {
        match self {
            BothLocked::Same(both) => both,
            BothLocked::Apart { from, .. } => from,
        }
    }

    fn to(&mut self) -> &mut Children {
        match self {
            BothLocked::Same(both) => both,
            BothLocked::Apart { to, .. } => to,
        }
    }
}

/// Two directories in the order in which they are locked. Whoever asks holds the rename lock.
pub(crate) fn in_order<'a>(one: &'a Arc<Dentry>, other: &'a Arc<Dentry>) -> (&'a Arc<Dentry>, &'a Arc<Dentry>) {
    let by_address = Arc::as_ptr(one) < Arc::as_ptr(other);
    if other.is_within(one) || (by_address && !one.is_within(other)) { (one, other) } else { (other, one) }
}

/// Whether a name may be added to a directory.
pub(crate) fn may_add(directory: &Dentry, children: &Children, credentials: &Credentials) -> Result<()> {
    if children.is_removed() {
        return Err(Errno::ENOENT);
    }
    credentials.check(directory.inode().permissions(), Access::WRITE | Access::EXECUTE)
}

/// Whether a name may be taken out of a directory, and is a directory itself if `wanted` says so, or is none.
fn may_remove(
    directory: &Dentry,
    children: &Children,
    victim: &Dentry,
    wanted: Option<bool>,
    credentials: &Credentials,
) -> Result<()> {
    let permissions = directory.inode().permissions();
    credentials.check(permissions, Access::WRITE | Access::EXECUTE)?;
    if permissions.mode & raw::S_ISVTX != 0 && is_protected(victim.inode(), permissions, credentials) {
        return Err(Errno::EPERM);
    }
    match wanted {
        Some(true) if !victim.is_directory() => return Err(Errno::ENOTDIR),
        Some(false) if victim.is_directory() => return Err(Errno::EISDIR),
        _ => {}
    }
    if children.is_removed() { Err(Errno::ENOENT) } else { Ok(()) }
}

/// In a sticky directory, only the owner of the file, the owner of the directory, and who may act as them remove names.
fn is_protected(victim: &Arc<dyn Inode>, directory: Permissions, credentials: &Credentials) -> bool {
    credentials.user != victim.permissions().user
        && credentials.user != directory.user
        && !credentials.has(Capabilities::FOWNER)
}
