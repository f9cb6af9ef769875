//! The vDSO's code, called where it lies: the kernel's alias of its page is made executable.

use super::clock::{Clock, numbers_of, ticks};
use super::mirror::{Round, round};
use super::{CODE, Pages};
use crate::memory::PAGE_SIZE;
use clocks::{Line, scale};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const SECOND: u64 = 1_000_000_000;
const REALTIME: i32 = 0;
const MONOTONIC: i32 = 1;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    seconds: i64,
    rest: i64,
}

type ClockFunction = unsafe extern "C" fn(i32, *mut Pair) -> i32;
type TimeOfDay = unsafe extern "C" fn(*mut Pair, *mut [i32; 2]) -> i32;
type Time = unsafe extern "C" fn(*mut i64) -> i64;
type ProcessorFunction = unsafe extern "C" fn(*mut u32, *mut u32, usize) -> i32;

unsafe extern "C" {
    fn mprotect(address: *mut u8, length: usize, rights: i32) -> i32;
}

/// A machine's clock with its pages, as a program sees them.
struct Program {
    clock: Clock,
    /// Where each function lies in the page.
    symbols: HashMap<String, usize>,
}

impl Program {
    fn new() -> Program {
        let clock = Clock::new();
        let pages = clock.pages().unwrap();
        assert_eq!(pages.data.bytes().addr() + PAGE_SIZE, pages.code.bytes().addr());
        let rights = 1 | 2 | 4;
        // SAFETY: a page of ours.
        assert_eq!(unsafe { mprotect(pages.code.bytes(), PAGE_SIZE, rights) }, 0);
        let symbols = symbols(&page(pages));
        Program { clock, symbols }
    }

    fn with_line(line: Line) -> Program {
        let program = Program::new();
        program.clock.change(|its| *its = line);
        program
    }

    fn address(&self, name: &str) -> *mut u8 {
        self.clock.pages().unwrap().code.bytes().wrapping_add(self.symbols[name])
    }

    fn clock_function(&self) -> ClockFunction {
        // SAFETY: the function is of this type and its page executable.
        unsafe { std::mem::transmute(self.address("__vdso_clock_gettime")) }
    }

    fn clock_gettime(&self, clock: i32) -> Result<u64, i32> {
        call(self.clock_function(), clock)
    }
}

fn call(function: ClockFunction, clock: i32) -> Result<u64, i32> {
    let mut time = Pair { seconds: -1, rest: -1 };
    // SAFETY: it writes one `Pair`.
    match unsafe { function(clock, &mut time) } {
        0 => {
            assert!((0..SECOND as i64).contains(&time.rest));
            Ok(time.seconds as u64 * SECOND + time.rest as u64)
        }
        error => Err(error),
    }
}

fn page(pages: &Pages) -> Vec<u8> {
    let mut bytes = vec![0; PAGE_SIZE];
    assert_eq!(pages.code.read(0, &mut bytes), PAGE_SIZE);
    bytes
}

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn text(bytes: &[u8], at: usize) -> String {
    bytes[at..].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

/// The functions, found the way of a C library: program headers, dynamic section, hash tables, versions.
fn symbols(image: &[u8]) -> HashMap<String, usize> {
    assert_eq!(&image[..4], b"\x7fELF");
    let headers = number(image, 32, 8);
    let header = |kind: usize| {
        let all = (0..number(image, 56, 2)).map(|index| headers + index * 56);
        all.into_iter().find(|at| number(image, *at, 4) == kind).unwrap()
    };
    let load = header(1);
    assert_eq!([8, 16, 32, 40].map(|field| number(image, load + field, 8)), [0, 0, PAGE_SIZE, PAGE_SIZE]);
    let dynamic = number(image, header(2) + 8, 8);
    let entries: HashMap<usize, usize> = (0..)
        .map(|index| (number(image, dynamic + index * 16, 8), number(image, dynamic + index * 16 + 8, 8)))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    assert_eq!(number(image, header(2) + 32, 8), (entries.len() + 1) * 16);
    let (hash, gnu, strings, table) = (entries[&4], entries[&0x6fff_fef5], entries[&5], entries[&6]);
    let (versions, definitions) = (entries[&0x6fff_fff0], entries[&0x6fff_fffc]);
    assert_eq!(text(image, strings + entries[&14]), "linux-vdso.so.1");
    assert_eq!(image[strings + entries[&10]..][..1], [0], "the size ends after the last zero");

    let second = definitions + number(image, definitions + 16, 4);
    assert_eq!((number(image, second + 4, 2), number(image, second + 8, 4)), (2, 0x3ae75f6));
    assert_eq!(text(image, strings + number(image, second + number(image, second + 12, 4), 4)), "LINUX_2.6");

    let count = number(image, hash + 4, 4);
    let mut listed = Vec::new();
    let mut index = number(image, hash + 8, 4);
    while index != 0 {
        listed.push(index);
        index = number(image, hash + 12 + index * 4, 4);
    }
    assert_eq!(listed, (1..count).collect::<Vec<_>>());

    let (filter, chain) = (number(image, gnu + 16, 8), gnu + 28);
    let mut found = HashMap::new();
    for index in listed {
        let symbol = table + index * 24;
        let name = text(image, strings + number(image, symbol, 4));
        let wanted = name.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()));
        let its = number(image, chain + (index - 1) * 4, 4) as u32;
        assert_eq!((its | 1, its & 1 == 1), (wanted | 1, index == count - 1), "{name}");
        assert!(filter >> (wanted % 64) & 1 == 1 && filter >> ((wanted >> 6) % 64) & 1 == 1, "{name}");
        assert_eq!(number(image, versions + index * 2, 2), 2);
        if name != "LINUX_2.6" {
            assert_eq!(image[symbol + 4], if name.starts_with("__vdso_") { 0x12 } else { 0x22 }, "{name}");
            let (start, length) = (number(image, symbol + 8, 8), number(image, symbol + 16, 8));
            assert!(start >= CODE && length > 0 && start + length <= PAGE_SIZE);
            found.insert(name, start);
        }
    }
    found
}

