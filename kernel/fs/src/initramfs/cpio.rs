//! The "newc" format of cpio(5): entries made into files.

#![expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "at boot, before there are programs")]

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use abi::Errno;
use abi::raw::general as raw;
use hashbrown::HashMap;
use machine::memory::fallible;
use memory::Source;
use vfs::{
    Context, Credentials, DeviceNumber, File, FileKind, KernelCaller, Lookup, NewContents, NotReady, OpenFlags,
    OpenRequest, Path, SetAttributes, Time, Vfs,
};

use super::stream::Stream;
use super::{Reason, Summary, UnpackError};

/// The length of an entry's header.
const HEADER: usize = 110;
/// The longest name or link target, with its final zero.
const PATH_MAX: u32 = raw::PATH_MAX;
/// The name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// Where entries go.
pub(super) struct Target<'a> {
    root: &'a Path,
    caller: KernelCaller<'a>,
    credentials: Credentials,
    /// The first name of each file that has several, until the archive ends.
    links: HashMap<LinkKey, Path>,
    /// The directories and the time each shall have: making files in them changes it.
    directories: Vec<(Path, Time)>,
    pub summary: Summary,
}

/// What tells files with several names apart.
#[derive(PartialEq, Eq, Hash)]
struct LinkKey {
    inode: u32,
    device: (u32, u32),
}

/// An entry's header. The sizes come from outside: nothing is allocated by them before they are checked.
struct Header {
    inode: u32,
    mode: u32,
    user: u32,
    group: u32,
    links: u32,
    modified: u32,
    size: u32,
    device: (u32, u32),
    represented: DeviceNumber,
    name_size: u32,
    checksum: Option<u32>,
}

impl Header {
    const FIELDS: [&'static str; 13] = [
        "ino",
        "mode",
        "uid",
        "gid",
        "nlink",
        "mtime",
        "filesize",
        "devmajor",
        "devminor",
        "rdevmajor",
        "rdevminor",
        "namesize",
        "check",
    ];

    fn parse(bytes: &[u8; HEADER]) -> Result<Header, Reason> {
        let (magic, digits) = bytes.split_at(6);
        let summed = match magic {
            b"070701" => false,
            b"070702" => true,
            _ => return Err(Reason::BadMagic),
        };
        let mut numbers = [0; 13];
        for ((number, digits), field) in numbers.iter_mut().zip(digits.chunks(8)).zip(Header::FIELDS) {
            *number = hexadecimal(digits).ok_or(Reason::BadNumber(field))?;
        }
        let [inode, mode, user, group, links, modified, size, major, minor, rmajor, rminor, name_size, check] = numbers;
        Ok(Header {
            inode,
            mode,
            user,
            group,
            links,
            modified,
            size,
            device: (major, minor),
            represented: DeviceNumber { major: rmajor, minor: rminor },
            name_size,
            checksum: summed.then_some(check),
        })
    }

    fn modified(&self) -> Time {
        Time::new(i64::from(self.modified), 0)
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number: u32, &digit| Some((number << 4) | char::from(digit).to_digit(16)?))
}

