//! A file system in whose place another one stands, and that takes its time for each name: a lookup, and each change of a directory, waits
//! for its turn in a [`SlowQueue`], where some fail. Whatever works on it works where names lie on a disk.
//!
//! Each file of the other is known here under one [`SlowInode`], however many names it has.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use abi::fallible::try_to_vec;
use abi::{Errno, Result};
use memory::{Flusher, Memory, Pager, PagerError, SlowQueue};
use sync::{Mutex, SpinLock};
use vfs::{
    Answer, Attributes, Caller, DeviceNumber, File, FileLocks, FileSystem, Inode, Link, NewContents, NewInode,
    OpenRequest, Pending, Permissions, Pipe, RenameFlags, SetAttributes, Statistics, WaitingDirectory, WriteDenial,
    XattrFlags,
};

/// See the module's page.
pub struct SlowNames {
    inner: Arc<dyn FileSystem>,
    root: Arc<SlowInode>,
}

/// What all files of one file system share.
struct Tree {
    queue: Arc<SlowQueue>,
    /// Names are waited for.
    begun: AtomicBool,
    /// The files by the addresses of those they stand for.
    known: SpinLock<BTreeMap<usize, Weak<SlowInode>>>,
    lookups: AtomicUsize,
    collisions: AtomicUsize,
}

impl SlowNames {
    /// Stands for `inner`, at first as fast. After [`SlowNames::begin`] each name waits for its turn in `queue`.
    pub fn over(inner: Arc<dyn FileSystem>, queue: &Arc<SlowQueue>) -> Arc<SlowNames> {
        let tree = Arc::new(Tree {
            queue: queue.clone(),
            begun: AtomicBool::new(false),
            known: SpinLock::default(),
            lookups: AtomicUsize::new(0),
            collisions: AtomicUsize::new(0),
        });
        let root = tree.stand_for(inner.root());
        Arc::new(SlowNames { inner, root })
    }

    /// From now on names are waited for. Nobody is doing anything by name.
    pub fn begin(&self) {
        self.root.tree.begun.store(true, Ordering::Relaxed);
    }

    /// How many lookups it was asked for.
    pub fn lookups(&self) -> usize {
        self.root.tree.lookups.load(Ordering::Relaxed)
    }

    /// How often two changes of one directory met: never.
    pub fn collisions(&self) -> usize {
        self.root.tree.collisions.load(Ordering::Relaxed)
    }
}

impl FileSystem for SlowNames {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn statistics(&self) -> Statistics {
        self.inner.statistics()
    }

    fn options(&self, text: &mut dyn fmt::Write) -> fmt::Result {
        self.inner.options(text)
    }

    fn remount(&self, options: &str) -> Result<()> {
        self.inner.remount(options)
    }

    fn flusher(&self) -> Option<&Arc<Flusher>> {
        self.inner.flusher()
    }

    fn synchronise(&self) -> Pending<()> {
        self.inner.synchronise()
    }

    fn memory(&self) -> Option<&Arc<Memory>> {
        self.inner.memory()
    }

    fn dismantle_some(&self) -> bool {
        self.inner.dismantle_some()
    }
}

impl Tree {
    /// What stands for a file.
    fn stand_for(self: &Arc<Tree>, inner: Arc<dyn Inode>) -> Arc<SlowInode> {
        let mut known = self.known.lock();
        let address = address(&inner);
        if let Some(there) = known.get(&address).and_then(Weak::upgrade) {
            return there;
        }
        let changing = AtomicBool::new(false);
        let new = Arc::new(SlowInode { inner, tree: self.clone(), changing });
        known.insert(address, Arc::downgrade(&new));
        new
    }

    async fn turn(&self) -> Result<()> {
        self.queue.turn().await.map_err(PagerError::errno)
    }
}

fn address(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).cast::<()>() as usize
}

/// A file.
struct SlowInode {
    inner: Arc<dyn Inode>,
    tree: Arc<Tree>,
    /// A change of this directory is under way.
    changing: AtomicBool,
}

impl Drop for SlowInode {
    fn drop(&mut self) {
        let mut known = self.tree.known.lock();
        let address = address(&self.inner);
        if known.get(&address).is_some_and(|there| there.strong_count() == 0) {
            known.remove(&address);
        }
    }
}

/// A change of a directory, as long as it is under way.
struct UnderWay(Arc<SlowInode>);

impl UnderWay {
    fn begin(directory: &Arc<SlowInode>) -> UnderWay {
        if directory.changing.swap(true, Ordering::Relaxed) {
            directory.tree.collisions.fetch_add(1, Ordering::Relaxed);
        }
        UnderWay(directory.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.changing.store(false, Ordering::Relaxed);
    }
}

impl SlowInode {
    /// What stands for this file: itself.
    fn own(&self) -> Arc<SlowInode> {
        self.tree.stand_for(self.inner.clone())
    }

    /// Waits for its turn, and then does what `change` says with the file that this directory stands for.
    fn change<T: 'static>(
        &self,
        change: impl FnOnce(&Arc<SlowInode>, &Arc<dyn Inode>) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let own = self.own();
        Box::pin(async move {
            let _under_way = UnderWay::begin(&own);
            own.tree.turn().await?;
            change(&own, &own.inner)
        })
    }

    /// The file that another stands for.
    fn behind(inode: &Arc<dyn Inode>) -> Result<Arc<dyn Inode>> {
        let any: Arc<dyn Any + Send + Sync> = inode.clone();
        let slow: Arc<SlowInode> = any.downcast().map_err(|_| Errno::EXDEV)?;
        Ok(slow.inner.clone())
    }
}

