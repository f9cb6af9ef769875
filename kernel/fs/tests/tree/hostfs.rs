//! A folder of the host as the root: what the guest does is done there, what the host does is seen here, and nothing
//! leads out.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;

use ::fs::hostfs::HostFs;
use abi::memory::{MapFlags, Protection, SyncFlags};
use machine::folder::SharedFolder;
use memory::{Backing, Limits, MapRequest, MemoryFault};
use vfs::{AllocateMode, FileKind, RenameFlags, Whence, XattrFlags};

use super::*;

const PAGE: usize = 4096;
const READ_WRITE: OpenFlags = OpenFlags::READ_WRITE;

/// A temporary folder of the host, and a kernel that has it as its root.
pub struct Shared {
    pub world: World,
    pub host: PathBuf,
}

impl Shared {
    pub fn new(name: &str) -> Shared {
        Shared::with(name, false, |_| ())
    }

    /// The folder is filled by `fill` before it is shared.
    fn with(name: &str, read_only: bool, fill: impl FnOnce(&PathBuf)) -> Shared {
        let host = std::env::temp_dir().join(format!("orrery-hostfs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&host);
        fs::create_dir(&host).unwrap();
        fill(&host);
        let far = module_path!().ends_with("far");
        let open = if far { SharedFolder::open_as_far } else { SharedFolder::open };
        let folder = open(&host, b"/", read_only).unwrap();
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::READ_ONLY, read_only);
        let mut made = None;
        let root = |memory: &Arc<Memory>| -> Arc<dyn vfs::FileSystem> {
            let root = HostFs::new(&folder, memory).unwrap();
            let serve = root.serve();
            made = Some(root.clone());
            std::thread::spawn(|| {
                machine::cpu::set_current(1);
                run(serve);
            });
            root
        };
        let mut world = World::on(root, flags);
        if far {
            world.names_wait = true;
            made.iter().for_each(|root| root.begin_to_wait());
        }
        Shared { world, host }
    }

    /// What nobody uses any more is on its way to a folder that is far.
    fn until_written_back(&self) {
        let begin = std::time::Instant::now();
        let flusher = self.world.root.mount.super_block().filesystem().flusher().unwrap().clone();
        while module_path!().ends_with("far") && flusher.unwritten() > 0 {
            assert!(begin.elapsed() < std::time::Duration::from_secs(30), "it is not written back");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn on_host(&self, name: &str) -> Vec<u8> {
        fs::read(self.host.join(name)).unwrap()
    }

    fn rename(&self, old: &str, new: &str, flags: RenameFlags) -> Result<()> {
        let root = &self.world.root;
        self.world.context().rename((root, old.as_bytes()), (root, new.as_bytes()), flags)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.host);
    }
}

/// A program that maps a file.
struct Mapped {
    space: Arc<AddressSpace>,
    address: usize,
    length: usize,
}

impl Mapped {
    fn new(world: &World, open: &Arc<OpenFile>, flags: MapFlags, length: usize) -> Mapped {
        let space = AddressSpace::new(world.memory, Limits::default(), 5).unwrap();
        let writable = flags.contains(MapFlags::PRIVATE) || open.flags().writable();
        let protection = if writable { Protection::READ | Protection::WRITE } else { Protection::READ };
        let backing = Backing::File { file: open.mapping().unwrap(), offset: 0 };
        let address = space.map(&MapRequest { address: 0, length, protection, flags, backing }).unwrap();
        Mapped { space, address, length }
    }

    fn get(&self, offset: usize, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        block_on(self.space.copy_in(self.address + offset, &mut bytes)).map(|()| bytes)
    }

    fn put(&self, offset: usize, bytes: &[u8]) {
        block_on(self.space.copy_out(self.address + offset, bytes)).unwrap();
    }

    fn synchronize(&self) -> Result<()> {
        block_on(self.space.synchronize(self.address, self.length, SyncFlags::SYNC))
    }
}

#[test]
fn what_the_guest_does_is_done_on_the_host() {
    let shared = Shared::new("guest");
    let world = &shared.world;
    world.write_file("f", b"hello");
    assert_eq!(shared.on_host("f"), b"hello");
    assert_eq!(fs::metadata(shared.host.join("f")).unwrap().mode() & 0o7777, 0o644);
    let open = world.open("f", READ_WRITE | OpenFlags::APPEND).unwrap();
    fs::OpenOptions::new().append(true).open(shared.host.join("f")).unwrap().write_at(b" and", 5).unwrap();
    assert_eq!(world.write(&open, b" all"), Ok(4));
    assert_eq!(shared.on_host("f"), b"hello and all");
    world.mkdir("d").unwrap();
    world.link("f", "d/g").unwrap();
    assert_eq!((world.number("f"), world.stat("f").unwrap().links), (world.number("d/g"), 2));
    assert!(Arc::ptr_eq(world.look("f").unwrap().inode(), world.look("d/g").unwrap().inode()));
    world.write_file("new", b"new");
    shared.rename("new", "f", RenameFlags::empty()).unwrap();
    assert_eq!((shared.on_host("f"), world.read_file("d/g").unwrap()), (b"new".to_vec(), b"hello and all".to_vec()));
    shared.rename("f", "d/g", RenameFlags::EXCHANGE).unwrap();
    assert_eq!((shared.on_host("d/g"), world.read_file("f").unwrap()), (b"new".to_vec(), b"hello and all".to_vec()));
    assert_eq!(shared.rename("f", "d/g", RenameFlags::NO_REPLACE), Err(Errno::EEXIST));
    assert_eq!(world.rmdir("d"), Err(Errno::ENOTEMPTY));
    world.unlink("f").unwrap();
    // Still open: it can be read, cut, and has no name.
    world.truncate(&open, 3).unwrap();
    assert_eq!((open.attributes().size, open.attributes().links), (3, 0));
    assert_eq!(block_on(open.seek(1, Whence::Start)), Ok(1));
    assert_eq!(world.read(&open, &mut [0; 9]), Ok(2));
    assert_eq!(world.list("/"), [".", "..", "d"]);
}

#[test]
fn what_the_host_does_is_seen_in_the_guest() {
    let shared = Shared::with("host", false, |host| fs::write(host.join("f"), "old").unwrap());
    let world = &shared.world;
    let old = world.open("f", READ).unwrap();
    // As an editor saves: another file under the same name.
    fs::write(shared.host.join("saved"), "new text").unwrap();
    fs::rename(shared.host.join("saved"), shared.host.join("f")).unwrap();
    assert_eq!(world.read_file("f").unwrap(), b"new text");
    assert_eq!(world.read(&old, &mut [0; 9]), Ok(3));
    world.look_again(&old);
    assert_eq!(old.attributes().links, 0);
    fs::write(shared.host.join("f"), "in place, longer").unwrap();
    assert_eq!(world.read_file("f").unwrap(), b"in place, longer");
    fs::remove_file(shared.host.join("f")).unwrap();
    assert_eq!(world.look("f").err(), Some(ENOENT));
    fs::create_dir(shared.host.join("f")).unwrap();
    assert_eq!(world.look("f").unwrap().dentry.kind(), FileKind::Directory);
    world.write_file("f/inside", b"");
    fs::rename(shared.host.join("f"), shared.host.join("g")).unwrap();
    assert_eq!((world.look("f/inside").err(), world.stat("g/inside").unwrap().size), (Some(ENOENT), 0));
}

/// Whoever saves a file as editors do never makes it disappear for the guest.
#[test]
fn who_may_is_asked_anew_when_the_host_has_changed_it() {
    use std::os::unix::fs::PermissionsExt;
    let mut shared = Shared::with("rights", false, |host| fs::write(host.join("f"), "x").unwrap());
    let change = |host: &PathBuf, mode| fs::set_permissions(host.join("f"), fs::Permissions::from_mode(mode)).unwrap();
    change(&shared.host, 0o644);
    shared.world.become_user(12_345, &[]);
    assert_eq!(shared.world.may("f", Access::READ), Ok(()));
    change(&shared.host, 0o600);
    assert_eq!(shared.world.may("f", Access::READ), Err(Errno::EACCES));
    change(&shared.host, 0o604);
    assert_eq!(shared.world.open("f", READ).map(drop), Ok(()));
}

#[test]
fn a_file_that_is_saved_all_the_time_can_be_opened() {
    let shared = Shared::with("saved", false, |host| fs::write(host.join("f"), "text").unwrap());
    let (world, host) = (&shared.world, shared.host.clone());
    let saving = std::thread::spawn(move || {
        for _ in 0..3000 {
            fs::write(host.join("new"), "text").unwrap();
            fs::rename(host.join("new"), host.join("f")).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(20));
        }
    });
    while !saving.is_finished() {
        assert_eq!(world.read_file("f").as_deref(), Ok(&b"text"[..]));
    }
    saving.join().unwrap();
}

#[test]
fn nothing_leads_out() {
    let shared = Shared::with("out", false, |host| {
        symlink("/etc/passwd", host.join("absolute")).unwrap();
        symlink("../../../../../../etc/passwd", host.join("relative")).unwrap();
        symlink("/proc/self/root/etc/passwd", host.join("magic")).unwrap();
        symlink("/", host.join("top")).unwrap();
    });
    let world = &shared.world;
    for name in ["absolute", "relative", "magic", "../etc/passwd", "/../../etc/passwd", "top/etc/passwd"] {
        assert_eq!(world.open(name, READ).err(), Some(ENOENT), "{name}");
    }
    assert_eq!(world.number("../.."), world.number("/"));
    assert_eq!(world.number("top"), world.number("/"));
    // The guest's own file, where the link says, is what it leads to.
    world.mkdir("etc").unwrap();
    world.write_file("etc/passwd", b"the guest's");
    for name in ["absolute", "relative", "top/etc/passwd"] {
        assert_eq!(world.read_file(name).unwrap(), b"the guest's");
    }
    // A directory that becomes a link while somebody stands in it.
    let inside = world.look("etc").unwrap();
    fs::rename(shared.host.join("etc"), shared.host.join("was")).unwrap();
    symlink("/etc", shared.host.join("etc")).unwrap();
    let from_inside = world.context().lookup(&inside, b"passwd", Lookup::FOLLOW);
    assert!(from_inside.map_or(true, |path| path.attributes().size == 11));
    assert_eq!(world.look("etc").err(), Some(Errno::ELOOP), "a link to itself, in the guest");
}

#[test]
fn names_are_as_long_as_linux_allows() {
    let shared = Shared::new("names");
    let world = &shared.world;
    world.write_file(&"x".repeat(255), b"");
    assert_eq!(world.create(&"x".repeat(256)).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(world.look(&"x".repeat(256)).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(world.create("with\0zero").err(), Some(Errno::EINVAL));
}

#[test]
fn read_only_means_nothing_changes() {
    let shared = Shared::with("readonly", true, |host| fs::write(host.join("f"), "kept").unwrap());
    let world = &shared.world;
    assert_eq!(world.open("f", READ_WRITE).err(), Some(Errno::EROFS));
    assert_eq!(world.create("g").err(), Some(Errno::EROFS));
    assert_eq!([world.mkdir("d"), world.unlink("f"), world.symlink("a", "b")], [Err(Errno::EROFS); 3]);
    // And not even if the guest thinks it may.
    world.namespace.remount(&world.root, MountFlags::empty(), "", false).unwrap();
    assert_eq!(world.open("f", READ_WRITE).err(), Some(Errno::EROFS));
    assert_eq!(world.open("f", WRITE | OpenFlags::TRUNCATE).err(), Some(Errno::EROFS));
    assert_eq!(world.create("g").err(), Some(Errno::EROFS));
    assert_eq!([world.mkdir("d"), world.unlink("f"), world.symlink("a", "b")], [Err(Errno::EROFS); 3]);
    assert_eq!(world.context().chmod(&world.look("f").unwrap(), 0), Err(Errno::EROFS));
    assert_eq!(world.read_file("f").unwrap(), b"kept");
    world.open("f", READ).unwrap();
}

#[test]
fn special_files_mean_what_they_mean_in_the_guest() {
    let shared = Shared::new("special");
    let world = &shared.world;
    world.context().mknod(&world.root, b"fifo", 0o010644, 0).unwrap();
    world.context().mknod(&world.root, b"socket", 0o140644, 0).unwrap();
    assert_eq!(world.context().mknod(&world.root, b"null", 0o020644, 0x103), Err(Errno::EPERM));
    assert_eq!(world.open("socket", READ).err(), Some(Errno::ENXIO));
    // Programs of the guest meet in the FIFO; on the host nobody opened it.
    let flags = READ | OpenFlags::NON_BLOCK;
    let reader = block_on(world.opening("fifo", flags, 0).unwrap().complete()).unwrap();
    let flags = WRITE | OpenFlags::NON_BLOCK;
    let writer = block_on(world.opening("fifo", flags, 0).unwrap().complete()).unwrap();
    assert_eq!(world.write(&writer, b"through"), Ok(7));
    assert_eq!(world.read(&reader, &mut [0; 9]), Ok(7));
    let made = std::process::Command::new("mknod").arg(shared.host.join("disk")).args(["b", "259", "77"]).status();
    if made.is_ok_and(|status| status.success()) {
        let represented = vfs::DeviceNumber { major: 259, minor: 77 };
        assert_eq!(world.stat("disk").unwrap().represented, represented);
        assert_eq!(world.open("disk", READ).err(), Some(Errno::ENXIO), "the guest has no such driver");
    }
}

#[test]
fn ten_thousand_files_are_listed_and_removed() {
    let shared = Shared::with("many", false, |host| {
        fs::create_dir(host.join("d")).unwrap();
        (0..10_000).for_each(|index| fs::write(host.join(format!("d/{index}")), "").unwrap());
    });
    let world = &shared.world;
    let mut names = world.list("d");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 10_002);
    // In small pieces, each entry removed when it is seen: none is skipped, none comes twice.
    let open = world.open("d", OpenFlags::DIRECTORY).unwrap();
    let mut removed = 0;
    loop {
        let mut piece = Vec::new();
        let mut sink = |entry: vfs::DirectoryEntry<'_>| {
            piece.push(String::from_utf8(entry.name.to_vec()).unwrap());
            piece.len() <= 70
        };
        block_on(open.read_directory(&mut sink)).unwrap();
        if piece.is_empty() {
            break;
        }
        piece.truncate(70);
        for name in piece.iter().filter(|name| !name.starts_with('.')) {
            world.unlink(&format!("d/{name}")).unwrap();
            removed += 1;
        }
    }
    assert_eq!((removed, world.list("d").len()), (10_000, 2));
    world.rmdir("d").unwrap();
    assert_eq!(world.list("/"), [".", ".."]);
}

#[test]
fn directories_are_read_again_from_anywhere() {
    let shared = Shared::with("seek", false, |host| {
        (0..500).for_each(|index| fs::write(host.join(index.to_string()), "").unwrap());
    });
    let open = shared.world.open("/", OpenFlags::DIRECTORY).unwrap();
    let read = || {
        let mut found = Vec::new();
        let mut sink = |entry: vfs::DirectoryEntry<'_>| {
            found.push((entry.next, entry.name.to_vec()));
            true
        };
        block_on(open.read_directory(&mut sink)).unwrap();
        found
    };
    let all = read();
    assert_eq!((all.len(), read().len()), (502, 0));
    block_on(open.seek(all[99].0 as i64, Whence::Start)).unwrap();
    assert_eq!(read(), all[100..]);
    block_on(open.seek(0, Whence::Start)).unwrap();
    assert_eq!(read(), all);
    block_on(open.seek(1 << 40, Whence::Start)).unwrap();
    assert!(read().is_empty());
}

