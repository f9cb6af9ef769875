//! Stubs: the host processes in which programs run.
//!
//! A stub has an address space of its own that holds nothing but two pages of ours ([`code`]), blocks for guest threads, and, below
//! them, pages of the machine's memory: what its program sees. It has one thread for each CPU, traced by that CPU's host thread, since ptrace wants
//! every request from the thread that attached. So a program with threads runs on all CPUs in one stub.
//!
//! A stub is to a space what a tagged TLB is to page tables: a **cache** of it. The space says which frame each page shows; the
//! stub shows what was touched, and may forget any of it at any time: a touch then comes back as a fault that the machine answers by
//! itself. That is the plan for every limit of the host. Too many mappings: the stub is emptied. Too many processes: a
//! space that does not run loses its stub to one that wants to. So a thousand programs get by with a few stubs.
//!
//! Changes to a space are noted in its stub as [`Change`]s. Those that *give* are carried out in one batch by a thread of it before the
//! program goes on: until then a touch faults, and is answered. Those that *take* are carried out before the call that notes them
//! returns, with everything noted before, by a thread that ptrace has seen stop and sees make each system call ([`Stub::settle`]). It makes no
//! difference whether programs run in the stub, or say that they do not: what left the space may be used for something else
//! from then on.
//!
//! | file | |
//! | --- | --- |
//! | `code`, `filter` | what a stub can execute of its own, and the system calls it may make |
//! | `list` | the list of system calls that a thread of a stub is to make |
//! | `trace` | ptrace of one thread: what the kernel knows |
//! | `claim` | what programs say |
//! | `guest`, `block` | threads that run programs untraced, and the memory by which they say how they came back |
//! | `pool` | making stubs ahead of need, handing them out, taking them back |
//! | `probe` | for tests of all that |
//!
//! With guest threads ([`guest`]) nobody is told for certain that a program has stopped: so before a stub goes to another space its guest
//! threads are killed. And nothing waits for a guest thread with one of the locks below held.
//!
//! Locks, in this order: a space's pages, the pool's stock, a stub's state.

mod block;
mod claim;
mod code;
pub mod filter;
mod guest;
mod list;
mod pool;
pub mod probe;
mod trace;

use super::cpu::{self, HostThread};
use super::heap::push_apart;
use crate::memory::Access;
use crate::user::General;
#[cfg(test)]
pub use block::BLOCK_SIZE;
pub use code::BASE;
use code::Call;
#[cfg(test)]
pub use code::{BLOCKS, one_call};
use cores::Seat;
use guest::Guest;
pub use guest::{Missing, Stopped, is_possible};
use list::{LIST_LENGTH, List};
pub use pool::{Pool, Shortage, ended, own_pages};
use probe::{Mending, Step};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
pub use trace::Gone;
use trace::{Carried, Halted};

/// Changes that are noted before the stub is rather emptied.
const MOST_CHANGES: usize = 2 * LIST_LENGTH;

/// Everything a program can have.
const ALL: Range<usize> = 0..BASE;

/// The descriptor of the machine's memory in every stub.
const MEMORY: usize = 0;

/// Something to be done to what a stub maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Show the machine's memory from `offset` in `range`.
    Map {
        /// Where.
        range: Range<usize>,
        /// From where in the memory's file, in bytes.
        offset: usize,
        /// Rights, not empty.
        access: Access,
    },
    /// Show nothing in the range.
    Unmap(Range<usize>),
    /// Change the rights of a range that is mapped throughout.
    Protect(Range<usize>, Access),
}

/// The rights as mmap(2) wants them.
fn protection(access: Access) -> usize {
    let mut protection = libc::PROT_READ;
    if access.contains(Access::WRITE) {
        protection |= libc::PROT_WRITE;
    }
    if access.contains(Access::EXECUTE) {
        protection |= libc::PROT_EXEC;
    }
    protection as usize
}

impl Change {
    fn call(&self) -> Call {
        Call(match self {
            Change::Map { range, offset, access } => {
                let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as usize;
                let protection = protection(*access);
                [libc::SYS_mmap as usize, range.start, range.len(), protection, flags, MEMORY, *offset]
            }
            Change::Unmap(range) => [libc::SYS_munmap as usize, range.start, range.len(), 0, 0, 0, 0],
            Change::Protect(range, access) => {
                [libc::SYS_mprotect as usize, range.start, range.len(), protection(*access), 0, 0, 0]
            }
        })
    }

