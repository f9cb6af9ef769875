//! Files in RAM.

use super::*;
use crate::Search::Found;
use crate::{CacheError, Destination};
use proptest::prelude::*;

fn read(cache: &PageCache, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    let count = cache.read_at(offset, &mut Destination::kernel(&mut bytes)).unwrap();
    bytes.truncate(count);
    bytes
}

fn write(cache: &PageCache, offset: u64, bytes: &[u8]) -> Result<usize, CacheError> {
    cache.write_at(offset, &mut Source::kernel(bytes))
}

#[test]
fn a_budget_is_kept() {
    let kernel = kernel();
    let budget = PageBudget::new(kernel.memory, 3);
    let cache = PageCache::new(budget.clone());
    assert_eq!(write(&cache, 0, &[1; 2 * PAGE]), Ok(2 * PAGE));
    let bytes = [2; 2 * PAGE];
    let mut source = Source::kernel(&bytes);
    assert_eq!(cache.write_at(2 * PAGE as u64, &mut source), Err(CacheError::NoSpace));
    assert_eq!((source.progress(), crate::Pager::size(&cache), budget.used()), (PAGE, 3 * PAGE as u64, 3));
    cache.set_size(PAGE as u64);
    assert_eq!(budget.used(), 1);
    assert_eq!(cache.allocate(0..4 * PAGE as u64), Err(CacheError::NoSpace));
    assert_eq!((budget.used(), crate::Pager::size(&cache)), (3, PAGE as u64));
    drop(cache);
    assert_eq!(budget.used(), 0);
}

#[test]
fn holes_and_data_are_found() {
    let kernel = kernel();
    let cache = PageCache::new(kernel.budget());
    let page = |index: u64| index * PAGE as u64;
    write(&cache, page(40), b"x").unwrap();
    write(&cache, page(41), b"x").unwrap();
    cache.set_size(page(1 << 40));
    assert_eq!(cache.resident(), 2);
    assert_eq!((cache.next_data(0), cache.next_data(page(40) + 7)), (Some(page(40)), Some(page(40) + 7)));
    assert_eq!((cache.next_hole(5), cache.next_hole(page(40) + 7)), (Found(5), Found(page(42))));
    assert_eq!(cache.next_data(page(42)), None);
    assert_eq!(read(&cache, page(1 << 40) - 3, 10), [0, 0, 0]);
    cache.punch(page(40) + 1..page(42));
    assert_eq!((cache.resident(), cache.next_hole(page(40))), (1, Found(page(41))));
    assert_eq!(read(&cache, page(40), 2), [b'x', 0]);
}

/// Whatever pages are there: full leaves, some missing, and leaves with a gap at any place.
#[test]
fn the_next_hole_is_the_first_page_that_is_missing() {
    let kernel = kernel();
    let cache = PageCache::new(kernel.budget());
    const PAGES: u64 = 5 * crate::page_cache::LEAF;
    let (all, page) = (0..PAGES, |index: u64| index * PAGE as u64);
    let fill = |index: u64| assert_eq!(write(&cache, page(index), b"x"), Ok(1));
    all.clone().for_each(fill);
    cache.set_size(page(PAGES));
    assert_eq!([cache.next_hole(0), cache.next_hole(page(PAGES) - 1)], [Found(page(PAGES)); 2]);
    for missing in [vec![0], vec![31], vec![32], vec![70, 77, 95], (64..96).collect(), vec![33, 64, 159]] {
        missing.iter().for_each(|&index| assert_eq!(cache.punch(page(index)..page(index + 1)), None));
        for index in all.clone() {
            let expected = missing.iter().copied().find(|&hole| hole >= index).unwrap_or(PAGES);
            let at = page(index) + 9;
            assert_eq!(cache.next_hole(at), Found(at.max(page(expected))), "from {index} without {missing:?}");
        }
        missing.into_iter().for_each(fill);
    }
}

#[test]
fn a_fault_in_the_middle_of_a_write_keeps_what_came() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 3, READ_WRITE, PRIVATE).unwrap();
    wait(space.copy_out(area, &[7; PAGE + 100])).unwrap();
    wait(space.unmap(area + 2 * PAGE, PAGE)).unwrap();
    let cache = PageCache::new(kernel.budget());
    let mut source = Source::user(&space, area + 50, 3 * PAGE);
    let Err(CacheError::Fault(fault)) = cache.write_at(0, &mut source) else { panic!("the end isn't mapped") };
    assert_eq!(fault.address, (area + 2 * PAGE).into());
    assert_eq!(source.progress(), 2 * PAGE - 50);
    assert_eq!(crate::Pager::size(&cache), (2 * PAGE - 50) as u64);
    assert_eq!(wait(source.fault_in(fault)), Err(Errno::EFAULT));
    let bytes = read(&cache, 0, 3 * PAGE);
    assert_eq!(bytes.len(), 2 * PAGE - 50);
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == if at < PAGE + 50 { 7 } else { 0 }));
}

#[test]
fn nothing_leaks() {
    let kernel = kernel();
    let free = kernel.free();
    let (cache, mapped) = file(&kernel, 100);
    assert_eq!(kernel.free(), free - 100);
    assert_eq!(kernel.memory.file_pages(), 100);
    drop((cache, mapped));
    assert_eq!(kernel.free(), free);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_cache_is_an_array_of_bytes(steps in prop::collection::vec((0..4, 0_usize..20_000, 0_usize..9_000, any::<u8>()), 1..30)) {
        let kernel = kernel();
        let free = kernel.free();
        let cache = PageCache::new(kernel.budget());
        let mut model: Vec<u8> = Vec::new();
        for (step, offset, length, value) in steps {
            match step {
                0 => {
                    prop_assert_eq!(write(&cache, offset as u64, &vec![value; length]), Ok(length));
                    if length > 0 {
                        model.resize(model.len().max(offset + length), 0);
                        model[offset..offset + length].fill(value);
                    }
                }
                1 => {
                    cache.set_size(offset as u64);
                    model.resize(offset, 0);
                }
                2 => {
                    cache.punch(offset as u64..(offset + length) as u64);
                    let end = model.len();
                    model[offset.min(end)..(offset + length).min(end)].fill(0);
                }
                _ => {
                    let mut at = offset as u64;
                    while let Some(next) = cache.allocate(at..(offset + length) as u64).unwrap() {
                        at = next;
                    }
                }
            }
            prop_assert_eq!(&read(&cache, 0, 40_000), &model);
        }
        drop(cache);
        prop_assert_eq!(kernel.free(), free);
    }
}
