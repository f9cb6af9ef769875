//! Programs: their registers, and running them in a stub.
//!
//! [`enter`] lets the program go on in its space's stub, on this CPU's thread of it, and says how it came back. Faults for pages that the space
//! has, and the stub only did not show, are answered here. In tests of rooms a closure can play the program instead.
//!
//! The extended state (x87, SSE, AVX...) stays in the stub's thread while the kernel runs; a number tells whose it is. A state that is
//! loaded gets a new number; if the thread's is the same, it still has the newest values.

use super::access::{attempted, is_syscall_instruction};
use super::paging::USER_TOP;
use super::stub::{Gone, NOBODY, Stopped, Stub, new_number};
use super::{cpu, machine};
use crate::memory::{OutOfMemory, Space};
#[cfg(any(test, feature = "test-hooks"))]
use crate::user::Script;
use crate::user::{Exception, General, PageFault, Trap, has_canonical_rip, make_flags_user_s};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use libc::c_int;
use x86::exceptions::{PROTECTION, SIMD, X87};
use x86::extended::{WITH_HEADER, X87_AND_SSE, clear, has_vector_exception, replace};
use x86::general::{NO_ANSWER, NO_CALL};
use x86::signals::{self, Meaning, Reason};

/// The bits MXCSR can have on every CPU that Linux runs on today.
const MXCSR_MASK: u32 = 0xffff;

/// The number of a call of the host's that means nothing here.
const UPROBE_CALL: usize = 335;
/// The state of a program, with the interface of `pc`.
pub struct Registers {
    /// The general registers.
    pub general: General,
    extended: Vec<u8>,
    /// The number of its last load into a thread.
    number: u64,
    /// The stub whose thread, of this CPU, has newer values than `extended`.
    live: Option<Arc<Stub>>,
    fs_base: usize,
    gs_base: usize,
    #[cfg(any(test, feature = "test-hooks"))]
    script: Option<Script>,
}

/// The components an extended state has, as in XCR0.
pub fn extended_features() -> u64 {
    machine::current().stubs.as_ref().map_or(X87_AND_SSE, |pool| pool.components())
}

/// The state of a program that has not run.
fn initial_state() -> Vec<u8> {
    if let Some(pool) = &machine::current().stubs {
        return pool.initial_state().to_vec();
    }
    let mut state = vec![0; WITH_HEADER];
    clear(&mut state);
    state
}

impl Registers {
    /// A program about to start at `entry`.
    pub fn new(entry: usize, stack: usize) -> Result<Registers, OutOfMemory> {
        let general = General::initial(entry, stack);
        let extended = initial_state();
        Ok(Registers {
            general,
            extended,
            number: NOBODY,
            live: None,
            fs_base: 0,
            gs_base: 0,
            #[cfg(any(test, feature = "test-hooks"))]
            script: None,
        })
    }

    /// Lets `script` play the program.
    #[cfg(any(test, feature = "test-hooks"))]
    pub fn play(&mut self, script: Script) {
        self.script = Some(script);
    }

    /// As `new`, in place: the program is replaced by another.
    pub fn reset(&mut self, entry: usize, stack: usize) {
        self.general = General::initial(entry, stack);
        (self.extended, self.fs_base, self.gs_base) = (initial_state(), 0, 0);
        (self.live, self.number) = (None, NOBODY);
    }

    /// A copy for a fork.
    pub fn duplicate(&mut self) -> Result<Registers, OutOfMemory> {
        self.park();
        Ok(Registers {
            extended: self.extended.clone(),
            #[cfg(any(test, feature = "test-hooks"))]
            script: self.script.clone(),
            number: NOBODY,
            live: None,
            ..*self
        })
    }

    /// Saves what only the stub's thread has: to be called before the program may run on another CPU.
    pub fn park(&mut self) {
        if let Some(stub) = self.live.take() {
            // If the process is gone, so is the program.
            let _ = stub.save_extended_state(self.number, &mut self.extended);
        }
    }

    /// The base of FS.
    pub fn fs_base(&mut self) -> usize {
        self.fs_base
    }

    /// Sets the base of FS. An address outside user space is taken as 0.
    pub fn set_fs_base(&mut self, base: usize) {
        self.fs_base = if base < USER_TOP { base } else { 0 };
    }

    /// The base of GS.
    pub fn gs_base(&mut self) -> usize {
        self.gs_base
    }

    /// Sets the base of GS. An address outside user space is taken as 0.
    pub fn set_gs_base(&mut self, base: usize) {
        self.gs_base = if base < USER_TOP { base } else { 0 };
    }

    /// The extended state in XSAVE's standard format.
    pub fn extended_state(&mut self) -> &[u8] {
        self.park();
        &self.extended
    }

    /// Replaces the extended state by an image a program made up: of the size [`extended_state`](Self::extended_state) has, or just the
    /// 512 bytes of `fxsave`. False, and nothing changes, if no CPU could have made it.
    pub fn set_extended_state(&mut self, image: &[u8]) -> bool {
        if !replace(&mut self.extended, image, extended_features(), MXCSR_MASK) {
            return false;
        }
        (self.live, self.number) = (None, NOBODY);
        true
    }

