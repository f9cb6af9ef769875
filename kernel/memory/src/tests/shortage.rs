//! Memory is out: at any frame that a fault needs, and when nothing but the kernel's reserve is left. What a program had
//! stays, nothing is lost, and when memory is back the same access succeeds.

use super::*;
use core::sync::atomic::AtomicBool;

use crate::{CacheError, Destination, Frame, MemoryFault, OomKiller, OomOutcome, Pager, Resolution};

/// A program at the point where it touches something, and what must be seen before and after.
struct Scene {
    space: Arc<AddressSpace>,
    /// Where it touches.
    address: usize,
    access: Access,
    /// What it finds there.
    finds: u8,
    /// Other bytes that must stay: of other spaces, and of files.
    others: Vec<(Arc<AddressSpace>, usize, u8)>,
    /// What the file has in memory: it may keep a page that it was asked for in vain.
    cache: Option<Arc<PageCache>>,
}

impl Scene {
    fn new(space: Arc<AddressSpace>, address: usize, access: Access, finds: u8) -> Scene {
        Scene { space, address, access, finds, others: Vec::new(), cache: None }
    }

    fn resident(&self) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.resident() as usize)
    }

    fn check_others(&self) {
        for (space, address, byte) in &self.others {
            assert_eq!(space.byte(*address), Ok(*byte));
        }
    }

    /// The access succeeds now, and what is written is seen here only.
    fn check_success(&self) {
        assert_eq!(self.space.byte(self.address), Ok(self.finds));
        if self.access.contains(Access::WRITE) {
            self.space.set_byte(self.address, 99).unwrap();
            assert_eq!(self.space.byte(self.address), Ok(99));
        }
        self.check_others();
    }
}

fn untouched(kernel: &Kernel, access: Access) -> Scene {
    let space = kernel.space();
    let area = space.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    Scene::new(space, area, access, 0)
}

fn page_of_zeros_written(kernel: &Kernel) -> Scene {
    let scene = untouched(kernel, Access::WRITE);
    assert_eq!(scene.space.byte(scene.address), Ok(0));
    scene
}

fn after_four_pages(kernel: &Kernel) -> Scene {
    let space = kernel.space();
    let area = space.anonymous(0, 40, READ_WRITE, PRIVATE).unwrap();
    (0..4).for_each(|page| space.set_byte(area + page * PAGE, 1).unwrap());
    Scene::new(space, area + 4 * PAGE, Access::WRITE, 0)
}

fn below_the_stack(kernel: &Kernel) -> Scene {
    let space = kernel.space();
    let top = space.map_stack().unwrap();
    space.set_byte(top - 1, 1).unwrap();
    Scene::new(space, top - 50 * PAGE, Access::WRITE, 0)
}

fn copied_by_fork(kernel: &Kernel, child_writes: bool) -> Scene {
    let parent = kernel.space();
    let area = parent.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    parent.set_byte(area, 5).unwrap();
    let child = wait(parent.fork()).unwrap();
    let (writer, other) = if child_writes { (child, parent) } else { (parent, child) };
    Scene { others: vec![(other, area, 5)], ..Scene::new(writer, area, Access::WRITE, 5) }
}

/// Page 1 of a file of three pages, of which this one is a hole or not.
fn of_a_file(kernel: &Kernel, flags: MapFlags, access: Access, is_hole: bool, was_read: bool) -> Scene {
    let (cache, mapped_file) = file(kernel, 3);
    if is_hole {
        cache.punch(PAGE as u64..2 * PAGE as u64);
    }
    let byte = if is_hole { 0 } else { 2 };
    let space = kernel.space();
    let area = space.map_file(0, 3, READ_WRITE, flags, &mapped_file, 0).unwrap();
    if was_read {
        assert_eq!(space.byte(area + PAGE), Ok(byte));
    }
    // Who else maps the file sees what it has, whatever a private copy holds.
    let other = kernel.space();
    let there = other.map_file(0, 3, READ, MapFlags::SHARED, &mapped_file, 0).unwrap();
    let mut others = vec![(other.clone(), there, 1), (other.clone(), there + 2 * PAGE, 3)];
    if flags.contains(MapFlags::PRIVATE) {
        others.push((other, there + PAGE, byte));
    }
    Scene { others, cache: Some(cache), ..Scene::new(space, area + PAGE, access, byte) }
}

/// Sets a scene.
type Set = fn(&Kernel) -> Scene;

