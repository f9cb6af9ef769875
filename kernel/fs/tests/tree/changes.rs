//! mkdir(2), mknod(2), link(2), symlink(2), unlink(2), rmdir(2), chmod(2), chown(2), and their errors in Linux's order.

use super::*;
use vfs::{FileKind, NewTime, Time, XattrFlags};

#[test]
fn names_that_cannot_be_made() {
    let world = World::new();
    world.mkdir("d").unwrap();
    world.write_file("f", b"");
    world.symlink("nowhere", "l").unwrap();
    for name in ["d", "f", "l", "d/", ".", "..", "/", "d/.", "d/.."] {
        assert_eq!(world.mkdir(name), Err(Errno::EEXIST), "{name}");
        assert_eq!(world.symlink("x", name), Err(Errno::EEXIST), "{name}");
        assert_eq!(world.link("f", name), Err(Errno::EEXIST), "{name}");
    }
    for name in ["", "nothing/new"] {
        assert_eq!(world.mkdir(name), Err(ENOENT));
    }
    assert_eq!(world.mkdir("f/new"), Err(Errno::ENOTDIR));
    assert_eq!(world.mkdir("new/"), Ok(()));
    assert_eq!(world.symlink("x", "other/"), Err(ENOENT));
    assert_eq!(world.context().mknod(&world.root, b"other/", 0o644, 0), Err(ENOENT));
    assert_eq!(world.context().mknod(&world.root, b"x", 0o040755, 0), Err(Errno::EPERM));
    assert_eq!(world.context().mknod(&world.root, b"x", 0o120777, 0), Err(Errno::EINVAL));
    assert_eq!(world.symlink("", "x"), Err(ENOENT));
    assert_eq!(world.link("d", "x"), Err(Errno::EPERM));
    assert_eq!(world.link("nothing", "x"), Err(ENOENT));
}

#[test]
fn names_that_cannot_be_removed() {
    let world = World::new();
    world.mkdir("d").unwrap();
    world.mkdir("d/full").unwrap();
    world.write_file("d/full/f", b"");
    for (name, errno) in [
        ("d", Errno::EISDIR),
        ("d/", Errno::EISDIR),
        (".", Errno::EISDIR),
        ("d/..", Errno::EISDIR),
        ("/", Errno::EISDIR),
        ("d/full/f/", Errno::ENOTDIR),
        ("nothing", ENOENT),
        ("nothing/", ENOENT),
        ("", ENOENT),
    ] {
        assert_eq!(world.unlink(name), Err(errno), "{name}");
    }
    for (name, errno) in [
        ("d/full", Errno::ENOTEMPTY),
        ("d/full/f", Errno::ENOTDIR),
        ("d/.", Errno::EINVAL),
        ("d/..", Errno::ENOTEMPTY),
        ("/", Errno::EBUSY),
        ("nothing", ENOENT),
    ] {
        assert_eq!(world.rmdir(name), Err(errno), "{name}");
    }
    world.unlink("d/full/f").unwrap();
    world.rmdir("d/full/").unwrap();
    world.rmdir("d").unwrap();
    assert_eq!(world.list("/"), [".", ".."]);
}

#[test]
fn links_are_counted() {
    let world = World::new();
    assert_eq!(world.stat("/").unwrap().links, 2);
    world.mkdir("d").unwrap();
    world.mkdir("d/e").unwrap();
    assert_eq!((world.stat("/").unwrap().links, world.stat("d").unwrap().links), (3, 3));
    world.rmdir("d/e").unwrap();
    assert_eq!(world.stat("d").unwrap().links, 2);
    let open = world.create("f").unwrap();
    world.link("f", "d/g").unwrap();
    assert_eq!(world.stat("f").unwrap().links, 2);
    assert_eq!(world.number("f"), world.number("d/g"));
    world.unlink("f").unwrap();
    assert_eq!(open.attributes().links, 1);
    world.unlink("d/g").unwrap();
    assert_eq!(open.attributes().links, 0);
    assert_eq!(world.write(&open, b"still"), Ok(5));
    assert_eq!(world.text(&open.path().unwrap()), "/f (deleted)");
}

#[test]
fn modes_owners_and_the_umask() {
    let mut world = World::new();
    world.umask = 0o027;
    world.mkdir("d").unwrap();
    world.create("f").unwrap();
    world.symlink("f", "l").unwrap();
    assert_eq!(world.stat("d").unwrap().mode, 0o040750);
    assert_eq!(world.stat("f").unwrap().mode, 0o100640);
    assert_eq!(world.look_link("l").unwrap().attributes().mode, 0o120777);
    // A set-group-ID directory hands its group down.
    let directory = world.look("d").unwrap();
    world.context().chown(&directory, Some(1000), Some(50)).unwrap();
    world.context().chmod(&directory, 0o2777).unwrap();
    world.become_user(1000, &[]);
    world.mkdir("d/sub").unwrap();
    world.create("d/file").unwrap();
    assert_eq!((world.stat("d/sub").unwrap().mode, world.stat("d/sub").unwrap().group), (0o042750, 50));
    assert_eq!((world.stat("d/file").unwrap().group, world.stat("d/file").unwrap().user), (50, 1000));
}

