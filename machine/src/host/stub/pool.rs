//! The pool of stubs ([`stubs::Pool`]), and how one is made.
//!
//! The first stub, the *template*, is forked from this process and empties itself; all others are forked from it, which costs
//! little since it has hardly anything. It runs no program: it stays stopped and makes a child when its tracer says so. The tracer is
//! the thread that called [`super::super::run`], which does nothing else while the machine runs ([`Pool::serve`]).

use super::block::Block;
use super::code::{self, Entry};
use super::guest::{self, Guest};
use super::list::List;
#[cfg(test)]
use super::probe;
use super::trace::{self, Halted};
use super::{Stub, Thread};
use crate::memory::PAGE_SIZE;
use crate::platform::confine::keep_capabilities;
use crate::platform::frames::{Zone, checked};
use crate::platform::machine::{Engine, MORE_PROCESSES, Machine, StartError, current};
use crate::platform::paging::Host;
use cores::Seat;
use libc::{c_int, c_long, c_ulong, pid_t, user_regs_struct};
use setup::host::{Vdso, mapping_limit};
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};
use stubs::frame::BLOCK_SIZE;
use stubs::processes::{kill, kill_group};
use stubs::{NOBODY, Shortage, State};
use x86::extended::{ON_REQUEST, component_word, state_length};

/// The most stubs a machine makes.
pub const MOST_STUBS: usize = 1024;

/// Pages of a block.
const BLOCK_PAGES: usize = BLOCK_SIZE / PAGE_SIZE;

/// Pages of the machine's own memory, which are for stubs: the code, a list of calls for each, and blocks for each.
pub fn own_pages(cpus: usize, engine: Engine) -> usize {
    let blocks = if engine == Engine::SharedMemory { cpus * BLOCK_PAGES } else { 0 };
    1 + MOST_STUBS * (1 + blocks)
}

/// Mappings to leave to the host kernel and to what cuts mappings in pieces.
const SPARE_MAPPINGS: usize = 1024;

/// See the module's page.
pub struct Pool {
    /// The machine's own memory: a page of code, the lists, the blocks. See [`own_pages`].
    own: *mut u8,
    cpus: usize,
    template: Halted,
    /// Mappings a process may have, by the host's rule.
    most_mappings: usize,
    /// What the host gives as extended state before a program has run, and the components it can have.
    initial_state: Box<[u8]>,
    components: u64,
    stubs: stubs::Pool<Host>,
    #[cfg(test)]
    pub probes: probe::Probes,
}

