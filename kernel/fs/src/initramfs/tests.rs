use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use memory::Memory;
use vfs::{Context, Credentials, FileKind, KernelCaller, Lookup, MountFlags, MountNamespace, OpenRequest, Path, Vfs};

use super::*;
use crate::tmpfs::Tmpfs;

struct Root {
    vfs: Arc<Vfs>,
    namespace: Arc<MountNamespace>,
}

impl Root {
    fn new() -> Root {
        static MEMORY: OnceLock<Arc<Memory>> = OnceLock::new();
        let memory = MEMORY.get_or_init(|| Memory::new().unwrap());
        let vfs = Vfs::new(1);
        let tmpfs = Tmpfs::new(memory, "rootfs", "", 2).unwrap();
        let namespace = MountNamespace::new(&vfs, tmpfs, "rootfs", MountFlags::empty()).unwrap();
        Root { vfs, namespace }
    }

    fn unpack(&self, archive: &[u8]) -> Result<Summary, UnpackError> {
        unpack(archive, &self.namespace.root().unwrap(), &self.vfs)
    }

    fn look(&self, name: &str) -> Result<Path, Errno> {
        let root = self.namespace.root().unwrap();
        let credentials = Credentials::superuser();
        let context = Context { root: &root, credentials: &credentials, caller: &KernelCaller(&self.vfs), umask: 0 };
        context.lookup(&root, name.as_bytes(), Lookup::empty())
    }

    fn contents(&self, name: &str) -> Vec<u8> {
        let path = self.look(name).unwrap();
        let mut bytes = vec![0; path.attributes().size as usize];
        let request = OpenRequest { flags: vfs::OpenFlags::empty(), caller: &KernelCaller(&self.vfs) };
        let file = path.inode().clone().open(&request).unwrap();
        assert_eq!(file.read(0, &mut memory::Destination::kernel(&mut bytes)), Ok(bytes.len()));
        bytes
    }
}

/// An entry of an archive, to be written as wanted.
#[derive(Clone)]
struct Entry<'a> {
    name: &'a str,
    mode: u32,
    inode: u32,
    links: u32,
    device: (u32, u32),
    contents: &'a [u8],
}

