//! `/dev/pts`: the slaves that exist at this moment, as device files, and `ptmx`, which makes them. See devpts in the
//! kernel's documentation; `ptmx` here has no permissions until somebody gives it some, as everybody has `/dev/ptmx`.

use alloc::string::{String, ToString};
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
const PTMX_NUMBER: u64 = 2;
const PTMX: &[u8] = b"ptmx";
/// Inode numbers of slaves are theirs plus this, as in Linux.
const FIRST_NUMBER: u64 = 3;

/// The file system of the slaves.
pub struct DevPts {
    root: Arc<Root>,
}

impl DevPts {
    /// Shows the slaves of `pseudoterminals`.
    pub fn new(pseudoterminals: Arc<Pseudoterminals>) -> Arc<DevPts> {
        let ptmx = Arc::new(Node::new(0, 0));
        Arc::new(DevPts { root: Arc::new(Root { pseudoterminals, ptmx }) })
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

    fn options(&self) -> String {
        ",gid=5,mode=620,ptmxmode=000".into()
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

struct Root {
    pseudoterminals: Arc<Pseudoterminals>,
    ptmx: Arc<Node>,
}

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
        Ok(Arc::new(RootFile(self.pseudoterminals.clone())))
    }

    fn keeps_entries(&self) -> bool {
        false
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if name == PTMX {
            return Ok(Arc::new(DeviceFile { number: PTMX_NUMBER, device: crate::pty::PTMX, node: self.ptmx.clone() }));
        }
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let number: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        let pair = self.pseudoterminals.find(number).filter(|_| number.to_string() == text).ok_or(Errno::ENOENT)?;
        let device = DeviceNumber { major: PTY_SLAVE_MAJOR, minor: number };
        let number = FIRST_NUMBER + u64::from(number);
        Ok(Arc::new(DeviceFile { number, device, node: pair.node.clone() }))
    }
}

struct RootFile(Arc<Pseudoterminals>);

impl File for RootFile {
    fn traits(&self) -> FileTraits {
        FileTraits::SEEKABLE
    }

    fn read_directory(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<()> {
        let kind = FileKind::CharacterDevice;
        if *position <= 2 {
            if !sink.entry(DirectoryEntry { name: PTMX, number: PTMX_NUMBER, kind, next: 3 }) {
                return Ok(());
            }
            *position = 3;
        }
        // The cookie of slave N is N + 3.
        while let Some(number) = u32::try_from(position.saturating_sub(3)).ok().and_then(|from| self.0.next(from)) {
            let (name, inode) = (number.to_string(), FIRST_NUMBER + u64::from(number));
            let next = u64::from(number) + 4;
            if !sink.entry(DirectoryEntry { name: name.as_bytes(), number: inode, kind, next }) {
                break;
            }
            *position = next;
        }
        Ok(())
    }
}

/// What can be changed of a device file: grantpt(3) and mesg(1) do.
pub(crate) struct Node(SpinLock<NodeState>);

struct NodeState {
    permissions: Permissions,
    created: Time,
    changed: Time,
}

impl Default for Node {
    /// The superuser's, and writable for group 5, `tty`.
    fn default() -> Node {
        Node::new(0o620, 5)
    }
}

impl Node {
    /// The superuser's.
    fn new(permissions: u32, group: u32) -> Node {
        let permissions = Permissions { mode: FileKind::CharacterDevice.mode() | permissions, user: 0, group };
        Node(SpinLock::new(NodeState { permissions, created: Time::now(), changed: Time::now() }))
    }
}

struct DeviceFile {
    number: u64,
    device: DeviceNumber,
    node: Arc<Node>,
}

impl Inode for DeviceFile {
    fn attributes(&self) -> Attributes {
        let node = self.node.0.lock();
        Attributes {
            number: self.number,
            mode: node.permissions.mode,
            links: 1,
            user: node.permissions.user,
            group: node.permissions.group,
            represented: self.device,
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
        self.device
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<()> {
        let mut node = self.node.0.lock();
        node.permissions.change(changes);
        node.changed = Time::now();
        Ok(())
    }
}
