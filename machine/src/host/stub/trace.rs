//! ptrace(2) of one thread of a stub. Every call must come from the host thread that attached: a CPU's, for its stubs' threads.
//!
//! This is where the kernel *knows* something of a stub: a [`Halted`] thread was seen to stop by the host, and goes on only when this
//! module lets it; [`Carried`] calls were seen to have been made.
//!
//! Nothing here reaps a thread that has ended: its number stays its own until [`stubs::processes::kill`] has waited for it.

use super::code::{self, Call, Entry};
use crate::platform::cpu;
use crate::user::General;
use libc::{c_int, c_long, c_void, iovec, pid_t, user_regs_struct};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
pub use stubs::Gone;
use stubs::registers::Stopped;
use x86::exceptions::PROTECTION;
pub use x86::host_registers::{USER_CODE, general_registers, host_registers};
use x86::signals::{Reason, SYS_SECCOMP};

/// The signal of a stop at a system call: `PTRACE_O_TRACESYSGOOD`.
const SYSCALL_STOP: c_int = libc::SIGTRAP | 0x80;

const NT_X86_XSTATE: usize = 0x202;

/// More than any extended state has bytes: AMX makes it 11,008.
pub const LONGEST_STATE: usize = 32 << 10;

/// Processes that a traced thread makes are traced from their first moment, in which they stop: so there is none in which
/// nobody sees to their end, or to what they run.
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEFORK;

/// A traced thread that the host has said to have stopped. It goes on only when its tracer lets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halted(pid_t);

impl Halted {
    /// Its number.
    pub fn id(self) -> pid_t {
        self.0
    }
}

/// Proof that the host has carried out every call of a list.
#[derive(Debug)]
#[must_use]
pub struct Carried(());

/// Why a traced thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is at a system call, which the host has not begun.
    Syscall,
    /// A signal is about to be delivered.
    Signal(c_int),
    /// A stop of ptrace's own: the answer to an interrupt, or job control.
    Event,
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug)]
pub enum Resume {
    /// Until its next system call, which is not executed.
    Emulated,
    /// Its system calls are executed.
    Freely,
}

