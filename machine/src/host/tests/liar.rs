//! Programs that lie at random, from seeds, with several threads: in the words by which a guest thread and the kernel talk, in those of their
//! siblings, in the frames of their signals, by jumps into the stub's code and by system calls made there. Meanwhile the kernel changes what
//! they have, on all CPUs.
//!
//! Two things are looked at. A page that a space has lost, or may only read, is changed by nobody ([`Watched`]). And an honest program that runs in
//! between always gets its right results: on CPUs, and in stubs, which the liars had before.

use super::attacks::AT_LAST;
use super::*;
use crate::platform::stub::probe::{self, Mending, Step};
use crate::platform::stub::{BLOCK_SIZE, BLOCKS};
use crate::user::make_flags_user_s;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

/// The status of a machine in which a page was written that nobody may write.
const WRITTEN: u8 = 99;
const CPUS: usize = 3;
const PAGES: usize = 8;
/// Where liars count.
const COUNTS: usize = 0x60_0000;

/// Random numbers: the same from the same seed (xorshift64*, Vigna 2016).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// What a run is to do, and did.
static SEED: AtomicU64 = AtomicU64::new(0);
static STEPS_WANTED: AtomicUsize = AtomicUsize::new(0);
static STEPS: AtomicUsize = AtomicUsize::new(0);
static LIES: AtomicUsize = AtomicUsize::new(0);
static IS_OFF: AtomicBool = AtomicBool::new(false);
static LOST: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static LOOKED_AT: AtomicUsize = AtomicUsize::new(0);

/// A value somebody might believe.
fn lie(random: &mut Random) -> usize {
    let block = BLOCKS + random.below(CPUS) * BLOCK_SIZE;
    match random.below(8) {
        0 => random.next() as usize,
        1 | 2 => random.below(3),
        3 => block + (random.below(BLOCK_SIZE) & !7),
        4 => block + 0x1000,
        5 => CODE + random.below(PAGE_SIZE),
        6 => DATA + random.below(PAGES * PAGE_SIZE),
        _ => [libc::SIGSYS, libc::SIGSEGV, libc::SIGTRAP, libc::SIGURG, libc::SIGBUS][random.below(5)] as usize,
    }
}

/// A program that goes on lying for ever, and counts its lies in a word of its own.
fn lies(random: &mut Random, cpu: usize) -> Vec<u8> {
    let count = COUNTS + cpu * 64;
    let mut code = Vec::new();
    while code.len() < PAGE_SIZE - 700 {
        let block = BLOCKS + random.below(CPUS) * BLOCK_SIZE;
        match random.below(40) {
            // Words of a block, at its start or anywhere.
            0..=15 => {
                let offset = if random.one_in(5) { random.below(BLOCK_SIZE - 8) } else { random.below(20) * 4 };
                set(&mut code, RDI, block + offset);
                set(&mut code, RAX, lie(random));
                code.extend(if random.one_in(2) { [0x48, 0x89, 0x07] } else { [0x89, 0x07, 0x90] });
            }
            // "It has trapped", or "it has not".
            16..=21 => {
                set(&mut code, RDI, block);
                code.extend([0xc7, 0x07, u8::from(!random.one_in(16)), 0, 0, 0]);
            }
            // A whole trap that never was.
            22..=25 => super::attacks::forge(&mut code, random.below(CPUS), random.below(400)),
            // What an honest program does: system calls, touching its pages.
            26..=29 => {
                set(&mut code, RAX, random.below(400));
                code.extend([0x0f, 5]);
            }
            30..=37 => {
                set(&mut code, RDI, DATA + random.below(PAGES) * PAGE_SIZE);
                code.extend([0xff, 0x07]); // inc dword [rdi]
            }
            // Into the stub's code, seldom: it may be long before it comes back.
            38 if random.one_in(3) => {
                set(
                    &mut code,
                    RAX,
                    [libc::SYS_futex, libc::SYS_mmap, libc::SYS_rt_sigreturn][random.below(3)] as usize,
                );
                set(&mut code, RDI, lie(random));
                set(&mut code, RSI, random.below(3));
                let target = if random.one_in(2) { gadget() } else { crate::memory::USER_TOP + random.below(600) };
                set(&mut code, R11, target);
                code.extend(JUMP_TO_R11);
            }
            // A signal frame of its own making, with signals blocked at random.
            39 if random.one_in(8) => {
                let to = CODE + random.below(8);
                super::attacks::sigreturn(&mut code, to, random.next() as usize & random.next() as usize);
            }
            _ => {}
        }
        super::attacks::increment(&mut code, count);
    }
    code.push(0xe9); // jmp to the start
    code.extend((-(code.len() as i32) - 4).to_le_bytes());
    code
}

/// A page nobody may write any more, and what was in it then.
struct Watched {
    frame: Frame,
    bytes: [u8; 64],
    what: &'static str,
}

