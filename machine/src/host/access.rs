//! What an instruction that faulted was about to do: the host says where, but not whether it read, wrote or fetched.

use crate::memory::{Access, PAGE_SIZE, Space};
use crate::user::General;
use x86::instruction::{LONGEST, State};

/// Whether the instruction before `rip` is `syscall`, and not one of the ways into a 32-bit kernel.
pub fn is_syscall_instruction(space: &Space, rip: usize) -> bool {
    let mut bytes = [0; 2];
    space.read(rip.wrapping_sub(2), &mut bytes).is_ok() && bytes == [0x0f, 0x05]
}

/// What the instruction at `rip` tried at `address`.
pub fn attempted(space: &Space, general: &General, fs_base: usize, gs_base: usize, address: usize) -> Access {
    let is_shown = space.0.is_shown(address & !(PAGE_SIZE - 1), Access::EXECUTE);
    attempted_when(space, general, fs_base, gs_base, address, is_shown)
}

/// The same; `is_shown` says whether the stub shows the page of `address` with the right to execute.
fn attempted_when(
    space: &Space,
    general: &General,
    fs_base: usize,
    gs_base: usize,
    address: usize,
    is_shown: bool,
) -> Access {
    let g = general;
    let numbered =
        [g.rax, g.rcx, g.rdx, g.rbx, g.rsp, g.rbp, g.rsi, g.rdi, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13, g.r14, g.r15];
    let state = State { numbered, rip: g.rip, fs_base, gs_base };
    let fetch = |bytes: &mut [u8; LONGEST]| match space.read(g.rip, bytes) {
        Ok(()) => LONGEST,
        Err(fault) => fault.copied,
    };
    state.attempted(address, is_shown, fetch).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Frame;

    /// What a fault at `address` of code that is shown meanwhile is taken for. The code lies at the end of a page, `at` bytes before it.
    fn after_a_race(code: &[u8], at: usize, address: usize) -> Access {
        let space = Space::new().unwrap();
        let frames = [Frame::zeroed().unwrap(), Frame::zeroed().unwrap()];
        let split = at.min(code.len());
        frames[0].write(PAGE_SIZE - at, &code[..split]);
        frames[1].write(0, &code[split..]);
        let rights = Access::READ | Access::EXECUTE;
        space.map_batch(0x40_0000_usize, frames.into_iter(), rights, || true).unwrap();
        let general = General { rip: 0x40_1000 - at, rdi: 0x1000, rsi: 0x2000, rsp: 0x9000, ..General::default() };
        attempted_when(&space, &general, 0, 0, address, true)
    }

    #[test]
    fn code_that_another_cpu_showed_meanwhile_was_fetched() {
        let store = [0x48, 0x89, 0x07]; // mov [rdi], rax
        let call = [0xff, 0x17]; // call [rdi], which pushes
        let clear = [0xc6, 0x05, 0xf9, 0xff, 0xff, 0xff, 0]; // mov byte [rip - 7], 0: the instruction itself
        let here = 0x40_1000 - 16;
        assert_eq!(after_a_race(&store, 16, here), Access::EXECUTE);
        assert_eq!(after_a_race(&call, 16, here), Access::EXECUTE);
        assert_eq!(after_a_race(&store, 2, 0x40_1000), Access::EXECUTE, "its second half");
        assert_eq!(after_a_race(&clear, 16, here), Access::WRITE, "it does write there");
        assert_eq!(after_a_race(&store, 16, 0x1000), Access::WRITE);
    }
}
