//! The memory a guest thread shares with the kernel: a few words, and the stack on which the host puts a signal's frame with
//! all registers of the program.
//!
//! The program can write all of it. So what is read here is a [`Claim`]: the kernel copies each word once, checks every offset, and takes
//! registers for what they are, the program's own affair ([`stubs::frame`]). What a program can do by lying is to spoil its own registers,
//! and to run on while it says that it has stopped; hence a right is never taken away on its word ([`stubs::Stub::settle`]), and a guest
//! thread never outlives its program.

use crate::platform::copy;
use libc::c_long;
use lines::handshake::{self, Late, Word, Words};
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use stubs::claim::{Claim, HasStopped};
use stubs::frame::{BLOCK_SIZE, Broken, FS, Frame, GS, HOST_BYTES, SignalBlock};

/// Offsets in a block of the words of the [handshake](lines::handshake).
pub const TRAPPED: usize = 0;
pub const KERNEL_SLEEPS: usize = 4;
pub const GUEST_SLEEPS: usize = 8;
pub const SPIN: usize = 12;
/// Where the stack for signals begins: the rest of the block.
const STACK_START: usize = 4096;
const _: () = assert!(BLOCK_SIZE.is_power_of_two() && BLOCK_SIZE > STACK_START);

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

/// The kernel's view of a block.
pub struct Block {
    bytes: *mut u8,
    /// Where the stub has it.
    address: usize,
}

/// How the wait for a guest thread ended.
#[derive(Clone, Copy, Debug)]
pub struct Back {
    pub claim: Claim<HasStopped>,
    /// The kernel had to sleep for it.
    pub slept: bool,
}

impl Block {
    /// The block at `bytes`, which the stub has at `address`.
    ///
    /// # Safety
    /// `bytes` must stay valid for [`BLOCK_SIZE`] bytes, and be aligned to 8.
    pub unsafe fn new(bytes: *mut u8, address: usize) -> Block {
        Block { bytes, address }
    }

    /// Prepares it for a new thread, which has the program from the start.
    pub fn reset(&self, spin: bool) {
        for word in [Word::Trapped, Word::KernelSleeps, Word::GuestSleeps] {
            self.store(word, 0);
        }
        self.store(Word::Spin, turns(spin));
    }

    /// The stack for signals, as sigaltstack(2) wants it: address, flags, size.
    pub fn stack(&self) -> [usize; 3] {
        [self.address + STACK_START, 0, BLOCK_SIZE - STACK_START]
    }

    /// Writes the stack where programs can change it, as no kernel should, and returns where.
    #[cfg(test)]
    pub fn put_stack(&self) -> usize {
        const STACK: usize = 56;
        (STACK..).step_by(8).zip(self.stack()).for_each(|(offset, value)| self.put(offset, value));
        self.address + STACK
    }

    /// Wipes out everything.
    pub fn wipe_all(&self) {
        // SAFETY: all of the block.
        unsafe { copy::zero(self.bytes, BLOCK_SIZE) };
    }

    /// Wipes out what the program's traps left: their frames all end where the block ends, and FS and GS.
    pub fn wipe(&self, last: &Frame) {
        let start = last.context.saturating_sub(8).min(BLOCK_SIZE);
        // SAFETY: all from there on, in the block.
        unsafe { copy::zero(self.bytes.add(start), BLOCK_SIZE - start) };
        [FS, GS].into_iter().for_each(|offset| self.put(offset, 0));
    }

    /// A word that both sides use.
    fn word(&self, word: Word) -> &AtomicU32 {
        let offset = match word {
            Word::Trapped => TRAPPED,
            Word::KernelSleeps => KERNEL_SLEEPS,
            Word::GuestSleeps => GUEST_SLEEPS,
            Word::Spin => SPIN,
        };
        // SAFETY: these offsets are aligned and lie in the block; such words are accessed atomically only.
        unsafe { AtomicU32::from_ptr(self.bytes.add(offset).cast()) }
    }

    /// A part of the block, if it is one.
    fn part(&self, offset: usize, length: usize) -> Option<*mut u8> {
        let fits = length <= BLOCK_SIZE && offset <= BLOCK_SIZE - length;
        // SAFETY: within the block.
        fits.then(|| unsafe { self.bytes.add(offset) })
    }

