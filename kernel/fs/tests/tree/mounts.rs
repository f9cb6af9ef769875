//! mount(2) and umount(2).

use super::*;

fn mount(world: &World, kind: &str, target: &str, options: &str) -> Result<()> {
    let filesystem = world.vfs.file_system_types.find(kind.as_bytes())?.mount(b"none", options, world)?;
    world.namespace.mount(&world.vfs, filesystem, b"none", &world.look(target)?, MountFlags::empty())
}

#[test]
fn walks_cross_mounts_both_ways() {
    let world = World::new();
    for directory in ["m", "m/hidden", "other"] {
        world.mkdir(directory).unwrap();
    }
    mount(&world, "tmpfs", "m", "").unwrap();
    assert_eq!(world.stat("m/hidden").err(), Some(ENOENT));
    world.mkdir("m/inside").unwrap();
    assert_ne!(world.stat("m").unwrap().device, world.stat("/").unwrap().device);
    assert_eq!(world.look("m/inside").map(|path| world.text(&path)).unwrap(), "/m/inside");
    assert_eq!(world.number("m/.."), world.number("/"));
    assert_eq!(world.number("m/inside/../../other"), world.number("other"));
    // Two on top of one another, and off again.
    mount(&world, "tmpfs", "m", "").unwrap();
    assert_eq!(world.list("m"), [".", ".."]);
    assert_eq!(world.number("m/.."), world.number("/"));
    world.namespace.unmount(world.look("m").unwrap(), false).unwrap();
    assert_eq!(world.list("m"), [".", "..", "inside"]);
    assert_eq!(world.rmdir("m"), Err(Errno::EBUSY));
    let rename = |old: &str, new: &str| {
        let none = vfs::RenameFlags::empty();
        world.context().rename((&world.root, old.as_bytes()), (&world.root, new.as_bytes()), none)
    };
    assert_eq!(rename("m", "n"), Err(Errno::EBUSY));
    assert_eq!(rename("other", "m/other"), Err(Errno::EXDEV));
    assert_eq!(world.link("m/inside", "x"), Err(Errno::EXDEV));
    world.namespace.unmount(world.look("m").unwrap(), false).unwrap();
    assert_eq!(world.list("m"), [".", "..", "hidden"]);
}

#[test]
fn what_is_in_use_stays() {
    let world = World::new();
    for directory in ["m", "file-system"] {
        world.mkdir(directory).unwrap();
    }
    world.write_file("f", b"");
    mount(&world, "tmpfs", "m", "").unwrap();
    assert_eq!(mount(&world, "tmpfs", "f", "").err(), Some(Errno::ENOTDIR));
    assert_eq!(mount(&world, "nonesuch", "m", "").err(), Some(Errno::ENODEV));
    assert_eq!(mount(&world, "tmpfs", "m", "size=banana").err(), Some(Errno::EINVAL));
    let open = world.create("m/f").unwrap();
    let unmount = |name: &str, detach| world.namespace.unmount(world.look(name).unwrap(), detach);
    assert_eq!(unmount("m", false), Err(Errno::EBUSY));
    assert_eq!(unmount("m/f", false), Err(Errno::EINVAL));
    assert_eq!(unmount("file-system", false), Err(Errno::EINVAL));
    world.mkdir("m/sub").unwrap();
    mount(&world, "tmpfs", "m/sub", "").unwrap();
    // Detached, it vanishes with what is mounted in it, and lives on for who has it open.
    unmount("m", true).unwrap();
    assert_eq!(world.list("m"), [".", ".."]);
    assert_eq!(world.write(&open, b"x"), Ok(1));
    assert_eq!(world.namespace.count(), 1);
}

