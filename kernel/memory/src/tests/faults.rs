//! Page faults.

use super::*;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use abi::memory::RemapFlags;

use crate::exclusion::Exclusion;
use crate::{MemoryFault, OomKiller, OomOutcome, Pager, PagerError, ResidentFiles, Resolution};
use machine::memory::Frame;

fn mapped(result: Result<Resolution, MemoryFault>) -> bool {
    matches!(result, Ok(Resolution::Mapped))
}

fn count_files(space: &AddressSpace) -> ResidentFiles {
    let mut counted = ResidentFiles::default();
    let mut next = Some(0);
    while let Some(address) = next {
        next = space.count_files(address, &mut counted);
    }
    counted
}

#[test]
fn a_page_is_zero_until_written() {
    let kernel = kernel();
    let space = kernel.space();
    let free = kernel.free();
    let area = space.anonymous(0, 3, READ_WRITE, PRIVATE).unwrap();
    assert!(mapped(space.resolve(area + 5, Access::READ)));
    assert!(matches!(space.resolve(area + 5, Access::READ), Ok(Resolution::Spurious)));
    assert_eq!(kernel.free(), free, "reading takes no frame");
    assert!(mapped(space.resolve(area + 5, Access::WRITE)));
    assert_eq!(kernel.free(), free - 1);
    assert!(matches!(space.resolve(area + 5, Access::WRITE), Ok(Resolution::Spurious)));
    assert!(mapped(space.resolve(area + PAGE, Access::WRITE)));
    space.set_byte(area + 9, 1).unwrap();
    assert_eq!((space.byte(area + 9), space.byte(area + 10)), (Ok(1), Ok(0)));
    assert_eq!(space.usage().resident, 2);
    drop(space);
    assert_eq!(kernel.free(), free);
}

#[test]
fn a_program_that_fills_memory_gets_pages_ahead() {
    let kernel = kernel();
    let space = kernel.space();
    let free = kernel.free();
    let ahead = machine::memory::FAULT_AHEAD;
    let area = space.anonymous(0, 2 * ahead + 4, READ_WRITE, PRIVATE).unwrap();
    let write = |page: usize| assert!(mapped(space.resolve(area + page * PAGE, Access::WRITE)));
    (0..4).for_each(write);
    assert_eq!(space.usage().resident, 4, "a few pages tell nothing");
    write(4);
    assert_eq!((space.usage().resident, kernel.free()), (4 + ahead, free - 4 - ahead));
    // Not over what is there.
    let last = 2 * ahead + 2;
    write(last);
    space.set_byte(area + last * PAGE, 7).unwrap();
    assert_eq!(space.usage().resident, 5 + ahead, "nothing comes before it");
    write(4 + ahead);
    assert_eq!(space.usage().resident, 3 + 2 * ahead);
    assert_eq!((space.byte(area + (last - 1) * PAGE), space.byte(area + last * PAGE)), (Ok(0), Ok(7)));
    drop(space);
    assert_eq!(kernel.free(), free);
}

#[test]
fn what_is_not_allowed_is_told_apart() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 1, READ, PRIVATE).unwrap();
    assert!(matches!(space.resolve(area, Access::WRITE), Err(MemoryFault::NotPermitted)));
    assert!(matches!(space.resolve(area, Access::EXECUTE), Err(MemoryFault::NotPermitted)));
    assert!(matches!(space.resolve(area - 1, Access::READ), Err(MemoryFault::NotMapped)));
    assert!(matches!(space.resolve(usize::MAX, Access::READ), Err(MemoryFault::NotMapped)));
    wait(space.protect(area, PAGE, Protection::empty())).unwrap();
    assert!(matches!(space.resolve(area, Access::READ), Err(MemoryFault::NotPermitted)));
    wait(space.protect(area, PAGE, Protection::WRITE)).unwrap();
    assert!(mapped(space.resolve(area, Access::READ)), "writable is readable on x86");
}