#[test]
fn directories_protect_their_names() {
    let mut world = World::new();
    world.mkdir("shut").unwrap();
    world.mkdir("tmp").unwrap();
    world.write_file("shut/f", b"");
    let tmp = world.look("tmp").unwrap();
    world.context().chmod(&tmp, 0o1777).unwrap();
    world.become_user(1000, &[]);
    assert_eq!(world.mkdir("shut/x"), Err(Errno::EACCES));
    assert_eq!(world.create("shut/x").err(), Some(Errno::EACCES));
    assert_eq!(world.unlink("shut/f"), Err(Errno::EACCES));
    assert_eq!(world.unlink("shut/nothing"), Err(ENOENT));
    assert_eq!(world.mkdir("shut/f"), Err(Errno::EEXIST));
    world.write_file("tmp/mine", b"");
    world.become_user(1001, &[]);
    // Sticky: another's file may be seen but not removed.
    assert_eq!(world.unlink("tmp/mine"), Err(Errno::EPERM));
    world.write_file("tmp/other", b"");
    world.unlink("tmp/other").unwrap();
    world.become_user(1000, &[]);
    world.unlink("tmp/mine").unwrap();
}

#[test]
fn chmod_and_chown_ask_who() {
    let mut world = World::new();
    world.write_file("f", b"");
    let file = world.look("f").unwrap();
    world.context().chown(&file, Some(1000), Some(1000)).unwrap();
    world.context().chmod(&file, 0o6755).unwrap();
    world.become_user(1001, &[]);
    assert_eq!(world.context().chmod(&file, 0o777), Err(Errno::EPERM));
    assert_eq!(world.context().chown(&file, None, Some(1001)), Err(Errno::EPERM));
    world.become_user(1000, &[77]);
    assert_eq!(world.context().chown(&file, Some(1001), None), Err(Errno::EPERM));
    assert_eq!(world.context().chown(&file, None, Some(78)), Err(Errno::EPERM));
    world.context().chown(&file, None, Some(77)).unwrap();
    // Changing hands disarms a program.
    let after = file.attributes();
    assert_eq!((after.mode, after.user, after.group), (0o100755, 1000, 77));
    // Set-group-ID is for members only.
    world.become_root();
    world.context().chown(&file, None, Some(5)).unwrap();
    world.become_user(1000, &[77]);
    world.context().chmod(&file, 0o2755).unwrap();
    assert_eq!(file.attributes().mode, 0o100755);
}

#[test]
fn times_can_be_set_by_who_may() {
    let mut world = World::new();
    world.write_file("f", b"");
    let file = world.look("f").unwrap();
    let then = Time::new(-5, 7);
    world.context().set_times(&file, NewTime::At(then), NewTime::Keep).unwrap();
    assert_eq!((file.attributes().accessed, file.attributes().accessed.seconds()), (then, -5));
    world.context().chmod(&file, 0o666).unwrap();
    world.become_user(1000, &[]);
    assert_eq!(world.context().set_times(&file, NewTime::At(then), NewTime::Now), Err(Errno::EPERM));
    world.context().set_times(&file, NewTime::Now, NewTime::Now).unwrap();
    assert!(file.attributes().accessed.seconds() > 1_000_000_000);
    world.become_root();
    world.context().chmod(&file, 0o644).unwrap();
    world.become_user(1000, &[]);
    assert_eq!(world.context().set_times(&file, NewTime::Now, NewTime::Now), Err(Errno::EACCES));
}

#[test]
fn nodes_of_every_kind() {
    let mut world = World::new();
    let device = vfs::DeviceNumber { major: 8, minor: 300 };
    for (name, mode, kind) in [
        ("fifo", 0o010644, FileKind::Fifo),
        ("socket", 0o140644, FileKind::Socket),
        ("tty", 0o020644, FileKind::CharacterDevice),
        ("disk", 0o060644, FileKind::BlockDevice),
        ("plain", 0o644, FileKind::Regular),
    ] {
        world.context().mknod(&world.root, name.as_bytes(), mode, device.encode()).unwrap();
        let found = world.look(name).unwrap();
        assert_eq!((found.dentry.kind(), FileKind::of_mode(found.attributes().mode)), (kind, Some(kind)));
    }
    assert_eq!(world.stat("disk").unwrap().represented, device);
    assert_eq!(world.open("socket", READ).err(), Some(Errno::ENXIO));
    assert_eq!(world.open("disk", READ).err(), Some(Errno::ENXIO));
    world.context().chmod(&world.root, 0o777).unwrap();
    world.become_user(1000, &[]);
    assert_eq!(world.context().mknod(&world.root, b"n", 0o020644, 0x103), Err(Errno::EPERM));
    assert_eq!(world.context().mknod(&world.root, b"n", 0o060644, 0), Err(Errno::EPERM));
    // Anybody may make a whiteout, which is no device.
    assert_eq!(world.context().mknod(&world.root, b"whiteout", 0o020644, 0), Ok(()));
    assert_eq!(world.context().mknod(&world.root, b"n", 0o010644, 0), Ok(()));
}