#[test]
fn anything_can_be_mounted_over() {
    let shared = Shared::with("mount", false, |host| fs::create_dir_all(host.join("a/b/c")).unwrap());
    let world = &shared.world;
    let tmpfs = Tmpfs::new(world.memory, "tmpfs", "", 9).unwrap();
    let place = world.look("a/b/c").unwrap();
    world.namespace.mount(&world.vfs, tmpfs, b"none", &place, MountFlags::empty()).unwrap();
    world.write_file("a/b/c/inside", b"");
    assert_eq!(world.list("a/b/c"), [".", "..", "inside"]);
    assert_eq!(fs::read_dir(shared.host.join("a/b/c")).unwrap().count(), 0);
    assert_eq!(world.rmdir("a/b/c"), Err(Errno::EBUSY));
    let mounts = world.mounts_text(vfs::Mount::mounts_line);
    assert!(mounts.starts_with("rootfs / hostfs rw 0 0\nnone /a/b/c tmpfs rw"), "{mounts}");
    drop(place);
    world.namespace.unmount(world.look("a/b/c").unwrap(), false).unwrap();
    assert_eq!(world.list("a/b/c"), [".", ".."]);
}

#[test]
fn a_removed_working_directory_is_empty() {
    let shared = Shared::new("removed");
    let world = &shared.world;
    world.mkdir("d").unwrap();
    let here = world.look("d").unwrap();
    world.rmdir("d").unwrap();
    let open = match world.context().open(&here, b".", OpenFlags::DIRECTORY, 0).unwrap() {
        Opening::Done(open) => open,
        _ => panic!("no FIFO"),
    };
    let mut any = |_: vfs::DirectoryEntry<'_>| true;
    assert_eq!(block_on(open.read_directory(&mut any)), Err(ENOENT));
    assert_eq!(world.context().mkdir(&here, b"x", 0o777), Err(ENOENT));
    assert_eq!(here.attributes().links, 0);
}

