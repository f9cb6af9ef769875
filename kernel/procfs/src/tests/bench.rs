//! A kernel with a program that runs, and /proc mounted.

use std::sync::Arc;

use abi::{Errno, Pid, Result};
use memory::{AddressSpace, Destination, Source};
use process::stage::{Stage, Step, until};
use process::{Process, Role, RunState};
use vfs::{
    Caller, Context, Credentials, Dentry, DirectoryEntry, File, FileKind, Inode, Lookup, MountFlags, NotReady,
    OpenFile, OpenFlags, Opening, Path, Vfs,
};

use crate::ProcFs;

/// See the module's page.
pub struct Bench {
    pub stage: Stage,
    pub procfs: Arc<ProcFs>,
}

/// Who looks: a process by its number, with its leader; 0 is the kernel.
pub struct Viewer<'a>(pub u32, pub &'a Vfs);

/// The first process, whom most tests look with.
pub const ROOT: u32 = 1;

impl Caller for Viewer<'_> {
    fn process(&self) -> Pid {
        Pid::new(self.0)
    }
    fn broken_pipe(&self) {}
    fn memory(&self) -> Option<&AddressSpace> {
        None
    }
    fn vfs(&self) -> &Vfs {
        self.1
    }
}

/// Waits for signals for ever.
pub fn wait() -> Vec<Step> {
    vec![Step::Say("ready"), Step::Label("wait"), process::call!(__NR_pause), Step::Jump("wait")]
}

/// Waits until all threads of a process sleep.
pub fn asleep(process: &Process) {
    until(|| {
        let mut all = true;
        process.each_thread(|thread| all &= thread.run_state() == RunState::Sleeping);
        all
    });
}

impl Bench {
    /// A kernel whose first program has said "ready" so many times, and sleeps.
    pub fn new(ready: usize, steps: Vec<Step>) -> Bench {
        Bench::with(Stage::new(&[]), Role::Program { terminal: None }, ready, steps)
    }

    /// The same on a stage that is there.
    pub fn with(stage: Stage, role: Role, ready: usize, steps: Vec<Step>) -> Bench {
        let kernel = &stage.kernel;
        let console = match &role {
            Role::Program { terminal } => terminal.as_deref(),
            Role::Init => None,
        };
        let procfs = ProcFs::new(kernel, console, |number| if number == 0 { "read" } else { "other" });
        let bench = Bench { procfs: procfs.clone(), stage };
        bench.view(0, |context, root| {
            context.mkdir(root, b"/proc", 0o755).unwrap();
            let place = context.lookup(root, b"/proc", Lookup::FOLLOW).unwrap();
            let mounts = bench.stage.kernel.namespaces().mounts();
            mounts.mount(bench.stage.kernel.vfs(), procfs, b"proc", &place, MountFlags::empty()).unwrap();
        });
        let told = bench.stage.start_as(role, steps);
        until(|| told.lock().unwrap().iter().filter(|(text, _)| text == "ready").count() == ready);
        asleep(&bench.process(1));
        bench
    }

    pub fn process(&self, number: u32) -> Arc<Process> {
        self.stage.kernel.processes().process(Pid::new(number)).unwrap()
    }

    /// The files as somebody with all rights sees them.
    pub fn view<R>(&self, viewer: u32, act: impl FnOnce(&Context<'_>, &Path) -> R) -> R {
        let root = self.stage.kernel.namespaces().mounts().root().unwrap();
        let (credentials, caller) = (Credentials::superuser(), Viewer(viewer, self.stage.kernel.vfs()));
        act(&Context { root: &root, credentials: &credentials, caller: &caller, umask: 0 }, &root)
    }

    /// What a path in /proc leads to; a link at its end isn't followed.
    pub fn look(&self, path: &str) -> Result<Path> {
        let path = format!("/proc/{path}");
        self.view(ROOT, |context, root| context.lookup(root, path.as_bytes(), Lookup::empty()))
    }

    pub fn find(&self, path: &str) -> Result<Arc<dyn Inode>> {
        self.look(path).map(|path| path.inode().clone())
    }

    pub fn open_as(&self, viewer: u32, path: &str, flags: OpenFlags) -> Result<Arc<OpenFile>> {
        let path = format!("/proc/{path}");
        match self.view(viewer, |context, root| context.open(root, path.as_bytes(), flags, 0))? {
            Opening::Done(file) => Ok(file),
            _ => Err(Errno::ENXIO),
        }
    }

    pub fn open(&self, path: &str) -> Result<Arc<OpenFile>> {
        self.open_as(ROOT, path, OpenFlags::empty())
    }

    pub fn text(&self, path: &str) -> String {
        read_all(&**self.open(path).unwrap().file()).unwrap()
    }

    pub fn write(&self, path: &str, text: &str) -> Result<usize, NotReady> {
        write(&**self.open_as(ROOT, path, OpenFlags::WRITE_ONLY)?.file(), text)
    }

    /// Where a link leads for somebody, in words.
    pub fn link_for(&self, viewer: u32, path: &str) -> String {
        let path = self.look(path).unwrap();
        match self.view(viewer, |context, _| context.read_link(&path)) {
            Ok(text) => String::from_utf8(text).unwrap(),
            Err(errno) => format!("{errno}"),
        }
    }

    pub fn link(&self, path: &str) -> String {
        self.link_for(ROOT, path)
    }

    /// The names in a directory, `room` of them at a time.
    pub fn list(&self, path: &str, room: usize) -> Vec<String> {
        let directory = self.open_as(ROOT, path, OpenFlags::DIRECTORY).unwrap();
        assert_eq!(directory.kind(), Some(FileKind::Directory));
        let (mut names, mut position) = (Vec::new(), 2);
        loop {
            let (mut left, before) = (room, names.len());
            let mut sink = |entry: DirectoryEntry<'_>| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                true
            };
            directory.file().read_directory(&mut position, &mut sink).unwrap();
            if names.len() == before {
                return names;
            }
        }
    }
}

/// The whole of a text, in small pieces.
pub fn read_all(file: &dyn File) -> Result<String, NotReady> {
    let mut bytes = Vec::new();
    let mut part = [0; 100];
    loop {
        match file.read(bytes.len() as u64, &mut Destination::kernel(&mut part)) {
            Ok(0) => return Ok(String::from_utf8(bytes).unwrap()),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(NotReady::Yield) => {}
            Err(stop) => return Err(stop),
        }
    }
}

pub fn write(file: &dyn File, text: &str) -> Result<usize, NotReady> {
    file.write(0, &mut Source::kernel(text.as_bytes()))
}

/// The dentries from a path's up to the root of its mount, which stays.
pub fn way_up(path: Path) -> Vec<std::sync::Weak<Dentry>> {
    let dentries = std::iter::successors(Some(path.dentry), |dentry| dentry.parent());
    let mut way: Vec<_> = dentries.map(|dentry| Arc::downgrade(&dentry)).collect();
    way.pop();
    way
}
