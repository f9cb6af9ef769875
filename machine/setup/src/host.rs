//! What the host says of this process and its limits (proc(5)).

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// Bytes of addresses that this process may have (ulimit -v).
pub fn address_limit() -> usize {
    let limit = getrlimit(Resource::As).current;
    limit.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
}

/// An unnamed file of so many bytes, whose size is fixed: the memory of a machine, which its programs' processes map too.
///
/// # Errors
/// The host has no such files, or none so long.
pub fn memory_file(length: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create(c"orrery memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    if getrlimit(Resource::Fsize).current.is_some_and(|most| most < length) {
        return Err(io::Error::from_raw_os_error(libc::EFBIG)); // trying would send a signal that ends us
    }
    ftruncate(&memory, length)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(memory)
}

/// Mappings the host allows a process.
pub fn mapping_limit() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(65530)
}

/// Where the host put its code for this process (vdso(7)), if it did, and where to move it.
pub struct Vdso {
    /// Where it is.
    pub range: Range<usize>,
    /// Where it may go.
    pub to: usize,
}

impl Vdso {
    /// Looks it up. The place to move it is the first multiple of 4 GiB where nothing is.
    pub fn find() -> Option<Vdso> {
        Vdso::among(&std::fs::read_to_string("/proc/self/maps").ok()?)
    }

    /// The same, by what that file says.
    fn among(maps: &str) -> Option<Vdso> {
        let address = |digits: &str| usize::from_str_radix(digits, 16).ok();
        let range = |line: &str| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            Some(address(start)?..address(end)?)
        };
        let vdso = maps.lines().find(|line| line.ends_with("[vdso]")).and_then(range)?;
        let is_free = |to: usize| {
            let overlaps = |other: Range<usize>| other.start < to + vdso.len() && to < other.end;
            !maps.lines().filter_map(range).any(overlaps)
        };
        let to = (1..64).map(|multiple| multiple << 32).find(|to| is_free(*to))?;
        Some(Vdso { range: vdso, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_memory_file_is_fixed() {
        let memory = memory_file(3 << 12).unwrap();
        assert_eq!(rustix::fs::fstat(&memory).unwrap().st_size, 3 << 12);
        assert!(ftruncate(&memory, 2 << 12).is_err() && ftruncate(&memory, 4 << 12).is_err());
        assert!(memory_file(u64::MAX).is_err(), "there is no such length");
    }

    #[test]
    fn it_is_moved_to_where_nothing_is() {
        let maps = "100000000-100001000 r--p 0 00:00 0 /bin/x\n1fffff000-200001000 rw-p 0 00:00 0\n\
                    7ffff000-80001000 r-xp 0 00:00 0    [vdso]\n";
        let vdso = Vdso::among(maps).unwrap();
        assert_eq!((vdso.range, vdso.to), (0x7fff_f000..0x8000_1000, 3 << 32));
        assert!(Vdso::among("1000-2000 r--p 0 00:00 0 /bin/x\n").is_none());
        assert!(mapping_limit() > 0);
    }
}
