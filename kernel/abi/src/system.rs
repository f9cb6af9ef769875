//! The machine as a whole: uname(2), sysinfo(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The longest host or domain name, without its final zero.
pub const NAME_LENGTH: usize = 64;

/// `sysname` of uname(2): what programs expect.
pub const SYSTEM: &str = "Linux";
/// `release` of uname(2), and in /proc/version: the Linux whose behaviour this is, and who it really is.
pub const RELEASE: &str = "6.12.0-orrery";
/// `version` of uname(2): the build.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC Orrery";

/// `struct new_utsname`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UtsName {
    /// `sysname`: `Linux`
    pub system: [u8; NAME_LENGTH + 1],
    /// `nodename`
    pub node: [u8; NAME_LENGTH + 1],
    /// `release`
    pub release: [u8; NAME_LENGTH + 1],
    /// `version`
    pub version: [u8; NAME_LENGTH + 1],
    /// `machine`: [`crate::arch::MACHINE`]
    pub machine: [u8; NAME_LENGTH + 1],
    /// `domainname`
    pub domain: [u8; NAME_LENGTH + 1],
}

/// `struct sysinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SystemInformation {
    /// `uptime` in seconds
    pub uptime: i64,
    /// `loads` over 1, 5 and 15 minutes, with 16 bits of fraction
    pub loads: [u64; 3],
    /// `totalram`
    pub total_memory: u64,
    /// `freeram`
    pub free_memory: u64,
    /// `sharedram`
    pub shared_memory: u64,
    /// `bufferram`
    pub buffers: u64,
    /// `totalswap`
    pub total_swap: u64,
    /// `freeswap`
    pub free_swap: u64,
    /// `procs`: threads
    pub processes: u16,
    /// Always 0.
    pub padding: u16,
    /// Always 0.
    pub padding2: u32,
    /// `totalhigh`: 0 on 64-bit machines
    pub total_high: u64,
    /// `freehigh`: 0 on 64-bit machines
    pub free_high: u64,
    /// `mem_unit`: the sizes above count units of so many bytes
    pub unit: u32,
    /// Always 0.
    pub padding3: u32,
}

impl UtsName {
    /// A field that holds `text`, cut to the longest name.
    pub fn field(text: &[u8]) -> [u8; NAME_LENGTH + 1] {
        let mut field = [0; NAME_LENGTH + 1];
        for (place, byte) in field.iter_mut().zip(text.iter().take(NAME_LENGTH)) {
            *place = *byte;
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts_are_linux_s() {
        assert_eq!((size_of::<UtsName>(), size_of::<SystemInformation>()), (390, 112));
        assert_eq!((offset_of!(SystemInformation, processes), offset_of!(SystemInformation, unit)), (80, 104));
        assert_eq!(UtsName::field(&[b'x'; 100])[NAME_LENGTH], 0);
    }
}