#[test]
fn read_only_is_felt_everywhere() {
    let world = World::new();
    world.mkdir("m").unwrap();
    mount(&world, "tmpfs", "m", "").unwrap();
    world.write_file("m/f", b"x");
    world.mkdir("m/d").unwrap();
    let open = world.open("m/f", WRITE).unwrap();
    let m = world.look("m").unwrap();
    world.namespace.remount(&m, MountFlags::READ_ONLY, "", true).unwrap();
    let rofs = Err(Errno::EROFS);
    assert_eq!(world.mkdir("m/x"), rofs);
    assert_eq!(world.mkdir("m/d"), Err(Errno::EEXIST));
    assert_eq!(world.unlink("m/f"), rofs);
    assert_eq!(world.unlink("m/nothing"), rofs);
    assert_eq!(world.rmdir("m/d"), rofs);
    assert_eq!(world.open("m/f", WRITE).err(), Some(Errno::EROFS));
    assert_eq!(world.open("m/new", OpenFlags::CREATE).err(), Some(Errno::EROFS));
    assert_eq!(world.open("m/f", OpenFlags::TRUNCATE).err(), Some(Errno::EROFS));
    assert!(world.open("m/f", OpenFlags::CREATE).is_ok());
    assert_eq!(world.context().chmod(&world.look("m/f").unwrap(), 0), rofs);
    assert_eq!(world.context().truncate(&world.look("m/f").unwrap(), 0).map(|_| ()), rofs);
    assert_eq!(world.may("m/f", Access::WRITE), rofs);
    assert_eq!(world.write(&open, b"y"), Ok(1));
    world.namespace.remount(&m, MountFlags::empty(), "", true).unwrap();
    assert_eq!(world.mkdir("m/x"), Ok(()));
}

#[test]
fn binds_show_the_same_again() {
    let world = World::new();
    for directory in ["a", "a/sub", "b", "c"] {
        world.mkdir(directory).unwrap();
    }
    mount(&world, "tmpfs", "a/sub", "").unwrap();
    world.write_file("a/sub/deep", b"");
    world.write_file("a/f", b"x");
    let bind = |from: &str, to: &str, recursive| {
        let (from, to) = (world.look(from).unwrap(), world.look(to).unwrap());
        match recursive {
            true => block_on(world.namespace.bind_tree(&world.vfs, &from, &to)),
            false => world.namespace.bind(&world.vfs, &from, &to),
        }
    };
    bind("a", "b", false).unwrap();
    assert_eq!(world.number("b/f"), world.number("a/f"));
    assert_eq!(world.stat("b/sub/deep").err(), Some(ENOENT));
    bind("a", "c", true).unwrap();
    assert!(world.stat("c/sub/deep").is_ok());
    assert_eq!(world.look("c/sub/deep").map(|path| world.text(&path)).unwrap(), "/c/sub/deep");
    world.write_file("c/new", b"");
    assert!(world.stat("a/new").is_ok());
    // A file can be bound on a file, and flags are each mount's own.
    world.write_file("target", b"");
    bind("a/f", "target", false).unwrap();
    assert_eq!(world.read_file("target").unwrap(), b"x");
    world.namespace.remount(&world.look("target").unwrap(), MountFlags::READ_ONLY, "", true).unwrap();
    assert_eq!(world.open("target", WRITE).err(), Some(Errno::EROFS));
    assert!(world.open("a/f", WRITE).is_ok());
    assert_eq!(bind("a/f", "b", false), Err(Errno::ENOTDIR));
}

#[test]
fn mounts_move() {
    let world = World::new();
    for directory in ["a", "b"] {
        world.mkdir(directory).unwrap();
    }
    mount(&world, "tmpfs", "a", "").unwrap();
    world.mkdir("a/in").unwrap();
    mount(&world, "tmpfs", "a/in", "").unwrap();
    let move_mount =
        |from: &str, to: &str| world.namespace.move_mount(&world.look(from).unwrap(), &world.look(to).unwrap());
    assert_eq!(move_mount("a", "a/in"), Err(Errno::ELOOP));
    assert_eq!(move_mount("b", "a"), Err(Errno::EINVAL));
    move_mount("a", "b").unwrap();
    assert_eq!((world.list("a").len(), world.list("b").len()), (2, 3));
    assert_eq!(world.look("b/in").map(|path| world.text(&path)).unwrap(), "/b/in");
}

