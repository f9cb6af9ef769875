//! Changes of several steps: they give way, keep out whom they must, and can be given up.

use core::task::{Context, Poll, Waker};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use abi::memory::RemapFlags;

use crate::{MemoryFault, Pager};

const BASE: usize = 0x1000_0000;

/// So many pages that no step and no budget is enough for them.
const PAGES: usize = 8 * crate::address_space::SLICE;

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Waker::from(self.clone())))
    }
}

/// A space with `PAGES` pages, all of them the page of zeros.
fn large(kernel: &Kernel) -> (Arc<AddressSpace>, usize) {
    let space = kernel.space();
    let request = MapRequest {
        address: 0,
        length: PAGES * PAGE,
        protection: READ_WRITE,
        flags: PRIVATE | MapFlags::ANONYMOUS,
        backing: Backing::Anonymous,
    };
    let area = space.map(&request).unwrap();
    for page in (area..area + PAGES * PAGE).step_by(PAGE) {
        space.resolve(page, Access::READ).unwrap();
    }
    (space, area)
}

#[test]
fn a_large_fork_is_of_one_moment() {
    let kernel = kernel();
    let (parent, area) = large(&kernel);
    {
        let mut forking = pin!(parent.fork());
        assert!(poll(forking.as_mut()).is_pending());
        // Neither changes come in between, nor faults at what has been copied.
        assert!(matches!(parent.resolve(area, Access::WRITE), Err(MemoryFault::Busy)));
        assert!(parent.resolve(area + (PAGES - 1) * PAGE, Access::WRITE).is_ok());
        assert!(poll(pin!(parent.fault(area, Access::WRITE))).is_pending());
        let mut unmapping = pin!(parent.unmap(area, PAGE));
        assert!(poll(unmapping.as_mut()).is_pending());
        assert!(poll(pin!(parent.fork())).is_pending());
        assert!(poll(pin!(parent.set_break(0))).is_pending());
    }
    // Given up, it lets everybody in, and nothing of it is left.
    assert_eq!(wait(parent.unmap(area, PAGE)), Ok(()));
    assert!(parent.resolve(area + PAGE, Access::WRITE).is_ok());
    let committed = kernel.memory.committed();
    let child = wait(parent.fork()).unwrap();
    assert_eq!(child.space().resident(), PAGES - 1);
    assert!(!parent.space().lookup(area + PAGE).unwrap().access.contains(Access::WRITE));
    drop(child);
    assert_eq!(kernel.memory.committed(), committed);
}

/// What is written while a copy is made is in it, wherever the copy has not been: to the page, and that the area was written.
#[test]
fn a_fork_copies_what_is_written_before_it_comes_by() {
    let kernel = kernel();
    let (parent, area) = large(&kernel);
    let last = area + (PAGES - 1) * PAGE;
    let mut forking = pin!(parent.fork());
    assert!(poll(forking.as_mut()).is_pending());
    parent.set_byte(last, 7).unwrap();
    let child = wait(forking).unwrap();
    parent.set_byte(last, 8).unwrap();
    assert_eq!((parent.byte(last), child.byte(last)), (Ok(8), Ok(7)));
    let accounted = kernel.memory.committed();
    assert_eq!(wait(child.protect(area, PAGES * PAGE, READ)), Ok(()));
    assert_eq!(kernel.memory.committed(), accounted, "written pages are promised still");
}

