//! Mount options of tmpfs(5).

use abi::{Errno, Result};
use memory::PAGE_SIZE;

/// What a mount asks for; `None` was not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `size=` or `nr_blocks=`, in pages; 0 is said as `u64::MAX`.
    pub pages: Option<u64>,
    /// `nr_inodes=`; 0 is said as `u64::MAX`.
    pub inodes: Option<u64>,
    /// `mode=` of the top directory.
    pub mode: Option<u32>,
    /// `uid=` of the top directory.
    pub user: Option<u32>,
    /// `gid=` of the top directory.
    pub group: Option<u32>,
}

impl Options {
    /// Parses the options of a remount, where percentages make no sense.
    pub fn parse(text: &str) -> Result<Options> {
        Options::parse_for(text, 0)
    }

    /// Parses a comma-separated list for a machine of `total_pages`.
    pub fn parse_for(text: &str, total_pages: u64) -> Result<Options> {
        let mut options = Options::default();
        // Inode numbers have 64 bits anyway.
        for option in text.split(',').filter(|option| !matches!(*option, "" | "inode64")) {
            let (name, value) = option.split_once('=').ok_or(Errno::EINVAL)?;
            match name {
                "size" => options.pages = Some(limit(size(value, total_pages)?.div_ceil(PAGE_SIZE as u64))),
                "nr_blocks" => options.pages = Some(limit(with_suffix(value)?)),
                "nr_inodes" => options.inodes = Some(limit(with_suffix(value)?)),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    options.mode = Some(mode & 0o7777);
                }
                "uid" => options.user = Some(value.parse().map_err(|_| Errno::EINVAL)?),
                "gid" => options.group = Some(value.parse().map_err(|_| Errno::EINVAL)?),
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// 0 stands for no limit.
fn limit(value: u64) -> u64 {
    if value == 0 { u64::MAX } else { value }
}

/// Bytes, with a suffix, or a percentage of the machine's memory.
fn size(text: &str, total_pages: u64) -> Result<u64> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
            let bytes = total_pages.checked_mul(PAGE_SIZE as u64).and_then(|bytes| bytes.checked_mul(percent));
            Ok(bytes.ok_or(Errno::EINVAL)? / 100)
        }
        None => with_suffix(text),
    }
}

/// A number with `k`, `m`, `g` or `t` behind it, as Linux's `memparse` reads it.
fn with_suffix(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default() {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return Err(Errno::EINVAL),
    };
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_linux_does() {
        let options = Options::parse_for("size=10m,nr_inodes=1k,mode=755,uid=5", 0).unwrap();
        assert_eq!((options.pages, options.inodes), (Some(2560), Some(1024)));
        assert_eq!((options.mode, options.user, options.group), (Some(0o755), Some(5), None));
        assert_eq!(Options::parse_for("size=50%", 1000).unwrap().pages, Some(500));
        assert_eq!(Options::parse_for("size=1", 0).unwrap().pages, Some(1));
        assert_eq!(Options::parse_for("size=0", 0).unwrap().pages, Some(u64::MAX));
        for bad in ["size", "size=", "size=1q", "size=99999999999999999999", "mode=9", "colour=blue", "size=99999999t"]
        {
            assert_eq!(Options::parse_for(bad, 100), Err(Errno::EINVAL), "{bad}");
        }
    }
}
