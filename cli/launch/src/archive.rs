//! An initramfs: newc cpio (cpio(5)), written so that the same input gives the same bytes, and read as far as finding a
//! file in it needs. Whether an archive is sound is for the kernel to say, which unpacks it.

use std::collections::BTreeMap;

/// A file system to be, by path without the leading slash.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    entries: BTreeMap<Vec<u8>, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    content: Vec<u8>,
}

/// The file types of st_mode.
const TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// The length of an entry's header.
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";

/// The largest content an entry can have: its size has eight hexadecimal digits.
pub const LARGEST_FILE: u64 = u32::MAX as u64;

impl Archive {
    /// Adds a regular file, and the folders it lies in.
    pub fn file(&mut self, path: impl AsRef<[u8]>, permissions: u32, content: impl Into<Vec<u8>>) {
        self.insert(path.as_ref(), FILE | permissions, (0, 0), content.into());
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        self.insert(path.as_ref(), LINK | 0o777, (0, 0), target.as_ref().to_vec());
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: impl AsRef<[u8]>, permissions: u32) {
        self.insert(path.as_ref(), FOLDER | permissions, (0, 0), Vec::new());
    }

    /// Adds an entry of any type: `mode` as in st_mode, owned by this user and group.
    pub fn insert(&mut self, path: &[u8], mode: u32, owner: (u32, u32), content: Vec<u8>) {
        for (slash, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let folder = path.get(..slash).unwrap_or_default().to_vec();
            let missing = Entry { mode: FOLDER | 0o755, owner: (0, 0), content: Vec::new() };
            self.entries.entry(folder).or_insert(missing);
        }
        self.entries.insert(path.to_vec(), Entry { mode, owner, content });
    }

    /// Removes an entry.
    pub fn remove(&mut self, path: impl AsRef<[u8]>) {
        self.entries.remove(path.as_ref());
    }

    /// The archive: entries sorted by path, from the beginning of time.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.values().map(|entry| entry.content.len() + 2 * HEADER).sum());
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            append(&mut bytes, inode, path, entry);
        }
        append(&mut bytes, 0, TRAILER, &Entry { mode: 0, owner: (0, 0), content: Vec::new() });
        bytes
    }
}

/// One record of the newc format: a header of hexadecimal numbers, the name, the content, each padded to four bytes.
fn append(bytes: &mut Vec<u8>, inode: u32, path: &[u8], entry: &Entry) {
    let links = if entry.mode & TYPE == FOLDER { 2 } else { 1 };
    let (user, group) = entry.owner;
    let (size, name_size) = (entry.content.len() as u32, path.len() as u32 + 1);
    bytes.extend(b"070701");
    for field in [inode, entry.mode, user, group, links, 0, size, 0, 0, 0, 0, name_size, 0] {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(path);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(&entry.content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Type and permissions, as in st_mode.
    pub mode: u32,
    /// The bytes of a regular file, or a link's target.
    pub content: &'a [u8],
}

impl Found<'_> {
    /// Is it a regular file that somebody may execute?
    pub fn is_executable(&self) -> bool {
        self.mode & TYPE == FILE && self.mode & 0o111 != 0
    }

    /// Is it a directory?
    pub fn is_folder(&self) -> bool {
        self.mode & TYPE == FOLDER
    }
}

/// The names in a plain archive, or in several behind one another, the last of one name counting.
#[derive(Debug, Default)]
pub struct Index<'a> {
    entries: BTreeMap<Vec<u8>, Found<'a>>,
    complete: bool,
}

/// Symbolic links on the way to a file, as many as Linux follows.
const MOST_LINKS: usize = 40;

