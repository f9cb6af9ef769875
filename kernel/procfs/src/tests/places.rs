//! Where the links and directories of /proc lead, who may follow them, and what stays of a walk.

use std::collections::BTreeSet;
use std::sync::Arc;

use abi::Errno;
use process::call;
use process::stage::Step::*;
use vfs::{Lookup, OpenFile, OpenFlags, Opening};

use super::bench::way_up;
use super::{Bench, ROOT, asleep, wait};

#[test]
fn links_lead_to_the_caller() {
    let bench = Bench::new(1, wait());
    assert_eq!((bench.link("self"), bench.link("thread-self")), ("1".into(), "1/task/1".into()));
    assert_eq!(bench.link("mounts"), "self/mounts");
    assert_eq!(bench.link_for(7, "self"), "7");
    assert_eq!(bench.link_for(0, "self"), "ENOENT", "the kernel has no process");
    assert!(bench.text("self/status").contains("\nPid:\t1\n"));
    assert!(bench.text("mounts").starts_with("rootfs / rootfs rw"));
}

/// Opens a file for the first process.
fn give(bench: &Bench, name: &str, flags: OpenFlags, at: i32, close_on_exec: bool) -> Arc<OpenFile> {
    let opened = bench.view(0, |context, root| context.open(root, name.as_bytes(), flags, 0)).unwrap();
    let Opening::Done(file) = opened else { panic!("{name}") };
    bench.process(1).files().replace(at, file.clone(), close_on_exec, 4096).map(drop).unwrap();
    file
}

#[test]
fn places_and_descriptors_lead_to_files() {
    let bench = Bench::new(1, wait());
    give(&bench, "/init", OpenFlags::empty(), 0, false);
    let proc = give(&bench, "/proc", OpenFlags::DIRECTORY, 1, true);
    give(&bench, "/proc/1/comm", OpenFlags::READ_WRITE, 1000, false);
    bench.process(1).fs_context().set_working(proc.path().unwrap());
    let links = ["cwd", "root", "exe", "fd/0", "fd/1", "fd/1000"].map(|name| bench.link(&format!("1/{name}")));
    assert_eq!(links, ["/proc", "/", "/init", "/init", "/proc", "/proc/1/comm"]);
    for directory in ["1/fd", "1/fdinfo"] {
        assert_eq!(bench.list(directory, 2), ["0", "1", "1000"]);
        assert_eq!(bench.list(directory, 9), ["0", "1", "1000"]);
    }
    let mode = |name: &str| bench.find(name).unwrap().permissions().mode & 0o777;
    assert_eq!((mode("1/fd/0"), mode("1/fd/1000"), mode("1/fdinfo/0")), (0o500, 0o700, 0o444));
    let size = |name: &str| bench.find(name).unwrap().attributes().size;
    assert_eq!((size("1/fd"), size("1/fdinfo"), size("1/fd/0")), (3, 0, 64));
    for absent in ["1/fd/2", "1/fd/01", "1/fdinfo/2", "1/fd/4294967296"] {
        assert_eq!(bench.find(absent).err(), Some(Errno::ENOENT), "{absent}");
    }
    let numbers: BTreeSet<u64> =
        ["1/fd/0", "1/fd/1", "1/fdinfo/0"].map(|name| bench.find(name).unwrap().number()).into();
    assert_eq!(numbers.len(), 3);
    let (mount, inode) = (proc.path().unwrap().mount.id(), proc.inode().number());
    assert_eq!(bench.text("1/fdinfo/1"), format!("pos:\t0\nflags:\t02300000\nmnt_id:\t{mount}\nino:\t{inode}\n"));
}

#[test]
fn mounts_are_those_below_the_root_of_the_process() {
    let bench = Bench::new(1, wait());
    let (mounts, info) = (bench.text("1/mounts"), bench.text("1/mountinfo"));
    assert!(mounts.starts_with("rootfs / rootfs rw") && mounts.contains("\nproc /proc proc rw"), "{mounts}");
    assert_eq!((mounts.lines().count(), info.lines().count()), (2, 2));
    let stats = "device rootfs mounted on / with fstype rootfs\ndevice proc mounted on /proc with fstype proc\n";
    assert_eq!(bench.text("1/mountstats"), stats);
    let proc = bench.view(ROOT, |context, root| context.lookup(root, b"/proc", Lookup::FOLLOW)).unwrap();
    bench.process(1).fs_context().set_root(proc);
    assert_eq!(bench.text("1/mountstats"), "device proc mounted on / with fstype proc\n");
}

