//! Threads that supply pages while others take them, and their tables, away: nothing is lost, and nothing is counted twice.

use super::paging::{Tables, USER_TOP};
use crate::memory::{Access, Frame, PAGE_SIZE};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const ACCESS: Access = Access::READ.union(Access::WRITE);
const LEAF: usize = 1 << 21;
const START: usize = (1 << 39) - 4 * LEAF;
/// On both sides of where all upper tables are others.
const LEAVES: usize = 8;
const TURNS: usize = if cfg!(miri) { 20 } else { 2_000 };

/// A pseudo-random page of the range.
fn page(seed: &mut usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    START + (*seed >> 33) % LEAVES * LEAF + (*seed >> 45) % 4 * PAGE_SIZE
}

/// Maps, looks, and writes to copies.
fn supply(space: &Tables, frame: &Frame, mut seed: usize) {
    for turn in 0..TURNS {
        let page = page(&mut seed);
        match turn % 4 {
            0 => drop(space.map_over(page, None, frame.clone(), ACCESS, || true).unwrap()),
            1 => drop(space.map_batch(page, [frame.clone(), frame.clone()].into_iter(), ACCESS, || true).unwrap()),
            2 => drop(space.lookup(page)),
            _ => drop(space.break_copy_on_write(page, ACCESS, 0, || true).unwrap()),
        }
        assert!(space.frame_at(page).is_none_or(|found| found.references() > 1));
    }
}

/// Takes single pages, whole tables and everything; moves; shares with a child that goes.
fn take_away(space: &Tables, mut seed: usize) {
    for turn in 0..TURNS / 4 {
        let page = page(&mut seed);
        let leaf = page & !(LEAF - 1);
        match turn % 5 {
            0 => drop(space.gather().unmap(page..page + PAGE_SIZE, usize::MAX)),
            1 => drop(space.gather().unmap(leaf..leaf + 2 * LEAF, usize::MAX)),
            2 => drop(space.gather().unmap(0..USER_TOP, usize::MAX)),
            3 => space.gather().move_range(leaf..leaf + 4 * PAGE_SIZE, START + (LEAVES + 1) * LEAF).unwrap(),
            _ => {
                let child = Tables::new(None).unwrap();
                space.gather().share_with(&child, START..START + LEAVES * LEAF, true).unwrap();
            }
        }
    }
}

#[test]
fn pages_come_while_others_and_their_tables_go() {
    let space = Tables::new(None).unwrap();
    let frame = Frame::zeroed().unwrap();
    thread::scope(|scope| {
        for seed in 0..2 {
            let (space, frame) = (&space, &frame);
            scope.spawn(move || supply(space, frame, seed));
            scope.spawn(move || take_away(space, seed + 100));
        }
    });
    let (mut pages, mut shown, mut at) = (0, 0, 0);
    while let Some((page, mapping)) = space.next_mapped(at..USER_TOP) {
        pages += 1;
        shown += usize::from(mapping.frame_number == frame.number());
        at = page + PAGE_SIZE;
    }
    assert_eq!((space.resident(), frame.references() as usize), (pages, 1 + shown));
    space.gather().unmap(0..USER_TOP, usize::MAX);
    assert_eq!((space.resident(), space.tables(), frame.references()), (0, 0, 1));
}

/// Who supplies a page waits for those of his own table, and for nobody else.
#[test]
fn a_page_waits_for_the_lock_of_its_own_table_only() {
    let space = Tables::new(None).unwrap();
    let frame = Frame::zeroed().unwrap();
    let [is_held, is_done, is_in] = [false; 3].map(AtomicBool::new);
    let until = |flag: &AtomicBool| {
        while !flag.load(Ordering::Acquire) {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let held_up = || {
                is_held.store(true, Ordering::Release);
                until(&is_done);
                true
            };
            space.map_over(START, None, frame.clone(), ACCESS, held_up).unwrap();
        });
        until(&is_held);
        scope.spawn(|| {
            space.map(START + PAGE_SIZE, frame.clone(), ACCESS).unwrap();
            is_in.store(true, Ordering::Release);
        });
        // In tables that are there, and in some that are made, below shared ones and below none.
        for leaf in 1..LEAVES {
            space.map(START + leaf * LEAF, frame.clone(), ACCESS).unwrap();
            assert!(space.lookup(START + leaf * LEAF).is_some());
        }
        assert!(space.lookup(START).is_none(), "a look waits for nobody");
        space.gather().unmap(START + LEAF..START + 2 * LEAF, usize::MAX);
        let is_early = (0..100).any(|_| {
            thread::yield_now();
            is_in.load(Ordering::Acquire)
        });
        is_done.store(true, Ordering::Release);
        assert!(!is_early, "two had the lock at once");
    });
    assert_eq!(space.resident(), LEAVES);
}
