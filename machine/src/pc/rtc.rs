//! The battery-backed clock, read once at boot.

use super::port;
use formats::calendar;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

fn read(register: u8) -> u8 {
    // SAFETY: the ports of the clock.
    unsafe {
        port::write_u8(INDEX, register);
        port::read_u8(DATA)
    }
}

/// Seconds since the epoch by the clock; 0 if there is none or it makes no sense.
pub fn seconds() -> u64 {
    calendar::seconds(read)
}
