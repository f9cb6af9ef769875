//! mmap and munmap: where areas go, what they become, what is refused.

use super::*;
use proptest::prelude::*;

#[test]
fn mappings_are_placed_downwards_and_merge() {
    let kernel = kernel();
    let space = kernel.space();
    let first = space.anonymous(0, 2, READ_WRITE, PRIVATE).unwrap();
    let second = space.anonymous(0, 3, READ_WRITE, PRIVATE).unwrap();
    assert_eq!(second, first - 3 * PAGE);
    assert_eq!(space.lines(second), ["0-5 rw-p"]);
    let third = space.anonymous(0, 1, READ, PRIVATE).unwrap();
    assert_eq!(space.lines(third), ["0-1 r--p", "1-6 rw-p"]);
    assert_eq!(space.usage().size, 6);
}

#[test]
fn a_wish_is_granted_if_free() {
    let kernel = kernel();
    let space = kernel.space();
    assert_eq!(space.anonymous(0x10_0000, 4, READ, PRIVATE), Ok(0x10_0000));
    assert_eq!(space.anonymous(0x20_0123, 1, READ, PRIVATE), Ok(0x20_1000));
    assert_ne!(space.anonymous(0x10_1000, 1, READ, PRIVATE), Ok(0x10_1000));
    assert_eq!(space.anonymous(1, 1, READ, PRIVATE), Ok(0x10000), "a low wish is lifted to the minimum");
    let low = space.anonymous(0, 1, READ, PRIVATE | MapFlags::LOW_2_GIB).unwrap();
    assert_eq!(low, 0x4000_0000);
}

#[test]
fn fixed_replaces_and_noreplace_refuses() {
    let kernel = kernel();
    let space = kernel.space();
    let base = 0x100_0000;
    space.anonymous(base, 10, READ_WRITE, FIXED).unwrap();
    space.set_byte(base + 4 * PAGE, 9).unwrap();
    space.anonymous(base + 3 * PAGE, 3, READ, FIXED).unwrap();
    assert_eq!(space.lines(base), ["0-3 rw-p", "3-6 r--p", "6-10 rw-p"]);
    assert_eq!(space.byte(base + 4 * PAGE), Ok(0), "the old page is gone");
    let flags = PRIVATE | MapFlags::FIXED_NO_REPLACE;
    assert_eq!(space.anonymous(base + 9 * PAGE, 2, READ, flags), Err(Errno::EEXIST));
    assert_eq!(space.anonymous(base + 10 * PAGE, 2, READ, flags), Ok(base + 10 * PAGE));
}

#[test]
fn errors_are_linux_s() {
    let kernel = kernel();
    let space = kernel.space();
    let map = |address, length, flags| {
        space.map(&MapRequest { address, length, protection: READ, flags, backing: Backing::Anonymous })
    };
    let anonymous = PRIVATE | MapFlags::ANONYMOUS;
    let fixed = anonymous | MapFlags::FIXED;
    assert_eq!(map(0, 0, anonymous), Err(Errno::EINVAL));
    assert_eq!(map(0, usize::MAX, anonymous), Err(Errno::ENOMEM));
    assert_eq!(map(0, 1 << 47, anonymous), Err(Errno::ENOMEM));
    assert_eq!(map(0x1_0001, 1, fixed), Err(Errno::EINVAL));
    assert_eq!(map(crate::USER_TOP, PAGE, fixed), Err(Errno::ENOMEM));
    assert_eq!(map(0, PAGE, fixed), Err(Errno::EPERM));
    assert_eq!(map(0, PAGE, MapFlags::ANONYMOUS), Err(Errno::EINVAL));
    let validate = MapFlags::from_bits_retain(MapFlags::SHARED_VALIDATE);
    assert_eq!(map(0, PAGE, MapFlags::ANONYMOUS | validate), Err(Errno::EINVAL));

    let (cache, _) = file(&kernel, 1);
    let only = |readable, writable, executable| {
        let identity: Arc<dyn FileIdentity> = Arc::new(Named);
        Arc::new(MappedFile { pager: cache.clone(), identity, readable, writable, executable })
    };
    let execute = READ | Protection::EXECUTE;
    let shared = MapFlags::SHARED;
    assert_eq!(space.map_file(0, 1, READ, PRIVATE, &only(false, true, true), 0), Err(Errno::EACCES));
    assert_eq!(space.map_file(0, 1, READ_WRITE, shared, &only(true, false, true), 0), Err(Errno::EACCES));
    assert_eq!(space.map_file(0, 1, execute, PRIVATE, &only(true, true, false), 0), Err(Errno::EPERM));
    let unknown = validate | MapFlags::from_bits_retain(1 << 25);
    assert_eq!(space.map_file(0, 1, READ, unknown, &only(true, true, true), 0), Err(Errno::EOPNOTSUPP));
    assert!(
        space.map_file(0, 1, READ, shared | MapFlags::from_bits_retain(1 << 25), &only(true, true, true), 0).is_ok()
    );
    assert_eq!(
        space.map_file(0, 1, READ, PRIVATE, &only(true, true, true), u64::MAX / PAGE as u64),
        Err(Errno::EOVERFLOW)
    );

    assert_eq!(wait(space.unmap(1, PAGE)), Err(Errno::EINVAL));
    assert_eq!(wait(space.unmap(0, 0)), Err(Errno::EINVAL));
    assert_eq!(wait(space.unmap(PAGE, usize::MAX - 2 * PAGE)), Err(Errno::EINVAL));
    assert_eq!(wait(space.unmap(0x5000_0000, PAGE)), Ok(()), "nothing there is fine");
}

