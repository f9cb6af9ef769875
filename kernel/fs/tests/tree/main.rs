//! vfs and tmpfs together, as programs would use them: one small kernel's worth of files for each test.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod changes;
mod cost;
mod descriptors;
mod devices;
mod faults;
mod host_calls;
mod hostfs;
/// The same tests on a folder that is taken for far: what they ask for is waited for.
#[path = "hostfs.rs"]
#[expect(clippy::duplicate_mod, reason = "its tests are to run on both kinds of folders")]
mod hostfs_far;
mod lock_order;
mod mounts;
mod negative;
mod open;
mod pipes;
mod races;
mod regular;
mod rename;
mod rules;
mod slow;
mod slow_names;
mod stalled;
mod walk;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::task::{Context as Task, Poll, Wake, Waker};

use abi::{Errno, Pid, Result};
use drivers::KernelLog;
use fs::devfs::{DevFs, DevFsType};
use fs::random::Random;
use fs::slow::SlowStore;
use fs::slow::names::SlowNames;
use fs::tmpfs::{Tmpfs, TmpfsType};
use machine::memory::FrameSource;
use memory::{AddressSpace, Destination, Memory, Source};
use sync::{Permit, Semaphore};
use vfs::{
    Access, Attributes, Caller, Capabilities, Context, Credentials, Lookup, MountFlags, MountNamespace, OpenFile,
    OpenFlags, Opening, Path, PausedWalks, RenameFlags, Vfs,
    wait::{self, At},
};

/// The frames of this process are counted, so one test runs at a time: whoever holds the semaphore's permit. (A guard
/// of std's mutex could not be shared by a test's threads.)
fn memory() -> (&'static Arc<Memory>, Permit<'static>) {
    static ALONE: Semaphore = Semaphore::new(1);
    static MEMORY: OnceLock<Arc<Memory>> = OnceLock::new();
    // Who waits for his turn lets no time pass in the world of somebody else, who counts what is free in it.
    let alone = run_beside(ALONE.acquire(), || false);
    (MEMORY.get_or_init(|| Memory::new().unwrap()), alone)
}

/// A kernel's files: tmpfs as root, devfs prepared.
struct World {
    vfs: Arc<Vfs>,
    namespace: Arc<MountNamespace>,
    dev: Arc<DevFs>,
    log: Arc<KernelLog>,
    root: Path,
    who: Credentials,
    umask: u32,
    broken_pipes: AtomicUsize,
    /// `RLIMIT_FSIZE`, and how often it was met.
    size_limit: u64,
    too_large: AtomicUsize,
    /// For walks that may pause.
    paused_walks: Option<PausedWalks>,
    /// Calls may have to wait, and are made again then.
    names_wait: bool,
    memory: &'static Arc<Memory>,
    _alone: Permit<'static>,
}

impl World {
    fn new() -> World {
        let seed = std::env::var("SLOW_FILES").ok().map(|seed| seed.parse().unwrap());
        seed.map_or_else(World::fast, |seed| {
            let (world, store, _) = World::slow(seed, 5);
            store.queue().set_failing(0, 20);
            world
        })
    }

    fn fast() -> World {
        let tmpfs = |memory: &Arc<Memory>| -> Arc<dyn vfs::FileSystem> {
            Tmpfs::new(memory, "rootfs", "nr_inodes=0", 2).unwrap()
        };
        World::on(tmpfs, MountFlags::empty())
    }

    /// The same on files whose names and pages take up to so many steps each, and fail to be written now and then.
    fn slow(seed: u64, slowness: u64) -> (World, Arc<SlowStore>, Arc<SlowNames>) {
        let mut made = None;
        let root = |memory: &Arc<Memory>| -> Arc<dyn vfs::FileSystem> {
            let store = SlowStore::new(memory, seed, slowness);
            let tmpfs = Tmpfs::over(memory, "rootfs", "nr_inodes=0", 2, Some(store.clone())).unwrap();
            let names = SlowNames::over(tmpfs, store.queue());
            made = Some((store, names.clone()));
            names
        };
        let mut world = World::on(root, MountFlags::empty());
        let (store, names) = made.unwrap();
        names.begin();
        *SLOW.write().unwrap() = Some(store.clone());
        world.names_wait = true;
        (world, store, names)
    }