/// A line on which time stands still, so that results are known.
fn still(nanoseconds: u64, epoch: u64) -> Line {
    Line { multiplier: 1, base_ticks: ticks(), base_nanoseconds: nanoseconds, epoch }
}

/// A line like that of a real machine.
fn running() -> Line {
    Line { multiplier: 1 << 31, base_ticks: ticks(), base_nanoseconds: 5, epoch: 1_700_000_000 * SECOND }
}

#[test]
fn every_function_has_both_names() {
    let symbols = Program::new().symbols;
    assert_eq!(symbols.len(), 10);
    for name in ["clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"] {
        assert_eq!(symbols[name], symbols[&format!("__vdso_{name}")]);
    }
}

#[test]
fn seconds_and_the_rest_are_exact() {
    for nanoseconds in
        [0, 1, 511, SECOND - 1, SECOND, SECOND + 1, 17 * SECOND - 1, u64::MAX / 3, u64::MAX - SECOND, u64::MAX - 9]
    {
        let program = Program::with_line(still(nanoseconds, 0));
        assert_eq!(program.clock_gettime(MONOTONIC), Ok(nanoseconds));
    }
    let seed = (1..20_000_u64).scan(1_u64, |seed, _| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Some(*seed)
    });
    let program = Program::new();
    for nanoseconds in seed {
        program.clock.change(|line| *line = still(nanoseconds, 0));
        assert_eq!(program.clock_gettime(MONOTONIC), Ok(nanoseconds));
    }
}

#[test]
fn each_clock_is_the_right_one() {
    let program = Program::with_line(still(77 * SECOND + 5, 1_000 * SECOND));
    for clock in [1, 4, 6, 7] {
        assert_eq!(program.clock_gettime(clock), Ok(77 * SECOND + 5), "clock {clock}");
    }
    for clock in [0, 5, 11] {
        assert_eq!(program.clock_gettime(clock), Ok(1_077 * SECOND + 5), "clock {clock}");
    }
    // What the vDSO does not know is asked of the kernel: the host's, here.
    for clock in [12, 99, i32::MAX] {
        assert_eq!(program.clock_gettime(clock), Err(-22), "clock {clock}");
    }
    for clock in [2, 3, -6] {
        let cpu_time = program.clock_gettime(clock).unwrap();
        assert!(cpu_time != 77 * SECOND + 5 && cpu_time > 0, "clock {clock}");
    }
}

#[test]
fn without_the_tsc_the_kernel_is_asked() {
    let program = Program::new();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let before = now();
    let by_call = program.clock_gettime(REALTIME).unwrap();
    assert!(before <= by_call && by_call <= now());
    // SAFETY: the functions are of these types; they write what they are given, or nothing.
    unsafe {
        let of_day: TimeOfDay = std::mem::transmute(program.address("__vdso_gettimeofday"));
        let time: Time = std::mem::transmute(program.address("__vdso_time"));
        let mut pair = Pair::default();
        assert_eq!(of_day(&mut pair, std::ptr::null_mut()), 0);
        assert!(pair.seconds as u64 >= before / SECOND && pair.rest < 1_000_000);
        assert!(time(std::ptr::null_mut()) as u64 >= before / SECOND - 1);
    }
}