#[test]
fn large_changes_give_way() {
    let kernel = kernel();
    let (space, area) = large(&kernel);
    let length = PAGES * PAGE;
    {
        let mut protecting = pin!(space.protect(area, length, READ));
        assert!(poll(protecting.as_mut()).is_pending());
        assert!(poll(pin!(space.fork())).is_pending(), "a copy would have pages that allow more than their areas");
        assert_eq!(wait(protecting), Ok(()));
    }
    let rights = |page: usize| space.space().lookup(page).unwrap().access;
    assert!((area..area + length).step_by(PAGE).all(|page| !rights(page).contains(Access::WRITE)));
    assert_eq!(wait(space.protect(area + PAGE, length / 2, READ_WRITE)), Ok(()), "a part of what continues");
    assert_eq!(wait(space.protect(area, length, Protection::empty())), Ok(()));
    assert!((area..area + length).step_by(PAGE).all(|page| rights(page).is_empty()));
    {
        let mut dropping = pin!(space.advise(area, length, abi::raw::general::MADV_DONTNEED));
        assert!(poll(dropping.as_mut()).is_pending());
        let left = space.space().resident();
        assert!(left > 0 && left < PAGES);
    }
    assert_eq!(wait(space.unmap(area, length)), Ok(()));
    assert_eq!((space.space().resident(), space.usage().size), (0, 0));
}

#[test]
fn what_is_replaced_is_never_seen_as_a_gap() {
    let kernel = kernel();
    let (space, area) = large(&kernel);
    let request = MapRequest {
        address: area,
        length: PAGES * PAGE,
        protection: READ_WRITE,
        flags: FIXED | MapFlags::ANONYMOUS,
        backing: Backing::Anonymous,
    };
    let other = space.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    let mut mapping = pin!(space.mmap(request));
    assert!(poll(mapping.as_mut()).is_pending());
    assert!(matches!(space.resolve(area, Access::READ), Err(MemoryFault::Busy)));
    assert!(space.resolve(other, Access::READ).is_ok(), "elsewhere faults go on");
    assert_eq!(wait(mapping), Ok(area));
    assert!(space.resolve(area, Access::READ).is_ok());
}

#[test]
fn a_large_move_is_never_seen_half_done() {
    let kernel = kernel();
    let (space, area) = large(&kernel);
    let target = area - 2 * PAGES * PAGE;
    let flags = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
    space.anonymous(target, 3, READ_WRITE, FIXED).unwrap();
    space.resolve(target, Access::READ).unwrap();
    let other = space.anonymous(target - 2 * PAGE, 1, READ_WRITE, FIXED).unwrap();
    {
        let mut moving = pin!(space.remap(area, PAGES * PAGE, PAGES * PAGE, flags, target));
        assert!(poll(moving.as_mut()).is_pending());
        assert!(matches!(space.resolve(target, Access::READ), Err(MemoryFault::Busy)));
        assert!(matches!(space.resolve(area, Access::READ), Err(MemoryFault::Busy)));
        assert!(space.resolve(other, Access::READ).is_ok());
        assert_eq!(wait(moving), Ok(target));
    }
    assert_eq!(wait(space.unmap(other, PAGE)), Ok(()));
    let pages = |start: usize| (start..start + PAGES * PAGE).step_by(PAGE);
    assert!(pages(target).all(|page| space.space().lookup(page).is_some()));
    assert!(pages(area).all(|page| space.space().lookup(page).is_none()));
    assert_eq!((space.space().resident(), space.usage().size), (PAGES, PAGES));
    // A part of it, and it becomes smaller.
    assert_eq!(wait(space.remap(target, PAGES * PAGE, 2 * PAGE, flags, area)), Ok(area));
    assert_eq!((space.space().resident(), space.usage().size), (2, 2));
}

#[test]
fn what_many_pages_show_of_a_file_is_taken_in_slices() {
    let kernel = kernel();
    const COUNT: usize = 3 * crate::address_space::SLICE;
    let (cache, file) = file(&kernel, COUNT);
    let spaces: Vec<_> = (0..2).map(|_| kernel.space()).collect();
    for space in &spaces {
        space.map_file(BASE, COUNT, READ, FIXED, &file, 0).unwrap();
        for page in 0..COUNT {
            space.resolve(BASE + page * PAGE, Access::READ).unwrap();
        }
    }
    assert_eq!(cache.cut(PAGE as u64), Some(1));
    let mut unmapping = pin!(cache.mappings().unwrap().unmap_slowly(&*cache, 1..u64::MAX));
    assert!(poll(unmapping.as_mut()).is_pending());
    assert!(spaces.iter().any(|space| space.space().resident() > 1));
    wait(unmapping);
    assert!(spaces.iter().all(|space| space.space().resident() == 1));
    assert!(matches!(spaces[1].resolve(BASE + PAGE, Access::READ), Err(MemoryFault::Bus)));
}