    /// Copies the extended state out.
    pub fn save_extended(&self, frame: &Frame, image: &mut [u8]) {
        let length = image.len().min(frame.extended_length);
        let Some(bytes) = self.part(frame.extended, length) else { return };
        // SAFETY: so much lies in the block; the image is as long.
        unsafe { copy::copy(image.as_mut_ptr(), bytes, length) }
    }

    /// Copies an extended state in, but for the bytes that are the host's.
    pub fn load_extended(&self, frame: &Frame, image: &[u8]) {
        let length = image.len().min(frame.extended_length);
        for part in [0..HOST_BYTES.start, HOST_BYTES.end..length] {
            let Some(bytes) = image.get(part.clone()) else { continue };
            let Some(to) = self.part(frame.extended.saturating_add(part.start), bytes.len()) else { continue };
            // SAFETY: so much lies in the block.
            unsafe { copy::copy(to, bytes.as_ptr(), bytes.len()) }
        }
    }

    /// Lets the program go on; when it is back it waits awake for a while if `spin`. Returns whether it had to be woken.
    pub fn release(&self, spin: bool) -> bool {
        handshake::release(self, turns(spin))
    }

    /// Waits until the program says it is back, awake for a while if `spin`. Each time a tenth of a second has passed without it
    /// `goes_on` is asked whether to wait on.
    pub fn wait(&self, spin: bool, goes_on: impl FnMut() -> bool) -> Result<Back, Broken> {
        let slept = handshake::wait(self, turns(spin), goes_on).map_err(|Late| Broken)?;
        Ok(Back { claim: Claim::new(HasStopped), slept })
    }
}

impl SignalBlock for Block {
    fn address(&self) -> usize {
        self.address
    }

    fn get(&self, offset: usize) -> Claim<usize> {
        if offset > BLOCK_SIZE - 8 || !offset.is_multiple_of(8) {
            return Claim::new(0);
        }
        // SAFETY: the bytes lie in the block; the stub may write them meanwhile, hence volatile, and any value is valid.
        Claim::new(unsafe { self.bytes.add(offset).cast::<usize>().read_volatile() })
    }

    fn put(&self, offset: usize, value: usize) {
        if offset <= BLOCK_SIZE - 8 && offset.is_multiple_of(8) {
            // SAFETY: as in `get`.
            unsafe { self.bytes.add(offset).cast::<usize>().write_volatile(value) }
        }
    }
}

fn turns(spin: bool) -> u32 {
    if spin { *TURNS } else { 0 }
}

impl Words for Block {
    fn load(&self, word: Word) -> u32 {
        self.word(word).load(SeqCst)
    }

    fn store(&self, word: Word, value: u32) {
        self.word(word).store(value, SeqCst);
    }

