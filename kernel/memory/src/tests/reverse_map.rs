//! The ways back from a file, and from an anonymous page, to who maps them, against a walk of all spaces, whatever programs do.

use super::*;
use crate::{MappedFile, Pager};
use abi::memory::RemapFlags;
use machine::memory::USER_TOP;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Pages of each file, and of what programs have of their addresses.
const PAGES: usize = 8;
const SPAN: usize = 24;
const BASE: usize = 0x3000_0000;

/// How many areas of `space` map the file.
fn areas_of(space: &AddressSpace, file: &Arc<MappedFile>) -> usize {
    space.areas().filter(|area| area.file.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, file))).count()
}

/// The pages of a file, by the numbers of their frames.
fn frames_of(cache: &PageCache) -> Vec<usize> {
    (0..PAGES as u64).map(|index| cache.page(index, false).unwrap().number()).collect()
}

/// How many pages of `space` show these frames.
fn shown(space: &AddressSpace, frames: &[usize]) -> usize {
    let mappings = (0..SPAN + PAGES).filter_map(|page| space.space().lookup(BASE + page * PAGE));
    mappings.filter(|mapping| frames.contains(&mapping.frame_number)).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_file_knows_all_who_map_it_and_nobody_else(
        steps in prop::collection::vec((0..9, 0_usize..SPAN, 1..PAGES, 0_usize..SPAN, any::<u8>()), 1..60),
    ) {
        let kernel = kernel();
        let free = kernel.free();
        let files = [file(&kernel, PAGES), file(&kernel, PAGES)];
        let frames = files.each_ref().map(|(cache, _)| frames_of(cache));
        let mut spaces = vec![kernel.space()];
        for (step, first, count, other, value) in steps {
            let space = spaces[value as usize % spaces.len()].clone();
            let (address, length) = (BASE + first * PAGE, count * PAGE);
            let (which, sharing) = (other % 2, if value & 2 == 0 { PRIVATE } else { MapFlags::SHARED });
            match step {
                0 | 1 => {
                    let from = (other % (PAGES - count)) as u64;
                    space.map_file(address, count, READ_WRITE, sharing | FIXED, &files[which].1, from).unwrap();
                }
                2 => wait(space.unmap(address, length)).unwrap(),
                3 => _ = wait(space.protect(address, length, if value & 4 == 0 { READ } else { READ_WRITE })),
                4 => {
                    let flags = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
                    _ = wait(space.remap(address, length, (1 + other % PAGES) * PAGE, flags, BASE + other * PAGE));
                }
                5 => spaces.push(wait(space.fork()).unwrap()),
                6 if spaces.len() > 1 => drop(spaces.swap_remove(value as usize % spaces.len())),
                7 => {
                    let (cache, _) = &files[which];
                    drop(cache.mappings().unwrap().unmap(&**cache, 0..PAGES as u64));
                    for space in &spaces {
                        prop_assert_eq!(shown(space, &frames[which]), 0, "a page is left that is to be nowhere");
                    }
                }
                _ => (0..count).for_each(|page| _ = if value & 8 == 0 {
                    space.byte(address + page * PAGE).map(drop)
                } else {
                    space.set_byte(address + page * PAGE, value)
                }),
            }
            drop(space);
            for (cache, mapped) in &files {
                let known = cache.mappings().unwrap().all();
                prop_assert!(known.iter().all(|(space, _)| spaces.iter().any(|other| Arc::ptr_eq(space, other))));
                for space in &spaces {
                    let entered = known.iter().find(|(other, _)| Arc::ptr_eq(space, other)).map_or(0, |(_, areas)| *areas);
                    prop_assert_eq!(entered, areas_of(space, mapped));
                }
            }
        }
        drop((spaces, files));
        prop_assert_eq!(kernel.free(), free);
    }
}

/// Where each frame is shown that is neither a file's nor the page of zeros: by its number, the spaces' places in the list and the addresses.
fn anonymous_pages(
    kernel: &Kernel,
    spaces: &[Arc<AddressSpace>],
    files: &[usize],
) -> BTreeMap<usize, BTreeSet<(usize, usize)>> {
    let mut pages = BTreeMap::<usize, BTreeSet<(usize, usize)>>::new();
    for (number, space) in spaces.iter().enumerate() {
        let mut next = 0;
        while let Some((address, mapping)) = space.space().next_mapped(next..USER_TOP) {
            next = usize::from(address) + PAGE;
            if mapping.frame_number != kernel.memory.zero().number() && !files.contains(&mapping.frame_number) {
                pages.entry(mapping.frame_number).or_default().insert((number, next - PAGE));
            }
        }
    }
    pages
}

