//! Folders of a host that doesn't answer: a file system in user space that keeps requests waiting for as long as the test wants.
//!
//! It speaks the protocol of the host's FUSE (linux/fuse.h), as much of it as a few files need. Where nobody may mount one the tests say so, and pass.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use ::fs::hostfs::HostFs;
use abi::memory::{MapFlags, Protection};
use machine::folder::SharedFolder;
use memory::{Backing, Limits, MapRequest};
use vfs::{Whence, XattrFlags};

use super::*;

/// What is in its files: `f`, `g`, and those that are made. `f` and what is made keep others waiting.
const TEXT: &[u8] = b"from afar";

/// Calls of a folder that wait for the host at once.
const HELPERS: usize = 16;

const ROOT: u64 = 1;
const FILE: u64 = 2;
const OTHER: u64 = 3;
const NEW: u64 = 4;
const NEW_DIRECTORY: u64 = 5;

/// A host folder that stalls.
struct Stalled {
    place: PathBuf,
    device: File,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    stalls: bool,
    /// Requests of this kind wait; if it is 0, reads and fsync(2).
    held: u32,
    /// The answers that are kept back, and how many requests of that kind came.
    kept: Vec<Vec<u8>>,
    asked: usize,
    /// There is a directory `new`.
    made: bool,
}