fn request(request: libc::c_uint, thread: pid_t, address: usize, data: usize) -> io::Result<c_long> {
    let address: *mut c_void = ptr::without_provenance_mut(address);
    let data: *mut c_void = ptr::with_exposed_provenance_mut(data);
    // SAFETY: the callers below hand over addresses of what the request reads or fills, for as long as the call lasts.
    match unsafe { libc::ptrace(request, thread, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Begins to trace a running thread. From now on it has to be waited for when it ends, or its process never does.
pub fn seize(thread: pid_t) -> Result<(), Gone> {
    request(libc::PTRACE_SEIZE, thread, 0, OPTIONS as usize).map(drop).map_err(|_| Gone)
}

/// Stops a thread that was seized.
pub fn halt(thread: pid_t) -> Result<Halted, Gone> {
    request(libc::PTRACE_INTERRUPT, thread, 0, 0).map_err(|_| Gone)?;
    first_stop(thread)
}

/// Waits for the first stop of a thread that is traced already.
pub fn first_stop(thread: pid_t) -> Result<Halted, Gone> {
    wait_for_own_code(thread).map(|_| Halted(thread))
}

/// Waits for a child that asked to be traced, which runs into a trap, and sets its options.
pub fn adopt(thread: pid_t) -> io::Result<Halted> {
    match wait(thread) {
        Ok(Stop::Signal(libc::SIGTRAP)) => {}
        _ => return Err(io::ErrorKind::PermissionDenied.into()),
    }
    request(libc::PTRACE_SETOPTIONS, thread, 0, OPTIONS as usize)?;
    Ok(Halted(thread))
}

/// Lets a thread go on untraced.
pub fn detach(thread: Halted) -> io::Result<()> {
    request(libc::PTRACE_DETACH, thread.0, 0, 0).map(drop)
}

/// Lets a stopped thread go on.
#[inline]
fn resume(thread: Halted, how: Resume) -> Result<(), Gone> {
    let how = match how {
        Resume::Emulated => libc::PTRACE_SYSEMU,
        Resume::Freely => libc::PTRACE_CONT,
    };
    request(how, thread.0, 0, 0).map(drop).map_err(|_| Gone)
}

/// Waits until the thread stops, which it does soon: it runs no program. After a deadline its process is killed.
fn wait_for_own_code(thread: pid_t) -> Result<Stop, Gone> {
    cpu::with_deadline(thread, || wait(thread))
}

/// Waits until the thread stops. One that has ended is not reaped.
fn wait(thread: pid_t) -> Result<Stop, Gone> {
    let mut information = MaybeUninit::<libc::siginfo_t>::zeroed();
    // Without WEXITED a thread that has ended counts as none of ours.
    let options = libc::WSTOPPED | libc::__WALL;
    // SAFETY: waits for a thread we trace; the host fills the information.
    while unsafe { libc::waitid(libc::P_PID, thread as libc::id_t, information.as_mut_ptr(), options) } == -1 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return Err(Gone);
        }
    }
    // SAFETY: zeroed, and then filled as for a child that stopped.
    let status = unsafe { information.assume_init().si_status() };
    Ok(match status & 0xff {
        _ if status >> 8 != 0 => Stop::Event,
        SYSCALL_STOP => Stop::Syscall,
        signal => Stop::Signal(signal),
    })
}

/// The registers of a stopped thread.
pub fn registers(thread: Halted) -> Result<user_regs_struct, Gone> {
    let mut registers = MaybeUninit::<user_regs_struct>::uninit();
    request(libc::PTRACE_GETREGS, thread.0, 0, registers.as_mut_ptr().expose_provenance()).map_err(|_| Gone)?;
    // SAFETY: the host has filled all of it.
    Ok(unsafe { registers.assume_init() })
}

/// Sets the registers of a stopped thread.
pub fn set_registers(thread: Halted, registers: &user_regs_struct) -> Result<(), Gone> {
    request(libc::PTRACE_SETREGS, thread.0, 0, ptr::from_ref(registers).expose_provenance()).map(drop).map_err(|_| Gone)
}

/// What a signal says: its code and, for a fault, the address.
fn signal_information(thread: Halted) -> Result<(c_int, usize), Gone> {
    let mut information = MaybeUninit::<libc::siginfo_t>::zeroed();
    request(libc::PTRACE_GETSIGINFO, thread.0, 0, information.as_mut_ptr().expose_provenance()).map_err(|_| Gone)?;
    // SAFETY: zeroed, and then filled by the host; all bit patterns are valid. The address is there for the signals of faults, and
    // a number for others.
    unsafe {
        let information = information.assume_init();
        Ok((information.si_code, information.si_addr().addr()))
    }
}

/// Fills `image` with the extended state of a stopped thread. Returns its length.
pub fn extended_state(thread: Halted, image: &mut [u8]) -> Result<usize, Gone> {
    let mut part = iovec { iov_base: image.as_mut_ptr().cast(), iov_len: image.len() };
    let part_address = (&raw mut part).expose_provenance();
    request(libc::PTRACE_GETREGSET, thread.0, NT_X86_XSTATE, part_address).map_err(|_| Gone)?;
    Ok(part.iov_len)
}

/// Sets the extended state of a stopped thread. False if the host refuses the image.
pub fn set_extended_state(thread: Halted, image: &[u8]) -> bool {
    if set_regset(thread, image) {
        return true;
    }
    // A host whose states are longer takes only a whole one; it ignores what is too much.
    let mut whole = [0; LONGEST_STATE];
    let Some(beginning) = whole.get_mut(..image.len()) else { return false };
    beginning.copy_from_slice(image);
    set_regset(thread, &whole)
}

fn set_regset(thread: Halted, image: &[u8]) -> bool {
    let mut part = iovec { iov_base: image.as_ptr().cast_mut().cast(), iov_len: image.len() };
    request(libc::PTRACE_SETREGSET, thread.0, NT_X86_XSTATE, (&raw mut part).expose_provenance()).is_ok()
}

/// Runs a program on a stopped thread, with the registers given, until it stops.
pub fn run_program(thread: Halted, general: &General, fs_base: usize, gs_base: usize) -> Result<Stopped, Gone> {
    set_registers(thread, &host_registers(general, fs_base, gs_base))?;
    resume(thread, Resume::Emulated)?;
    // Its CPU said where it is: the deadline begins with the first interrupt.
    let stop = wait(thread.0)?;
    let after = registers(thread)?;
    let reason = match stop {
        // A far jump into the host's 32-bit segment, which does not exist here.
        _ if after.cs != USER_CODE => Reason::Exception(PROTECTION),
        Stop::Syscall => Reason::SyscallOrGate,
        Stop::Event => Reason::Interrupt,
        Stop::Signal(signal) => {
            let (code, address) = signal_information(thread)?;
            Reason::Signal { signal, code, address }
        }
    };
    let general = general_registers(&after);
    Ok(Stopped { reason, general, fs_base: after.fs_base as usize, gs_base: after.gs_base as usize })
}

/// Lets a stopped thread run the stubs' own code from `entry` with `arguments` until it traps, and returns its registers then. The
/// registers of a program that were in it are lost; its extended state stays. [`Gone`], too, if the filter refuses a call.
pub fn run_own_code(
    thread: Halted,
    entry: Entry,
    set: impl FnOnce(&mut user_regs_struct),
) -> Result<user_regs_struct, Gone> {
    let start = entry.address();
    let mut registers = host_registers(&General { rip: start, rflags: 0x202, ..General::default() }, 0, 0);
    set(&mut registers);
    set_registers(thread, &registers)?;
    loop {
        resume(thread, Resume::Freely)?;
        match wait_for_own_code(thread.0)? {
            Stop::Signal(libc::SIGTRAP) => {
                let after = self::registers(thread)?;
                let at = after.rip as usize;
                if at != start && code::is_behind_trap(at) {
                    return Ok(after);
                }
            }
            Stop::Signal(libc::SIGSYS) if signal_information(thread)?.0 == SYS_SECCOMP => return Err(Gone),
            // Somebody else's signal, or an interrupt that came late: of no meaning here.
            Stop::Signal(_) | Stop::Event | Stop::Syscall => {}
        }
    }
}

/// Lets a stopped thread make the `count` calls of the list that it has at `list`. None if the host refused one of them.
pub fn run_list(thread: Halted, entry: Entry, list: usize, count: usize) -> Result<Option<Carried>, Gone> {
    let after = run_own_code(thread, entry, |registers| {
        registers.rbx = list as u64;
        registers.r12 = count as u64;
    })?;
    Ok((after.r12 == 0).then_some(Carried(())))
}

/// Whether the filters of a stopped thread keep it from making a call of the stubs' own. It is not made then.
pub fn is_refused(thread: Halted, call: &Call) -> Result<bool, Gone> {
    let [number, first, second, ..] = call.0;
    let general = General {
        rip: Entry::One.address(),
        rflags: 0x202,
        rax: number,
        rdi: first,
        rsi: second,
        ..General::default()
    };
    set_registers(thread, &host_registers(&general, 0, 0))?;
    loop {
        resume(thread, Resume::Freely)?;
        match wait_for_own_code(thread.0)? {
            Stop::Signal(libc::SIGSYS) => return Ok(signal_information(thread)?.0 == SYS_SECCOMP),
            Stop::Signal(libc::SIGTRAP) => return Ok(false),
            Stop::Signal(_) | Stop::Event | Stop::Syscall => {}
        }
    }
}

/// Lets a stopped thread go on untraced, with a program's registers.
pub fn let_go(thread: Halted, general: &General, fs_base: usize, gs_base: usize) -> Result<(), Gone> {
    set_registers(thread, &host_registers(general, fs_base, gs_base))?;
    detach(thread).map_err(|_| Gone)
}
