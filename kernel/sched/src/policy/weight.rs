//! Nice values as weights.

/// The weight of a nice value: each step is a factor of about 1.25, so that one step moves about a tenth of the CPU
/// from one task to another. Linux's table, so that shares come out as its users expect; nice 0 is [`NICE_0`].
const WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904, 3906, 3121, 2501,
    1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
];

/// The weight of nice 0: its virtual time passes as fast as real time.
pub const NICE_0: u32 = 1024;

/// The weight of a nice value from -20 to 19; values beyond count as the nearest.
pub fn weight_of(nice: i8) -> u32 {
    let index = (i32::from(nice) + 20).clamp(0, 39) as usize;
    WEIGHTS.get(index).copied().unwrap_or(NICE_0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_quarter_more() {
        assert_eq!(weight_of(0), NICE_0);
        assert_eq!((weight_of(-128), weight_of(127)), (88761, 15));
        for pair in WEIGHTS.windows(2) {
            let ratio = f64::from(pair[0]) / f64::from(pair[1]);
            assert!((1.15..1.35).contains(&ratio), "{pair:?}");
        }
    }
}
