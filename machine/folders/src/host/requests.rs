//! What helpers are asked for ([`super::helpers`]).
//!
//! A node is handed over [detached](Node::detached): as a chain of nodes of its own, from the nearest directory that is open, whose names
//! are looked up again by the helper. So finding the file is the helper's work as well, and nothing of the kernel's passes.

use super::descriptors::Permit;
use super::node::Node;
use super::opened::{self, OpenNode};
use crate::{Answer, NodeRequest, Result, Status, Ticket};
use std::os::fd::OwnedFd;

/// What a helper does.
pub enum Task {
    /// A call on an open file.
    Open(OwnedFd, crate::Request),
    /// A call by name.
    Node(Node, NodeRequest),
    /// It is closed.
    Close(OwnedFd),
}

/// A file that a helper has opened. Nobody has it open yet.
#[derive(Debug)]
pub struct Opened {
    pub(super) file: OwnedFd,
    pub(super) permit: Permit,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) status: Status,
}

/// A descriptor to find a file by that is about to lose its name.
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Opened {
    /// How it looked when it was opened.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

impl Task {
    /// Does it. Its files are closed then.
    pub fn run(self) -> Result<Answer> {
        match self {
            Task::Open(file, request) => opened::answer(&file, &request),
            Task::Node(node, request) => answer(&node, request),
            Task::Close(file) => {
                drop(file);
                Ok(Answer::Done)
            }
        }
    }
}

impl Node {
    /// Has a helper make a call by name; the answer will be found by [`SharedFolder::take_answer`](crate::SharedFolder::take_answer) under
    /// `ticket`. False if there is no helper.
    ///
    /// # Errors
    /// `ESTALE`, `ENFILE`.
    pub fn ask(&self, ticket: Ticket, request: &NodeRequest) -> Result<bool> {
        self.helpers().ask(ticket, || {
            let request = match request {
                NodeRequest::Link(name, target) => NodeRequest::Link(name.clone(), target.detached()?),
                NodeRequest::Rename(name, to, new_name, how) => {
                    NodeRequest::Rename(name.clone(), to.detached()?, new_name.clone(), *how)
                }
                request => request.clone(),
            };
            Ok(Task::Node(self.detached()?, request))
        })
    }

    /// Makes the call that a helper was not there for.
    ///
    /// # Errors
    /// Those of the function.
    pub fn answer(&self, request: NodeRequest) -> Result<Answer> {
        answer(self, request)
    }

    /// Keeps what a helper holds, as [`Node::hold`] does.
    pub fn take_held(&self, held: Held) {
        self.0.keep(held.0);
    }

    /// Takes what was opened as an open node of this file.
    pub fn take_opened(&self, opened: Opened) -> OpenNode {
        self.adopt(opened.file, opened.readable, opened.writable, opened.permit)
    }
}

fn answer(node: &Node, request: NodeRequest) -> Result<Answer> {
    match request {
        NodeRequest::Status => node.status().map(|status| Answer::Found(status, None)),
        NodeRequest::Look(name) => found(node, &name, node.look(&name)?),
        NodeRequest::Open { read, write } => node.open_only(read, write).map(Answer::Opened),
        NodeRequest::Create(name, owner) => node.create_only(&name, &owner).map(Answer::Opened),
        NodeRequest::CreateUnnamed(owner) => node.create_unnamed_only(&owner).map(Answer::Opened),
        NodeRequest::Make(name, contents, owner) => found(node, &name, node.make(&name, contents, &owner)?),
        NodeRequest::Change(change) => {
            node.change(&change)?;
            node.status().map(|status| Answer::Found(status, None))
        }
        NodeRequest::Link(name, target) => node.link(&name, &target).map(|()| Answer::Done),
        NodeRequest::Unlink(name) => node.unlink(&name).map(|()| Answer::Done),
        NodeRequest::Rmdir(name) => node.rmdir(&name).map(|()| Answer::Done),
        NodeRequest::Rename(name, to, new_name, how) => node.rename(&name, &to, &new_name, how).map(|()| Answer::Done),
        NodeRequest::Hold => Ok(Answer::Held(Held(node.0.descriptor()?.try_clone().map_err(|_| super::ENFILE)?))),
        NodeRequest::SynchroniseAll => node.open(true, false)?.synchronise_all().map(|()| Answer::Done),
        NodeRequest::Xattr(name) => node.xattr(&name).map(Answer::Bytes),
        NodeRequest::Xattrs => node.xattrs().map(Answer::Bytes),
        NodeRequest::SetXattr(name, value, must_be) => node.set_xattr(&name, &value, must_be).map(|()| Answer::Done),
        NodeRequest::RemoveXattr(name) => node.remove_xattr(&name).map(|()| Answer::Done),
        NodeRequest::Room => node.room().map(Answer::Room),
    }
}

/// What was found under `name`. What a link leads to never changes, and is told at once.
fn found(node: &Node, name: &[u8], status: Status) -> Result<Answer> {
    let link = node.entry(name, &status).read_link().ok();
    Ok(Answer::Found(status, link))
}