// SAFETY: `own` stays mapped until the machine is over; the code in it is not changed, and the rest belongs to one stub each.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Makes the template. The calling thread is the one to call [`Pool::serve`].
    ///
    /// # Errors
    /// The host does not let us fork, trace, or filter system calls.
    pub fn new(zone: &Zone, cpus: usize, engine: Engine) -> Result<Pool, StartError> {
        let error = |step, advice| move |reason| StartError { step, advice, reason };
        // SAFETY: the machine's own memory, which nobody uses yet.
        unsafe { code::write_page(zone.own()) };
        let code = map_code(zone).map_err(error("map the stubs' code as executable", PROFILE))?;
        let process = fork_template(zone, code).map_err(error("make a process (fork)", MORE_PROCESSES))?;
        let locked =
            |reason| StartError { step: "empty and lock up a process (munmap, seccomp)", advice: PROFILE, reason };
        let template = trace::adopt(process).map_err(error("trace a process (ptrace)", PROFILE)).and_then(|template| {
            match trace::registers(template).map(|registers| registers.rax as i64) {
                Ok(0) => Ok(template),
                Ok(errno) => Err(locked(io::Error::from_raw_os_error((-errno) as i32))),
                Err(trace::Gone) => Err(locked(no_process())),
            }
        });
        let template = template.inspect_err(|_| kill(process))?;
        let mut initial_state = vec![0; trace::LONGEST_STATE];
        let whole = trace::extended_state(template, &mut initial_state).unwrap_or(0);
        let supported = component_word(&initial_state);
        let components = supported & !ON_REQUEST;
        initial_state.truncate(if components == supported { whole } else { whole.min(state_length(components)) });
        x86::extended::clear(&mut initial_state);
        Ok(Pool {
            own: zone.own(),
            cpus,
            template,
            most_mappings: mapping_limit().saturating_sub(SPARE_MAPPINGS),
            initial_state: initial_state.into(),
            components,
            stubs: stubs::Pool::new(engine == Engine::SharedMemory),
            #[cfg(test)]
            probes: probe::Probes::default(),
        })
    }

    /// Makes stubs whenever there are few, until the machine is off.
    pub fn serve(&self, machine: &Machine) {
        let step = "make a process for a program";
        let refuse = |reason| machine.refuse(StartError { step, advice: MORE_PROCESSES, reason });
        self.stubs.serve(|| machine.is_off(), |number| self.make(number), refuse);
    }

    /// As [`stubs::Pool::wait`].
    pub fn wait(&self, shortage: Shortage, turn: u32) -> bool {
        let goes_on = self.stubs.wait(shortage, turn, || current().cpus.kick_all());
        current().check_power();
        goes_on
    }

    /// As [`stubs::Pool::make_room`]. If there will never be any, the machine is off.
    pub fn make_room(&self, reason: io::Error, before: u64) -> Result<(), Shortage> {
        self.stubs.make_room(before).inspect_err(|shortage| {
            if *shortage == Shortage::Final {
                current().refuse(StartError { step: "make a thread for a program", advice: MORE_PROCESSES, reason });
            }
        })
    }

    /// Kills the free stubs, as somebody outside might, once none is being made.
    #[cfg(test)]
    pub fn kill_stock(&self) -> bool {
        use crate::platform::confine::state_of;
        let stock = self.stubs.stock();
        let kill = |stub: &Arc<Stub>| stubs::processes::stop(stub.process, || state_of(stub.process, stub.process));
        stock.inspect(|stock| stock.iter().for_each(kill)).is_some()
    }

    /// Ends all processes, and waits until they are gone. No stub is anybody's then.
    pub fn end(&self) {
        self.stubs.take_all().iter().for_each(|stub| kill(stub.process));
        kill_group(self.template.id());
    }

    /// Mappings a stub may have.
    pub fn most_mappings(&self) -> usize {
        self.most_mappings
    }

    /// The extended state of a program that has not run, in XSAVE's standard format.
    pub fn initial_state(&self) -> &[u8] {
        &self.initial_state
    }

    /// The components it can have, as in XCR0.
    pub fn components(&self) -> u64 {
        self.components
    }

    /// The host does not lock a guest thread up: no program can run, and the machine is off.
    pub fn give_up_unlocked(&self) {
        let reason = io::ErrorKind::PermissionDenied.into();
        current().refuse(StartError { step: "lock up a thread for a program (seccomp)", advice: PROFILE, reason });
    }

    /// Makes a stub whose list of calls is page `list` of the machine's memory. A number that is used twice makes two stubs do what only one
    /// is told, and breaks no memory of ours.
    fn make(&self, list: usize) -> io::Result<Arc<Stub>> {
        if !(1..=MOST_STUBS).contains(&list) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let gone = |trace::Gone| no_process();
        let process = Self::clone_from(self.template, (libc::CLONE_PARENT | libc::SIGCHLD) as usize)?;
        let made = (|| {
            let thread = trace::first_stop(process).map_err(gone)?;
            die_with_us(thread)?;
            let offset = list * PAGE_SIZE;
            // SAFETY: a page of the machine's own, for lists.
            let calls = unsafe { List::new(self.own.add(offset)) };
            map(thread, code::CALLS, PAGE_SIZE, libc::PROT_READ, offset)?;
            let guests = self.make_guests(thread, list)?;
            let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
            let others: io::Result<Box<[Thread]>> = (1..self.cpus)
                .map(|_| Self::clone_from(thread, (flags | libc::CLONE_SYSVSEM) as usize).map(Thread::new))
                .collect();
            let others = others?;
            park(thread).map_err(gone)?;
            trace::detach(thread)?;
            let state = State::new();
            let first = Thread::new(process);
            Ok(Arc::new(Stub { process, number: list, first, others, guests, list: calls, state: Mutex::new(state) }))
        })();
        if made.is_err() {
            kill(process);
        }
        made
    }

    /// Shows a new stub the blocks of its guest threads, which are not made yet.
    fn make_guests(&self, process: Halted, list: usize) -> io::Result<Box<[Guest]>> {
        if !self.has_guests() {
            return Ok(Box::default());
        }
        let length = self.cpus * BLOCK_SIZE;
        let offset = (1 + MOST_STUBS) * PAGE_SIZE + (list - 1) * length;
        map(process, code::BLOCKS, length, libc::PROT_READ | libc::PROT_WRITE, offset)?;
        let guest = |cpu: usize| {
            let at = cpu * BLOCK_SIZE;
            // SAFETY: pages of the machine's own, for blocks; they stay mapped until the machine is over.
            let block = unsafe { Block::new(self.own.add(offset + at), code::BLOCKS + at) };
            Guest::new(block, self.initial_state.len())
        };
        Ok((0..self.cpus).map(guest).collect())
    }

    /// Lets the traced `parent` clone itself.
    fn clone_from(parent: Halted, flags: usize) -> io::Result<pid_t> {
        call(parent, Entry::Clone, |registers| registers.rdi = flags as u64).map(|process| process as pid_t)
    }
}

