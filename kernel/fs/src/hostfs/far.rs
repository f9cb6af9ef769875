//! Names and files that are not of this host's own disks: another machine's, or a program's. What concerns them may take any time, so
//! helpers ask for it ([`super::calls`]), and whoever wants it waits asleep.
//!
//! A name is looked up anew at each walk, and what a file looks like is what was seen then; stat(2) of an open file has it looked at.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fallible::try_to_vec;
use abi::{Errno, Result};
use machine::folder::{Answer as Said, Node, NodeRequest, Opened, Room, Status};
use vfs::{
    Answer, File, FileKind, Inode, NewInode, OpenFlags, Pending, RenameFlags, SetAttributes, WaitingDirectory,
    XattrFlags,
};

use super::calls::unexpected;
use super::directory::HostDirectory;
use super::file::HostFile;
use super::inode::{Contents, HostInode, as_change, must_be, new_node, ownership, rename_as, shown_xattrs};

impl HostInode {
    async fn ask(&self, request: NodeRequest) -> Result<Said> {
        self.calls().make_by_name(self.node(), request, None).await
    }

    /// Asks for a call that a helper makes of this directory, and then does what `then` says.
    fn change<T: Send + 'static>(
        &self,
        request: Result<NodeRequest>,
        then: impl FnOnce(&Arc<HostInode>, Said) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let own = self.own();
        Box::pin(async move {
            let own = own?;
            let said = own.ask(request?).await?;
            then(&own, said)
        })
    }

    /// The inode of what was found, which is `node` if it is new.
    fn found(&self, status: &Status, link: Option<Vec<u8>>, node: impl FnOnce() -> Node) -> Arc<HostInode> {
        let inode = self.shared.inode(status, node);
        inode.note_far(status, link);
        inode
    }

    /// The inode of what was just made, which waits for its maker to open it.
    fn made(&self, made: Opened, node: impl FnOnce(&Status) -> Node) -> Arc<dyn Inode> {
        let status = *made.status();
        let inode = self.found(&status, None, || node(&status));
        self.shared.keep_fresh(inode.node().take_opened(made));
        inode
    }

    /// See [`Inode::open_elsewhere`].
    pub(super) fn open_far(&self, flags: OpenFlags) -> Option<Pending<Arc<dyn File>>> {
        if !self.is_far() || self.shared.has_fresh(&self.node().identity()) {
            return None;
        }
        match self.kind {
            FileKind::Regular | FileKind::Directory => {
                let own = self.own();
                Some(Box::pin(async move { own?.open_later(flags).await }))
            }
            _ => None,
        }
    }

    async fn open_later(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        let (read, write) = (flags.readable(), flags.writable());
        let Contents::Regular(contents) = &self.contents else {
            let Said::Opened(opened) = self.ask(NodeRequest::Open { read: true, write: false }).await? else {
                return unexpected();
            };
            let open = self.node().take_opened(opened);
            return Ok(Arc::new(HostDirectory::new(self, open)));
        };
        let contents = contents.clone();
        let open = match contents.open_already(read, write) {
            Some(open) => {
                if let Ok(Said::Found(status, _)) = self.ask(NodeRequest::Status).await {
                    self.note_far(&status, None);
                    contents.refresh(Some(status));
                }
                open
            }
            None => {
                let Said::Opened(opened) = self.ask(NodeRequest::Open { read, write }).await? else {
                    return unexpected();
                };
                let status = *opened.status();
                self.note_far(&status, None);
                contents.take_opened(read, write, &status, || self.node().take_opened(opened))?
            }
        };
        Ok(Arc::new(HostFile::new(self, contents, open, flags)))
    }

    /// See [`Inode::look_again`].
    pub(super) fn look_far(&self) -> Option<Pending<()>> {
        if !self.is_far() {
            return None;
        }
        let own = self.own();
        Some(Box::pin(async move {
            let own = own?;
            match own.ask(NodeRequest::Status).await {
                Ok(Said::Found(status, _)) => own.note_far(&status, None),
                _ => own.note_gone(),
            }
            Ok(())
        }))
    }

    /// See [`Inode::set_attributes_elsewhere`].
    pub(super) async fn change_later(&self, changes: SetAttributes) -> Result<()> {
        let mut change = as_change(&changes);
        if let (Some(size), Contents::Regular(contents)) = (changes.size, &self.contents) {
            contents.set_size_later(self.node(), size).await?;
            change.size = None;
        }
        let Said::Found(status, _) = self.ask(NodeRequest::Change(change)).await? else { return unexpected() };
        self.note_far(&status, None);
        Ok(())
    }
}