#[test]
fn rights_that_come_back_find_the_page() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 2, READ_WRITE, PRIVATE).unwrap();
    space.set_byte(area, 5).unwrap();
    assert_eq!(space.byte(area + PAGE), Ok(0));
    wait(space.protect(area, 2 * PAGE, Protection::empty())).unwrap();
    assert_eq!(space.byte(area), Err(Errno::EFAULT));
    wait(space.protect(area, 2 * PAGE, READ_WRITE)).unwrap();
    assert_eq!(space.byte(area), Ok(5));
    space.set_byte(area, 6).unwrap();
    space.set_byte(area + PAGE, 7).unwrap();
    assert_eq!((space.byte(area), space.byte(area + PAGE)), (Ok(6), Ok(7)));
    let other = kernel.space().anonymous(0, 1, READ, PRIVATE);
    assert!(other.is_ok());
    assert_eq!(space.areas().count(), 1);
}

#[test]
fn private_pages_of_a_file_are_copied_when_written() {
    let kernel = kernel();
    let (cache, mapped_file) = file(&kernel, 40);
    let space = kernel.space();
    let area = space.map_file(0, 40, READ_WRITE, PRIVATE, &mapped_file, 0).unwrap();
    assert!(mapped(space.resolve(area + 20 * PAGE, Access::READ)));
    let around = machine::memory::FAULT_AROUND.min(40);
    assert_eq!(space.usage().resident, around, "its neighbours came along");
    space.set_byte(area + 21 * PAGE, 99).unwrap();
    space.set_byte(area + 39 * PAGE, 98).unwrap();
    assert_eq!((space.byte(area + 21 * PAGE), space.byte(area + 21 * PAGE + 1)), (Ok(99), Ok(22)));
    assert_eq!((space.byte(area + 39 * PAGE), space.byte(area + 39 * PAGE + 1)), (Ok(98), Ok(40)));
    for page in 0..40 {
        let mut byte = [0];
        cache.read_at((page * PAGE) as u64, &mut crate::Destination::kernel(&mut byte)).unwrap();
        assert_eq!(byte[0] as usize, page + 1, "the file keeps its own");
        let expected = match page {
            21 => 99,
            39 => 98,
            _ => page as u8 + 1,
        };
        assert_eq!(space.byte(area + page * PAGE), Ok(expected));
    }
    assert_eq!(space.usage().resident, 40);
    assert_eq!(count_files(&space), ResidentFiles { file: 38, shared: 0 });
}

#[test]
fn making_a_file_page_writable_never_writes_the_file() {
    let kernel = kernel();
    let (_, mapped_file) = file(&kernel, 2);
    let space = kernel.space();
    let area = space.map_file(0, 2, READ, PRIVATE, &mapped_file, 0).unwrap();
    assert_eq!(space.byte(area), Ok(1));
    wait(space.protect(area, 2 * PAGE, READ_WRITE)).unwrap();
    space.set_byte(area, 77).unwrap();
    let other = kernel.space();
    let again = other.map_file(0, 2, READ, PRIVATE, &mapped_file, 0).unwrap();
    assert_eq!(other.byte(again), Ok(1));
}

#[test]
fn a_shared_mapping_is_the_file() {
    let kernel = kernel();
    let (cache, mapped_file) = file(&kernel, 3);
    let (one, two) = (kernel.space(), kernel.space());
    let here = one.map_file(0, 3, READ_WRITE, MapFlags::SHARED, &mapped_file, 0).unwrap();
    let there = two.map_file(0, 2, READ, MapFlags::SHARED, &mapped_file, 1).unwrap();
    assert_eq!((one.byte(here + PAGE), two.byte(there)), (Ok(2), Ok(2)));
    one.set_byte(here + PAGE, 50).unwrap();
    assert_eq!(two.byte(there), Ok(50));
    cache.write_at(PAGE as u64, &mut Source::kernel(&[51])).unwrap();
    assert_eq!((one.byte(here + PAGE), two.byte(there)), (Ok(51), Ok(51)));
    assert_eq!(two.set_byte(there, 1), Err(Errno::EFAULT));
    assert_eq!(count_files(&one).shared, 3);
}