impl Deref for Pool {
    type Target = stubs::Pool<Host>;

    fn deref(&self) -> &stubs::Pool<Host> {
        &self.stubs
    }
}

/// Lets a traced thread make one system call of its own, whose number and arguments `set` puts in the registers.
fn call(thread: Halted, entry: Entry, set: impl FnOnce(&mut user_regs_struct)) -> io::Result<i64> {
    let after = trace::run_own_code(thread, entry, set).map_err(|trace::Gone| no_process())?;
    match after.rax as i64 {
        error @ -4095..0 => Err(io::Error::from_raw_os_error(-error as i32)),
        result => Ok(result),
    }
}

/// The process is gone.
fn no_process() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

/// Lets a new stub end when this process does, however that is: while it waits in stock nobody traces it, which would see to
/// that. The request is not inherited from the template.
fn die_with_us(process: Halted) -> io::Result<()> {
    let asked = call(process, Entry::One, |registers| {
        registers.rax = libc::SYS_prctl as u64;
        registers.rdi = libc::PR_SET_PDEATHSIG as u64;
        registers.rsi = libc::SIGKILL as u64;
    });
    asked.map(drop)
}

/// Shows a new stub a part of the machine's memory.
fn map(process: Halted, address: usize, length: usize, protection: c_int, offset: usize) -> io::Result<()> {
    let mapped = call(process, Entry::One, |registers| {
        registers.rax = libc::SYS_mmap as u64;
        registers.rdi = address as u64;
        registers.rsi = length as u64;
        registers.rdx = protection as u64;
        registers.r10 = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
        registers.r8 = super::MEMORY as u64;
        registers.r9 = offset as u64;
    });
    mapped.map(drop)
}

impl Thread {
    fn new(id: pid_t) -> Thread {
        Thread {
            id,
            is_traced: AtomicBool::new(false),
            halted: OnceLock::new(),
            seat: Seat::default(),
            owner: AtomicU64::new(NOBODY),
        }
    }
}

const PROFILE: &str = "let the container's profile allow ptrace, seccomp, and executable mappings of a memfd";

/// Lets a stopped thread wait, so that another tracer finds it.
fn park(thread: Halted) -> Result<(), trace::Gone> {
    let general = crate::user::General { rip: Entry::Park.address(), rflags: 0x202, ..Default::default() };
    trace::set_registers(thread, &trace::host_registers(&general, 0, 0))
}

/// Maps the page of code so that the template can begin in it.
fn map_code(zone: &Zone) -> io::Result<usize> {
    let file = zone.file()?;
    let memory = file.as_raw_fd();
    let rights = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: a new mapping of a page nobody writes any more.
    let code = unsafe { libc::mmap(ptr::null_mut(), PAGE_SIZE, rights, libc::MAP_SHARED, memory, 0) };
    if code == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(code.expose_provenance()) }
}