    /// Makes `self` do what `next` does too, if the two are one.
    pub fn absorb(&mut self, next: &Change) -> bool {
        match (self, next) {
            (
                Change::Map { range, offset, access },
                Change::Map { range: next, offset: next_offset, access: next_access },
            ) if range.end == next.start && *offset + range.len() == *next_offset && access == next_access => {
                range.end = next.end;
                true
            }
            (Change::Unmap(range), Change::Unmap(next)) if range.end == next.start => {
                range.end = next.end;
                true
            }
            (Change::Protect(range, access), Change::Protect(next, next_access))
                if range.end == next.start && access == next_access =>
            {
                range.end = next.end;
                true
            }
            _ => false,
        }
    }
}

/// The number of no space, and of no program's registers.
pub const NOBODY: u64 = 0;

/// A number that was not given out before, for spaces, epochs, and registers.
pub fn new_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(NOBODY + 1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One thread of a stub: for one CPU.
struct Thread {
    id: libc::pid_t,
    /// Its CPU traces it.
    is_traced: AtomicBool,
    /// Once it has stopped for its CPU.
    halted: OnceLock<Halted>,
    seat: Seat,
    /// The number of the [`super::user::Registers`] whose extended state it holds.
    owner: AtomicU64,
}

/// A process programs run in.
pub struct Stub {
    process: libc::pid_t,
    /// The threads of CPU 0 and of the others.
    first: Thread,
    others: Box<[Thread]>,
    /// One for each CPU, or none at all: then the threads above run the programs.
    guests: Box<[Guest]>,
    /// Used with the state locked.
    list: List,
    state: Mutex<State>,
}

/// What a stub is at.
#[derive(Default)]
pub struct State {
    /// The number of the space whose pages it shows; [`NOBODY`] if it is free. A space with another number has lost it.
    space: u64,
    /// A new number each time all is forgotten: what was shown under another one is not shown any more.
    epoch: u64,
    /// CPUs that run the program.
    running: usize,
    changes: Vec<Change>,
    /// Some of them take rights away.
    takes_away: bool,
    /// Mappings it has at most.
    mappings: usize,
    /// When it was used last, by the pool's count.
    last_use: u64,
}

impl Stub {
    /// Locks the state if the stub still belongs to `space`.
    pub fn lock_for(&self, space: u64) -> Option<MutexGuard<'_, State>> {
        Some(super::machine::lock(&self.state)).filter(|state| state.space == space)
    }

    /// The thread that runs the program on this CPU, as the host knows it.
    pub fn host_thread(&self) -> HostThread {
        match self.guest() {
            Some(guest) => guest.host_thread(),
            None => HostThread { process: self.process, thread: self.thread().id, is_traced: true },
        }
    }

    /// This CPU's guest thread, if the stub has such.
    fn guest(&self) -> Option<&Guest> {
        self.guests.get(cpu::current())
    }

    fn thread(&self) -> &Thread {
        // There is one for every CPU of the machine.
        cpu::current().checked_sub(1).and_then(|index| self.others.get(index)).unwrap_or(&self.first)
    }

    /// Whose extended state this CPU's thread holds.
    pub fn owner(&self) -> u64 {
        self.holder().load(Ordering::Relaxed)
    }

    fn holder(&self) -> &AtomicU64 {
        self.guest().map_or(&self.thread().owner, |guest| &guest.owner)
    }

    /// Copies the extended state of `owner` out of this CPU's thread, which must be stopped.
    pub fn save_extended_state(&self, owner: u64, image: &mut [u8]) -> Result<(), Gone> {
        match self.guest() {
            Some(guest) => guest.save_extended_state(owner, image),
            None => trace::extended_state(self.halted()?, image).map(drop),
        }
    }

    /// Loads the extended state of `owner` into this CPU's thread. False if the host takes it for damaged.
    pub fn load_extended_state(&self, owner: u64, image: &[u8]) -> bool {
        let loaded = match self.guest() {
            Some(guest) => guest.load_extended_state(image),
            None => self.halted().is_ok_and(|thread| trace::set_extended_state(thread, image)),
        };
        self.holder().store(if loaded { owner } else { NOBODY }, Ordering::Relaxed);
        loaded
    }

    /// This CPU's traced thread, which is stopped whenever this CPU is in the kernel.
    fn halted(&self) -> Result<Halted, Gone> {
        let thread = self.thread();
        if let Some(halted) = thread.halted.get() {
            return Ok(*halted);
        }
        if !thread.is_traced.load(Ordering::Relaxed) {
            trace::seize(thread.id)?;
            thread.is_traced.store(true, Ordering::Relaxed);
        }
        let halted = trace::halt(thread.id)?;
        Ok(*thread.halted.get_or_init(|| halted))
    }

    /// Carries out what was noted, and counts this CPU among those that run in the stub.
    pub fn begin(&self, state: &mut State) -> Result<(), Missing> {
        self.carry_out(state)?;
        let thread = self.halted()?;
        if let Some(guest) = self.guest() {
            guest.start(thread, &self.list)?;
        }
        state.running += 1;
        Ok(())
    }

    /// This CPU runs in the stub no longer.
    pub fn end(&self) {
        super::machine::lock(&self.state).running -= 1;
    }

    /// Runs the program on this CPU, with the registers given, until it stops.
    pub fn run(&self, general: &General, fs_base: usize, gs_base: usize) -> Result<Stopped, Gone> {
        match self.guest() {
            Some(guest) => guest.run(general, fs_base, gs_base),
            None => {
                let thread = self.thread();
                thread.seat.together(thread.id);
                trace::run_program(self.halted()?, general, fs_base, gs_base)
            }
        }
    }

    /// Kills the threads that might still run the program of a space that loses the stub, and wipes out where its pages were.
    fn retire(&self) {
        self.guests.iter().for_each(Guest::end);
        self.list.wipe();
    }

    /// Whether the guest thread of a CPU has ended.
    #[cfg(test)]
    pub fn has_guest_ended(&self, cpu: usize) -> bool {
        pool::has_ended(self.guests[cpu].host_thread().process)
    }

    /// Ends the guest thread of a CPU.
    #[cfg(test)]
    pub fn end_guest(&self, cpu: usize) {
        let _state = super::machine::lock(&self.state);
        self.guests[cpu].end();
    }

    /// Lets this CPU's traced thread make a call from which it does not come back: vfork(2), whose child waits for ever.
    #[cfg(test)]
    pub fn hang(&self) -> Result<(), Gone> {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT | libc::SIGCHLD;
        let _state = super::machine::lock(&self.state);
        trace::run_own_code(self.halted()?, code::Entry::Clone, |registers| registers.rdi = flags as u64).map(drop)
    }

    /// Kills the process, and waits until it is gone.
    fn kill(&self) {
        for thread in self.others.iter().filter(|thread| thread.is_traced.load(Ordering::Relaxed)) {
            // A traced thread is there until it has been waited for, and as long the process is.
            pool::kill_thread(self.process, thread.id);
        }
        pool::kill(self.process);
    }

    /// To be called after changes were noted. What they took away is gone when this returns: the host was seen to carry it out.
    pub fn settle(&self, state: &mut State) {
        if !probe::is_on(Mending::LossAtOnce) {
            return;
        }
        if state.takes_away && self.carry_out(state).is_err() {
            // It does not do what it is told, or is gone itself: so no thread that has its memory may go on.
            self.stop();
            state.changes.clear();
            state.takes_away = false;
        }
    }

    /// Kills all threads that can reach the stub's memory, and waits until they run no more. They are still to be waited for.
    #[cold]
    fn stop(&self) {
        self.guests.iter().for_each(Guest::stop);
        for thread in [&self.first].into_iter().chain(&self.others) {
            pool::stop(self.process, thread.id);
        }
    }

    /// Forgets everything: the stub shows nothing when this returns.
    pub fn empty(&self, state: &mut State) {
        state.forget();
        self.settle(state);
    }

    fn carry_out(&self, state: &mut State) -> Result<(), Gone> {
        if state.changes.is_empty() {
            return Ok(());
        }
        let thread = self.halted()?;
        self.thread().seat.together(thread.id());
        let changes = std::mem::take(&mut state.changes);
        let mut carried = None;
        for changes in changes.chunks(LIST_LENGTH) {
            for change in changes {
                match change {
                    Change::Unmap(range) if *range == ALL => state.mappings = 0,
                    // One may cut another in two.
                    _ => state.mappings += 2,
                }
            }
            carried = self.list.run(thread, changes.iter().map(Change::call))?;
            if carried.is_none() {
                break;
            }
        }
        match carried {
            Some(proof) => state.are_carried_out(changes, &proof),
            None => return self.fail(state),
        }
        Ok(())
    }

    /// The host refused something, most likely for want of memory or mappings. An empty stub is always right: what is
    /// touched next is shown again. If there was hardly anything to forget, that would not help.
    #[cold]
    fn fail(&self, state: &mut State) -> Result<(), Gone> {
        if state.mappings <= 4 {
            return Err(Gone);
        }
        state.forget();
        self.carry_out(state)
    }
}