impl Watched {
    fn new(frame: Frame, what: &'static str) -> Watched {
        let mut bytes = [0; 64];
        frame.read(0, &mut bytes);
        Watched { frame, bytes, what }
    }

    /// Ends the machine if it has changed.
    fn look(&self) {
        let mut now = [0; 64];
        self.frame.read(0, &mut now);
        if now != self.bytes {
            eprintln!("seed {}: a page was written after {}", SEED.load(Ordering::SeqCst), self.what);
            power::off(WRITTEN);
        }
        LOOKED_AT.fetch_add(1, Ordering::Relaxed);
    }
}

/// The liars' space: all CPUs run in it, each from a page of its own.
fn liars(random: &mut Random) -> Arc<Space> {
    let space = Space::new().unwrap();
    space.map(COUNTS, Frame::zeroed().unwrap(), WRITABLE).unwrap();
    for cpu in 0..CPUS {
        let frame = Frame::zeroed().unwrap();
        frame.write(0, &lies(random, cpu));
        space.map(CODE + cpu * PAGE_SIZE, frame, Access::READ | Access::EXECUTE).unwrap();
    }
    space
}

/// Takes something away, at random. The space is locked meanwhile against other takers, so that what is watched is known.
fn take(space: &Space, random: &mut Random, taking: &Mutex<()>) -> Option<Watched> {
    let page = DATA + random.below(PAGES) * PAGE_SIZE;
    let range = page..page + PAGE_SIZE;
    let _one = taking.lock().unwrap();
    let frame = space.frame_at(page)?;
    let what = match random.below(7) {
        0 => {
            space.gather().unmap(range);
            "munmap"
        }
        1 => {
            space.gather().protect(range.clone(), Access::empty());
            space.gather().unmap(range);
            "mprotect, munmap"
        }
        2 => {
            space.map(page, Frame::zeroed().unwrap(), WRITABLE).unwrap();
            "another page"
        }
        3 => {
            let child = Space::new().unwrap();
            space.gather().share_with(&child, range, true).unwrap();
            "fork" // the frame stays shared, as long as it is watched
        }
        4 => {
            let (parent, _) = program(&[]);
            parent.gather().share_with(space, DATA..DATA + PAGE_SIZE, true).unwrap();
            if page != DATA {
                return None;
            }
            "a page of another space"
        }
        5 => {
            let to = DATA + (PAGES + random.below(PAGES)) * PAGE_SIZE;
            space.gather().move_range(range, to).unwrap();
            space.gather().unmap(to..to + PAGE_SIZE);
            "mremap, munmap"
        }
        _ => {
            space.gather().unmap(DATA..DATA + PAGES * PAGE_SIZE);
            "munmap of all"
        }
    };
    TAKEN.fetch_add(1, Ordering::Relaxed);
    Some(Watched::new(frame, what))
}

/// Supplies what a liar touched, as a kernel does: a fresh page, or its own copy.
fn supply(space: &Space, fault: &PageFault, taking: &Mutex<()>) -> bool {
    let page = usize::from(fault.address.page().start());
    let _one = taking.lock().unwrap();
    if !(DATA..DATA + PAGES * PAGE_SIZE).contains(&page) || fault.access == Access::EXECUTE {
        return false;
    }
    match space.lookup(page) {
        None => space.map(page, Frame::zeroed().unwrap(), WRITABLE).is_ok(),
        Some(_) => space.break_copy_on_write(page, WRITABLE, 0, || true).is_ok(),
    }
}

/// An honest program on this CPU: adds up in its memory, and says what it has.
struct Honest {
    space: Arc<Space>,
    registers: Registers,
    sum: u32,
}

impl Honest {
    fn new() -> Honest {
        // 1: add [DATA], edi; mov esi, [DATA]; syscall; jmp 1b
        let code = [0x01, 0x3c, 0x25, 0, 0, 0x50, 0, 0x8b, 0x34, 0x25, 0, 0, 0x50, 0, 0x0f, 5, 0xeb, 0xee];
        let (space, registers) = program(&code);
        Honest { space, registers, sum: 0 }
    }

    fn run(&mut self, random: &mut Random) {
        let number = random.next() as u32 as usize;
        self.registers.general.rdi = number;
        assert_eq!(next(&mut self.registers, &self.space), Trap::Syscall, "an honest program");
        self.sum = self.sum.wrapping_add(number as u32);
        assert_eq!(self.registers.general.rsi as u32, self.sum, "an honest program's result");
        // Now and then others have its place.
        self.registers.park();
    }
}