    /// The same, with another root file system.
    fn on(root: impl FnOnce(&Arc<Memory>) -> Arc<dyn vfs::FileSystem>, flags: MountFlags) -> World {
        let (memory, alone) = memory();
        let vfs = Vfs::new(1);
        let random = Random::new();
        let log = Arc::new(KernelLog::default());
        let namespace = MountNamespace::new(&vfs, root(memory), "rootfs", flags).unwrap();
        let dev = DevFs::new(&vfs, memory, &random, &log).unwrap();
        vfs.file_system_types.register(Arc::new(TmpfsType { memory: memory.clone(), random })).unwrap();
        vfs.file_system_types.register(Arc::new(DevFsType(dev.clone()))).unwrap();
        let root = namespace.root().unwrap();
        let context = Credentials::superuser();
        let world = World {
            vfs,
            namespace,
            dev,
            log,
            root,
            who: context,
            umask: 0o022,
            broken_pipes: AtomicUsize::new(0),
            size_limit: u64::MAX,
            paused_walks: None,
            names_wait: false,
            too_large: AtomicUsize::new(0),
            memory,
            _alone: alone,
        };
        // The root of a tmpfs is sticky and open to all; the tests want an ordinary one.
        if !flags.contains(MountFlags::READ_ONLY) {
            world.context().chmod(&world.root, 0o755).unwrap();
        }
        world
    }

    fn context(&self) -> Calls<'_> {
        Calls(Context { root: &self.root, credentials: &self.who, caller: self, umask: self.umask })
    }

    /// Acts as an ordinary user from now on.
    fn become_user(&mut self, user: u32, groups: &[u32]) {
        self.who =
            Credentials { user, group: user, groups: Arc::new(groups.to_vec()), capabilities: Capabilities::empty() };
    }

    fn become_root(&mut self) {
        self.who = Credentials::superuser();
    }

    fn look(&self, name: &str) -> Result<Path> {
        self.context().lookup(&self.root, name.as_bytes(), Lookup::FOLLOW)
    }

    fn look_link(&self, name: &str) -> Result<Path> {
        self.context().lookup(&self.root, name.as_bytes(), Lookup::empty())
    }

    fn stat(&self, name: &str) -> Result<Attributes> {
        self.context()
            .wait(|context| context.attributes(&context.lookup(&self.root, name.as_bytes(), Lookup::FOLLOW)?))
    }

    /// What fstat(2) does first.
    fn look_again(&self, open: &OpenFile) {
        self.context().wait(|_| open.look_again(self)).unwrap();
    }

    fn number(&self, name: &str) -> u64 {
        self.stat(name).unwrap().number
    }

    /// What a file of /proc says of all mounts.
    fn mounts_text(&self, line: fn(&vfs::Mount, &[u8], &mut dyn std::fmt::Write) -> Result<()>) -> String {
        let mut text = String::new();
        let next = |id| self.namespace.after(id);
        for mount in std::iter::successors(next(0), |mount| next(mount.id())) {
            if let Some(point) = mount.place_below(&self.root, &mut 0).unwrap() {
                line(&mount, &point, &mut text).unwrap();
            }
        }
        text
    }

    fn mount_on(&self, target: &Path, filesystem: Arc<dyn vfs::FileSystem>) -> Result<()> {
        let mount = || self.namespace.mount(&self.vfs, filesystem.clone(), b"none", target, MountFlags::empty());
        self.context().wait(|context| context.on_mount_point(target, mount))
    }

    fn text(&self, path: &Path) -> String {
        String::from_utf8(path.text(&self.root).unwrap()).unwrap()
    }

    fn mkdir(&self, name: &str) -> Result<()> {
        self.context().mkdir(&self.root, name.as_bytes(), 0o777)
    }

    fn rmdir(&self, name: &str) -> Result<()> {
        self.context().rmdir(&self.root, name.as_bytes())
    }

    fn unlink(&self, name: &str) -> Result<()> {
        self.context().unlink(&self.root, name.as_bytes())
    }

    fn symlink(&self, target: &str, name: &str) -> Result<()> {
        self.context().symlink(target.as_bytes(), &self.root, name.as_bytes())
    }

    fn link(&self, old: &str, new: &str) -> Result<()> {
        self.context().link_from(old.as_bytes(), &self.root, new.as_bytes())
    }

    fn opening(&self, name: &str, flags: OpenFlags, mode: u32) -> Result<Opening> {
        self.context().open(&self.root, name.as_bytes(), flags, mode)
    }

    fn open(&self, name: &str, flags: OpenFlags) -> Result<Arc<OpenFile>> {
        match self.opening(name, flags, 0o666)? {
            Opening::Done(file) => Ok(file),
            Opening::Fifo(_) => panic!("{name} is a FIFO"),
            busy => block_on(busy.complete()),
        }
    }

    fn create(&self, name: &str) -> Result<Arc<OpenFile>> {
        self.open(name, OpenFlags::READ_WRITE | OpenFlags::CREATE)
    }

    fn write_file(&self, name: &str, bytes: &[u8]) {
        let open = self.open(name, OpenFlags::WRITE_ONLY | OpenFlags::CREATE | OpenFlags::TRUNCATE).unwrap();
        assert_eq!(self.write(&open, bytes), Ok(bytes.len()));
    }

    fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        let open = self.open(name, OpenFlags::empty())?;
        let mut bytes = vec![0; open.attributes().size as usize + 1];
        let length = self.read(&open, &mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn read(&self, open: &OpenFile, to: &mut [u8]) -> Result<usize> {
        block_on(wait::read(open, At::Position, &mut Destination::kernel(to), self))
    }

    fn write(&self, open: &OpenFile, bytes: &[u8]) -> Result<usize> {
        block_on(wait::write(open, At::Position, &mut Source::kernel(bytes), self))
    }

    fn truncate(&self, open: &OpenFile, size: u64) -> Result<()> {
        self.complete(open.truncate(size, self)?)
    }

    fn complete(&self, truncation: vfs::Truncation) -> Result<()> {
        if let Some(done) = truncation.try_now() {
            return done;
        }
        block_on(async { truncation.begin().await?.finish().await })
    }

    fn list(&self, name: &str) -> Vec<String> {
        let open = self.open(name, OpenFlags::DIRECTORY).unwrap();
        let mut names = Vec::new();
        let mut sink = |entry: vfs::DirectoryEntry<'_>| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        };
        block_on(open.read_directory(&mut sink)).unwrap();
        names
    }

    fn may(&self, name: &str, access: Access) -> Result<()> {
        self.context().check_access(&self.look(name)?, access)
    }

    /// Frames that are free once what is in flight has ended.
    fn free_frames(&self) -> usize {
        let store = SLOW.read().unwrap().clone();
        while store.as_ref().is_some_and(|store| store.queue().step()) {}
        self.memory.frames().free_frames()
    }
}

