//! The battery-backed clock, read once at boot.

use super::port;
use formats::calendar;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATING: u8 = 0x80;
/// An update takes 2 ms; a port access about 1 us.
const PATIENCE: u32 = 10_000;

fn read(register: u8) -> u8 {
    // SAFETY: the ports of the clock.
    unsafe {
        port::write_u8(INDEX, register);
        port::read_u8(DATA)
    }
}

/// Seconds since the epoch by the clock; 0 if there is none or it makes no sense.
pub fn seconds() -> u64 {
    let mut last = raw();
    for _ in 0..4 {
        // An update in the middle of the reading shows by another reading.
        let again = raw();
        if again == last {
            return calendar::decode(last, read(STATUS_B)).unwrap_or(0);
        }
        last = again;
    }
    0
}

/// Seconds, minutes, hours, day, month, year, as the registers have them.
fn raw() -> [u8; 6] {
    for _ in 0..PATIENCE {
        if read(STATUS_A) & UPDATING == 0 {
            break;
        }
    }
    [0, 2, 4, 7, 8, 9].map(read)
}
