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
//! | `guest`, `block` | threads that run programs untraced, and the memory by which they say how they came back |
//! | `pool` | how a stub is made |
//! | `probe` | for tests of all that |
//!
//! What is decided about stubs (what one shows, whose it is, when another is made) and what a program's words mean is the crate [`stubs`].
//!
//! With guest threads ([`guest`]) nobody is told for certain that a program has stopped: so before a stub goes to another space its guest
//! threads are killed. And nothing waits for a guest thread with one of the locks below held.
//!
//! Locks, in this order: a space's pages, the pool's stock, a stub's state.

mod block;
mod code;
pub mod filter;
mod guest;
mod list;
mod pool;
pub mod probe;
mod trace;

use super::confine::state_of;
use super::cpu::{self, HostThread};
use super::machine::{current, lock};
use super::paging::Host;
use crate::memory::Access;
use crate::user::General;
pub use code::BASE;
use code::Call;
#[cfg(test)]
pub use code::{BLOCKS, one_call};
use cores::Seat;
use guest::Guest;
pub use guest::{Missing, is_possible};
pub use list::LIST_LENGTH;
use list::List;
pub use pool::{MOST_STUBS, Pool, own_pages};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
pub use stubs::Gone;
use stubs::Stub as _;
#[cfg(test)]
pub use stubs::frame::BLOCK_SIZE;
use stubs::registers::{Holder, Stopped};
use stubs::{Change, processes};
pub use stubs::{NOBODY, Shortage};
use trace::{Carried, Halted};

/// The descriptor of the machine's memory in every stub.
const MEMORY: usize = 0;

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

/// Whether a change shows nothing but frames of this machine, and is made where programs have their memory, below our own pages.
fn is_allowed(change: &Change) -> bool {
    match change {
        Change::Map { range, offset, .. } => range.end <= BASE && current().zone.has(*offset, range.len()),
        Change::Unmap(range) | Change::Protect(range, _) => range.end <= BASE,
        Change::Empty => true,
    }
}

/// The system call that makes a change.
fn call_for(change: &Change) -> Call {
    Call(match change {
        Change::Map { range, offset, access } => {
            let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as usize;
            let protection = protection(*access);
            [libc::SYS_mmap as usize, range.start, range.len(), protection, flags, MEMORY, *offset]
        }
        Change::Unmap(range) => [libc::SYS_munmap as usize, range.start, range.len(), 0, 0, 0, 0],
        Change::Protect(range, access) => {
            [libc::SYS_mprotect as usize, range.start, range.len(), protection(*access), 0, 0, 0]
        }
        Change::Empty => [libc::SYS_munmap as usize, 0, BASE, 0, 0, 0, 0],
    })
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
    number: usize,
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
pub type State = stubs::State<Host>;

impl stubs::Stub<Host> for Stub {
    fn state(&self) -> &Mutex<State> {
        &self.state
    }

    fn number(&self) -> usize {
        self.number
    }

    fn make(&self, changes: &[Change]) -> Result<bool, Gone> {
        if !changes.iter().all(is_allowed) {
            return Err(Gone);
        }
        let thread = self.halted()?;
        self.thread().seat.together(thread.id());
        Ok(matches!(self.list.run(thread, changes.iter().map(call_for))?, Some(Carried { .. })))
    }

    #[cold]
    fn stop(&self) {
        self.guests.iter().for_each(Guest::stop);
        for thread in [&self.first].into_iter().chain(&self.others) {
            processes::stop(self.process, || state_of(self.process, thread.id));
        }
    }

    fn has_guests(&self) -> bool {
        self.guests.iter().any(Guest::is_there)
    }

    fn retire(&self) {
        self.guests.iter().for_each(Guest::end);
        self.list.wipe();
    }

    fn end(&self) {
        for thread in self.others.iter().filter(|thread| thread.is_traced.load(Ordering::Relaxed)) {
            // A traced thread is there until it has been waited for, and as long the process is.
            processes::kill_thread(self.process, thread.id);
        }
        processes::kill(self.process);
    }
}

impl Holder for Stub {
    const END: usize = BASE;

    fn owner(&self) -> u64 {
        self.holder().load(Ordering::Relaxed)
    }

    fn save_extended_state(&self, owner: u64, image: &mut [u8]) -> Result<(), Gone> {
        match self.guest() {
            Some(guest) => guest.save_extended_state(owner, image),
            None => trace::extended_state(self.halted()?, image).map(drop),
        }
    }

    fn load_extended_state(&self, owner: u64, image: &[u8]) -> bool {
        let loaded = match self.guest() {
            Some(guest) => guest.load_extended_state(image),
            None => self.halted().is_ok_and(|thread| trace::set_extended_state(thread, image)),
        };
        self.holder().store(if loaded { owner } else { NOBODY }, Ordering::Relaxed);
        loaded
    }
}

impl Stub {
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

    fn holder(&self) -> &AtomicU64 {
        self.guest().map_or(&self.thread().owner, |guest| &guest.owner)
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
        state.begin();
        Ok(())
    }

    /// This CPU runs in the stub no longer.
    pub fn leave(&self) {
        lock(&self.state).end();
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

    /// Whether the guest thread of a CPU has ended.
    #[cfg(test)]
    pub fn has_guest_ended(&self, cpu: usize) -> bool {
        processes::has_ended(self.guests[cpu].host_thread().process)
    }

    /// Ends the guest thread of a CPU.
    #[cfg(test)]
    pub fn end_guest(&self, cpu: usize) {
        let _state = lock(&self.state);
        self.guests[cpu].end();
    }

    /// Lets this CPU's traced thread make a call from which it does not come back: vfork(2), whose child waits for ever.
    #[cfg(test)]
    pub fn hang(&self) -> Result<(), Gone> {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT | libc::SIGCHLD;
        let _state = lock(&self.state);
        trace::run_own_code(self.halted()?, code::Entry::Clone, |registers| registers.rdi = flags as u64).map(drop)
    }
}
