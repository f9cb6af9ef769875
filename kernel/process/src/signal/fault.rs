//! Exceptions of the CPU as signals.

use alloc::sync::Arc;

use abi::arch::{LastTrap, Raised, exceptions};
use abi::signal::Signal;
use machine::user::{Exception, PageFault};
use memory::MemoryFault;

use super::{Information, attention, code, send};
use crate::{Thread, oom};

impl Thread {
    /// Sends the signal an exception stands for.
    pub(crate) fn raise_exception(self: &Arc<Self>, exception: Exception) {
        self.set_last_trap(LastTrap { number: exception.vector.into(), error: exception.error, address: 0 });
        let raised = self.with_registers(|registers| exceptions::raised(&exception, registers));
        let Some(Raised { signal, place }) = raised else { return };
        let information = match place {
            Some((code, address)) => Information::fault(signal, code, address),
            None => Information::kernel(signal),
        };
        send::force(self, information);
    }

    /// The machine has lost the program: nothing of the process can go on.
    #[cold]
    pub(crate) fn raise_loss(self: &Arc<Self>) {
        send::force(self, Information::kernel(Signal::KILL));
    }

    /// Sends the signal a page fault that can't be resolved stands for.
    pub(crate) fn raise_fault(self: &Arc<Self>, fault: &PageFault, reason: &MemoryFault) {
        let (number, error) = exceptions::page_fault(fault);
        self.set_last_trap(LastTrap { number: number.into(), error, address: fault.address.into() });
        let (signal, code) = match reason {
            MemoryFault::NotPermitted => (Signal::SEGV, code::SEGV_NO_ACCESS),
            MemoryFault::Bus => (Signal::BUS, code::BUS_ADDRESS),
            // It is who was chosen, and has been told of.
            MemoryFault::OutOfMemory if self.has_attention(attention::EXIT) => return,
            // Nobody could be ended instead.
            MemoryFault::OutOfMemory => {
                oom::tell(self.kernel(), self.process());
                return send::force(self, Information::kernel(Signal::KILL));
            }
            MemoryFault::NotMapped | MemoryFault::Wait(_) | MemoryFault::Busy => (Signal::SEGV, code::SEGV_NOT_MAPPED),
        };
        send::force(self, Information::fault(signal, code, fault.address.into()));
    }
}