impl Stalled {
    fn new(name: &str) -> Option<Stalled> {
        let place = std::env::temp_dir().join(format!("orrery-stalled-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let stalled = Stalled::mount(&place);
        if stalled.is_none() {
            println!("skipped: this host lets nobody here mount a file system of his own");
            let _ = std::fs::remove_dir(&place);
        }
        stalled
    }

    fn mount(place: &PathBuf) -> Option<Stalled> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "stalled"]).arg(place);
        mount.stdin(Stdio::from(device.try_clone().ok()?)).stderr(Stdio::null());
        if !mount.status().ok()?.success() {
            return None;
        }
        let state = Arc::new(Mutex::new(State { stalls: true, ..State::default() }));
        let (mut end, shared) = (device.try_clone().ok()?, state.clone());
        thread::spawn(move || {
            let mut request = vec![0; 1 << 17];
            while let Ok(length) = end.read(&mut request) {
                serve(&mut end, &request[..length], &shared);
            }
        });
        Some(Stalled { place: place.clone(), device, state })
    }

    /// Answers whatever it has kept waiting, and keeps nothing waiting from now on.
    fn go_on(&mut self) {
        let mut state = self.state.lock().unwrap();
        state.stalls = false;
        for answer in std::mem::take(&mut state.kept) {
            // Who was killed is answered in vain.
            let _ = self.device.write(&answer);
        }
    }

    /// Waits until it was asked so often for what it keeps waiting.
    fn until_asked(&self, times: usize) {
        let begin = Instant::now();
        while self.state.lock().unwrap().asked < times {
            assert!(begin.elapsed() < Duration::from_secs(20), "nobody asks");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.go_on();
        // By force, so that no request is left unanswered: a process can't end while one of its own waits for it.
        let _ = Command::new("umount").args(["-f", "-l"]).arg(&self.place).status();
        let _ = std::fs::remove_dir(&self.place);
    }
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn halves(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn attributes(node: u64) -> Vec<u8> {
    let (mode, size) = match node {
        ROOT | NEW_DIRECTORY => (0o040_755, 0),
        _ => (0o100_644, TEXT.len() as u64),
    };
    let mut bytes = words(&[node, size, 1, 0, 0, 0]);
    bytes.extend(halves(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]));
    bytes
}

/// Answers a request, or keeps the answer.
fn serve(device: &mut File, request: &[u8], state: &Mutex<State>) {
    let half = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
    let word = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
    let (operation, unique, node) = (half(4), word(8), word(16));
    // The host is to ask for `f` each time.
    let valid = |node: u64| if node == OTHER || node == ROOT { 3600 } else { 0_u64 };
    let entry = |node: u64| [words(&[node, 0, valid(node), valid(node), 0]), attributes(node)].concat();
    let (mut error, mut body) = (0_i32, Vec::new());
    let mut stalls = node != OTHER;
    match operation {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return,
        LOOKUP => match &request[40..42] {
            b"f\0" => body = entry(FILE),
            b"g\0" => (stalls, body) = (false, entry(OTHER)),
            b"ne" if state.lock().unwrap().made => (stalls, body) = (false, entry(NEW_DIRECTORY)),
            _ => (stalls, error) = (false, -2),
        },
        GETATTR | SETATTR => {
            stalls &= node != ROOT;
            body = words(&[valid(node), 0]);
            body.extend(attributes(node));
        }
        CREATE => body = [entry(NEW), words(&[0]), halves(&[1, 0])].concat(),
        MKDIR => {
            state.lock().unwrap().made = true;
            body = entry(NEW_DIRECTORY);
        }
        UNLINK | RENAME => {}
        // OPEN without the host's page cache, OPENDIR
        OPEN => body = [words(&[0]), halves(&[1, 0])].concat(),
        27 => body = words(&[0, 0]),
        WRITE_REQUEST => body = halves(&[half(56), 0]),
        READDIR => {}
        // READ
        15 => {
            let (offset, size) = (word(48) as usize, half(56) as usize);
            body = TEXT.iter().skip(offset).take(size).copied().collect();
        }
        STATFS => {
            stalls = true;
            body = words(&[1000, 500, 400, 30, 20]);
            body.resize(80, 0);
        }
        // The host asks for others by itself; there are none.
        GETXATTR if !request[48..].starts_with(b"user.") => (stalls, error) = (false, -61),
        GETXATTR => body = b"blue".to_vec(),
        LISTXATTR => body = b"user.colour\0security.hidden\0".to_vec(),
        SETXATTR | REMOVEXATTR | FALLOCATE => {}
        LSEEK => body = words(&[5]),
        // RELEASE, RELEASEDIR, FSYNC
        18 | 29 | 20 | FLUSH => {}
        // INIT, as version 7.31
        26 => {
            body = halves(&[7, 31, 0, 0, 0, 1 << 16, 1, 0]);
            body.resize(64, 0);
        }
        // ENOSYS
        _ => error = -38,
    }
    let mut answer = halves(&[16 + body.len() as u32, error as u32]);
    answer.extend(words(&[unique]));
    answer.extend(body);
    let mut state = state.lock().unwrap();
    stalls &= if state.held == 0 { operation == 15 || operation == 20 } else { operation == state.held };
    state.asked += usize::from(stalls);
    if stalls && state.stalls {
        state.kept.push(answer);
    } else {
        let _ = device.write(&answer);
    }
}

/// A kernel whose root is the folder, with the task that hands out answers.
fn world_on(stalled: &Stalled) -> World {
    far_world(stalled, true)
}

/// The same, where files can be written.
fn far_world_on(stalled: &Stalled) -> World {
    far_world(stalled, false)
}

fn far_world(stalled: &Stalled, read_only: bool) -> World {
    let folder = SharedFolder::open(&stalled.place, b"/", read_only).unwrap();
    let mut made = None;
    let mut world = World::on(
        |memory| {
            let root = HostFs::new(&folder, memory).unwrap();
            made = Some(root.clone());
            let serve = root.serve();
            thread::spawn(|| {
                machine::cpu::set_current(1);
                run(serve);
            });
            root
        },
        // Nor is its mode changed here.
        MountFlags::READ_ONLY,
    );
    if !read_only {
        world.namespace.remount(&world.root, MountFlags::empty(), "", false).unwrap();
    }
    made.iter().for_each(|root| root.begin_to_wait());
    world.names_wait = true;
    // What the callers began who are killed, somebody has to complete.
    let changes = world.vfs.unfinished_changes.clone();
    thread::spawn(move || {
        machine::cpu::set_current(2);
        run(changes.complete());
    });
    world
}

/// Polls until something is woken, once; then `future` is done.
fn done_after_one_wake<F: Future>(mut future: Pin<&mut F>, count: &Arc<Count>) -> F::Output {
    let begin = Instant::now();
    while count.get() == 0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing was woken");
        thread::sleep(Duration::from_millis(1));
    }
    match poll_once(future.as_mut(), count) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("asked a second time in vain"),
    }
}

