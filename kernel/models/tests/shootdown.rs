//! No CPU uses a translation that was taken away, and none waits for ever: every order of two CPUs.
//!
//! Frames and tables are cells of loom's: it reports a use by one CPU that nothing orders before their next use by another. A CPU's cache of
//! translations keeps what it saw until it is told to forget it.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;
use models::every_order;
use models::shootdown::{Hardware, Shootdown, Slot};
use models::unflushed::Unflushed;
use std::cell::Cell;
use std::ops::Range;

const CPUS: usize = 2;
/// Roots of tables.
const KERNEL: usize = 0x1000;
const SPACE: usize = 0x2000;
const OTHER: usize = 0x3000;
const PAGE: Range<usize> = 0x5000..0x6000;
/// Values of the page's entry: nothing is there; it may be used; it is there and may not be used.
const ABSENT: usize = 0;
const USABLE: usize = 1;
const FORBIDDEN: usize = 2;

loom::thread_local! {
    /// The number of the CPU that this thread is, its CR3, and whether it has the translation of the page.
    static CPU: Cell<usize> = Cell::new(0);
    static CR3: Cell<usize> = Cell::new(KERNEL);
    static CACHED: Cell<bool> = Cell::new(false);
}

/// A page in the memory of the machine.
struct Memory {
    entry: AtomicUsize,
    table: UnsafeCell<()>,
    frame: UnsafeCell<()>,
}

impl Memory {
    /// The CPU uses the page: by the translation that it has, or by the tables.
    fn walk(&self) {
        if !CACHED.with(Cell::get) {
            self.table.with(|_| ());
            CACHED.with(|cached| cached.set(self.entry.load(Ordering::Relaxed) == USABLE));
        }
        if CACHED.with(Cell::get) {
            self.frame.with(|_| ());
        }
    }
}

struct Cpus(Arc<Memory>);

impl Hardware for Cpus {
    fn current(&self) -> usize {
        CPU.with(Cell::get)
    }

    fn count(&self) -> usize {
        CPUS
    }

    fn own<'a>(&self, slots: &'a [Slot]) -> &'a Slot {
        &slots[self.current()]
    }

    fn kernel_root(&self) -> usize {
        KERNEL
    }

    fn use_tables(&self, root: usize) {
        if CR3.with(Cell::get) == SPACE {
            self.0.walk(); // until now it may, whether a program wants it or not
        }
        CR3.with(|cr3| cr3.set(root));
        self.forget_everything();
    }

    fn forget(&self, pages: &Range<usize>) {
        assert_eq!(*pages, PAGE, "what is to be forgotten is of the request");
        self.forget_everything();
    }

    fn forget_everything(&self) {
        CACHED.with(|cached| cached.set(false));
    }

    /// Programs look now and then.
    fn interrupt(&self, _: usize) {}

    fn pause(&self) {
        thread::yield_now();
    }
}

struct Machine {
    shootdown: Shootdown<Cpus, CPUS>,
    memory: Arc<Memory>,
    /// The lock of the space's tables, and who has something to flush.
    lock: Mutex<()>,
    unflushed: Unflushed,
    /// CPUs that are not done.
    busy: AtomicUsize,
}

impl Machine {
    /// One with the page mapped.
    fn new() -> Arc<Machine> {
        let (table, frame) = (UnsafeCell::new(()), UnsafeCell::new(()));
        let memory = Arc::new(Memory { entry: AtomicUsize::new(USABLE), table, frame });
        let shootdown = Shootdown::new(Cpus(memory.clone()));
        let machine = Machine {
            shootdown,
            memory,
            lock: Mutex::new(()),
            unflushed: Unflushed::new(),
            busy: AtomicUsize::new(CPUS),
        };
        // Every word is used once before there are other threads.
        for cpu in 0..CPUS {
            CPU.with(|number| number.set(cpu));
            machine.shootdown.serve(false);
            machine.shootdown.unload();
            machine.shootdown.flush_kernel();
        }
        CPU.with(|number| number.set(0));
        Arc::new(machine)
    }

    /// A program touches the page, and is interrupted.
    fn touch(&self) {
        self.memory.walk();
        self.shootdown.serve(false);
    }