/// The TSCs of the CPUs differ: programs ask the kernel, and no CPU sees less than another has seen.
#[test]
fn a_clock_that_is_distrusted_never_goes_back() {
    let program = Program::new();
    program.clock.distrust();
    program.clock.change(|line| *line = running());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!(program.clock_gettime(REALTIME).unwrap() >= now, "not by the page");
    let own = scale(ticks() - program.clock.read(|line| line.base_ticks), running().multiplier);
    let ahead = program.clock.since_base();
    assert!(ahead >= own, "nor less than its own TSC says");
    // As seen by a CPU whose TSC is behind.
    program.clock.change(|line| line.base_ticks += 1 << 32);
    assert!(program.clock.since_base() >= ahead);
}

#[test]
fn the_other_functions_agree() {
    let program = Program::with_line(still(SECOND - 1, 999_999_000 + 40 * SECOND));
    // SAFETY: the functions are of these types; they write what they are given, or nothing.
    unsafe {
        let of_day: TimeOfDay = std::mem::transmute(program.address("gettimeofday"));
        let (mut pair, mut zone) = (Pair::default(), [5, 5]);
        assert_eq!((of_day(&mut pair, &mut zone), zone), (0, [0, 0]));
        assert_eq!(pair, Pair { seconds: 41, rest: 999_998 });
        zone = [5, 5];
        assert_eq!((of_day(std::ptr::null_mut(), &mut zone), zone), (0, [0, 0]));
        assert_eq!(of_day(std::ptr::null_mut(), std::ptr::null_mut()), 0);

        let time: Time = std::mem::transmute(program.address("time"));
        let mut seconds = 0;
        assert_eq!((time(&mut seconds), seconds, time(std::ptr::null_mut())), (41, 41, 41));

        let resolution: ClockFunction = std::mem::transmute(program.address("clock_getres"));
        for (clock, expected) in [(0, 1), (1, 1), (4, 1), (5, 4_000_000), (6, 4_000_000), (7, 1), (11, 1)] {
            assert_eq!((resolution(clock, &mut pair), pair), (0, Pair { seconds: 0, rest: expected }), "clock {clock}");
            assert_eq!(resolution(clock, std::ptr::null_mut()), 0);
        }
        assert_eq!(resolution(99, &mut pair), -22);

        let processor: ProcessorFunction = std::mem::transmute(program.address("getcpu"));
        let mut cpu = u32::MAX;
        assert_eq!(processor(&mut cpu, std::ptr::null_mut(), 0), 0);
        assert!(cpu < 4096);
    }
}

#[test]
fn a_clock_that_was_set_shows_it_at_once() {
    let program = Program::with_line(running());
    for wall in [5 * SECOND, 3_000_000_000 * SECOND, 0] {
        program.clock.change(|line| line.epoch = wall.wrapping_sub(line.at(ticks())));
        let shown = program.clock_gettime(REALTIME).unwrap();
        assert!((wall..wall + SECOND).contains(&shown), "{shown} after {wall} was set");
    }
    // A machine that sets the line once reads it in parts.
    program.clock.change(|line| line.base_nanoseconds = 0);
    assert_eq!(program.clock.epoch(), program.clock.read(|line| line.epoch));
    let before = program.clock.read(|line| line.at(ticks()));
    let now = program.clock.since_base();
    assert!(before <= now && now <= program.clock_gettime(MONOTONIC).unwrap());
}

/// What the clock shows by the kernel's way and by the program's, in turn on several CPUs while the slope changes all the time, never
/// is less than what anybody saw before.
#[test]
fn time_never_goes_back_between_the_two_ways() {
    let program = Program::with_line(running());
    let (latest, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let look = |turn: u64| {
        let before = latest.load(Ordering::SeqCst);
        let now = match turn % 2 {
            0 => program.clock.read(|line| line.at(ticks())),
            _ => program.clock_gettime(MONOTONIC).unwrap(),
        };
        assert!(now >= before, "{} ns back, turn {turn}", before - now);
        latest.fetch_max(now, Ordering::SeqCst);
    };
    let mut changes = 0_u64;
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3).map(|reader| scope.spawn(move || (reader..300_000).for_each(look))).collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                changes += 1;
                program.clock.change(|line| {
                    let now = ticks();
                    let multiplier = (1 << 31) + changes % 7 * 1_000_000;
                    *line = Line { multiplier, base_ticks: now, base_nanoseconds: line.at(now), epoch: line.epoch };
                });
                thread::yield_now();
            }
        });
        let finished: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(finished.iter().all(|result| result.is_ok()));
    });
    assert!(changes > 0);
}

