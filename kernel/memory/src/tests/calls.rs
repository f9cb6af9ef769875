//! mprotect, mremap, brk, madvise, mincore, mlock, and loading programs.

use super::*;
use abi::memory::{LockAllFlags, RemapFlags, SyncFlags};

const BASE: usize = 0x1000_0000;

#[test]
fn protect_splits_and_merges() {
    let kernel = kernel();
    let space = kernel.space();
    space.anonymous(BASE, 10, READ_WRITE, FIXED).unwrap();
    wait(space.protect(BASE + 2 * PAGE, 3 * PAGE, READ)).unwrap();
    assert_eq!(space.lines(BASE), ["0-2 rw-p", "2-5 r--p", "5-10 rw-p"]);
    wait(space.protect(BASE + 2 * PAGE, 1, READ_WRITE)).unwrap();
    assert_eq!(space.lines(BASE), ["0-3 rw-p", "3-5 r--p", "5-10 rw-p"]);
    wait(space.protect(BASE + 3 * PAGE, 2 * PAGE, READ_WRITE)).unwrap();
    assert_eq!(space.lines(BASE), ["0-10 rw-p"]);
}

#[test]
fn protect_refuses_as_linux_does() {
    let kernel = kernel();
    let space = kernel.space();
    space.anonymous(BASE, 2, READ, FIXED).unwrap();
    space.anonymous(BASE + 3 * PAGE, 1, READ, FIXED).unwrap();
    assert_eq!(wait(space.protect(BASE + 1, PAGE, READ)), Err(Errno::EINVAL));
    assert_eq!(wait(space.protect(BASE, 0, READ_WRITE)), Ok(()));
    assert_eq!(wait(space.protect(BASE, PAGE, Protection::from_bits_retain(0x100))), Err(Errno::EINVAL));
    assert_eq!(wait(space.protect(BASE, usize::MAX - 100, READ)), Err(Errno::ENOMEM));
    assert_eq!(wait(space.protect(BASE, 4 * PAGE, READ_WRITE)), Err(Errno::ENOMEM));
    assert_eq!(space.lines(BASE), ["0-2 rw-p", "3-4 r--p"], "up to the hole it is done");
    assert_eq!(wait(space.protect(BASE, PAGE, READ | Protection::GROWS_DOWN)), Err(Errno::EINVAL));
    let (cache, _) = file(&kernel, 1);
    let identity: Arc<dyn FileIdentity> = Arc::new(Named);
    let mapped = Arc::new(MappedFile { pager: cache, identity, readable: true, writable: false, executable: false });
    let shared = space.map_file(0, 1, READ, MapFlags::SHARED, &mapped, 0).unwrap();
    assert_eq!(wait(space.protect(shared, PAGE, READ_WRITE)), Err(Errno::EACCES));
    assert_eq!(wait(space.protect(shared, PAGE, READ | Protection::EXECUTE)), Err(Errno::EACCES));
}

#[test]
fn prot_sem_means_nothing() {
    let kernel = kernel();
    let space = kernel.space();
    space.anonymous(BASE, 1, READ_WRITE | Protection::SEMAPHORE, FIXED).unwrap();
    assert_eq!(wait(space.protect(BASE, PAGE, READ_WRITE | Protection::SEMAPHORE)), Ok(()));
    space.set_byte(BASE, 1).unwrap();
    assert_eq!(space.areas().next().unwrap().access, Access::READ | Access::WRITE);
}

#[test]
fn the_heap_grows_and_shrinks() {
    let kernel = kernel();
    let space = kernel.space();
    let start = 0x40_0000;
    space.set_initial_break(start - 100);
    assert_eq!(wait(space.set_break(0)), start);
    assert_eq!(wait(space.set_break(start + 10)), start + 10);
    assert_eq!(space.lines(start), ["0-1 rw-p"]);
    assert_eq!(space.areas().next().unwrap().name, Some("[heap]"));
    assert_eq!(wait(space.set_break(start + 5 * PAGE)), start + 5 * PAGE);
    space.set_byte(start + 4 * PAGE, 8).unwrap();
    assert_eq!(space.lines(start), ["0-5 rw-p"]);
    assert_eq!(wait(space.set_break(start + PAGE + 1)), start + PAGE + 1);
    assert_eq!(wait(space.set_break(start + 5 * PAGE)), start + 5 * PAGE);
    assert_eq!(space.byte(start + 4 * PAGE), Ok(0));
    space.anonymous(start + 8 * PAGE, 1, READ, FIXED).unwrap();
    assert_eq!(wait(space.set_break(start + 8 * PAGE)), start + 5 * PAGE, "a page must stay free before the next area");
    assert_eq!(wait(space.set_break(start - 1)), start + 5 * PAGE);
    assert_eq!(wait(space.set_break(usize::MAX)), start + 5 * PAGE);
    space.set_limits(Limits { data: 6 << 12, ..Limits::default() });
    assert_eq!(wait(space.set_break(start + 6 * PAGE + 1)), start + 5 * PAGE);
    assert_eq!(wait(space.set_break(start + 6 * PAGE)), start + 6 * PAGE);
}