impl<'a> Index<'a> {
    /// Reads the headers. Ends at the first damage, which the kernel reports better than we could.
    pub fn read(archive: &'a [u8]) -> Index<'a> {
        let mut index = Index::default();
        let mut rest = archive;
        let mut ended = false;
        while let Some((path, found, after)) = next_entry(rest) {
            ended = path == TRAILER;
            if !ended {
                index.entries.insert(normal(path), found);
            }
            let zeros = after.iter().take_while(|byte| **byte == 0).count();
            rest = after.get(zeros..).unwrap_or_default();
        }
        index.complete = ended && rest.is_empty();
        index
    }

    /// Was everything read? If not, a file that is not found may still be there.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What lies at an absolute path, links followed.
    pub fn find(&self, path: &[u8]) -> Option<Found<'a>> {
        let mut left: Vec<Vec<u8>> = names(path).rev().map(<[u8]>::to_vec).collect();
        let mut at: Vec<u8> = Vec::new();
        let mut found = Found { mode: FOLDER | 0o755, content: &[] };
        let mut links = 0;
        while let Some(name) = left.pop() {
            if !found.is_folder() {
                return None;
            }
            if name == b".." {
                at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let parent = at.len();
            if parent > 0 {
                at.push(b'/');
            }
            at.extend(&name);
            found = *self.entries.get(&at)?;
            if found.mode & TYPE == LINK {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                at.truncate(if found.content.starts_with(b"/") { 0 } else { parent });
                left.extend(names(found.content).rev().map(<[u8]>::to_vec));
                found = Found { mode: FOLDER | 0o755, content: &[] };
            }
        }
        Some(found)
    }
}

/// The names of a path, without those that mean nothing.
fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

fn normal(path: &[u8]) -> Vec<u8> {
    names(path).collect::<Vec<_>>().join(&b'/')
}

/// The entry at the beginning of `archive`, and what follows it.
fn next_entry(archive: &[u8]) -> Option<(&[u8], Found<'_>, &[u8])> {
    let header = archive.get(..HEADER)?;
    if !matches!(header.get(..6)?, b"070701" | b"070702") {
        return None;
    }
    let field = |index: usize| {
        let digits = header.get(6 + index * 8..14 + index * 8)?;
        usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mode, size, name_size) = (field(1)?, field(6)?, field(11)?);
    let path = archive.get(HEADER..HEADER + name_size.checked_sub(1)?)?;
    let start = (HEADER + name_size).next_multiple_of(4);
    let content = archive.get(start..start.checked_add(size)?)?;
    let after = archive.get((start + size).next_multiple_of(4)..).unwrap_or_default();
    Some((path, Found { mode: mode as u32, content }, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_headers_of_110_bytes_and_ends_with_a_trailer() {
        let mut archive = Archive::default();
        archive.file("etc/motd", 0o644, "hi\n");
        let bytes = archive.bytes();
        assert!(bytes.starts_with(b"070701"));
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 3);
        assert!(text.find("etc\0").unwrap() < text.find("etc/motd\0").unwrap());
        assert!(text.contains("TRAILER!!!\0"));
        assert_eq!(bytes.get(110..114), Some(&b"etc\0"[..]));
    }

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.file("usr/bin/busybox", 0o755, "program");
        archive.link("bin", "usr/bin");
        archive.link("usr/bin/sh", "/bin/busybox");
        archive.link("usr/bin/up", "../../bin/./sh");
        archive.link("loop", "loop");
        archive.file("etc/motd", 0o644, "hi\n");
        archive.bytes()
    }

    #[test]
    fn files_are_found_through_links() {
        let bytes = sample();
        let index = Index::read(&bytes);
        for path in ["/usr/bin/busybox", "/bin/busybox", "/bin/sh", "//bin/./up", "/etc/../bin/sh"] {
            let found = index.find(path.as_bytes()).unwrap_or_else(|| panic!("{path}"));
            assert!(found.is_executable() && found.content == b"program", "{path}");
        }
        assert!(!index.find(b"/etc/motd").unwrap().is_executable());
        assert!(index.find(b"/").unwrap().is_folder());
        for path in ["/bin/ls", "/loop", "/etc/motd/x", "/bin/sh/.."] {
            assert_eq!(index.find(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn archives_behind_one_another_are_one() {
        let mut second = Archive::default();
        second.file("etc/motd", 0o755, "later");
        let bytes = [sample(), vec![0; 512], second.bytes()].concat();
        let index = Index::read(&bytes);
        assert!(index.is_complete() && index.find(b"/etc/motd").unwrap().content == b"later");
    }

    #[test]
    fn damage_ends_the_reading() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let index = Index::read(&bytes[..end]);
            let _ = index.find(b"/bin/sh");
            assert!(!index.is_complete() || end + 4 > bytes.len(), "{end}: only padding is missing");
        }
        assert_eq!(Index::read(b"070701 no numbers").find(b"/x"), None);
    }
}