#[test]
fn private_mappings_copy_and_leave_nothing_behind() {
    let bytes: Vec<u8> = (0..40 * PAGE + 10).map(|at| (at % 241) as u8).collect();
    let shared = Shared::with("private", false, |host| fs::write(host.join("f"), &bytes).unwrap());
    let world = &shared.world;
    let before = world.free_frames();
    let open = world.open("f", READ).unwrap();
    let mapped = Mapped::new(world, &open, MapFlags::PRIVATE, 41 * PAGE);
    assert_eq!(mapped.get(3, bytes.len() - 3).unwrap(), bytes[3..]);
    assert_eq!(mapped.get(40 * PAGE + 10, PAGE - 10).unwrap(), [0; PAGE - 10], "behind the end are zeros");
    mapped.put(5, b"mine");
    assert_eq!(mapped.get(4, 6).unwrap(), [4, b'm', b'i', b'n', b'e', 9]);
    assert_eq!(shared.on_host("f"), bytes);
    drop((open, mapped));
    assert_eq!(world.free_frames(), before);
}

#[test]
fn shared_mappings_reach_the_host() {
    let shared = Shared::with("shared", false, |host| fs::write(host.join("f"), vec![b'.'; 3 * PAGE + 100]).unwrap());
    let world = &shared.world;
    let open = world.open("f", READ_WRITE).unwrap();
    let mapped = Mapped::new(world, &open, MapFlags::SHARED, 4 * PAGE);
    mapped.put(10, b"first");
    mapped.put(3 * PAGE + 90, &[b'x'; 200]);
    // read(2) agrees at once; the host learns with msync(2).
    let read = |at: i64, length: usize| {
        let mut bytes = vec![0; length];
        block_on(open.seek(at, Whence::Start)).unwrap();
        let length = world.read(&open, &mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    };
    assert_eq!(read(8, 9), b"..first..");
    assert_eq!(read(3 * PAGE as i64 + 80, 100), [&[b'.'; 10][..], &[b'x'; 10]].concat());
    assert_eq!(read(0, 5 * PAGE).len(), 3 * PAGE + 100);
    assert!(read(2 * PAGE as i64, PAGE + 92).ends_with(b"..xx"), "from the host as far as nothing was written here");
    mapped.synchronize().unwrap();
    assert_eq!(shared.on_host("f")[8..17], *b"..first..");
    assert_eq!(shared.on_host("f").len(), 3 * PAGE + 100, "a mapping makes no file longer");
    // The next write is noticed again.
    mapped.put(10, b"again");
    block_on(wait::synchronise(&open, false)).unwrap();
    assert_eq!(shared.on_host("f")[8..17], *b"..again..");
    // write(2) is seen in the mapping, on dirty pages and clean ones.
    mapped.put(20, b"dirty");
    block_on(open.seek(22, Whence::Start)).unwrap();
    world.write(&open, b"-").unwrap();
    assert_eq!(mapped.get(20, 5).unwrap(), b"di-ty");
    assert_eq!(shared.on_host("f")[20..25], *b"..-..", "the rest waits to be written back");
    // What is written behind the end is nothing, also when the file grows.
    world.truncate(&open, 4 * PAGE as u64).unwrap();
    assert_eq!(mapped.get(3 * PAGE + 95, 10).unwrap(), b"xxxxx\0\0\0\0\0");
    // Punched, it reads as zeros everywhere.
    block_on(open.allocate(3, 2 * PAGE as i64 - 4, 8, world)).unwrap();
    assert_eq!(mapped.get(2 * PAGE - 6, 12).unwrap(), b"..\0\0\0\0\0\0\0\0..");
    // Closed, it is all there: the mapping was the last user.
    let host = shared.host.join("f");
    drop(open);
    assert_eq!(fs::read(&host).unwrap()[20..25], *b"..-..");
    drop(mapped);
    shared.until_written_back();
    assert_eq!(fs::read(&host).unwrap()[20..25], *b"di-ty");
}

#[test]
fn who_synchronises_the_file_system_has_all_on_the_host() {
    let shared = Shared::with("sync", false, |host| fs::write(host.join("f"), vec![b'.'; 2 * PAGE]).unwrap());
    let world = &shared.world;
    let open = world.open("f", READ_WRITE).unwrap();
    let mapped = Mapped::new(world, &open, MapFlags::SHARED, 2 * PAGE);
    mapped.put(PAGE, b"mapped");
    assert_eq!(shared.on_host("f")[PAGE..PAGE + 6], *b"......");
    let filesystem = world.root.mount.super_block().filesystem();
    assert_eq!(filesystem.flusher().unwrap().unwritten(), 1);
    block_on(vfs::synchronise(&**filesystem)).unwrap();
    assert_eq!(shared.on_host("f")[PAGE..PAGE + 6], *b"mapped");
    assert_eq!(filesystem.flusher().unwrap().unwritten(), 0);
}

#[test]
fn a_mapping_reaches_what_the_host_appends() {
    let shared = Shared::with("append", false, |host| fs::write(host.join("f"), vec![b'a'; 10]).unwrap());
    let open = shared.world.open("f", READ).unwrap();
    let mapped = Mapped::new(&shared.world, &open, MapFlags::SHARED, 2 * PAGE);
    assert_eq!(mapped.get(0, 1).unwrap(), b"a");
    assert!(mapped.get(PAGE, 1).is_err());
    let host = fs::OpenOptions::new().write(true).open(shared.host.join("f")).unwrap();
    host.write_at(b"more", PAGE as u64).unwrap();
    shared.world.look_again(&open);
    assert_eq!(mapped.get(PAGE, 5).unwrap(), b"more\0");
}

/// A mapping is made and read while write(2), truncate(2) and write-backs change the same file: in the end there is one file.
#[test]
fn mapping_and_writing_at_once_lose_nothing() {
    const PAGES: usize = 8;
    let shared = Shared::with("both", false, |host| fs::write(host.join("f"), vec![0; PAGES * PAGE]).unwrap());
    let world = &shared.world;
    let open = world.open("f", READ_WRITE).unwrap();
    let mapped = Mapped::new(world, &open, MapFlags::SHARED, PAGES * PAGE);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Even bytes by the mapping, odd ones by write(2), in the same pages.
            for round in 1..=200_u8 {
                (0..PAGES).for_each(|page| mapped.put(page * PAGE + 10, &[round]));
            }
            done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                mapped.synchronize().unwrap();
            }
        });
        let writer = world.open("f", READ_WRITE).unwrap();
        for round in 1..=200_u8 {
            for page in 0..PAGES {
                block_on(writer.seek((page * PAGE + 11) as i64, Whence::Start)).unwrap();
                world.write(&writer, &[round]).unwrap();
            }
        }
    });
    mapped.synchronize().unwrap();
    let bytes = shared.on_host("f");
    for page in 0..PAGES {
        assert_eq!(bytes[page * PAGE + 10..page * PAGE + 12], [200, 200]);
        assert_eq!(mapped.get(page * PAGE + 10, 2).unwrap(), [200, 200]);
    }
}

