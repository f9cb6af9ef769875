//! /proc/sys: what can be set, and what is only told. See proc_sys(5).
//!
//! A tree of names, fixed; each leaf is one line made at each read. Only what really does something can be written.

use alloc::sync::Arc;

use abi::system::{RELEASE, SYSTEM, VERSION};
use abi::{Errno, Result};
use machine::memory::FrameSource;
use process::{Kernel, Pid};
use vfs::{DirectoryEntry, DirectorySink, FileKind, Inode};

use crate::node::{Contents, Cursor, Directory, DirectoryInode, Head, Step, TextInode, Writer};
use crate::system::{System, View};
use crate::text::Text;

/// How many files may be open.
const FILE_MAX: usize = 1 << 20;

/// There may be a thread for so many frames.
const FRAMES_OF_THREAD: usize = 16;

/// Appends the value.
type Read = fn(&View<'_>, &mut Text);
type Write = fn(&Kernel, &[u8]) -> Result<()>;

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
            ("file-max", Fixed(|_, text| text.put(format_args!("{FILE_MAX}")))),
            ("file-nr", Fixed(|system, text| text.put(format_args!("{}\t0\t{FILE_MAX}", open_files(&system.kernel))))),
            ("nr_open", Fixed(|_, text| text.put(format_args!("1048576")))),
            ("pipe-max-size", Fixed(|_, text| text.put(format_args!("1048576")))),
            ("protected_hardlinks", Fixed(|_, text| text.put(format_args!("0")))),
            ("protected_symlinks", Fixed(|_, text| text.put(format_args!("0")))),
        ]),
    ),
    (
        "kernel",
        Below(&[
            ("arch", Fixed(|_, text| text.put(format_args!("{}", abi::arch::MACHINE)))),
            ("cap_last_cap", Fixed(|_, text| text.put(format_args!("40")))),
            ("core_pattern", Fixed(|_, text| text.put(format_args!("core")))),
            (
                "domainname",
                Changeable(
                    |system, text| text.bytes(&system.kernel.namespaces().uts().domain_name()),
                    |kernel, name| {
                        kernel.namespaces().uts().set_domain_name(name);
                        Ok(())
                    },
                ),
            ),
            (
                "hostname",
                Changeable(
                    |system, text| text.bytes(&system.kernel.namespaces().uts().host_name()),
                    |kernel, name| {
                        kernel.namespaces().uts().set_host_name(name);
                        Ok(())
                    },
                ),
            ),
            ("ngroups_max", Fixed(|_, text| text.put(format_args!("65536")))),
            ("osrelease", Fixed(|_, text| text.put(format_args!("{RELEASE}")))),
            ("ostype", Fixed(|_, text| text.put(format_args!("{SYSTEM}")))),
            ("overflowgid", Fixed(|_, text| text.put(format_args!("65534")))),
            ("overflowuid", Fixed(|_, text| text.put(format_args!("65534")))),
            (
                "pid_max",
                Changeable(
                    |system, text| text.put(format_args!("{}", system.kernel.processes().limit())),
                    |kernel, text| kernel.processes().set_limit(number(text)?),
                ),
            ),
            ("printk", Fixed(|_, text| text.put(format_args!("4\t4\t1\t7")))),
            (
                "random",
                Below(&[
                    ("boot_id", Fixed(|system, text| uuid(system.boot.id, text))),
                    ("entropy_avail", Fixed(|_, text| text.put(format_args!("256")))),
                    ("poolsize", Fixed(|_, text| text.put(format_args!("256")))),
                    ("uuid", Fixed(random_uuid)),
                ]),
            ),
            (
                "randomize_va_space",
                Fixed(|system, text| {
                    let randomises = system.kernel.memory().randomise();
                    text.put(format_args!("{}", if randomises { 2 } else { 0 }));
                }),
            ),
            ("tainted", Fixed(|_, text| text.put(format_args!("0")))),
            (
                "threads-max",
                Fixed(|system, text| {
                    let frames = system.kernel.memory().frames().total_frames();
                    text.put(format_args!("{}", frames / FRAMES_OF_THREAD));
                }),
            ),
            ("version", Fixed(|_, text| text.put(format_args!("{VERSION}")))),
        ]),
    ),
    (
        "vm",
        Below(&[
            ("max_map_count", Fixed(|_, text| text.put(format_args!("65530")))),
            ("mmap_min_addr", Fixed(|_, text| text.put(format_args!("65536")))),
            ("overcommit_memory", Fixed(|_, text| text.put(format_args!("0")))),
            ("overcommit_ratio", Fixed(|_, text| text.put(format_args!("50")))),
            ("swappiness", Fixed(|_, text| text.put(format_args!("60")))),
        ]),
    ),
];

/// A decimal number, as a program writes it.
fn number(text: &[u8]) -> Result<u64> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    text.trim_ascii().parse().map_err(|_| Errno::EINVAL)
}

/// The files that are open, each counted by process.
fn open_files(kernel: &Kernel) -> usize {
    let next = |after: Pid| kernel.processes().next(after.next());
    let processes = core::iter::successors(next(Pid::NOBODY), |process| next(process.pid()));
    processes.map(|process| process.files().count()).sum()
}

fn random_uuid(system: &View<'_>, text: &mut Text) {
    let mut bytes = [0; 16];
    system.kernel.random(&mut bytes);
    uuid(bytes, text);
}

/// The usual spelling of random bytes as a UUID of version 4.
fn uuid(bytes: [u8; 16], text: &mut Text) {
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let part = |low: u32, width: u32| (number >> low) & ((1 << width) - 1);
    let parts = [part(96, 32), part(80, 16), part(64, 16), part(48, 16)];
    for (value, digits) in parts.into_iter().zip([8, 4, 4, 4]) {
        text.put(format_args!("{value:0digits$x}-"));
    }
    text.put(format_args!("{:012x}", part(0, 48)));
}

static ROOT: Setting = Below(SYS);

/// The directory /proc/sys; its inode numbers count on from `number`.
pub(crate) fn directory(system: &Arc<System>, number: u64) -> Arc<dyn Inode> {
    make(system, number, &ROOT)
}

fn make(system: &Arc<System>, number: u64, setting: &'static Setting) -> Arc<dyn Inode> {
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
    system: Arc<System>,
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
    system: Arc<System>,
    read: Read,
    write: Option<Write>,
}

impl Contents for Leaf {
    fn show(&self, text: &mut Text, _cursor: &mut Cursor) -> Result<Step> {
        (self.read)(&self.system.view()?, text);
        text.bytes(b"\n");
        Ok(Step::End)
    }

    fn store(&self, bytes: &[u8], _writer: Writer) -> Result<()> {
        let line = bytes.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
        let write = self.write.ok_or(Errno::EPERM)?;
        write(&self.system.view()?.kernel, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_of_version_four() {
        let uuid = |bytes| {
            let mut text = Text::new();
            super::uuid(bytes, &mut text);
            String::from_utf8(text.finish().unwrap()).unwrap()
        };
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
