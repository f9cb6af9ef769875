//! Who is told that a page could not be written: everybody who has the file open, once. (Linux's `errseq_t`.)

use core::sync::atomic::{AtomicU32, Ordering};

use crate::pager::PagerError;

/// What failed last: the low bits.
const IO: u32 = 1;
const NO_SPACE: u32 = 2;
const KIND: u32 = 3;
/// Somebody has been told.
const SEEN: u32 = 4;
/// The count of errors begins here.
const COUNT: u32 = 8;

/// The errors of one file, as a number that changes with each error that comes after somebody was told of the last.
#[derive(Default)]
pub struct WriteErrors(AtomicU32);

impl WriteErrors {
    /// A page could not be written.
    pub fn record(&self, error: PagerError) {
        let kind = if error == PagerError::NoSpace { NO_SPACE } else { IO };
        let next = |old: u32| {
            let count = old & !(KIND | SEEN);
            Some(kind | if old & SEEN != 0 { count.wrapping_add(COUNT) } else { count })
        };
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
    }

    /// Where somebody begins who opens the file: behind what others were told, so an error nobody has seen is his, too.
    pub fn sample(&self) -> u32 {
        let now = self.0.load(Ordering::Acquire);
        if now & SEEN != 0 { now } else { 0 }
    }

    /// Whether anything failed since `since`, which moves on.
    ///
    /// # Errors
    /// [`PagerError::Io`], [`PagerError::NoSpace`].
    pub fn check(&self, since: &AtomicU32) -> Result<(), PagerError> {
        let known = since.load(Ordering::Relaxed);
        if self.0.load(Ordering::Acquire) == known {
            return Ok(());
        }
        let now = self.0.fetch_or(SEEN, Ordering::AcqRel) | SEEN;
        since.store(now, Ordering::Relaxed);
        match now & KIND {
            NO_SPACE => Err(PagerError::NoSpace),
            IO => Err(PagerError::Io),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_who_has_the_file_open_is_told_once() {
        let errors = WriteErrors::default();
        let [first, second] = [errors.sample(), errors.sample()].map(AtomicU32::new);
        assert_eq!(errors.check(&first), Ok(()));
        errors.record(PagerError::Io);
        let late = AtomicU32::new(errors.sample());
        assert_eq!(
            [&first, &first, &late].map(|who| errors.check(who)),
            [Err(PagerError::Io), Ok(()), Err(PagerError::Io)]
        );
        let after = AtomicU32::new(errors.sample());
        assert_eq!(errors.check(&after), Ok(()), "it was told to others before");
        errors.record(PagerError::NoSpace);
        for who in [&first, &second, &late, &after] {
            assert_eq!([errors.check(who), errors.check(who)], [Err(PagerError::NoSpace), Ok(())]);
        }
    }
}
