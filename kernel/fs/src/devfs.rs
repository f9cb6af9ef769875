//! `/dev`: a tmpfs that the kernel fills with the nodes of its devices, and programs may add to.
//!
//! Drivers register a device by number with vfs, and their node here: opening such a node anywhere leads to the driver.

use alloc::sync::Arc;
use core::fmt;

use abi::{Errno, Result};
use memory::{Destination, Memory, PageBudget, PageCache, Pager, Source};
use vfs::{
    Caller, Device, DeviceClass, DeviceNumber, File, FileSystem, FileSystemType, FileTraits, Inode, NewContents,
    NewInode, NotReady, OpenRequest, Statistics, Vfs,
};

use drivers::KernelLog;

use crate::kernel_log::KernelLogDevice;
use crate::random::Random;
use crate::tmpfs::Tmpfs;

/// `/dev`, wherever it is mounted: there is one of it.
pub struct DevFs {
    files: Arc<Lasting>,
    vfs: Arc<Vfs>,
}

/// The major number of the memory devices: null, zero and their like.
const MEMORY: u32 = 1;

impl DevFs {
    /// A `/dev` with null, zero, full, random, urandom, kmsg, and the links to a process's descriptors.
    ///
    /// # Errors
    /// `ENOMEM`, `EBUSY` when a number is registered already.
    pub fn new(vfs: &Arc<Vfs>, memory: &Arc<Memory>, random: &Arc<Random>, log: &Arc<KernelLog>) -> Result<Arc<DevFs>> {
        let files = Tmpfs::new(memory, "devtmpfs", "mode=755", random.word())?;
        let dev = Arc::new(DevFs { files: Arc::new(Lasting(files)), vfs: vfs.clone() });
        let number = |minor| DeviceNumber { major: MEMORY, minor };
        dev.register("null", 0o666, number(3), Arc::new(MemoryDevice::Null))?;
        dev.register("zero", 0o666, number(5), Arc::new(MemoryDevice::Zero(memory.clone())))?;
        dev.register("full", 0o666, number(7), Arc::new(MemoryDevice::Full))?;
        dev.register("random", 0o666, number(8), Arc::new(MemoryDevice::Random(random.clone())))?;
        dev.register("urandom", 0o666, number(9), Arc::new(MemoryDevice::Random(random.clone())))?;
        dev.register("kmsg", 0o644, number(11), Arc::new(KernelLogDevice(log.clone())))?;
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            dev.make(name, 0o777, NewContents::Symlink(target.as_bytes()))?;
        }
        for directory in ["pts", "shm"] {
            dev.make(directory, 0o755, NewContents::Directory)?;
        }
        Ok(dev)
    }

    /// Registers a character device and makes its node.
    ///
    /// # Errors
    /// `EBUSY` when the number is taken, `EEXIST` when the name is.
    pub fn register(&self, name: &str, mode: u32, number: DeviceNumber, device: Arc<dyn Device>) -> Result<()> {
        self.vfs.devices.register(DeviceClass::Character, number, name, device)?;
        self.make(name, mode, NewContents::CharacterDevice(number))
    }

    /// Registers a block device and makes its node.
    ///
    /// # Errors
    /// As [`DevFs::register`].
    pub fn register_block(&self, name: &str, mode: u32, number: DeviceNumber, device: Arc<dyn Device>) -> Result<()> {
        self.vfs.devices.register(DeviceClass::Block, number, name, device)?;
        self.make(name, mode, NewContents::BlockDevice(number))
    }

    /// The file system, to be mounted.
    pub fn filesystem(&self) -> Arc<dyn FileSystem> {
        self.files.clone()
    }

    fn top(&self) -> Arc<dyn Inode> {
        self.files.root()
    }

    fn make(&self, name: &str, permissions: u32, contents: NewContents<'_>) -> Result<()> {
        let top = self.top();
        if top.lookup(name.as_bytes()).is_ok() {
            return Err(Errno::EEXIST);
        }
        top.create(name.as_bytes(), &NewInode { permissions, user: 0, group: 0, contents }).map(|_| ())
    }
}

/// The files as they are mounted. Nothing is taken apart when the last mount goes, since all are there at the next one.
struct Lasting(Arc<Tmpfs>);

impl FileSystem for Lasting {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.0.root()
    }

    fn statistics(&self) -> Statistics {
        self.0.statistics()
    }

    fn options(&self, text: &mut dyn fmt::Write) -> fmt::Result {
        self.0.options(text)
    }

    fn remount(&self, options: &str) -> Result<()> {
        self.0.remount(options)
    }
}

/// `devtmpfs` for mount(2): always the same `/dev`.
pub struct DevFsType(pub Arc<DevFs>);

impl FileSystemType for DevFsType {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }

    fn mount(&self, _source: &[u8], _options: &str, _caller: &dyn Caller) -> Result<Arc<dyn FileSystem>> {
        Ok(self.0.filesystem())
    }
}

/// null(4), full(4), random(4).
#[derive(Clone)]
enum MemoryDevice {
    Null,
    Zero(Arc<Memory>),
    Full,
    Random(Arc<Random>),
}

impl Device for MemoryDevice {
    fn open(&self, _: DeviceNumber, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(Arc::new(self.clone()))
    }
}

impl File for MemoryDevice {
    fn traits(&self) -> FileTraits {
        FileTraits::SEEKABLE | FileTraits::STREAM
    }

    fn read(&self, _: u64, destination: &mut Destination<'_>) -> Result<usize, NotReady> {
        match self {
            MemoryDevice::Null => Ok(0),
            MemoryDevice::Zero(_) | MemoryDevice::Full => Ok(destination.zero(destination.remaining())?),
            MemoryDevice::Random(random) => {
                let before = destination.progress();
                while destination.remaining() > 0 {
                    let mut bytes = [0; 256];
                    let length = destination.remaining().min(bytes.len());
                    let bytes = bytes.get_mut(..length).unwrap_or_default();
                    random.fill(bytes);
                    destination.write(bytes)?;
                }
                Ok(destination.progress() - before)
            }
        }
    }

    fn write(&self, _: u64, source: &mut Source<'_>) -> Result<usize, NotReady> {
        let length = source.remaining();
        match self {
            MemoryDevice::Null | MemoryDevice::Zero(_) => source.advance(length),
            MemoryDevice::Full => return Err(Errno::ENOSPC.into()),
            MemoryDevice::Random(random) => {
                while source.remaining() > 0 {
                    let mut bytes = [0; 256];
                    let length = source.read(&mut bytes)?;
                    random.mix(bytes.get(..length).unwrap_or_default());
                }
            }
        }
        Ok(length)
    }
    /// Each mapping of the zero device is memory of its own.
    fn pager(&self) -> Option<Arc<dyn Pager>> {
        let MemoryDevice::Zero(memory) = self else { return None };
        let pages = PageCache::new(PageBudget::new(memory, u64::MAX));
        pages.grow(i64::MAX as u64);
        Some(Arc::new(pages))
    }
}
