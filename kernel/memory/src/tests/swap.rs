//! Pages that are swapped out and in again, by a backing that takes its time, completes out of order, and fails.

use super::*;
use crate::{MemoryFault, PagerError, SwapBacking, SwapRead, SwapWrite};
use abi::memory::RemapFlags;
use machine::memory::SwapEntry;
use std::collections::BTreeMap;

const BASE: usize = 0x3000_0000;
const PAGES: usize = 12;
const PLACES: u32 = 600;

/// What was asked of the backing, and what it has. It does nothing until it is told to.
#[derive(Default)]
struct Disk {
    asked: Mutex<Vec<Request>>,
    pages: Mutex<BTreeMap<SwapEntry, Vec<u8>>>,
}

enum Request {
    Read(SwapRead),
    Write(SwapWrite),
}

impl SwapBacking for Disk {
    fn read(&self, request: SwapRead) {
        self.asked.lock().unwrap().push(Request::Read(request));
    }

    fn write(&self, request: SwapWrite) {
        self.asked.lock().unwrap().push(Request::Write(request));
    }
}

impl Disk {
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Completes a request, whichever the number chooses.
    fn complete(&self, number: usize, result: Result<(), PagerError>) {
        let mut asked = self.asked.lock().unwrap();
        let length = asked.len();
        if length == 0 {
            return;
        }
        let request = asked.swap_remove(number % length);
        drop(asked);
        match request {
            Request::Read(request) => {
                let pages = self.pages.lock().unwrap();
                let bytes = pages.get(&request.entry()).expect("what is read was written");
                request.frame().write(0, bytes);
                drop(pages);
                request.complete(result);
            }
            Request::Write(request) => {
                let mut bytes = vec![0; PAGE];
                request.frame().read(0, &mut bytes);
                if result.is_ok() {
                    self.pages.lock().unwrap().insert(request.entry(), bytes);
                }
                request.complete(result);
            }
        }
    }

    fn complete_all(&self) {
        while self.asked() > 0 {
            self.complete(0, Ok(()));
        }
    }
}

/// The backing of this process's kernel: one for all tests, which run one at a time.
fn disk(kernel: &Kernel) -> Arc<Disk> {
    static DISK: OnceLock<Arc<Disk>> = OnceLock::new();
    let disk = DISK.get_or_init(Arc::default).clone();
    kernel.memory.install_swap(disk.clone(), PLACES).unwrap();
    disk
}

fn swap_out(kernel: &Kernel, space: &AddressSpace, address: usize) -> bool {
    space.space().frame_at(address).is_some_and(|frame| kernel.memory.swap_out(frame))
}

/// Polls a future, and has the disk work when that waits.
fn wait_for_disk<F: Future>(disk: &Disk, seed: usize, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for turn in 0..10_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        disk.complete(seed + turn, Ok(()));
    }
    panic!("the future never became ready");
}

#[test]
fn a_page_goes_out_of_all_spaces_and_comes_back_to_each() {
    let kernel = kernel();
    let disk = disk(&kernel);
    let free = kernel.free();
    let parent = kernel.space();
    parent.anonymous(BASE, 4, READ_WRITE, FIXED).unwrap();
    parent.set_byte(BASE + PAGE, 7).unwrap();
    let child = wait(parent.fork()).unwrap();
    let moved = wait(child.remap(BASE, 4 * PAGE, 4 * PAGE, RemapFlags::MAY_MOVE | RemapFlags::FIXED, BASE + 16 * PAGE));
    let places = [(&parent, BASE + PAGE), (&child, moved.unwrap() + PAGE)];
    let before = kernel.free();
    assert!(swap_out(&kernel, &parent, BASE + PAGE));
    assert!(places.iter().all(|(space, page)| space.space().lookup(*page).is_none() && space.space().resident() == 0));
    assert_eq!((disk.asked(), kernel.free()), (1, before), "it is written first");
    disk.complete_all();
    assert_eq!(kernel.free(), before + 1, "then the frame is free");
    // A page that is out is copied by fork.
    let grandchild = wait(child.fork()).unwrap();
    for (space, page) in [places[1], (&grandchild, places[1].1), places[0]] {
        assert!(matches!(space.resolve(page, Access::READ), Err(MemoryFault::Wait(_))) || disk.asked() == 0);
        assert_eq!(wait_for_disk(&disk, 0, space.read_value::<u8>(page)), Ok(7));
    }
    let frames = [&parent, &child, &grandchild].map(|space| space.space().resident());
    assert_eq!(frames, [1, 1, 1]);
    assert_eq!(kernel.free(), before, "one page for all, as before");
    child.set_byte(places[1].1, 9).unwrap();
    assert_eq!((parent.byte(BASE + PAGE), grandchild.byte(places[1].1)), (Ok(7), Ok(7)));
    drop((parent, child, grandchild));
    assert_eq!(kernel.free(), free);
}

#[test]
fn two_faults_share_one_request_and_both_are_told_of_its_failure() {
    let kernel = kernel();
    let disk = disk(&kernel);
    let space = kernel.space();
    space.anonymous(BASE, 1, READ_WRITE, FIXED).unwrap();
    space.set_byte(BASE, 5).unwrap();
    let child = wait(space.fork()).unwrap();
    assert!(swap_out(&kernel, &space, BASE));
    disk.complete_all();
    let waits = [&space, &child].map(|space| match space.resolve(BASE, Access::READ) {
        Err(MemoryFault::Wait(page)) => page,
        other => panic!("{other:?}"),
    });
    assert_eq!(disk.asked(), 1);
    disk.complete(0, Err(PagerError::Io));
    for page in waits {
        assert!(matches!(wait(page.ready()), Err(MemoryFault::Bus)));
    }
    // The next one asks again.
    assert_eq!(wait_for_disk(&disk, 0, child.read_value::<u8>(BASE)), Ok(5));
    assert_eq!(space.byte(BASE), Ok(5), "it is in the swap cache");
}

