//! [`UserAddress`] and [`PageNumber`]: where something is in a program.

use core::fmt;

/// A page has two to the power of so many bytes.
pub const PAGE_SHIFT: u32 = 12;

/// An address of a program: 64 bits, on every machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserAddress(u64);

/// Which page of a program: its address without the bits inside the page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageNumber(u64);

impl UserAddress {
    /// The address with this number.
    #[inline]
    pub const fn new(address: u64) -> UserAddress {
        UserAddress(address)
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The page it is in.
    #[inline]
    pub const fn page(self) -> PageNumber {
        PageNumber(self.0 >> PAGE_SHIFT)
    }

    /// Bytes from the start of its page.
    #[inline]
    pub const fn offset_in_page(self) -> usize {
        (self.0 & ((1 << PAGE_SHIFT) - 1)) as usize
    }

    /// The address so many bytes further on, if there is one.
    #[inline]
    pub const fn checked_add(self, bytes: u64) -> Option<UserAddress> {
        match self.0.checked_add(bytes) {
            Some(address) => Some(UserAddress(address)),
            None => None,
        }
    }
}

impl PageNumber {
    /// The page with this number.
    #[inline]
    pub const fn new(number: u64) -> PageNumber {
        PageNumber(number)
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Its first address. Of a number that no address has, the bits beyond are lost.
    #[inline]
    pub const fn start(self) -> UserAddress {
        UserAddress(self.0 << PAGE_SHIFT)
    }
}

impl From<u64> for UserAddress {
    #[inline]
    fn from(address: u64) -> UserAddress {
        UserAddress(address)
    }
}

/// The kernel's own words are never longer.
impl From<usize> for UserAddress {
    #[inline]
    fn from(address: usize) -> UserAddress {
        UserAddress(address as u64)
    }
}

/// Where the kernel's own words are as long, they can hold one.
#[cfg(target_pointer_width = "64")]
impl From<UserAddress> for usize {
    #[inline]
    fn from(address: UserAddress) -> usize {
        address.0 as usize
    }
}

impl fmt::Debug for UserAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for UserAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Debug for PageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_page_and_a_place_in_it() {
        let address = UserAddress::new(0x7fff_ffff_f123);
        assert_eq!(address.page(), PageNumber::new(0x7_ffff_ffff));
        assert_eq!((address.page().start().get(), address.offset_in_page()), (0x7fff_ffff_f000, 0x123));
        assert_eq!(address.checked_add(0xedd).map(UserAddress::get), Some(0x8000_0000_0000));
        assert_eq!(UserAddress::new(u64::MAX).checked_add(1), None);
        let texts = format!("{address:?} {address:x} {:?}", address.page());
        assert_eq!(texts, "0x7ffffffff123 7ffffffff123 page 0x7ffffffff");
    }
}