#[test]
fn remap_in_place_and_elsewhere() {
    let kernel = kernel();
    let space = kernel.space();
    let none = RemapFlags::empty();
    space.anonymous(BASE, 4, READ_WRITE, FIXED).unwrap();
    (0..4).for_each(|page| space.set_byte(BASE + page * PAGE, page as u8 + 1).unwrap());
    assert_eq!(wait(space.remap(BASE, 4 * PAGE, 3 * PAGE, none, 0)), Ok(BASE));
    assert_eq!(wait(space.remap(BASE, 3 * PAGE, 6 * PAGE, none, 0)), Ok(BASE));
    assert_eq!(space.lines(BASE), ["0-6 rw-p"]);
    assert_eq!((space.byte(BASE + 2 * PAGE), space.byte(BASE + 3 * PAGE)), (Ok(3), Ok(0)));
    space.anonymous(BASE + 6 * PAGE, 1, READ, FIXED).unwrap();
    assert_eq!(wait(space.remap(BASE, 6 * PAGE, 7 * PAGE, none, 0)), Err(Errno::ENOMEM));
    let moved = wait(space.remap(BASE, 6 * PAGE, 7 * PAGE, RemapFlags::MAY_MOVE, 0)).unwrap();
    assert_eq!((space.byte(moved), space.byte(moved + 2 * PAGE), space.byte(moved + 6 * PAGE)), (Ok(1), Ok(3), Ok(0)));
    assert_eq!(space.byte(BASE), Err(Errno::EFAULT));
    let fixed = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
    let target = BASE + 100 * PAGE;
    space.anonymous(target + PAGE, 1, READ_WRITE, FIXED).unwrap();
    assert_eq!(wait(space.remap(moved, 7 * PAGE, 2 * PAGE, fixed, target)), Ok(target));
    assert_eq!(
        (space.byte(target), space.byte(target + PAGE), space.byte(target + 2 * PAGE)),
        (Ok(1), Ok(2), Err(Errno::EFAULT))
    );
    // A part out of the middle.
    assert_eq!(wait(space.remap(target + PAGE, PAGE, PAGE, fixed, target + 10 * PAGE)), Ok(target + 10 * PAGE));
    assert_eq!(space.byte(target + 10 * PAGE), Ok(2));
    assert_eq!(space.byte(target + PAGE), Err(Errno::EFAULT));
}

