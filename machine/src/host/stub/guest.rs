//! Guest threads: they run programs untraced, and hand over by memory.
//!
//! Whatever takes the program out of user mode is a signal to its thread: `SIGSYS` for a system call, which the filter does
//! not let through; the signals of faults; `SIGURG` for an interrupt. The one handler tells the kernel where the host put the program's
//! registers, and waits; when the kernel has changed them it returns from the signal, and the program goes on. While the kernel and
//! the program have a core each, both wait awake for each other for some microseconds; otherwise they sleep on a futex.
//!
//! A guest thread is a process of its own to the host, that shares the stub's memory, and nothing else but its descriptor: not its handlers
//! of signals, which the host resets for a program that breaks them. So it can be killed alone, and harm nobody by its end.
//!
//! ```text
//!              start: cloned and traced from its first moment; its stack and its filter
//!              are set up by calls whose results ptrace reads          first run: registers set
//!   Absent ------------------------------------------------> Held ------------------------------> Loose
//!      ^                                                       |         by ptrace, then let go     |
//!      +-------------------------------------------------------+------------------------------------+
//!                                        end: killed and waited for
//! ```
//!
//! Of a held thread the kernel knows what it is at. From a loose one it hears nothing but [claims](stubs::claim).

use super::block::Block;
use super::code::{self, Call, Entry};
use super::list::List;
use super::probe::{self, Mending, Step};
use super::trace::{self, Carried, Gone, Halted};
use super::{NOBODY, cpu};
use crate::platform::confine::state_of;
use crate::platform::machine::{current as machine, lock};
use crate::user::General;
use cores::{Experience, Seat};
use cpu::HostThread;
use libc::{c_int, pid_t};
use lines::Patience;
use std::cell::Cell;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use stubs::frame::{Frame, SignalBlock as _, Taken};
use stubs::processes::{self, has_ended, kill};
use stubs::registers::Stopped;

/// The signals that bring a program back.
const SIGNALS: [c_int; 7] =
    [libc::SIGSYS, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, cpu::INTERRUPT];

/// What every stub does about a signal, as rt_sigaction(2) wants it. Traced threads never get that far.
pub fn action(signal: c_int) -> [usize; 4] {
    const SA_RESTORER: c_int = 0x0400_0000;
    if !SIGNALS.contains(&signal) {
        return [0; 4];
    }
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK | SA_RESTORER;
    let handler = Entry::Signal.address();
    [handler, flags as usize, handler, usize::MAX]
}

/// Whether this host's programs, and so the handler, can read and write the bases of FS and GS.
pub fn is_possible() -> bool {
    const HWCAP2_FSGSBASE: u64 = 2;
    // SAFETY: asks for a number.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & HWCAP2_FSGSBASE != 0 }
}

/// Why there is no guest thread.
#[derive(Debug)]
pub enum Missing {
    /// The stub's process is gone.
    Gone,
    /// The host makes no more threads.
    Refused(io::Error),
    /// The host does not lock it up: it is not there, and no program can run.
    Unlocked,
}

impl From<Gone> for Missing {
    fn from(Gone: Gone) -> Missing {
        Missing::Gone
    }
}

/// What a thread that was ended had of its program's registers: a program whose stub is taken away goes on in another.
struct Left {
    owner: u64,
    extended: Vec<u8>,
}

/// What the kernel knows of a guest thread.
#[derive(Clone, Copy, Debug, Default)]
enum Standing {
    /// There is none; or its CPU waits for it.
    #[default]
    Absent,
    /// It is traced and stopped, and no instruction of a program has run in it.
    Held(Halted),
    /// It was let go. It said last that its registers are in this frame.
    Loose(Frame),
}

impl Standing {
    /// A thread that was set up, as the proof shows.
    fn held(thread: Halted, _: &Carried) -> Standing {
        Standing::Held(thread)
    }
}

/// One CPU's guest thread of a stub.
pub struct Guest {
    block: Block,
    /// Bytes of an extended state on this machine.
    extended_length: usize,
    /// Its process; 0 if there is none.
    process: AtomicI32,
    seat: Seat,
    /// As [`super::Thread::owner`].
    pub owner: AtomicU64,
    standing: Mutex<Standing>,
    /// Held while it is killed.
    ending: Mutex<()>,
    /// From the last one that was ended with some program's registers in it. Locked before `standing`.
    left: Mutex<Option<Left>>,
}