/// Who may not look into a process sees of it what everybody does.
#[test]
fn what_is_private_is_for_those_who_may_inspect() {
    let become_other = vec![call!(__NR_fork), IfZero("root's"), call!(__NR_setuid, 1000), Label("root's")];
    let bench = Bench::new(2, [become_other, wait()].concat());
    asleep(&bench.process(2));
    let open = |viewer: u32, path: &str| bench.open_as(viewer, path, OpenFlags::empty()).map(drop);
    // The first has become a user, the second is root's.
    for name in ["maps", "smaps", "smaps_rollup", "environ", "auxv", "io", "personality"] {
        assert_eq!(open(1, &format!("2/{name}")), Err(Errno::EACCES), "{name}");
        assert_eq!(open(1, &format!("1/{name}")), Ok(()), "{name}");
        assert_eq!(open(2, &format!("1/{name}")), Ok(()), "{name}");
        assert_eq!(open(0, &format!("2/{name}")), Ok(()), "{name}");
        assert_eq!(open(99, &format!("2/{name}")), Err(Errno::EACCES), "nobody has that number");
    }
    give(&bench, "/init", OpenFlags::empty(), 0, false);
    bench.process(2).files().replace(5, bench.process(1).files().get(0).unwrap(), false, 4096).map(drop).unwrap();
    for name in ["cwd", "exe", "root", "fd/5"] {
        assert_eq!(bench.link_for(1, &format!("2/{name}")), "EACCES", "{name}");
        assert_ne!(bench.link_for(2, &format!("2/{name}")), "EACCES", "{name}");
    }
    assert_eq!(open(1, "2/fdinfo/5"), Err(Errno::EACCES));
    assert_eq!((open(1, "2/stat"), open(1, "2/status"), open(1, "2/limits")), (Ok(()), Ok(()), Ok(())));
}

/// Nothing of a walk stays: what was looked at is gone with whoever looked.
#[test]
fn nothing_of_a_walk_stays() {
    let bench = Bench::new(1, wait());
    for name in ["sys/kernel/random/uuid", "sys/vm", "net", "1/task/1/comm", "1/fdinfo"] {
        let way = way_up(bench.look(name).unwrap());
        assert!(!way.is_empty() && way.iter().all(|dentry| dentry.strong_count() == 0), "{name}");
    }
}

#[test]
fn the_way_to_a_mount_stays_as_long_as_the_mount() {
    let bench = Bench::new(1, wait());
    let look = |name: &str| bench.look(name).unwrap();
    let namespace = bench.stage.kernel.namespaces().mounts();
    for name in ["sys/kernel", "sys/vm"] {
        namespace.bind(bench.stage.kernel.vfs(), &look("net"), &look(name)).unwrap();
    }
    let way = ["sys/kernel", "sys/vm"].map(look);
    assert!(way.iter().all(|path| path.mount.mount_point().is_some_and(|point| point.mount.mount_point().is_some())));
    let points: Vec<_> = way.iter().flat_map(|path| way_up(path.mount.mount_point().unwrap())).collect();
    for path in way {
        namespace.unmount(path, true).unwrap();
    }
    assert!(points.len() == 4 && points.iter().all(|dentry| dentry.strong_count() == 0));
    assert_eq!(look("sys/kernel").inode().attributes().mode & 0o777, 0o555);
}

#[test]
fn a_type_mounts_it_without_options() {
    use vfs::FileSystemType;
    let bench = Bench::new(1, wait());
    let kind = crate::ProcFsType(bench.procfs.clone());
    let caller = super::Viewer(ROOT, bench.stage.kernel.vfs());
    let mounted = kind.mount(b"proc", "", &caller).unwrap();
    assert_eq!((mounted.name(), mounted.statistics().magic), ("proc", 0x9fa0));
    assert_eq!(kind.mount(b"proc", "hidepid=2", &caller).err(), Some(Errno::EINVAL));
}
