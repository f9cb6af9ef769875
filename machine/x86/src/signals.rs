//! What the signals mean that a Linux host sends a program for what its CPU said (arch/x86/kernel/traps.c, arch/x86/mm/fault.c).

use crate::exceptions::{self, Attempt};
use crate::host_registers::USER_CODE;
use libc::c_int;

/// `si_code` of a call that a filter refuses.
pub const SYS_SECCOMP: c_int = 1;

/// `si_code` of what the host's kernel found itself; of faults with and without a mapping; of an integer's division and overflow; of a
/// misaligned access; of a step.
const SI_KERNEL: c_int = 0x80;
const SEGV_MAPERR: c_int = 1;
const SEGV_ACCERR: c_int = 2;
const FPE_INTDIV: c_int = 1;
const FPE_INTOVF: c_int = 2;
const BUS_ADRALN: c_int = 1;
const TRAP_TRACE: c_int = 2;

/// Why a program stopped, as the host tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A system call for the 64-bit kernel.
    Syscall,
    /// A system call that the host's filters can't hold back: newer hosts have one for its uprobes, 335, which does nothing for a
    /// program but send it this signal. (There is another, 336, which does nothing but fail.)
    UprobeCall,
    /// A system call, or one of the ways into a 32-bit kernel: the instruction tells.
    SyscallOrGate,
    /// One of the ways into a 32-bit kernel.
    Gate,
    /// A page fault, of which all is known.
    PageFault {
        /// Where.
        address: usize,
        /// What for.
        attempt: Attempt,
    },
    /// An exception.
    Exception(u8),
    /// Another signal, of which only this is known.
    Signal {
        /// Its number.
        signal: c_int,
        /// Its `si_code`.
        code: c_int,
        /// The address in it.
        address: usize,
    },
    /// An interrupt, or nothing.
    Interrupt,
}

/// What a signal frame says of a trap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The signal.
    pub signal: c_int,
    /// Its `si_code`.
    pub code: c_int,
    /// The address in it.
    pub address: usize,
    /// Of a system call: which kernel it is for (`AUDIT_ARCH_...`).
    pub architecture: u32,
    /// The exception's vector. Of the last exception: only for such signals; likewise the next two.
    pub vector: u64,
    /// Its error code.
    pub error: u64,
    /// The address of a page fault.
    pub fault_address: usize,
    /// The selector of its code.
    pub code_segment: u16,
}

impl Report {
    /// What it means. `interrupt` is the signal that brings a program back. Each of these a program can have honestly, so it is its own
    /// affair if it makes one up.
    pub fn reason(&self, interrupt: c_int) -> Reason {
        const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
        let &Report { signal, code, address, .. } = self;
        if u64::from(self.code_segment) != USER_CODE {
            // A far jump into the host's 32-bit segment, which does not exist here.
            return Reason::Exception(exceptions::PROTECTION);
        }
        match signal {
            libc::SIGSYS if code == SYS_SECCOMP && address >> 47 != 0 => {
                Reason::Signal { signal, code, address } // vsyscall
            }
            libc::SIGSYS if code == SYS_SECCOMP && self.architecture == AUDIT_ARCH_X86_64 => Reason::Syscall,
            libc::SIGSYS if code == SYS_SECCOMP => Reason::Gate,
            libc::SIGILL if code == SI_KERNEL => Reason::UprobeCall,
            // The vector is that of the last exception, which may have been long ago: the code must say so, too.
            libc::SIGSEGV if (1..=4).contains(&code) && self.vector == u64::from(exceptions::PAGE_FAULT) => {
                Reason::PageFault { address: self.fault_address, attempt: Attempt::of_fault(self.error) }
            }
            _ if signal == interrupt => Reason::Interrupt,
            _ => Reason::Signal { signal, code, address },
        }
    }
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A page was missing, or not accessible like this.
    PageFault,
    /// An exception with this number.
    Exception(u8),
    /// One of floating point: the extended state says whose.
    FloatingPoint,
    /// A call into the page of vsyscalls.
    Vsyscall,
    /// The host has no memory for a page.
    NoMemory,
    /// Nothing the program did: somebody sent it.
    Sent,
}