impl State {
    /// The number under which what is shown now counts as shown.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Notes a change that only gives: it is carried out when the stub is next used.
    pub fn give(&mut self, change: Change) {
        if !self.changes.last_mut().is_some_and(|last| last.absorb(&change)) {
            push_apart(&mut self.changes, change);
        }
    }

    /// Notes a change that takes a right away, if only that to see the frame that was there: to be followed by [`Stub::settle`].
    pub fn take_away(&mut self, change: Change) {
        self.takes_away = true;
        self.give(change);
    }

    /// Nothing is left to be done of the changes; their memory is used for the next ones.
    fn are_carried_out(&mut self, mut changes: Vec<Change>, _: &Carried) {
        if self.takes_away {
            probe::reached(Step::Loss);
        }
        self.takes_away = false;
        changes.clear();
        self.changes = changes;
    }

    /// Whether so much is noted, or mapped, that the stub should be emptied instead.
    pub fn is_overfull(&self, most_mappings: usize) -> bool {
        self.changes.len() > MOST_CHANGES || self.mappings + 2 * self.changes.len() > most_mappings
    }

    /// Notes that all is to be forgotten.
    fn forget(&mut self) {
        self.epoch = new_number();
        if self.mappings == 0 && self.changes.is_empty() {
            return; // it shows nothing
        }
        self.changes.clear();
        self.take_away(Change::Unmap(ALL));
        self.mappings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const PAGE: usize = 4096;

    fn pages(pages: Range<usize>) -> Range<usize> {
        pages.start * PAGE..pages.end * PAGE
    }

    fn map(range: Range<usize>, offset: usize, access: Access) -> Change {
        Change::Map { range: pages(range), offset: offset * PAGE, access }
    }

    /// What pages show: a place in the memory's file, and rights.
    type Shown = BTreeMap<usize, (usize, Access)>;

    fn apply(change: &Change, shown: &mut Shown) {
        match change {
            Change::Map { range, offset, access } => {
                shown.extend(range.clone().step_by(PAGE).map(|at| (at, (offset + at - range.start, *access))))
            }
            Change::Unmap(range) => shown.retain(|at, _| !range.contains(at)),
            Change::Protect(range, access) => shown.range_mut(range.clone()).for_each(|(_, page)| page.1 = *access),
        }
    }

    /// Two changes in one call of the host do what they do one after the other; and neighbours of a kind are one.
    #[test]
    fn a_change_that_absorbs_another_does_both() {
        let (read, write) = (Access::READ, Access::READ | Access::WRITE);
        let mut all = Vec::new();
        for (start, end) in [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4)] {
            all.push(Change::Unmap(pages(start..end)));
            for access in [read, write] {
                all.push(Change::Protect(pages(start..end), access));
                all.extend([start, start + 10, 20].map(|offset| map(start..end, offset, access)));
            }
        }
        let mut before = Shown::new();
        apply(&map(0..4, 100, read), &mut before);
        let mut absorbed = 0;
        for (first, second) in all.iter().flat_map(|first| all.iter().map(move |second| (first, second))) {
            let mut one = first.clone();
            if !one.absorb(second) {
                continue;
            }
            absorbed += 1;
            let (mut in_one, mut in_two) = (before.clone(), before.clone());
            apply(&one, &mut in_one);
            apply(first, &mut in_two);
            apply(second, &mut in_two);
            assert_eq!(in_one, in_two);
        }
        // Six pairs of these ranges are neighbours. Each is one if unmapped, with either of the rights if protected; and if
        // mapped also from each of the two places that go on.
        assert_eq!(absorbed, 6 * (1 + 2 + 2 * 2));
    }
}
