//! The few kinds of inode everything in /proc is made of: texts, directories, links.
//!
//! A text is generated when it is read at position 0, and later reads continue in that same text: so a reader with a
//! small buffer sees one moment, and `lseek` to the start (or `pread` at 0, as top(1) does) gets a fresh one.
//!
//! What can be long is made in parts of about a page, each when it is read (Linux: seq_file): a part is of one moment. So
//! a text of any length takes a page of memory, and reading costs what is read.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Pid, Result};
use memory::{Destination, ResidentFiles, Source};
use sync::SpinLock;
use vfs::{
    Attributes, Caller, DirectorySink, File, FileKind, FileTraits, Inode, Link, NotReady, OpenRequest, Path,
    Permissions, SetAttributes, Time,
};

use crate::maps::Residence;
use crate::text::Text;

/// The most a program may write into a file here at once: Linux's page.
const WRITE_LIMIT: usize = 4096;

/// What every inode here has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// `st_ino`.
    pub number: u64,
    /// Permission bits.
    pub permissions: u32,
    /// User and group.
    pub owner: (u32, u32),
}

impl Head {
    fn permissions(&self, kind: FileKind) -> Permissions {
        Permissions { mode: kind.mode() | self.permissions, user: self.owner.0, group: self.owner.1 }
    }

    fn attributes(&self, kind: FileKind, links: u32, size: u64) -> Attributes {
        let now = Time::now();
        Attributes {
            number: self.number,
            mode: kind.mode() | self.permissions,
            links,
            user: self.owner.0,
            group: self.owner.1,
            size,
            block_size: 1024,
            accessed: now,
            modified: now,
            changed: now,
            ..Attributes::default()
        }
    }
}

/// Where the text of a file comes from.
pub(crate) trait Contents: Send + Sync + 'static {
    /// Whether `caller` may open it, beyond the permission bits.
    fn admit(&self, caller: &dyn Caller) -> Result<()> {
        let _ = caller;
        Ok(())
    }

    /// Appends the next part of the text, from `cursor` on, which it moves. The whole, for what is short.
    ///
    /// # Errors
    /// `ESRCH` when what it is about has gone, `ENOMEM`.
    fn show(&self, text: &mut Text, cursor: &mut Cursor) -> Result<Step>;

    /// A program wrote this. `writer` opened the file.
    fn store(&self, bytes: &[u8], writer: Writer) -> Result<()> {
        let _ = (bytes, writer);
        Err(Errno::EIO)
    }
}

/// Who opened a file to write to it.
#[derive(Clone, Copy)]
pub(crate) struct Writer {
    pub process: Pid,
    pub thread: Pid,
}

/// How long a part becomes before it is handed out.
pub(crate) const PART: usize = 4096;

/// How many parts a read passes over at once on its way to where it begins.
const PARTS_PASSED: usize = 64;

/// How far the making of a text has come.
#[derive(Default)]
pub(crate) struct Cursor {
    /// Where the next line is made from, in the file's own counting: an address, a number. 0 at the beginning.
    pub at: u64,
    /// What was counted so far for the line that is being made.
    pub residence: Residence,
    /// The same, for what is told of a whole process.
    pub files: ResidentFiles,
}

/// What came of making a part.
pub(crate) enum Step {
    /// There may be more.
    More,
    /// That was the end.
    End,
    /// There was too much to count at once; others are to run before it goes on.
    Pause,
}

/// A part of a text, and how to go on behind it.
#[derive(Default)]
struct Part {
    /// Its place in the file.
    start: u64,
    text: Vec<u8>,
    cursor: Cursor,
    ended: bool,
    /// It is still to be made.
    paused: bool,
}

/// A regular file that is a generated text.
pub(crate) struct TextInode<C>(pub Head, pub Arc<C>);

impl<C: Contents> TextInode<C> {
    /// The inode, as directories hand it out.
    pub fn shared(head: Head, contents: C) -> Arc<dyn Inode> {
        Arc::new(TextInode(head, Arc::new(contents)))
    }
}

impl<C: Contents> Inode for TextInode<C> {
    fn attributes(&self) -> Attributes {
        self.0.attributes(FileKind::Regular, 1, 0)
    }

    fn permissions(&self) -> Permissions {
        self.0.permissions(FileKind::Regular)
    }

    fn number(&self) -> u64 {
        self.0.number
    }

    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        self.1.admit(request.caller)?;
        let writer = Writer { process: request.caller.process(), thread: request.caller.thread() };
        Ok(Arc::new(TextFile { contents: self.1.clone(), writer, part: SpinLock::new(None) }))
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<()> {
        ignore_truncation(changes)
    }
}

/// Truncating a file here does nothing, so that `echo x > file` works; other changes are refused.
fn ignore_truncation(changes: &SetAttributes) -> Result<()> {
    let asks_more = changes.permissions.is_some() || changes.user.is_some() || changes.group.is_some();
    if asks_more { Err(Errno::EPERM) } else { Ok(()) }
}

struct TextFile<C> {
    contents: Arc<C>,
    writer: Writer,
    /// The part that was read last; away while somebody reads, so that no lock is held meanwhile.
    part: SpinLock<Option<Part>>,
}

