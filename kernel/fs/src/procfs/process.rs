//! The directories /proc/PID and /proc/PID/task/TID: proc_pid(5).
//!
//! They are made at each look and hold the process's source, which keeps no process alive: a directory that is still open
//! when its process has gone answers `ESRCH`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use abi::fallible::{TryVec, try_to_vec};
use abi::raw::general as raw;
use abi::{Errno, Result};
use vfs::{Caller, DirectoryEntry, DirectorySink, FileKind, Inode, Link, Mount, Path};

use super::node::{
    Contents, Cursor, Directory, DirectoryInode, Head, LINK_PERMISSIONS, LinkInode, PART, Step, Target, TextInode,
    Writer, to_path,
};
use super::source::{ProcessId, ProcessSource, State};
use super::text::{Digits, Text};
use super::{maps, status};

/// Whom a directory is about: a process, or one of its threads.
#[derive(Clone)]
pub(super) struct Subject {
    pub process: Arc<dyn ProcessSource>,
    /// The thread that is asked: the leader, but for directories below `task/` and for `/proc/TID`.
    pub thread: ProcessId,
    /// Below `task/`.
    pub is_thread: bool,
}

impl Subject {
    /// Inode numbers: the thread in the upper half; a group of files, and which of it, in the lower.
    fn number(&self, group: Group, index: u64) -> u64 {
        let group = group as u64 + if self.is_thread { 16 } else { 0 };
        (u64::from(self.thread) << 32) | (group << 24) | (index & 0xff_ffff)
    }

    fn may_be_inspected_by(&self, caller: &dyn Caller) -> bool {
        self.process.may_be_inspected_by(self.thread, caller)
    }

    fn head(&self, permissions: u32, group: Group, index: u64) -> Head {
        // Directories that everybody may look at show the owner even when the process hides from others, as on Linux.
        let everybody_s = permissions == 0o555;
        Head { number: self.number(group, index), permissions, owner: self.process.owner(self.thread, everybody_s) }
    }
}

/// Groups of inode numbers.
#[derive(Clone, Copy)]
enum Group {
    Own = 1,
    Entries = 2,
    Descriptors = 3,
    DescriptorInfo = 4,
}

type Show = fn(&Subject) -> Result<Vec<u8>>;
/// Appends the next part.
type Records = fn(&Subject, &mut Text, &mut Cursor) -> Result<Step>;
type Store = fn(&Subject, &[u8], Writer) -> Result<()>;
type Follow = fn(&Subject) -> Result<Path>;

enum Kind {
    /// Anybody whom the permissions let may read it.
    Text(Show),
    /// So is this, which may be long.
    Records(Records),
    /// Only who may inspect the process may open it.
    Private(Show),
    PrivateRecords(Records),
    /// It can be written, too.
    Writable(Show, Store),
    Link(Follow),
    Descriptors,
    DescriptorInfo,
    Tasks,
}

struct Entry {
    name: &'static str,
    permissions: u32,
    kind: Kind,
}

const fn entry(name: &'static str, permissions: u32, kind: Kind) -> Entry {
    Entry { name, permissions, kind }
}

/// What a process and each of its threads have.
const COMMON: &[Entry] = &[
    entry("auxv", 0o400, Kind::Private(|subject| subject.process.auxiliary_vector())),
    entry("cgroup", 0o444, Kind::Text(|_| try_to_vec(b"0::/\n"))),
    entry("cmdline", 0o444, Kind::Records(command_line)),
    entry("comm", 0o644, Kind::Writable(comm, set_comm)),
    entry("cwd", LINK_PERMISSIONS, Kind::Link(|subject| subject.process.working_directory())),
    entry("environ", 0o400, Kind::PrivateRecords(environment)),
    entry("exe", LINK_PERMISSIONS, Kind::Link(|subject| subject.process.executable())),
    entry("fd", 0o500, Kind::Descriptors),
    entry("fdinfo", 0o555, Kind::DescriptorInfo),
    entry("io", 0o400, Kind::Private(status::input_output)),
    entry("limits", 0o444, Kind::Text(status::limits)),
    entry("maps", 0o444, Kind::PrivateRecords(maps::maps)),
    entry("mountinfo", 0o444, Kind::Records(mountinfo)),
    entry("mounts", 0o444, Kind::Records(mounts)),
    entry("oom_score", 0o444, Kind::Text(|subject| line(subject.process.out_of_memory_score()))),
    entry("oom_score_adj", 0o644, Kind::Writable(adjustment, set_adjustment)),
    entry("personality", 0o400, Kind::Private(personality)),
    entry("root", LINK_PERMISSIONS, Kind::Link(|subject| subject.process.root())),
    entry("smaps", 0o444, Kind::PrivateRecords(maps::smaps)),
    entry("smaps_rollup", 0o444, Kind::PrivateRecords(maps::smaps_rollup)),
    entry("stat", 0o444, Kind::Text(status::stat)),
    entry("statm", 0o444, Kind::Records(status::statm)),
    entry("status", 0o444, Kind::Records(status::status)),
    entry("wchan", 0o444, Kind::Text(wait_channel)),
];

