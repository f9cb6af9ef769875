//! Translations are forgotten on each of very many CPUs: [`protocol`] as it is, with CPUs that take turns on one thread. An interrupt makes
//! a CPU serve at once. Every order of two CPUs is tried in kernel/models.

#[path = "../shootdown/protocol.rs"]
mod protocol;

use crate::cpu::MAX_CPUS;
use core::sync::atomic;
use protocol::{Hardware, Shootdown, Slot};
use std::cell::Cell;
use std::ops::Range;

const SPACE: usize = 0x2000;
const OTHER: usize = 0x3000;
const PAGE: Range<usize> = 0x5000..0x6000;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    /// CPUs that were told to forget the page.
    static TOLD: Cell<[usize; MAX_CPUS]> = const { Cell::new([0; MAX_CPUS]) };
}

static CPUS: Shootdown<Cpus, MAX_CPUS> = Shootdown::new(Cpus);

struct Cpus;

/// Does something as another CPU.
fn on<R>(cpu: usize, body: impl FnOnce() -> R) -> R {
    let before = CURRENT.replace(cpu);
    let result = body();
    CURRENT.set(before);
    result
}

impl Hardware for Cpus {
    fn current(&self) -> usize {
        CURRENT.get()
    }

    fn count(&self) -> usize {
        MAX_CPUS
    }

    fn own<'a>(&self, slots: &'a [Slot]) -> &'a Slot {
        &slots[CURRENT.get()]
    }

    fn kernel_root(&self) -> usize {
        0x1000
    }

    fn use_tables(&self, _: usize) {}

    fn forget(&self, pages: &Range<usize>) {
        assert_eq!(*pages, PAGE);
        let mut told = TOLD.get();
        told[CURRENT.get()] += 1;
        TOLD.set(told);
    }

    fn forget_everything(&self) {}

    fn interrupt(&self, cpu: usize) {
        on(cpu, || CPUS.serve(false));
    }

    fn pause(&self) {
        panic!("a CPU that was interrupted has not answered");
    }
}

#[test]
fn of_255_cpus_each_that_uses_the_space_is_told_once_by_whichever_cpu() {
    let uses_it = |cpu: usize| cpu % 3 != 1;
    for cpu in 0..MAX_CPUS {
        on(cpu, || CPUS.load(if uses_it(cpu) { SPACE } else { OTHER }));
    }
    for sender in [0, 1, 63, 64, 65, 127, 128, 192, MAX_CPUS - 1] {
        TOLD.set([0; MAX_CPUS]);
        on(sender, || CPUS.flush(SPACE, PAGE));
        let told = TOLD.get();
        assert!((0..MAX_CPUS).all(|cpu| told[cpu] == usize::from(uses_it(cpu))), "sent by CPU {sender}: {told:?}");
    }
    on(200, || CPUS.evict(SPACE));
    assert!((0..MAX_CPUS).all(|cpu| !on(cpu, || CPUS.is_loaded(SPACE))));
}
