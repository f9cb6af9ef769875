//! A clock whose numbers are changed while another reads it: every order, with the vDSO's reader and the kernel's.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use clocks::Line;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use models::every_order;
use models::mirror::{Round, round};
use models::numbers::{Numbers, change_both};

struct Machine {
    own: Numbers,
    shown: Numbers,
    tsc: AtomicU64,
}

impl Machine {
    fn new(line: Line) -> Arc<Machine> {
        let machine = Machine { own: Numbers::new(), shown: Numbers::new(), tsc: AtomicU64::new(1) };
        machine.change(|its| *its = line);
        machine.can_be_read();
        Arc::new(machine)
    }

    fn change(&self, change: impl FnOnce(&mut Line)) {
        change_both(&self.own, Some(&self.shown), change, |line| line);
    }

    /// Nobody changes the numbers now: so nobody has to try again.
    fn can_be_read(&self) {
        assert!(self.by_program().is_some() && self.by_kernel().is_some());
    }

    /// The TSC: never the same twice, and no other order than that of its own readings.
    fn ticks(&self) -> u64 {
        self.tsc.fetch_add(1, Ordering::Relaxed)
    }

    /// A program's reading, if nothing changes meanwhile.
    fn by_program(&self) -> Option<u64> {
        match round(&self.shown, true, || self.ticks()) {
            Round::Time(time) => Some(time),
            Round::AskKernel => panic!("the TSC tells the time"),
            Round::Again => None,
        }
    }

    /// The kernel's.
    fn by_kernel(&self) -> Option<u64> {
        self.own.try_read(|line| line.at(self.ticks()) + line.epoch)
    }
}

/// Who looks twice, in these ways, sees time go on.
fn never_goes_back(before: u64, after: u64, first: fn(&Machine) -> Option<u64>, second: fn(&Machine) -> Option<u64>) {
    every_order(Some(2), move || {
        let machine = Machine::new(Line { multiplier: before << 32, base_ticks: 0, base_nanoseconds: 0, epoch: 0 });
        let reader = machine.clone();
        let reader = thread::spawn(move || {
            if let Some(earlier) = first(&reader)
                && let Some(later) = second(&reader)
            {
                assert!(later >= earlier, "time goes back from {earlier} to {later}");
            }
        });
        // The slope changes; the line goes on where the old one ends.
        machine.change(|line| {
            let now = machine.ticks();
            let base_nanoseconds = line.at(now);
            *line = Line { multiplier: after << 32, base_ticks: now, base_nanoseconds, epoch: 0 };
        });
        reader.join().unwrap();
        machine.can_be_read();
    });
}

#[test]
fn time_does_not_go_back_from_a_program_to_the_kernel() {
    never_goes_back(1000, 1, Machine::by_program, Machine::by_kernel);
    never_goes_back(1, 1000, Machine::by_program, Machine::by_kernel);
}

#[test]
fn time_does_not_go_back_from_the_kernel_to_a_program() {
    never_goes_back(1000, 1, Machine::by_kernel, Machine::by_program);
    never_goes_back(1, 1000, Machine::by_kernel, Machine::by_program);
}

/// Each number tells which change it is of; a time tells it three times.
fn never_mixed(read: fn(&Machine) -> Option<u64>) {
    fn line(change: u64) -> Line {
        Line { multiplier: change << 32, base_ticks: 0, base_nanoseconds: change * 1000, epoch: change * 1_000_000 }
    }
    every_order(Some(2), move || {
        let machine = Machine::new(line(1));
        machine.tsc.store(1, Ordering::Relaxed);
        let reader = machine.clone();
        let reader = thread::spawn(move || {
            let time = read(&reader);
            assert!(time.is_none_or(|time| [1_001_001, 2_002_002].contains(&time)), "mixed: {time:?}");
        });
        machine.change(|its| *its = line(2));
        reader.join().unwrap();
    });
}

#[test]
fn the_numbers_of_two_changes_are_never_mixed() {
    never_mixed(Machine::by_program);
    never_mixed(Machine::by_kernel);
}
