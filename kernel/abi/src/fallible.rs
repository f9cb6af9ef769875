//! Growth that can fail: the standard collections' growing operations, with `ENOMEM` where those would end the kernel.
//!
//! Whatever a program can make large grows by these. `./x check` refuses the operations of the same names without `try_`
//! in kernel rooms, but where a reason stands beside them.

#![expect(clippy::disallowed_methods, reason = "room was made before")]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use machine::memory::fallible;

use crate::{Errno, Result};

/// Growing operations of [`Vec`].
pub trait TryVec<T> {
    /// As `push`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn try_push(&mut self, value: T) -> Result<()>;

    /// As `extend`; what fitted before memory ran out stays.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<()>;

    /// As `extend_from_slice`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn try_extend_from_slice(&mut self, values: &[T]) -> Result<()>
    where
        T: Clone;

    /// As `resize`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn try_resize(&mut self, length: usize, value: T) -> Result<()>
    where
        T: Clone;
}

impl<T> TryVec<T> for Vec<T> {
    #[inline]
    fn try_push(&mut self, value: T) -> Result<()> {
        fallible(|| self.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        self.push(value);
        Ok(())
    }

    fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<()> {
        let values = values.into_iter();
        fallible(|| self.try_reserve(values.size_hint().0)).map_err(|_| Errno::ENOMEM)?;
        for value in values {
            self.try_push(value)?;
        }
        Ok(())
    }

    fn try_extend_from_slice(&mut self, values: &[T]) -> Result<()>
    where
        T: Clone,
    {
        fallible(|| self.try_reserve(values.len())).map_err(|_| Errno::ENOMEM)?;
        self.extend_from_slice(values);
        Ok(())
    }

    fn try_resize(&mut self, length: usize, value: T) -> Result<()>
    where
        T: Clone,
    {
        fallible(|| self.try_reserve(length.saturating_sub(self.len()))).map_err(|_| Errno::ENOMEM)?;
        self.resize(length, value);
        Ok(())
    }
}

/// Growing operations of [`VecDeque`].
pub trait TryVecDeque<T> {
    /// As `push_back`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn try_push_back(&mut self, value: T) -> Result<()>;
}

impl<T> TryVecDeque<T> for VecDeque<T> {
    #[inline]
    fn try_push_back(&mut self, value: T) -> Result<()> {
        fallible(|| self.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        self.push_back(value);
        Ok(())
    }
}

/// Growing operations of [`String`].
pub trait TryString {
    /// As `push_str`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn try_push_str(&mut self, text: &str) -> Result<()>;
}

impl TryString for String {
    fn try_push_str(&mut self, text: &str) -> Result<()> {
        fallible(|| self.try_reserve(text.len())).map_err(|_| Errno::ENOMEM)?;
        self.push_str(text);
        Ok(())
    }
}

/// All values of an iterator, as `collect`.
///
/// # Errors
/// `ENOMEM`.
pub fn try_collect<T>(values: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_extend(values)?;
    Ok(all)
}

/// A copy, as `to_vec`.
///
/// # Errors
/// `ENOMEM`.
pub fn try_to_vec<T: Clone>(values: &[T]) -> Result<Vec<T>> {
    let mut copy = Vec::new();
    fallible(|| copy.try_reserve_exact(values.len())).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(values);
    Ok(copy)
}

/// A copy that will not grow, as `Box::from`.
///
/// # Errors
/// `ENOMEM`.
pub fn try_to_box<T: Clone>(values: &[T]) -> Result<Box<[T]>> {
    // Of exactly that size, so that nothing is moved.
    Ok(try_to_vec(values)?.into_boxed_slice())
}

/// So many zeros, as `vec![0; length]`.
///
/// # Errors
/// `ENOMEM`.
pub fn try_zeroed(length: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fallible(|| bytes.try_reserve_exact(length)).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(length, 0);
    Ok(bytes)
}

/// A text, as `format!`.
///
/// # Errors
/// `ENOMEM`.
pub fn try_format(arguments: fmt::Arguments<'_>) -> Result<String> {
    struct Writer(String);
    impl fmt::Write for Writer {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.try_push_str(text).map_err(|_| fmt::Error)
        }
    }
    let mut writer = Writer(String::new());
    fmt::write(&mut writer, arguments).map_err(|_| Errno::ENOMEM)?;
    Ok(writer.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_refused() {
        let mut vector = alloc::vec![1_u64];
        assert_eq!(vector.try_extend(0..u64::MAX), Err(Errno::ENOMEM));
        assert_eq!(vector.try_resize(usize::MAX, 0), Err(Errno::ENOMEM));
        assert_eq!(vector, [1]);
        assert_eq!(try_zeroed(usize::MAX), Err(Errno::ENOMEM));
    }

    #[test]
    fn the_rest_is_as_without_try() {
        let mut vector = try_collect(1..3).unwrap();
        vector.try_push(3).unwrap();
        vector.try_extend_from_slice(&[4, 5]).unwrap();
        assert_eq!(&*try_to_box(&vector).unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(try_format(format_args!("{}-{:02}", "a", 7)).unwrap(), "a-07");
    }
}
