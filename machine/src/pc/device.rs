//! What was found, as windows that drivers cannot look past.

use super::layout::direct;
use super::{block, features, frames, io_apic, port, start_info, time};
use crate::device::{ByteStream, Program, SerialPort, StandardStream, StandardStreams};
use crate::folder::SharedFolder;
use crate::memory::PAGE_SIZE;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A range of I/O ports that belongs to one device. Reads outside give all ones, writes nothing.
#[derive(Debug)]
pub struct PortWindow {
    base: u16,
    count: u16,
}

impl PortWindow {
    /// Reads the byte at `offset`.
    #[inline]
    pub fn read_u8(&self, offset: u16) -> u8 {
        if offset >= self.count {
            return 0xff;
        }
        // SAFETY: the window was made for a device without DMA.
        unsafe { port::read_u8(self.base + offset) }
    }

    /// Writes the byte at `offset`.
    #[inline]
    pub fn write_u8(&self, offset: u16, value: u8) {
        if offset < self.count {
            // SAFETY: as above.
            unsafe { port::write_u8(self.base + offset, value) };
        }
    }
}

/// A device's interrupt.
#[derive(Debug)]
pub struct InterruptLine {
    interrupt: u8,
}

impl InterruptLine {
    /// Calls `handler` at each interrupt from now on, on some CPU, with interrupts off and no lock held. It wakes and
    /// queues only. Nothing happens if no interrupt controller has the line.
    pub fn connect(&self, handler: Arc<dyn Fn() + Send + Sync>) {
        if !io_apic::connect(self.interrupt, handler) {
            let interrupt = self.interrupt;
            super::debug::emergency_print(format_args!("interrupt {interrupt} cannot be connected\n"));
        }
    }
}

/// The ports and interrupts of the first two serial ports of a PC.
const SERIAL: [(u16, u8); 2] = [(0x3f8, 4), (0x2f8, 3)];

/// The serial ports that answer. Each is given away once.
pub fn serial_ports() -> Vec<SerialPort> {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    if GIVEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let window =
        |(base, interrupt)| SerialPort { ports: PortWindow { base, count: 8 }, line: InterruptLine { interrupt } };
    let answers = |serial: &SerialPort| {
        const SCRATCH: u16 = 7;
        [0x55, 0xaa].iter().all(|pattern| {
            serial.ports.write_u8(SCRATCH, *pattern);
            serial.ports.read_u8(SCRATCH) == *pattern
        })
    };
    SERIAL.into_iter().map(window).filter(answers).collect()
}

/// The standard streams: none; init has the console.
pub fn standard_streams() -> StandardStreams {
    StandardStreams { streams: Vec::new(), descriptors: [StandardStream::Nothing; 3] }
}

/// The terminal is at the serial port.
pub fn terminal() -> Option<ByteStream> {
    None
}

/// This machine runs an init.
pub fn program() -> Option<Program> {
    None
}

/// The kernel command line.
pub fn command_line() -> String {
    start_info::get().map_or(String::new(), |info| String::from_utf8_lossy(&info.command_line).into_owned())
}

/// The initial file archive in memory.
#[derive(Debug)]
pub struct InitramfsImage {
    range: Range<usize>,
}

impl InitramfsImage {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is RAM in the direct map that belongs to us (checked in `initramfs`), and nobody writes there.
        unsafe { core::slice::from_raw_parts(direct(self.range.start), self.range.len()) }
    }

    /// Gives its memory to the kernel.
    pub fn release(self) {
        // SAFETY: the frames were reserved for us at boot, and nobody refers to them any more.
        unsafe { frames::release(self.range.start.div_ceil(PAGE_SIZE)..self.range.end / PAGE_SIZE) };
    }
}

/// The initial file archive, once.
pub fn initramfs() -> Option<InitramfsImage> {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    let info = start_info::get()?;
    let range = info.initramfs.clone()?;
    if GIVEN.swap(true, Ordering::Relaxed) || !info.is_ram(&range) {
        return None;
    }
    Some(InitramfsImage { range })
}

/// Folders of the host: none yet.
pub fn folders() -> Vec<SharedFolder> {
    Vec::new()
}

/// 32 bytes nobody can foretell, as far as the CPU has such; always different ones.
pub fn random_seed() -> [u8; 32] {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut state = CALLS.fetch_add(1, Ordering::Relaxed) ^ (block::current_cpu() as u64) << 56;
    let mut seed = [0; 32];
    for part in seed.chunks_exact_mut(8) {
        // Time between two reads varies by what else the machine does.
        for _ in 0..16 {
            state = mix(state ^ time::ticks());
        }
        part.copy_from_slice(&mix(state ^ random_word()).to_le_bytes());
    }
    seed
}

/// Spreads every bit over all (the finaliser of splitmix64).
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// A word from the CPU's random generator; 0 if it has none.
fn random_word() -> u64 {
    let features = features::get();
    for _ in 0..16 {
        let (word, done): (u64, u8);
        // SAFETY: the instructions exist by the check, and touch registers only.
        unsafe {
            if features.rdseed {
                asm!("rdseed {}", "setc {}", out(reg) word, out(reg_byte) done, options(nomem, nostack));
            } else if features.rdrand {
                asm!("rdrand {}", "setc {}", out(reg) word, out(reg_byte) done, options(nomem, nostack));
            } else {
                return 0;
            }
        }
        if done != 0 {
            return word;
        }
    }
    0
}