#[test]
fn mappings_are_as_fresh_as_the_last_open() {
    let shared = Shared::with("fresh", false, |host| fs::write(host.join("f"), vec![b'a'; 2 * PAGE]).unwrap());
    let world = &shared.world;
    let open = world.open("f", READ_WRITE).unwrap();
    let mapped = Mapped::new(world, &open, MapFlags::SHARED, 2 * PAGE);
    assert_eq!(mapped.get(0, 1).unwrap(), b"a");
    mapped.put(PAGE, b"guest");
    let host = fs::OpenOptions::new().write(true).open(shared.host.join("f")).unwrap();
    host.write_at(b"host", 0).unwrap();
    world.open("f", READ).unwrap();
    assert_eq!(mapped.get(0, 5).unwrap(), b"hosta");
    assert_eq!(mapped.get(PAGE, 5).unwrap(), b"guest", "what was written here is not lost");
    // A page that was cut off is as clean as any other when the file has it again, also if it was dirty.
    mapped.put(PAGE, b"dirty");
    world.truncate(&open, 1).unwrap();
    world.truncate(&open, 2 * PAGE as u64).unwrap();
    assert_eq!(mapped.get(PAGE, 1).unwrap(), [0]);
    host.write_at(b"again", PAGE as u64).unwrap();
    world.open("f", READ).unwrap();
    assert_eq!(mapped.get(PAGE, 5).unwrap(), b"again");
}

