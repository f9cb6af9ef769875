//! `fd` and `fdinfo`: the open files of a process.

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use vfs::{Caller, Descriptor, DirectoryEntry, DirectorySink, FileKind, FileTable, Inode, Link, OpenFile};

use crate::node::{Contents, Cursor, Directory, LinkInode, Step, Target, TextInode, to_path};
use crate::process::{Group, number};
use crate::subject::Subject;
use crate::text::{Digits, Text};

/// See the module's page.
pub(crate) struct Descriptors {
    pub subject: Subject,
    /// `fdinfo`.
    pub info: bool,
}

/// The file open under a descriptor, with whether it closes on execve(2).
fn open_file(subject: &Subject, descriptor: u32) -> Option<(Arc<OpenFile>, bool)> {
    let files = subject.process().ok()?.files();
    let descriptor = Descriptor::try_from(descriptor).ok()?;
    let file = files.get(descriptor).ok()?;
    Some((file, files.closes_on_exec(descriptor).unwrap_or(false)))
}

/// The smallest open descriptor that is at least `from`.
fn next_open(files: &FileTable, from: u32) -> Option<u32> {
    u32::try_from(files.next_open(Descriptor::try_from(from).ok()?)?).ok()
}

impl Descriptors {
    fn group(&self) -> Group {
        if self.info { Group::DescriptorInfo } else { Group::Descriptors }
    }
}

impl Directory for Descriptors {
    fn size(&self) -> u64 {
        if self.info {
            return 0;
        }
        let Ok(process) = self.subject.process() else { return 0 };
        let files = process.files();
        let next = |from: u32| next_open(&files, from);
        core::iter::successors(next(0), |&descriptor| next(descriptor.checked_add(1)?)).count() as u64
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let descriptor = number(name).ok_or(Errno::ENOENT)?;
        let subject = self.subject.clone();
        let (file, _) = open_file(&subject, descriptor).ok_or(Errno::ENOENT)?;
        let index = u64::from(descriptor);
        if self.info {
            let head = subject.head(0o444, Group::DescriptorInfo, index);
            return Ok(TextInode::shared(head, DescriptorText { subject, descriptor }));
        }
        let flags = file.flags();
        let permissions = 0o100 | if flags.readable() { 0o400 } else { 0 } | if flags.writable() { 0o200 } else { 0 };
        let head = subject.head(permissions, Group::Descriptors, index);
        Ok(LinkInode::shared(head, DescriptorLink { subject, descriptor }, 64))
    }

    fn list(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        let Ok(process) = self.subject.process() else { return Ok(()) };
        let files = process.files();
        while let Some(descriptor) =
            u32::try_from(position.saturating_sub(2)).ok().and_then(|from| next_open(&files, from))
        {
            let cookie = u64::from(descriptor) + 2;
            let kind = if self.info { FileKind::Regular } else { FileKind::Symlink };
            let number = self.subject.number(self.group(), u64::from(descriptor));
            let name = Digits::of(descriptor);
            if !sink.entry(DirectoryEntry { name: name.as_bytes(), number, kind, next: cookie + 1 }) {
                break;
            }
            *position = cookie + 1;
        }
        Ok(())
    }
}

struct DescriptorLink {
    subject: Subject,
    descriptor: u32,
}

impl Target for DescriptorLink {
    fn target(&self, caller: &dyn Caller) -> Result<Link> {
        if !self.subject.may_be_inspected_by(caller) {
            return Err(Errno::EACCES);
        }
        let (file, _) = open_file(&self.subject, self.descriptor).ok_or(Errno::ENOENT)?;
        file.path().map(to_path)
    }
}

struct DescriptorText {
    subject: Subject,
    descriptor: u32,
}

impl Contents for DescriptorText {
    fn admit(&self, caller: &dyn Caller) -> Result<()> {
        if self.subject.may_be_inspected_by(caller) { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn show(&self, text: &mut Text, _cursor: &mut Cursor) -> Result<Step> {
        let (file, close_on_exec) = open_file(&self.subject, self.descriptor).ok_or(Errno::ENOENT)?;
        let flags = file.flags().bits() | if close_on_exec { raw::O_CLOEXEC } else { 0 };
        let mount = file.named_path().map_or(0, |path| path.mount.id());
        let position = file.position_now().unwrap_or(0);
        let inode = file.inode().number();
        text.put(format_args!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{inode}\n"));
        Ok(Step::End)
    }
}
