//! The vDSO: what its areas are, and what may be done with them.

use abi::memory::{LockAllFlags, RemapFlags};

use super::*;
use crate::MemoryFault;
use crate::vdso::place_above;

fn names(space: &AddressSpace) -> Vec<(usize, String)> {
    let named = |area: crate::AreaView| {
        Some((area.range.start, String::from_utf8(area.file.as_ref()?.identity.path().unwrap()).unwrap()))
    };
    space.areas().filter_map(named).collect()
}

fn remap(space: &AddressSpace, old: usize, length: usize, flags: RemapFlags, new: usize) -> Result<usize, Errno> {
    wait(space.remap(old, PAGE, length, flags, new))
}

#[test]
fn two_areas_are_the_same_frames_for_everybody() {
    let kernel = kernel();
    let (one, other) = (kernel.space(), kernel.space());
    one.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    let code = one.map_vdso().unwrap().unwrap();
    let data = code - PAGE;
    assert_eq!(names(&one), [(data, "[vvar]".into()), (code, "[vdso]".into())]);
    assert_eq!(one.lines(data)[..2], ["0-1 r--p @0", "1-2 r-xp @0"]);
    let mut magic = [0; 4];
    wait(one.copy_in(code, &mut magic)).unwrap();
    assert_eq!(&magic, b"\x7fELF");
    one.byte(data).unwrap();
    let frame = |space: &AddressSpace, address| space.space().lookup(address).unwrap().frame_number;
    let its = other.map_vdso().unwrap().unwrap();
    other.byte(its - PAGE).unwrap();
    let child = wait(one.fork()).unwrap();
    assert_eq!((frame(&one, data), frame(&one, code)), (frame(&other, its - PAGE), frame(&other, its)));
    assert_eq!((frame(&one, data), frame(&one, code)), (frame(&child, data), frame(&child, code)));
    assert_eq!(names(&child), names(&one));
}

#[test]
fn the_numbers_cannot_be_written() {
    let kernel = kernel();
    let space = kernel.space();
    let code = space.map_vdso().unwrap().unwrap();
    let data = code - PAGE;
    for rights in [READ_WRITE, READ | Protection::EXECUTE] {
        assert_eq!(wait(space.protect(data, PAGE, rights)), Err(Errno::EACCES));
    }
    assert!(matches!(space.resolve(data, Access::WRITE), Err(MemoryFault::NotPermitted)));
    assert_eq!(space.set_byte(data, 1), Err(Errno::EFAULT));
    wait(space.protect(data, PAGE, Protection::empty())).unwrap();
    assert_eq!(space.byte(data), Err(Errno::EFAULT));
    wait(space.protect(data, PAGE, READ)).unwrap();
    space.byte(data).unwrap();
}

#[test]
fn code_that_is_written_becomes_a_copy() {
    let kernel = kernel();
    let (space, other) = (kernel.space(), kernel.space());
    let code = space.map_vdso().unwrap().unwrap();
    let its = other.map_vdso().unwrap().unwrap();
    wait(space.protect(code, PAGE, READ_WRITE | Protection::EXECUTE)).unwrap();
    space.set_byte(code, 0xcc).unwrap();
    assert_eq!((space.byte(code), other.byte(its)), (Ok(0xcc), Ok(0x7f)));
}

#[test]
fn they_move_but_do_not_grow() {
    let kernel = kernel();
    let space = kernel.space();
    let code = space.map_vdso().unwrap().unwrap();
    let data = code - PAGE;
    let to = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
    for start in [data, code] {
        assert_eq!(remap(&space, start, 2 * PAGE, RemapFlags::MAY_MOVE, 0), Err(Errno::EFAULT));
        let keep = to | RemapFlags::DONT_UNMAP;
        assert_eq!(remap(&space, start, PAGE, keep, 0x30_0000), Err(Errno::EINVAL));
    }
    assert_eq!(remap(&space, data, PAGE, to, 0x10_0000), Ok(0x10_0000));
    assert_eq!(space.vdso(), Some(code));
    assert_eq!(remap(&space, code, PAGE, to, 0x10_1000), Ok(0x10_1000));
    assert_eq!((space.vdso(), wait(space.fork()).unwrap().vdso()), (Some(0x10_1000), Some(0x10_1000)));
    assert_eq!(space.byte(0x10_1000), Ok(0x7f));
    assert_eq!(names(&space), [(0x10_0000, "[vvar]".into()), (0x10_1000, "[vdso]".into())]);
    wait(space.unmap(0x10_0000, 2 * PAGE)).unwrap();
    assert!(names(&space).is_empty() && space.byte(0x10_1000).is_err());
}

#[test]
fn locking_all_memory_passes_them_over() {
    let kernel = kernel();
    let space = kernel.space();
    space.map_vdso().unwrap();
    space.anonymous(0, 3, READ_WRITE, PRIVATE).unwrap();
    wait(space.lock_all(LockAllFlags::CURRENT)).unwrap();
    assert_eq!((space.usage().locked, space.usage().size), (3, 5));
}

#[test]
fn they_lie_above_the_stack_under_its_page_table() {
    const TABLE: usize = 512 * PAGE;
    let top = 0x7ffd_1234_5000;
    for random in (0..2000).map(|page| page * PAGE) {
        let place = place_above(top, random);
        assert!(place >= top && (place + 2 * PAGE - 1) / TABLE == top / TABLE, "{place:x}");
    }
    // Without randomness the stack ends where user space does, and the place is any other.
    let kernel = kernel();
    let space = kernel.space();
    let stack = space.map_stack().unwrap();
    assert!(space.map_vdso().unwrap().unwrap() < stack);
}
