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
//! Changes to a space are noted in its stub as [`Change`]s, and carried out in one batch by a thread of it before the program
//! goes on. If other CPUs are running in the stub they are carried out at once: what left the space may be used
//! for something else as soon as the change returns.
//!
//! | file | |
//! | --- | --- |
//! | `code`, `filter` | what a stub can execute of its own, and the system calls it may make |
//! | `trace` | ptrace of one thread |
//! | `guest`, `block` | threads that run programs untraced, and the memory by which they say how they came back |
//! | `pool` | making stubs ahead of need, handing them out, taking them back |
//!
//! With guest threads ([`guest`]) nobody is told for certain that a program has stopped. So what leaves a space is taken out of the
//! stub at once, and before a stub goes to another space its guest threads are killed.
//!
//! Locks, in this order: a space's pages, the pool's stock, a stub's state.

mod block;
mod code;
pub mod filter;
mod guest;
mod pool;
mod trace;

use super::core::Seat;
use super::cpu::{self, HostThread};
use crate::memory::Access;
use crate::user::General;
#[cfg(test)]
pub use block::BLOCK_SIZE;
pub use code::BASE;
#[cfg(test)]
pub use code::{BLOCKS, one_call};
use code::{CALLS, Call, Entry, LIST_LENGTH};
use guest::Guest;
pub use guest::{Missing, Reason, Stopped, is_possible};
pub use pool::{Pool, clear_state, own_pages};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
pub use trace::Gone;

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
    attached: AtomicBool,
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
    /// The page with the list of calls, as the kernel reaches it.
    list: *mut Call,
    state: Mutex<State>,
}

// SAFETY: `list` points into the machine's memory, which outlives the stub, and is written only under the lock of the state.
unsafe impl Send for Stub {}
// SAFETY: as above.
unsafe impl Sync for Stub {}

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
    /// A frame that the changes take out may be used for something else.
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
            None => HostThread { process: self.process, thread: self.thread().id },
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
            None => trace::extended_state(self.thread().id, image).map(drop),
        }
    }

    /// Loads the extended state of `owner` into this CPU's thread. False if the host takes it for damaged.
    pub fn load_extended_state(&self, owner: u64, image: &[u8]) -> bool {
        let loaded = match self.guest() {
            Some(guest) => guest.load_extended_state(image),
            None => trace::set_extended_state(self.thread().id, image),
        };
        self.holder().store(if loaded { owner } else { NOBODY }, Ordering::Relaxed);
        loaded
    }

    /// Makes this CPU's thread ready to be told what to do.
    fn attach(&self) -> Result<(), Gone> {
        let thread = self.thread();
        if !thread.attached.load(Ordering::Relaxed) {
            trace::attach(thread.id).map_err(|_| Gone)?;
            thread.attached.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Carries out what was noted, and counts this CPU among those that run in the stub.
    pub fn begin(&self, state: &mut State) -> Result<(), Missing> {
        self.attach()?;
        self.carry_out(state)?;
        if let Some(guest) = self.guest() {
            guest.start(self.thread().id)?;
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
                trace::run_program(thread.id, general, fs_base, gs_base)
            }
        }
    }

    /// Kills the threads that might still run the program of a space that loses the stub, and wipes out where its pages were.
    fn retire(&self) {
        self.guests.iter().for_each(Guest::end);
        // SAFETY: the page is ours, and the stub reads it only when told to, which nobody does now.
        unsafe { self.list.write_bytes(0, LIST_LENGTH) };
    }

    /// Kills the process, and waits until it is gone.
    fn kill(&self) {
        for thread in self.others.iter().filter(|thread| thread.attached.load(Ordering::Relaxed)) {
            // A traced thread is there until it has been waited for, and as long the process is.
            pool::kill_thread(self.process, thread.id);
        }
        pool::kill(self.process);
    }

    /// To be called after changes were noted. They have been carried out when this returns if the program runs on another CPU,
    /// or might run on, and what they took away may be used for something else.
    pub fn settle(&self, state: &mut State) {
        let at_once = state.running > 0 || state.takes_away && !self.guests.is_empty();
        if at_once && self.attach().and_then(|()| self.carry_out(state)).is_err() {
            // The process is gone, and with it what it mapped: nothing needs to be taken away from it.
            state.changes.clear();
        }
    }

    /// Forgets everything: the stub is empty when it is next used, or now if it is in use.
    pub fn empty(&self, state: &mut State) {
        state.forget();
        self.settle(state);
    }

    fn carry_out(&self, state: &mut State) -> Result<(), Gone> {
        if state.changes.is_empty() {
            return Ok(());
        }
        state.takes_away = false;
        self.thread().seat.together(self.thread().id);
        let changes = std::mem::take(&mut state.changes);
        for changes in changes.chunks(LIST_LENGTH) {
            for (index, change) in changes.iter().enumerate() {
                match change {
                    Change::Unmap(range) if *range == ALL => state.mappings = 0,
                    // One may cut another in two.
                    _ => state.mappings += 2,
                }
                // SAFETY: the list has room for a chunk; the page is ours, and the stub reads it only when told to, below.
                unsafe { self.list.add(index).write_volatile(change.call()) };
            }
            let after = trace::run_own_code(self.thread().id, Entry::Calls, |registers| {
                registers.rbx = CALLS as u64;
                registers.r12 = changes.len() as u64;
            })?;
            if after.r12 != 0 {
                return self.fail(state);
            }
        }
        state.changes = changes;
        state.changes.clear();
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

    /// Notes a change, to be carried out when the stub is next used.
    pub fn note(&mut self, change: Change) {
        if !self.changes.last_mut().is_some_and(|last| last.absorb(&change)) {
            self.changes.push(change);
        }
    }

    /// Notes that what the last changes took out may be used for something else.
    pub fn note_loss(&mut self) {
        self.takes_away = true;
    }

    /// Whether so much is noted, or mapped, that the stub should be emptied instead.
    pub fn is_overfull(&self, most_mappings: usize) -> bool {
        self.changes.len() > MOST_CHANGES || self.mappings + 2 * self.changes.len() > most_mappings
    }

    /// Notes that all is to be forgotten.
    fn forget(&mut self) {
        self.epoch = new_number();
        self.changes.clear();
        self.changes.push(Change::Unmap(ALL));
        self.takes_away = true;
        self.mappings = 0;
    }
}