    fn sleep(&self) -> bool {
        let limit = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let word = self.word(Word::Trapped).as_ptr();
        // SAFETY: waits for a change of the word, for a limited time.
        let result: c_long = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, &limit) };
        result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT)
    }

    fn wake(&self) {
        // SAFETY: wakes whoever waits on the word.
        unsafe { libc::syscall(libc::SYS_futex, self.word(Word::Trapped).as_ptr(), libc::FUTEX_WAKE, 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stubs::claim::OwnAffair;
    use stubs::frame::*;
    use x86::signals::Report;

    /// Where the stub has it, in the tests.
    const ADDRESS: usize = 0x7000_0000;
    const FRAME: usize = 0x6000;
    const INFO: usize = 0x5000;
    const STATE: usize = 0x7000;

    /// A block in ordinary memory, and its memory.
    fn block() -> (Block, Vec<u64>) {
        let mut memory = vec![0_u64; BLOCK_SIZE / 8];
        // SAFETY: the vector is as long, aligned to 8, and outlives the block in each test.
        (unsafe { Block::new(memory.as_mut_ptr().cast(), ADDRESS) }, memory)
    }

    /// A block with a frame in which each word has its own number.
    fn trapped(state_length: usize) -> (Block, Vec<u64>) {
        let (block, memory) = block();
        (0..0x120).step_by(8).for_each(|at| block.put(FRAME + at, 0xf000_0000 + at));
        (0..0x40).step_by(8).for_each(|at| block.put(INFO + at, (at + 4) << 32 | at));
        block.put(INFORMATION, ADDRESS + INFO);
        block.put(CONTEXT, ADDRESS + FRAME);
        block.put(FRAME + EXTENDED, ADDRESS + STATE);
        block.put(STATE + HOST_BYTES.start + HOST_LENGTH, state_length);
        block.put(SIGNAL, 31);
        (block, memory)
    }

    fn report(block: &Block) -> Result<(Report, Frame), Broken> {
        block.report(Claim::new(HasStopped), 1024).map(|(report, frame)| (report.own_affair(), frame))
    }

    #[test]
    fn each_word_of_a_trap_is_read_from_its_place() {
        let (block, _memory) = trapped(832);
        let (said, frame) = report(&block).unwrap();
        assert_eq!((said.signal, said.code, said.address, said.architecture), (31, 8, 20 << 32 | 16, 28));
        let register = |index: usize| (0xf000_0000 + REGISTERS + index * 8) as u64;
        assert_eq!((said.error, said.vector, said.fault_address as u64), (register(19), register(20), register(22)));
        assert_eq!(said.code_segment, register(18) as u16);
        assert_eq!((frame.context, frame.extended, frame.extended_length), (FRAME, STATE, 832));
    }

    #[test]
    fn registers_go_where_linux_has_them_and_come_back() {
        let (block, _memory) = trapped(512);
        let (_, frame) = report(&block).unwrap();
        block.put(FS, 1);
        block.put(GS, 2);
        let taken = block.registers(&frame).own_affair();
        let general = &taken.general;
        // The order of `gregs` in ucontext.h.
        let order = [
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
        (0..).zip(order).for_each(|(index, value)| assert_eq!(value, 0xf000_0000 + REGISTERS + index * 8));
        assert_eq!((taken.fs_base, taken.gs_base, general.orig_rax), (1, 2, usize::MAX));
        let (other, _memory) = trapped(512);
        let (_, frame) = report(&other).unwrap();
        (0..REGISTER_COUNT).for_each(|index| other.put(FRAME + REGISTERS + index * 8, 0));
        other.set_registers(&frame, &taken);
        for index in 0..18 {
            assert_eq!(
                other.get(FRAME + REGISTERS + index * 8).map(Own).own_affair().0,
                0xf000_0000 + REGISTERS + index * 8
            );
        }
        let read = |offset: usize| other.get(offset).map(Own).own_affair().0;
        assert_eq!(read(FRAME + REGISTERS + SEGMENTS * 8), 0x2b_0000_0000_0033);
        assert_eq!((read(FS), read(GS), read(FRAME + EXTENDED)), (1, 2, ADDRESS + STATE));
    }

    /// A word, in tests.
    #[derive(Clone, Copy)]
    struct Own(usize);
    impl OwnAffair for Own {}

    #[test]
    fn a_frame_that_does_not_lie_in_the_block_is_none() {
        let end = ADDRESS + BLOCK_SIZE;
        for (word, good, bad) in [
            (INFORMATION, [ADDRESS, end - 32], [end - 24, ADDRESS - 8]),
            (CONTEXT, [ADDRESS + FRAME, ADDRESS + FRAME], [end - CONTEXT_SIZE + 8, ADDRESS + FRAME + 4]),
            (FRAME + EXTENDED, [ADDRESS + 8, end - 512], [end - 504, 0]),
        ] {
            for (address, fits) in
                good.map(|address| (address, true)).into_iter().chain(bad.map(|address| (address, false)))
            {
                let (block, _memory) = trapped(512);
                block.put(word, address);
                assert_eq!(report(&block).is_ok(), fits, "{word} {address:#x}");
            }
        }
        // The length of the state is forced between what there always is and what this host has, and must fit too.
        for (said, length) in [(0, 512), (513, 513), (1024, 1024), (1025, 1024), (usize::MAX, 1024)] {
            let (block, _memory) = trapped(said);
            assert_eq!(report(&block).unwrap().1.extended_length, length, "{said}");
        }
        let (block, _memory) = trapped(512);
        block.put(FRAME + EXTENDED, end - 800);
        block.put(BLOCK_SIZE - 800 + HOST_BYTES.start + HOST_LENGTH, 801);
        assert_eq!(report(&block).err(), Some(Broken));
        block.put(BLOCK_SIZE - 800 + HOST_BYTES.start + HOST_LENGTH, 800);
        assert!(report(&block).is_ok());
    }

    #[test]
    fn an_extended_state_is_exchanged_but_for_the_host_s_bytes() {
        let (block, memory) = trapped(600);
        let (_, frame) = report(&block).unwrap();
        let image: Vec<u8> = (0..700).map(|byte| (byte % 251) as u8 + 1).collect();
        block.load_extended(&frame, &image);
        let mut back = vec![0xee; 700];
        block.save_extended(&frame, &mut back);
        assert!(back[..464] == image[..464] && back[512..600] == image[512..600]);
        assert_eq!(back[464 + 16..464 + 24], 600_usize.to_le_bytes(), "the host's own");
        assert!(back[600..].iter().all(|byte| *byte == 0xee), "beyond the state nothing is written");
        assert_eq!(memory[(STATE + 600) / 8], 0);
        let mut short = vec![0; 100];
        block.save_extended(&frame, &mut short);
        assert_eq!(short, image[..100]);
    }

    #[test]
    fn what_a_trap_left_is_wiped_out() {
        let (block, mut memory) = trapped(512);
        memory.fill(u64::MAX);
        let frame = Frame { context: FRAME, extended: STATE, extended_length: 512 };
        block.wipe(&frame);
        let word = |offset: usize| memory[offset / 8];
        assert_eq!((word(FRAME - 16), word(FRAME - 8), word(BLOCK_SIZE - 8)), (u64::MAX, 0, 0));
        assert_eq!((word(FS - 8), word(FS), word(GS), word(GS + 8)), (u64::MAX, 0, 0, u64::MAX));
        block.wipe_all();
        assert!(memory.iter().all(|word| *word == 0));
    }

    #[test]
    fn words_beyond_the_block_are_not_there() {
        let (block, memory) = block();
        let read = |offset: usize| block.get(offset).map(Own).own_affair().0;
        block.put(BLOCK_SIZE - 8, 5);
        block.put(BLOCK_SIZE - 7, 6);
        assert_eq!((read(BLOCK_SIZE - 8), read(BLOCK_SIZE - 7), read(usize::MAX)), (5, 0, 0));
        assert_eq!(memory[BLOCK_SIZE / 8 - 1], 5);
        assert_eq!(block.stack(), [ADDRESS + 4096, 0, BLOCK_SIZE - 4096]);
        assert_eq!(block.put_stack(), ADDRESS + 56);
        assert_eq!([56, 64, 72].map(read), block.stack());
    }

    #[test]
    fn a_new_thread_s_words_are_as_at_the_start() {
        let (block, mut memory) = block();
        memory.fill(u64::MAX);
        block.reset(false);
        let words = [Word::Trapped, Word::KernelSleeps, Word::GuestSleeps, Word::Spin];
        assert_eq!(words.map(|word| block.load(word)), [0; 4]);
        block.reset(true);
        assert!(block.load(Word::Spin) > 0);
        assert!(!block.release(false), "nobody sleeps");
        block.store(Word::GuestSleeps, 1);
        block.store(Word::Trapped, 1);
        assert!(block.release(false));
        assert_eq!((block.load(Word::Trapped), block.load(Word::Spin)), (0, 0));
        // Nobody comes back: who waits is asked, and gives up.
        let mut asked = 0;
        let result = block.wait(false, || {
            asked += 1;
            asked < 2
        });
        assert_eq!((result.err(), asked, block.load(Word::KernelSleeps)), (Some(Broken), 2, 1));
        block.store(Word::Trapped, 1);
        assert!(block.wait(true, || false).is_ok_and(|back| !back.slept));
        assert!(block.wait(false, || false).is_ok_and(|back| back.slept));
        assert_eq!(block.load(Word::KernelSleeps), 0);
    }
}