#[test]
fn many_pages_and_areas_of_files_are_counted_in_slices() {
    let kernel = kernel();
    let (_, mapped_file) = file(&kernel, 2000);
    let space = kernel.space();
    let whole = space.map_file(0, 2000, READ_WRITE, MapFlags::SHARED, &mapped_file, 0).unwrap();
    for page in 0..2000 {
        space.set_byte(whole + page * PAGE, 1).unwrap();
    }
    let pieces = space.anonymous(0, 600, READ, PRIVATE).unwrap();
    for page in (0..600).step_by(2) {
        let there = pieces + page * PAGE;
        space.map_file(there, 1, READ, PRIVATE | MapFlags::FIXED, &mapped_file, page as u64).unwrap();
        space.byte(there).unwrap();
    }
    let (mut counted, mut next, mut slices) = (ResidentFiles::default(), Some(0), 0);
    while let Some(address) = next {
        let before = counted;
        next = space.count_files(address, &mut counted);
        let more = counted.file + counted.shared - before.file - before.shared;
        assert!(more <= 1024 + 64, "{more} at once");
        slices += 1;
    }
    assert_eq!(counted, ResidentFiles { file: 300, shared: 2000 });
    assert!(slices >= 5, "areas cost something too: {slices}");
}

#[test]
fn truncation_takes_mapped_pages_away() {
    let kernel = kernel();
    let (cache, mapped_file) = file(&kernel, 4);
    let space = kernel.space();
    let shared = space.map_file(0, 4, READ_WRITE, MapFlags::SHARED, &mapped_file, 0).unwrap();
    let private = space.map_file(0, 4, READ_WRITE, PRIVATE, &mapped_file, 0).unwrap();
    for page in 0..4 {
        space.set_byte(shared + page * PAGE, 10).unwrap();
        space.set_byte(private + page * PAGE, 20).unwrap();
    }
    cache.set_size(PAGE as u64 + 10);
    assert_eq!(space.usage().resident, 4);
    assert_eq!(space.byte(shared + PAGE), Ok(10));
    assert_eq!(space.byte(shared + PAGE + 10), Ok(0), "the tail of the last page reads as zeros");
    assert!(matches!(space.resolve(shared + 2 * PAGE, Access::READ), Err(MemoryFault::Bus)));
    assert!(matches!(space.resolve(private + 2 * PAGE, Access::WRITE), Err(MemoryFault::Bus)));
    assert_eq!(space.byte(private), Ok(20));
    assert_eq!(cache.resident(), 2);
    cache.set_size(4 * PAGE as u64);
    assert_eq!(space.byte(shared + 3 * PAGE), Ok(0));
    assert_eq!(space.byte(private + 3 * PAGE), Ok(0));
}

#[test]
fn shared_anonymous_memory_is_shared_with_children() {
    let kernel = kernel();
    let free = kernel.free();
    let space = kernel.space();
    let area = space.anonymous(0, 2, READ_WRITE, MapFlags::SHARED).unwrap();
    let child = wait(space.fork()).unwrap();
    child.set_byte(area, 3).unwrap();
    assert_eq!(space.byte(area), Ok(3));
    assert_eq!(space.lines(area), ["0-2 rw-s @0"]);
    assert_eq!(space.shared_identity(area + 8), child.shared_identity(area + 8));
    assert!(space.shared_identity(area).is_some());
    drop((space, child));
    assert_eq!(kernel.free(), free);
}