#[test]
fn remap_errors_are_linux_s() {
    let kernel = kernel();
    let space = kernel.space();
    let remap = |old, old_length, new_length, flags, new| wait(space.remap(old, old_length, new_length, flags, new));
    let (none, may, fixed) = (RemapFlags::empty(), RemapFlags::MAY_MOVE, RemapFlags::FIXED);
    space.anonymous(BASE, 4, READ_WRITE, FIXED).unwrap();
    assert_eq!(remap(BASE, PAGE, PAGE, RemapFlags::from_bits_retain(8), 0), Err(Errno::EINVAL));
    assert_eq!(remap(BASE, PAGE, PAGE, fixed, BASE + 50 * PAGE), Err(Errno::EINVAL));
    assert_eq!(remap(BASE + 1, PAGE, PAGE, none, 0), Err(Errno::EINVAL));
    assert_eq!(remap(BASE, PAGE, 0, none, 0), Err(Errno::EINVAL));
    assert_eq!(remap(BASE - PAGE, PAGE, PAGE, none, 0), Err(Errno::EFAULT));
    assert_eq!(remap(BASE, 5 * PAGE, 6 * PAGE, may, 0), Err(Errno::EFAULT));
    assert_eq!(remap(BASE, 0, PAGE, may, 0), Err(Errno::EINVAL), "only shared mappings can be doubled");
    assert_eq!(remap(BASE, 2 * PAGE, 2 * PAGE, may | fixed, BASE + PAGE), Err(Errno::EINVAL));
    assert_eq!(remap(BASE, 2 * PAGE, 2 * PAGE, may | fixed, BASE + 1), Err(Errno::EINVAL));
    let keep = wait(space.remap(BASE, 4 * PAGE, 4 * PAGE, may | RemapFlags::DONT_UNMAP, 0)).unwrap();
    assert_ne!(keep, BASE);
    assert_eq!((space.byte(BASE), space.byte(keep)), (Ok(0), Ok(0)));
    let shared = space.anonymous(0, 2, READ_WRITE, MapFlags::SHARED).unwrap();
    space.set_byte(shared, 6).unwrap();
    let twin = remap(shared, 0, 2 * PAGE, may, 0).unwrap();
    assert_eq!(space.byte(twin), Ok(6));
    space.set_byte(twin, 7).unwrap();
    assert_eq!(space.byte(shared), Ok(7));
}

#[test]
fn rare_orders_of_checks_are_linux_s() {
    let kernel = kernel();
    let space = kernel.space();
    let (_, mapped) = file(&kernel, 2);
    space.anonymous(BASE, 2, Protection::empty(), FIXED).unwrap();
    assert_eq!(wait(space.lock(BASE, PAGE, false)), Err(Errno::ENOMEM), "its pages can't be brought in");
    assert_eq!(space.lines(BASE), ["0-1 ---p", "1-2 ---p"], "but it is locked");
    wait(space.unlock(BASE, PAGE)).unwrap();
    assert_eq!(wait(space.advise(BASE, 3 * PAGE, 22)), Err(Errno::EINVAL), "rights come before the hole");
    assert_eq!(wait(space.advise(BASE - PAGE, 3 * PAGE, 22)), Err(Errno::ENOMEM), "and the hole before rights");
    let validate = MapFlags::from_bits_retain(MapFlags::SHARED_VALIDATE | MapFlags::FIXED_NO_REPLACE.bits());
    assert_eq!(space.map_file(BASE + 9 * PAGE, 1, READ, validate, &mapped, 0), Err(Errno::EOPNOTSUPP));
    assert_eq!(space.map_file(0, 1, READ, PRIVATE | MapFlags::GROWS_DOWN, &mapped, 0), Err(Errno::EINVAL));
    let fixed = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
    assert_eq!(wait(space.remap(BASE - PAGE, PAGE, PAGE, fixed, 1)), Err(Errno::EINVAL), "a bad target before a hole");
    assert_eq!(wait(space.remap(BASE, usize::MAX - PAGE, PAGE, RemapFlags::empty(), 0)), Err(Errno::EINVAL));
    space.anonymous(BASE + 4 * PAGE, 2, READ_WRITE, FIXED).unwrap();
    assert_eq!(wait(space.remap(BASE + 8 * PAGE, 0, PAGE, fixed, BASE + 4 * PAGE)), Err(Errno::EFAULT));
    assert_eq!(space.lines(BASE), ["0-2 ---p", "4-6 rw-p"], "a refused move unmaps nothing");
    wait(space.protect(BASE + 4 * PAGE, PAGE, READ)).unwrap();
    wait(space.protect(BASE + 4 * PAGE, PAGE, READ_WRITE)).unwrap();
    assert_eq!(space.areas().count(), 2);
}

