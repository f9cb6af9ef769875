//! A value that is made when it is first needed, and stays.

use crate::spin_lock::ServeOthers;

/// A place for a value that is made once. Reading it is one load; who comes while another makes it spins.
pub struct Once<T>(spin::once::Once<T, ServeOthers>);

impl<T> Once<T> {
    /// An empty place.
    pub const fn new() -> Once<T> {
        Once(spin::once::Once::new())
    }

    /// The value, if it was made.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// The value, which `make` makes if nobody has.
    ///
    /// # Errors
    /// That of `make`: the next who comes tries again.
    pub fn get_or_try<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        self.0.try_call_once(make)
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Once;

    #[test]
    fn what_failed_is_tried_again_and_what_is_there_stays() {
        let once = Once::new();
        assert_eq!(once.get_or_try(|| Err::<u32, _>("no")), Err("no"));
        assert!(once.get().is_none());
        assert_eq!(once.get_or_try(|| Ok::<_, &str>(1)), Ok(&1));
        assert_eq!(once.get_or_try(|| Ok::<_, &str>(2)), Ok(&1));
        assert_eq!(once.get(), Some(&1));
    }
}