#[test]
fn extended_attributes() {
    let mut world = World::new();
    world.write_file("f", b"");
    let file = world.look("f").unwrap();
    let none = XattrFlags::empty();
    world.context().set_xattr(&file, b"user.colour", b"blue", none).unwrap();
    world.context().set_xattr(&file, b"trusted.secret", b"1", none).unwrap();
    assert_eq!(&*world.context().xattr(&file, b"user.colour").unwrap(), b"blue");
    assert_eq!(world.context().list_xattrs(&file).unwrap(), b"trusted.secret\0user.colour\0");
    let set = |name: &[u8], flags| world.context().set_xattr(&file, name, b"", flags);
    assert_eq!(set(b"user.colour", XattrFlags::CREATE), Err(Errno::EEXIST));
    assert_eq!(set(b"user.size", XattrFlags::REPLACE), Err(Errno::ENODATA));
    assert_eq!(set(b"colour", none), Err(Errno::EOPNOTSUPP));
    assert_eq!(world.context().set_xattr(&file, b"user.big", &vec![0; 65_537], none), Err(Errno::E2BIG));
    world.context().remove_xattr(&file, b"user.colour").unwrap();
    // Names and values of one file: 128 KiB in all, to the byte.
    let large = |name: &[u8], length: usize| world.context().set_xattr(&file, name, &vec![0; length], none);
    assert_eq!((large(b"user.a", 65_536 - 6), large(b"user.b", 65_536 - 6 - 15)), (Ok(()), Ok(())));
    assert_eq!((large(b"user.b", 65_536 - 6 - 14), large(b"user.c", 0)), (Err(Errno::ENOSPC), Err(Errno::ENOSPC)));
    for name in [b"user.a", b"user.b"] {
        world.context().remove_xattr(&file, name).unwrap();
    }
    assert_eq!(world.context().xattr(&file, b"user.colour").err(), Some(Errno::ENODATA));
    world.become_user(1000, &[]);
    assert_eq!(world.context().list_xattrs(&file).unwrap(), b"");
    assert_eq!(world.context().xattr(&file, b"trusted.secret").err(), Some(Errno::ENODATA));
    assert_eq!(world.context().set_xattr(&file, b"user.x", b"", none), Err(Errno::EACCES));
}

#[test]
fn reading_a_directory_while_it_changes() {
    let world = World::new();
    world.mkdir("d").unwrap();
    for number in 0..1000 {
        world.write_file(&format!("d/f{number}"), b"");
    }
    let open = world.open("d", OpenFlags::DIRECTORY).unwrap();
    let mut seen = Vec::new();
    loop {
        let mut batch = Vec::new();
        let mut sink = |entry: vfs::DirectoryEntry<'_>| {
            if batch.len() == 10 {
                return false;
            }
            batch.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        };
        block_on(open.read_directory(&mut sink)).unwrap();
        if batch.is_empty() {
            break;
        }
        // Everything read is removed, and for some a new one comes, as `rm -r` beside a busy program would see.
        for name in batch.iter().filter(|name| name.starts_with('f')) {
            world.unlink(&format!("d/{name}")).unwrap();
            if name.ends_with('7') {
                world.write_file(&format!("d/new-{name}"), b"");
            }
        }
        seen.append(&mut batch);
    }
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), seen.len(), "nothing is seen twice");
    assert_eq!(seen.iter().filter(|name| name.starts_with('f')).count(), 1000);
    assert_eq!(seen.iter().filter(|name| name.starts_with("new-")).count(), 100);
    assert_eq!(block_on(open.seek(0, vfs::Whence::Start)), Ok(0));
    assert_eq!(world.list("d").len(), 102);
}

/// mknod(2): seven of the sixteen kinds that fit into a mode can be made, none is a regular file.
#[test]
fn mknod_knows_the_kinds_of_files() {
    let world = World::new();
    for kind in 0..16_u32 {
        let name = kind.to_string();
        let made = world.context().mknod(&world.root, name.as_bytes(), kind << 12 | 0o640, 0x103);
        let expected = match kind {
            0 | 8 => Ok(FileKind::Regular),
            1 => Ok(FileKind::Fifo),
            2 => Ok(FileKind::CharacterDevice),
            6 => Ok(FileKind::BlockDevice),
            12 => Ok(FileKind::Socket),
            4 => Err(Errno::EPERM),
            _ => Err(Errno::EINVAL),
        };
        let found = made.and_then(|()| world.look(&name)).map(|path| path.dentry.kind());
        assert_eq!(found, expected, "{kind}");
    }
}
