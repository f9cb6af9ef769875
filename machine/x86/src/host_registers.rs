//! The registers of a program as ptrace(2) of a Linux host has them.

use crate::general::General;
use libc::user_regs_struct;

/// The code segment of 64-bit programs on Linux.
pub const USER_CODE: u64 = 0x33;
/// Their data segment.
const USER_DATA: u64 = 0x2b;

/// The host's form of a program's registers.
pub fn host_registers(general: &General, fs_base: usize, gs_base: usize) -> user_regs_struct {
    user_regs_struct {
        r15: general.r15 as u64,
        r14: general.r14 as u64,
        r13: general.r13 as u64,
        r12: general.r12 as u64,
        rbp: general.rbp as u64,
        rbx: general.rbx as u64,
        r11: general.r11 as u64,
        r10: general.r10 as u64,
        r9: general.r9 as u64,
        r8: general.r8 as u64,
        rax: general.rax as u64,
        rcx: general.rcx as u64,
        rdx: general.rdx as u64,
        rsi: general.rsi as u64,
        rdi: general.rdi as u64,
        // Not in a system call, whatever the program had in mind: the host shall not restart one.
        orig_rax: u64::MAX,
        rip: general.rip as u64,
        cs: USER_CODE,
        eflags: general.rflags as u64,
        rsp: general.rsp as u64,
        ss: USER_DATA,
        fs_base: fs_base as u64,
        gs_base: gs_base as u64,
        ds: 0,
        es: 0,
        fs: 0,
        gs: 0,
    }
}

/// The kernel's form of them.
pub fn general_registers(registers: &user_regs_struct) -> General {
    General {
        r15: registers.r15 as usize,
        r14: registers.r14 as usize,
        r13: registers.r13 as usize,
        r12: registers.r12 as usize,
        rbp: registers.rbp as usize,
        rbx: registers.rbx as usize,
        r11: registers.r11 as usize,
        r10: registers.r10 as usize,
        r9: registers.r9 as usize,
        r8: registers.r8 as usize,
        rax: registers.rax as usize,
        rcx: registers.rcx as usize,
        rdx: registers.rdx as usize,
        rsi: registers.rsi as usize,
        rdi: registers.rdi as usize,
        orig_rax: registers.orig_rax as usize,
        rip: registers.rip as usize,
        rflags: registers.eflags as usize,
        rsp: registers.rsp as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every register goes through under its own name: all have different values.
    #[test]
    fn what_is_set_is_what_is_read() {
        let general = General {
            r15: 1,
            r14: 2,
            r13: 3,
            r12: 4,
            rbp: 5,
            rbx: 6,
            r11: 7,
            r10: 8,
            r9: 9,
            r8: 10,
            rax: 11,
            rcx: 12,
            rdx: 13,
            rsi: 14,
            rdi: 15,
            orig_rax: usize::MAX,
            rip: 16,
            rflags: 17,
            rsp: 18,
        };
        let host = host_registers(&general, 19, 20);
        assert_eq!((host.fs_base, host.gs_base, host.cs, host.ss), (19, 20, USER_CODE, USER_DATA));
        assert_eq!((host.r15, host.rsi, host.rdi, host.rsp, host.rip), (1, 14, 15, 18, 16));
        assert_eq!(general_registers(&host), general);
    }
}
