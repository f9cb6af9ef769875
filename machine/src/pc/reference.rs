//! Clocks whose frequency is known, to measure the others by: HPET, ACPI's timer, or the PIT.

use super::{acpi, local_apic, paging, port, time};
use core::ptr::NonNull;

/// Frequencies in Hz.
const PM_TIMER: u64 = 3_579_545;
const PIT: u64 = 1_193_182;
const PIT_DATA: u16 = 0x40;
const PIT_COMMAND: u16 = 0x43;
const FEMTOSECOND: u128 = 1_000_000;
/// Readings of which the quickest counts.
const READINGS: usize = 5;

/// Where all clocks stood at one moment.
pub struct Sample {
    /// The TSC.
    pub tsc: u64,
    /// The local APIC's timer.
    pub timer: u32,
    /// The reference; none if it is beyond its end.
    reference: Option<u32>,
}

/// The clock to measure by.
pub enum Reference {
    /// Registers, and femtoseconds per tick.
    Hpet(NonNull<u8>, u64),
    /// The port.
    PmTimer(u16),
    /// Counts down from 65535, once.
    Pit,
}

impl Reference {
    /// The best there is.
    pub fn find(platform: &acpi::Platform) -> Reference {
        if let Some(hpet) = platform.hpet.and_then(start_hpet) {
            return hpet;
        }
        if let Some(port) = platform.pm_timer {
            return Reference::PmTimer(port);
        }
        start_pit();
        Reference::Pit
    }

    /// Looks at all clocks, as much at the same moment as possible.
    pub fn sample(&mut self) -> Sample {
        let mut best = (u64::MAX, Sample { tsc: 0, timer: 0, reference: None });
        for _ in 0..READINGS {
            let before = time::ticks();
            let reference = self.read();
            // Before the second look at the TSC: a host may take the CPU away between any two of these.
            let timer = local_apic::counted();
            let after = time::ticks();
            if after.wrapping_sub(before) < best.0 {
                best = (after.wrapping_sub(before), Sample { tsc: before.midpoint(after), timer, reference });
            }
        }
        best.1
    }

    fn read(&mut self) -> Option<u32> {
        const MAIN_COUNTER: usize = 0xf0;
        // SAFETY: the mapped HPET; ports of timers, which do not touch memory.
        unsafe {
            match self {
                Reference::Hpet(registers, _) => Some(registers.byte_add(MAIN_COUNTER).cast().read_volatile()),
                Reference::PmTimer(port) => Some(port::read_u32(*port) & 0xff_ffff),
                Reference::Pit => {
                    port::write_u8(PIT_COMMAND, 0xc2); // read back status and count of channel 0
                    let status = port::read_u8(PIT_DATA);
                    let count = u16::from_le_bytes([port::read_u8(PIT_DATA), port::read_u8(PIT_DATA)]);
                    (status & 0x80 == 0).then_some(u32::from(u16::MAX - count))
                }
            }
        }
    }

    /// Nanoseconds from one sample to another; none if the clock cannot tell, and was started again.
    pub fn nanoseconds(&mut self, first: &Sample, last: &Sample) -> Option<u64> {
        let (Some(from), Some(to)) = (first.reference, last.reference) else {
            start_pit();
            return None;
        };
        let ticks = to.wrapping_sub(from);
        Some(match self {
            Reference::Hpet(_, period) => (u128::from(ticks) * u128::from(*period) / FEMTOSECOND) as u64,
            Reference::PmTimer(_) => u64::from(ticks & 0xff_ffff) * 1_000_000_000 / PM_TIMER,
            Reference::Pit => u64::from(ticks) * 1_000_000_000 / PIT,
        })
    }
}

fn start_hpet(address: usize) -> Option<Reference> {
    const PERIOD: usize = 4;
    const CONFIGURATION: usize = 0x10;
    const SLOWEST: u64 = 100_000_000;
    let registers = paging::map_device(address..address + 4096)?;
    // SAFETY: the mapped HPET; enabling its counter has no other effect.
    let period = unsafe {
        let configuration = registers.byte_add(CONFIGURATION).cast::<u32>();
        configuration.write_volatile(configuration.read_volatile() | 1);
        u64::from(registers.byte_add(PERIOD).cast::<u32>().read_volatile())
    };
    (1..=SLOWEST).contains(&period).then_some(Reference::Hpet(registers, period))
}

/// Starts channel 0 counting down once from the top. It raises its interrupt, which is masked, at most once.
fn start_pit() {
    // SAFETY: the timer's ports.
    unsafe {
        port::write_u8(PIT_COMMAND, 0x30); // both bytes, mode 0, binary
        port::write_u8(PIT_DATA, 0xff);
        port::write_u8(PIT_DATA, 0xff);
    }
}
