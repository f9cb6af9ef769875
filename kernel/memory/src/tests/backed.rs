//! Files that lie elsewhere: pages on their way, dirty pages, and what comes in between.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU32;

use proptest::prelude::*;

use super::stored::Stored;
use super::*;
use crate::page_cache::LEAF;
use crate::{CacheError, Destination, Flusher, Frame, Pager, PagerError};

struct File {
    cache: Arc<PageCache>,
    stored: Arc<Stored>,
    flusher: Arc<Flusher>,
}

/// A file of so many pages; page i is filled with the byte i + 1.
fn slow_file(kernel: &Kernel, pages: usize, stored: Arc<Stored>) -> File {
    (0..pages).for_each(|index| stored.put(index as u64, index as u8 + 1));
    let flusher = Flusher::new(kernel.memory);
    let cache = PageCache::backed(kernel.budget(), stored.backing(), &flusher, (pages * PAGE) as u64);
    File { cache, stored, flusher }
}

impl File {
    fn mapped(&self) -> Arc<MappedFile> {
        let pager = self.cache.clone();
        Arc::new(MappedFile { pager, identity: Arc::new(Named), readable: true, writable: true, executable: true })
    }

    /// Runs a future to its end, a step of the backing's time for each poll.
    fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..100_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            self.stored.queue.step();
        }
        panic!("the future never became ready");
    }

    async fn read(&self, offset: usize, length: usize) -> Result<Vec<u8>, CacheError> {
        let mut bytes = vec![0xee; length];
        let mut to = Destination::kernel(&mut bytes);
        let progress = loop {
            match self.cache.read_at((offset + to.progress()) as u64, &mut to) {
                Ok(_) => break to.progress(),
                Err(CacheError::Wait(index)) => self.cache.ready(index).await.map_err(told)?,
                Err(error) => return Err(error),
            }
        };
        bytes.truncate(progress);
        Ok(bytes)
    }

    async fn write(&self, offset: usize, bytes: &[u8]) -> Result<usize, CacheError> {
        let mut from = Source::kernel(bytes);
        loop {
            match self.cache.write_at((offset + from.progress()) as u64, &mut from) {
                Ok(_) => return Ok(from.progress()),
                Err(CacheError::Wait(index)) => self.cache.ready(index).await.map_err(told)?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn cut(&self, size: usize) -> Result<(), PagerError> {
        self.cache.set_size(size as u64);
        self.cache.finish_cut().await
    }

    fn forget_clean(&self) {
        while self.cache.give_back(u64::MAX) > 0 {}
        self.cache.give_back(u64::MAX);
    }
}

/// What a read or write says that waited.
fn told(error: PagerError) -> CacheError {
    match error {
        PagerError::OutOfMemory => CacheError::OutOfMemory,
        _ => CacheError::Io,
    }
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_page_in_ram_costs_less_than_six_bytes() {
    assert_eq!(core::mem::size_of::<crate::page_cache::Leaf>(), 144);
    // With its counts, and its sixteenth of a branch.
    assert!(core::mem::size_of::<crate::page_cache::Leaf>() + 16 + (16 * 8 + 16 + 16) / 16 < 6 * LEAF as usize);
}

#[test]
fn two_who_read_a_page_share_one_request() {
    let kernel = kernel();
    let file = slow_file(&kernel, 1, Stored::new(1, 3));
    let mut readers = [Box::pin(file.read(0, PAGE)), Box::pin(file.read(7, 9))];
    readers.iter_mut().for_each(|reader| assert!(poll(reader).is_pending()));
    assert_eq!(file.cache.page(0, false).map(drop), Err(PagerError::Wait));
    assert_eq!(file.stored.queue.in_flight(), 1);
    while file.stored.queue.step() {}
    let [first, second] = readers.each_mut().map(poll);
    assert_eq!((first, second), (Poll::Ready(Ok(vec![1; PAGE])), Poll::Ready(Ok(vec![1; 9]))));
    assert!(file.cache.page(0, false).is_ok());
    assert_eq!(file.stored.reads(), 1);
}

#[test]
fn nobody_asks_again_before_the_page_is_there() {
    let kernel = kernel();
    let file = slow_file(&kernel, 40, Stored::new(2, 50));
    let asked = AtomicUsize::new(0);
    let mut reader = Box::pin(async {
        let mut byte = [0];
        let mut to = Destination::kernel(&mut byte);
        while let Err(CacheError::Wait(index)) = {
            asked.fetch_add(1, Ordering::Relaxed);
            file.cache.read_at(30 * PAGE as u64, &mut to)
        } {
            file.cache.ready(index).await.unwrap();
        }
        byte
    });
    assert!(poll(&mut reader).is_pending());
    // Others come and go, and wake all who wait.
    file.run(file.read(0, 20 * PAGE)).unwrap();
    assert_eq!(file.run(reader), [31]);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn who_asks_for_a_page_that_cannot_be_read_is_told_and_may_ask_again() {
    let kernel = kernel();
    let file = slow_file(&kernel, 3, Stored::new(3, 4));
    let free = kernel.free();
    file.stored.queue.set_failing(256, 0);
    let mut both = [Box::pin(file.read(0, 1)), Box::pin(file.read(0, 1))];
    both.iter_mut().for_each(|reader| assert!(poll(reader).is_pending()));
    for reader in &mut both {
        assert_eq!(file.run(reader), Err(CacheError::Io));
    }
    assert_eq!(kernel.free(), free, "a page that could not be read takes no memory");
    file.stored.queue.set_failing(0, 0);
    assert_eq!(file.run(file.read(0, 1)), Ok(vec![1]));
}

/// A reader who is killed is told nothing; whoever comes next is not told in his place.
#[test]
fn who_gives_up_leaves_no_error_to_others() {
    let kernel = kernel();
    let file = slow_file(&kernel, 40, Stored::new(3, 4));
    file.stored.queue.set_failing(256, 0);
    let mut killed = [Box::pin(file.read(0, 1)), Box::pin(file.read(30 * PAGE, 1))];
    killed.iter_mut().for_each(|reader| assert!(poll(reader).is_pending()));
    // One before his read fails, the other after it.
    let [first, second] = killed;
    drop(first);
    while file.stored.queue.step() {}
    drop(second);
    file.stored.queue.set_failing(0, 0);
    assert_eq!(file.run(file.read(0, 1)), Ok(vec![1]));
    assert_eq!(file.run(file.read(30 * PAGE, 1)), Ok(vec![31]));
    // Who waits beside one that is killed is told.
    file.forget_clean();
    file.stored.queue.set_failing(256, 0);
    let mut both = [Box::pin(file.read(0, 1)), Box::pin(file.read(0, 1))];
    both.iter_mut().for_each(|reader| assert!(poll(reader).is_pending()));
    let [killed, mut waiting] = both;
    while file.stored.queue.step() {}
    drop(killed);
    assert_eq!(poll(&mut waiting), Poll::Ready(Err(CacheError::Io)));
}

/// Very many files, none of which has anything to give: no call looks through all of them.
#[test]
fn files_are_asked_for_pages_in_slices() {
    const FILES: usize = 1000;
    let kernel = kernel();
    let flusher = Flusher::new(kernel.memory);
    let stored = Stored::new(1, 0);
    stored.put(0, 1);
    let new = |_| PageCache::backed(kernel.budget(), stored.backing(), &flusher, PAGE as u64);
    let files: Vec<Arc<PageCache>> = (0..FILES).map(new).collect();
    let ask = || std::iter::from_fn(|| Some(crate::Cache::give_back(&*flusher, 1)));
    let round: Vec<_> = ask().take_while(|given| *given != Some(0)).collect();
    assert_eq!(round, [None; 7], "2,000 files, 256 at a time");
    // One that has a page is found, and another one after it.
    [900, 950].iter().for_each(|&file: &usize| drop(files[file].page(0, false).unwrap()));
    let found: Vec<_> = ask().take_while(|given| *given != Some(0)).flatten().collect();
    assert_eq!(found, [1, 1]);
}

#[test]
fn what_is_written_reaches_the_backing_and_stays_in_memory() {
    let kernel = kernel();
    let file = slow_file(&kernel, 2, Stored::new(4, 3));
    file.run(file.write(PAGE - 2, b"abcd")).unwrap();
    file.run(file.write(5 * PAGE + 10, b"end")).unwrap();
    assert_eq!((file.cache.dirty(), file.flusher.unwritten()), (3, 3));
    file.run(file.cache.write_back(0..u64::MAX)).unwrap();
    assert_eq!((file.cache.dirty(), file.flusher.unwritten()), (0, 0));
    let size = file.cache.size() as usize;
    let stored = file.stored.contents(size);
    assert_eq!((size, &stored[PAGE - 3..PAGE + 3]), (5 * PAGE + 13, &[1, b'a', b'b', b'c', b'd', 2][..]));
    assert_eq!(&stored[5 * PAGE..], [&[0; 10][..], b"end"].concat());
    let before = file.stored.reads();
    assert_eq!(file.run(file.read(PAGE - 2, 4)).unwrap(), b"abcd");
    assert_eq!(file.stored.reads(), before);
}

#[test]
fn a_whole_page_that_is_written_is_not_read_and_outlives_a_read_in_flight() {
    let kernel = kernel();
    let file = slow_file(&kernel, 2, Stored::new(5, 9));
    file.run(file.write(PAGE, &[9; PAGE])).unwrap();
    assert_eq!(file.stored.reads(), 0);
    let mut reader = Box::pin(file.read(0, 1));
    assert!(poll(&mut reader).is_pending());
    assert_eq!(file.cache.write_at(0, &mut Source::kernel(&[8; PAGE])), Ok(PAGE));
    assert_eq!(file.run(reader), Ok(vec![8]));
    while file.stored.queue.step() {}
    assert_eq!(file.run(file.read(0, 2 * PAGE)).unwrap(), [[8; PAGE], [9; PAGE]].concat());
}

#[test]
fn a_page_that_cannot_be_written_stays_dirty_and_each_who_has_it_open_is_told_once() {
    let kernel = kernel();
    let file = slow_file(&kernel, 1, Stored::new(6, 3));
    let errors = file.cache.write_errors().unwrap();
    let openings = [errors.sample(), errors.sample()].map(AtomicU32::new);
    file.run(file.write(3, b"x")).unwrap();
    file.stored.queue.set_failing(0, 256);
    file.run(file.cache.write_back(0..u64::MAX)).unwrap();
    assert_eq!(file.cache.dirty(), 1);
    file.forget_clean();
    assert_eq!(file.run(file.read(3, 1)).unwrap(), b"x", "what could not be written is not lost");
    for opening in &openings {
        assert_eq!([errors.check(opening), errors.check(opening)], [Err(PagerError::Io), Ok(())]);
    }
    file.stored.queue.set_failing(0, 0);
    file.run(file.cache.write_back(0..u64::MAX)).unwrap();
    assert_eq!((file.cache.dirty(), file.stored.contents(4)[3]), (0, b'x'));
    assert_eq!(openings.each_ref().map(|opening| errors.check(opening)), [Ok(()), Ok(())]);
}

#[test]
fn a_mapped_page_is_dirty_again_when_it_is_written_after_its_write_back_began() {
    let kernel = kernel();
    let file = slow_file(&kernel, 2, Stored::new(7, 5));
    let space = kernel.space();
    let area = space.map_file(0, 2, READ_WRITE, MapFlags::SHARED, &file.mapped(), 0).unwrap();
    file.run(space.write_value(area, &7_u8)).unwrap();
    assert_eq!(file.cache.dirty(), 1);
    let mut written = Box::pin(file.cache.write_back(0..2));
    assert!(poll(&mut written).is_pending());
    assert_eq!(file.cache.dirty(), 0);
    file.run(space.write_value(area, &8_u8)).unwrap();
    file.run(written).unwrap();
    assert_eq!((file.cache.dirty(), space.byte(area)), (1, Ok(8)));
    file.run(file.cache.write_back(0..2)).unwrap();
    assert_eq!((file.cache.dirty(), file.stored.contents(1)), (0, vec![8]));
}

#[test]
fn what_was_written_behind_the_end_is_nothing_when_the_file_grows() {
    let kernel = kernel();
    let file = slow_file(&kernel, 3, Stored::new(6, 3));
    let space = kernel.space();
    let area = space.map_file(0, 3, READ_WRITE, MapFlags::SHARED, &file.mapped(), 0).unwrap();
    let behind = |end: usize, grow: &dyn Fn()| {
        file.run(file.cut(end)).unwrap();
        file.run(space.fault(area, Access::WRITE)).unwrap();
        space.set_byte(area + 300, 9).unwrap();
        grow();
        file.run(file.read(300, 1)).unwrap()
    };
    assert_eq!(behind(100, &|| file.run(file.cut(2 * PAGE)).unwrap()), [0], "truncate(2)");
    assert_eq!(behind(200, &|| assert_eq!(file.run(file.write(400, b"x")), Ok(1))), [0], "write(2)");
    assert_eq!(behind(250, &|| file.cache.grow(PAGE as u64)), [0], "fallocate(2)");
}

#[test]
fn a_fault_reads_what_lies_around() {
    let kernel = kernel();
    let file = slow_file(&kernel, 70, Stored::new(5, 0));
    assert!(
        file.cache.page(40, false).is_ok() && file.cache.page(32, false).is_ok() && file.cache.page(63, false).is_ok()
    );
    assert_eq!((file.stored.reads(), file.cache.resident()), (1, 32));
    assert!(file.cache.page(69, false).is_ok());
    assert_eq!((file.stored.reads(), file.cache.resident()), (2, 38));
}

#[test]
fn a_cut_waits_for_what_is_in_flight_and_nothing_comes_back() {
    let kernel = kernel();
    for seed in 0..200 {
        let file = slow_file(&kernel, 8, Stored::new(seed, 20));
        file.run(file.write(3 * PAGE, &[77; 3 * PAGE])).unwrap();
        let mut written = Box::pin(file.cache.write_back(0..u64::MAX));
        let mut reader = Box::pin(file.read(2 * PAGE, 6 * PAGE));
        let mut partial = Box::pin(file.read(10, 1));
        assert!(poll(&mut written).is_pending() && poll(&mut reader).is_pending() && poll(&mut partial).is_pending());
        for _ in 0..file.stored.queue.draw(10) {
            file.stored.queue.step();
        }
        file.run(file.cut(100)).unwrap();
        assert_eq!(file.stored.queue.in_flight(), 0, "seed {seed}");
        file.run(file.write(9 * PAGE, b"z")).unwrap();
        let read = file.run(file.read(0, 9 * PAGE)).unwrap();
        assert!(read.iter().enumerate().all(|(at, byte)| *byte == u8::from(at < 100)), "seed {seed}");
        file.run(written).unwrap();
        assert!(file.run(reader).unwrap().iter().all(|byte| *byte == 0 || *byte == b'z'));
        assert_eq!(file.run(partial).unwrap(), [1]);
        file.run(file.cache.write_back(0..u64::MAX)).unwrap();
        file.forget_clean();
        let read = file.run(file.read(0, 9 * PAGE)).unwrap();
        assert!(read.iter().enumerate().all(|(at, byte)| *byte == u8::from(at < 100)), "seed {seed}");
    }
}

#[test]
fn who_writes_back_does_not_wait_for_what_is_cut_off() {
    let kernel = kernel();
    let file = slow_file(&kernel, 0, Stored::new(13, 5));
    file.run(file.write(0, b"a")).unwrap();
    let mut first = Box::pin(file.cache.write_back(0..u64::MAX));
    assert!(poll(&mut first).is_pending());
    file.run(file.write(0, b"b")).unwrap();
    let mut second = Box::pin(file.cache.write_back(0..u64::MAX));
    assert!(poll(&mut second).is_pending(), "the page is still being written as it was");
    // The file is gone: nobody tells the backing that it was cut.
    file.cache.cut(0);
    file.run(first).unwrap();
    file.run(second).unwrap();
}

#[test]
fn who_synchronises_waits_for_what_others_began_to_write() {
    let kernel = kernel();
    let file = slow_file(&kernel, 0, Stored::new(14, 9));
    file.run(file.write(0, &[1; 100 * PAGE])).unwrap();
    assert!(poll(&mut Box::pin(file.cache.write_back(0..u64::MAX))).is_pending());
    assert_eq!((file.cache.dirty(), file.stored.queue.in_flight()), (0, 4));
    while file.stored.queue.in_flight() == 4 {
        file.stored.queue.step();
    }
    assert!(file.flusher.unwritten() > 0);
    file.run(file.flusher.write_back(u64::MAX));
    assert_eq!(file.flusher.unwritten(), 0);
}

#[test]
fn a_fault_on_a_page_that_is_cut_off_meanwhile_is_beyond_the_end() {
    let kernel = kernel();
    let file = slow_file(&kernel, 4, Stored::new(8, 9));
    let space = kernel.space();
    let area = space.map_file(0, 4, READ_WRITE, MapFlags::SHARED, &file.mapped(), 0).unwrap();
    let mut fault = Box::pin(space.fault(area + 3 * PAGE, Access::WRITE));
    assert!(poll(&mut fault).is_pending());
    file.run(file.cut(PAGE)).unwrap();
    assert!(matches!(file.run(fault), Err(crate::MemoryFault::Bus)));
    assert_eq!(file.run(space.read_value::<u8>(area)), Ok(1));
}

#[test]
fn clean_pages_are_given_back_and_those_in_use_last() {
    let kernel = kernel();
    let file = slow_file(&kernel, 100, Stored::new(9, 2));
    file.run(file.read(0, 100 * PAGE)).unwrap();
    file.run(file.write(50 * PAGE, b"dirty")).unwrap();
    assert_eq!((file.cache.resident(), file.cache.give_back(u64::MAX)), (100, 0), "the hand passes once");
    file.run(file.read(7 * PAGE, 1)).unwrap();
    assert_eq!(file.cache.give_back(u64::MAX), 98);
    let kept = |index| file.cache.page(index, false).is_ok();
    assert!(kept(7) && kept(50));
    assert_eq!(file.run(file.read(50 * PAGE, 5)).unwrap(), b"dirty");
    assert_eq!(file.run(file.read(99 * PAGE, 1)).unwrap(), [100]);
}

/// A page that a program uses all the time without a fault stays where it is, and what is a program's own copy is left alone.
#[test]
fn pages_used_through_a_mapping_are_given_back_last() {
    let kernel = kernel();
    let file = slow_file(&kernel, 100, Stored::new(9, 2));
    let spaces = [kernel.space(), kernel.space()];
    let areas = spaces.each_ref().map(|space| space.map_file(0, 100, READ_WRITE, PRIVATE, &file.mapped(), 0).unwrap());
    let touch = |who: usize, page: usize| file.run(spaces[who].read_value::<u8>(areas[who] + page * PAGE)).unwrap();
    (0..100).for_each(|page| assert_eq!(touch(0, page), page as u8 + 1));
    file.run(spaces[0].copy_out(areas[0] + 9 * PAGE, b"x")).unwrap();
    touch(1, 7);
    let frame = || spaces[1].space().lookup(areas[1] + 7 * PAGE).unwrap().frame_number;
    let (before, mut given) = (frame(), 0);
    for _ in 0..6 {
        given += file.cache.give_back(u64::MAX);
        assert_eq!((touch(1, 7), frame()), (8, before), "it was given back though it was used");
    }
    assert_eq!((given, file.cache.resident()), (99, 1));
    assert_eq!((spaces[0].space().resident(), touch(0, 9), touch(0, 50), touch(1, 9)), (1, b'x', 51, 10));
}

/// Takes all memory but so many frames.
fn take_all_but(kernel: &Kernel, frames: usize) -> Vec<Frame> {
    let count = kernel.free() - frames;
    (0..count).map(|_| Frame::allocate_dirty().unwrap()).collect()
}

#[test]
fn a_machine_of_16_mib_reads_and_writes_a_file_of_1_gib() {
    const PAGES: usize = 1 << 18;
    const CHUNK: usize = 64;
    let kernel = kernel();
    let _others = take_all_but(&kernel, 4096);
    let file = slow_file(&kernel, 0, Stored::new(10, 2));
    let byte = |page: usize| (page % 251) as u8 + 1;
    let mut bytes = vec![0; CHUNK * PAGE];
    // Only the first byte of each page is there: the host has to hold it all.
    for first in (0..PAGES).step_by(CHUNK) {
        (0..CHUNK).for_each(|page| bytes[page * PAGE] = byte(first + page));
        file.run(file.write(first * PAGE, &bytes)).unwrap();
    }
    file.run(file.cache.write_back(0..u64::MAX)).unwrap();
    assert!(file.cache.resident() < 4096);
    for first in (0..PAGES).step_by(CHUNK) {
        let read = file.run(file.read(first * PAGE, CHUNK * PAGE)).unwrap();
        assert!((0..CHUNK).all(|page| read[page * PAGE] == byte(first + page)), "at page {first}");
    }
}

#[test]
fn a_writer_waits_while_too_much_is_dirty_and_is_told_if_nothing_can_be_written() {
    let kernel = kernel();
    let file = slow_file(&kernel, 0, Stored::new(11, 5));
    file.flusher.set_limit(16);
    file.run(file.write(0, &[1; 100 * PAGE])).unwrap();
    assert!(file.flusher.unwritten() <= 16, "{} pages are dirty", file.flusher.unwritten());
    file.stored.queue.set_failing(0, 256);
    assert_eq!(file.run(file.write(0, &[2; 100 * PAGE])), Err(CacheError::Io));
    file.stored.queue.set_failing(0, 0);
    file.run(file.flusher.write_back(u64::MAX));
    assert_eq!(file.flusher.unwritten(), 0);
    file.run(file.write(0, &[3; 100 * PAGE])).unwrap();
}

#[test]
fn the_task_writes_what_is_old_and_what_is_too_much() {
    let kernel = kernel();
    let file = slow_file(&kernel, 0, Stored::new(12, 2));
    file.run(file.write(0, b"x")).unwrap();
    let slept = AtomicUsize::new(0);
    let mut task = Box::pin(file.flusher.run(|_| {
        slept.fetch_add(1, Ordering::Relaxed);
        std::future::pending()
    }));
    assert!(poll(&mut task).is_pending());
    assert_eq!((slept.load(Ordering::Relaxed), file.cache.dirty()), (1, 1), "it isn't old");
    file.flusher.set_limit(40);
    file.run(file.write(0, &[1; 30 * PAGE])).unwrap();
    for _ in 0..20 {
        let _ = poll(&mut task);
        file.stored.queue.step();
    }
    assert_eq!(file.cache.dirty(), 0);
}

#[test]
fn nothing_leaks_when_a_file_goes_in_the_middle_of_everything() {
    let kernel = kernel();
    for seed in 0..50 {
        let free = kernel.free();
        let file = slow_file(&kernel, 20, Stored::new(seed, 8));
        file.run(file.write(7, b"dirty")).unwrap();
        let mut reader = Box::pin(file.read(5 * PAGE, 9 * PAGE));
        let mut written = Box::pin(file.cache.write_back(0..u64::MAX));
        assert!(poll(&mut reader).is_pending() && poll(&mut written).is_pending());
        drop((reader, written));
        while file.stored.queue.step() {}
        file.flusher.abandon();
        drop(file);
        assert_eq!((kernel.free(), kernel.memory.file_pages()), (free, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_slow_file_is_an_array_of_bytes(
        seed: u64,
        slowness in 0_u64..9,
        failing in 0_u64..60,
        steps in prop::collection::vec((0..8, 0_usize..200_000, 0_usize..30_000, any::<u8>()), 1..40),
    ) {
        let kernel = kernel();
        let free = kernel.free();
        let file = slow_file(&kernel, 9, Stored::new(seed, slowness));
        file.stored.queue.set_failing(0, failing);
        let mut model: Vec<u8> = (0..9 * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
        for (step, offset, length, value) in steps {
            match step {
                0..3 => {
                    prop_assert_eq!(file.run(file.write(offset, &vec![value; length])), Ok(length));
                    if length > 0 {
                        model.resize(model.len().max(offset + length), 0);
                        model[offset..offset + length].fill(value);
                    }
                }
                3 => {
                    file.run(file.cut(offset)).unwrap();
                    model.resize(offset, 0);
                }
                4 => file.run(file.cache.write_back(0..u64::MAX)).unwrap(),
                5 => drop(file.cache.give_back(value.into())),
                6 => {
                    let _ = poll(&mut Box::pin(file.cache.write_back(offset as u64 / 4096..u64::MAX)));
                }
                _ => {
                    let end = model.len();
                    let part = &model[offset.min(end)..(offset + length).min(end)];
                    prop_assert_eq!(file.run(file.read(offset, length)).unwrap(), part);
                }
            }
        }
        prop_assert_eq!(&file.run(file.read(0, 300_000)).unwrap(), &model);
        file.stored.queue.set_failing(0, 0);
        file.run(file.flusher.write_back(u64::MAX));
        prop_assert_eq!((file.flusher.unwritten(), &file.stored.contents(model.len())), (0, &model));
        file.forget_clean();
        prop_assert_eq!(&file.run(file.read(0, 300_000)).unwrap(), &model);
        drop(file);
        prop_assert_eq!(kernel.free(), free);
    }
}