/// What only a process has.
const OF_PROCESS: &[Entry] =
    &[entry("mountstats", 0o400, Kind::Records(mountstats)), entry("task", 0o555, Kind::Tasks)];

fn line(value: impl fmt::Display) -> Result<Vec<u8>> {
    Text::of(format_args!("{value}\n"))
}

fn comm(subject: &Subject) -> Result<Vec<u8>> {
    let mut name = subject.process.thread(subject.thread).ok_or(Errno::ESRCH)?.name;
    name.try_push(b'\n')?;
    Ok(name)
}

/// A process may rename its own threads, nobody else's.
fn set_comm(subject: &Subject, bytes: &[u8], writer: Writer) -> Result<()> {
    if !subject.process.is(writer.process) {
        return Err(Errno::EINVAL);
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()).min(15);
    subject.process.set_name(subject.thread, bytes.get(..end).unwrap_or_default())
}

fn adjustment(subject: &Subject) -> Result<Vec<u8>> {
    line(subject.process.status()?.out_of_memory_adjustment)
}

fn set_adjustment(subject: &Subject, bytes: &[u8], writer: Writer) -> Result<()> {
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    subject.process.set_out_of_memory_adjustment(value, writer.thread)
}

fn personality(subject: &Subject) -> Result<Vec<u8>> {
    line(format_args!("{:08x}", subject.process.status()?.personality))
}

/// Linux names the kernel function a thread waits in; without names it shows a 0, as here.
fn wait_channel(_subject: &Subject) -> Result<Vec<u8>> {
    try_to_vec(b"0")
}

fn command_line(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    memory(text, cursor, |offset, to| subject.process.command_line(offset, to))
}

fn environment(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    memory(text, cursor, |offset, to| subject.process.environment(offset, to))
}

/// The next bytes of a piece of a program's memory.
fn memory(text: &mut Text, cursor: &mut Cursor, read: impl FnOnce(usize, &mut [u8]) -> Result<usize>) -> Result<Step> {
    let mut bytes = [0; PART];
    let length = read(cursor.at as usize, &mut bytes)?;
    text.bytes(bytes.get(..length).unwrap_or_default());
    cursor.at += length as u64;
    Ok(if length < PART { Step::End } else { Step::More })
}

fn mounts(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    each_mount(subject, text, cursor, |mount, point, text| mount.mounts_line(point, text))
}

fn mountinfo(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    each_mount(subject, text, cursor, |mount, point, text| mount.mountinfo_line(point, text))
}

/// The same mounts in words: `device SOURCE mounted on PLACE with fstype TYPE`.
fn mountstats(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    each_mount(subject, text, cursor, |mount, point, text| mount.mountstats_line(point, text))
}

/// How far is gone from mounts up to the root before others are to run: a process may see none of them, or lie very deep.
const STEPS_AT_ONCE: usize = 4096;

/// Shows the mounts behind the one with the number `cursor.at`, as the process sees them: those at or below its root.
fn each_mount(
    subject: &Subject,
    text: &mut Text,
    cursor: &mut Cursor,
    show: impl Fn(&Mount, &[u8], &mut Text) -> Result<()>,
) -> Result<Step> {
    let (mounts, root) = (subject.process.mounts()?, subject.process.root()?);
    let mut steps = 0;
    while text.len() < PART {
        if steps >= STEPS_AT_ONCE {
            return Ok(Step::Pause);
        }
        // What is to be done for each costs as much as some steps.
        steps += 16;
        let Some(mount) = mounts.after(cursor.at) else { return Ok(Step::End) };
        cursor.at = mount.id();
        if let Some(point) = mount.place_below(&root, &mut steps)? {
            show(&mount, &point, text)?;
        }
    }
    Ok(Step::More)
}

/// The directory of a process or thread.
pub(super) fn directory(subject: Subject) -> Arc<dyn Inode> {
    DirectoryInode::shared(subject.head(0o555, Group::Own, 0), ProcessDirectory(subject))
}

struct ProcessDirectory(Subject);

impl ProcessDirectory {
    fn entries(&self) -> impl Iterator<Item = (u64, &'static Entry)> + use<> {
        let own: &[Entry] = if self.0.is_thread { &[] } else { OF_PROCESS };
        (0..).zip(COMMON.iter().chain(own))
    }
}

