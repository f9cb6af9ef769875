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

/// The flag that makes the CPU trap after each instruction.
const TRAP_FLAG: usize = 0x100;

/// `syscall` takes so many bytes.
const CALL_LENGTH: usize = 2;

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

    /// Sets the program's stack pointer.
    #[inline]
    pub const fn set_stack_pointer(&mut self, address: usize) {
        self.rsp = address;
    }

    /// The program has executed `syscall`, and nobody has answered yet.
    #[inline]
    pub const fn begin_call(&mut self) {
        (self.orig_rax, self.rax) = (self.rax, NO_ANSWER);
    }

    /// The number of the system call.
    #[inline]
    pub const fn call_number(&self) -> usize {
        self.orig_rax
    }

    /// Its arguments.
    #[inline]
    pub const fn arguments(&self) -> [usize; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    /// What the system call returns.
    #[inline]
    pub const fn set_result(&mut self, result: usize) {
        self.rax = result;
    }

    /// Makes the program execute its system call again when it goes on.
    pub const fn restart_call(&mut self) {
        self.rax = self.orig_rax;
        self.rip = self.rip.wrapping_sub(CALL_LENGTH);
    }

    /// After [`restart_call`](Self::restart_call): it is this call that is executed.
    pub const fn replace_call(&mut self, number: usize) {
        self.rax = number;
    }

    /// Makes the program trap (debug exception) after each instruction, or no longer.
    pub const fn set_single_step(&mut self, on: bool) {
        self.rflags = self.rflags & !TRAP_FLAG | if on { TRAP_FLAG } else { 0 };
    }
}