#[test]
fn a_file_that_shrinks_under_a_mapping_is_a_bus_error() {
    let shared = Shared::with("shrink", false, |host| fs::write(host.join("f"), vec![b'a'; 256 * PAGE]).unwrap());
    let world = &shared.world;
    let open = world.open("f", READ_WRITE).unwrap();
    let mapped = Mapped::new(world, &open, MapFlags::SHARED, 256 * PAGE);
    mapped.put(2 * PAGE, b"dirty");
    mapped.get(3 * PAGE, 1).unwrap();
    fs::OpenOptions::new().write(true).open(shared.host.join("f")).unwrap().set_len(PAGE as u64 + 1).unwrap();
    let touch = |page: usize| block_on(mapped.space.fault(mapped.address + page * PAGE, Access::READ)).err();
    use memory::Access;
    assert!(matches!(touch(200), Some(MemoryFault::Bus)));
    // The guest looks: now what it had seen is gone too.
    world.look_again(&open);
    assert_eq!(open.attributes().size, PAGE as u64 + 1);
    assert!(matches!(touch(2), Some(MemoryFault::Bus)) && matches!(touch(3), Some(MemoryFault::Bus)));
    assert_eq!(mapped.get(PAGE, 3).unwrap(), [b'a', 0, 0]);
    mapped.synchronize().unwrap();
    assert_eq!(shared.on_host("f").len(), PAGE + 1);
    // Vanished, it is still mapped; made longer by the guest, it has zeros.
    fs::remove_file(shared.host.join("f")).unwrap();
    world.truncate(&open, 8 * PAGE as u64).unwrap();
    assert_eq!(mapped.get(PAGE, 3).unwrap(), [b'a', 0, 0]);
    assert_eq!(mapped.get(7 * PAGE, 1).unwrap(), [0]);
}