impl Caller for World {
    fn process(&self) -> Pid {
        Pid::new(1)
    }

    fn broken_pipe(&self) {
        self.broken_pipes.fetch_add(1, Ordering::Relaxed);
    }

    fn paused_walks(&self) -> Option<&PausedWalks> {
        let own = if self.names_wait { Some(own_walks()) } else { None };
        self.paused_walks.as_ref().or(own)
    }

    fn file_size_limit(&self) -> u64 {
        self.size_limit
    }

    fn file_too_large(&self) {
        self.too_large.fetch_add(1, Ordering::Relaxed);
    }

    fn in_group(&self, group: u32) -> bool {
        self.who.in_group(group)
    }

    fn keeps_set_id(&self) -> bool {
        self.who.has(Capabilities::FSETID)
    }

    fn memory(&self) -> Option<&AddressSpace> {
        None
    }

    fn vfs(&self) -> &Vfs {
        &self.vfs
    }
}

/// The store of all slow files. Whoever waits lets time pass there.
static SLOW: RwLock<Option<Arc<SlowStore>>> = RwLock::new(None);

/// What the call of this thread waits for.
fn own_walks() -> &'static PausedWalks {
    thread_local!(static WALKS: &'static PausedWalks = Box::leak(Box::default()));
    WALKS.with(|walks| *walks)
}

/// A call as a thread makes it: how often it was made, and what it came to.
struct Asked<T> {
    times: usize,
    result: Result<T>,
}

/// A thread of its own, by whom one call at a time is made.
struct Alone<'a> {
    world: &'a World,
    walks: PausedWalks,
}

impl Caller for Alone<'_> {
    fn process(&self) -> Pid {
        self.world.process()
    }

    fn broken_pipe(&self) {}

    fn paused_walks(&self) -> Option<&PausedWalks> {
        Some(&self.walks)
    }

    fn memory(&self) -> Option<&AddressSpace> {
        None
    }

    fn vfs(&self) -> &Vfs {
        &self.world.vfs
    }
}