    /// Sees to it that `stub`'s thread of this CPU has the extended state.
    fn bring(&mut self, stub: &Arc<Stub>) {
        let is_there = self.number != NOBODY && stub.owner() == self.number;
        if is_there && self.live.as_ref().is_none_or(|live| Arc::ptr_eq(live, stub)) {
            return;
        }
        self.park();
        self.number = new_number();
        if !stub.load_extended_state(self.number, &self.extended) {
            // The host knows better what its CPUs can have: such a state does not exist.
            self.extended = initial_state();
            stub.load_extended_state(self.number, &self.extended);
        }
    }

    /// Takes what the program's registers have become.
    fn take(&mut self, stopped: &Stopped, stub: &Arc<Stub>) {
        self.general = stopped.general;
        make_flags_user_s(&mut self.general);
        (self.fs_base, self.gs_base) = (stopped.fs_base, stopped.gs_base);
        self.live = Some(stub.clone());
    }
}

/// Runs the program until it traps.
pub fn enter(registers: &mut Registers, space: &Arc<Space>) -> Trap {
    #[cfg(any(test, feature = "test-hooks"))]
    if let Some(script) = registers.script.clone() {
        return crate::user::play(&script, &mut registers.general, space);
    }
    if !has_canonical_rip(&registers.general) {
        // The CPU would find out in the host. Linux's programs get a general protection fault, too.
        return exception(registers, PROTECTION);
    }
    let machine = machine::current();
    loop {
        machine.check_power();
        let Some(stub) = space.0.enter() else { return Trap::Lost };
        if !machine.cpus.enter_user(cpu::current(), stub.host_thread()) {
            stub.end();
            return interrupted();
        }
        registers.bring(&stub);
        make_flags_user_s(&mut registers.general);
        let result = stub.run(&registers.general, registers.fs_base, registers.gs_base);
        machine.cpus.leave_user(cpu::current());
        stub.end();
        let trap = result.and_then(|stopped| {
            registers.take(&stopped, &stub);
            trapped(registers, space, stopped.reason)
        });
        match trap {
            Ok(Trap::PageFault(fault)) if space.0.show(fault.address.page().start().into(), fault.access) => {}
            Ok(trap) => return trap,
            Err(Gone) => {
                registers.live = None;
                if let Some(pool) = &machine.stubs {
                    pool.bury(&stub);
                }
                return Trap::Lost;
            }
        }
    }
}

/// As on `pc`, the handlers have run when a program is back for an interrupt.
fn interrupted() -> Trap {
    cpu::take_interrupts();
    Trap::Interrupted
}

fn exception(registers: &Registers, vector: u8) -> Trap {
    Trap::Exception(Exception { vector, error: 0, address: registers.general.rip })
}

/// What a stop means.
fn trapped(registers: &mut Registers, space: &Space, reason: Reason) -> Result<Trap, Gone> {
    match reason {
        Reason::Syscall => {
            registers.general.orig_rax = registers.general.rax;
            registers.general.rax = NO_ANSWER;
            Ok(Trap::Syscall)
        }
        Reason::UprobeCall => {
            registers.general.orig_rax = UPROBE_CALL;
            registers.general.rax = NO_ANSWER;
            Ok(Trap::Syscall)
        }
        Reason::SyscallOrGate if is_syscall_instruction(space, registers.general.rip) => Ok(Trap::Syscall),
        Reason::SyscallOrGate | Reason::Gate => {
            // `int 0x80` and `sysenter`: without that gate, as here, they are protection faults.
            registers.general.rip = registers.general.rip.wrapping_sub(2);
            if reason == Reason::SyscallOrGate {
                registers.general.rax = registers.general.orig_rax;
            }
            registers.general.orig_rax = NO_CALL;
            Ok(exception(registers, PROTECTION))
        }
        Reason::PageFault { address, attempt } => {
            let access = attempt.into();
            let present = space.lookup(address).is_some();
            Ok(Trap::PageFault(PageFault { address: address.into(), access, present }))
        }
        Reason::Exception(vector) => Ok(exception(registers, vector)),
        Reason::Signal { signal, code, address } => signalled(registers, space, signal, code, address),
        Reason::Interrupt => Ok(interrupted()),
    }
}

/// What a signal of the host means.
fn signalled(
    registers: &mut Registers,
    space: &Space,
    signal: c_int,
    code: c_int,
    address: usize,
) -> Result<Trap, Gone> {
    Ok(match signals::meaning(signal, code) {
        Meaning::PageFault => {
            let access = attempted(space, &registers.general, registers.fs_base, registers.gs_base, address);
            let present = space.lookup(address).is_some();
            Trap::PageFault(PageFault { address: address.into(), access, present })
        }
        Meaning::Exception(vector) => exception(registers, vector),
        Meaning::FloatingPoint if has_vector_exception(registers.extended_state()) => exception(registers, SIMD),
        Meaning::FloatingPoint => exception(registers, X87),
        Meaning::Vsyscall => vsyscall(registers, address),
        Meaning::NoMemory => return Err(Gone),
        Meaning::Sent => interrupted(),
    })
}

/// The program called into the host's vsyscall page, which does not exist here. The host has returned from it already.
fn vsyscall(registers: &mut Registers, address: usize) -> Trap {
    registers.general.rip = address;
    registers.general.rsp = registers.general.rsp.wrapping_sub(8);
    registers.general.orig_rax = NO_CALL;
    Trap::PageFault(PageFault { address: address.into(), access: crate::memory::Access::EXECUTE, present: false })
}
