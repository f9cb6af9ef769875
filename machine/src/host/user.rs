//! Programs: their registers, and running them in a stub.
//!
//! [`enter`] lets the program go on in its space's stub, on this CPU's thread of it, and says how it came back. Faults for pages that the space
//! has, and the stub only did not show, are answered here. In tests of rooms a closure can play the program instead.

use super::stub::{Gone, Stub};
use super::{cpu, machine};
use crate::memory::{Access, OutOfMemory, PAGE_SIZE, Space};
#[cfg(any(test, feature = "test-hooks"))]
use crate::user::Script;
use crate::user::{Exception, Trap, has_canonical_rip, make_flags_user_s};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::ops::{Deref, DerefMut};
use stubs::meaning::{self, trapped};
use stubs::registers;
use x86::exceptions::PROTECTION;
use x86::extended::{WITH_HEADER, X87_AND_SSE, clear};

/// The state of a program, with the interface of `pc`.
pub struct Registers {
    state: registers::Registers<Stub>,
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

impl Deref for Registers {
    type Target = registers::Registers<Stub>;

    fn deref(&self) -> &registers::Registers<Stub> {
        &self.state
    }
}

impl DerefMut for Registers {
    fn deref_mut(&mut self) -> &mut registers::Registers<Stub> {
        &mut self.state
    }
}

impl Registers {
    /// A program about to start at `entry`.
    pub fn new(entry: usize, stack: usize) -> Result<Registers, OutOfMemory> {
        Ok(Registers {
            state: registers::Registers::new(entry, stack, initial_state()),
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
        self.state = registers::Registers::new(entry, stack, initial_state());
    }

    /// A copy for a fork.
    pub fn duplicate(&mut self) -> Result<Registers, OutOfMemory> {
        Ok(Registers {
            state: self.state.duplicate(),
            #[cfg(any(test, feature = "test-hooks"))]
            script: self.script.clone(),
        })
    }

    /// Replaces the extended state by an image a program made up: of the size [`extended_state`](registers::Registers::extended_state) has, or
    /// just the 512 bytes of `fxsave`. False, and nothing changes, if no CPU could have made it.
    pub fn set_extended_state(&mut self, image: &[u8]) -> bool {
        self.state.set_extended_state(image, extended_features())
    }
}

/// The memory of a program.
struct Memory<'a>(&'a Space);

impl meaning::Memory for Memory<'_> {
    fn read(&self, address: usize, to: &mut [u8]) -> usize {
        self.0.read(address, to).map_or_else(|fault| fault.copied, |()| to.len())
    }

    fn is_mapped(&self, address: usize) -> bool {
        self.0.lookup(address).is_some()
    }

    fn shows_code(&self, address: usize) -> bool {
        self.0.0.is_shown(address & !(PAGE_SIZE - 1), Access::EXECUTE)
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
        return Trap::Exception(Exception { vector: PROTECTION, error: 0, address: registers.general.rip });
    }
    let machine = machine::current();
    loop {
        machine.check_power();
        let Some(stub) = space.0.enter() else { return Trap::Lost };
        if !machine.cpus.enter_user(cpu::current(), stub.host_thread()) {
            stub.leave();
            return interrupted();
        }
        registers.bring(&stub, initial_state);
        make_flags_user_s(&mut registers.general);
        let result = stub.run(&registers.general, registers.fs_base(), registers.gs_base());
        machine.cpus.leave_user(cpu::current());
        stub.leave();
        let trap = result.and_then(|stopped| {
            registers.take(&stopped, &stub);
            make_flags_user_s(&mut registers.general);
            trapped(registers, &Memory(space), stopped.reason)
        });
        match trap {
            Ok(Trap::PageFault(fault)) if space.0.show(fault.address.page().start().into(), fault.access) => {}
            Ok(Trap::Interrupted) => return interrupted(),
            Ok(trap) => return trap,
            Err(Gone) => {
                registers.lose();
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