#[test]
fn limits_hold() {
    let kernel = kernel();
    let limits = Limits { address_space: 10 << 12, data: 4 << 12, ..Limits::default() };
    let space = kernel.space_with(limits);
    assert_eq!(space.anonymous(0, 11, READ, PRIVATE), Err(Errno::ENOMEM));
    assert_eq!(space.anonymous(0, 5, READ_WRITE, PRIVATE), Err(Errno::ENOMEM), "data");
    let area = space.anonymous(0, 10, READ, PRIVATE).unwrap();
    assert_eq!(space.anonymous(0, 1, READ, PRIVATE), Err(Errno::ENOMEM));
    assert!(space.anonymous(area, 4, READ_WRITE, FIXED).is_ok(), "what is replaced doesn't count twice");
    assert_eq!(wait(space.protect(area, 5 * PAGE, READ_WRITE)), Err(Errno::ENOMEM), "data");
}

#[test]
fn obvious_overcommit_is_refused_and_promises_are_counted() {
    use machine::memory::FrameSource;
    let kernel = kernel();
    let total = kernel.memory.frames().total_frames();
    let before = kernel.memory.committed();
    let space = kernel.space();
    assert_eq!(space.anonymous(0, total + 1, READ_WRITE, PRIVATE), Err(Errno::ENOMEM));
    assert!(space.anonymous(0, total + 1, READ_WRITE, PRIVATE | MapFlags::NO_RESERVE).is_ok());
    assert!(space.anonymous(0, total + 1, READ, PRIVATE).is_ok());
    assert_eq!(kernel.memory.committed(), before);
    let area = space.anonymous(0, 8, READ_WRITE, PRIVATE).unwrap();
    assert_eq!(kernel.memory.committed(), before + 8);
    let child = wait(space.fork()).unwrap();
    assert_eq!(kernel.memory.committed(), before + 16);
    wait(space.unmap(area, 3 * PAGE)).unwrap();
    assert_eq!(kernel.memory.committed(), before + 13);
    drop((space, child));
    assert_eq!(kernel.memory.committed(), before);
}

#[test]
fn nothing_is_placed_where_a_stack_may_grow() {
    let kernel = kernel();
    let space = kernel.space();
    let stack = 0x5000_0000;
    space.anonymous(stack, 2, READ_WRITE, FIXED | MapFlags::GROWS_DOWN).unwrap();
    let wish = stack - 100 * PAGE;
    assert_ne!(space.anonymous(wish, 1, READ, PRIVATE), Ok(wish));
    let wish = stack - 257 * PAGE;
    assert_eq!(space.anonymous(wish, 1, READ, PRIVATE), Ok(wish));
}

#[test]
fn a_full_space_says_so() {
    let kernel = kernel();
    let space = kernel.space();
    let half = 1 << 46;
    let flags = PRIVATE | MapFlags::NO_RESERVE;
    let first = space.anonymous(0, half / PAGE, READ, flags).unwrap();
    assert!(first >= 0x10000);
    assert_eq!(space.anonymous(0, half / PAGE, READ, flags), Err(Errno::ENOMEM));
    // Above the base of mappings there is still room, below the stack.
    assert!(space.anonymous(0, (half - (256 << 20)) / PAGE, READ, flags).is_ok());
}

