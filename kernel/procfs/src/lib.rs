//! /proc: the system and its processes as texts, in Linux's formats. See proc(5).
//!
//! | file | what it holds |
//! | --- | --- |
//! | `node` | the kinds of inode: texts, directories, links |
//! | `text` | building texts |
//! | `subject` | whom a file is about: a process or one of its threads, which it keeps no hold of |
//! | `process` | /proc/PID and below: which files there are, who may read them, `task` |
//! | `descriptors` | `fd`, `fdinfo` |
//! | `status`, `maps`, `mounts`, `strings`, `oom` | the texts about a process |
//! | `system`, `meminfo`, `cpuinfo` | the texts about the system |
//! | `sysctl` | /proc/sys |
//!
//! **Who calls.** kernel/orrery makes the file system and hands over what it alone knows; vfs calls it for programs. The texts ask the rooms
//! that know: process, memory, sched, vfs.
//!
//! **Who synchronises.** Nothing here has state but the part of a text an open file was last read from. What is shown is taken under
//! whatever locks its room needs for that, and is a value then; texts are made from values without any lock.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod cpuinfo;
mod descriptors;
mod maps;
mod meminfo;
mod mounts;
mod node;
mod oom;
mod process;
mod status;
mod strings;
mod subject;
mod sysctl;
mod system;
#[cfg(test)]
mod tests;
mod text;

use alloc::sync::Arc;

use ::process::Kernel;
use abi::{Errno, Result};
use tty::Terminal;
use vfs::{Caller, DirectoryEntry, DirectorySink, FileKind, FileSystem, FileSystemType, Inode, Link, Statistics};

use node::{
    Contents, Cursor, Directory, DirectoryInode, Head, LINK_PERMISSIONS, LinkInode, Step, Target, TextInode, to_text,
};
use system::{System, SystemText};
use text::{Digits, Text};

pub use system::NameOf;

/// `PROC_SUPER_MAGIC`.
const MAGIC: u64 = 0x9fa0;
/// The inode number of the top directory, and where those of its fixed entries begin.
const ROOT_NUMBER: u64 = 1;
const FIRST_NUMBER: u64 = 0xf000_0000;
/// Cookies of processes are their numbers plus this.
const FIRST_PROCESS_COOKIE: u64 = 256;

/// The file system, one for all its mounts.
pub struct ProcFs {
    root: Arc<dyn Inode>,
}

impl ProcFs {
    /// /proc of this kernel, which it doesn't keep alive. `console` is the terminal that shows the kernel's messages; `name_of` names
    /// what a task did for long.
    pub fn new(kernel: &Arc<Kernel>, console: Option<&Terminal>, name_of: NameOf) -> Arc<ProcFs> {
        let head = Head { number: ROOT_NUMBER, permissions: 0o555, owner: (0, 0) };
        let system = Arc::new(System::new(kernel, console, name_of));
        Arc::new(ProcFs { root: DirectoryInode::shared(head, Root(system)) })
    }
}

impl FileSystem for ProcFs {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn statistics(&self) -> Statistics {
        Statistics { magic: MAGIC, block_size: 4096, name_length: 255, ..Statistics::default() }
    }
}

/// `mount -t proc`.
pub struct ProcFsType(pub Arc<ProcFs>);

impl FileSystemType for ProcFsType {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn mount(&self, _source: &[u8], options: &str, _caller: &dyn Caller) -> Result<Arc<dyn FileSystem>> {
        if options.is_empty() { Ok(self.0.clone()) } else { Err(Errno::EINVAL) }
    }
}

struct Root(Arc<System>);

/// The fixed entries at the top that are not texts.
#[derive(Clone, Copy)]
enum Special {
    Own,
    OwnThread,
    Mounts,
    Net,
    Sys,
}

const SPECIALS: [(&str, FileKind, Special); 5] = [
    ("mounts", FileKind::Symlink, Special::Mounts),
    ("net", FileKind::Directory, Special::Net),
    ("self", FileKind::Symlink, Special::Own),
    ("sys", FileKind::Directory, Special::Sys),
    ("thread-self", FileKind::Symlink, Special::OwnThread),
];