/// What can fault, and how many frames each takes at least.
fn scenes() -> Vec<(&'static str, usize, Set)> {
    const SHARED: MapFlags = MapFlags::SHARED;
    const WRITE: Access = Access::WRITE;
    vec![
        ("a page is read", 0, |kernel| untouched(kernel, Access::READ)),
        ("a page is written", 1, |kernel| untouched(kernel, WRITE)),
        ("the page of zeros is written", 1, page_of_zeros_written),
        ("pages are filled", 1, after_four_pages),
        ("the stack grows", 1, below_the_stack),
        ("a child writes", 1, |kernel| copied_by_fork(kernel, true)),
        ("a parent writes", 1, |kernel| copied_by_fork(kernel, false)),
        ("a shared page is read", 0, |kernel| of_a_file(kernel, SHARED, Access::READ, false, false)),
        ("a shared page is written", 0, |kernel| of_a_file(kernel, SHARED, WRITE, false, false)),
        ("a shared page that was read is written", 0, |kernel| of_a_file(kernel, SHARED, WRITE, false, true)),
        ("a shared hole is read", 1, |kernel| of_a_file(kernel, SHARED, Access::READ, true, false)),
        ("a shared hole is written", 1, |kernel| of_a_file(kernel, SHARED, WRITE, true, false)),
        ("a private page is read", 0, |kernel| of_a_file(kernel, PRIVATE, Access::READ, false, false)),
        ("a private page is written", 1, |kernel| of_a_file(kernel, PRIVATE, WRITE, false, false)),
        ("a private page that was read is written", 1, |kernel| of_a_file(kernel, PRIVATE, WRITE, false, true)),
        ("a private hole is read", 1, |kernel| of_a_file(kernel, PRIVATE, Access::READ, true, false)),
        ("a private hole is written", 2, |kernel| of_a_file(kernel, PRIVATE, WRITE, true, false)),
    ]
}

/// All that can be refused: only what the kernel needs for itself is left.
fn drain() -> Vec<Frame> {
    std::iter::from_fn(Frame::allocate_dirty).collect()
}

#[test]
fn a_fault_that_gets_no_frame_changes_nothing_and_succeeds_later() {
    let kernel = kernel();
    for (name, least, set) in scenes() {
        let free = kernel.free();
        for frames in 0..=least {
            let scene = set(&kernel);
            let before = kernel.free() + scene.resident();
            kernel.allow(frames);
            let result = scene.space.resolve(scene.address, scene.access);
            kernel.allow(ALL);
            if frames < least {
                assert!(matches!(result, Err(MemoryFault::OutOfMemory)), "{name}, {frames}: {result:?}");
                assert_eq!(kernel.free() + scene.resident(), before, "{name}, {frames}: a frame is lost");
                scene.check_others();
                let again = scene.space.resolve(scene.address, scene.access);
                assert!(matches!(again, Ok(Resolution::Mapped)), "{name}, {frames}: {again:?}");
            } else {
                assert!(matches!(result, Ok(Resolution::Mapped)), "{name}, {frames}: {result:?}");
            }
            scene.check_success();
        }
        assert_eq!(kernel.free(), free, "{name}: something is left");
    }
}

/// Also a page that is there costs something: the tables, or whatever the machine has in their place.
#[test]
fn a_fault_leaves_the_reserve_alone() {
    let kernel = kernel();
    for (name, _, set) in scenes() {
        let scene = set(&kernel);
        let free = kernel.free() + scene.resident();
        let taken = drain();
        let left = kernel.free();
        let result = scene.space.resolve(scene.address, scene.access);
        assert!(!kernel.memory.frames().is_critical(), "{name}");
        assert!(matches!(result, Err(MemoryFault::OutOfMemory)), "{name}: {result:?}");
        assert_eq!(kernel.free(), left, "{name}: the reserve was drawn on");
        drop(taken);
        assert_eq!(kernel.free() + scene.resident(), free, "{name}: a frame is lost");
        scene.check_success();
    }
}

/// Lets the kernel have frames again when it is asked for the third time, or says that there is nothing to be had.
struct Later<'a> {
    store: &'a Store,
    asked: AtomicUsize,
    gives_up: AtomicBool,
}

impl OomKiller for Later<'static> {
    fn out_of_memory(&self, _: &AddressSpace) -> OomOutcome {
        match self.asked.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => {}
            _ if self.gives_up.load(Ordering::Relaxed) => return OomOutcome::GiveUp,
            _ => self.store.left.store(ALL, Ordering::Relaxed),
        }
        OomOutcome::Wait
    }
}

impl Later<'static> {
    fn new(kernel: &Kernel) -> Arc<Later<'static>> {
        let later =
            Arc::new(Later { store: kernel.store, asked: AtomicUsize::new(0), gives_up: AtomicBool::new(false) });
        kernel.memory.set_rescue(later.clone());
        later
    }

    fn begin(&self, gives_up: bool) {
        self.asked.store(0, Ordering::Relaxed);
        self.gives_up.store(gives_up, Ordering::Relaxed);
    }
}

#[test]
fn a_fault_waits_for_memory_or_tells_that_there_is_none() {
    let kernel = kernel();
    let later = Later::new(&kernel);
    for (name, least, set) in scenes() {
        for (frames, gives_up) in (0..least).flat_map(|frames| [(frames, false), (frames, true)]) {
            let scene = set(&kernel);
            later.begin(gives_up);
            kernel.allow(frames);
            let result = wait(scene.space.fault(scene.address, scene.access));
            kernel.allow(ALL);
            if gives_up {
                assert!(matches!(result, Err(MemoryFault::OutOfMemory)), "{name}, {frames}: {result:?}");
            } else {
                assert!(matches!(result, Ok(Resolution::Mapped)), "{name}, {frames}: {result:?}");
            }
            assert_eq!(later.asked.load(Ordering::Relaxed), 3, "{name}, {frames}");
            scene.check_success();
        }
    }
}

