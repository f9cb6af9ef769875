//! The buddy system and the stocks.

use super::kernel;
use crate::frames::FrameAllocator;
use machine::memory::{FrameRun, FrameSource};
use proptest::prelude::*;

/// An allocator over 1024 frames of its own: a run taken from the kernel's and never given back as such.
fn own_allocator(run: &FrameRun) -> FrameAllocator {
    let allocator = FrameAllocator::empty();
    run.numbers().for_each(|frame| allocator.set_state(frame, 0));
    allocator.add_range(run.numbers());
    allocator
}

const WHOLE: [usize; 11] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Runs `test` on an allocator that is one whole block, and puts the frames' records in order again.
fn with_own(test: impl FnOnce(&FrameAllocator)) {
    let kernel = kernel();
    let run = FrameRun::allocate_dirty(10).unwrap();
    let own = own_allocator(&run);
    assert_eq!(own.free_by_order(), WHOLE);
    test(&own);
    own.drain_stock();
    assert_eq!(own.free_by_order(), WHOLE, "everything came back and merged");
    assert_eq!((own.free_frames(), own.total_frames()), (1024, 1024));
    // The kernel's allocator must find them as it left them: taken.
    assert!(own.allocate(10).is_some());
    drop(run);
    assert_eq!(kernel.memory.frames().refused(), 0);
}

#[test]
fn a_block_splits_and_merges() {
    with_own(|own| {
        let first = own.allocate(3).unwrap();
        assert_eq!(first % 8, 0);
        assert_eq!(own.free_by_order(), [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(own.free_frames(), 1016);
        own.free(first, 3);
    });
}

#[test]
fn a_run_may_come_back_in_pieces() {
    with_own(|own| {
        let first = own.allocate(4).unwrap();
        for frame in first..first + 16 {
            own.free(frame, 0);
        }
    });
}

#[test]
fn the_stock_is_counted_as_free() {
    with_own(|own| {
        let frame = own.allocate(0).unwrap();
        assert_eq!(own.free_frames(), 1023);
        assert_eq!(own.free_by_order().iter().enumerate().map(|(order, count)| count << order).sum::<usize>(), 1023);
        own.free(frame, 0);
        assert_eq!(own.free_frames(), 1024);
    });
}

#[test]
fn what_is_free_cannot_be_freed() {
    with_own(|own| {
        let single = own.allocate(0).unwrap();
        own.free(single, 0);
        own.free(single, 0);
        assert_eq!(own.refused(), 1);
        let run = own.allocate(2).unwrap();
        own.free(run, 2);
        own.free(run + 1, 0);
        assert_eq!(own.refused(), 2);
        own.free(usize::MAX, 0);
        own.free(1, 3);
        own.free(0, 200);
        assert_eq!(own.refused(), 5);
        assert_eq!(own.allocate(11), None);
    });
}

#[test]
fn all_frames_can_be_had_one_by_one() {
    with_own(|own| {
        let mut frames: Vec<_> = std::iter::from_fn(|| own.allocate(0)).collect();
        assert_eq!((frames.len(), own.free_frames()), (1024, 0));
        assert_eq!(own.allocate(1), None);
        frames.sort();
        frames.dedup();
        assert_eq!(frames.len(), 1024);
        frames.into_iter().for_each(|frame| own.free(frame, 0));
    });
}

#[test]
fn a_large_block_is_made_of_what_the_stock_holds() {
    with_own(|own| {
        let frames: Vec<_> = (0..100).map(|_| own.allocate(0).unwrap()).collect();
        frames.into_iter().for_each(|frame| own.free(frame, 0));
        let all = own.allocate(10).unwrap();
        own.free(all, 10);
    });
}

/// As memory runs out, first nobody new may begin, then programs get nothing more, then somebody has to end: at twice the reserve,
/// at the reserve, at half of it.
#[test]
fn shortage_comes_in_three_steps() {
    with_own(|own| {
        let mut taken = Vec::new();
        let mut free_when = |happened: &dyn Fn() -> bool| {
            while !happened() {
                taken.push(own.allocate(2).unwrap());
            }
            own.free_frames()
        };
        let low = free_when(&|| own.is_low());
        let scarce = free_when(&|| own.is_scarce());
        let critical = free_when(&|| own.is_critical());
        assert!(scarce >= 28, "{scarce}");
        // They are taken four at a time.
        assert!(low.abs_diff(2 * scarce) <= 8, "{low} {scarce}");
        assert!(scarce.abs_diff(2 * critical) <= 8, "{scarce} {critical}");
        taken.into_iter().for_each(|first| own.free(first, 2));
        assert!(!own.is_low() && !own.is_scarce() && !own.is_critical());
    });
}

/// Whoever takes frames that can be refused, pages and page tables, leaves the half of the reserve that is there for what can't, also
/// if nobody has asked before each whether memory is scarce.
#[test]
fn what_can_be_refused_leaves_half_of_the_reserve() {
    let kernel = super::kernel();
    let frames = kernel.memory.frames();
    let taken: Vec<_> = std::iter::from_fn(machine::memory::Frame::allocate_dirty).collect();
    assert!(frames.is_scarce() && !frames.is_critical(), "{} are left", kernel.free());
    assert!(
        frames.allocate(0).is_some_and(|frame| {
            frames.free(frame, 0);
            true
        }),
        "the kernel gets more"
    );
    drop(taken);
    assert!(!frames.is_scarce());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn blocks_never_overlap_and_always_merge(steps in prop::collection::vec((0_u8..8, any::<bool>(), any::<usize>()), 1..300)) {
        with_own(|own| {
            let mut held: Vec<(usize, u8)> = Vec::new();
            let mut taken = std::collections::HashSet::new();
            for (order, take, which) in steps {
                if take {
                    let Some(first) = own.allocate(order) else { continue };
                    assert_eq!(first % (1 << order), 0);
                    for frame in first..first + (1 << order) {
                        assert!(taken.insert(frame), "frame {frame} was handed out twice");
                    }
                    held.push((first, order));
                } else if !held.is_empty() {
                    let (first, order) = held.swap_remove(which % held.len());
                    (first..first + (1 << order)).for_each(|frame| assert!(taken.remove(&frame)));
                    own.free(first, order);
                }
                assert_eq!(own.free_frames(), 1024 - taken.len());
            }
            held.into_iter().for_each(|(first, order)| own.free(first, order));
            assert_eq!(own.refused(), 0);
        });
    }
}
