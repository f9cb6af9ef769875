//! Shared folders against real ones: what the guest may do is done, and nothing leads out.

use super::*;
use crate::{Answer, Change, MustBe, NewNode, Node, NodeRequest, Ownership, ReadNow, Rename, Request, Ticket};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

const NEW: Ownership = Ownership { permissions: 0o640, user: 0, group: 0 };

fn errno<T>(result: Result<T>) -> Errno {
    Errno::from_raw_os_error(i32::from(result.err().expect("an error").0))
}

/// A temporary folder, removed at the end of the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        let path = std::env::temp_dir().join(format!("orrery-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Temporary(path)
    }

    fn share(&self, read_only: bool) -> SharedFolder {
        SharedFolder::open(&self.0, b"/mnt", read_only).unwrap()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn find(directory: &Node, name: &str) -> Result<Node> {
    directory.look(name.as_bytes()).map(|found| directory.entry(name.as_bytes(), &found))
}

fn names(directory: &Node) -> Vec<String> {
    let open = directory.open(true, false).unwrap();
    let mut names = Vec::new();
    loop {
        let entries = open.entries(false).unwrap();
        if entries.is_empty() {
            names.sort();
            return names;
        }
        names.extend(entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
    }
}

#[test]
fn files_are_made_written_read_moved_and_removed() {
    let folder = Temporary::new("life");
    let share = folder.share(false);
    let root = share.root();
    let (file, status) = root.create(b"a", &NEW).unwrap();
    assert_eq!((status.mode, status.size, status.links), (0o100_640, 0, 1));
    assert_eq!(file.write(3, b"hello").unwrap(), 5);
    assert_eq!(file.append(b"!").unwrap(), (1, 9));
    assert_eq!(fs::read(folder.at("a")).unwrap(), b"\0\0\0hello!");
    let mut buffer = [0; 16];
    assert_eq!(file.read(4, &mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"ello!");

    assert_eq!(errno(root.create(b"a", &NEW)), Errno::EXIST);
    root.make(b"d", NewNode::Directory, &Ownership { permissions: 0o777, ..NEW }).unwrap();
    assert_eq!(fs::metadata(folder.at("d")).unwrap().mode() & 0o7777, 0o777, "whatever the umask");
    let directory = find(root, "d").unwrap();
    root.rename(b"a", &directory, b"b", Rename::Keep).unwrap();
    file.node().seen_at(&directory, b"b");
    directory.link(b"c", file.node()).unwrap();
    assert_eq!(find(&directory, "b").unwrap().identity(), find(&directory, "c").unwrap().identity());
    assert_eq!(errno(root.rmdir(b"d")), Errno::NOTEMPTY);
    directory.unlink(b"b").unwrap();
    directory.unlink(b"c").unwrap();
    assert_eq!(file.status().unwrap().links, 0, "an open file outlives its names");
    assert_eq!(file.read(3, &mut buffer).unwrap(), 6);
    root.rmdir(b"d").unwrap();
    assert!(names(root).is_empty());
}

/// A read-only share must not gain a writable name by way of another share that shows the same files.
#[test]
fn nothing_goes_from_one_share_to_another() {
    let folder = Temporary::new("two shares");
    fs::write(folder.at("f"), "1").unwrap();
    fs::create_dir(folder.at("d")).unwrap();
    let (open, closed) = (folder.share(false), folder.share(true));
    let (file, directory) = (find(closed.root(), "f").unwrap(), find(closed.root(), "d").unwrap());
    assert_eq!(errno(open.root().link(b"g", &file)), Errno::XDEV);
    assert_eq!(errno(open.root().rename(b"f", &directory, b"g", Rename::Keep)), Errno::XDEV);
    let other = folder.share(false);
    let same = find(other.root(), "f").unwrap();
    assert_eq!(errno(open.root().link(b"g", &same)), Errno::XDEV);
    assert_eq!(errno(open.root().rename(b"f", other.root(), b"g", Rename::Replace)), Errno::XDEV);
    open.root().link(b"g", &find(open.root(), "f").unwrap()).unwrap();
    assert_eq!(names(open.root()).len(), 3);
}

#[test]
fn attributes_are_changed() {
    let folder = Temporary::new("change");
    fs::write(folder.at("f"), "12345").unwrap();
    let share = folder.share(false);
    let file = find(share.root(), "f").unwrap();
    let times = Change { accessed: Some(-1), modified: Some(1_500_000_000), ..Change::default() };
    file.change(&times).unwrap();
    file.change(&Change { size: Some(2), permissions: Some(0o4751), ..Change::default() }).unwrap();
    let status = file.status().unwrap();
    assert_eq!((status.size, status.mode & 0o7777, status.accessed), (2, 0o4751, -1));
    file.change(&times).unwrap();
    assert_eq!(file.status().unwrap().modified, 1_500_000_000);
    symlink("nowhere", folder.at("l")).unwrap();
    let link = find(share.root(), "l").unwrap();
    assert_eq!(link.read_link().unwrap(), b"nowhere");
    link.change(&times).unwrap();
    assert_eq!(errno(link.change(&Change { permissions: Some(0o777), ..Change::default() })), Errno::OPNOTSUPP);
    assert_eq!(errno(file.read_link()), Errno::INVAL);
}

#[test]
fn names_are_one_component() {
    let folder = Temporary::new("names");
    let share = folder.share(false);
    let root = share.root();
    for bad in [&b""[..], b".", b"..", b"a/b", b"/etc/passwd", b"../x", b"a\0b", b"x/", b"/"] {
        assert_eq!(errno(root.look(bad)), Errno::INVAL);
        assert_eq!(errno(root.create(bad, &NEW)), Errno::INVAL);
        assert_eq!(errno(root.make(bad, NewNode::Directory, &NEW)), Errno::INVAL);
        assert_eq!(errno(root.unlink(bad)), Errno::INVAL);
        assert_eq!(errno(root.rmdir(bad)), Errno::INVAL);
        assert_eq!(errno(root.rename(bad, root, b"a", Rename::Replace)), Errno::INVAL);
        assert_eq!(errno(root.rename(b"a", root, bad, Rename::Replace)), Errno::INVAL);
    }
    let long = [b'x'; 256];
    assert_eq!(errno(root.look(&long)), Errno::NAMETOOLONG);
    assert_eq!(root.create(&long[..255], &NEW).unwrap().1.size, 0);
}

#[test]
fn links_are_never_followed() {
    let folder = Temporary::new("links");
    symlink("/etc", folder.at("etc")).unwrap();
    symlink("/etc/passwd", folder.at("passwd")).unwrap();
    symlink("..", folder.at("up")).unwrap();
    let share = folder.share(false);
    for name in ["etc", "passwd", "up"] {
        let link = find(share.root(), name).unwrap();
        assert_eq!(errno(link.open(true, false)), Errno::NXIO);
        assert_eq!(errno(link.look(b"passwd")), Errno::NOTDIR);
        assert_eq!(errno(link.create(b"x", &NEW)), Errno::NOTDIR);
        assert_eq!(errno(share.root().create(name.as_bytes(), &NEW)), Errno::EXIST);
    }
    // A link that hangs is no way to make a file elsewhere either.
    let outside = folder.0.with_extension("outside");
    symlink(&outside, folder.at("hangs")).unwrap();
    assert_eq!(errno(share.root().create(b"hangs", &NEW)), Errno::EXIST);
    assert!(!outside.exists());
}

#[test]
fn a_component_swapped_for_a_link_is_stale() {
    let folder = Temporary::new("swap");
    fs::create_dir(folder.at("d")).unwrap();
    fs::write(folder.at("d/passwd"), "ours").unwrap();
    let share = folder.share(false);
    let directory = find(share.root(), "d").unwrap();
    let file = find(&directory, "passwd").unwrap();
    directory.0.forget_descriptor();
    fs::rename(folder.at("d"), folder.at("moved")).unwrap();
    symlink("/etc", folder.at("d")).unwrap();
    assert_eq!(errno(directory.look(b"passwd")), Errno::STALE);
    assert_eq!(errno(file.open(true, false)), Errno::STALE);
    assert_eq!(errno(directory.create(b"x", &NEW)), Errno::STALE);
    // Seen again in its new place, it is found again.
    directory.seen_at(share.root(), b"moved");
    assert_eq!(file.open(true, false).unwrap().status().unwrap().size, 4);
    // Another file under the same name is another file.
    fs::write(folder.at("new"), "other").unwrap();
    file.0.forget_descriptor();
    fs::rename(folder.at("new"), folder.at("moved/passwd")).unwrap();
    assert_eq!(errno(file.open(true, false)), Errno::STALE);
}

/// One thread swaps a name between a file and a link as fast as it can; whatever the other reads is the file's.
#[test]
fn races_with_links_are_lost() {
    let folder = Temporary::new("race");
    let secret = folder.0.with_extension("secret");
    fs::write(&secret, "secret").unwrap();
    fs::write(folder.at("file"), "public").unwrap();
    symlink(&secret, folder.at("link")).unwrap();
    let share = folder.share(false);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut read, mut missed) = (0, 0);
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, folder.at("file"), CWD, folder.at("link"), exchange).unwrap();
                std::thread::yield_now();
            }
        });
        while (read < 100 || missed < 100) && begin.elapsed().as_secs() < 20 {
            match find(share.root(), "file").and_then(|node| node.open(true, false)) {
                Ok(open) => {
                    let mut bytes = [0; 6];
                    assert_eq!(open.read(0, &mut bytes).unwrap(), 6);
                    assert_eq!(&bytes, b"public");
                    read += 1;
                }
                Err(_) => missed += 1,
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    fs::remove_file(secret).unwrap();
    assert!(read > 0 && missed > 0, "{read} read, {missed} missed");
}

#[test]
fn fifos_sockets_and_devices_are_not_opened() {
    let folder = Temporary::new("special");
    let share = folder.share(false);
    let root = share.root();
    root.make(b"fifo", NewNode::Fifo, &NEW).unwrap();
    root.make(b"socket", NewNode::Socket, &NEW).unwrap();
    let mut made = vec!["fifo", "socket"];
    let device = rustix::fs::makedev(1, 3);
    if rustix::fs::mknodat(CWD, folder.at("null"), rustix::fs::FileType::CharacterDevice, Mode::RUSR, device).is_ok() {
        made.push("null");
        assert_eq!(find(root, "null").unwrap().status().unwrap().represented, (1, 3));
    }
    for name in made {
        let node = find(root, name).unwrap();
        // Opening a FIFO for reading would hang for ever: there is no writer.
        assert_eq!(errno(node.open(true, false)), Errno::NXIO);
        assert_eq!(errno(node.open(false, true)), Errno::NXIO);
        node.change(&Change { permissions: Some(0o600), ..Change::default() }).unwrap();
        assert_eq!(node.status().unwrap().mode & 0o7777, 0o600);
        assert_eq!(errno(node.change(&Change { size: Some(0), ..Change::default() })), Errno::INVAL);
    }
}

#[test]
fn read_only_refuses_every_change() {
    let folder = Temporary::new("readonly");
    fs::write(folder.at("f"), "as it was").unwrap();
    fs::create_dir(folder.at("d")).unwrap();
    let share = folder.share(true);
    let root = share.root();
    let file = find(root, "f").unwrap();
    let open = file.open(true, false).unwrap();
    let change = Change { permissions: Some(0o777), ..Change::default() };
    let shorter = Change { size: Some(0), ..Change::default() };
    let refused = [
        file.open(true, true).map(drop),
        root.create(b"x", &NEW).map(drop),
        root.create_unnamed(&NEW).map(drop),
        root.make(b"x", NewNode::Directory, &NEW).map(drop),
        root.link(b"x", &file),
        root.unlink(b"f"),
        root.rmdir(b"d"),
        root.rename(b"f", root, b"g", Rename::Replace),
        file.change(&change),
        file.change(&shorter),
        open.change(&change),
        open.change(&shorter),
        file.set_xattr(b"user.a", b"b", MustBe::default()),
        file.remove_xattr(b"user.a"),
    ];
    assert!(refused.iter().all(|result| *result == Err(EROFS)), "{refused:?}");
    for result in [open.write(0, b"x").map(drop), open.append(b"x").map(drop), open.allocate(0, 0, 1)] {
        assert_eq!(errno(result), Errno::BADF);
    }
    assert_eq!(fs::read(folder.at("f")).unwrap(), b"as it was");
    assert_eq!(names(root), ["d", "f"]);
}

#[test]
fn ten_thousand_files_need_few_descriptors() {
    let folder = Temporary::new("many");
    fs::create_dir(folder.at("d")).unwrap();
    for index in 0..10_000 {
        fs::write(folder.at(&format!("d/{index}")), index.to_string()).unwrap();
    }
    let share = folder.share(false);
    let directory = find(share.root(), "d").unwrap();
    assert_eq!(names(&directory).len(), 10_000);
    let nodes: Vec<Node> = (0..10_000).map(|index| find(&directory, &index.to_string()).unwrap()).collect();
    for (index, node) in nodes.iter().enumerate() {
        let mut bytes = [0; 8];
        let length = node.open(true, false).unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(bytes[..length], *index.to_string().as_bytes());
    }
    // Twice, so that some were closed meanwhile.
    assert!(nodes.iter().all(|node| node.status().is_ok()));
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    assert!(open < limit / 4 || open < 9_000, "{open} of {limit}");
}

/// A path far deeper than one call could name, and as deep a chain of nodes to drop.
#[test]
fn directories_are_as_deep_as_they_like() {
    let folder = Temporary::new("deep");
    let share = folder.share(false);
    let mut directory = share.root().clone();
    for _ in 0..3000 {
        let status =
            directory.make(b"directory", NewNode::Directory, &Ownership { permissions: 0o755, ..NEW }).unwrap();
        directory = directory.entry(b"directory", &status);
    }
    // All closed: it is found again from the root.
    let mut above = Some(directory.0.clone());
    while let Some(inner) = above {
        above = inner.place().ok().map(|place| place.directory);
        if above.is_some() {
            inner.forget_descriptor();
        }
    }
    directory.create(b"f", &NEW).unwrap();
    drop((directory, share));
    // The standard library removes by descriptors too, level by level.
    let status = std::process::Command::new("rm").arg("-rf").arg(&folder.0).status().unwrap();
    assert!(status.success());
}

#[test]
fn directories_that_change_places_make_no_ring() {
    let folder = Temporary::new("ring");
    fs::create_dir_all(folder.at("a/b")).unwrap();
    let share = folder.share(false);
    let a = find(share.root(), "a").unwrap();
    let b = find(&a, "b").unwrap();
    b.seen_at(&a, b"b");
    // The host turns them round while the guest stands in b.
    fs::rename(folder.at("a/b"), folder.at("b")).unwrap();
    fs::rename(folder.at("a"), folder.at("b/a")).unwrap();
    a.seen_at(&b, b"a");
    assert!(!b.is_within(&a) || !a.is_within(&b));
}

#[test]
fn files_without_a_name_get_one() {
    let folder = Temporary::new("unnamed");
    let share = folder.share(false);
    let (file, status) = match share.root().create_unnamed(&NEW) {
        Err(HostError(number)) if i32::from(number) == Errno::OPNOTSUPP.raw_os_error() => return,
        made => made.unwrap(),
    };
    assert_eq!((status.links, names(share.root()).len()), (0, 0));
    file.write(0, b"kept").unwrap();
    share.root().link(b"named", file.node()).unwrap();
    assert_eq!(fs::read(folder.at("named")).unwrap(), b"kept");
}

#[test]
fn the_host_s_kernel_is_not_shared() {
    let share = SharedFolder::open(Path::new("/"), b"/host", false).unwrap();
    let proc = find(share.root(), "proc").unwrap();
    assert_eq!(errno(proc.look(b"self")), Errno::ACCESS);
    assert_eq!(errno(proc.open(true, false)), Errno::ACCESS);
    assert_eq!(errno(proc.create(b"x", &NEW)), Errno::ACCESS);
    let say = SharedFolder::open(Path::new("/proc/self"), b"/host", true).unwrap_err().to_string();
    assert!(say.contains("take hold of this host"), "{say}");
}

#[test]
fn what_cannot_be_shared_says_why() {
    let folder = Temporary::new("why");
    fs::write(folder.at("f"), "").unwrap();
    let say = |path: &Path, guest: &[u8]| SharedFolder::open(path, guest, false).unwrap_err().to_string();
    assert!(say(&folder.at("none"), b"/mnt").contains("No such file"));
    assert!(say(&folder.at("f"), b"/mnt").contains("is not a folder"));
    assert!(say(&folder.0, b"mnt").contains("absolute path"));
    assert!(say(&folder.0, b"/a/../b").contains("absolute path"));
}

fn bytes_of(answer: Result<Answer>) -> Vec<u8> {
    match answer.unwrap() {
        Answer::Bytes(bytes) => bytes,
        answer => panic!("{answer:?}"),
    }
}

/// A folder whose answers are told to this test.
fn attended(folder: &Temporary) -> (SharedFolder, std::sync::mpsc::Receiver<()>) {
    let share = folder.share(false);
    let (sender, receiver) = std::sync::mpsc::channel();
    share.attend(Arc::new(move || sender.send(()).unwrap_or(())));
    (share, receiver)
}

#[test]
fn what_the_host_has_not_at_hand_is_read_by_a_helper() {
    let folder = Temporary::new("helper");
    let text: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
    fs::write(folder.at("f"), &text).unwrap();
    let (share, answered) = attended(&folder);
    let open = find(share.root(), "f").unwrap().open(true, true).unwrap();
    open.synchronise(false).unwrap();
    rustix::fs::fadvise(fs::File::open(folder.at("f")).unwrap(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut bytes = [0; 4096];
    // Where the file system tells; it need not have forgotten anything.
    let cold = open.read_now(0, &mut bytes).unwrap();
    assert!(cold.waits || cold.bytes == 4096);
    assert!(open.ask(Ticket(7), &Request::Read { offset: 100_000, length: 1 << 20 }).unwrap());
    answered.recv().unwrap();
    let (ticket, answer) = share.take_answer().unwrap();
    assert_eq!((ticket, bytes_of(answer)), (Ticket(7), text[100_000..].to_vec()));
    assert_eq!(open.read_now(150_000, &mut bytes).unwrap(), ReadNow { bytes: 4096, waits: false });
    assert_eq!(bytes[..], text[150_000..154_096]);
    assert_eq!(open.read_now(199_000, &mut bytes).unwrap(), ReadNow { bytes: 1000, waits: false });
    assert_eq!(errno(open.read_now(u64::MAX, &mut bytes)), Errno::INVAL);

    assert!(open.ask(Ticket(8), &Request::Synchronise { data_only: true }).unwrap());
    answered.recv().unwrap();
    assert!(matches!(share.take_answer(), Some((Ticket(8), Ok(Answer::Done)))));
    let helpers = share.root().helpers().clone();
    assert!(helpers.count() > 0);
    while helpers.count() > 0 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    share.end();
    assert!(!open.ask(Ticket(9), &Request::Synchronise { data_only: true }).unwrap());
}

#[test]
fn nobody_who_does_not_listen_is_helped() {
    let folder = Temporary::new("unattended");
    let share = folder.share(false);
    let (open, _) = share.root().create(b"f", &NEW).unwrap();
    let request = Request::Read { offset: 0, length: 9 };
    assert!(!open.ask(Ticket(1), &request).unwrap());
    open.write(0, b"text").unwrap();
    assert_eq!(bytes_of(open.answer(&request)), b"text");
}

/// Each call by name as a helper makes it, of a node whose way the helper has to find.
#[test]
fn helpers_do_by_name_what_nodes_do() {
    let folder = Temporary::new("requests");
    fs::create_dir_all(folder.at("a/b")).unwrap();
    let (share, answered) = attended(&folder);
    let below = find(&find(share.root(), "a").unwrap(), "b").unwrap();
    let ask = |request: NodeRequest| {
        assert!(below.ask(Ticket(1), &request).unwrap());
        answered.recv().unwrap();
        share.take_answer().unwrap().1
    };
    let made = ask(NodeRequest::Create(b"f".to_vec(), NEW)).unwrap();
    let Answer::Opened(made) = made else { panic!("{made:?}") };
    let open = below.entry(b"f", &made.status().clone()).take_opened(made);
    open.write(0, b"text").unwrap();
    assert!(open.ask(Ticket(2), &Request::Write { offset: None, bytes: b" more".to_vec() }).unwrap());
    answered.recv().unwrap();
    assert!(matches!(share.take_answer().unwrap().1, Ok(Answer::Written { bytes: 5, end: 9 })));
    assert!(open.ask(Ticket(3), &Request::WriteWithin { offset: 8, bytes: b"E!".to_vec() }).unwrap());
    answered.recv().unwrap();
    assert!(matches!(share.take_answer().unwrap().1, Ok(Answer::Written { bytes: 1, end: 9 })));
    assert_eq!(fs::read(folder.at("a/b/f")).unwrap(), b"text morE");
    assert!(matches!(
        ask(NodeRequest::Make(b"l".to_vec(), NewNode::Symlink(b"f".to_vec()), NEW)),
        Ok(Answer::Found(..))
    ));
    let looked = ask(NodeRequest::Look(b"l".to_vec())).unwrap();
    assert!(matches!(&looked, Answer::Found(_, Some(link)) if link == b"f"), "{looked:?}");
    assert!(matches!(ask(NodeRequest::Link(b"g".to_vec(), open.node().clone())), Ok(Answer::Done)));
    let root = share.root().clone();
    assert!(matches!(ask(NodeRequest::Rename(b"g".to_vec(), root, b"h".to_vec(), Rename::Replace)), Ok(Answer::Done)));
    assert_eq!(fs::read(folder.at("h")).unwrap(), b"text morE");
    assert!(matches!(ask(NodeRequest::Unlink(b"f".to_vec())), Ok(Answer::Done)));
    assert!(matches!(ask(NodeRequest::Look(b"f".to_vec())), Err(error) if error == Errno::NOENT.into()));
    assert!(matches!(ask(NodeRequest::Open { read: true, write: false }), Ok(Answer::Opened(_))));
    assert!(matches!(ask(NodeRequest::Status), Ok(Answer::Found(..))));
    share.end();
}