/// The bytes before the page that could not be had are there, those after it are as they were; Linux gives `EFAULT`.
#[test]
fn a_call_that_gets_no_memory_for_a_page_faults_there() {
    let kernel = kernel();
    let later = Later::new(&kernel);
    let bytes: Vec<u8> = (0..3 * PAGE).map(|at| (at / PAGE + 1) as u8).collect();
    let (cache, _) = file(&kernel, 3);
    for frames in 0..3 {
        let space = kernel.space();
        let area = space.anonymous(0, 4, READ_WRITE, PRIVATE).unwrap();
        let free = kernel.free();
        let try_all = |name: &str, expected: Errno, call: &dyn Fn() -> Result<(), Errno>| {
            for gives_up in [true, false] {
                later.begin(gives_up);
                kernel.allow(frames);
                let result = call();
                kernel.allow(ALL);
                assert_eq!(result, if gives_up { Err(expected) } else { Ok(()) }, "{name}, {frames}");
                assert_eq!(later.asked.load(Ordering::Relaxed), 3, "{name}, {frames}");
                let done = if gives_up { frames } else { 3 };
                assert_eq!(space.usage().resident, done, "{name}, {frames}");
                for page in 0..3 {
                    let byte = if page < done && expected == Errno::EFAULT { page as u8 + 1 } else { 0 };
                    assert_eq!(space.byte(area + page * PAGE), Ok(byte), "{name}, {frames}: page {page}");
                    assert_eq!(space.byte(area + page * PAGE + PAGE - 1), Ok(byte), "{name}, {frames}: page {page}");
                }
                wait(space.advise(area, 4 * PAGE, 4)).unwrap();
                assert_eq!(kernel.free(), free, "{name}, {frames}");
            }
        };
        try_all("copy_out", Errno::EFAULT, &|| wait(space.copy_out(area, &bytes)));
        try_all("zero", Errno::ENOMEM, &|| wait(space.zero(area, 3 * PAGE)));
        // As vfs does it for read(2).
        try_all("read", Errno::EFAULT, &|| {
            let mut destination = Destination::user(&space, area, 3 * PAGE);
            loop {
                let at = destination.progress() as u64;
                match cache.read_at(at, &mut destination) {
                    Ok(_) if destination.remaining() == 0 => return Ok(()),
                    Ok(_) => {}
                    Err(CacheError::Fault(fault)) => wait(destination.fault_in(fault))?,
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
    }
}

/// A word of a program, in a page that is not there.
#[test]
fn a_word_that_gets_no_page_is_not_changed() {
    let kernel = kernel();
    let later = Later::new(&kernel);
    let (_, mapped_file) = file(&kernel, 1);
    let space = kernel.space();
    let area = space.map_file(0, 1, READ_WRITE, PRIVATE, &mapped_file, 0).unwrap();
    later.begin(true);
    kernel.allow(0);
    assert_eq!(wait(space.compare_exchange(area, 0x0101_0101, 7)), Err(Errno::EFAULT));
    kernel.allow(ALL);
    assert_eq!(wait(space.load(area)), Ok(0x0101_0101));
    later.begin(false);
    kernel.allow(0);
    assert_eq!(wait(space.compare_exchange(area, 0x0101_0101, 7)), Ok(Ok(0x0101_0101)));
    assert_eq!(later.asked.load(Ordering::Relaxed), 3);
    assert_eq!(wait(space.load(area)), Ok(7));
}

/// Who waits for a frame lets others run after each slice that is freed: the slices may give nothing back.
#[test]
fn what_gives_nothing_back_is_freed_in_slices() {
    let kernel = kernel();
    let mut serving = pin!(kernel.memory.free_discarded());
    let mut context = Context::from_waker(Waker::noop());
    assert!(serving.as_mut().poll(&mut context).is_pending());
    let (cache, mapped_file) = file(&kernel, 4000);
    // A space whose pages are the file's, too: nothing is free when it has gone.
    let gone = kernel.space();
    let area = gone.map_file(0, 4000, READ, MapFlags::SHARED, &mapped_file, 0).unwrap();
    (0..4000).for_each(|page| assert_eq!(gone.byte(area + page * PAGE), Ok((page + 1) as u8)));
    drop(gone);
    let space = kernel.space();
    let area = space.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    kernel.allow(0);
    let mut fault = pin!(space.fault(area, Access::WRITE));
    let mut polls = 1;
    let result = loop {
        match fault.as_mut().poll(&mut context) {
            Poll::Ready(result) => break result,
            Poll::Pending => polls += 1,
        }
    };
    kernel.allow(ALL);
    assert!(matches!(result, Err(MemoryFault::OutOfMemory)));
    assert!(polls >= 4, "{polls} polls for 4,000 pages");
    assert_eq!(cache.size(), 4000 * PAGE as u64);
}