/// The meaning of a signal with its `si_code`.
pub fn meaning(signal: c_int, code: c_int) -> Meaning {
    use Meaning::{Exception, FloatingPoint, NoMemory, PageFault, Sent, Vsyscall};
    // Codes above 0 come from the CPU; others from somebody who sent the signal.
    let from_cpu = code > 0;
    match signal {
        libc::SIGSEGV if code == SEGV_MAPERR || code == SEGV_ACCERR => PageFault,
        libc::SIGSEGV if from_cpu => Exception(exceptions::PROTECTION),
        libc::SIGBUS if code == BUS_ADRALN => Exception(exceptions::ALIGNMENT),
        libc::SIGBUS if code == SI_KERNEL => Exception(exceptions::STACK),
        libc::SIGBUS if from_cpu => NoMemory,
        libc::SIGFPE if code == FPE_INTDIV => Exception(exceptions::DIVIDE),
        libc::SIGFPE if code == FPE_INTOVF => Exception(exceptions::OVERFLOW),
        libc::SIGFPE if from_cpu => FloatingPoint,
        libc::SIGILL if from_cpu => Exception(exceptions::INVALID_OPCODE),
        libc::SIGTRAP if code == SI_KERNEL => Exception(exceptions::BREAKPOINT),
        libc::SIGTRAP if code == TRAP_TRACE || from_cpu => Exception(exceptions::DEBUG),
        libc::SIGSYS if from_cpu => Vsyscall,
        _ => Sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_sent_is_never_an_exception() {
        for signal in 1..65 {
            assert!([0, -1, -6].iter().all(|code| meaning(signal, *code) == Meaning::Sent), "{signal}");
        }
    }

    #[test]
    fn a_report_is_believed_only_if_it_fits() {
        let fault = Report {
            signal: libc::SIGSEGV,
            code: SEGV_MAPERR,
            vector: 14,
            error: 6,
            fault_address: 0x1000,
            code_segment: USER_CODE as u16,
            ..Report::default()
        };
        let reason = |report: Report| report.reason(libc::SIGURG);
        assert_eq!(reason(fault), Reason::PageFault { address: 0x1000, attempt: Attempt::Write });
        let signal = Reason::Signal { signal: libc::SIGSEGV, code: SEGV_MAPERR, address: 0 };
        assert_eq!(reason(Report { vector: 13, ..fault }), signal);
        assert_eq!(reason(Report { code_segment: 0x23, ..fault }), Reason::Exception(exceptions::PROTECTION));
        assert_eq!(reason(Report { signal: libc::SIGURG, ..fault }), Reason::Interrupt);
        let call = Report { signal: libc::SIGSYS, code: SYS_SECCOMP, architecture: 0xc000_003e, ..fault };
        assert_eq!(reason(call), Reason::Syscall);
        assert_eq!(reason(Report { architecture: 0x4000_0003, ..call }), Reason::Gate);
        let high = usize::MAX - 0xfff;
        assert!(matches!(reason(Report { address: high, ..call }), Reason::Signal { address, .. } if address == high));
    }

    #[test]
    fn what_the_cpu_said_is_told_apart() {
        assert_eq!(meaning(libc::SIGSEGV, SEGV_ACCERR), Meaning::PageFault);
        assert_eq!(meaning(libc::SIGSEGV, SI_KERNEL), Meaning::Exception(13));
        assert_eq!(meaning(libc::SIGBUS, 2), Meaning::NoMemory);
        assert_eq!(meaning(libc::SIGFPE, 7), Meaning::FloatingPoint);
        assert_eq!(meaning(libc::SIGTRAP, SI_KERNEL), Meaning::Exception(3));
        assert_eq!(meaning(libc::SIGURG, 1), Meaning::Sent);
    }
}