#[test]
fn the_heap_shrinks_in_one_piece() {
    let kernel = kernel();
    let space = kernel.space();
    space.set_initial_break(0x1000_0000);
    let start = wait(space.set_break(0));
    let end = start + PAGES * PAGE;
    assert_eq!(wait(space.set_break(end)), end);
    for page in (start..end).step_by(PAGE) {
        space.resolve(page, Access::READ).unwrap();
    }
    let mut shrinking = pin!(space.set_break(start + PAGE));
    assert!(poll(shrinking.as_mut()).is_pending());
    let mut growing = pin!(space.set_break(end));
    assert!(poll(growing.as_mut()).is_pending(), "what goes is still there");
    assert_eq!(wait(shrinking), start + PAGE);
    assert_eq!(wait(growing), end);
    assert_eq!(space.space().resident(), 1);
}

#[test]
fn what_is_large_is_freed_by_the_task_or_by_who_needs_it() {
    let kernel = kernel();
    let budget = kernel.budget();
    let fill = || {
        let cache = PageCache::new(budget.clone());
        cache.set_size(3000 * PAGE as u64);
        let mut at = 0;
        while let Some(next) = cache.allocate(at..3000 * PAGE as u64).unwrap() {
            at = next;
        }
        cache
    };
    let before = kernel.free();
    drop(fill());
    assert_eq!(kernel.free(), before, "without a task at once");
    {
        let mut task = pin!(kernel.memory.free_discarded());
        assert!(poll(task.as_mut()).is_pending());
        drop(fill());
        assert_eq!((kernel.free(), budget.used()), (before - 3000, 0), "it is not the file system's any more");
        while kernel.free() < before {
            assert!(poll(task.as_mut()).is_pending());
        }
        let (space, _) = large(&kernel);
        let cut = fill();
        cut.set_size(0);
        drop(space);
        assert!(kernel.free() < before);
        while kernel.memory.free_slice() {}
        drop(cut);
        assert_eq!(kernel.free(), before);
    }
}

#[test]
fn who_finds_the_lock_taken_sleeps_and_is_woken() {
    let kernel = kernel();
    let (space, area) = large(&kernel);
    let held = space.layout();
    assert!(matches!(space.resolve(area, Access::WRITE), Err(MemoryFault::Busy)));
    let mut faulting = pin!(space.fault(area, Access::WRITE));
    let mut unmapping = pin!(space.unmap(area + PAGE, PAGE));
    let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    assert!(first.poll(faulting.as_mut()).is_pending());
    assert!(second.poll(unmapping.as_mut()).is_pending());
    drop(held);
    // Giving up the lock wakes the first, and what the first does the next.
    assert_eq!((first.count(), second.count()), (1, 0));
    assert!(matches!(first.poll(faulting.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(second.count(), 1);
    assert_eq!(second.poll(unmapping.as_mut()), Poll::Ready(Ok(())));
}

#[test]
fn who_is_kept_out_sleeps_until_the_end() {
    let kernel = kernel();
    let (space, area) = large(&kernel);
    let mut forking = pin!(space.fork());
    assert!(poll(forking.as_mut()).is_pending());
    let kept_out = Arc::new(Woken::default());
    let mut unmapping = pin!(space.unmap(area, PAGE));
    assert!(kept_out.poll(unmapping.as_mut()).is_pending());
    while poll(forking.as_mut()).is_pending() {
        assert_eq!(kept_out.count(), 0, "the steps of the copy wake nobody");
    }
    assert_eq!(kept_out.count(), 1);
    assert_eq!(kept_out.poll(unmapping.as_mut()), Poll::Ready(Ok(())));
}
