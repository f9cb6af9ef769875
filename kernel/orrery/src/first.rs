//! The first program: an init, or the one program the machine was started for.
//!
//! An init finds what its archive holds and arranges the rest itself. A program that was written for a system that is up
//! already finds one: the file systems every program expects are mounted, its standard streams lead where those of the
//! machine lead, and it leads a session on the terminal.

#![expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "at boot, before there are programs")]

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use drivers::Level;
use fs::devfs::DevFs;
use machine::device::{Program, StandardStream, StandardStreams};
use process::{FirstProgram, Kernel, Role};
use tty::Terminal;
use vfs::{
    Context, Credentials, FileTable, KernelCaller, Lookup, MountFlags, MountNamespace, OpenFile, OpenFlags, Opening,
    Path,
};

use crate::boot::{Failure, part};
use crate::options::Options;
use crate::streams;

/// The first program, unless `init=` names another.
const INIT: &str = "/init";

/// What is mounted for a program: where, which type, its options. In this order.
const MOUNTS: [(&str, &str, &str); 6] = [
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/dev", "devtmpfs", ""),
    ("/dev/pts", "devpts", "gid=5,mode=620"),
    ("/dev/shm", "tmpfs", "mode=1777"),
    ("/tmp", "tmpfs", "mode=1777"),
];

/// Folders a root of our own gets beside those.
const FOLDERS: [&str; 7] = ["/bin", "/etc", "/home", "/root", "/run", "/usr", "/var"];

