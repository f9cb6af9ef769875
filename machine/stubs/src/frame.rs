//! What a guest thread tells in the memory it shares with the kernel: the frame of a signal, as the host puts it there, and a few words that
//! say where.
//!
//! What a wrong offset here brings is a wrong register of the program's own: the machine reads and writes within the block, whatever it
//! is told.

use crate::claim::{Claim, HasStopped, OwnAffair};
use libc::c_int;
use x86::general::General;
use x86::signals::Report;

/// Bytes of a block, which is aligned to them.
pub const BLOCK_SIZE: usize = 32 << 10;

/// Offset in a block of the signal's number.
pub const SIGNAL: usize = 16;
/// Of the address in the stub of its `siginfo`.
pub const INFORMATION: usize = 24;
/// Of that of its `ucontext`.
pub const CONTEXT: usize = 32;
/// Of the base of FS, which no frame has.
pub const FS: usize = 40;
/// Of that of GS.
pub const GS: usize = 48;
/// Offsets in a `ucontext`: the general registers and, after them, the address of the extended state.
pub const REGISTERS: usize = 40;
/// How many words of registers there are.
pub const REGISTER_COUNT: usize = 23;
/// Which of them has the selectors.
pub const SEGMENTS: usize = 18;
/// The selectors of 64-bit programs: of code in the lowest two bytes, of the stack in the highest.
const USER_SEGMENTS: usize = 0x2b << 48 | 0x33;
/// The address of the extended state.
pub const EXTENDED: usize = REGISTERS + REGISTER_COUNT * 8;
/// Bytes of a `ucontext` up to there.
pub const CONTEXT_SIZE: usize = EXTENDED + 8;
/// Offsets in a `siginfo`: the code, the address of a fault, and for `SIGSYS` the architecture of the call.
const INFORMATION_CODE: usize = 8;
const INFORMATION_ADDRESS: usize = 16;
const INFORMATION_ARCHITECTURE: usize = 28;
const INFORMATION_SIZE: usize = 32;
/// In an extended state, the bytes the host uses for itself: there it says how long the state is.
pub const HOST_BYTES: std::ops::Range<usize> = 464..512;
/// Where among them.
pub const HOST_LENGTH: usize = 16;

/// The program's registers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// The general ones.
    pub general: General,
    /// The base of FS.
    pub fs_base: usize,
    /// The base of GS.
    pub gs_base: usize,
}

/// The registers in the order of the host's frame of a signal.
fn in_frame(general: &mut General) -> [&mut usize; 18] {
    let General { r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags, .. } =
        general;
    [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags]
}

impl OwnAffair for Report {}
impl OwnAffair for Taken {}

/// The program made nonsense of its block, or its thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Where the frame of the last trap lies: offsets in the block, checked.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Of the `ucontext`.
    pub context: usize,
    /// Of the extended state.
    pub extended: usize,
    /// Bytes of that.
    pub extended_length: usize,
}

/// A block: the memory a guest thread shares with the kernel.
pub trait SignalBlock {
    /// Where the stub has it.
    fn address(&self) -> usize;
    /// Reads eight bytes. An offset beyond the block gives 0.
    fn get(&self, offset: usize) -> Claim<usize>;
    /// Writes eight bytes, if they are in the block.
    fn put(&self, offset: usize, value: usize);

    /// The values of several eight bytes.
    fn get_all<const N: usize>(&self, offsets: [usize; N]) -> Claim<[usize; N]> {
        Claim::all(offsets.map(|offset| self.get(offset)))
    }

    /// The offset of what lies at an address of the stub, if `length` bytes from there are in the block, aligned to 8.
    fn offset(&self, address: Claim<usize>, length: usize) -> Result<usize, Broken> {
        address.offset_from(self.address(), length, BLOCK_SIZE).ok_or(Broken)
    }

    /// What the program's trap was, it says, and where its registers are. To be called once for each trap.
    fn report(&self, _: Claim<HasStopped>, extended_length: usize) -> Result<(Claim<Report>, Frame), Broken> {
        let information = self.offset(self.get(INFORMATION), INFORMATION_SIZE)?;
        let context = self.offset(self.get(CONTEXT), CONTEXT_SIZE)?;
        let extended = self.offset(self.get(context + EXTENDED), HOST_BYTES.end)?;
        let its_length = self.get(extended + HOST_BYTES.start + HOST_LENGTH);
        let extended_length = its_length.clamped(HOST_BYTES.end, extended_length);
        self.offset(Claim::new(self.address() + extended), extended_length)?;
        let register = |index: usize| context + REGISTERS + index * 8;
        let said = self.get_all([
            SIGNAL,
            information + INFORMATION_CODE,
            information + INFORMATION_ADDRESS,
            information + INFORMATION_ARCHITECTURE - 4,
            register(19),
            register(20),
            register(22),
            register(SEGMENTS),
        ]);
        let report = said.map(|[signal, code, address, architecture, error, vector, fault_address, segments]| Report {
            signal: signal as c_int,
            code: code as c_int,
            address,
            architecture: (architecture >> 32) as u32,
            error: error as u64,
            vector: vector as u64,
            fault_address,
            code_segment: segments as u16,
        });
        Ok((report, Frame { context, extended, extended_length }))
    }

    /// The program's registers, as it says.
    fn registers(&self, frame: &Frame) -> Claim<Taken> {
        let offsets: [usize; 20] = std::array::from_fn(|index| match index {
            18 => FS,
            19 => GS,
            index => frame.context + REGISTERS + index * 8,
        });
        self.get_all(offsets).map(|[registers @ .., fs_base, gs_base]: [usize; 20]| {
            let mut general = General { orig_rax: usize::MAX, ..General::default() };
            in_frame(&mut general).into_iter().zip(registers).for_each(|(register, said): (_, usize)| *register = said);
            Taken { general, fs_base, gs_base }
        })
    }

    /// Sets the registers with which the program goes on.
    fn set_registers(&self, frame: &Frame, taken: &Taken) {
        let mut general = taken.general;
        let start = frame.context + REGISTERS;
        in_frame(&mut general).into_iter().enumerate().for_each(|(index, value)| self.put(start + index * 8, *value));
        self.put(start + SEGMENTS * 8, USER_SEGMENTS);
        self.put(FS, taken.fs_base);
        self.put(GS, taken.gs_base);
    }
}
