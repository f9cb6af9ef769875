//! The family tree: who becomes whose child, and who gets the children of a process that ends.
//!
//! **Who synchronises.** A child is linked, given away, ended and collected under the lock of its parent's children. Who is given
//! away changes under the locks of both parents', the one that ends first; heirs are always ancestors, so that is an order. A process
//! that is over closes its list once it is empty, and takes no child any more. kernel/models tries forks, ends and waits against
//! one another in every order.

use alloc::sync::Arc;

use super::Children;
use crate::Process;

/// Makes `child` a child of `parent`, if `may` agrees; nobody finds or gives away a child of that parent meanwhile. False: the
/// parent is over, and who was its child has another.
///
/// # Errors
/// That of `may`.
pub fn adopt<E>(parent: &Arc<Process>, child: &Arc<Process>, may: impl FnOnce() -> Result<(), E>) -> Result<bool, E> {
    let mut children = parent.children().lock();
    if children.is_closed() {
        return Ok(false);
    }
    may()?;
    child.set_parent(Some(parent.clone()));
    children.insert(child.clone());
    Ok(true)
}

/// A process without threads and children becomes a zombie in the sight of its parent, which is returned; `report` is called
/// while that can't collect it yet. `None`: nobody is left who could ask, it was init. Edge 11 of the life of a thread.
pub fn end(process: &Arc<Process>, report: impl FnOnce(&Arc<Process>, &mut Children)) -> Option<Arc<Process>> {
    while let Some(parent) = process.parent() {
        let mut siblings = parent.children().lock();
        // The parent may just have given it away.
        if process.is_child_of(&parent) {
            siblings.end(process);
            report(&parent, &mut siblings);
            drop(siblings);
            return Some(parent);
        }
    }
    process.become_zombie();
    None
}

/// Gives some children of a process that is over, `most` at once, to its heir; `report` is called for each, with the heir and
/// its children. Returns how many: none if there are no more, and then there will be none.
pub fn give_children_away(
    process: &Arc<Process>,
    most: usize,
    mut report: impl FnMut(Arc<Process>, &Arc<Process>, &mut Children),
) -> usize {
    let mut children = process.children().lock();
    while !children.close() {
        let Some(heir) = heir(process) else {
            // The machine is about to stop.
            while let Some(child) = children.pop() {
                child.set_parent(None);
            }
            continue;
        };
        let mut others = heir.children().lock();
        if others.is_closed() {
            // It has ended meanwhile: there is another.
            continue;
        }
        let mut given = 0;
        while given < most
            && let Some(child) = children.pop()
        {
            given += 1;
            child.set_parent(Some(heir.clone()));
            others.insert(child.clone());
            report(child, &heir, &mut others);
        }
        return given;
    }
    0
}

/// Who gets the children of a process that ends: the nearest ancestor that asked for orphans, or else init; nobody those of init.
fn heir(process: &Process) -> Option<Arc<Process>> {
    let mut ancestor = process.parent()?;
    loop {
        let takes = ancestor.is_subreaper() && !ancestor.is_dead();
        match ancestor.parent() {
            Some(next) if !takes && !ancestor.is_init() => ancestor = next,
            _ => return Some(ancestor).filter(|heir| takes || !heir.children().lock().is_closed()),
        }
    }
}
