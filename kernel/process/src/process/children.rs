//! The children of a process, the oldest first: those that live, and those that have ended and are not collected yet.
//!
//! Two lists that are linked through the children, so that nothing about them takes memory: an end can't fail. Who is whose child
//! changes only under the lock around this. A child is in the list of those that ended if it is a zombie, which changes under
//! that lock, too.

use alloc::sync::Arc;

use crate::Process;

/// The neighbours of a child in its list.
#[derive(Default)]
pub struct Siblings {
    previous: Option<Arc<Process>>,
    next: Option<Arc<Process>>,
}

/// See the module's page.
#[derive(Default)]
pub struct Children {
    living: List,
    ended: List,
    /// The process is over and takes no more.
    closed: bool,
}

impl Children {
    /// Takes a child, as the youngest.
    pub fn insert(&mut self, child: Arc<Process>) {
        self.list_of(&child).push(child);
    }

    /// Takes out a child, which is one of these.
    fn remove(&mut self, child: &Process) {
        self.list_of(child).remove(child);
    }

    /// Takes out a child that ended: it is nobody's from now on.
    pub fn collect(&mut self, zombie: &Process) {
        self.remove(zombie);
        zombie.set_parent(None);
    }

    /// A child is a zombie from now on.
    pub fn end(&mut self, child: &Arc<Process>) {
        self.living.remove(child);
        child.become_zombie();
        self.ended.push(child.clone());
    }

    /// Takes out the oldest that lives, or else that ended.
    pub fn pop(&mut self) -> Option<Arc<Process>> {
        let child = self.living.first.clone().or_else(|| self.ended.first.clone())?;
        self.remove(&child);
        Some(child)
    }

    /// Those that ended and are not collected.
    pub fn ended(&self) -> impl Iterator<Item = Arc<Process>> {
        self.ended.iter()
    }

    pub fn living(&self) -> impl Iterator<Item = Arc<Process>> {
        self.living.iter()
    }

    /// The process is over: if it has no children any more it gets none, and this is true.
    pub fn close(&mut self) -> bool {
        self.closed = self.living.first.is_none() && self.ended.first.is_none();
        self.closed
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn list_of(&mut self, child: &Process) -> &mut List {
        if child.is_zombie() { &mut self.ended } else { &mut self.living }
    }
}

#[derive(Default)]
struct List {
    first: Option<Arc<Process>>,
    last: Option<Arc<Process>>,
}

impl List {
    fn push(&mut self, child: Arc<Process>) {
        match self.last.replace(child.clone()) {
            None => self.first = Some(child),
            Some(last) => {
                last.siblings().lock().next = Some(child.clone());
                child.siblings().lock().previous = Some(last);
            }
        }
    }

    fn remove(&mut self, child: &Process) {
        let Siblings { previous, next } = core::mem::take(&mut *child.siblings().lock());
        match &previous {
            None => self.first = next.clone(),
            Some(previous) => previous.siblings().lock().next = next.clone(),
        }
        match &next {
            None => self.last = previous,
            Some(next) => next.siblings().lock().previous = previous,
        }
    }

    fn iter(&self) -> impl Iterator<Item = Arc<Process>> {
        core::iter::successors(self.first.clone(), |child| child.siblings().lock().next.clone())
    }
}