#[test]
fn a_stack_grows_to_its_limit_and_no_further() {
    let kernel = kernel();
    let space = kernel.space_with(Limits { stack: 1 << 20, ..Limits::default() });
    let top = space.map_stack().unwrap();
    assert_eq!(top, crate::USER_TOP);
    space.set_byte(top - 1, 1).unwrap();
    space.set_byte(top - 500_000, 2).unwrap();
    assert_eq!(space.usage().stack, 500_000 / PAGE + 1);
    assert!(mapped(space.resolve(top - (1 << 20), Access::WRITE)));
    assert!(matches!(space.resolve(top - (1 << 20) - 1, Access::WRITE), Err(MemoryFault::NotMapped)));
    assert_eq!(space.areas().count(), 1);
}

#[test]
fn a_stack_keeps_its_distance() {
    let kernel = kernel();
    let space = kernel.space();
    let stack = 0x5000_0000;
    space.anonymous(stack, 1, READ_WRITE, FIXED | MapFlags::GROWS_DOWN).unwrap();
    let below = stack - 300 * PAGE;
    space.anonymous(below - PAGE, 1, READ_WRITE, FIXED).unwrap();
    assert!(matches!(space.resolve(below + 255 * PAGE, Access::WRITE), Err(MemoryFault::NotMapped)));
    assert!(mapped(space.resolve(below + 256 * PAGE, Access::WRITE)));
    wait(space.protect(below - PAGE, PAGE, Protection::empty())).unwrap();
    assert!(mapped(space.resolve(below, Access::WRITE)), "a guard page of the program's own may be near");
}

#[test]
fn when_frames_are_gone_the_fault_says_so() {
    let kernel = kernel();
    let free = kernel.free();
    let space = kernel.space();
    let area = space.anonymous(0, free + 10, READ_WRITE, PRIVATE | MapFlags::NO_RESERVE).unwrap();
    let mut touched = 0;
    let failed = loop {
        match space.resolve(area + touched * PAGE, Access::WRITE) {
            Ok(_) => touched += 1,
            Err(fault) => break fault,
        }
    };
    assert!(matches!(failed, MemoryFault::OutOfMemory));
    assert!(touched >= free - 2048, "stocks of other CPUs may hold a few");
    assert_eq!(space.set_byte(area + touched * PAGE, 1), Err(Errno::EFAULT));
    assert_eq!(wait(space.lock(area + touched * PAGE, PAGE, false)), Err(Errno::EAGAIN), "as POSIX has it for mlock");
    wait(space.unlock(area + touched * PAGE, PAGE)).unwrap();
    assert_eq!(wait(space.advise(area, free * PAGE, 4)), Ok(()));
    assert_eq!(kernel.free(), free);
}

/// Gives memory back by taking it from another space, a few times.
struct Generous {
    other: Arc<AddressSpace>,
    area: usize,
    asked: AtomicUsize,
}

impl OomKiller for Generous {
    fn out_of_memory(&self, _space: &AddressSpace) -> OomOutcome {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if asked >= 3 {
            return OomOutcome::GiveUp;
        }
        if asked == 2 {
            wait(self.other.advise(self.area, 4096 * PAGE, 4)).unwrap();
        }
        OomOutcome::Wait
    }
}

#[test]
fn whoever_needs_memory_waits_until_another_gives_it_back() {
    let kernel = kernel();
    let free = kernel.free();
    let other = kernel.space();
    let area = other.anonymous(0, 4096, READ_WRITE, PRIVATE).unwrap();
    (0..4096).for_each(|page| other.set_byte(area + page * PAGE, 1).unwrap());
    let oom_killer = Arc::new(Generous { other, area, asked: AtomicUsize::new(0) });
    kernel.memory.set_rescue(oom_killer.clone());
    let space = kernel.space();
    let area = space.anonymous(0, free, READ_WRITE, PRIVATE | MapFlags::NO_RESERVE).unwrap();
    let touched = (0..free).take_while(|page| space.set_byte(area + page * PAGE, 1).is_ok()).count();
    assert_eq!(oom_killer.asked.load(Ordering::Relaxed), 4, "two turns for nothing, one that helped, one that gave up");
    assert!(touched > free - 4096, "the pages that were given back were used");
}