thread_local! {
    static EXPERIENCE: Cell<Experience> = Cell::default();
}

// SAFETY: the block's memory outlives the stub. It is used by one CPU's host thread at a time, and by the stub, which is not believed.
unsafe impl Send for Guest {}
// SAFETY: as above.
unsafe impl Sync for Guest {}

impl Guest {
    /// One that is not there yet.
    pub fn new(block: Block, extended_length: usize) -> Guest {
        Guest {
            block,
            extended_length,
            process: AtomicI32::new(0),
            seat: Seat::default(),
            owner: AtomicU64::new(NOBODY),
            standing: Mutex::default(),
            ending: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// The thread as the host knows it.
    pub fn host_thread(&self) -> HostThread {
        let process = self.process.load(Ordering::Relaxed);
        HostThread { process, thread: process, is_traced: false }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.process.load(Ordering::Relaxed) != 0
    }

    /// Sees to it that there is one: cloned from this CPU's traced thread of the stub, and held until it runs a program.
    pub fn start(&self, parent: Halted, list: &List) -> Result<(), Missing> {
        if self.is_there() {
            return Ok(());
        }
        let mut flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_PARENT | libc::SIGCHLD;
        if !probe::is_on(Mending::OwnHandlers) {
            flags |= libc::CLONE_SIGHAND;
        }
        let after = trace::run_own_code(parent, Entry::Clone, |registers| registers.rdi = flags as u64)?;
        let process = after.rax as i64;
        if process <= 0 {
            return Err(Missing::Refused(io::Error::from_raw_os_error(-process as i32)));
        }
        let process = process as pid_t;
        self.process.store(process, Ordering::Relaxed);
        self.seat.inherit();
        self.owner.store(NOBODY, Ordering::Relaxed);
        let locked_up = trace::first_stop(process).map_err(Missing::from).and_then(|thread| self.lock_up(thread, list));
        if locked_up.is_err() {
            self.end();
        }
        locked_up
    }

    /// Gives a new thread its stack for signals and its filter, which is stricter than the stubs'. All it needs for that it reads from pages that
    /// no program can write, and its registers come and go by ptrace: what its siblings do meanwhile makes no difference.
    fn lock_up(&self, thread: Halted, list: &List) -> Result<(), Missing> {
        list.put_stack(self.block.stack());
        let prctl = libc::SYS_prctl as usize;
        let filter = if probe::is_on(Mending::FilterTaken) { code::guest_filter_description() } else { 0 };
        let calls = [
            // It is traced until it runs a program; from then on this sees to it that it ends with us.
            Call([prctl, libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0, 0, 0, 0]),
            Call([libc::SYS_sigaltstack as usize, self.stack_address(), 0, 0, 0, 0, 0]),
            Call([prctl, libc::PR_SET_SECCOMP as usize, libc::SECCOMP_MODE_FILTER as usize, filter, 0, 0, 0]),
        ];
        let count = calls.len() - usize::from(!probe::is_on(Mending::Filter));
        let set_up = list.run(thread, calls.into_iter().take(count))?.ok_or(Missing::Unlocked)?;
        // The stubs' filter lets this pass.
        let harmless = Call([libc::SYS_getppid as usize, 0, 0, 0, 0, 0, 0]);
        if !trace::is_refused(thread, &harmless)? && probe::is_on(Mending::Filter) {
            return Err(Missing::Unlocked);
        }
        probe::reached(Step::Start);
        *lock(&self.standing) = Standing::held(thread, &set_up);
        Ok(())
    }

    /// Where the thread reads the place of its stack for signals: in a page that no program can write.
    fn stack_address(&self) -> usize {
        #[cfg(test)]
        if !probe::is_on(Mending::StackByKernel) {
            return self.block.put_stack();
        }
        List::STACK_ADDRESS
    }

    /// Kills it, if there is one, and waits until it is gone. The next program finds nothing of its registers in the block.
    pub fn end(&self) {
        // Whoever else wants it gone waits until it is.
        let _ending = lock(&self.ending);
        let process = self.process.load(Ordering::Relaxed);
        if process == 0 {
            return;
        }
        kill(process);
        self.process.store(0, Ordering::Relaxed);
        // Whose CPU is in the kernel may save its registers just now: it finds them here or there.
        let mut left = lock(&self.left);
        let owner = self.owner.swap(NOBODY, Ordering::Relaxed);
        match std::mem::take(&mut *lock(&self.standing)) {
            Standing::Loose(frame) => {
                let mut extended = vec![0; self.extended_length];
                self.block.save_extended(&frame, &mut extended);
                self.block.wipe(&frame);
                if owner != NOBODY {
                    *left = Some(Left { owner, extended });
                }
            }
            // Nothing of a program is in it. What the one before left may still be wanted.
            Standing::Held(_) => {}
            Standing::Absent => self.block.wipe_all(), // it was waited for in vain
        }
    }

    /// Kills it and waits until it runs no more. [`end`](Self::end) is still to be called.
    pub fn stop(&self) {
        let _ending = lock(&self.ending);
        let process = self.process.load(Ordering::Relaxed);
        if process != 0 {
            processes::stop(process, || state_of(process, process));
        }
    }

    /// Copies the extended state of `owner` out, which ran here last.
    pub fn save_extended_state(&self, owner: u64, image: &mut [u8]) -> Result<(), Gone> {
        let left = lock(&self.left);
        match (&*left, *lock(&self.standing)) {
            (Some(left), _) if left.owner == owner => {
                image.copy_from_slice(left.extended.get(..image.len()).ok_or(Gone)?);
                Ok(())
            }
            (_, Standing::Loose(frame)) => {
                self.block.save_extended(&frame, image);
                Ok(())
            }
            (_, Standing::Held(thread)) => trace::extended_state(thread, image).map(drop),
            (_, Standing::Absent) => Err(Gone),
        }
    }

    pub fn load_extended_state(&self, image: &[u8]) -> bool {
        match *lock(&self.standing) {
            Standing::Loose(frame) => {
                self.block.load_extended(&frame, image);
                true
            }
            Standing::Held(thread) => trace::set_extended_state(thread, image),
            Standing::Absent => false,
        }
    }

    /// Runs the program until it says that it has stopped. Nothing is locked meanwhile.
    pub fn run(&self, general: &General, fs_base: usize, gs_base: usize) -> Result<Stopped, Gone> {
        let process = self.process.load(Ordering::Relaxed);
        let standing = std::mem::take(&mut *lock(&self.standing));
        let may_spin = machine().cpus.has_cores_to_spare();
        let mut experience = EXPERIENCE.get();
        let apart = may_spin && experience.begin();
        if apart {
            self.seat.apart(process);
        } else {
            self.seat.together(process);
        }
        let program_slept = match standing {
            Standing::Absent => return Err(Gone), // another CPU has just ended it
            Standing::Held(thread) => {
                self.block.reset(apart);
                trace::let_go(thread, general, fs_base, gs_base)?;
                false
            }
            Standing::Loose(frame) => {
                self.block.set_registers(&frame, &Taken { general: *general, fs_base, gs_base });
                self.block.release(apart)
            }
        };
        let mut patience = Patience::default();
        let back = self.block.wait(apart, || {
            cores::leave();
            self.seat.free(process);
            waits_on(&mut patience, process)
        })?;
        if apart {
            experience.learn(program_slept || back.slept);
        }
        EXPERIENCE.set(experience);
        let (report, frame) = self.block.report(back.claim, self.extended_length)?;
        *lock(&self.standing) = Standing::Loose(frame);
        let Taken { general, fs_base, gs_base } = self.block.registers(&frame).own_affair();
        Ok(Stopped { reason: report.own_affair().reason(cpu::INTERRUPT), general, fs_base, gs_base })
    }
}

/// Whether a guest thread that does not come back is waited for on.
fn waits_on(patience: &mut Patience, process: pid_t) -> bool {
    if has_ended(process) {
        return false;
    }
    if !machine().cpus.is_due(cpu::current()) {
        return true; // it has not been interrupted
    }
    let lasts = patience.lasts(state_of(process, process), || processor_time(process));
    if !lasts {
        probe::reached(Step::Deadline);
    }
    lasts || !probe::is_on(Mending::Deadline) && !machine().is_off()
}

/// Nanoseconds a process has had a processor.
fn processor_time(process: pid_t) -> u64 {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both fill what they are given.
    let failed =
        unsafe { libc::clock_getcpuclockid(process, &mut clock) != 0 || libc::clock_gettime(clock, &mut time) != 0 };
    if failed { 0 } else { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 }
}
