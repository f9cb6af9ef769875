//! The way back from a file to who maps it, against a walk of all spaces, whatever programs do.

use super::*;
use crate::{MappedFile, Pager};
use abi::memory::RemapFlags;
use proptest::prelude::*;

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