/// A file whose pages arrive when they have been waited for.
struct Slow {
    arrived: Mutex<bool>,
    mappings: crate::Mappings,
}

impl Pager for Slow {
    fn page(&self, _index: u64, _write: bool) -> Result<Frame, PagerError> {
        if *self.arrived.lock().unwrap() {
            Frame::zeroed().ok_or(PagerError::OutOfMemory)
        } else {
            Err(PagerError::Wait)
        }
    }
    fn size(&self) -> u64 {
        PAGE as u64
    }
    fn mappings(&self) -> Option<&crate::Mappings> {
        Some(&self.mappings)
    }
    fn ready(&self, _index: u64) -> core::pin::Pin<Box<dyn Future<Output = Result<(), PagerError>> + Send + '_>> {
        Box::pin(async {
            *self.arrived.lock().unwrap() = true;
            Ok(())
        })
    }
}

#[test]
fn a_fault_waits_for_a_page_that_must_be_read() {
    let kernel = kernel();
    let pager = Arc::new(Slow { arrived: Mutex::new(false), mappings: crate::Mappings::new() });
    let identity = Arc::new(Named);
    let mapped_file = Arc::new(MappedFile { pager, identity, readable: true, writable: true, executable: true });
    let space = kernel.space();
    let area = space.map_file(0, 1, READ, PRIVATE, &mapped_file, 0).unwrap();
    assert!(matches!(space.resolve(area, Access::READ), Err(MemoryFault::Wait(_))));
    assert_eq!(space.byte(area), Ok(0));
}

#[test]
fn threads_that_fault_together_get_one_page() {
    let kernel = kernel();
    let space = kernel.space();
    const PAGES: usize = 200;
    let area = space.anonymous(0, PAGES, READ_WRITE, PRIVATE).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let space = &space;
            scope.spawn(move || {
                for page in 0..PAGES {
                    wait(space.write_value(area + page * PAGE + thread * 8, &(page * 4 + thread))).unwrap();
                }
            });
        }
    });
    for page in 0..PAGES {
        for thread in 0..4 {
            assert_eq!(wait(space.read_value::<usize>(area + page * PAGE + thread * 8)), Ok(page * 4 + thread));
        }
    }
    assert_eq!(space.usage().resident, PAGES);
}

/// The page of zeros that was read, and pages shared with a child, become one copy each, whoever writes first.
#[test]
fn threads_that_write_together_get_one_copy() {
    let kernel = kernel();
    const PAGES: usize = 100;
    for byte in [0, 7] {
        let space = kernel.space();
        let area = space.anonymous(0, PAGES, READ_WRITE, PRIVATE).unwrap();
        let pages = || (0..PAGES).map(|page| area + page * PAGE);
        if byte == 0 {
            pages().for_each(|page| assert_eq!(space.byte(page), Ok(0)));
        } else {
            pages().for_each(|page| space.set_byte(page + 100, byte).unwrap());
        }
        let child = wait(space.fork()).unwrap();
        let together = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (space, together) = (&space, &together);
                scope.spawn(move || {
                    for page in pages() {
                        together.wait();
                        space.set_byte(page + thread, 1).unwrap();
                    }
                });
            }
        });
        for page in pages() {
            assert!((0..3).all(|thread| space.byte(page + thread) == Ok(1)), "a write is lost");
            assert_eq!((space.byte(page + 100), child.byte(page + 100), child.byte(page)), (Ok(byte), Ok(byte), Ok(0)));
        }
    }
}