impl Directory for ProcessDirectory {
    fn links(&self) -> u32 {
        if self.0.is_thread { 4 } else { 5 }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let subject = &self.0;
        let (index, entry) = self.entries().find(|(_, entry)| entry.name.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let head = subject.head(entry.permissions, Group::Entries, index);
        let subject = subject.clone();
        Ok(match entry.kind {
            Kind::Text(_) | Kind::Records(_) | Kind::Private(_) | Kind::PrivateRecords(_) | Kind::Writable(..) => {
                TextInode::shared(head, ProcessText { subject, kind: &entry.kind })
            }
            Kind::Link(follow) => LinkInode::shared(head, ProcessLink { subject, follow }, 0),
            Kind::Descriptors => DirectoryInode::shared(head, Descriptors { subject, info: false }),
            Kind::DescriptorInfo => DirectoryInode::shared(head, Descriptors { subject, info: true }),
            Kind::Tasks => DirectoryInode::shared(head, Tasks(subject)),
        })
    }

    fn list(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        for (index, entry) in self.entries() {
            let cookie = index + 2;
            if cookie < *position {
                continue;
            }
            let kind = match entry.kind {
                Kind::Text(_) | Kind::Records(_) | Kind::Private(_) | Kind::PrivateRecords(_) | Kind::Writable(..) => {
                    FileKind::Regular
                }
                Kind::Link(_) => FileKind::Symlink,
                Kind::Descriptors | Kind::DescriptorInfo | Kind::Tasks => FileKind::Directory,
            };
            let number = self.0.number(Group::Entries, index);
            if !sink.entry(DirectoryEntry { name: entry.name.as_bytes(), number, kind, next: cookie + 1 }) {
                break;
            }
            *position = cookie + 1;
        }
        Ok(())
    }
}

struct ProcessText {
    subject: Subject,
    kind: &'static Kind,
}

impl Contents for ProcessText {
    fn admit(&self, caller: &dyn Caller) -> Result<()> {
        let private = matches!(self.kind, Kind::Private(_) | Kind::PrivateRecords(_));
        if private && !self.subject.may_be_inspected_by(caller) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    fn show(&self, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
        match self.kind {
            Kind::Text(show) | Kind::Private(show) | Kind::Writable(show, _) => text.bytes(&show(&self.subject)?),
            Kind::Records(show) | Kind::PrivateRecords(show) => return show(&self.subject, text, cursor),
            _ => return Err(Errno::EINVAL),
        }
        Ok(Step::End)
    }

    fn store(&self, bytes: &[u8], writer: Writer) -> Result<()> {
        match self.kind {
            Kind::Writable(_, store) => store(&self.subject, bytes, writer),
            _ => Err(Errno::EIO),
        }
    }
}

struct ProcessLink {
    subject: Subject,
    follow: Follow,
}

impl Target for ProcessLink {
    fn target(&self, caller: &dyn Caller) -> Result<Link> {
        let process = &self.subject.process;
        process.id().ok_or(Errno::ENOENT)?;
        if !self.subject.may_be_inspected_by(caller) {
            return Err(Errno::EACCES);
        }
        let gone = process.thread(self.subject.thread).is_none_or(|thread| thread.state == State::Zombie);
        if gone || !process.has_memory() {
            return Err(Errno::ENOENT);
        }
        (self.follow)(&self.subject).map(to_path)
    }
}

/// `fd` and `fdinfo`.
struct Descriptors {
    subject: Subject,
    info: bool,
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
        let process = &self.subject.process;
        let next = |from: u32| process.next_descriptor(from);
        core::iter::successors(next(0), |&descriptor| next(descriptor.checked_add(1)?)).count() as u64
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let descriptor = number(name).ok_or(Errno::ENOENT)?;
        let subject = self.subject.clone();
        let (file, _) = subject.process.descriptor(descriptor).ok_or(Errno::ENOENT)?;
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
        let process = &self.subject.process;
        while let Some(descriptor) =
            u32::try_from(position.saturating_sub(2)).ok().and_then(|from| process.next_descriptor(from))
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
        let (file, _) = self.subject.process.descriptor(self.descriptor).ok_or(Errno::ENOENT)?;
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
        let (file, close_on_exec) = self.subject.process.descriptor(self.descriptor).ok_or(Errno::ENOENT)?;
        let flags = file.flags().bits() | if close_on_exec { raw::O_CLOEXEC } else { 0 };
        let mount = file.named_path().map_or(0, |path| path.mount.id());
        let position = file.position_now().unwrap_or(0);
        let inode = file.inode().number();
        text.put(format_args!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{inode}\n"));
        Ok(Step::End)
    }
}

/// `task`.
struct Tasks(Subject);

impl Directory for Tasks {
    fn links(&self) -> u32 {
        let threads = self.0.process.status().map_or(0, |status| status.threads);
        threads.saturating_add(2)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let thread = number(name).ok_or(Errno::ENOENT)?;
        self.0.process.thread(thread).ok_or(Errno::ENOENT)?;
        Ok(directory(Subject { thread, is_thread: true, ..self.0.clone() }))
    }

    fn list(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        // Cookie 2 stands before the first thread; behind thread N it is N + 2.
        let mut found = [0; 32];
        loop {
            let Ok(after) = u32::try_from(position.saturating_sub(2)) else { return Ok(()) };
            let count = self.0.process.next_threads(after, &mut found);
            for &thread in found.iter().take(count) {
                let next = u64::from(thread) + 2;
                let number = Subject { thread, is_thread: true, ..self.0.clone() }.number(Group::Own, 0);
                let name = Digits::of(thread);
                if !sink.entry(DirectoryEntry { name: name.as_bytes(), number, kind: FileKind::Directory, next }) {
                    return Ok(());
                }
                *position = next;
            }
            if count < found.len() {
                return Ok(());
            }
        }
    }
}

/// The number a name says; `None` for anything but plain digits without a leading zero.
pub(super) fn number(name: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(name).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