/// Calls `act` with the kernel's view of all files, and the root.
fn with_view<T>(kernel: &Kernel, act: impl FnOnce(&Context<'_>, &Path) -> Result<T>) -> Result<T> {
    let root = kernel.namespaces().mounts().root()?;
    let (credentials, caller) = (Credentials::superuser(), KernelCaller(kernel.vfs()));
    act(&Context { root: &root, credentials: &credentials, caller: &caller, umask: 0 }, &root)
}

/// Mounts what programs expect, where the root has a place for it, or one can be made. `own_root`: the root is the kernel's
/// own, not somebody's folder.
pub fn mount_usual(kernel: &Kernel, own_root: bool) {
    if own_root {
        for folder in FOLDERS {
            // What the archive holds already stays.
            let _ = with_view(kernel, |context, root| context.mkdir(root, folder.as_bytes(), 0o755));
        }
    }
    for (place, kind, options) in MOUNTS {
        let result = if own_root && place == "/tmp" {
            with_view(kernel, |context, root| context.mkdir(root, place.as_bytes(), 0o1777))
        } else {
            mount(kernel, place, kind, options)
        };
        match result {
            Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => {}
            Err(errno) => kernel.log().print(Level::Notice, format_args!("{place} is not mounted: {errno}")),
        }
    }
}

/// Mounts a file system, unless something is mounted there. `ENODEV`: the kernel has no such type.
fn mount(kernel: &Kernel, place: &str, kind: &str, options: &str) -> Result<()> {
    let kind = kernel.vfs().file_system_types.find(kind.as_bytes())?;
    with_view(kernel, |context, root| {
        let target = match context.lookup(root, place.as_bytes(), Lookup::FOLLOW | Lookup::DIRECTORY) {
            Err(Errno::ENOENT) => {
                context.mkdir(root, place.as_bytes(), 0o755)?;
                context.lookup(root, place.as_bytes(), Lookup::FOLLOW | Lookup::DIRECTORY)?
            }
            found => found?,
        };
        if Arc::ptr_eq(&target.dentry, target.mount.root()) {
            return Ok(());
        }
        let source = kind.name().as_bytes();
        let filesystem = kind.mount(source, options, context.caller)?;
        kernel.namespaces().mounts().mount(kernel.vfs(), filesystem, source, &target, MountFlags::RELATIVE_ACCESS_TIMES)
    })
}

/// Starts the init, calling `begin` when all is there that the kernel itself has to do by name.
pub async fn start_init(
    kernel: &Arc<Kernel>,
    dev: &DevFs,
    streams: StandardStreams,
    options: &Options,
    begin: &(dyn Fn() + Sync),
) -> Result<(), Failure> {
    let path = options.init.as_deref().unwrap_or(INIT);
    let console = open_console(kernel, dev);
    if let (Err(errno), true) = (&console, streams.descriptors.contains(&StandardStream::Nothing)) {
        kernel.log().print(Level::Warning, format_args!("init has no console: {errno}"));
    }
    let files = standard_files(streams, |_| console.clone())?;
    let mut arguments: Vec<Vec<u8>> = alloc::vec![path.as_bytes().to_vec()];
    // bounded: at boot
    arguments.extend(options.init_arguments.iter().map(|word| word.as_bytes().to_vec()));
    let mut environment: Vec<Vec<u8>> = alloc::vec![b"HOME=/".to_vec()];
    if !options.init_environment.iter().any(|word| word.starts_with("TERM=")) {
        environment.push(b"TERM=linux".to_vec());
    }
    // bounded: at boot
    environment.extend(options.init_environment.iter().map(|word| word.as_bytes().to_vec()));
    let (arguments, environment) = (&*arguments, &*environment);
    let (path, role) = (path.as_bytes(), Role::Init);
    let first = FirstProgram { path, arguments, environment, files, working_directory: None, role };
    begin();
    kernel.start_init(first).await.map_err(|errno| Failure::Init(lossy(path), errno))?;
    Ok(())
}

/// Starts the program the machine was started for, calling `begin` as [`start_init`] does.
pub async fn start_program(
    kernel: &Arc<Kernel>,
    dev: &DevFs,
    streams: StandardStreams,
    terminal: Option<Arc<Terminal>>,
    program: &Program,
    begin: &(dyn Fn() + Sync),
) -> Result<(), Failure> {
    let Program { path, arguments, environment, working_directory } = program;
    let files = standard_files(streams, |stream| match (stream, &terminal) {
        (StandardStream::Terminal, Some(terminal)) => open_device(kernel, dev, terminal.name()),
        _ => open_device(kernel, dev, "null"),
    })?;
    let directory = match &**working_directory {
        [] => None,
        name => {
            let find =
                |context: &Context<'_>, root: &Path| context.lookup(root, name, Lookup::FOLLOW | Lookup::DIRECTORY);
            Some(with_view(kernel, find).map_err(|errno| Failure::WorkingDirectory(lossy(name), errno))?)
        }
    };
    let role = Role::Program { terminal };
    let first = FirstProgram { path, arguments, environment, files, working_directory: directory, role };
    begin();
    kernel.start_init(first).await.map_err(|errno| Failure::Program(lossy(path), errno))?;
    Ok(())
}

fn lossy(name: &[u8]) -> String {
    // bounded: a word of the command line, at boot
    String::from_utf8_lossy(name).into_owned()
}

/// Descriptors 0, 1 and 2: the machine's streams, and what `other` gives for what is no stream. One for which there is no
/// device is left closed, but none for want of memory: a program would do without it, and not know why.
fn standard_files(
    streams: StandardStreams,
    other: impl Fn(StandardStream) -> Result<Arc<OpenFile>>,
) -> Result<Arc<FileTable>, Failure> {
    let files = FileTable::new();
    let opened = streams::open(streams.streams);
    for (descriptor, stream) in streams.descriptors.into_iter().enumerate() {
        let file = match stream {
            StandardStream::Stream(index) => opened.get(index).cloned().ok_or(Errno::ENXIO),
            stream => other(stream),
        };
        match file {
            Err(Errno::ENOMEM) => return Err(Failure::Memory),
            Err(_) => {}
            Ok(file) => {
                files.replace(descriptor as i32, file, false, 3).map(drop).map_err(part("the standard streams"))?
            }
        }
    }
    Ok(files)
}

/// Opens the console for init, whether or not the archive has a node for it.
fn open_console(kernel: &Kernel, dev: &DevFs) -> Result<Arc<OpenFile>> {
    let namespace = MountNamespace::new(kernel.vfs(), dev.filesystem(), "dev", MountFlags::empty())?;
    let root = namespace.root()?;
    open(kernel, &root, b"console")
}

/// Opens a device by its name in the system's /dev, so that ttyname(3) finds it, or else in a /dev of our own.
fn open_device(kernel: &Kernel, dev: &DevFs, name: &str) -> Result<Arc<OpenFile>> {
    let path = alloc::format!("/dev/{name}");
    if let Ok(file) = open(kernel, &kernel.namespaces().mounts().root()?, path.as_bytes()) {
        return Ok(file);
    }
    let namespace = MountNamespace::new(kernel.vfs(), dev.filesystem(), "dev", MountFlags::empty())?;
    open(kernel, &namespace.root()?, name.as_bytes())
}

fn open(kernel: &Kernel, root: &Path, name: &[u8]) -> Result<Arc<OpenFile>> {
    let (credentials, caller) = (Credentials::superuser(), KernelCaller(kernel.vfs()));
    let context = Context { root, credentials: &credentials, caller: &caller, umask: 0 };
    match context.open(root, name, OpenFlags::READ_WRITE | OpenFlags::NO_CONTROLLING_TERMINAL, 0)? {
        Opening::Done(file) => Ok(file),
        Opening::Fifo(_) | Opening::Busy(..) => Err(Errno::ENXIO),
    }
}
