//! Extended attributes in memory, xattr(7).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use abi::fallible::{try_collect, try_to_box};
use abi::{Errno, Result};
use vfs::XattrFlags;

/// The most that the names and values of one file may take together.
const MAX_TOTAL: usize = 128 * 1024;

/// What Linux counts for an attribute beside its name and value (`struct simple_xattr`).
const OVERHEAD: usize = 40;

/// How much an attribute takes of what a file system has for inodes and attributes, in bytes.
pub(super) fn space(name: &[u8], value: &[u8]) -> u64 {
    (OVERHEAD + name.len() + value.len()) as u64
}

/// The attributes of one file, by name.
#[derive(Default)]
pub(super) struct Xattrs(BTreeMap<Box<[u8]>, Box<[u8]>>);

impl Xattrs {
    pub fn get(&self, name: &[u8]) -> Result<Box<[u8]>> {
        try_to_box(self.0.get(name).ok_or(Errno::ENODATA)?)
    }

    /// Returns the space of the attribute that was replaced, if one was.
    pub fn set(&mut self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<u64> {
        match self.0.contains_key(name) {
            true if flags.contains(XattrFlags::CREATE) => return Err(Errno::EEXIST),
            false if flags.contains(XattrFlags::REPLACE) => return Err(Errno::ENODATA),
            _ => {}
        }
        let others = self.0.iter().filter(|(other, _)| &***other != name);
        let total: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if total + name.len() + value.len() > MAX_TOTAL {
            return Err(Errno::ENOSPC);
        }
        let old = self.0.insert(try_to_box(name)?, try_to_box(value)?);
        Ok(old.map_or(0, |old| space(name, &old)))
    }

    /// Returns the space it had.
    pub fn remove(&mut self, name: &[u8]) -> Result<u64> {
        self.0.remove(name).map(|old| space(name, &old)).ok_or(Errno::ENODATA)
    }

    /// The space of all.
    pub fn space(&self) -> u64 {
        self.0.iter().map(|(name, value)| space(name, value)).sum()
    }

    pub fn list(&self) -> Result<Vec<u8>> {
        try_collect(self.0.keys().flat_map(|name| name.iter().copied().chain([0])))
    }
}
