//! Directories whose file system may have to wait for a name: for a disk, or for a machine elsewhere.
//!
//! A file system in memory implements the operations of [`Inode`] and answers at once. One that lies elsewhere implements
//! [`WaitingDirectory`] for its directories: a lookup answers at once if it can, and whatever cannot be had at once is a [`Pending`], a boxed
//! future that asks for it. Nothing happens before it is polled, so one that is dropped unpolled has changed nothing.
//!
//! vfs keeps two promises. Of one name it asks once at a time ([`crate::in_lookup`]); a lookup whose caller was killed is dropped, and whoever
//! waited for it asks anew. And a change is asked for under the sleeping locks of the directories it changes ([`crate::directory_locks`]), so that
//! no two changes of one directory meet; it is never dropped half way, but completed by the kernel if its caller is killed ([`crate::changing`]). Lookups of
//! other names may run beside it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;

use abi::Result;

use crate::inode::{Inode, NewInode, RenameFlags};

/// What a file system will answer.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// What a lookup comes to.
pub enum Answer<T> {
    /// It is known.
    Now(Result<T>),
    /// It has to be waited for.
    Later(Pending<T>),
}

/// The operations of a directory by name, of a file system that may have to wait. Each is the counterpart of [`Inode`]'s function of
/// the same name, with the same arguments, errors and promises. The arguments are borrowed for the call only: what the
/// future needs of them it owns.
pub trait WaitingDirectory: Send + Sync {
    /// See [`Inode::lookup`].
    fn lookup(&self, name: &[u8]) -> Answer<Arc<dyn Inode>>;

    /// See [`Inode::create`].
    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Pending<Arc<dyn Inode>>;

    /// See [`Inode::create_unnamed`].
    fn create_unnamed(&self, new: &NewInode<'_>) -> Pending<Arc<dyn Inode>>;

    /// See [`Inode::link`].
    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Pending<()>;

    /// See [`Inode::unlink`].
    fn unlink(&self, name: &[u8]) -> Pending<()>;

    /// See [`Inode::rmdir`].
    fn rmdir(&self, name: &[u8]) -> Pending<()>;

    /// See [`Inode::rename`].
    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], flags: RenameFlags) -> Pending<()>;
}