/// Faults share the lock; who changes areas has it alone, and is not kept out by one fault after the other.
#[test]
fn a_fault_keeps_no_other_fault_waiting() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 4, READ_WRITE, PRIVATE).unwrap();
    space.set_byte(area, 1).unwrap();
    let held = space.try_share_layout().unwrap();
    let fault = |page: usize| {
        space.recent.forget(&(area..area + 4 * PAGE)); // else it takes no lock
        space.resolve(area + page * PAGE, Access::WRITE)
    };
    assert!(matches!(fault(1), Ok(Resolution::Mapped)));
    assert!(space.try_layout().is_none(), "a change while a fault looks at the areas");
    std::thread::scope(|scope| {
        let change = scope.spawn(|| drop(space.layout()));
        while !matches!(fault(2), Err(MemoryFault::Busy)) {
            space.space().gather().unmap(area + 2 * PAGE..area + 3 * PAGE);
        }
        drop(held);
        change.join().unwrap();
    });
    space.set_byte(area + 2 * PAGE, 1).unwrap();
}

/// While other CPUs may still see what was taken out, nobody maps anything there; elsewhere faults go on, and changes wait.
#[test]
fn a_fault_waits_for_the_flush_of_its_own_page() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 4, READ_WRITE, PRIVATE).unwrap();
    let flushing = wait(space.exclude(Exclusion::faults_in(area + PAGE..area + 3 * PAGE)));
    let fault = |page: usize| space.resolve(area + page * PAGE, Access::WRITE);
    assert!(matches!(fault(1), Err(MemoryFault::Busy)));
    assert!(matches!(fault(2), Err(MemoryFault::Busy)));
    assert!(matches!((fault(0), fault(3)), (Ok(Resolution::Mapped), Ok(Resolution::Mapped))));
    let mut unmap = Box::pin(space.unmap(area, PAGE));
    let mut context = Context::from_waker(Waker::noop());
    assert!(unmap.as_mut().poll(&mut context).is_pending());
    drop(flushing);
    assert!(matches!(unmap.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
    assert!(matches!(fault(1), Ok(Resolution::Mapped)));
}

/// Where a fault was resolved before, the next takes no lock of the areas: somebody has it here all the time.
#[test]
fn a_fault_waits_for_no_change_of_other_areas() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 40, READ_WRITE, PRIVATE).unwrap();
    let fault = |page: usize, access| space.resolve(area + page * PAGE, access);
    assert!(matches!(fault(0, Access::READ), Ok(Resolution::Mapped)));
    {
        let _changing = space.layout();
        assert!(matches!(fault(2, Access::READ), Ok(Resolution::Mapped)));
        assert!(matches!(fault(4, Access::WRITE), Err(MemoryFault::Busy)), "that it is written is noted with the lock");
    }
    assert!(matches!(fault(4, Access::WRITE), Ok(Resolution::Mapped)));
    let _changing = space.layout();
    assert!(matches!(fault(6, Access::WRITE), Ok(Resolution::Mapped)));
    assert!(matches!(fault(6, Access::WRITE), Ok(Resolution::Spurious)));
    assert!(matches!(fault(2, Access::WRITE), Ok(Resolution::Mapped)), "the page of zeros is replaced");
}

/// What was known of an area is not believed when it has changed.
#[test]
fn a_fault_sees_what_has_changed() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 64, READ_WRITE, PRIVATE).unwrap();
    let page = |number: usize| area + number * PAGE;
    let write = |number: usize| space.resolve(page(number), Access::WRITE);
    let known = || space.recent.find(page(20)).is_some();
    assert!(write(0).is_ok() && known());
    wait(space.protect(page(1), PAGE, READ)).unwrap();
    assert!(matches!(write(1), Err(MemoryFault::NotPermitted)));
    assert!(write(2).is_ok() && known());
    wait(space.unmap(page(3), PAGE)).unwrap();
    assert!(matches!(write(3), Err(MemoryFault::NotMapped)));
    assert!(write(4).is_ok() && known());
    wait(space.remap(page(40), 2 * PAGE, 2 * PAGE, RemapFlags::MAY_MOVE | RemapFlags::FIXED, page(100))).unwrap();
    assert!(matches!(write(41), Err(MemoryFault::NotMapped)));
    assert!(write(6).is_ok() && known());
    let flushing = wait(space.exclude(Exclusion::faults_in(page(20)..page(21))));
    assert!(matches!(write(20), Err(MemoryFault::Busy)));
    // What is found now is not kept: the part that is excluded lies in the same area.
    assert!(write(7).is_ok() && matches!(write(20), Err(MemoryFault::Busy)));
    drop(flushing);
    assert!(write(8).is_ok() && known());
    wait(space.clear());
    assert!(!known() && matches!(write(9), Err(MemoryFault::NotMapped)));
}

