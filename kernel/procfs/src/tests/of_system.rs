//! What is shown of the system, and what can be set.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use abi::{Errno, Result};
use machine::memory::FrameSource;
use memory::Destination;
use process::call;
use process::stage::Stage;
use process::stage::Step::*;
use vfs::{Caller, Device, DeviceClass, DeviceNumber, File, FileSystem, NotReady, OpenFlags, OpenRequest, Vfs};

use super::{Bench, ROOT, Viewer, read_all, wait};
use crate::ProcFs;
use crate::node::{Contents, Cursor, Head, PART, Step, TextInode};
use crate::text::Text;

/// The shape of a line: numbers become one `#`, spaces one blank.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for letter in line.chars() {
        let letter = if letter.is_ascii_digit() { '#' } else { letter };
        if !(matches!(letter, '#' | ' ') && shape.ends_with(letter)) {
            shape.push(letter);
        }
    }
    shape.trim_end().into()
}

#[test]
fn texts_have_the_shape_of_the_host_s() {
    let bench = Bench::new(1, wait());
    for (ours, host) in [
        ("1/limits", "/proc/self/limits"),
        ("1/statm", "/proc/self/statm"),
        ("1/io", "/proc/self/io"),
        ("uptime", "/proc/uptime"),
        ("loadavg", "/proc/loadavg"),
        ("swaps", "/proc/swaps"),
    ] {
        let host: Vec<String> = std::fs::read_to_string(host).unwrap().lines().map(shape).collect();
        let text = bench.text(ours);
        assert!(!text.is_empty());
        for (line, host) in text.lines().zip(&host) {
            let line = shape(line).replace("unlimited", "#");
            assert_eq!(line.replace("# #", "#"), host.replace("unlimited", "#").replace("# #", "#"), "{ours}");
        }
    }
    for (ours, host) in [("meminfo", "/proc/meminfo"), ("stat", "/proc/stat"), ("vmstat", "/proc/vmstat")] {
        let host = std::fs::read_to_string(host).unwrap();
        let host: Vec<String> = host.lines().map(shape).collect();
        for line in bench.text(ours).lines() {
            if line.starts_with("intr") || line.starts_with("NFS") {
                continue;
            }
            assert!(host.contains(&shape(line)), "{ours}: {line:?} is not Linux's");
        }
    }
}

struct Nothing;

impl Device for Nothing {
    fn open(&self, _number: DeviceNumber, _request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Err(Errno::ENXIO)
    }
}

#[test]
fn texts_of_the_system_tell_what_the_rooms_know() {
    let bench = Bench::new(2, [vec![call!(__NR_fork), Show("forked")], wait()].concat());
    let kernel = &bench.stage.kernel;
    let release = abi::system::RELEASE;
    let version = format!("Linux version {release} (orrery) (rustc) {}\n", abi::system::VERSION);
    assert_eq!(bench.text("version"), version);
    let devices = &kernel.vfs().devices;
    for (major, name) in [(136, "one"), (1, "two"), (1, "three")] {
        let number = DeviceNumber { major, minor: name.len() as u32 };
        devices.register(DeviceClass::Character, number, name, Arc::new(Nothing)).unwrap();
    }
    assert_eq!(bench.text("devices"), "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n");
    assert_eq!(bench.text("filesystems"), kernel.vfs().file_system_types.list().unwrap());
    assert_eq!(bench.text("consoles"), "", "it has none");
    assert_eq!(bench.text("interrupts"), "           CPU0       CPU1       CPU2       CPU3       \n");
    assert_eq!(bench.text("buddyinfo").split_whitespace().count(), 4 + 11);
    assert_eq!((bench.text("partitions"), bench.text("modules"), bench.text("diskstats")), Default::default());
    let stat = bench.text("stat");
    assert_eq!(stat.lines().filter(|line| line.starts_with("cpu")).count(), 5);
    assert!(stat.contains("\nprocesses 2\n"), "{stat}");
    let loadavg = bench.text("loadavg");
    assert!(loadavg.ends_with("/2 2\n"), "two threads, the last is number 2: {loadavg}");
    let total = kernel.memory().frames().total_frames() * 4;
    assert!(bench.text("meminfo").starts_with(&format!("MemTotal:       {total:8} kB\nMemFree: ")));
    assert_eq!(bench.text("cpuinfo").matches("processor\t: ").count(), machine::cpu::count());
    assert!(bench.text("longest_polls").lines().all(|line| line.starts_with("read ") || line.starts_with("other ")));
}

