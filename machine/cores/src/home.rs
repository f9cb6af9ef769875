//! Where the host runs a CPU's thread and the program's.
//!
//! A program and its CPU's thread take turns: one waits while the other runs. When one wakes the other on another core that
//! sleeps, the wake-up costs more than all the rest, the more so in a virtual machine. So the two stay *together* on one core, the CPU's
//! *home*, unless they wait awake for each other, for which they have to be *apart*.
//!
//! The home is where the host put the CPU's thread when it last had to wait; while the CPU is idle, and now and then while it is
//! busy, the host is free to choose again.

use crate::Number;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, Ordering};

/// Programs entered before the host may move the CPU's thread, and until it settles again: time for the host's balancing.
const STAY: u32 = 4096;
const MOVE_END: u32 = STAY + 256;

/// No core in particular.
const NOWHERE: i32 = -1;

#[derive(Clone, Copy)]
struct Home {
    core: i32,
    entries: u32,
    /// The cores this thread may use at all; read once.
    allowed: Option<CpuSet>,
}

thread_local! {
    static HOME: Cell<Home> = const { Cell::new(Home { core: NOWHERE, entries: 0, allowed: None }) };
}

/// Where a thread of a stub was put: the CPU's home, or away from it (a negative number).
pub struct Seat(AtomicI32);

impl Default for Seat {
    fn default() -> Seat {
        Seat(AtomicI32::new(NOWHERE))
    }
}

impl Seat {
    /// Puts `thread` on this CPU's home.
    pub fn together(&self, thread: Number) {
        let home = HOME.get();
        if self.0.swap(home.core, Ordering::Relaxed) != home.core {
            set(thread, home.allowed.map(|_| only(home.core)));
        }
    }

    /// Puts `thread` on any core but this CPU's home. The host would leave it there, where it was last.
    pub fn apart(&self, thread: Number) {
        let home = HOME.get();
        let away = -2 - home.core;
        if self.0.swap(away, Ordering::Relaxed) != away {
            set(thread, home.allowed.map(|allowed| without(allowed, home.core)));
        }
    }

    /// Lets `thread` run anywhere: it has been at it for so long that who wakes whom does not matter.
    pub fn free(&self, thread: Number) {
        if self.0.swap(NOWHERE, Ordering::Relaxed) != NOWHERE {
            set(thread, HOME.get().allowed);
        }
    }

    /// The thread is new, and where its parent is: on this CPU's home.
    pub fn inherit(&self) {
        self.0.store(HOME.get().core, Ordering::Relaxed);
    }
}

/// The CPU's thread is about to enter a program: it stays where it is from now on, but for a while now and then.
pub fn settle() {
    let mut home = HOME.get();
    home.entries += 1;
    match home.entries {
        1 => {
            home.allowed = home.allowed.or_else(allowed);
            home.core = i32::try_from(sched_getcpu()).unwrap_or(NOWHERE);
            set(0, home.allowed.map(|_| only(home.core)));
        }
        STAY => set(0, home.allowed),
        MOVE_END => home.entries = 0,
        _ => {}
    }
    HOME.set(home);
}

/// The CPU is about to wait, or its program runs for long: the host may choose where it goes on.
pub fn leave() {
    let mut home = HOME.get();
    if home.entries > 0 {
        set(0, home.allowed);
        home.entries = 0;
        HOME.set(home);
    }
}

fn allowed() -> Option<CpuSet> {
    sched_getaffinity(None).ok()
}

/// The number of a core in a set; none that the set has no room for.
fn number(core: i32) -> Option<usize> {
    usize::try_from(core).ok().filter(|core| *core < CpuSet::MAX_CPU)
}

/// The set of one core, whose number the host gave.
fn only(core: i32) -> CpuSet {
    let mut set = CpuSet::new();
    number(core).inspect(|core| set.set(*core));
    set
}

fn without(mut set: CpuSet, core: i32) -> CpuSet {
    number(core).inspect(|core| set.unset(*core));
    set
}

/// Says on which cores a thread may run; 0 is this one. An error leaves it where it is, which is only slower.
fn set(thread: Number, cores: Option<CpuSet>) {
    if let Some(cores) = cores {
        let _ = sched_setaffinity(Pid::from_raw(thread), &cores);
    }
}
