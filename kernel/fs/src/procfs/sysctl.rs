//! /proc/sys: what can be set, and what is only told. See proc_sys(5).
//!
//! A tree of names, fixed; each leaf is one line made at each read. Only what really does something can be written.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use vfs::{DirectoryEntry, DirectorySink, FileKind, Inode};

use super::node::{Contents, Directory, DirectoryInode, Head, TextInode};
use super::source::SystemSource;

type Read = fn(&dyn SystemSource) -> String;
type Write = fn(&dyn SystemSource, &[u8]) -> Result<()>;

enum Setting {
    Directory(&'static [(&'static str, Setting)]),
    /// Told, never set.
    Fixed(Read),
    /// Set by the superuser.
    Changeable(Read, Write),
}

use Setting::{Changeable, Directory as Below, Fixed};

const SYS: &[(&str, Setting)] = &[
    (
        "fs",
        Below(&[
            ("file-max", Fixed(|system| system.open_files().1.to_string())),
            ("file-nr", Fixed(|system| format!("{}\t0\t{}", system.open_files().0, system.open_files().1))),
            ("nr_open", Fixed(|_| "1048576".into())),
            ("pipe-max-size", Fixed(|_| "1048576".into())),
            ("protected_hardlinks", Fixed(|_| "0".into())),
            ("protected_symlinks", Fixed(|_| "0".into())),
        ]),
    ),
    (
        "kernel",
        Below(&[
            ("arch", Fixed(|_| "x86_64".into())),
            ("cap_last_cap", Fixed(|_| "40".into())),
            ("core_pattern", Fixed(|_| "core".into())),
            ("domainname", Changeable(|system| system.name().domain, |system, name| system.set_domain_name(name))),
            ("hostname", Changeable(|system| system.name().node, |system, name| system.set_host_name(name))),
            ("ngroups_max", Fixed(|_| "65536".into())),
            ("osrelease", Fixed(|system| system.name().release)),
            ("ostype", Fixed(|system| system.name().system)),
            ("overflowgid", Fixed(|_| "65534".into())),
            ("overflowuid", Fixed(|_| "65534".into())),
            ("pid_max", Fixed(|system| system.process_number_limit().to_string())),
            ("printk", Fixed(|_| "4\t4\t1\t7".into())),
            (
                "random",
                Below(&[
                    ("boot_id", Fixed(|system| uuid(system.boot_id()))),
                    ("entropy_avail", Fixed(|_| "256".into())),
                    ("poolsize", Fixed(|_| "256".into())),
                    ("uuid", Fixed(random_uuid)),
                ]),
            ),
            ("randomize_va_space", Fixed(|system| if system.randomises_addresses() { "2".into() } else { "0".into() })),
            ("tainted", Fixed(|_| "0".into())),
            ("threads-max", Fixed(|system| system.thread_limit().to_string())),
            ("version", Fixed(|system| system.name().version)),
        ]),
    ),
    (
        "vm",
        Below(&[
            ("max_map_count", Fixed(|_| "65530".into())),
            ("mmap_min_addr", Fixed(|_| "65536".into())),
            ("overcommit_memory", Fixed(|_| "0".into())),
            ("overcommit_ratio", Fixed(|_| "50".into())),
            ("swappiness", Fixed(|_| "60".into())),
        ]),
    ),
];

fn random_uuid(system: &dyn SystemSource) -> String {
    let mut bytes = [0; 16];
    system.random(&mut bytes);
    uuid(bytes)
}

/// The usual spelling of random bytes as a UUID of version 4.
fn uuid(bytes: [u8; 16]) -> String {
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let part = |low: u32, width: u32| (number >> low) & ((1 << width) - 1);
    format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", part(96, 32), part(80, 16), part(64, 16), part(48, 16), part(0, 48))
}

static ROOT: Setting = Below(SYS);

/// The directory /proc/sys; its inode numbers count on from `number`.
pub(super) fn directory(system: &Arc<dyn SystemSource>, number: u64) -> Arc<dyn Inode> {
    make(system, number, &ROOT)
}

fn make(system: &Arc<dyn SystemSource>, number: u64, setting: &'static Setting) -> Arc<dyn Inode> {
    let head = |permissions| Head { number, permissions, owner: (0, 0) };
    match setting {
        Below(entries) => DirectoryInode::shared(head(0o555), Branch { system: system.clone(), number, entries }),
        Fixed(read) => TextInode::shared(head(0o444), Leaf { system: system.clone(), read: *read, write: None }),
        Changeable(read, write) => {
            TextInode::shared(head(0o644), Leaf { system: system.clone(), read: *read, write: Some(*write) })
        }
    }
}

struct Branch {
    system: Arc<dyn SystemSource>,
    number: u64,
    entries: &'static [(&'static str, Setting)],
}

impl Branch {
    /// Numbers differ along every path: 32 entries a directory, three levels.
    fn number_of(&self, index: usize) -> u64 {
        self.number.saturating_mul(32).saturating_add(index as u64 + 1)
    }
}

impl Directory for Branch {
    fn is_fixed(&self) -> bool {
        true
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let mut entries = self.entries.iter().enumerate();
        let (index, (_, setting)) = entries.find(|(_, (known, _))| known.as_bytes() == name).ok_or(Errno::ENOENT)?;
        Ok(make(&self.system, self.number_of(index), setting))
    }

    fn list(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        for (index, (name, setting)) in self.entries.iter().enumerate() {
            let cookie = index as u64 + 2;
            if cookie < *position {
                continue;
            }
            let kind = if matches!(setting, Below(_)) { FileKind::Directory } else { FileKind::Regular };
            let number = self.number_of(index);
            if !sink.entry(DirectoryEntry { name: name.as_bytes(), number, kind, next: cookie + 1 }) {
                break;
            }
            *position = cookie + 1;
        }
        Ok(())
    }
}

struct Leaf {
    system: Arc<dyn SystemSource>,
    read: Read,
    write: Option<Write>,
}

impl Contents for Leaf {
    fn text(&self) -> Result<Vec<u8>> {
        let mut line = (self.read)(&*self.system);
        line.push('\n');
        Ok(line.into_bytes())
    }

    fn store(&self, bytes: &[u8], _process: u32) -> Result<()> {
        let line = bytes.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
        self.write.map_or(Err(Errno::EPERM), |write| write(&*self.system, line))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn uuids_are_of_version_four() {
        assert_eq!(super::uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(super::uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