#[test]
fn settings_are_read_and_set() {
    let bench = Bench::new(1, wait());
    let uts = || bench.stage.kernel.namespaces().uts().host_name();
    assert_eq!(bench.text("sys/kernel/hostname"), "(none)\n");
    assert_eq!(bench.write("sys/kernel/hostname", "orrery\n"), Ok(7));
    assert_eq!((bench.text("sys/kernel/hostname"), &*uts()), ("orrery\n".into(), &b"orrery"[..]));
    assert_eq!(bench.write("sys/kernel/domainname", "example\0junk"), Ok(12));
    assert_eq!(bench.text("sys/kernel/domainname"), "example\n");
    assert_eq!(bench.write("sys/kernel/pid_max", " 4194304\n"), Ok(9));
    assert_eq!(bench.text("sys/kernel/pid_max"), "4194304\n");
    for wrong in ["", "many", "-1", "99999999999999999999"] {
        assert_eq!(bench.write("sys/kernel/pid_max", wrong), Err(Errno::EINVAL.into()), "{wrong}");
    }
    assert_eq!(bench.text("sys/kernel/pid_max"), "4194304\n");
    assert_eq!(bench.write("sys/kernel/osrelease", "7"), Err(Errno::EPERM.into()));
    let name = |name: &str| bench.text(&format!("sys/kernel/{name}"));
    let (release, version) = (format!("{}\n", abi::system::RELEASE), format!("{}\n", abi::system::VERSION));
    assert_eq!((name("osrelease"), name("version"), name("ostype")), (release, version, "Linux\n".into()));
    // The generator of these kernels gives nothing but sevens.
    let uuid = "07070707-0707-4707-8707-070707070707\n";
    assert_eq!((name("random/boot_id"), name("random/uuid")), (uuid.into(), uuid.into()));
    let open = |flags| bench.open_as(ROOT, "sys/kernel/hostname", flags).unwrap();
    let files = bench.process(1).files();
    files.insert(open(OpenFlags::empty()), false, 1024).unwrap();
    files.insert(open(OpenFlags::empty()), false, 1024).unwrap();
    assert_eq!(bench.text("sys/fs/file-nr"), "2\t0\t1048576\n");
}

#[test]
fn settings_are_a_tree_of_names() {
    let bench = Bench::new(1, wait());
    assert_eq!(bench.list("sys", 1), ["fs", "kernel", "vm"]);
    let mut numbers = BTreeSet::new();
    for directory in ["sys", "sys/kernel", "sys/fs", "sys/vm", "sys/kernel/random"] {
        for name in bench.list(directory, 40) {
            assert!(numbers.insert(bench.find(&format!("{directory}/{name}")).unwrap().number()), "{name}");
        }
    }
    assert!(numbers.len() > 30);
    assert_eq!(bench.find("sys/kernel/nothing").err(), Some(Errno::ENOENT));
}

#[test]
fn many_processes_are_listed_once_each_in_pieces() {
    const MANY: usize = 300;
    let more = vec![Load(MANY.into()), Keep(0), Label("more"), call!(__NR_fork), IfZero("wait"), Loop(0, "more")];
    let bench = Bench::new(1, [more, wait()].concat());
    let names = bench.list("", 7);
    let numbers: Vec<usize> = names.iter().filter_map(|name| name.parse().ok()).collect();
    assert_eq!(numbers, (1..=MANY + 1).collect::<Vec<_>>());
    for fixed in ["self", "meminfo", "sys", "mounts", "net"] {
        assert_eq!(names.iter().filter(|name| *name == fixed).count(), 1, "{fixed}");
    }
    for name in &names {
        assert!(bench.find(name).is_ok(), "{name} is listed and not found");
    }
    for absent in ["03", "302", "0", "-1", "4294967297", "nothing", "1/task/2"] {
        assert_eq!(bench.find(absent).err(), Some(Errno::ENOENT), "{absent}");
    }
}

