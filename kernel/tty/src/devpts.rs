//! `/dev/pts`: the slaves that exist at this moment, as device files, and `ptmx`, which makes them. See devpts in the
//! kernel's documentation; `ptmx` here has no permissions until somebody gives it some, as everybody has `/dev/ptmx`.

use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt;

use abi::{Errno, Result};
use sync::SpinLock;
use vfs::{
    Attributes, Caller, DeviceNumber, DirectoryEntry, DirectorySink, File, FileKind, FileSystem, FileSystemType,
    FileTraits, Inode, NotReady, OpenRequest, Permissions, SetAttributes, Statistics, Time,
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
        let ptmx = Arc::new(Node::new(0, (0, 0)));
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

    fn options(&self, text: &mut dyn fmt::Write) -> fmt::Result {
        let settings = *self.root.pseudoterminals.settings.lock();
        for (name, id) in [("uid", settings.user), ("gid", settings.group)] {
            if let Some(id) = id {
                write!(text, ",{name}={id}")?;
            }
        }
        write!(text, ",mode={:03o},ptmxmode={:03o}", settings.mode, settings.ptmx_mode)
    }
}

/// Who gets the device files of slaves that are made from now on, and with which permissions: the options of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `uid=`; else whoever opened `ptmx`.
    user: Option<u32>,
    /// `gid=`, likewise.
    group: Option<u32>,
    /// `mode=`
    mode: u32,
    /// `ptmxmode=`
    ptmx_mode: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { user: None, group: None, mode: 0o600, ptmx_mode: 0 }
    }
}

impl Settings {
    /// # Errors
    /// `EINVAL` for an option Linux doesn't have, or can't understand.
    fn parse(options: &str) -> Result<Settings> {
        let mut settings = Settings::default();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let id = || value.parse().map_err(|_| Errno::EINVAL);
            let mode = || u32::from_str_radix(value, 8).map(|mode| mode & 0o7777).map_err(|_| Errno::EINVAL);
            match name {
                "uid" => settings.user = Some(id()?),
                "gid" => settings.group = Some(id()?),
                "mode" => settings.mode = mode()?,
                "ptmxmode" => settings.ptmx_mode = mode()?,
                // There is one instance, and how many terminals there may be is fixed.
                "newinstance" => {}
                "max" => drop(id()?),
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(settings)
    }

    /// The device file of a new slave, made by `owner`.
    pub fn node(&self, owner: (u32, u32)) -> Node {
        Node::new(self.mode, (self.user.unwrap_or(owner.0), self.group.unwrap_or(owner.1)))
    }
}

/// `mount -t devpts`: always the same file system. The options of the last mount hold for slaves that are made after it.
pub struct DevPtsType(pub Arc<DevPts>);

impl FileSystemType for DevPtsType {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn mount(&self, _source: &[u8], options: &str, _caller: &dyn Caller) -> Result<Arc<dyn FileSystem>> {
        let settings = Settings::parse(options)?;
        let root = &self.0.root;
        *root.pseudoterminals.settings.lock() = settings;
        root.ptmx.0.lock().permissions.mode = FileKind::CharacterDevice.mode() | settings.ptmx_mode;
        Ok(self.0.clone())
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

    #[expect(clippy::disallowed_methods, reason = "ten digits")]
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

    #[expect(clippy::disallowed_methods, reason = "ten digits")]
    fn read_directory(&self, position: &mut u64, sink: &mut dyn DirectorySink) -> Result<(), NotReady> {
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

impl Node {
    fn new(permissions: u32, (user, group): (u32, u32)) -> Node {
        let permissions = Permissions { mode: FileKind::CharacterDevice.mode() | permissions, user, group };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_a_mount_say_whose_slaves_are() {
        let permissions =
            |options: &str| Settings::parse(options).map(|settings| settings.node((7, 8)).0.lock().permissions);
        let owned =
            |mode: u32, user, group| Ok(Permissions { mode: FileKind::CharacterDevice.mode() | mode, user, group });
        assert_eq!(permissions(""), owned(0o600, 7, 8));
        assert_eq!(permissions("gid=5,mode=620,ptmxmode=000"), owned(0o620, 7, 5));
        assert_eq!(permissions("uid=3,newinstance,max=10"), owned(0o600, 3, 8));
        for wrong in ["gid=tty", "mode=9", "uid", "size=3", "gid=-1"] {
            assert_eq!(permissions(wrong), Err(Errno::EINVAL), "{wrong}");
        }
        assert_eq!(Settings::parse("ptmxmode=0666").unwrap().ptmx_mode, 0o666);
    }
}