#[test]
fn the_table_reads_as_linux_writes_it() {
    let world = World::new();
    world.mkdir("with space").unwrap();
    world.mkdir("dev").unwrap();
    mount(&world, "tmpfs", "with space", "size=1m,nr_inodes=5,mode=700").unwrap();
    let dev = world.look("dev").unwrap();
    let flags = MountFlags::NO_SET_USER_ID | MountFlags::READ_ONLY;
    world.namespace.mount(&world.vfs, world.dev.filesystem(), b"udev", &dev, flags).unwrap();
    let text = world.mounts_text(vfs::Mount::mounts_line);
    assert_eq!(
        text,
        "rootfs / rootfs rw,nr_inodes=0,inode64 0 0\n\
         none /with\\040space tmpfs rw,size=1024k,nr_inodes=5,mode=700,inode64 0 0\n\
         udev /dev devtmpfs ro,nosuid,mode=755,inode64 0 0\n"
    );
    let info = world.mounts_text(vfs::Mount::mountinfo_line);
    let lines: Vec<&str> = info.lines().collect();
    assert!(lines[2].ends_with(" / /dev ro,nosuid - devtmpfs udev rw,mode=755,inode64"), "{info}");
    assert_eq!(world.vfs.file_system_types.list().unwrap(), "nodev\ttmpfs\nnodev\tdevtmpfs\n");
}

#[test]
fn namespaces_are_apart() {
    let world = World::new();
    for directory in ["m", "n"] {
        world.mkdir(directory).unwrap();
    }
    mount(&world, "tmpfs", "m", "").unwrap();
    world.write_file("m/f", b"");
    let (copy, find) = world.namespace.duplicate(&world.vfs).unwrap();
    let root = find(&world.root);
    drop(find);
    let context = Calls(Context { root: &root, ..*world.context() });
    assert!(context.lookup(&root, b"m/f", Lookup::empty()).is_ok());
    mount(&world, "tmpfs", "n", "").unwrap();
    world.write_file("n/g", b"");
    assert_eq!(context.lookup(&root, b"n/g", Lookup::empty()).err(), Some(ENOENT));
    copy.unmount(context.lookup(&root, b"m", Lookup::empty()).unwrap(), false).unwrap();
    assert_eq!(context.lookup(&root, b"m/f", Lookup::empty()).err(), Some(ENOENT));
    assert!(world.stat("m/f").is_ok());
}

#[test]
fn unmounting_gives_every_page_back() {
    let world = World::new();
    world.mkdir("m").unwrap();
    let free = world.free_frames();
    for _ in 0..3 {
        mount(&world, "tmpfs", "m", "").unwrap();
        for number in 0..20 {
            world.mkdir(&format!("m/d{number}")).unwrap();
            world.write_file(&format!("m/d{number}/f"), &[7; 50_000]);
        }
        assert!(world.free_frames() < free - 200);
        world.namespace.unmount(world.look("m").unwrap(), false).unwrap();
        assert_eq!(world.free_frames(), free);
    }
}

/// What a mount, a walk through it and an unmount cost does not follow how many others there are: processor time of this thread, of
/// which the quickest of three tries counts.
#[test]
fn many_mounts_cost_no_more_each() {
    const MANY: usize = 12_000;
    const SOME: usize = 400;
    let world = World::new();
    let name = |number: usize| format!("m{number}");
    let add = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            world.mkdir(&name(number)).unwrap();
            mount(&world, "tmpfs", &name(number), "").unwrap();
        }
    };
    let take = |numbers: std::ops::Range<usize>| {
        numbers.for_each(|number| world.namespace.unmount(world.look(&name(number)).unwrap(), false).unwrap());
    };
    let cost = |from: usize| {
        let tries = (0..3).map(|attempt| {
            let first = from + attempt * SOME;
            let before = own_time();
            add(first..first + SOME);
            (0..20).for_each(|_| drop(world.look(&name(first)).unwrap()));
            take(first + SOME / 2..first + SOME);
            own_time() - before
        });
        tries.min().unwrap()
    };
    let few = cost(0);
    add(MANY..2 * MANY);
    let many = cost(3 * MANY);
    let most = 4 * few + std::time::Duration::from_millis(40);
    assert!(many < most, "{SOME} mounts took {few:?} among few others, and {many:?} among {MANY}");
    assert!(world.namespace.unmount(world.look(&name(MANY)).unwrap(), false).is_ok());
}

/// Processor time of this thread.
fn own_time() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
