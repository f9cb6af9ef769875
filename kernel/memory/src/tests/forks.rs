//! fork, clear, and what a child finds.

use super::*;

#[test]
fn parent_and_child_write_apart() {
    let kernel = kernel();
    let free = kernel.free();
    let parent = kernel.space();
    let area = parent.anonymous(0, 4, READ_WRITE, PRIVATE).unwrap();
    parent.set_byte(area, 1).unwrap();
    parent.set_byte(area + PAGE, 1).unwrap();
    let child = wait(parent.fork()).unwrap();
    assert_eq!(child.usage().resident, 2);
    child.set_byte(area, 2).unwrap();
    parent.set_byte(area + PAGE, 3).unwrap();
    child.set_byte(area + 2 * PAGE, 4).unwrap();
    assert_eq!((parent.byte(area), child.byte(area)), (Ok(1), Ok(2)));
    assert_eq!((parent.byte(area + PAGE), child.byte(area + PAGE)), (Ok(3), Ok(1)));
    assert_eq!((parent.byte(area + 2 * PAGE), child.byte(area + 2 * PAGE)), (Ok(0), Ok(4)));
    wait(child.clear());
    assert_eq!((child.usage().resident, child.usage().size), (0, 0));
    parent.set_byte(area, 9).unwrap();
    drop((parent, child));
    assert_eq!(kernel.free(), free);
}

#[test]
fn a_child_of_a_child_sees_what_was_there_when_it_was_born() {
    let kernel = kernel();
    let free = kernel.free();
    let first = kernel.space();
    let area = first.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    let mut spaces = vec![first];
    for generation in 0..20_u8 {
        let parent = spaces.last().unwrap().clone();
        parent.set_byte(area, generation).unwrap();
        spaces.push(wait(parent.fork()).unwrap());
    }
    for (generation, space) in spaces.iter().take(20).enumerate() {
        assert_eq!(space.byte(area), Ok(generation as u8));
    }
    drop(spaces);
    assert_eq!(kernel.free(), free);
}

#[test]
fn advice_decides_what_a_child_gets() {
    let kernel = kernel();
    let parent = kernel.space();
    let base = 0x1000_0000;
    parent.anonymous(base, 3, READ_WRITE, FIXED).unwrap();
    (0..3).for_each(|page| parent.set_byte(base + page * PAGE, 7).unwrap());
    wait(parent.advise(base, PAGE, 10)).unwrap();
    wait(parent.advise(base + PAGE, PAGE, 18)).unwrap();
    assert_eq!(parent.areas().count(), 3);
    let child = wait(parent.fork()).unwrap();
    assert_eq!(child.byte(base), Err(Errno::EFAULT));
    assert_eq!(child.byte(base + PAGE), Ok(0));
    assert_eq!(child.byte(base + 2 * PAGE), Ok(7));
    wait(parent.advise(base, PAGE, 11)).unwrap();
    wait(parent.advise(base + PAGE, PAGE, 19)).unwrap();
    assert_eq!(parent.areas().count(), 1, "taken back, they merge again");
}

#[test]
fn heap_limits_and_locks_go_to_the_child_as_they_should() {
    let kernel = kernel();
    let parent = kernel.space_with(Limits { address_space: 100 << 12, ..Limits::default() });
    parent.set_initial_break(0x40_0000);
    assert_eq!(wait(parent.set_break(0x40_2800)), 0x40_2800);
    wait(parent.lock(0x40_0000, PAGE, false)).unwrap();
    assert_eq!(parent.usage().locked, 1);
    let child = wait(parent.fork()).unwrap();
    assert_eq!(child.usage().locked, 0);
    assert_eq!(child.heap(), 0x40_0000..0x40_2800);
    assert_eq!(child.anonymous(0, 98, READ, PRIVATE), Err(Errno::ENOMEM));
    assert!(child.anonymous(0, 97, READ, PRIVATE).is_ok());
}

#[test]
fn tear_down_yields() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 5000, READ_WRITE, PRIVATE).unwrap();
    wait(space.advise(area, 5000 * PAGE, 23)).unwrap();
    assert_eq!(space.usage().resident, 5000);
    let mut clearing = pin!(space.unmap(area, 5000 * PAGE));
    let mut context = Context::from_waker(Waker::noop());
    assert!(clearing.as_mut().poll(&mut context).is_pending());
    assert!(space.usage().resident < 5000);
    assert_eq!(wait(clearing), Ok(()));
    assert_eq!((space.usage().resident, space.usage().peak_resident, space.usage().peak), (0, 5000, 5000));
}

#[test]
fn forking_without_memory_leaves_the_parent_whole() {
    let kernel = kernel();
    let parent = kernel.space();
    let (cache, mapped_file) = file(&kernel, 1);
    parent.map_file(0, 1, READ, PRIVATE, &mapped_file, 0).unwrap();
    let total = { machine::memory::FrameSource::total_frames(&**kernel.memory.frames()) };
    let area = parent.anonymous(0, total, READ_WRITE, PRIVATE).unwrap();
    let before = kernel.memory.committed();
    // Two adjacent areas merge to one that could never be backed.
    parent.anonymous(area - PAGE, 1, READ_WRITE, FIXED).unwrap();
    assert!(matches!(wait(parent.fork()), Err(Errno::ENOMEM)));
    assert_eq!(kernel.memory.committed(), before + 1);
    assert_eq!(parent.set_byte(area, 1), Ok(()));
    drop(parent);
    assert!(crate::Pager::mappings(&*cache).unwrap().is_empty());
}
