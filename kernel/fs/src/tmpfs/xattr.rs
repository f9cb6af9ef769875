//! Extended attributes in memory, xattr(7).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use abi::{Errno, Result};
use vfs::XattrFlags;

/// The most that the names and values of one file may take together.
const MAX_TOTAL: usize = 128 * 1024;

/// The attributes of one file, by name.
#[derive(Default)]
pub(super) struct Xattrs(BTreeMap<Box<[u8]>, Box<[u8]>>);

impl Xattrs {
    pub fn get(&self, name: &[u8]) -> Result<Box<[u8]>> {
        self.0.get(name).cloned().ok_or(Errno::ENODATA)
    }

    pub fn set(&mut self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
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
        self.0.insert(name.into(), value.into());
        Ok(())
    }

    pub fn remove(&mut self, name: &[u8]) -> Result<()> {
        self.0.remove(name).map(|_| ()).ok_or(Errno::ENODATA)
    }

    pub fn list(&self) -> Vec<u8> {
        self.0.keys().flat_map(|name| name.iter().copied().chain([0])).collect()
    }
}
