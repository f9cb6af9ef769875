//! The memory a guest thread shares with the kernel: a few words, and the stack on which the host puts a signal's frame with
//! all registers of the program.
//!
//! The program can write all of it. So nothing here is believed: what the kernel needs it copies once and checks. What a program
//! can do by lying is to spoil its own registers, and to run on while the kernel takes it for stopped; hence with guest
//! threads every change to a space is carried out at once, and a guest thread never outlives its program.

use crate::user::General;
use libc::{c_int, c_long, pid_t};
use std::io;
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Bytes of a block, which is aligned to them.
pub const BLOCK_SIZE: usize = 32 << 10;

/// Offsets in a block: 1 while the program is back, 0 while it runs; who sleeps and must be woken; turns to wait awake.
pub const TRAPPED: usize = 0;
pub const KERNEL_SLEEPS: usize = 4;
pub const GUEST_SLEEPS: usize = 8;
pub const SPIN: usize = 12;
/// The signal and what came with it: addresses in the stub.
pub const SIGNAL: usize = 16;
pub const INFORMATION: usize = 24;
pub const CONTEXT: usize = 32;
/// The bases of FS and GS, which no frame has.
pub const FS: usize = 40;
pub const GS: usize = 48;
/// A `stack_t` for sigaltstack(2): the rest of the block.
pub const STACK: usize = 56;
const STACK_START: usize = 4096;

/// Offsets in a `ucontext`: the general registers and, after them, the address of the extended state.
const REGISTERS: usize = 40;
const REGISTER_COUNT: usize = 23;
const SEGMENTS: usize = 18;
/// The selectors of 64-bit programs: of code in the lowest two bytes, of the stack in the highest.
const USER_SEGMENTS: usize = 0x2b << 48 | 0x33;
const EXTENDED: usize = REGISTERS + REGISTER_COUNT * 8;
const CONTEXT_SIZE: usize = EXTENDED + 8;
/// Offsets in a `siginfo`: the code, the address of a fault, and for `SIGSYS` the architecture of the call.
const INFORMATION_CODE: usize = 8;
const INFORMATION_ADDRESS: usize = 16;
const INFORMATION_ARCHITECTURE: usize = 28;
const INFORMATION_SIZE: usize = 32;
/// In an extended state, the bytes the host uses for itself: there it says how long the state is.
const HOST_BYTES: std::ops::Range<usize> = 464..512;
const HOST_LENGTH: usize = 16;

/// How long either side waits awake for the other: longer than it takes the host to wake a core.
const AWAKE: Duration = Duration::from_micros(60);

/// The turns of a spin loop in that time, on this host.
static TURNS: LazyLock<u32> = LazyLock::new(|| {
    const SAMPLE: u32 = 1000;
    let start = Instant::now();
    (0..SAMPLE).for_each(|_| std::hint::spin_loop());
    let sample = start.elapsed().as_nanos().max(1);
    (AWAKE.as_nanos() * u128::from(SAMPLE) / sample) as u32
});

/// What the program's CPU says of its trap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The signal, its code, and the address in it.
    pub signal: c_int,
    pub code: c_int,
    pub address: usize,
    /// Of a system call: which kernel it is for.
    pub architecture: u32,
    /// The exception's vector and error code, and the address of a page fault. Of the last exception: only for such signals.
    pub vector: u64,
    pub error: u64,
    pub fault_address: usize,
    /// The selector of its code.
    pub code_segment: u16,
}

/// The program's registers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pub general: General,
    pub fs_base: usize,
    pub gs_base: usize,
}

/// The kernel's view of a block.
pub struct Block {
    bytes: *mut u8,
    /// Where the stub has it.
    address: usize,
}

/// The program made nonsense of its block, or its thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Where the frame of the last trap lies: offsets in the block, checked.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    context: usize,
    extended: usize,
    extended_length: usize,
}