#[test]
fn tens_of_thousands_of_areas() {
    let kernel = kernel();
    let space = kernel.space();
    let base = 0x1000_0000;
    for index in 0..crate::MAXIMUM_AREAS {
        space.anonymous(base + index * 2 * PAGE, 1, READ, FIXED).unwrap();
    }
    assert_eq!(space.anonymous(0, 1, READ, PRIVATE), Err(Errno::ENOMEM));
    assert_eq!(space.usage().areas, crate::MAXIMUM_AREAS);
    assert_eq!(space.byte(base + 40_000 * PAGE), Ok(0));
    assert_eq!(space.byte(base + 40_001 * PAGE), Err(Errno::EFAULT));
    let child = wait(space.fork()).unwrap();
    assert_eq!(child.usage().areas, crate::MAXIMUM_AREAS);
    wait(space.unmap(base, 2 * PAGE * 65_000)).unwrap();
    assert_eq!(space.usage().areas, 530);
    wait(child.clear());
    assert_eq!(child.usage().areas, 0);
}

#[test]
fn files_know_who_maps_them() {
    let kernel = kernel();
    let (cache, mapped) = file(&kernel, 4);
    let space = kernel.space();
    let area = space.map_file(0, 4, READ, PRIVATE, &mapped, 0).unwrap();
    wait(space.protect(area + PAGE, PAGE, READ_WRITE)).unwrap();
    assert_eq!(space.lines(area), ["0-1 r--p @0", "1-2 rw-p @1", "2-4 r--p @2"]);
    let child = wait(space.fork()).unwrap();
    use crate::Pager;
    wait(space.unmap(area, 4 * PAGE)).unwrap();
    assert!(!cache.mappings().unwrap().is_empty());
    drop(child);
    assert!(cache.mappings().unwrap().is_empty());
    assert_eq!(Arc::strong_count(&mapped), 1);
}

#[test]
fn neighbouring_pages_of_a_file_merge() {
    let kernel = kernel();
    let (_, mapped) = file(&kernel, 8);
    let space = kernel.space();
    let base = 0x2000_0000;
    space.map_file(base, 2, READ, FIXED, &mapped, 0).unwrap();
    space.map_file(base + 2 * PAGE, 2, READ, FIXED, &mapped, 2).unwrap();
    space.map_file(base + 4 * PAGE, 2, READ, FIXED, &mapped, 5).unwrap();
    assert_eq!(space.lines(base), ["0-4 r--p @0", "4-6 r--p @5"]);
}

/// What a space should hold, page by page.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Page {
    rights: u32,
    value: u8,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn maps_agree_with_a_table_of_pages(steps in prop::collection::vec((0..5, 0_usize..30, 1_usize..12, 0_u32..4, any::<u8>()), 1..60)) {
        let kernel = kernel();
        let free = kernel.free();
        let base = 0x3000_0000;
        let mut spaces = vec![(kernel.space(), [None::<Page>; 48])];
        for (step, first, count, rights, value) in steps {
            let last = spaces.len() - 1;
            let (space, table) = &mut spaces[last];
            let (address, part) = (base + first * PAGE, &mut table[first..first + count]);
            let protection = Protection::from_bits_retain(rights);
            match step {
                0 => {
                    prop_assert_eq!(space.anonymous(address, count, protection, FIXED), Ok(address));
                    part.fill(Some(Page { rights, value: 0 }));
                }
                1 => {
                    prop_assert_eq!(wait(space.unmap(address, count * PAGE)), Ok(()));
                    part.fill(None);
                }
                2 => {
                    let whole = part.iter().all(Option::is_some);
                    let result = wait(space.protect(address, count * PAGE, protection));
                    prop_assert_eq!(result, if whole { Ok(()) } else { Err(Errno::ENOMEM) });
                    part.iter_mut().map_while(Option::as_mut).for_each(|page| page.rights = rights);
                }
                3 => {
                    let writable = part[0].is_some_and(|page| page.rights & 2 != 0);
                    let result = space.set_byte(address, value);
                    prop_assert_eq!(result, if writable { Ok(()) } else { Err(Errno::EFAULT) });
                    if let (true, Some(page)) = (writable, &mut part[0]) {
                        page.value = value;
                    }
                }
                _ => {
                    let (child, copy) = (wait(space.fork()).unwrap(), *table);
                    spaces.push((child, copy));
                }
            }
            for (space, table) in &spaces {
                for (index, page) in table.iter().enumerate() {
                    let expected = page.filter(|page| page.rights != 0).map(|page| page.value).ok_or(Errno::EFAULT);
                    prop_assert_eq!(space.byte(base + index * PAGE), expected, "page {}", index);
                }
                let areas: Vec<_> = space.areas().collect();
                prop_assert!(areas.windows(2).all(|two| two[0].range.end <= two[1].range.start));
                prop_assert_eq!(space.usage().size, table.iter().flatten().count());
            }
        }
        drop(spaces);
        prop_assert_eq!(kernel.free(), free);
    }
}
