//! The directories /proc/PID and /proc/PID/task/TID: proc_pid(5).
//!
//! They are made at each look and hold a [`Subject`], which keeps no process alive: a directory that is still open when its process
//! has gone answers `ESRCH`.

use alloc::sync::Arc;

use abi::{Errno, Result};
use process::Process;
use vfs::{Caller, DirectoryEntry, DirectorySink, FileKind, Inode, Link, Path};

use crate::descriptors::Descriptors;
use crate::node::{
    Contents, Cursor, Directory, DirectoryInode, Head, LINK_PERMISSIONS, LinkInode, Step, Target, TextInode, Writer,
    to_path,
};
use crate::subject::{Subject, number as number_of, pids};
use crate::text::{Digits, Text};
use crate::{maps, mounts, oom, status, strings};

impl Subject {
    /// Inode numbers: the thread in the upper half; a group of files, and which of it, in the lower.
    pub fn number(&self, group: Group, index: u64) -> u64 {
        let group = group as u64 + if self.is_thread { 16 } else { 0 };
        (u64::from(self.thread) << 32) | (group << 24) | (index & 0xff_ffff)
    }

    /// What its files' inodes have.
    pub fn head(&self, permissions: u32, group: Group, index: u64) -> Head {
        // Directories that everybody may look at show the owner even when the process hides from others, as on Linux.
        let everybody_s = permissions == 0o555;
        Head { number: self.number(group, index), permissions, owner: self.owner(everybody_s) }
    }
}

/// Groups of inode numbers.
#[derive(Clone, Copy)]
pub(crate) enum Group {
    Own = 1,
    Entries = 2,
    Descriptors = 3,
    DescriptorInfo = 4,
}

/// Appends the whole text.
type Show = fn(&Subject, &Process, &mut Text) -> Result<()>;
/// Appends the next part.
type Records = fn(&Subject, &Process, &mut Text, &mut Cursor) -> Result<Step>;
type Store = fn(&Subject, &Process, &[u8], Writer) -> Result<()>;
type Follow = fn(&Process) -> Result<Path>;

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
    entry("auxv", 0o400, Kind::Private(strings::auxiliary_vector)),
    entry("cgroup", 0o444, Kind::Text(|_, _, text| constant("0::/\n", text))),
    entry("cmdline", 0o444, Kind::Records(strings::command_line)),
    entry("comm", 0o644, Kind::Writable(status::comm, status::set_comm)),
    entry("cwd", LINK_PERMISSIONS, Kind::Link(|process| Ok(process.fs_context().working()))),
    entry("environ", 0o400, Kind::PrivateRecords(strings::environment)),
    entry("exe", LINK_PERMISSIONS, Kind::Link(|process| process.program().executable.ok_or(Errno::ENOENT))),
    entry("fd", 0o500, Kind::Descriptors),
    entry("fdinfo", 0o555, Kind::DescriptorInfo),
    entry("io", 0o400, Kind::Private(status::input_output)),
    entry("limits", 0o444, Kind::Text(status::limits)),
    entry("maps", 0o444, Kind::PrivateRecords(maps::maps)),
    entry("mountinfo", 0o444, Kind::Records(mounts::mountinfo)),
    entry("mounts", 0o444, Kind::Records(mounts::mounts)),
    entry("oom_score", 0o444, Kind::Text(oom::score)),
    entry("oom_score_adj", 0o644, Kind::Writable(oom::adjustment, oom::set_adjustment)),
    entry("personality", 0o400, Kind::Private(status::personality)),
    entry("root", LINK_PERMISSIONS, Kind::Link(|process| Ok(process.fs_context().root()))),
    entry("smaps", 0o444, Kind::PrivateRecords(maps::smaps)),
    entry("smaps_rollup", 0o444, Kind::PrivateRecords(maps::smaps_rollup)),
    entry("stat", 0o444, Kind::Text(status::stat)),
    entry("statm", 0o444, Kind::Records(status::statm)),
    entry("status", 0o444, Kind::Records(status::status)),
    // Linux names the kernel function a thread waits in; without names it shows a 0, as here.
    entry("wchan", 0o444, Kind::Text(|_, _, text| constant("0", text))),
];

/// What only a process has.
const OF_PROCESS: &[Entry] =
    &[entry("mountstats", 0o400, Kind::Records(mounts::mountstats)), entry("task", 0o555, Kind::Tasks)];

fn constant(words: &str, text: &mut Text) -> Result<()> {
    text.bytes(words.as_bytes());
    Ok(())
}

/// The directory of a process or thread.
pub(crate) fn directory(subject: Subject) -> Arc<dyn Inode> {
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
        let process = self.subject.process()?;
        match self.kind {
            Kind::Text(show) | Kind::Private(show) | Kind::Writable(show, _) => show(&self.subject, &process, text)?,
            Kind::Records(show) | Kind::PrivateRecords(show) => return show(&self.subject, &process, text, cursor),
            _ => return Err(Errno::EINVAL),
        }
        Ok(Step::End)
    }

    fn store(&self, bytes: &[u8], writer: Writer) -> Result<()> {
        match self.kind {
            Kind::Writable(_, store) => store(&self.subject, &*self.subject.process()?, bytes, writer),
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
        let process = self.subject.process().map_err(|_| Errno::ENOENT)?;
        if !self.subject.may_be_inspected_by(caller) {
            return Err(Errno::EACCES);
        }
        // A thread that has ended executes nothing and is nowhere.
        if self.subject.find_thread(&process).is_none() || process.space().is_none() {
            return Err(Errno::ENOENT);
        }
        (self.follow)(&process).map(to_path)
    }
}

/// `task`.
struct Tasks(Subject);

impl Tasks {
    /// Fills `found` with the smallest numbers of threads above `after`, and returns how many: the directory is listed step by step.
    fn next(&self, after: u32, found: &mut [u32]) -> usize {
        let Ok(process) = self.0.process() else { return 0 };
        if !process.is_zombie() {
            return process.next_threads(pids(&process), after, found);
        }
        // The leader is there until its process is collected.
        let leader = Some(number_of(&process, process.pid())).filter(|&leader| leader > after);
        found.iter_mut().zip(leader).map(|(place, leader)| *place = leader).count()
    }
}

impl Directory for Tasks {
    fn links(&self) -> u32 {
        let threads = self.0.process().map_or(0, |process| process.thread_count().max(1) as u32);
        threads.saturating_add(2)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let task = self.0.task(number(name).ok_or(Errno::ENOENT)?);
        let process = task.process().map_err(|_| Errno::ENOENT)?;
        if task.find_thread(&process).is_none() && !task.is_leader(&process) {
            return Err(Errno::ENOENT);
        }
        Ok(directory(task))
    }

    fn list(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        // Cookie 2 stands before the first thread; behind thread N it is N + 2.
        let mut found = [0; 32];
        loop {
            let Ok(after) = u32::try_from(position.saturating_sub(2)) else { return Ok(()) };
            let count = self.next(after, &mut found);
            for &thread in found.iter().take(count) {
                let next = u64::from(thread) + 2;
                let number = self.0.task(thread).number(Group::Own, 0);
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
pub(crate) fn number(name: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(name).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
