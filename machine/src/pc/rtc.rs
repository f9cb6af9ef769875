//! The battery-backed clock, read once at boot.

use super::port;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATING: u8 = 0x80;
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;
const AFTERNOON: u8 = 0x80;
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
            return decode(last, read(STATUS_B)).unwrap_or(0);
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

fn decode(raw: [u8; 6], status: u8) -> Option<u64> {
    let number = |value: u8| if status & BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) };
    let [second, minute, hour, day, month, year] = raw;
    let afternoon = status & HOURS_24 == 0 && hour & AFTERNOON != 0;
    let hour = number(if status & HOURS_24 == 0 { hour & !AFTERNOON } else { hour });
    let hour = if status & HOURS_24 == 0 { hour % 12 + if afternoon { 12 } else { 0 } } else { hour };
    let [second, minute, day, month, year] = [second, minute, day, month, year].map(number).map(u64::from);
    let valid =
        second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month) && year < 100;
    valid.then(|| days(2000 + year, month, day) * 86_400 + u64::from(hour) * 3600 + minute * 60 + second)
}

/// Days from the epoch to a date of this or the next century. Years begin in March, so that the leap day is the last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    const TO_EPOCH: u64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - TO_EPOCH
}