#[test]
fn a_read_waits_asleep_for_a_host_that_stalls() {
    let Some(mut stalled) = Stalled::new("read") else { return };
    let world = world_on(&stalled);
    let open = world.open("f", READ).unwrap();
    let count = Arc::new(Count::default());
    let mut bytes = [0; 64];
    {
        let mut to = Destination::kernel(&mut bytes);
        let mut reader = pin!(wait::read(&open, At::Position, &mut to, &world));
        assert!(poll_once(reader.as_mut(), &count).is_pending());
        stalled.until_asked(1);
        // Others go on, and so does who uses the same file otherwise.
        assert_eq!(world.stat("f").unwrap().size, TEXT.len() as u64);
        assert!(poll_once(reader.as_mut(), &count).is_pending());
        stalled.go_on();
        assert_eq!(done_after_one_wake(reader, &count), Ok(TEXT.len()));
    }
    assert_eq!(&bytes[..TEXT.len()], TEXT);
    // At the end of the file.
    assert_eq!(world.read(&open, &mut bytes), Ok(0));
}

#[test]
fn who_waits_for_a_host_that_stalls_can_be_killed() {
    let Some(mut stalled) = Stalled::new("killed") else { return };
    let world = world_on(&stalled);
    let count = Arc::new(Count::default());
    // Opened before: a name would have to wait for a helper as well.
    let open = world.open("f", READ).unwrap();
    for before in 0..40 {
        let mut bytes = [0; 4];
        let mut to = Destination::kernel(&mut bytes);
        let mut reader = pin!(wait::read(&open, At::Offset(0), &mut to, &world));
        assert!(poll_once(reader.as_mut(), &count).is_pending());
        stalled.until_asked(HELPERS.min(before + 1));
    }
    // As many as there are helpers are at it; of the others nothing is left.
    thread::sleep(Duration::from_millis(20));
    assert_eq!(stalled.state.lock().unwrap().asked, HELPERS);
    stalled.go_on();
    let mut bytes = [0; 4];
    assert_eq!(world.read(&world.open("f", READ).unwrap(), &mut bytes), Ok(4));
    assert_eq!(bytes, TEXT[..4]);
}

#[test]
fn fsync_waits_asleep_for_a_host_that_stalls() {
    let Some(mut stalled) = Stalled::new("fsync") else { return };
    let world = world_on(&stalled);
    let open = world.open("f", READ).unwrap();
    let count = Arc::new(Count::default());
    let mut syncing = pin!(wait::synchronise(&open, false));
    assert!(poll_once(syncing.as_mut(), &count).is_pending());
    stalled.until_asked(1);
    stalled.go_on();
    assert_eq!(done_after_one_wake(syncing, &count), Ok(()));
}

#[test]
fn a_fault_waits_asleep_for_a_host_that_stalls() {
    let Some(mut stalled) = Stalled::new("fault") else { return };
    let world = world_on(&stalled);
    let open = world.open("f", READ).unwrap();
    let space = AddressSpace::new(world.memory, Limits::default(), 5).unwrap();
    let backing = Backing::File { file: open.mapping().unwrap(), offset: 0 };
    let (protection, flags) = (Protection::READ, MapFlags::PRIVATE);
    let request = MapRequest { address: 0, length: 4096, protection, flags, backing };
    let address = space.map(&request).unwrap();
    let count = Arc::new(Count::default());
    let mut bytes = [0; 9];
    {
        let mut copying = pin!(space.copy_in(address, &mut bytes));
        assert!(poll_once(copying.as_mut(), &count).is_pending());
        stalled.until_asked(1);
        stalled.go_on();
        done_after_one_wake(copying, &count).unwrap();
    }
    assert_eq!(bytes, TEXT);
}