/// Where the reverse map finds the frame that is shown at `address` of `space`.
fn found(kernel: &Kernel, spaces: &[Arc<AddressSpace>], space: usize, address: usize) -> BTreeSet<(usize, usize)> {
    let mut found = BTreeSet::new();
    let frame = spaces[space].space().frame_at(address).unwrap();
    drop(kernel.memory.visit_anonymous(&frame, |space, _, address, _| {
        let number = spaces.iter().position(|other| Arc::ptr_eq(space, other)).expect("it is over");
        assert!(found.insert((number, address)), "one place is found twice");
    }));
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_anonymous_page_is_found_wherever_it_is_mapped(
        steps in prop::collection::vec((0..12, 0_usize..SPAN, 1..PAGES, 0_usize..SPAN, any::<u8>()), 1..80),
    ) {
        let kernel = kernel();
        let free = kernel.free();
        let (cache, mapped) = file(&kernel, PAGES);
        let mut spaces = vec![kernel.space(), kernel.space()];
        for (step, first, count, other, value) in steps {
            let space = spaces[value as usize % spaces.len()].clone();
            let (address, length) = (BASE + first * PAGE, count * PAGE);
            let place = BASE + other * PAGE;
            // Moved is what there is.
            let areas: Vec<_> = space.areas().map(|area| area.range).collect();
            let part = areas.get(first % areas.len().max(1)).map_or(address..address + length, |area| {
                let start = area.start + other % (area.len() / PAGE) * PAGE;
                start..area.end.min(start + length)
            });
            match step {
                0 => _ = space.anonymous(address, count, READ_WRITE, FIXED).unwrap(),
                1 => _ = space.map_file(address, count, READ_WRITE, FIXED, &mapped, (other % (PAGES - count)) as u64).unwrap(),
                2 => wait(space.unmap(address, length)).unwrap(),
                3 => _ = wait(space.protect(address, length, if value & 4 == 0 { READ } else { READ_WRITE })),
                4 | 5 => {
                    let flags = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
                    _ = wait(space.remap(part.start, part.len(), part.len(), flags, place));
                }
                6 => _ = wait(space.remap(part.start, part.len(), (1 + other % PAGES) * PAGE, RemapFlags::MAY_MOVE, 0)),
                7 => spaces.push(wait(space.fork()).unwrap()),
                8 if spaces.len() > 1 => drop(spaces.swap_remove(value as usize % spaces.len())),
                _ => part.step_by(PAGE).for_each(|page| _ = space.set_byte(page, value)),
            }
            drop(space);
            for (frame, places) in anonymous_pages(&kernel, &spaces, &frames_of(&cache)) {
                let &(space, address) = places.first().unwrap();
                prop_assert_eq!(found(&kernel, &spaces, space, address), places, "frame {}", frame);
            }
        }
        drop((spaces, cache, mapped));
        prop_assert_eq!(kernel.free(), free);
    }
}

/// A tag says where to look, and nothing else: of a frame that has become a file's nobody is found by the tag it had before.
#[test]
fn a_tag_that_is_out_of_date_finds_nobody() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(BASE, 2, READ_WRITE, FIXED).unwrap();
    space.set_byte(area, 1).unwrap();
    let frame = space.space().frame_at(area).unwrap();
    let visits = || {
        let mut visits = 0;
        drop(kernel.memory.visit_anonymous(&frame, |_, _, address, _| visits += usize::from(address == area)));
        visits
    };
    assert_eq!(visits(), 1);
    // Another page has come there, and then the family is gone.
    wait(space.unmap(area, PAGE)).unwrap();
    space.anonymous(BASE, 1, READ_WRITE, FIXED).unwrap();
    space.set_byte(area, 2).unwrap();
    assert_eq!(visits(), 0);
    drop(space);
    assert_eq!(visits(), 0);
}
