//! What programs asked for in vain: numbers Orrery has no call for, and flags it doesn't do.
//!
//! An unanswered question is not an error of the kernel, but it tells which call to write next. So every `ENOSYS` for a
//! number without a row, and every error after flags without a name, is counted here and can be reported when the
//! machine stops.

use core::fmt;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use sync::SpinLock;

/// One thing that was asked for in vain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Refusal {
    /// The number of the call.
    pub number: usize,
    /// The flags that are not done, or 0 if the whole call is not.
    pub flags: u32,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match crate::table::name_of(self.number) {
            Some(name) => formatter.write_str(name)?,
            None => write!(formatter, "system call {}", self.number)?,
        }
        if self.flags == 0 { Ok(()) } else { write!(formatter, " with flags {:#x}", self.flags) }
    }
}

/// All refusals so far, and how often each occurred.
#[derive(Default)]
pub struct Refusals {
    counts: SpinLock<BTreeMap<Refusal, u64>>,
}

impl Refusals {
    /// How many different refusals are kept: a program that tries random numbers must not fill memory.
    const KEPT: usize = 512;

    /// Counts one.
    pub fn count(&self, refusal: Refusal) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&refusal) {
            *count = count.saturating_add(1);
        } else if counts.len() < Self::KEPT {
            counts.insert(refusal, 1);
        }
    }

    /// Every refusal with its count, by number.
    #[expect(clippy::disallowed_methods, reason = "at the end; as many as there are calls")]
    pub fn list(&self) -> Vec<(Refusal, u64)> {
        self.counts.lock().iter().map(|(&refusal, &count)| (refusal, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_apart_and_bounded() {
        let refusals = Refusals::default();
        let socket = Refusal { number: 41, flags: 0 };
        refusals.count(socket);
        refusals.count(socket);
        refusals.count(Refusal { number: 9, flags: 0x40000 });
        assert_eq!(refusals.list(), [(Refusal { number: 9, flags: 0x40000 }, 1), (socket, 2)]);
        for number in 0..10_000 {
            refusals.count(Refusal { number, flags: 1 });
        }
        refusals.count(socket);
        let list = refusals.list();
        assert_eq!(list.len(), Refusals::KEPT);
        assert!(list.contains(&(socket, 3)));
    }
}