/// Faults and changes at once: where no area is, no page is left.
#[test]
fn no_page_is_left_where_no_area_is() {
    let kernel = kernel();
    let (space, base) = (kernel.space(), 0x1000_0000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                (0..8).for_each(|page| drop(space.resolve(base + page * PAGE, Access::WRITE)));
            }
        });
        let left = (0..2_000).find(|_| {
            space.anonymous(base, 40, READ_WRITE, FIXED).unwrap();
            while space.space().resident() < 2 {
                std::thread::yield_now();
            }
            wait(space.unmap(base, 40 * PAGE)).unwrap();
            space.space().resident() > 0
        });
        // The other thread ends before anything is said.
        done.store(true, Ordering::Relaxed);
        assert_eq!(left, None);
    });
}

/// Threads that fault in areas of their own, at pages that are missing, read before or shared with a child, wait for no lock of the areas,
/// while another maps and unmaps.
#[test]
fn no_fault_waits_for_a_lock_of_the_space() {
    const WINDOW: usize = 1 << 21;
    const WINDOWS: usize = 16;
    let kernel = kernel();
    let space = kernel.space();
    let areas = [1, 2, 3].map(|number| number << 28);
    let map = |area| space.anonymous(area, WINDOWS * WINDOW / PAGE, READ_WRITE, FIXED).unwrap();
    assert_eq!(areas.map(map), areas);
    let pages =
        |area: usize| (0..WINDOWS).flat_map(move |window| [1, 7].map(|page| area + window * WINDOW + page * PAGE));
    for area in areas {
        space.set_byte(area, 1).unwrap();
        pages(area).step_by(4).for_each(|page| space.set_byte(page, 1).unwrap());
    }
    let child = wait(space.fork()).unwrap();
    // Each area is known from its first fault on.
    areas.into_iter().for_each(|area| space.set_byte(area, 2).unwrap());
    let running = AtomicUsize::new(areas.len());
    let waits = || space.layout_lock().waits.load(Ordering::Relaxed);
    let before = waits();
    std::thread::scope(|scope| {
        for area in areas {
            let (space, running) = (&space, &running);
            scope.spawn(move || {
                for page in pages(area) {
                    let resolved = [Access::READ, Access::WRITE].map(|access| space.resolve(page, access).is_ok());
                    assert_eq!(resolved, [true; 2]);
                }
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while running.load(Ordering::Relaxed) > 0 {
            let other = space.anonymous(0, 40, READ_WRITE, PRIVATE).unwrap();
            assert!(space.space().lookup(other).is_none());
            wait(space.unmap(other, 40 * PAGE)).unwrap();
        }
    });
    assert_eq!(waits() - before, 0, "faults found the lock of the areas taken");
    for area in areas {
        assert!(pages(area).all(|page| space.space().lookup(page).unwrap().access.contains(Access::WRITE)));
        assert_eq!(child.byte(area + PAGE), Ok(1), "the child has its own");
    }
    // One that is not known takes the lock.
    let unknown = space.anonymous(0, 40, READ_WRITE, PRIVATE).unwrap();
    let layout = space.layout();
    assert!(matches!(space.resolve(unknown, Access::WRITE), Err(MemoryFault::Busy)));
    drop(layout);
    assert_eq!(waits() - before, 1);
}
