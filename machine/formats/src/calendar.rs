//! The registers of a PC's battery-backed clock (MC146818).

const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATING: u8 = 0x80;
/// An update takes 2 ms; reading a register about 1 us.
const PATIENCE: u32 = 10_000;

const BINARY: u8 = 4;
const HOURS_24: u8 = 2;
const AFTERNOON: u8 = 0x80;

/// Seconds since the epoch by the clock whose registers `read` reads; 0 if there is none or it makes no sense.
pub fn seconds(read: impl Fn(u8) -> u8) -> u64 {
    let mut last = raw(&read);
    for _ in 0..4 {
        // An update in the middle of the reading shows by another reading.
        let again = raw(&read);
        if again == last {
            return decode(last, read(STATUS_B)).unwrap_or(0);
        }
        last = again;
    }
    0
}

/// Seconds, minutes, hours, day, month, year, as the registers have them.
fn raw(read: &impl Fn(u8) -> u8) -> [u8; 6] {
    for _ in 0..PATIENCE {
        if read(STATUS_A) & UPDATING == 0 {
            break;
        }
    }
    [0, 2, 4, 7, 8, 9].map(read)
}

/// Seconds since the epoch by the registers: seconds, minutes, hours, day, month, year; and status B, which says how to read
/// them. None if they make no sense. There is no century: the year is taken to be 2000 to 2099.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_both_notations() {
        assert_eq!(decode([0x56, 0x34, 0x12, 0x29, 0x02, 0x24], HOURS_24), Some(1_709_210_096)); // BCD: 2024-02-29 12:34:56
        assert_eq!(decode([56, 34, 12, 29, 2, 24], HOURS_24 | BINARY), Some(1_709_210_096));
        assert_eq!(decode([0, 0, 0, 1, 1, 0], HOURS_24 | BINARY), Some(946_684_800)); // 2000-01-01
        assert_eq!(decode([59, 59, 23, 31, 12, 99], HOURS_24 | BINARY), Some(4_102_444_799));
    }

    #[test]
    fn twelve_hours_a_half_day() {
        let at = |hour| decode([0, 0, hour, 1, 1, 0], BINARY).map(|seconds| (seconds - 946_684_800) / 3600);
        assert_eq!([at(12), at(1), at(0x80 | 12), at(0x80 | 11)], [Some(0), Some(1), Some(12), Some(23)]);
    }

    #[test]
    fn a_reading_into_which_an_update_falls_is_not_believed() {
        let registers = [59, 0, 59, 0, 23, 0, 0, 31, 12, 23, 0, BINARY | HOURS_24];
        assert_eq!(seconds(|register| registers[usize::from(register)]), 1_704_067_199);
        // The year changes after the first reading has its seconds.
        let reads = std::cell::Cell::new(0);
        let changing = |register: u8| {
            reads.set(reads.get() + 1);
            let after = [0, 0, 0, 0, 0, 0, 0, 1, 1, 24, 0, BINARY | HOURS_24];
            if reads.get() <= 3 { registers[usize::from(register)] } else { after[usize::from(register)] }
        };
        assert_eq!(seconds(changing), 1_704_067_200);
        let count = std::cell::Cell::new(0_u8);
        let never_the_same = |register: u8| {
            count.set(count.get().wrapping_add(1));
            if register == STATUS_A { 0 } else { count.get() }
        };
        assert_eq!(seconds(never_the_same), 0);
        assert_eq!(seconds(|_| 0xff), 0, "there is none");
    }

    #[test]
    fn no_clock_makes_no_sense() {
        assert_eq!(decode([0xff; 6], 0xff), None);
        assert_eq!(decode([0; 6], HOURS_24), None);
    }
}