#[test]
fn a_file_larger_than_memory_can_be_mapped() {
    let shared = Shared::new("large");
    let world = &shared.world;
    let before = world.free_frames();
    let pages = before as u64 * 3 / 2;
    let host = fs::File::options().read(true).write(true).create_new(true).open(shared.host.join("f")).unwrap();
    host.set_len(pages * PAGE as u64).unwrap();
    (0..pages).for_each(|page| host.write_all_at(&page.to_le_bytes(), page * PAGE as u64).unwrap());
    let (open, reader) = (world.open("f", READ_WRITE).unwrap(), world.open("f", READ).unwrap());
    let all = Mapped::new(world, &reader, MapFlags::SHARED, pages as usize * PAGE);
    let private = Mapped::new(world, &open, MapFlags::PRIVATE, 20 * PAGE);
    let dirty = Mapped::new(world, &open, MapFlags::SHARED, 20 * PAGE);
    private.put(3 * PAGE, b"copied");
    dirty.put(5 * PAGE, b"written");
    for page in 8..pages {
        assert_eq!(all.get(page as usize * PAGE, 8).unwrap(), page.to_le_bytes());
    }
    assert_eq!(private.get(3 * PAGE, 6).unwrap(), b"copied");
    assert_eq!(private.get(5 * PAGE, 7).unwrap(), b"written", "not written back, so not given back");
    assert_eq!(private.get(6 * PAGE, 8).unwrap(), 6_u64.to_le_bytes());
    drop(all);
    let all = Mapped::new(world, &open, MapFlags::SHARED, pages as usize * PAGE);
    (0..pages as usize).for_each(|page| all.put(page * PAGE + 100, &page.to_le_bytes()));
    drop((all, private, dirty, open, reader));
    shared.until_written_back();
    for page in 0..pages {
        let mut bytes = [0; 8];
        host.read_exact_at(&mut bytes, page * PAGE as u64 + 100).unwrap();
        assert_eq!(bytes, page.to_le_bytes());
    }
    assert_eq!(world.free_frames(), before);
}

