//! Folders of the host in the guest's tree: each a hostfs, mounted where whoever started the machine wants it.
//!
//! Called at boot, the root folder first: what is given for `/` becomes the root file system, and the others find their
//! places in it. A place that is missing is made, in a root folder too.

#![expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]

use alloc::string::String;
use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::hostfs::HostFs;
use machine::device::SharedFolder;
use process::Kernel;
use vfs::{Context, Credentials, FileSystem, KernelCaller, Lookup, MountFlags, Path};

use crate::boot::{Failure, run_flusher};
use crate::stop::Ending;

/// What /proc/mounts shows as the source: where a folder is on the host is not the guest's business.
const SOURCE: &[u8] = b"hostfs";

/// Mounts folders of the host, each where the guest is to see it.
pub fn mount_folders(kernel: &Arc<Kernel>, ending: &Ending, folders: &[SharedFolder]) -> Result<(), Failure> {
    // bounded: a word of the command line, at boot
    let name = |folder: &SharedFolder| String::from_utf8_lossy(folder.guest_path()).into_owned();
    folders
        .iter()
        .try_for_each(|folder| mount(kernel, ending, folder).map_err(|errno| Failure::Folder(name(folder), errno)))
}

fn mount(kernel: &Arc<Kernel>, ending: &Ending, folder: &SharedFolder) -> Result<()> {
    let filesystem = HostFs::new(folder, kernel.memory())?;
    ending.add_folder(filesystem.clone());
    if let Some(flusher) = filesystem.flusher() {
        run_flusher(kernel.executor(), flusher);
    }
    let answers = sched::Parameters { name: "folder", ..Default::default() };
    kernel.executor().spawn(&answers, filesystem.serve());
    let place = place(kernel, folder.guest_path())?;
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::READ_ONLY, folder.is_read_only());
    kernel.namespaces().mounts().mount(kernel.vfs(), filesystem, SOURCE, &place, flags)
}

/// The directory at an absolute path, made if it is missing.
fn place(kernel: &Arc<Kernel>, path: &[u8]) -> Result<Path> {
    let root = kernel.namespaces().mounts().root()?;
    let (caller, credentials) = (KernelCaller(kernel.vfs()), Credentials::superuser());
    let context = Context { root: &root, credentials: &credentials, caller: &caller, umask: 0o022 };
    let mut place = root.clone();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        match context.mkdir(&place, name, 0o777) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        place = context.lookup(&place, name, Lookup::FOLLOW | Lookup::DIRECTORY)?;
    }
    Ok(place)
}
