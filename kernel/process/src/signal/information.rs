//! Why a signal was sent.

use abi::signal::{Signal, SignalInfo};

/// The values of `si_code`.
#[allow(missing_docs, reason = "see sigaction(2)")]
pub mod code {
    pub const USER: i32 = 0;
    pub const KERNEL: i32 = 0x80;
    pub const QUEUE: i32 = -1;
    pub const IO: i32 = -5;
    pub const TKILL: i32 = -6;
    pub const POLL_IN: i32 = 1;
    pub const POLL_OUT: i32 = 2;
    pub const SEGV_NOT_MAPPED: i32 = 1;
    pub const SEGV_NO_ACCESS: i32 = 2;
    pub const BUS_ADDRESS: i32 = 2;
    pub const CHILD_EXITED: i32 = 1;
    pub const CHILD_KILLED: i32 = 2;
    pub const CHILD_STOPPED: i32 = 5;
    pub const CHILD_CONTINUED: i32 = 6;
}

/// A signal with its reason: what the kernel keeps of a `siginfo_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Information {
    /// Which signal.
    pub signal: Signal,
    /// `si_code`
    pub code: i32,
    /// `si_errno`
    pub errno: i32,
    /// The union, as it lies in memory.
    pub fields: [u64; 4],
}

impl Information {
    /// By the kernel, without a sender.
    pub const fn kernel(signal: Signal) -> Information {
        Information { signal, code: code::KERNEL, errno: 0, fields: [0; 4] }
    }

    /// By a process, by the number that who gets it knows it by: kill(2), or with [`code::TKILL`] tgkill(2).
    pub const fn user(signal: Signal, code: i32, sender: u32, user: u32) -> Information {
        Information { signal, code, errno: 0, fields: [pair(sender, user), 0, 0, 0] }
    }

    /// By the CPU: something at `address`.
    pub const fn fault(signal: Signal, code: i32, address: usize) -> Information {
        Information { signal, code, errno: 0, fields: [address as u64, 0, 0, 0] }
    }

    /// About a child, by the number its parent knows it by; times in clock ticks.
    pub const fn child(
        signal: Signal,
        code: i32,
        child: u32,
        user: u32,
        status: i32,
        times: (u64, u64),
    ) -> Information {
        Information { signal, code, errno: 0, fields: [pair(child, user), status as u32 as u64, times.0, times.1] }
    }

    /// About a file that became ready: `events` as poll(2) reports them, and its descriptor.
    pub const fn io(signal: Signal, code: i32, events: u16, descriptor: i32) -> Information {
        Information { signal, code, errno: 0, fields: [events as u64, descriptor as u32 as u64, 0, 0] }
    }

    /// From what a program gave to rt_sigqueueinfo(2).
    pub const fn from_program(signal: Signal, given: &SignalInfo) -> Information {
        Information { signal, code: given.code, errno: given.errno, fields: given.fields }
    }

    /// As a handler sees it.
    pub const fn to_program(&self) -> SignalInfo {
        SignalInfo {
            signal: self.signal.number() as i32,
            errno: self.errno,
            code: self.code,
            padding: 0,
            fields: self.fields,
            rest: [0; 10],
        }
    }
}

/// Two 32-bit fields side by side.
const fn pair(first: u32, second: u32) -> u64 {
    first as u64 | (second as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn fields_lie_where_programs_look() {
        let child = Information::child(Signal::CHLD, code::CHILD_EXITED, 77, 1000, 3, (5, 6)).to_program();
        let bytes = child.as_bytes();
        let word = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(8), word(16), word(20), word(24)), (17, 1, 77, 1000, 3));
        assert_eq!((word(32), word(40)), (5, 6));
        let fault = Information::fault(Signal::SEGV, code::SEGV_NO_ACCESS, 0x1234).to_program();
        assert_eq!(fault.as_bytes()[16..18], [0x34, 0x12]);
    }
}