#[test]
fn advice_drops_pages() {
    let kernel = kernel();
    let space = kernel.space();
    space.anonymous(BASE, 3, READ_WRITE, FIXED).unwrap();
    (0..3).for_each(|page| space.set_byte(BASE + page * PAGE, 1).unwrap());
    assert_eq!(wait(space.advise(BASE + PAGE, PAGE, 4)), Ok(()));
    assert_eq!((space.byte(BASE), space.byte(BASE + PAGE), space.byte(BASE + 2 * PAGE)), (Ok(1), Ok(0), Ok(1)));
    assert_eq!(wait(space.advise(BASE, 4 * PAGE, 8)), Err(Errno::ENOMEM));
    assert_eq!(space.byte(BASE + 2 * PAGE), Ok(0), "done before the hole");
    assert_eq!(wait(space.advise(BASE, PAGE, 99)), Err(Errno::EINVAL));
    assert_eq!(wait(space.advise(BASE + 1, PAGE, 4)), Err(Errno::EINVAL));
    assert_eq!(wait(space.advise(0, 0, 4)), Ok(()));
    wait(space.lock(BASE, PAGE, true)).unwrap();
    assert_eq!(wait(space.advise(BASE, PAGE, 4)), Err(Errno::EINVAL));
    let (_, mapped) = file(&kernel, 1);
    let area = space.map_file(0, 1, READ, PRIVATE, &mapped, 0).unwrap();
    assert_eq!(wait(space.advise(area, PAGE, 8)), Err(Errno::EINVAL));
    assert_eq!(wait(space.advise(area, PAGE, 23)), Err(Errno::EINVAL), "populating for writing what is read-only");
}

#[test]
fn residency_and_synchronising() {
    let kernel = kernel();
    let space = kernel.space();
    space.anonymous(BASE, 3, READ_WRITE, FIXED).unwrap();
    space.set_byte(BASE + PAGE, 1).unwrap();
    let mut pages = [9; 3];
    assert_eq!(space.residency(BASE, &mut pages), Ok(()));
    assert_eq!(pages, [0, 1, 0]);
    assert_eq!(space.residency(BASE, &mut [0; 4]), Err(Errno::ENOMEM));
    assert_eq!(space.residency(BASE + 1, &mut pages), Err(Errno::EINVAL));
    let both = SyncFlags::SYNC | SyncFlags::ASYNC;
    assert_eq!(wait(space.synchronize(BASE, PAGE, both)), Err(Errno::EINVAL));
    assert_eq!(wait(space.synchronize(BASE, 3 * PAGE, SyncFlags::SYNC)), Ok(()));
    assert_eq!(wait(space.synchronize(BASE, 4 * PAGE, SyncFlags::SYNC)), Err(Errno::ENOMEM));
    wait(space.lock(BASE, 1, true)).unwrap();
    assert_eq!(wait(space.synchronize(BASE, PAGE, SyncFlags::INVALIDATE)), Err(Errno::EBUSY));
}

#[test]
fn locks_are_counted() {
    let kernel = kernel();
    let space = kernel.space_with(Limits { locked: 4 << 12, ..Limits::default() });
    space.anonymous(BASE, 6, READ_WRITE, FIXED).unwrap();
    assert_eq!(wait(space.lock(BASE, 5 * PAGE, false)), Err(Errno::ENOMEM));
    assert_eq!(wait(space.lock(BASE + 100, 2 * PAGE, false)), Ok(()));
    assert_eq!((space.usage().locked, space.usage().resident), (3, 3));
    assert_eq!(wait(space.lock(BASE, 4 * PAGE, true)), Ok(()), "what is locked already doesn't count again");
    let flags = PRIVATE | MapFlags::LOCKED;
    assert_eq!(space.anonymous(0, 1, READ_WRITE, flags), Err(Errno::EAGAIN));
    assert_eq!(wait(space.unlock(BASE, 2 * PAGE)), Ok(()));
    assert_eq!(space.usage().locked, 2);
    assert_eq!(wait(space.unlock(BASE, 7 * PAGE)), Err(Errno::ENOMEM));
    assert_eq!(wait(space.lock_all(LockAllFlags::empty())), Err(Errno::EINVAL));
    assert_eq!(wait(space.lock_all(LockAllFlags::CURRENT)), Err(Errno::ENOMEM));
    assert_eq!(wait(space.lock_all(LockAllFlags::FUTURE)), Ok(()));
    let area = space.anonymous(0, 2, READ_WRITE, PRIVATE).unwrap();
    assert_eq!(space.usage().locked, 2);
    assert!(area > 0);
    wait(space.unlock_all());
    assert_eq!(space.usage().locked, 0);
}

