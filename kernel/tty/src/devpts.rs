//! `/dev/pts`: the slaves that exist at this moment, as device files.

use alloc::string::ToString;
use alloc::sync::Arc;

use abi::{Errno, Result};
use sync::SpinLock;
use vfs::{
    Attributes, Caller, DeviceNumber, DirectoryEntry, DirectorySink, File, FileKind, FileSystem, FileSystemType,
    FileTraits, Inode, OpenRequest, Permissions, SetAttributes, Statistics, Time,
};

use crate::Pseudoterminals;
use crate::terminal::PTY_SLAVE_MAJOR;

/// `DEVPTS_SUPER_MAGIC`.
const MAGIC: u64 = 0x1cd1;
const ROOT_NUMBER: u64 = 1;
/// Inode numbers of slaves are theirs plus this, as in Linux.
const FIRST_NUMBER: u64 = 3;

/// The file system of the slaves.
pub struct DevPts {
    root: Arc<Root>,
}

impl DevPts {
    /// Shows the slaves of `pseudoterminals`.
    pub fn new(pseudoterminals: Arc<Pseudoterminals>) -> Arc<DevPts> {
        Arc::new(DevPts { root: Arc::new(Root(pseudoterminals)) })
    }
}

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn statistics(&self) -> Statistics {
        Statistics { magic: MAGIC, block_size: 4096, name_length: 255, ..Statistics::default() }
    }
}

/// `mount -t devpts`: always the same. Options are those every distribution passes (`gid=5,mode=620,ptmxmode=...`); they
/// are accepted where they say what is the case anyway.
pub struct DevPtsType(pub Arc<DevPts>);

impl FileSystemType for DevPtsType {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn mount(&self, _source: &[u8], options: &str, _caller: &dyn Caller) -> Result<Arc<dyn FileSystem>> {
        let known = |option: &str| matches!(option, "" | "gid=5" | "mode=620" | "mode=0620" | "ptmxmode=000");
        if options.split(',').all(known) { Ok(self.0.clone()) } else { Err(Errno::EINVAL) }
    }
}

struct Root(Arc<Pseudoterminals>);

impl Inode for Root {
    fn attributes(&self) -> Attributes {
        let now = Time::now();
        Attributes {
            number: ROOT_NUMBER,
            mode: self.permissions().mode,
            links: 2,
            block_size: 1024,
            accessed: now,
            modified: now,
            changed: now,
            ..Attributes::default()
        }
    }

    fn permissions(&self) -> Permissions {
        Permissions { mode: FileKind::Directory.mode() | 0o755, user: 0, group: 0 }
    }

    fn open(self: Arc<Self>, _request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(Arc::new(RootFile(self.0.clone())))
    }

    fn keeps_entries(&self) -> bool {
        false
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let number: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        let pair = self.0.find(number).filter(|_| number.to_string() == text).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(Slave { number, node: pair.node.clone() }))
    }
}

struct RootFile(Arc<Pseudoterminals>);

impl File for RootFile {
    fn traits(&self) -> FileTraits {
        FileTraits::SEEKABLE
    }

    fn read_directory(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        // The cookie of slave N is N + 2.
        while let Some(number) = u32::try_from(position.saturating_sub(2)).ok().and_then(|from| self.0.next(from)) {
            let (name, inode) = (number.to_string(), FIRST_NUMBER + u64::from(number));
            let next = u64::from(number) + 3;
            let kind = FileKind::CharacterDevice;
            if !sink.entry(DirectoryEntry { name: name.as_bytes(), number: inode, kind, next }) {
                break;
            }
            *position = next;
        }
        Ok(())
    }
}

/// What can be changed of a slave's device file: grantpt(3) and mesg(1) do.
pub(crate) struct Node(SpinLock<NodeState>);

struct NodeState {
    permissions: Permissions,
    created: Time,
    changed: Time,
}

impl Default for Node {
    /// The superuser's, and writable for group 5, `tty`.
    fn default() -> Node {
        let permissions = Permissions { mode: FileKind::CharacterDevice.mode() | 0o620, user: 0, group: 5 };
        Node(SpinLock::new(NodeState { permissions, created: Time::now(), changed: Time::now() }))
    }
}

struct Slave {
    number: u32,
    node: Arc<Node>,
}

impl Inode for Slave {
    fn attributes(&self) -> Attributes {
        let node = self.node.0.lock();
        Attributes {
            number: FIRST_NUMBER + u64::from(self.number),
            mode: node.permissions.mode,
            links: 1,
            user: node.permissions.user,
            group: node.permissions.group,
            represented: self.device(),
            block_size: 1024,
            accessed: node.created,
            modified: node.created,
            changed: node.changed,
            ..Attributes::default()
        }
    }

    fn permissions(&self) -> Permissions {
        self.node.0.lock().permissions
    }

    fn open(self: Arc<Self>, _request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Err(Errno::ENXIO)
    }

    fn device(&self) -> DeviceNumber {
        DeviceNumber { major: PTY_SLAVE_MAJOR, minor: self.number }
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<()> {
        let mut node = self.node.0.lock();
        let permissions = &mut node.permissions;
        if let Some(bits) = changes.permissions {
            permissions.mode = FileKind::CharacterDevice.mode() | bits;
        }
        permissions.user = changes.user.unwrap_or(permissions.user);
        permissions.group = changes.group.unwrap_or(permissions.group);
        node.changed = Time::now();
        Ok(())
    }
}