fn entry<'a>(name: &'a str, mode: u32, contents: &'a [u8]) -> Entry<'a> {
    Entry { name, mode, inode: 0, links: 1, device: (0, 0), contents }
}

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let trailer = entry("TRAILER!!!", 0, b"");
    for entry in entries.iter().chain([&trailer]) {
        let numbers = [
            entry.inode,
            entry.mode,
            7,
            8,
            entry.links,
            1_000_000_000,
            entry.contents.len() as u32,
            0,
            0,
            entry.device.0,
            entry.device.1,
            entry.name.len() as u32 + 1,
            0,
        ];
        bytes.extend_from_slice(b"070701");
        numbers.iter().for_each(|number| write!(bytes, "{number:08X}").unwrap());
        bytes.extend_from_slice(entry.name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(entry.contents);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-9n").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = gzip.wait_with_output().unwrap().stdout;
    writer.join().unwrap().unwrap();
    output
}

fn sample() -> Vec<u8> {
    let large: Vec<u8> = (0..300_000_u32).map(|at| (at.wrapping_mul(at) % 251) as u8).collect();
    archive(&[
        entry(".", 0o040750, b""),
        entry("bin", 0o040755, b""),
        entry("bin/large", 0o100755, &large),
        entry("/bin/sh", 0o120777, b"large"),
        entry("./empty", 0o100600, b""),
        Entry { device: (5, 1), ..entry("console", 0o020600, b"") },
        Entry { device: (8, 1), ..entry("disk", 0o060640, b"") },
        entry("pipe", 0o010644, b""),
        Entry { inode: 9, links: 3, ..entry("first", 0o100644, b"") },
        Entry { inode: 9, links: 3, ..entry("second", 0o100644, b"") },
        Entry { inode: 9, links: 3, ..entry("third", 0o100644, b"linked") },
        entry("set", 0o104755, b"id"),
    ])
}

fn check_sample(root: &Root) {
    let stat = |name: &str| root.look(name).unwrap().attributes();
    assert_eq!(stat("/").mode, 0o040750);
    assert_eq!((stat("bin/large").mode, stat("bin/large").size), (0o100755, 300_000));
    assert!(
        root.contents("bin/large").iter().zip(0_u32..).all(|(byte, at)| *byte == (at.wrapping_mul(at) % 251) as u8)
    );
    assert_eq!((stat("empty").user, stat("empty").group, stat("empty").modified.seconds()), (7, 8, 1_000_000_000));
    assert_eq!(stat("bin").modified.seconds(), 1_000_000_000, "though files were made in it since");
    assert_eq!(root.look("bin/sh").unwrap().dentry.kind(), FileKind::Symlink);
    assert_eq!(stat("console").represented, vfs::DeviceNumber { major: 5, minor: 1 });
    assert_eq!((stat("disk").mode, stat("pipe").mode, stat("set").mode), (0o060640, 0o010644, 0o104755));
    assert_eq!((stat("first").number, stat("first").links), (stat("third").number, 3));
    assert_eq!(root.contents("second"), b"linked");
}

#[test]
fn every_kind_of_file_is_made() {
    let root = Root::new();
    assert_eq!(root.unpack(&sample()), Ok(Summary { entries: 12, bytes: 300_008 }));
    check_sample(&root);
    // And again over what is there.
    root.unpack(&sample()).unwrap();
    check_sample(&root);
}

#[test]
fn compressed_and_concatenated() {
    let root = Root::new();
    root.unpack(&gzip(&sample())).unwrap();
    check_sample(&root);
    let more = archive(&[entry("more", 0o100644, b"more")]);
    let mut all = vec![0; 512];
    all.extend(sample());
    all.extend([0; 300]);
    all.extend(gzip(&[more.clone(), vec![0; 100], archive(&[entry("nested", 0o100644, b"x")])].concat()));
    all.extend([0; 9]);
    all.resize(all.len().next_multiple_of(4), 0);
    all.extend(archive(&[entry("last", 0o100644, b"last"), entry("bin/sh", 0o100644, b"a file now")]));
    let root = Root::new();
    assert_eq!(root.unpack(&all).unwrap().entries, 12 + 1 + 1 + 2);
    assert_eq!((root.contents("more"), root.contents("last")), (b"more".to_vec(), b"last".to_vec()));
    assert_eq!(root.contents("bin/sh"), b"a file now");
    assert_eq!(root.unpack(b""), Ok(Summary::default()));
    assert_eq!(root.unpack(&[0; 10_000]), Ok(Summary::default()));
}

#[test]
fn what_other_tools_write() {
    let directory = std::env::temp_dir().join(format!("orrery-cpio-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("a/b")).unwrap();
    std::fs::write(directory.join("a/b/file"), b"written by cpio").unwrap();
    std::fs::hard_link(directory.join("a/b/file"), directory.join("a/link")).unwrap();
    let made = Command::new("sh")
        .args(["-c", "find . | (busybox cpio -o -H newc || cpio -o -H newc)"])
        .current_dir(&directory)
        .stderr(Stdio::null())
        .output()
        .unwrap()
        .stdout;
    std::fs::remove_dir_all(&directory).unwrap();
    let root = Root::new();
    root.unpack(&made).unwrap();
    assert_eq!(root.contents("a/b/file"), b"written by cpio");
    assert_eq!(root.contents("a/link"), b"written by cpio");
}

#[test]
fn names_cannot_lead_out() {
    let root = Root::new();
    root.unpack(&archive(&[entry("../../../etc", 0o040755, b""), entry("/../etc/../etc/passwd", 0o100644, b"x")]))
        .unwrap();
    assert_eq!(root.contents("etc/passwd"), b"x");
}

/// As on Linux: 4096 bytes with the zero at the end.
#[test]
fn names_are_as_long_as_paths() {
    let name = |length: usize| "./".repeat((length - 1) / 2) + if length % 2 == 1 { "x" } else { "/x" };
    let root = Root::new();
    assert_eq!(root.unpack(&archive(&[entry(&name(4095), 0o100600, b"1")])).unwrap().entries, 1);
    assert_eq!(root.contents("x"), b"1");
    let error = root.unpack(&archive(&[entry(&name(4096), 0o100600, b"1")])).unwrap_err();
    assert!(matches!(error.reason, Reason::BadName), "{error:?}");
}

#[test]
fn damage_is_named_and_placed() {
    let root = Root::new();
    let whole = archive(&[entry("abc", 0o100644, b"contents")]);
    let change = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        root.unpack(&changed).map_err(|error| (error.offset, error.reason))
    };
    assert_eq!(change(0, b"x"), Err((0, Reason::UnknownFormat)));
    assert_eq!(change(5, b"9"), Err((0, Reason::BadMagic)));
    assert_eq!(change(14, b"g"), Err((0, Reason::BadNumber("mode"))));
    assert_eq!(change(14, b"00000000"), Err((0, Reason::BadMode(0))));
    assert_eq!(change(14, b"000041ED"), Err((0, Reason::UnexpectedContents)));
    assert_eq!(change(54, b"FFFFFFFF").unwrap_err().1, Reason::Truncated);
    assert_eq!(change(94, b"00000000"), Err((0, Reason::BadName)));
    assert_eq!(change(94, b"FFFFFFFF"), Err((0, Reason::BadName)));
    assert_eq!(change(113, b"x"), Err((0, Reason::BadName)));
    assert_eq!(change(110, b"a/b"), Err((0, Reason::File(Errno::ENOENT))));
    // Where the second header should be.
    assert_eq!(change(124, b"y"), Err((124, Reason::BadMagic)));
    for end in 1..whole.len() - 4 {
        let error = root.unpack(&whole[..end]).unwrap_err();
        assert_eq!((error.reason, error.offset), (Reason::Truncated, end as u64), "cut at {end}");
    }
    let summed = |check: &[u8]| {
        let mut bytes = whole.clone();
        bytes[5] = b'2';
        bytes[102..110].copy_from_slice(check);
        root.unpack(&bytes).map_err(|error| error.reason)
    };
    let sum: u32 = b"contents".iter().map(|&byte| u32::from(byte)).sum();
    assert_eq!(summed(format!("{sum:08x}").as_bytes()).map(|summary| summary.entries), Ok(1));
    assert_eq!(summed(b"00000001"), Err(Reason::BadChecksum));
    assert_eq!(
        root.unpack(&[0xfd, b'7', b'z', b'X', b'Z', 0]).unwrap_err().reason,
        Reason::UnsupportedCompression("xz")
    );
    assert_eq!(
        root.unpack(&[&[0; 8], &b"BZh9"[..]].concat()).unwrap_err().to_string(),
        "byte 8: compressed with bzip2; only gzip is supported"
    );
    let link = archive(&[entry("l", 0o120777, b"")]);
    assert_eq!(root.unpack(&link).unwrap_err().reason, Reason::BadLink);
}

#[test]
fn damaged_compression_is_found() {
    let root = Root::new();
    let whole = gzip(&sample());
    for end in (1..whole.len() - 1).step_by(997) {
        assert_eq!(root.unpack(&whole[..end]).unwrap_err().reason, Reason::Truncated, "cut at {end}");
    }
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        root.unpack(&bytes).unwrap_err()
    };
    assert_eq!(flipped(2).reason, Reason::BadGzipHeader);
    assert_eq!(flipped(whole.len() - 6).reason, Reason::BadChecksum);
    assert_eq!(flipped(whole.len() - 1).reason, Reason::BadChecksum);
    let error = root.unpack(&gzip(b"070701no")).unwrap_err();
    assert_eq!((error.reason, error.unpacked_offset), (Reason::Truncated, Some(8)));
    let error = root.unpack(&gzip(b"what is this")).unwrap_err();
    assert_eq!((error.reason, error.unpacked_offset), (Reason::UnknownFormat, Some(0)));
}

/// 600 archives with bytes changed, cut, doubled or moved: each is unpacked or refused, and nothing else happens.
#[test]
fn mutated_archives_do_no_harm() {
    let (plain, packed) = (sample(), gzip(&sample()));
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut step = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let (mut refused, begin) = (0, std::time::Instant::now());
    for round in 0..600 {
        let mut bytes = if round % 3 == 0 { packed.clone() } else { plain.clone() };
        for _ in 0..=step(4) {
            let at = step(bytes.len());
            // Headers are a small part of it, so half of the changes aim at them.
            let at = if step(2) == 0 { at } else { at % 1200 };
            match step(6) {
                0 => bytes[at] = step(256) as u8,
                1 => bytes[at] = b"0123456789abcdefFx/\0"[step(20)],
                2 => bytes.truncate(at.max(1)),
                3 => drop(bytes.drain(at..(at + step(300)).min(bytes.len()))),
                4 => {
                    let copy = bytes[at..(at + step(300)).min(bytes.len())].to_vec();
                    let to = step(bytes.len());
                    bytes.splice(to..to, copy);
                }
                _ => bytes[at] ^= 1 << step(8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let root = Root::new();
        match root.unpack(&bytes) {
            Ok(_) => {}
            Err(error) => {
                refused += 1;
                assert!(error.offset <= bytes.len() as u64);
                assert!(error.to_string().starts_with("byte "), "{error}");
            }
        }
    }
    assert!(refused > 200, "{refused}");
    assert!(begin.elapsed().as_secs() < 60);
}