impl<C: Contents> TextFile<C> {
    /// The part in which `position` lies, or the end. On the way there it pauses now and then.
    fn part_at(&self, position: u64) -> Result<Part, NotReady> {
        let kept = self.part.lock().take().filter(|part| part.start <= position && (position != 0 || part.paused));
        let mut part = kept.unwrap_or_default();
        for _ in 0..PARTS_PASSED {
            let end = part.start + part.text.len() as u64;
            if position < end || part.ended {
                return Ok(part);
            }
            let mut text = Text::new();
            part.paused = false;
            match self.contents.show(&mut text, &mut part.cursor)? {
                Step::More => {}
                Step::End => part.ended = true,
                Step::Pause => part.paused = true,
            }
            (part.start, part.text) = (end, text.finish()?);
            if part.paused && part.text.is_empty() {
                break;
            }
        }
        part.paused = true;
        *self.part.lock() = Some(part);
        Err(NotReady::Yield)
    }
}

impl<C: Contents> File for TextFile<C> {
    fn traits(&self) -> FileTraits {
        FileTraits::SEEKABLE
    }

    fn read(&self, position: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        let part = self.part_at(position)?;
        let rest = usize::try_from(position - part.start).ok().and_then(|offset| part.text.get(offset..));
        let moved = destination.write(rest.unwrap_or_default());
        *self.part.lock() = Some(part);
        Ok(moved?)
    }

    fn write(&self, position: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        // Values are short; only a write at the start says something.
        let length = source.remaining();
        let mut bytes = [0; WRITE_LIMIT];
        let bytes = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
        source.peek(bytes)?;
        if position == 0 {
            self.contents.store(bytes, self.writer)?;
        }
        source.advance(length);
        Ok(length)
    }
}

/// What a directory shows.
pub(crate) trait Directory: Send + Sync + 'static {
    /// How many links it claims: 2 and one for each directory in it that is always there.
    fn links(&self) -> u32 {
        2
    }

    /// `st_size`.
    fn size(&self) -> u64 {
        0
    }

    /// Whether what it shows is always the same.
    fn is_fixed(&self) -> bool {
        false
    }

    /// The entry `name`, or `ENOENT`.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>>;

    /// Lists entries from the cookie `position` on; the first one is 2.
    fn list(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()>;
}

/// A directory.
pub(crate) struct DirectoryInode<D>(pub Head, pub Arc<D>);

impl<D: Directory> DirectoryInode<D> {
    /// The inode, as directories hand it out.
    pub fn shared(head: Head, directory: D) -> Arc<dyn Inode> {
        Arc::new(DirectoryInode(head, Arc::new(directory)))
    }
}

impl<D: Directory> Inode for DirectoryInode<D> {
    fn attributes(&self) -> Attributes {
        self.0.attributes(FileKind::Directory, self.1.links(), self.1.size())
    }

    fn permissions(&self) -> Permissions {
        self.0.permissions(FileKind::Directory)
    }

    fn number(&self) -> u64 {
        self.0.number
    }

    fn open(self: Arc<Self>, _request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(Arc::new(DirectoryFile(self.1.clone())))
    }

    fn keeps_entries(&self) -> bool {
        self.1.is_fixed()
    }

    fn takes_names(&self) -> bool {
        false
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.1.lookup(name)
    }
}

struct DirectoryFile<D>(Arc<D>);

impl<D: Directory> File for DirectoryFile<D> {
    fn traits(&self) -> FileTraits {
        FileTraits::SEEKABLE
    }

    fn read(&self, _position: u64, _destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        Err(Errno::EISDIR.into())
    }

    fn read_directory(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<(), NotReady> {
        Ok(self.0.list(position, sink)?)
    }
}

/// Where a link leads, found out at each look.
pub(crate) trait Target: Send + Sync + 'static {
    /// The target for this caller.
    fn target(&self, caller: &dyn Caller) -> Result<Link>;
}

/// A symbolic link.
pub(crate) struct LinkInode<T>(pub Head, pub T, pub u64);

impl<T: Target> LinkInode<T> {
    /// A link that claims to be `size` long.
    pub fn shared(head: Head, target: T, size: u64) -> Arc<dyn Inode> {
        Arc::new(LinkInode(head, target, size))
    }
}

impl<T: Target> Inode for LinkInode<T> {
    fn attributes(&self) -> Attributes {
        self.0.attributes(FileKind::Symlink, 1, self.2)
    }

    fn permissions(&self) -> Permissions {
        self.0.permissions(FileKind::Symlink)
    }

    fn number(&self) -> u64 {
        self.0.number
    }

    fn open(self: Arc<Self>, _request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Err(Errno::ELOOP)
    }

    fn read_link(&self, caller: &dyn Caller) -> Result<Link> {
        self.1.target(caller)
    }
}

/// A link straight to a place.
pub(crate) fn to_path(path: Path) -> Link {
    Link::Path(path)
}

/// A link to a name.
pub(crate) fn to_text(text: impl AsRef<[u8]>) -> Link {
    Link::Text(Arc::from(text.as_ref()))
}

/// `0777`: what links show.
pub(crate) const LINK_PERMISSIONS: u32 = 0o777;