/// What the requests of a call by name are called in linux/fuse.h.
const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const OPEN: u32 = 14;
const WRITE_REQUEST: u32 = 16;
const FLUSH: u32 = 25;
const READDIR: u32 = 28;
const CREATE: u32 = 35;
const RENAME: u32 = 12;
const STATFS: u32 = 17;
const SETXATTR: u32 = 21;
const GETXATTR: u32 = 22;
const LISTXATTR: u32 = 23;
const REMOVEXATTR: u32 = 24;
const FALLOCATE: u32 = 43;
const LSEEK: u32 = 46;

/// A call on `f`, which the host keeps waiting for an answer to `operation`.
fn call_on_f<'a>(alone: &'a Alone<'_>, operation: u32) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
    let name = &b"f"[..];
    match operation {
        LOOKUP => Box::pin(alone.call(move |context, root| context.lookup(root, name, Lookup::FOLLOW).map(drop))),
        GETATTR => Box::pin(
            alone.call(move |context, root| context.attributes(&context.lookup(root, name, Lookup::FOLLOW)?).map(drop)),
        ),
        SETATTR => Box::pin(
            alone.call(move |context, root| context.chmod(&context.lookup(root, name, Lookup::FOLLOW)?, 0o600)),
        ),
        OPEN => Box::pin(alone.call(move |context, root| context.open(root, name, READ, 0).map(drop))),
        CREATE => Box::pin(alone.call(move |context, root| {
            context.open(root, b"new", OpenFlags::READ_WRITE | OpenFlags::CREATE, 0o644).map(drop)
        })),
        MKDIR => Box::pin(alone.call(move |context, root| context.mkdir(root, b"new", 0o755))),
        UNLINK => Box::pin(alone.call(move |context, root| context.unlink(root, name))),
        RENAME => {
            Box::pin(alone.call(move |context, root| context.rename((root, name), (root, b"to"), RenameFlags::empty())))
        }
        READDIR => Box::pin(async move {
            let opening = alone.call(|context, root| context.open(root, b".", OpenFlags::DIRECTORY, 0)).await?;
            let open = opening.complete().await?;
            open.read_directory(&mut |_: vfs::DirectoryEntry<'_>| true).await
        }),
        WRITE_REQUEST => Box::pin(async move {
            let opening = alone.call(move |context, root| context.open(root, name, WRITE, 0)).await?;
            let open = opening.complete().await?;
            wait::write(&open, At::Position, &mut Source::kernel(b"to afar"), alone).await.map(drop)
        }),
        STATFS => Box::pin(alone.call(move |context, root| {
            let found = context.statistics(&context.lookup(root, name, Lookup::FOLLOW)?)?;
            assert_eq!(
                (found.blocks, found.free, found.available, found.files, found.free_files),
                (1000, 500, 400, 30, 20)
            );
            Ok(())
        })),
        GETXATTR => Box::pin(on_f(alone, |context, f| {
            assert_eq!(*context.xattr(f, b"user.colour")?, b"blue"[..]);
            Ok(())
        })),
        LISTXATTR => Box::pin(on_f(alone, |context, f| {
            assert_eq!(context.list_xattrs(f)?, b"user.colour\0");
            Ok(())
        })),
        SETXATTR => {
            Box::pin(on_f(alone, |context, f| context.set_xattr(f, b"user.colour", b"red", XattrFlags::empty())))
        }
        REMOVEXATTR => Box::pin(on_f(alone, |context, f| context.remove_xattr(f, b"user.colour"))),
        FALLOCATE | LSEEK => Box::pin(async move {
            let opening = alone.call(move |context, root| context.open(root, name, OpenFlags::READ_WRITE, 0)).await?;
            let open = opening.complete().await?;
            if operation == FALLOCATE {
                return open.allocate(0, 0, 1 << 20, alone).await;
            }
            assert!(open.try_seek(1, Whence::Hole).is_none(), "it has to be waited for");
            assert_eq!(open.seek(1, Whence::Hole).await?, 5);
            assert_eq!(open.seek(0, Whence::Current).await?, 5);
            Ok(())
        }),
        _ => unreachable!(),
    }
}