impl Block {
    /// The block at `bytes`, which the stub has at `address`.
    ///
    /// # Safety
    /// `bytes` must stay valid for [`BLOCK_SIZE`] bytes, and be aligned to 8.
    pub unsafe fn new(bytes: *mut u8, address: usize) -> Block {
        Block { bytes, address }
    }

    /// Where the stub has it.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Prepares it for a new thread.
    pub fn reset(&self) {
        for word in [TRAPPED, KERNEL_SLEEPS, GUEST_SLEEPS, SPIN] {
            self.word(word).store(0, SeqCst);
        }
        let stack = [self.address + STACK_START, 0, BLOCK_SIZE - STACK_START];
        stack.into_iter().enumerate().for_each(|(index, value)| self.put(STACK + index * 8, value));
    }

    /// Wipes out what the program's traps left: their frames all end where the block ends, and FS and GS.
    pub fn wipe(&self, last: &Frame) {
        let start = last.context.saturating_sub(8);
        // SAFETY: `report` checked that the frame lies in the block; its thread is gone.
        unsafe { ptr::write_bytes(self.bytes.add(start), 0, BLOCK_SIZE - start) };
        [FS, GS].into_iter().for_each(|offset| self.put(offset, 0));
    }

    /// A word that both sides use. `offset` is one of the constants.
    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the offsets of words are aligned and lie in the block; such words are accessed atomically only.
        unsafe { AtomicU32::from_ptr(self.bytes.add(offset).cast()) }
    }

    /// Reads eight bytes. An offset beyond the block gives 0.
    fn get(&self, offset: usize) -> usize {
        if offset > BLOCK_SIZE - 8 {
            return 0;
        }
        // SAFETY: the bytes lie in the block; the stub may write them meanwhile, hence volatile, and any value is valid.
        unsafe { self.bytes.add(offset).cast::<usize>().read_volatile() }
    }

    fn put(&self, offset: usize, value: usize) {
        if offset <= BLOCK_SIZE - 8 {
            // SAFETY: as in `get`.
            unsafe { self.bytes.add(offset).cast::<usize>().write_volatile(value) }
        }
    }

    /// The offset of what lies at an address of the stub, if `length` bytes from there are in the block, aligned to 8.
    fn offset(&self, address: usize, length: usize) -> Result<usize, Broken> {
        let offset = address.wrapping_sub(self.address);
        if offset <= BLOCK_SIZE - length && offset.is_multiple_of(8) { Ok(offset) } else { Err(Broken) }
    }

    /// What the program's trap was, and where its registers are. To be called once for each trap.
    pub fn report(&self, extended_length: usize) -> Result<(Report, Frame), Broken> {
        let information = self.offset(self.get(INFORMATION), INFORMATION_SIZE)?;
        let context = self.offset(self.get(CONTEXT), CONTEXT_SIZE)?;
        let extended = self.offset(self.get(context + EXTENDED), HOST_BYTES.end)?;
        let its_length = self.get(extended + HOST_BYTES.start + HOST_LENGTH) as u32 as usize;
        let extended_length = extended_length.min(its_length.max(HOST_BYTES.end));
        self.offset(self.address + extended, extended_length)?;
        let register = |index: usize| self.get(context + REGISTERS + index * 8);
        let report = Report {
            signal: self.get(SIGNAL) as c_int,
            code: self.get(information + INFORMATION_CODE) as c_int,
            address: self.get(information + INFORMATION_ADDRESS),
            architecture: (self.get(information + INFORMATION_ARCHITECTURE - 4) >> 32) as u32,
            error: register(19) as u64,
            vector: register(20) as u64,
            fault_address: register(22),
            code_segment: register(SEGMENTS) as u16,
        };
        Ok((report, Frame { context, extended, extended_length }))
    }

    /// The program's registers.
    pub fn registers(&self, frame: &Frame) -> Taken {
        let register = |index: usize| self.get(frame.context + REGISTERS + index * 8);
        let general = General {
            r8: register(0),
            r9: register(1),
            r10: register(2),
            r11: register(3),
            r12: register(4),
            r13: register(5),
            r14: register(6),
            r15: register(7),
            rdi: register(8),
            rsi: register(9),
            rbp: register(10),
            rbx: register(11),
            rdx: register(12),
            rax: register(13),
            rcx: register(14),
            rsp: register(15),
            rip: register(16),
            rflags: register(17),
            orig_rax: usize::MAX,
        };
        Taken { general, fs_base: self.get(FS), gs_base: self.get(GS) }
    }

    /// Sets the registers with which the program goes on.
    pub fn set_registers(&self, frame: &Frame, taken: &Taken) {
        let general = &taken.general;
        let values = [
            general.r8,
            general.r9,
            general.r10,
            general.r11,
            general.r12,
            general.r13,
            general.r14,
            general.r15,
            general.rdi,
            general.rsi,
            general.rbp,
            general.rbx,
            general.rdx,
            general.rax,
            general.rcx,
            general.rsp,
            general.rip,
            general.rflags,
        ];
        let start = frame.context + REGISTERS;
        values.into_iter().enumerate().for_each(|(index, value)| self.put(start + index * 8, value));
        self.put(start + SEGMENTS * 8, USER_SEGMENTS);
        self.put(FS, taken.fs_base);
        self.put(GS, taken.gs_base);
    }

    /// Copies the extended state out.
    pub fn save_extended(&self, frame: &Frame, image: &mut [u8]) {
        let length = image.len().min(frame.extended_length);
        // SAFETY: `report` checked that so much lies in the block; the image is as long.
        unsafe { ptr::copy_nonoverlapping(self.bytes.add(frame.extended), image.as_mut_ptr(), length) }
    }

    /// Copies an extended state in, but for the bytes that are the host's.
    pub fn load_extended(&self, frame: &Frame, image: &[u8]) {
        let length = image.len().min(frame.extended_length);
        for part in [0..HOST_BYTES.start, HOST_BYTES.end..length] {
            let Some(bytes) = image.get(part.clone()) else { continue };
            // SAFETY: as in `save_extended`.
            unsafe {
                ptr::copy_nonoverlapping(bytes.as_ptr(), self.bytes.add(frame.extended + part.start), bytes.len())
            }
        }
    }

    /// Lets the program go on; when it is back it waits awake for a while if `spin`. Returns whether it had to be woken.
    pub fn release(&self, spin: bool) -> bool {
        self.word(SPIN).store(if spin { *TURNS } else { 0 }, SeqCst);
        self.word(TRAPPED).store(0, SeqCst);
        let slept = self.word(GUEST_SLEEPS).load(SeqCst) != 0;
        if slept {
            // SAFETY: wakes whoever waits on the word.
            unsafe { libc::syscall(libc::SYS_futex, self.word(TRAPPED).as_ptr(), libc::FUTEX_WAKE, 1) };
        }
        slept
    }

    /// Waits until the program is back, awake for a while if `spin`; returns whether we had to sleep. Each time a tenth of a
    /// second has passed without it `goes_on` is asked whether to wait on.
    pub fn wait(&self, spin: bool, mut goes_on: impl FnMut() -> bool) -> Result<bool, Broken> {
        let is_back = || self.word(TRAPPED).load(SeqCst) != 0;
        for _ in 0..if spin { *TURNS } else { 0 } {
            if is_back() {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
        self.word(KERNEL_SLEEPS).store(1, SeqCst);
        while !is_back() {
            let limit = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let word = self.word(TRAPPED).as_ptr();
            // SAFETY: waits for a change of the word, for a limited time.
            let result: c_long = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, &limit) };
            let timed_out = result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT);
            if timed_out && !is_back() && !goes_on() {
                return Err(Broken);
            }
        }
        self.word(KERNEL_SLEEPS).store(0, SeqCst);
        Ok(true)
    }
}

/// Whether a child of ours has ended. It is reaped then.
pub fn has_ended(process: pid_t) -> bool {
    // SAFETY: asks after a child, without waiting.
    unsafe { libc::waitpid(process, ptr::null_mut(), libc::__WALL | libc::WNOHANG) != 0 }
}