/// A new file, kept until its turn comes.
struct Kept {
    new: NewInode<'static>,
    link: Option<Vec<u8>>,
}

impl Kept {
    fn new(new: &NewInode<'_>) -> Result<Kept> {
        let NewInode { permissions, user, group, contents } = *new;
        let (contents, link) = match contents {
            NewContents::Symlink(text) => (NewContents::Regular, Some(try_to_vec(text)?)),
            NewContents::Regular => (NewContents::Regular, None),
            NewContents::Directory => (NewContents::Directory, None),
            NewContents::Fifo => (NewContents::Fifo, None),
            NewContents::Socket => (NewContents::Socket, None),
            NewContents::CharacterDevice(number) => (NewContents::CharacterDevice(number), None),
            NewContents::BlockDevice(number) => (NewContents::BlockDevice(number), None),
        };
        Ok(Kept { new: NewInode { permissions, user, group, contents }, link })
    }

    fn get(&self) -> NewInode<'_> {
        let contents = self.link.as_deref().map_or(self.new.contents, NewContents::Symlink);
        NewInode { contents, ..self.new }
    }
}

impl WaitingDirectory for SlowInode {
    fn lookup(&self, name: &[u8]) -> Answer<Arc<dyn Inode>> {
        let (own, name) = (self.own(), try_to_vec(name));
        Answer::Later(Box::pin(async move {
            own.tree.lookups.fetch_add(1, Ordering::Relaxed);
            own.tree.turn().await?;
            let found: Arc<dyn Inode> = own.tree.stand_for(own.inner.lookup(&name?)?);
            Ok(found)
        }))
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Pending<Arc<dyn Inode>> {
        let (name, new) = (try_to_vec(name), Kept::new(new));
        self.change(move |own, inner| Ok(own.tree.stand_for(inner.create(&name?, &new?.get())?) as Arc<dyn Inode>))
    }

    fn create_unnamed(&self, new: &NewInode<'_>) -> Pending<Arc<dyn Inode>> {
        let (own, new) = (self.own(), Kept::new(new));
        Box::pin(async move {
            own.tree.turn().await?;
            let made: Arc<dyn Inode> = own.tree.stand_for(own.inner.create_unnamed(&new?.get())?);
            Ok(made)
        })
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Pending<()> {
        let (name, target) = (try_to_vec(name), SlowInode::behind(target));
        self.change(move |_, inner| inner.link(&name?, &target?))
    }

    fn unlink(&self, name: &[u8]) -> Pending<()> {
        let name = try_to_vec(name);
        self.change(move |_, inner| inner.unlink(&name?))
    }

    fn rmdir(&self, name: &[u8]) -> Pending<()> {
        let name = try_to_vec(name);
        self.change(move |_, inner| inner.rmdir(&name?))
    }

    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], flags: RenameFlags) -> Pending<()> {
        let (name, new_name) = (try_to_vec(name), try_to_vec(new_name));
        let target = SlowInode::behind(new_directory).map(|inner| self.tree.stand_for(inner));
        self.change(move |own, inner| {
            let target = target?;
            let _under_way = (!Arc::ptr_eq(own, &target)).then(|| UnderWay::begin(&target));
            inner.rename(&name?, &target.inner, &new_name?, flags)
        })
    }
}

impl Inode for SlowInode {
    fn attributes(&self) -> Attributes {
        self.inner.attributes()
    }

    fn permissions(&self) -> Permissions {
        self.inner.permissions()
    }

    fn number(&self) -> u64 {
        self.inner.number()
    }

    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        self.inner.clone().open(request)
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<()> {
        self.inner.set_attributes(changes)
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn waiting(&self) -> Option<&dyn WaitingDirectory> {
        self.tree.begun.load(Ordering::Relaxed).then_some(self as &dyn WaitingDirectory)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.tree.stand_for(self.inner.lookup(name)?))
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.tree.stand_for(self.inner.create(name, new)?))
    }

    fn create_unnamed(&self, new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.tree.stand_for(self.inner.create_unnamed(new)?))
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.inner.link(name, &SlowInode::behind(target)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.inner.unlink(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.inner.rmdir(name)
    }

    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], flags: RenameFlags) -> Result<()> {
        self.inner.rename(name, &SlowInode::behind(new_directory)?, new_name, flags)
    }

    fn read_link(&self, caller: &dyn Caller) -> Result<Link> {
        self.inner.read_link(caller)
    }

    fn device(&self) -> DeviceNumber {
        self.inner.device()
    }

    fn fifo(self: Arc<Self>) -> Result<Arc<Pipe>> {
        self.inner.clone().fifo()
    }

    fn mapped(&self) -> Option<Arc<dyn Pager>> {
        self.inner.mapped()
    }

    fn write_lock(&self) -> Option<&Mutex<()>> {
        self.inner.write_lock()
    }

    fn locks(&self) -> Option<&FileLocks> {
        self.inner.locks()
    }

    fn write_denial(&self) -> Option<&WriteDenial> {
        self.inner.write_denial()
    }

    fn anonymous_name(&self) -> Result<String> {
        self.inner.anonymous_name()
    }

    fn xattr(&self, name: &[u8]) -> Result<Box<[u8]>> {
        self.inner.xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        self.inner.set_xattr(name, value, flags)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.inner.remove_xattr(name)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        self.inner.list_xattrs()
    }
}