/// /proc is one of a kernel's file systems, and must not keep it.
#[test]
fn a_kernel_is_not_kept() {
    let stage = Stage::new(&[]);
    let procfs = ProcFs::new(&stage.kernel, None, |_| "");
    let (vfs, kernel) = (stage.kernel.vfs().clone(), Arc::downgrade(&stage.kernel));
    drop(stage);
    assert_eq!(kernel.strong_count(), 0);
    let root = procfs.root();
    let viewer = Viewer(0, &vfs);
    let text = root.lookup(b"loadavg").unwrap().open(&request(&viewer)).unwrap();
    assert_eq!(read_all(&*text), Err(Errno::ESRCH.into()));
    assert_eq!(root.lookup(b"1").err(), Some(Errno::ENOENT));
}

fn request(caller: &dyn Caller) -> OpenRequest<'_> {
    OpenRequest { flags: OpenFlags::empty(), caller }
}

/// So many lines, of which the file counts how many were made.
struct Lines(Mutex<u64>);

impl Contents for Lines {
    fn show(&self, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
        while text.len() < PART {
            if cursor.at == 100_000 {
                return Ok(Step::End);
            }
            *self.0.lock().unwrap() += 1;
            text.put(format_args!("line {:05}\n", cursor.at));
            cursor.at += 1;
        }
        // Now and then it takes long.
        Ok(if cursor.at.is_multiple_of(3) { Step::Pause } else { Step::More })
    }
}

/// How often it was made.
struct Moments(Mutex<u64>);

impl Contents for Moments {
    fn show(&self, text: &mut Text, _cursor: &mut Cursor) -> Result<Step> {
        *self.0.lock().unwrap() += 1;
        text.put(format_args!("124.45 1{}.00\n", self.0.lock().unwrap()));
        Ok(Step::End)
    }
}

fn opened(contents: Arc<impl Contents>) -> Arc<dyn File> {
    let inode = TextInode(Head { number: 1, permissions: 0o444, owner: (0, 0) }, contents);
    let vfs = Vfs::new(1);
    vfs::Inode::open(Arc::new(inode), &request(&Viewer(ROOT, &vfs))).unwrap()
}

#[test]
fn an_open_text_is_one_moment_and_a_look_at_the_start_a_new_one() {
    let file = opened(Arc::new(Moments(Mutex::new(0))));
    let read = |position, length| {
        let mut part = vec![0; length];
        let count = file.read(position, &mut Destination::kernel(&mut part)).unwrap();
        String::from_utf8(part[..count].to_vec()).unwrap()
    };
    assert_eq!(read(0, 3) + &read(3, 4) + &read(7, 100), "124.45 11.00\n");
    assert_eq!(read(13, 10), "");
    assert_eq!(read(0, 9), "124.45 12");
    assert_eq!(read(u64::MAX, 6), "");
}

#[test]
fn a_long_text_costs_what_is_read() {
    let lines = Arc::new(Lines(Mutex::new(0)));
    let file = opened(lines.clone());
    let read = |position: u64| {
        let mut bytes = [0; 11];
        loop {
            match file.read(position, &mut Destination::kernel(&mut bytes)) {
                Ok(count) => break String::from_utf8(bytes[..count].to_vec()).unwrap(),
                Err(stop) => assert_eq!(stop, NotReady::Yield),
            }
        }
    };
    let made = || core::mem::take(&mut *lines.0.lock().unwrap());
    assert_eq!(read(0), "line 00000\n");
    assert!(made() < 1000);
    // On from there, and back, and over the whole of it.
    assert_eq!(read(11 * 50_000), "line 50000\n");
    assert!((49_000..52_000).contains(&made()));
    assert_eq!(read(11 * 50_001), "line 50001\n");
    assert!(made() < 1000);
    assert_eq!(read(11 * 7 + 5), "00007\nline ");
    assert_eq!(read(11 * 100_000), "");
    assert_eq!(read(u64::MAX), "");
    assert_eq!(read_all(&*file).unwrap().len(), 1_100_000);
}