impl<'a> Alone<'a> {
    fn new(world: &'a World) -> Alone<'a> {
        Alone { world, walks: PausedWalks::default() }
    }

    /// Makes a call, and makes it again each time it has waited.
    async fn asked<T>(&self, call: impl Fn(&Context<'_>, &Path) -> Result<T>) -> Asked<T> {
        let World { root, who, umask, .. } = self.world;
        let context = Context { root, credentials: who, caller: self, umask: *umask };
        let mut times = 0;
        let result = loop {
            times += 1;
            match call(&context, root) {
                Err(Errno::ERESTART) => self.walks.ready().await,
                result => break result,
            }
        };
        self.walks.forget();
        Asked { times, result }
    }

    /// The same, for what it came to.
    async fn call<T>(&self, call: impl Fn(&Context<'_>, &Path) -> Result<T>) -> Result<T> {
        self.asked(call).await.result
    }
}

/// The calls by path. Each that has to wait is made again when it has waited, as threads do it.
struct Calls<'a>(Context<'a>);

impl<'a> std::ops::Deref for Calls<'a> {
    type Target = Context<'a>;

    fn deref(&self) -> &Context<'a> {
        &self.0
    }
}

impl Calls<'_> {
    fn wait<T>(&self, call: impl Fn(&Context<'_>) -> Result<T>) -> Result<T> {
        let walks = own_walks();
        // Names are forgotten now and then.
        if SLOW.read().unwrap().as_ref().is_some_and(|store| store.queue().draw(3) == 0) {
            self.root.mount.super_block().forget_unused(4);
        }
        loop {
            match call(&self.0) {
                Err(Errno::ERESTART) if walks.any() => run(walks.ready()),
                result => {
                    walks.forget();
                    return result;
                }
            }
        }
    }

    fn lookup(&self, start: &Path, name: &[u8], how: Lookup) -> Result<Path> {
        self.wait(|context| context.lookup(start, name, how))
    }

    fn open(&self, start: &Path, name: &[u8], flags: OpenFlags, mode: u32) -> Result<Opening> {
        self.wait(|context| context.open(start, name, flags, mode))
    }

    fn open_program(&self, start: &Path, name: &[u8], how: Lookup) -> Result<Arc<OpenFile>> {
        self.wait(|context| context.open_program(start, name, how))
    }

    fn mkdir(&self, start: &Path, name: &[u8], mode: u32) -> Result<()> {
        self.wait(|context| context.mkdir(start, name, mode))
    }

    fn mknod(&self, start: &Path, name: &[u8], mode: u32, device: u64) -> Result<()> {
        self.wait(|context| context.mknod(start, name, mode, device))
    }

    fn symlink(&self, target: &[u8], start: &Path, name: &[u8]) -> Result<()> {
        self.wait(|context| context.symlink(target, start, name))
    }

    fn link(&self, old: &Path, start: &Path, name: &[u8]) -> Result<()> {
        self.wait(|context| context.link(old, start, name))
    }

    fn link_from(&self, old: &[u8], start: &Path, name: &[u8]) -> Result<()> {
        self.wait(|context| match context.take_changed() {
            Some(linked) => linked.map(drop),
            None => context.link(&context.lookup(start, old, Lookup::empty())?, start, name),
        })
    }

    fn chmod(&self, path: &Path, mode: u32) -> Result<()> {
        self.wait(|context| context.chmod(path, mode))
    }

    fn chown(&self, path: &Path, user: Option<u32>, group: Option<u32>) -> Result<()> {
        self.wait(|context| context.chown(path, user, group))
    }

    fn set_times(&self, path: &Path, accessed: vfs::NewTime, modified: vfs::NewTime) -> Result<()> {
        self.wait(|context| context.set_times(path, accessed, modified))
    }

    fn unlink(&self, start: &Path, name: &[u8]) -> Result<()> {
        self.wait(|context| context.unlink(start, name))
    }

    fn rmdir(&self, start: &Path, name: &[u8]) -> Result<()> {
        self.wait(|context| context.rmdir(start, name))
    }

    fn rename(&self, old: (&Path, &[u8]), new: (&Path, &[u8]), flags: RenameFlags) -> Result<()> {
        self.wait(|context| context.rename(old, new, flags))
    }
}

/// Whether there is a store of slow files.
fn files_are_slow() -> bool {
    SLOW.read().unwrap().is_some()
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread. Slow files are forgotten before, now and then.
fn block_on<F: Future>(future: F) -> F::Output {
    let store = SLOW.read().unwrap().clone();
    if let Some(store) = store.filter(|store| store.queue().draw(3) == 0) {
        run(store.forget());
    }
    run(future)
}

fn run<F: Future>(future: F) -> F::Output {
    run_beside(future, || SLOW.read().unwrap().as_ref().is_some_and(|store| store.queue().step()))
}

/// Runs `future`, and each time it waits does something that may help, if there was something.
fn run_beside<F: Future>(future: F, help: impl Fn() -> bool) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Task::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending if help() => {}
            Poll::Pending => std::thread::park(),
        }
    }
}

/// One poll, with a waker that counts.
fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>, count: &Arc<Count>) -> Poll<F::Output> {
    future.poll(&mut Task::from_waker(&Waker::from(count.clone())))
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A flag without its long name.
const READ: OpenFlags = OpenFlags::empty();
const WRITE: OpenFlags = OpenFlags::WRITE_ONLY;
const ENOENT: Errno = Errno::ENOENT;