impl Root {
    /// Names and kinds of the fixed entries; the index gives cookie and inode number.
    fn fixed() -> impl Iterator<Item = (u64, &'static str, FileKind)> {
        let files = system::FILES.iter().map(|(name, ..)| (*name, FileKind::Regular));
        let specials = SPECIALS.iter().map(|(name, kind, _)| (*name, *kind));
        (0..).zip(files.chain(specials)).map(|(index, (name, kind))| (index, name, kind))
    }

    fn special(&self, index: u64, special: Special) -> Arc<dyn Inode> {
        let number = FIRST_NUMBER + index;
        let head = |permissions| Head { number, permissions, owner: (0, 0) };
        match special {
            Special::Own | Special::OwnThread | Special::Mounts => {
                LinkInode::shared(head(LINK_PERMISSIONS), Pointer(special), 0)
            }
            Special::Net => DirectoryInode::shared(head(0o555), Empty),
            Special::Sys => sysctl::directory(&self.0, number),
        }
    }
}

impl Directory for Root {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if let Some(thread) = process::number(name) {
            return self.0.subject(thread).map(process::directory).ok_or(Errno::ENOENT);
        }
        let (index, ..) = Root::fixed().find(|(_, known, _)| known.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let special = |index: usize| SPECIALS.get(index.checked_sub(system::FILES.len())?);
        match (system::FILES.get(index as usize), special(index as usize)) {
            (Some((_, permissions, show)), _) => {
                let head = Head { number: FIRST_NUMBER + index, permissions: *permissions, owner: (0, 0) };
                Ok(TextInode::shared(head, SystemFile { system: self.0.clone(), show: *show }))
            }
            (None, Some((_, _, special))) => Ok(self.special(index, *special)),
            (None, None) => Err(Errno::ENOENT),
        }
    }

    fn list(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        if *position < FIRST_PROCESS_COOKIE {
            for (index, name, kind) in Root::fixed() {
                let cookie = index + 2;
                if cookie < *position {
                    continue;
                }
                let number = FIRST_NUMBER + index;
                if !sink.entry(DirectoryEntry { name: name.as_bytes(), number, kind, next: cookie + 1 }) {
                    return Ok(());
                }
                *position = cookie + 1;
            }
            *position = FIRST_PROCESS_COOKIE;
        }
        // The cookie behind process N is N plus the first: what follows it is greater than N.
        while let Ok(after) = u32::try_from(*position - FIRST_PROCESS_COOKIE)
            && let Some(number) = self.0.next_process(after)
        {
            let next = FIRST_PROCESS_COOKIE + u64::from(number);
            let name = Digits::of(number);
            let number = (u64::from(number) << 32) | (1 << 24);
            if !sink.entry(DirectoryEntry { name: name.as_bytes(), number, kind: FileKind::Directory, next }) {
                break;
            }
            *position = next;
        }
        Ok(())
    }
}

struct SystemFile {
    system: Arc<System>,
    show: SystemText,
}

impl Contents for SystemFile {
    fn show(&self, text: &mut Text, _cursor: &mut Cursor) -> Result<Step> {
        (self.show)(&self.system.view()?, text)?;
        Ok(Step::End)
    }
}

/// `self`, `thread-self` and `mounts`.
struct Pointer(Special);

impl Target for Pointer {
    fn target(&self, caller: &dyn Caller) -> Result<Link> {
        let [process, thread] = [caller.process(), caller.thread()].map(|pid| caller.pid_number(pid));
        match self.0 {
            Special::Mounts => Ok(to_text("self/mounts")),
            _ if process == 0 => Err(Errno::ENOENT),
            Special::OwnThread => Ok(to_text(Text::of(format_args!("{process}/task/{thread}"))?)),
            _ => Ok(to_text(Digits::of(process).as_bytes())),
        }
    }
}

/// A directory with nothing in it.
struct Empty;

impl Directory for Empty {
    fn is_fixed(&self) -> bool {
        true
    }

    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn list(&self, _position: &mut u64, _sink: &mut dyn DirectorySink) -> Result<()> {
        Ok(())
    }
}
