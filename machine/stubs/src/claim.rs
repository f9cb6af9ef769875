//! What a program says, kept apart from what the kernel knows.
//!
//! A program can write its block, and everything in it, at any moment, with all of its threads. So a word that is read there is a
//! [`Claim`], and the value in a claim can't be had but by the checks below. What the kernel *knows* of a stub comes from the host: that a
//! thread has stopped (`Halted`), that calls were carried out (`Carried`), that a process has ended. No right is
//! taken away, no page is handed out, and no thread is let go on the strength of a claim.

/// A value that a program wrote, true or made up.
#[derive(Clone, Copy, Debug)]
pub struct Claim<T>(T);

/// What a program may say of itself as it likes: whatever the value is, the program could have brought about the same honestly.
pub trait OwnAffair {}

/// What an untraced thread says by its word `TRAPPED`. It decides nothing: it is only the moment to read the rest.
#[derive(Clone, Copy, Debug)]
pub struct HasStopped;

impl<T> Claim<T> {
    /// Something read from where the program can write.
    pub fn new(said: T) -> Claim<T> {
        Claim(said)
    }

    /// What follows from a claim is a claim.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Claim<U> {
        Claim(f(self.0))
    }
}

impl<T: OwnAffair> Claim<T> {
    /// The value, since it makes no difference whether it is true.
    pub fn own_affair(self) -> T {
        self.0
    }
}

impl<T, const N: usize> Claim<[T; N]> {
    /// Several claims are one.
    pub fn all(said: [Claim<T>; N]) -> Claim<[T; N]> {
        Claim(said.map(|Claim(said)| said))
    }
}

impl Claim<usize> {
    /// A distance from `start` to the claimed address, if `length` bytes from there lie within `size` bytes, aligned to 8.
    pub fn offset_from(self, start: usize, length: usize, size: usize) -> Option<usize> {
        let offset = self.0.wrapping_sub(start);
        let fits = length <= size && offset <= size - length && offset.is_multiple_of(8);
        fits.then_some(offset)
    }

    /// The lower half of the claimed number, forced between two bounds.
    pub fn clamped(self, least: usize, most: usize) -> usize {
        (self.0 as u32 as usize).clamp(least.min(most), most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_address_is_taken_only_if_all_of_it_lies_within() {
        let offset = |address: usize, length| Claim::new(address).offset_from(0x8000, length, 0x1000);
        assert_eq!(offset(0x8000, 0x1000), Some(0));
        assert_eq!(offset(0x8ff8, 8), Some(0xff8));
        for (address, length) in
            [(0x8ff8, 9), (0x9000, 0), (0x8004, 8), (0x7ff8, 8), (usize::MAX - 7, 8), (0x8000, 0x1001)]
        {
            let found = offset(address, length);
            assert!(found.is_none() || found == Some(0x1000) && length == 0, "{address:#x} {length:#x} {found:?}");
        }
        assert_eq!(Claim::new(usize::MAX).clamped(512, 2048), 2048);
        assert_eq!(Claim::new(1 << 40).clamped(512, 2048), 512);
    }
}