/// Pages are written back when memory is out: what that takes itself, and the address spaces it keeps, must not grow with their
/// number.
#[test]
fn writing_back_takes_nothing_that_grows() {
    const PAGES: usize = 4000;
    let shared = Shared::new("runs");
    let world = &shared.world;
    let host = fs::File::options().write(true).create_new(true).open(shared.host.join("f")).unwrap();
    host.set_len((2 * PAGES * PAGE) as u64).unwrap();
    let open = world.open("f", READ_WRITE).unwrap();
    let mapped = Mapped::new(world, &open, MapFlags::SHARED, 2 * PAGES * PAGE);
    // Every other page: each is a run of its own.
    (0..PAGES).for_each(|page| mapped.put(2 * page * PAGE, b"x"));
    let done = std::sync::atomic::AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(Arc::strong_count(&mapped.space));
            }
            most
        });
        mapped.synchronize().unwrap();
        done.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert!(most <= 4, "{most} references to one address space");
    let bytes = shared.on_host("f");
    assert!((0..2 * PAGES).all(|page| bytes[page * PAGE] == if page % 2 == 0 { b'x' } else { 0 }));
}

#[test]
fn files_outlive_many_others_being_known() {
    let shared = Shared::new("known");
    let world = &shared.world;
    let kept: Vec<_> = (0..50).map(|index| world.create(&format!("kept{index}")).unwrap()).collect();
    for index in 0..50 {
        world.unlink(&format!("kept{index}")).unwrap();
    }
    for index in 0..3000 {
        let name = format!("d{index}");
        world.mkdir(&name).unwrap();
        world.write_file(&format!("{name}/f"), b"x");
    }
    for (index, open) in kept.iter().enumerate() {
        assert_eq!(world.write(open, &[b'y'; 100][..index]), Ok(index));
        assert_eq!(open.attributes().size, index as u64);
    }
    assert_eq!((0..3000).filter(|index| world.stat(&format!("d{index}/f")).unwrap().size == 1).count(), 3000);
}

#[test]
fn what_nobody_uses_is_forgotten() {
    let shared = Shared::with("forgotten", false, |host| {
        for directory in 0..18 {
            fs::create_dir_all(host.join(format!("{directory}/sub"))).unwrap();
            (0..1000).for_each(|index| fs::write(host.join(format!("{directory}/sub/{index}")), "").unwrap());
        }
    });
    let world = &shared.world;
    let unused = Arc::downgrade(world.look("0/sub/0").unwrap().inode());
    let used = world.look("0/sub/1").unwrap();
    for directory in 0..18 {
        (0..1000).for_each(|index| drop(world.look(&format!("{directory}/sub/{index}")).unwrap()));
    }
    assert!(unused.upgrade().is_none());
    assert_eq!(world.text(&used), "/0/sub/1");
    assert!(Arc::ptr_eq(&used.dentry, &world.look("0/sub/1").unwrap().dentry));
    assert!(Arc::ptr_eq(&used.dentry.parent().unwrap(), &world.look("0/sub").unwrap().dentry));
    assert_eq!(world.stat("0/sub/0").unwrap().size, 0);
}