fn kernel() -> ! {
    if IS_OFF.load(Ordering::SeqCst) {
        probe::switch_off(Mending::LossAtOnce);
    }
    let seed = SEED.load(Ordering::SeqCst);
    let space = Mutex::new(liars(&mut Random::new(seed)));
    let (taking, done) = (Mutex::new(()), AtomicUsize::new(0));
    cpu::start(Arc::new(move |cpu| {
        let mut random = Random::new(seed ^ (cpu as u64 + 1) << 56);
        let mut honest = Honest::new();
        let mut watched: Vec<Watched> = Vec::new();
        let started = Instant::now();
        let mut running = space.lock().unwrap().clone();
        let fresh = || Registers::new(CODE + cpu * PAGE_SIZE, DATA + 2048).unwrap();
        let mut registers = fresh();
        while done.load(Ordering::SeqCst) < STEPS_WANTED.load(Ordering::SeqCst) {
            assert!(started.elapsed() < 20 * AT_LAST, "seed {seed}: it does not come to an end");
            time::set_alarm(Some(time::now() + 500_000));
            let trap = enter(&mut registers, &running);
            let mut general = registers.general;
            make_flags_user_s(&mut general);
            assert_eq!(registers.general, general, "seed {seed}: the kernel sees flags that no program has");
            match trap {
                Trap::Interrupted => {}
                Trap::Syscall => registers.set_result(0),
                Trap::PageFault(fault) if supply(&running, &fault, &taking) => {}
                Trap::Lost => {
                    LOST.fetch_add(1, Ordering::Relaxed);
                    // The first who finds out begins a new program; the others go over to it.
                    let mut space = space.lock().unwrap();
                    if Arc::ptr_eq(&space, &running) {
                        let counts = (0..CPUS).map(|cpu| space.load_u32(COUNTS + cpu * 64).unwrap() as usize);
                        LIES.fetch_add(counts.sum(), Ordering::Relaxed);
                        *space = liars(&mut random);
                    }
                    registers = fresh();
                    running = space.clone();
                }
                _ => registers = fresh(),
            }
            watched.extend(if random.one_in(3) { take(&running, &mut random, &taking) } else { None });
            if watched.len() > 64 {
                watched.drain(..).for_each(|watched| watched.look());
            }
            if random.one_in(16) {
                honest.run(&mut random);
            }
            if random.one_in(200) {
                // All of it begins anew: its stub goes to somebody else.
                registers = fresh();
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
        watched.iter().for_each(Watched::look);
        STEPS.fetch_add(done.swap(0, Ordering::SeqCst), Ordering::Relaxed);
        let counts = (0..CPUS).map(|cpu| running.load_u32(COUNTS + cpu * 64).unwrap_or(0) as usize);
        LIES.fetch_add(if cpu == 0 { counts.sum() } else { 0 }, Ordering::Relaxed);
        assert!(probe::count(Step::Start) > 0 && probe::count(Step::Loss) > 0, "both were reached");
        power::off(0)
    }))
}

/// Runs so many steps on a machine of its own, and returns its status.
fn lie_from(seed: u64, steps: usize) -> u8 {
    SEED.store(seed, Ordering::SeqCst);
    STEPS_WANTED.store(steps, Ordering::SeqCst);
    let configuration =
        Configuration { cpus: CPUS, memory: 64 << 20, engine: Engine::SharedMemory, ..Configuration::default() };
    run(configuration, kernel).unwrap()
}

/// The two samples run one at a time where they share a process.
static ONE: Mutex<()> = Mutex::new(());

/// A sample of what `./x soak wall` does for longer.
#[test]
fn random_lies_break_nothing() {
    let _one = ONE.lock();
    for seed in 1..=4 {
        assert_eq!(lie_from(seed, 1000), 0, "seed {seed}");
    }
    let [steps, lies, taken, looked] = [&STEPS, &LIES, &TAKEN, &LOOKED_AT].map(|count| count.load(Ordering::SeqCst));
    assert!(steps >= 4000 && lies > 100 && taken > 100 && looked > 100, "{steps} {lies} {taken} {looked}");
}

/// The same, if rights are not taken away with the call: then it is noticed.
#[test]
fn random_lies_break_a_wall_that_is_not_kept() {
    let _one = ONE.lock();
    IS_OFF.store(true, Ordering::SeqCst);
    let found = (1..=500).any(|seed| match lie_from(seed, 2000) {
        0 => false,
        status => {
            assert_eq!(status, WRITTEN);
            true
        }
    });
    IS_OFF.store(false, Ordering::SeqCst);
    assert!(found);
}

/// For `./x soak wall`.
#[test]
#[ignore = "as long as one has time"]
fn from_the_environment() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, time) = (number("SOAK_SEED").unwrap_or(1), Duration::from_secs(number("SOAK_SECONDS").unwrap_or(10)));
    let start = Instant::now();
    for part in 0.. {
        let seed = first.wrapping_mul(1000).wrapping_add(part);
        println!("seed {seed}");
        assert_eq!(lie_from(seed, 20_000), 0, "seed {seed}");
        if start.elapsed() >= time {
            break;
        }
    }
    for (count, what) in [
        (&STEPS, "steps"),
        (&LIES, "lies"),
        (&TAKEN, "rights taken"),
        (&LOOKED_AT, "pages looked at"),
        (&LOST, "programs lost"),
    ] {
        println!("soak: {} {what}", count.load(Ordering::SeqCst));
    }
}
