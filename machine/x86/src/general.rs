//! [`General`]: a program's general registers.

/// The general registers, as at the entry into the kernel.
#[repr(C, align(16))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct General {
    pub r15: usize,
    pub r14: usize,
    pub r13: usize,
    pub r12: usize,
    pub rbp: usize,
    pub rbx: usize,
    pub r11: usize,
    pub r10: usize,
    pub r9: usize,
    pub r8: usize,
    pub rax: usize,
    pub rcx: usize,
    pub rdx: usize,
    pub rsi: usize,
    pub rdi: usize,
    /// The number of the system call while it is served: `rax` as it was, for a restart.
    pub orig_rax: usize,
    pub rip: usize,
    pub rflags: usize,
    pub rsp: usize,
}

/// `orig_rax` when the program is not in a system call.
pub const NO_CALL: usize = usize::MAX;
/// `rax` at a system call before anybody has answered: -ENOSYS.
pub const NO_ANSWER: usize = -38_isize as usize;
/// Flags to begin with: interrupts on, and the bit that is always set.
pub const FIRST_FLAGS: usize = 0x202;

impl General {
    /// The program's stack pointer.
    #[inline]
    pub const fn stack_pointer(&self) -> usize {
        self.rsp
    }

    /// Those of a program about to start.
    pub fn initial(entry: usize, stack: usize) -> General {
        General { rip: entry, rsp: stack, rflags: FIRST_FLAGS, orig_rax: NO_CALL, ..General::default() }
    }
}