#[test]
fn what_one_setting_says_is_never_mixed_with_another() {
    // The monotonic clock and the distance change together; their sum stays.
    let program = Program::with_line(still(0, 1_000_000 * SECOND));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..100_000 {
                program.clock.change(|line| *line = still(turn * SECOND, (1_000_000 - turn) * SECOND));
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            assert_eq!(program.clock_gettime(REALTIME), Ok(1_000_000 * SECOND));
        }
    });
}

/// Any numbers that a writer could put there, and some that none does.
fn some_line(random: &mut impl FnMut() -> u64) -> Line {
    let multiplier = [0, 1, 1 << 31, 3 << 30, u64::MAX >> 8, random() >> 24][random() as usize % 6];
    let base_ticks = [ticks(), 0, u64::MAX, ticks() + (1 << 40), random()][random() as usize % 5];
    Line { multiplier, base_ticks, base_nanoseconds: random(), epoch: random() }
}

/// The assembler does what `mirror.rs` says, which kernel/models tries in all orders.
#[test]
fn the_mirror_of_the_reader_is_right() {
    let program = Program::new();
    let numbers = numbers_of(&program.clock.pages().unwrap().data);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut told, mut asked) = (0, 0);
    for _ in 0..20_000 {
        program.clock.change(|line| *line = some_line(&mut random));
        let function = program.clock_function();
        numbers.sequence.store(random() as u32 & !1, Ordering::SeqCst);
        let wall = random() & 1 == 1;
        let clock = if wall { REALTIME } else { MONOTONIC };
        let before = round(numbers, wall, ticks);
        let by_assembler = call(function, clock).unwrap();
        match (before, round(numbers, wall, ticks)) {
            (Round::Time(before), Round::Time(after)) => {
                assert!(by_assembler.wrapping_sub(before) <= after.wrapping_sub(before), "{:?}", numbers.line());
                told += 1;
            }
            (Round::AskKernel, Round::AskKernel) => {
                // SAFETY: fills the time.
                let host = unsafe {
                    let mut host: libc::timespec = std::mem::zeroed();
                    assert_eq!(libc::clock_gettime(clock, &mut host), 0);
                    host.tv_sec as u64 * SECOND + host.tv_nsec as u64
                };
                assert!(by_assembler <= host && by_assembler != numbers.line().base_nanoseconds);
                asked += 1;
            }
            others => panic!("{others:?} with an even number and nobody who writes"),
        }
    }
    assert!(told > 1000 && asked > 1000);
}

/// While the number is odd the assembler goes round, as its mirror says, whatever the others are.
#[test]
fn the_reader_waits_while_the_numbers_change() {
    let mut multiplier = 0;
    for _ in 0..6 {
        let program = Program::with_line(Line { multiplier, base_ticks: 0, base_nanoseconds: 1, epoch: 2 });
        let numbers = numbers_of(&program.clock.pages().unwrap().data);
        // Before: asking for the pages writes the numbers once more.
        let function = program.clock_function();
        numbers.sequence.fetch_or(1, Ordering::SeqCst);
        assert_eq!(round(numbers, true, || unreachable!("the TSC is not looked at")), Round::Again);
        let is_back = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let time = call(function, REALTIME).unwrap();
                is_back.store(true, Ordering::SeqCst);
                time
            });
            thread::sleep(std::time::Duration::from_millis(10));
            assert!(!is_back.load(Ordering::SeqCst), "the number is odd");
            numbers.multiplier.store(1 << 31, Ordering::SeqCst);
            numbers.base_ticks.store(u64::MAX, Ordering::SeqCst);
            numbers.base_nanoseconds.store(30, Ordering::SeqCst);
            numbers.epoch.store(400, Ordering::SeqCst);
            numbers.sequence.fetch_add(1, Ordering::SeqCst);
            assert_eq!(reader.join().unwrap(), 430);
        });
        assert_eq!(round(numbers, true, ticks), Round::Time(430));
        multiplier = multiplier << 8 | 1;
    }
}