/// Unpacks one archive, up to and with its trailer.
pub(super) fn unpack(stream: &mut impl Stream, target: &mut Target<'_>) -> Result<(), UnpackError> {
    let base = stream.position();
    let result = loop {
        match unpack_entry(stream, target, base) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    target.links.clear();
    result
}

/// Unpacks one entry. `false`: it was the trailer.
fn unpack_entry(stream: &mut impl Stream, target: &mut Target<'_>, base: u64) -> Result<bool, UnpackError> {
    // An error in the header is reported where the header begins.
    let begin = stream.error(Reason::Truncated);
    let mut bytes = [0; HEADER];
    stream.take(&mut bytes)?;
    let header = Header::parse(&bytes).map_err(|reason| UnpackError { reason, ..begin })?;
    if header.name_size == 0 || header.name_size > PATH_MAX {
        return Err(UnpackError { reason: Reason::BadName, ..begin });
    }
    let mut name = vec![0; header.name_size as usize];
    stream.take(&mut name)?;
    if name.pop() != Some(0) || name.is_empty() || name.contains(&0) {
        return Err(UnpackError { reason: Reason::BadName, ..begin });
    }
    if name == TRAILER {
        // What pads the trailer is skipped as zeros between archives are, and may be missing.
        stream.each(u64::from(header.size), |_| Ok(()))?;
        return Ok(false);
    }
    stream.align(base)?;
    let kind = FileKind::of_mode(header.mode).ok_or(UnpackError { reason: Reason::BadMode(header.mode), ..begin })?;
    let refused = |errno| UnpackError { reason: Reason::File(errno), ..begin };
    target.summary.entries += 1;
    match kind {
        FileKind::Regular => {
            let path = target.regular(&name, &header).map_err(refused)?;
            let mut sum: u32 = 0;
            // A later name of a file already written comes without contents.
            let file = if header.size > 0 { Some(target.open(&path).map_err(refused)?) } else { None };
            let mut position = 0;
            stream.each(u64::from(header.size), |bytes| {
                if header.checksum.is_some() {
                    sum = bytes.iter().fold(sum, |sum, &byte| sum.wrapping_add(u32::from(byte)));
                }
                let Some(file) = &file else { return Ok(()) };
                write_all(file, position, bytes).map_err(Reason::File)?;
                position += bytes.len() as u64;
                Ok(())
            })?;
            if header.checksum.is_some_and(|checksum| checksum != sum) {
                return Err(stream.error(Reason::BadChecksum));
            }
            target.summary.bytes += u64::from(header.size);
            target.apply_header(&path, &header).map_err(refused)?;
        }
        FileKind::Symlink => {
            if header.size == 0 || header.size >= PATH_MAX {
                return Err(UnpackError { reason: Reason::BadLink, ..begin });
            }
            let mut text = vec![0; header.size as usize];
            stream.take(&mut text)?;
            // Some writers count a final zero.
            let length = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
            text.truncate(length);
            if text.is_empty() {
                return Err(UnpackError { reason: Reason::BadLink, ..begin });
            }
            target.make(&name, &header, NewContents::Symlink(&text)).map_err(refused)?;
        }
        _ if header.size > 0 => return Err(UnpackError { reason: Reason::UnexpectedContents, ..begin }),
        FileKind::Directory => target.directory(&name, &header).map_err(refused)?,
        FileKind::Fifo | FileKind::Socket | FileKind::CharacterDevice | FileKind::BlockDevice => {
            let contents = match kind {
                FileKind::Fifo => NewContents::Fifo,
                FileKind::Socket => NewContents::Socket,
                FileKind::CharacterDevice => NewContents::CharacterDevice(header.represented),
                _ => NewContents::BlockDevice(header.represented),
            };
            target.make(&name, &header, contents).map_err(refused)?;
        }
    }
    stream.align(base)?;
    Ok(true)
}

fn write_all(file: &Arc<dyn File>, mut position: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut source = Source::kernel(bytes);
    while source.remaining() > 0 {
        match file.write(position, &mut source) {
            Ok(0) => return Err(Errno::EIO),
            Ok(moved) => position += moved as u64,
            Err(NotReady::Error(errno)) => return Err(errno),
            Err(_) => return Err(Errno::EIO),
        }
    }
    Ok(())
}

impl<'a> Target<'a> {
    pub fn new(root: &'a Path, vfs: &'a Vfs) -> Target<'a> {
        Target {
            root,
            caller: KernelCaller(vfs),
            credentials: Credentials::superuser(),
            links: HashMap::new(),
            directories: Vec::new(),
            summary: Summary::default(),
        }
    }

    fn context(&self) -> Context<'_> {
        Context { root: self.root, credentials: &self.credentials, caller: &self.caller, umask: 0 }
    }

    /// What lies at `name` now.
    fn existing(&self, name: &[u8]) -> Result<Option<Path>, Errno> {
        match self.context().lookup(self.root, name, Lookup::empty()) {
            Ok(path) => Ok(Some(path)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Removes what is in the way of a new file: a later archive wins.
    fn clear(&self, name: &[u8]) -> Result<(), Errno> {
        match self.existing(name)? {
            None => Ok(()),
            Some(path) if path.dentry.is_directory() => self.context().rmdir(self.root, name),
            Some(_) => self.context().unlink(self.root, name),
        }
    }

    /// Makes a file that is no regular one and no directory, or gives one made before another name.
    fn make(&mut self, name: &[u8], header: &Header, contents: NewContents<'_>) -> Result<Path, Errno> {
        self.clear(name)?;
        if let Some(path) = self.link(name, header)? {
            return Ok(path);
        }
        let path = self.context().make(self.root, name, header.mode & 0o7777, contents)?;
        self.remember(&path, header);
        self.apply_header(&path, header)?;
        Ok(path)
    }

    /// Makes an empty regular file, or finds the one this is another name of.
    fn regular(&mut self, name: &[u8], header: &Header) -> Result<Path, Errno> {
        self.clear(name)?;
        if let Some(path) = self.link(name, header)? {
            return Ok(path);
        }
        let path = self.context().make(self.root, name, header.mode & 0o7777, NewContents::Regular)?;
        self.remember(&path, header);
        Ok(path)
    }

    /// Makes a directory, or takes the one that is there.
    fn directory(&mut self, name: &[u8], header: &Header) -> Result<(), Errno> {
        let path = match self.existing(name)? {
            Some(path) if path.dentry.is_directory() => path,
            found => {
                if found.is_some() {
                    self.context().unlink(self.root, name)?;
                }
                self.context().make(self.root, name, header.mode & 0o7777, NewContents::Directory)?
            }
        };
        self.apply_header(&path, header)?;
        fallible(|| self.directories.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        self.directories.push((path, header.modified()));
        Ok(())
    }

    /// All archives are unpacked.
    pub fn finish(self) -> Summary {
        // From the last to the first, as Linux does: what the first archive says of a directory holds.
        for (path, time) in self.directories.into_iter().rev() {
            let times = SetAttributes { accessed: Some(time), modified: Some(time), ..Default::default() };
            // Its time is all it would lack.
            let _ = path.inode().set_attributes(&times);
        }
        self.summary
    }

    fn key(header: &Header) -> Option<LinkKey> {
        (header.links > 1).then_some(LinkKey { inode: header.inode, device: header.device })
    }

    /// If another name of the same file came before, makes this one a link to it.
    fn link(&self, name: &[u8], header: &Header) -> Result<Option<Path>, Errno> {
        let Some(first) = Target::key(header).and_then(|key| self.links.get(&key)) else { return Ok(None) };
        if FileKind::of_mode(header.mode) != Some(first.dentry.kind()) {
            return Ok(None);
        }
        self.context().link(first, self.root, name)?;
        Ok(Some(first.clone()))
    }

    fn remember(&mut self, path: &Path, header: &Header) {
        if let Some(key) = Target::key(header) {
            self.links.insert(key, path.clone());
        }
    }

    /// Opens a file to be written from its beginning.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>, Errno> {
        path.inode().set_attributes(&SetAttributes { size: Some(0), ..Default::default() })?;
        path.inode().clone().open(&OpenRequest { flags: OpenFlags::WRITE_ONLY, caller: &self.caller })
    }

    /// Owner, permissions and times as the archive has them.
    fn apply_header(&self, path: &Path, header: &Header) -> Result<(), Errno> {
        let modified = Some(header.modified());
        path.inode().set_attributes(&SetAttributes {
            permissions: Some(header.mode & 0o7777),
            user: Some(header.user),
            group: Some(header.group),
            accessed: modified,
            modified,
            ..Default::default()
        })
    }
}