impl HostInode {
    /// See [`Inode::xattrs_elsewhere`].
    pub(super) async fn xattrs_later(&self, name: Option<Vec<u8>>) -> Result<Vec<u8>> {
        let all = name.is_none();
        let Said::Bytes(bytes) = self.ask(name.map_or(NodeRequest::Xattrs, NodeRequest::Xattr)).await? else {
            return unexpected();
        };
        if all { shown_xattrs(&bytes) } else { Ok(bytes) }
    }

    /// See [`Inode::change_xattr_elsewhere`].
    pub(super) async fn change_xattr_later(&self, name: Vec<u8>, value: Option<(Vec<u8>, XattrFlags)>) -> Result<()> {
        let request = match value {
            Some((value, flags)) => NodeRequest::SetXattr(name, value, must_be(flags)),
            None => NodeRequest::RemoveXattr(name),
        };
        self.ask(request).await.map(drop)
    }

    /// How full the file system is in which it lies.
    pub(super) async fn room_later(&self) -> Result<Room> {
        let Said::Room(room) = self.ask(NodeRequest::Room).await? else { return unexpected() };
        Ok(room)
    }
}

impl WaitingDirectory for HostInode {
    fn lookup(&self, name: &[u8]) -> Answer<Arc<dyn Inode>> {
        if self.kind != FileKind::Directory {
            return Answer::Now(Err(Errno::ENOTDIR));
        }
        let (own, name) = (self.own(), try_to_vec(name));
        Answer::Later(Box::pin(async move {
            let (own, name) = (own?, name?);
            let Said::Found(status, link) = own.ask(NodeRequest::Look(try_to_vec(&name)?)).await? else {
                return unexpected();
            };
            let inode = own.found(&status, link, || own.node().entry(&name, &status));
            inode.node().seen_at(own.node(), &name);
            Ok(inode as Arc<dyn Inode>)
        }))
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Pending<Arc<dyn Inode>> {
        let owner = ownership(new);
        let request = |name| {
            Ok(match new_node(new)? {
                None => NodeRequest::Create(name, owner),
                Some(contents) => NodeRequest::Make(name, contents, owner),
            })
        };
        let request = try_to_vec(name).and_then(request);
        let own = self.own();
        let name = try_to_vec(name);
        Box::pin(async move {
            let (own, name, request) = (own?, name?, request?);
            match own.ask(request).await? {
                Said::Opened(made) => Ok(own.made(made, |status| own.node().entry(&name, status))),
                Said::Found(status, link) => {
                    Ok(own.found(&status, link, || own.node().entry(&name, &status)) as Arc<dyn Inode>)
                }
                _ => unexpected(),
            }
        })
    }

    fn create_unnamed(&self, new: &NewInode<'_>) -> Pending<Arc<dyn Inode>> {
        self.change(Ok(NodeRequest::CreateUnnamed(ownership(new))), |own, said| match said {
            Said::Opened(made) => Ok(own.made(made, |status| own.node().unnamed(status))),
            _ => unexpected(),
        })
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Pending<()> {
        let target = HostInode::same_kind_of(target);
        let request = try_to_vec(name).and_then(|name| Ok(NodeRequest::Link(name, target?.node().clone())));
        self.change(request, |_, _| Ok(()))
    }

    fn unlink(&self, name: &[u8]) -> Pending<()> {
        self.change(try_to_vec(name).map(NodeRequest::Unlink), |_, _| Ok(()))
    }

    fn rmdir(&self, name: &[u8]) -> Pending<()> {
        let (own, name) = (self.own(), try_to_vec(name));
        Box::pin(async move {
            let (own, name) = (own?, name?);
            // It may be somebody's working directory: then it can still be looked at, empty as it is.
            let used = match own.ask(NodeRequest::Look(try_to_vec(&name)?)).await? {
                Said::Found(status, _) => own.shared.known(&status.identity),
                _ => None,
            };
            if let Some(used) = &used
                && let Ok(Said::Held(held)) = used.ask(NodeRequest::Hold).await
            {
                used.node().take_held(held);
            }
            own.ask(NodeRequest::Rmdir(name)).await?;
            used.iter().for_each(|used| used.note_gone());
            Ok(())
        })
    }

    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], flags: RenameFlags) -> Pending<()> {
        let to = HostInode::same_kind_of(new_directory);
        let request = try_to_vec(name).and_then(|name| {
            Ok(NodeRequest::Rename(name, to?.node().clone(), try_to_vec(new_name)?, rename_as(flags)))
        });
        self.change(request, |_, _| Ok(()))
    }
}