/// mremap(2): a locked mapping grows as far as `RLIMIT_MEMLOCK` lets it, and any other further.
#[test]
fn a_locked_mapping_grows_to_the_limit() {
    let kernel = kernel();
    let space = kernel.space_with(Limits { locked: 4 << 12, ..Limits::default() });
    space.anonymous(BASE, 2, READ_WRITE, FIXED).unwrap();
    wait(space.lock(BASE, 2 * PAGE, false)).unwrap();
    let grow = |address, from, to| wait(space.remap(address, from * PAGE, to * PAGE, RemapFlags::empty(), 0));
    assert_eq!(grow(BASE, 2, 4), Ok(BASE));
    assert_eq!(grow(BASE, 4, 5), Err(Errno::EAGAIN));
    assert_eq!(space.usage().locked, 4);
    space.anonymous(BASE + 16 * PAGE, 2, READ_WRITE, FIXED).unwrap();
    assert_eq!(grow(BASE + 16 * PAGE, 2, 9), Ok(BASE + 16 * PAGE));
}

#[test]
fn populating_brings_pages_in() {
    let kernel = kernel();
    let space = kernel.space();
    let flags = PRIVATE | MapFlags::ANONYMOUS | MapFlags::POPULATE;
    let request =
        MapRequest { address: 0, length: 5 * PAGE, protection: READ_WRITE, flags, backing: Backing::Anonymous };
    wait(space.mmap(request)).unwrap();
    assert_eq!(space.usage().resident, 5);
}

#[test]
fn a_program_is_loaded() {
    let kernel = kernel();
    let (cache, mapped) = file(&kernel, 4);
    let space = kernel.space();
    let text = READ | Protection::EXECUTE;
    wait(space.map_segment(BASE, PAGE + 10, &mapped, 0, PAGE + 10, text)).unwrap();
    // Data from the middle of a page of the file, with three pages of zeros behind.
    let data = BASE + 2 * PAGE + 0x800;
    wait(space.map_segment(data, 3 * PAGE, &mapped, 2 * PAGE as u64 + 0x800, 0x100, READ_WRITE)).unwrap();
    assert_eq!(space.lines(BASE), ["0-2 r-xp @0", "2-3 rw-p @2", "3-6 rw-p"]);
    assert_eq!((space.byte(BASE), space.byte(data), space.byte(data + 0xff)), (Ok(1), Ok(3), Ok(3)));
    assert_eq!((space.byte(data + 0x100), space.byte(data + 0x7ff), space.byte(data + PAGE)), (Ok(0), Ok(0), Ok(0)));
    assert_eq!(cache.resident(), 4);
    let mut byte = [0];
    cache.read_at(2 * PAGE as u64 + 0x900, &mut crate::Destination::kernel(&mut byte)).unwrap();
    assert_eq!(byte, [3], "the file is untouched");
    // One that ends in the page where its zeros begin: the rest of the page is zero as well.
    let small = BASE + 8 * PAGE;
    wait(space.map_segment(small, 0x180, &mapped, PAGE as u64, 0x100, READ_WRITE)).unwrap();
    assert_eq!((space.byte(small + 0xff), space.byte(small + 0x17f)), (Ok(2), Ok(0)));
    assert_eq!((space.byte(small + 0x180), space.byte(small + 0xfff)), (Ok(0), Ok(0)));
    assert_eq!(wait(space.map_segment(BASE, 10, &mapped, 5, 10, READ)), Err(Errno::ENOEXEC));
    assert_eq!(wait(space.map_segment(BASE, 10, &mapped, 0, 11, READ)), Err(Errno::ENOEXEC));
    assert_eq!(wait(space.map_segment(usize::MAX - 5, 10, &mapped, 0xffa, 10, READ)), Err(Errno::ENOEXEC));
}

#[test]
fn places_are_random_unless_told_otherwise() {
    let kernel = kernel();
    let tops = |on, random| {
        kernel.memory.set_randomise(on);
        let space = AddressSpace::new(kernel.memory, Limits::default(), random).unwrap();
        kernel.memory.set_randomise(false);
        (space.map_stack().unwrap(), space.anonymous(0, 1, READ, PRIVATE).unwrap(), space.program_base())
    };
    assert_eq!(tops(false, 1), tops(false, 2));
    let (one, two) = (tops(true, 1), tops(true, 2));
    assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2);
    for (stack, mapping, program) in [one, two] {
        assert!(program < mapping && mapping < stack && stack <= crate::USER_TOP);
        assert!([stack, mapping, program].iter().all(|address| address % PAGE == 0));
    }
}
