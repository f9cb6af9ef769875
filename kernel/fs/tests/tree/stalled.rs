//! Folders of a host that doesn't answer: a file system in user space that keeps reads and fsync(2) waiting for as long as the test wants.
//!
//! It speaks the protocol of the host's FUSE (linux/fuse.h), as much of it as one file needs. Where nobody may mount one the tests say so, and pass.

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

use super::*;

/// The one file: `f`, with this in it.
const TEXT: &[u8] = b"from afar";

/// Calls of a folder that wait for the host at once.
const HELPERS: usize = 16;

const ROOT: u64 = 1;
const FILE: u64 = 2;

/// A host folder that stalls.
struct Stalled {
    place: PathBuf,
    device: File,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    stalls: bool,
    /// The answers that are kept back, and how many requests of that kind came.
    kept: Vec<Vec<u8>>,
    asked: usize,
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
    let (mode, size) = if node == ROOT { (0o040_755, 0) } else { (0o100_644, TEXT.len() as u64) };
    let mut bytes = words(&[node, size, 1, 0, 0, 0]);
    bytes.extend(halves(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]));
    bytes
}

/// Answers a request, or keeps the answer.
fn serve(device: &mut File, request: &[u8], state: &Mutex<State>) {
    let half = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
    let word = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
    let (operation, unique, node) = (half(4), word(8), word(16));
    let hour = [3600, 0].map(|value: u64| value);
    let (mut error, mut stalls, mut body) = (0_i32, false, Vec::new());
    match operation {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return,
        // LOOKUP
        1 if &request[40..42] == b"f\0" => {
            body = words(&[FILE, 0, hour[0], hour[0], 0]);
            body.extend(attributes(FILE));
        }
        1 => error = -2,
        // GETATTR
        3 => {
            body = words(&hour);
            body.extend(attributes(node));
        }
        // OPEN without the host's page cache, OPENDIR
        14 => body = [words(&[0]), halves(&[1, 0])].concat(),
        27 => body = words(&[0, 0]),
        // READ
        15 => {
            stalls = true;
            let (offset, size) = (word(48) as usize, half(56) as usize);
            body = TEXT.iter().skip(offset).take(size).copied().collect();
        }
        // STATFS
        17 => body = vec![0; 80],
        // RELEASE, FLUSH, RELEASEDIR
        18 | 25 | 29 => {}
        // FSYNC
        20 => stalls = true,
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
    state.asked += usize::from(stalls);
    if stalls && state.stalls {
        state.kept.push(answer);
    } else {
        let _ = device.write(&answer);
    }
}

/// A kernel whose root is the folder, with the task that hands out answers.
fn world_on(stalled: &Stalled) -> World {
    let folder = SharedFolder::open(&stalled.place, b"/", true).unwrap();
    World::on(
        |memory| {
            let root = HostFs::new(&folder, memory).unwrap();
            let serve = root.serve();
            thread::spawn(|| {
                machine::cpu::set_current(1);
                run(serve);
            });
            root
        },
        MountFlags::READ_ONLY,
    )
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
    for before in 0..40 {
        let open = world.open("f", READ).unwrap();
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