/// Somebody stands in a directory that went, here or on the host, and still looks for what was in it.
#[test]
fn a_directory_that_went_keeps_nothing() {
    for by_whom in ["host", "here"] {
        let shared = Shared::with(&format!("went-{by_whom}"), false, |host| {
            fs::create_dir_all(host.join("d/sub/deep")).unwrap();
            fs::write(host.join("d/sub/deep/f"), "").unwrap();
        });
        let world = &shared.world;
        let inside = ["d", "d/sub", "d/sub/deep", "d/sub/deep/f"].map(|name| world.look(name).unwrap().dentry);
        let standing = world.look("d/sub").unwrap();
        if by_whom == "host" {
            fs::rename(shared.host.join("d"), shared.host.join("elsewhere")).unwrap();
            assert!(world.look("d").is_err());
        } else {
            fs::remove_dir_all(shared.host.join("d/sub")).unwrap();
            world.rmdir("d").unwrap();
        }
        // Made anew below what nobody finds any more, if the host still has it.
        let again = world.context().lookup(&standing, b"deep", Lookup::FOLLOW).ok();
        let mut gone: Vec<_> = inside.iter().map(Arc::downgrade).collect();
        gone.extend(again.iter().map(|path| Arc::downgrade(&path.dentry)));
        drop((inside, standing, again));
        assert!(gone.iter().all(|dentry| dentry.strong_count() == 0), "{by_whom}");
    }
}

#[test]
fn extended_attributes_are_the_host_s() {
    let shared = Shared::new("xattrs");
    let world = &shared.world;
    fs::write(shared.host.join("f"), b"text").unwrap();
    let on_f = |act: &dyn Fn(&Context<'_>, &Path) -> Result<Vec<u8>>| {
        world.context().wait(|context| act(context, &context.lookup(&world.root, b"f", Lookup::FOLLOW)?))
    };
    let set = |value: &'static [u8], flags| {
        on_f(&|context, f| context.set_xattr(f, b"user.colour", value, flags).map(|()| Vec::new()))
    };
    let get = || on_f(&|context, f| Ok(context.xattr(f, b"user.colour")?.into_vec()));
    let list = || on_f(&|context, f| context.list_xattrs(f));
    let remove = || on_f(&|context, f| context.remove_xattr(f, b"user.colour").map(|()| Vec::new()));
    if set(b"blue", XattrFlags::empty()) == Err(Errno::EOPNOTSUPP) {
        return println!("skipped: the host's temporary folder takes no extended attributes");
    }
    assert_eq!((get(), list()), (Ok(b"blue".to_vec()), Ok(b"user.colour\0".to_vec())));
    assert_eq!(set(b"red", XattrFlags::CREATE), Err(Errno::EEXIST));
    assert_eq!((set(b"red", XattrFlags::REPLACE), get()), (Ok(Vec::new()), Ok(b"red".to_vec())));
    assert_eq!((remove(), remove(), get()), (Ok(Vec::new()), Err(Errno::ENODATA), Err(Errno::ENODATA)));
    assert_eq!(list(), Ok(Vec::new()));
    assert_eq!(on_f(&|context, f| Ok(context.xattr(f, b"trusted.x")?.into_vec())), Err(Errno::EOPNOTSUPP));
}

#[test]
fn room_and_holes_are_the_host_s() {
    let shared = Shared::new("holes");
    let world = &shared.world;
    let told = world.context().wait(|context| context.statistics(&world.root)).unwrap();
    assert!(told.blocks > 0 && told.free <= told.blocks && told.available <= told.free, "{told:?}");
    let open = world.create("f").unwrap();
    world.truncate(&open, 1 << 20).unwrap();
    let seek = |offset, whence| block_on(open.seek(offset, whence));
    match block_on(open.allocate(0, 256 << 10, 4096, world)) {
        Err(Errno::EOPNOTSUPP) => return println!("skipped: the host's temporary folder takes no fallocate(2)"),
        result => result.unwrap(),
    }
    block_on(wait::write(&open, At::Offset(256 << 10), &mut Source::kernel(&[1; 4096]), world)).unwrap();
    assert_eq!(seek(1, Whence::Data), Ok(256 << 10));
    let hole = seek(256 << 10, Whence::Hole).unwrap();
    assert!((260 << 10..=1 << 20).contains(&hole), "{hole}");
    assert_eq!(seek(0, Whence::Current), Ok(hole));
    assert_eq!(seek(1 << 20, Whence::Hole), Err(Errno::ENXIO));
    block_on(open.allocate(0, 1 << 20, 4096, world)).unwrap();
    assert_eq!(seek(0, Whence::End), Ok((1 << 20) + 4096));
    let punch = AllocateMode::PUNCH_HOLE | AllocateMode::KEEP_SIZE;
    block_on(open.allocate(punch.bits(), 256 << 10, 4096, world)).unwrap();
    assert_eq!(world.read_file("f").unwrap(), vec![0; (1 << 20) + 4096]);
}