/// Forks the template, which is traced by this thread from its start.
fn fork_template(zone: &Zone, code: usize) -> io::Result<pid_t> {
    let file = zone.file()?;
    let memory = file.as_raw_fd();
    let sequences = restartable_sequences();
    let vdso = Vdso::find();
    let parent = std::process::id() as pid_t;
    // SAFETY: as fork(2). The child, which may have been forked from a process with threads, only makes system calls.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as c_ulong, 0, 0, 0, 0) } as pid_t;
    match checked(child)? {
        // SAFETY: this is the child.
        0 => unsafe { become_template(parent, memory, code, sequences, vdso) },
        child => Ok(child),
    }
}

/// What the child does: lets go of everything it has from its parent, and goes on in the stubs' code.
///
/// # Safety
/// Only in a child that was just forked.
unsafe fn become_template(
    parent: pid_t,
    memory: c_int,
    code: usize,
    sequences: Option<usize>,
    vdso: Option<Vdso>,
) -> ! {
    // SAFETY: only system calls, on memory that stays mapped until the code of the stub takes over.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            libc::_exit(1); // it died before it was asked for that
        }
        // Signals of a terminal are for the user's processes, of which a stub is none.
        libc::setsid();
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        for signal in 1..=64 {
            let action = guest::action(signal);
            libc::syscall(libc::SYS_rt_sigaction, signal, &action, ptr::null::<usize>(), 8);
        }
        let nothing = 0_u64;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &nothing, ptr::null::<u64>(), 8);
        if keep_capabilities(0).is_err() {
            libc::_exit(1);
        }
        if let Some(area) = sequences {
            forget_restartable_sequences(area);
        }
        if let Some(vdso) = vdso {
            hide(&vdso);
        }
        libc::dup2(memory, super::MEMORY as c_int);
        close_from(super::MEMORY as c_int + 1);
        if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == -1 {
            libc::_exit(1);
        }
        let empty: extern "C" fn(usize, usize, usize) -> ! =
            std::mem::transmute::<usize, _>(code + code::emptying_offset());
        empty(code::CODE, code::HOST_TOP, code::filter_description())
    }
}

/// Where the C library told the host to write whenever this thread is interrupted, if it did (rseq(2)).
fn restartable_sequences() -> Option<usize> {
    // SAFETY: looks a symbol up, which is a number; the thread pointer is at its own address.
    unsafe {
        let offset: *const isize = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast();
        let thread_pointer: usize;
        std::arch::asm!("mov {}, fs:0", out(reg) thread_pointer, options(nostack, readonly));
        (!offset.is_null()).then(|| thread_pointer.wrapping_add_signed(*offset))
    }
}

/// Makes the host forget that area, which is about to go. Its size depends on the C library's version.
unsafe fn forget_restartable_sequences(area: usize) {
    const UNREGISTER: c_int = 1;
    const SIGNATURE: u32 = 0x5305_3053;
    for length in [32, 64, 128, 256, 512] {
        // SAFETY: a system call that the host checks.
        let result: c_long = unsafe { libc::syscall(libc::SYS_rseq, area, length, UNREGISTER, SIGNATURE) };
        if result == 0 {
            return;
        }
    }
}

/// Moves the host's code for this process out of the way. `sysenter`, on CPUs on which the host has that way in, goes on in 32-bit code
/// behind the lower half of the address at which the host last had it, even when it is long unmapped, and the program reads that in its
/// registers. Now that is a page below 64 KiB, which hosts let nobody have: a fault, and it tells nothing.
///
/// # Safety
/// Only in the template, which uses neither that code nor, soon, anything else it has.
unsafe fn hide(vdso: &Vdso) {
    let (length, flags) = (vdso.range.len(), libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED);
    // SAFETY: by contract of the caller. A host that can't move it has no such way in, or keeps its address.
    unsafe { libc::syscall(libc::SYS_mremap, vdso.range.start, length, length, flags, vdso.to) };
}

/// Closes every descriptor from `first` on.
unsafe fn close_from(first: c_int) {
    // SAFETY: in the child, nobody uses them.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) == -1 {
            let mut limit = std::mem::zeroed::<libc::rlimit>();
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            for descriptor in first..limit.rlim_cur.min(1 << 20) as c_int {
                libc::close(descriptor);
            }
        }
    }
}