#[test]
fn a_page_that_cannot_be_written_is_kept() {
    let kernel = kernel();
    let disk = disk(&kernel);
    let free = kernel.free();
    let space = kernel.space();
    space.anonymous(BASE, 2, READ_WRITE, FIXED).unwrap();
    space.set_byte(BASE, 5).unwrap();
    space.set_byte(BASE + PAGE, 6).unwrap();
    assert!(swap_out(&kernel, &space, BASE) && swap_out(&kernel, &space, BASE + PAGE));
    disk.complete(0, Err(PagerError::NoSpace));
    assert_eq!((space.byte(BASE), space.byte(BASE + PAGE)), (Ok(5), Ok(6)), "one is kept, one not yet written");
    space.set_byte(BASE + PAGE, 8).unwrap();
    disk.complete_all();
    assert_eq!(space.byte(BASE + PAGE), Ok(8), "what is written elsewhere is not what it was");
    // What is locked, a file's, or another's at the moment, stays or is kept.
    assert_eq!(wait(space.lock(BASE, PAGE, false)), Ok(()));
    assert!(!swap_out(&kernel, &space, BASE));
    let pinned = space.space().frame_at(BASE + PAGE).unwrap();
    assert!(swap_out(&kernel, &space, BASE + PAGE));
    assert_eq!((disk.asked(), space.byte(BASE + PAGE)), (0, Ok(8)));
    assert_eq!(space.space().frame_at(BASE + PAGE).unwrap().number(), pinned.number());
    drop((space, pinned));
    assert_eq!(kernel.free(), free);
}

/// Whatever programs do, whenever their pages go out, and in what order the backing completes and fails: each finds what it wrote.
#[test]
fn programs_notice_nothing_on_any_schedule() {
    let kernel = kernel();
    let disk = disk(&kernel);
    for seed in 0..60_u64 {
        let free = kernel.free();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % below
        };
        let first = kernel.space();
        first.anonymous(BASE, PAGES, READ_WRITE, FIXED).unwrap();
        // Each space with what it should have.
        let mut spaces: Vec<(Arc<AddressSpace>, BTreeMap<usize, u8>)> =
            vec![(first, (0..PAGES).map(|page| (BASE + page * PAGE, 0)).collect())];
        for _ in 0..250 {
            let (number, living) = (random(spaces.len()), spaces.len());
            let page = BASE + random(2 * PAGES) * PAGE;
            let (space, model) = &mut spaces[number];
            match random(12) {
                0..4 => _ = swap_out(&kernel, space, page),
                4 | 5 => {
                    let result = if random(4) == 0 { Err(PagerError::Io) } else { Ok(()) };
                    let is_read = disk.asked.lock().unwrap().first().is_some_and(|it| matches!(it, Request::Read(_)));
                    disk.complete(0, if is_read { Ok(()) } else { result });
                }
                6 | 7 => {
                    let value = random(256) as u8;
                    let written = wait_for_disk(&disk, random(9), space.write_value(page, &value));
                    assert_eq!(written.is_ok(), model.contains_key(&page), "seed {seed}");
                    model.entry(page).and_modify(|known| *known = value);
                }
                8 if living < 5 => {
                    let child = wait(space.fork()).unwrap();
                    let model = model.clone();
                    spaces.push((child, model));
                }
                9 if living > 1 => drop(spaces.swap_remove(number)),
                10 => {
                    let (from, pages) = (BASE + random(2 * PAGES - 3) * PAGE, 1 + random(3));
                    let to = BASE + random(2 * PAGES - 3) * PAGE;
                    let flags = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
                    let model_of = |model: &BTreeMap<usize, u8>| -> Vec<Option<u8>> {
                        (0..pages).map(|page| model.get(&(from + page * PAGE)).copied()).collect()
                    };
                    let values = model_of(model);
                    if wait(space.remap(from, pages * PAGE, pages * PAGE, flags, to)).is_ok() {
                        (0..pages).for_each(|page| _ = model.remove(&(from + page * PAGE)));
                        let values = values.into_iter().enumerate();
                        model.extend(values.map(|(page, value)| (to + page * PAGE, value.unwrap())));
                    }
                }
                11 => {
                    wait(space.unmap(page, PAGE)).unwrap();
                    model.remove(&page);
                    if random(2) == 0 {
                        space.anonymous(page, 1, READ_WRITE, FIXED).unwrap();
                        model.insert(page, 0);
                    }
                }
                _ => {
                    let found = wait_for_disk(&disk, random(9), space.read_value::<u8>(page)).ok();
                    assert_eq!(found, model.get(&page).copied(), "seed {seed}");
                }
            }
        }
        for (space, model) in &spaces {
            for (page, value) in model {
                assert_eq!(wait_for_disk(&disk, 0, space.read_value::<u8>(*page)), Ok(*value), "seed {seed}");
            }
        }
        drop(spaces);
        disk.complete_all();
        kernel.memory.give_back(0);
        assert_eq!(kernel.memory.swap().used(), 0, "seed {seed}: a place is lost");
        assert_eq!(kernel.free(), free, "seed {seed}");
    }
}