/// A call that concerns `f`, and has looked it up.
async fn on_f(alone: &Alone<'_>, act: impl Fn(&Context<'_>, &Path) -> Result<()>) -> Result<()> {
    alone.call(move |context, root| act(context, &context.lookup(root, b"f", Lookup::FOLLOW)?)).await
}

/// Whatever the host keeps waiting for: others go on, and who waits can be killed, or is told when it is there.
#[test]
fn each_call_on_a_host_that_stalls_holds_up_only_its_caller() {
    let names = [LOOKUP, GETATTR, SETATTR, OPEN, CREATE, MKDIR, UNLINK, RENAME, READDIR];
    let others = [STATFS, GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR, WRITE_REQUEST, FALLOCATE, LSEEK];
    let operations = [&names[..], &others].concat();
    for operation in operations {
        let Some(mut stalled) = Stalled::new(&format!("operation-{operation}")) else { return };
        stalled.state.lock().unwrap().stalls = false;
        let world = far_world_on(&stalled);
        let other = world.open("g", READ).unwrap();
        assert_eq!(world.stat("g").unwrap().size, TEXT.len() as u64);
        let count = Arc::new(Count::default());
        for kill in [true, false] {
            {
                let mut state = stalled.state.lock().unwrap();
                (state.stalls, state.held, state.asked, state.made) = (true, operation, 0, false);
            }
            let alone = Alone::new(&world);
            let mut waiting = call_on_f(&alone, operation);
            let begin = Instant::now();
            while stalled.state.lock().unwrap().asked == 0 {
                assert!(begin.elapsed() < Duration::from_secs(20), "nobody asks for {operation}");
                assert!(poll_once(waiting.as_mut(), &count).is_pending(), "{operation} is not waited for");
                thread::sleep(Duration::from_millis(1));
            }
            // Others go on meanwhile.
            let mut bytes = [0; 16];
            block_on(wait::read(&other, At::Offset(0), &mut Destination::kernel(&mut bytes), &world)).unwrap();
            assert_eq!(&bytes[..TEXT.len()], TEXT);
            assert_eq!(world.stat("g").unwrap().size, TEXT.len() as u64, "beside {operation}");
            assert!(poll_once(waiting.as_mut(), &count).is_pending());
            if kill {
                drop(waiting);
                stalled.go_on();
                continue;
            }
            stalled.go_on();
            let begin = Instant::now();
            let done = loop {
                assert!(begin.elapsed() < Duration::from_secs(20), "{operation} does not end");
                if let Poll::Ready(done) = poll_once(waiting.as_mut(), &count) {
                    break done;
                }
                thread::sleep(Duration::from_millis(1));
            };
            assert_eq!(done, Ok(()), "{operation}");
        }
    }
}

/// close(2) tells the host too, and nobody waits for that.
#[test]
fn closing_a_file_of_a_host_that_stalls_takes_no_time() {
    let Some(mut stalled) = Stalled::new("close") else { return };
    stalled.state.lock().unwrap().stalls = false;
    let world = far_world_on(&stalled);
    let (open, other) = (world.open("f", READ).unwrap(), world.open("g", READ).unwrap());
    {
        let mut state = stalled.state.lock().unwrap();
        (state.stalls, state.held, state.asked) = (true, FLUSH, 0);
    }
    let begin = Instant::now();
    drop(open);
    assert!(begin.elapsed() < Duration::from_secs(1));
    stalled.until_asked(1);
    let mut bytes = [0; 16];
    block_on(wait::read(&other, At::Offset(0), &mut Destination::kernel(&mut bytes), &world)).unwrap();
    stalled.go_on();
}