    /// Takes the page out of the tables with a locked instruction, as those of a space are changed.
    fn unmap(&self) {
        self.memory.entry.swap(ABSENT, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The frame is another owner's.
    fn reuse(&self) {
        self.memory.frame.with_mut(|_| ());
    }

    /// This CPU has done its work, and is idle until all have.
    fn rest(&self) {
        self.busy.fetch_sub(1, Ordering::AcqRel);
        while self.busy.load(Ordering::Acquire) != 0 {
            self.shootdown.serve(true);
            thread::yield_now();
        }
    }
}

/// Runs one body on each CPU.
fn run(preemptions: usize, first: fn(&Machine), second: fn(&Machine)) {
    every_order(Some(preemptions), move || {
        let machine = Machine::new();
        let other = machine.clone();
        let other = thread::spawn(move || {
            CPU.with(|number| number.set(1));
            second(&other);
            other.rest();
        });
        first(&machine);
        machine.rest();
        other.join().unwrap();
    });
}

fn takes_the_page(machine: &Machine) {
    machine.unmap();
    machine.shootdown.flush(SPACE, PAGE);
    machine.reuse();
}

/// Loads the space whenever it likes, runs the program, and goes to another.
fn comes_and_goes(machine: &Machine) {
    machine.shootdown.load(SPACE);
    machine.touch();
    machine.touch();
    machine.shootdown.load(OTHER);
}

#[test]
fn no_cpu_uses_what_was_unmapped() {
    run(4, takes_the_page, comes_and_goes);
}

#[test]
fn two_cpus_that_ask_each_other_both_go_on() {
    fn takes_the_page_too(machine: &Machine) {
        machine.shootdown.load(SPACE);
        machine.touch();
        machine.shootdown.flush(SPACE, PAGE);
        machine.shootdown.flush_kernel();
    }
    fn first(machine: &Machine) {
        machine.shootdown.load(SPACE);
        machine.shootdown.join();
        takes_the_page(machine);
    }
    run(2, first, takes_the_page_too);
}

/// A CPU that has loaded the space, before it is torn down.
#[test]
fn no_cpu_uses_tables_that_were_freed() {
    fn tears_down(machine: &Machine) {
        while machine.busy.load(Ordering::Acquire) == 2 {
            thread::yield_now();
        }
        machine.shootdown.evict(SPACE);
        machine.memory.table.with_mut(|_| ());
        machine.reuse();
    }
    /// It says that it has the space loaded, by a word that orders nothing.
    fn uses(machine: &Machine) {
        machine.shootdown.load(SPACE);
        machine.busy.fetch_add(1, Ordering::Relaxed);
        machine.touch();
        machine.shootdown.load(OTHER);
        machine.busy.fetch_sub(1, Ordering::Relaxed);
    }
    run(3, tears_down, uses);
}

/// The kernel's half: only CPUs that have joined are asked, and a CPU uses it after it has.
#[test]
fn no_cpu_uses_what_the_kernel_has_unmapped() {
    fn unmaps(machine: &Machine) {
        machine.memory.entry.store(ABSENT, Ordering::Relaxed);
        machine.shootdown.flush_kernel();
        machine.reuse();
    }
    fn joins(machine: &Machine) {
        machine.shootdown.join();
        machine.touch();
        machine.touch();
    }
    run(4, unmaps, joins);
}

/// One takes the rights away, and flushes when it has given up the tables' lock; meanwhile another takes the page, whose entry says that no CPU
/// can have cached it.
#[test]
fn no_frame_goes_before_what_another_has_taken_away_is_forgotten() {
    fn forbids(machine: &Machine) {
        machine.shootdown.load(SPACE);
        machine.touch();
        let locked = machine.lock.lock().unwrap();
        let found = machine.memory.entry.compare_exchange(USABLE, FORBIDDEN, Ordering::Relaxed, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if found.is_ok() {
            machine.unflushed.begin();
        }
        drop(locked);
        machine.memory.walk(); // until it has flushed it may
        if found.is_ok() {
            machine.shootdown.flush(SPACE, PAGE);
            machine.unflushed.end();
        }
    }
    fn takes(machine: &Machine) {
        let locked = machine.lock.lock().unwrap();
        let found = machine.memory.entry.swap(ABSENT, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        drop(locked);
        if found == USABLE || machine.unflushed.others(false) {
            machine.shootdown.flush(SPACE, PAGE);
        }
        machine.reuse();
    }
    run(3, forbids, takes);
}
