//! Rules by tables: who may change whose attributes, what a new file gets, what stat(2) and its kin tell. The rows are Linux's.

use std::sync::Arc;

use abi::Errno;
use abi::raw::general as raw;
use abi::status::{Stat, Statx};
use vfs::{
    Access, Attributes, Capabilities, Credentials, DeviceNumber, FileKind, MountFlags, NewTime, OpenFlags,
    SetAttributes, Time, XattrFlags,
};

use super::{READ, World};

/// A user with capabilities.
fn able(user: u32, group: u32, groups: &[u32], capabilities: Capabilities) -> Credentials {
    Credentials { user, group, groups: Arc::new(groups.to_vec()), capabilities }
}

const NONE: Capabilities = Capabilities::empty();

#[test]
fn a_pipe_s_attributes_are_its_maker_s_and_can_be_changed() {
    let mut world = World::new();
    world.who = able(1000, 50, &[], NONE);
    let before = Time::now();
    let (reader, writer) = vfs::pipe(OpenFlags::NON_BLOCK, &world.who, &world).unwrap();
    let (other, _) = vfs::pipe(OpenFlags::empty(), &world.who, &world).unwrap();
    let found = reader.attributes();
    assert_eq!((found.mode, found.links, found.user, found.group), (raw::S_IFIFO | 0o600, 1, 1000, 50));
    assert_eq!((found.size, found.block_size, found.blocks), (0, 4096, 0));
    assert!(
        found.number != 0 && found.number == writer.attributes().number && found.number != other.attributes().number
    );
    assert!(found.device != 0 && found.device == other.attributes().device);
    assert!(found.accessed >= before && found.accessed == found.modified && found.modified == found.changed);
    assert!(found.accessed <= Time::now());
    let path = reader.path().unwrap();
    let name = format!("pipe:[{}]", found.number);
    assert_eq!(path.text(&world.root).unwrap(), name.as_bytes());
    // fchmod and fchown of the owner, and of nobody else.
    assert_eq!(world.context().chmod(&path, 0o640), Ok(()));
    assert_eq!(world.context().chown(&path, None, Some(50)), Ok(()));
    assert_eq!(world.context().chown(&path, None, Some(51)), Err(Errno::EPERM));
    world.who = able(1001, 51, &[], NONE);
    assert_eq!(world.context().chmod(&path, 0o666), Err(Errno::EPERM));
    world.become_root();
    assert_eq!(world.context().chown(&path, Some(7), Some(8)), Ok(()));
    let now = writer.attributes();
    assert_eq!((now.mode, now.user, now.group), (raw::S_IFIFO | 0o640, 7, 8));
    let size = SetAttributes { size: Some(0), ..SetAttributes::default() };
    assert_eq!(path.inode().set_attributes(&size), Err(Errno::EINVAL));
    assert_eq!(world.context().truncate(&path, 0).err(), Some(Errno::EINVAL));
    // The flags pipe2(2) takes.
    assert_eq!(vfs::pipe(OpenFlags::APPEND, &world.who, &world).err(), Some(Errno::EINVAL));
    assert_eq!(vfs::pipe(OpenFlags::CLOSE_ON_EXEC, &world.who, &world).map(|(end, _)| end.flags()), Ok(READ));
}

/// inode(7): in a sticky directory a name is removed by the owner of the file, the owner of the directory, or the capable.
#[test]
fn the_sticky_bit_asks_for_one_of_three() {
    for (user, capabilities, sticky, expected) in [
        (10, NONE, true, Ok(())),
        (20, NONE, true, Ok(())),
        (30, NONE, true, Err(Errno::EPERM)),
        (30, Capabilities::FOWNER, true, Ok(())),
        (30, Capabilities::DAC_OVERRIDE, true, Err(Errno::EPERM)),
        (30, NONE, false, Ok(())),
    ] {
        let mut world = World::new();
        world.mkdir("d").unwrap();
        world.write_file("d/file", b"");
        world.mkdir("d/empty").unwrap();
        for (name, owner) in [("d", 10), ("d/file", 20), ("d/empty", 20)] {
            world.context().chown(&world.look(name).unwrap(), Some(owner), None).unwrap();
        }
        world.context().chmod(&world.look("d").unwrap(), if sticky { 0o1777 } else { 0o777 }).unwrap();
        world.who = able(user, 99, &[], capabilities);
        let context = world.context();
        let moved = context.rename((&world.root, b"d/file"), (&world.root, b"d/moved"), vfs::RenameFlags::empty());
        assert_eq!(moved, expected, "{user} {capabilities:?}");
        let name = if moved.is_ok() { "d/moved" } else { "d/file" };
        assert_eq!((world.unlink(name), world.rmdir("d/empty")), (expected, expected), "{user} {capabilities:?}");
    }
}

/// chmod(2): set-group-ID is kept by members and by CAP_FSETID only.
#[test]
fn chmod_keeps_set_group_id_for_members() {
    for (who, asked, expected) in [
        (able(10, 20, &[], NONE), 0o2755, Ok(0o2755)),
        (able(10, 5, &[20], NONE), 0o6711, Ok(0o6711)),
        (able(10, 5, &[6], NONE), 0o6755, Ok(0o4755)),
        (able(10, 5, &[], Capabilities::FSETID), 0o2644, Ok(0o2644)),
        (able(11, 20, &[], Capabilities::FOWNER), 0o2644, Ok(0o2644)),
        (able(11, 20, &[], NONE), 0o644, Err(Errno::EPERM)),
        (able(10, 20, &[], NONE), 0o17_1777, Ok(0o1777)),
    ] {
        let mut world = World::new();
        world.write_file("f", b"");
        let file = world.look("f").unwrap();
        world.context().chown(&file, Some(10), Some(20)).unwrap();
        world.who = who;
        let result = world.context().chmod(&file, asked).map(|()| file.attributes().mode & 0o7777);
        assert_eq!(result, expected, "{asked:o}");
    }
    let world = World::new();
    world.symlink("f", "link").unwrap();
    assert_eq!(world.context().chmod(&world.look_link("link").unwrap(), 0o777), Err(Errno::EOPNOTSUPP));
}

/// chown(2): who may give what to whom, and which set-ID bits are lost.
#[test]
fn chown_by_whom_and_what_it_disarms() {
    let owner = || able(10, 20, &[21], NONE);
    let refused = Err(Errno::EPERM);
    for (who, user, group, expected) in [
        (owner(), None, None, Ok((10, 20))),
        (owner(), Some(10), None, Ok((10, 20))),
        (owner(), Some(11), None, refused),
        (owner(), None, Some(21), Ok((10, 21))),
        (owner(), Some(10), Some(20), Ok((10, 20))),
        (owner(), None, Some(22), refused),
        (owner(), Some(11), Some(21), refused),
        (able(10, 30, &[], NONE), None, Some(20), Ok((10, 20))),
        (able(11, 20, &[21], NONE), None, Some(21), refused),
        (able(11, 20, &[21], NONE), Some(10), None, refused),
        (able(11, 20, &[], Capabilities::CHOWN), Some(12), Some(22), Ok((12, 22))),
        (able(11, 20, &[], Capabilities::FOWNER), Some(12), None, refused),
    ] {
        let mut world = World::new();
        world.write_file("f", b"");
        let file = world.look("f").unwrap();
        world.context().chown(&file, Some(10), Some(20)).unwrap();
        world.who = who;
        let result = world.context().chown(&file, user, group);
        let found = file.attributes();
        assert_eq!(result.map(|()| (found.user, found.group)), expected, "{user:?} {group:?}");
    }
    for (name, before, after) in
        [("f", 0o6755, 0o755), ("f", 0o6745, 0o2745), ("f", 0o1644, 0o1644), ("d", 0o6755, 0o6755)]
    {
        let world = World::new();
        world.write_file("f", b"");
        world.mkdir("d").unwrap();
        let file = world.look(name).unwrap();
        world.context().chmod(&file, before).unwrap();
        world.context().chown(&file, None, None).unwrap();
        assert_eq!(file.attributes().mode & 0o7777, after, "{name} {before:o}");
    }
}

/// inode(7): a set-group-ID directory gives its group, and directories the bit; a program that would be armed with a group
/// its maker is not in is not.
#[test]
fn what_is_made_in_a_set_group_id_directory() {
    for (who, umask, asked, expected) in [
        (able(10, 5, &[], NONE), 0, 0o2777, 0o777),
        (able(10, 5, &[50], NONE), 0, 0o2777, 0o2777),
        (able(10, 5, &[], Capabilities::FSETID), 0, 0o2777, 0o2777),
        (able(10, 5, &[], NONE), 0, 0o2767, 0o2767),
        (able(10, 5, &[], NONE), 0o22, 0o666, 0o644),
    ] {
        let mut world = World::new();
        world.mkdir("d").unwrap();
        let directory = world.look("d").unwrap();
        world.context().chown(&directory, None, Some(50)).unwrap();
        world.context().chmod(&directory, 0o2777).unwrap();
        (world.who, world.umask) = (who, umask);
        world.context().mknod(&world.root, b"d/file", raw::S_IFREG | asked, 0).unwrap();
        world.context().mkdir(&world.root, b"d/sub", asked & 0o777).unwrap();
        let (file, sub) = (world.stat("d/file").unwrap(), world.stat("d/sub").unwrap());
        assert_eq!((file.mode & 0o7777, file.user, file.group), (expected, 10, 50), "{asked:o}");
        assert_eq!((sub.mode & 0o7777, sub.group), (0o2000 | asked & 0o777 & !umask, 50), "{asked:o}");
    }
    let mut world = World::new();
    world.mkdir("plain").unwrap();
    world.context().chmod(&world.look("plain").unwrap(), 0o777).unwrap();
    world.become_user(1000, &[50]);
    world.mkdir("plain/sub").unwrap();
    let sub = world.stat("plain/sub").unwrap();
    assert_eq!((sub.mode & 0o7000, sub.group), (0, 1000));
}

/// utimensat(2)
#[test]
fn times_are_the_owner_s_to_choose_and_the_writer_s_to_touch() {
    let at = NewTime::At(Time::new(1_000_000_007, 9));
    let (now, keep) = (NewTime::Now, NewTime::Keep);
    let (owner, writer, other) = (able(10, 10, &[], NONE), able(11, 20, &[], NONE), able(12, 12, &[], NONE));
    let (eperm, eacces) = (Err(Errno::EPERM), Err(Errno::EACCES));
    for (who, accessed, modified, expected) in [
        (&owner, at, at, Ok(())),
        (&owner, keep, at, Ok(())),
        (&writer, now, now, Ok(())),
        (&writer, at, now, eperm),
        (&writer, now, at, eperm),
        (&writer, now, keep, eperm),
        (&writer, keep, now, eperm),
        (&other, now, now, eacces),
        (&other, keep, keep, Ok(())),
    ] {
        let mut world = World::new();
        world.write_file("f", b"");
        let file = world.look("f").unwrap();
        let old = (Time::new(100, 1), Time::new(200, 2));
        world.context().set_times(&file, NewTime::At(old.0), NewTime::At(old.1)).unwrap();
        world.context().chown(&file, Some(10), Some(20)).unwrap();
        world.context().chmod(&file, 0o464).unwrap();
        let before = Time::now();
        world.who = who.clone();
        assert_eq!(world.context().set_times(&file, accessed, modified), expected, "{accessed:?} {modified:?}");
        let found = file.attributes();
        for (asked, found, old) in [(accessed, found.accessed, old.0), (modified, found.modified, old.1)] {
            match asked {
                _ if expected.is_err() => assert_eq!(found, old),
                NewTime::Keep => assert_eq!(found, old),
                NewTime::At(time) => assert_eq!(found, time),
                NewTime::Now => assert!(found >= before && found <= Time::now()),
            }
        }
    }
}

/// xattr(7)
#[test]
fn each_name_space_of_attributes_has_its_rules() {
    let mut world = World::new();
    world.write_file("f", b"");
    world.mkdir("d").unwrap();
    world.context().mknod(&world.root, b"fifo", raw::S_IFIFO | 0o666, 0).unwrap();
    for name in ["f", "d"] {
        let path = world.look(name).unwrap();
        world.context().chown(&path, Some(10), Some(10)).unwrap();
        world.context().chmod(&path, if name == "d" { 0o1777 } else { 0o644 }).unwrap();
        for attribute in ["user.a", "trusted.a", "security.a"] {
            let set = world.context().set_xattr(&path, attribute.as_bytes(), b"value", XattrFlags::empty());
            assert_eq!(set, Ok(()), "{name} {attribute}");
        }
    }
    let (owner, other) = (able(10, 10, &[], NONE), able(11, 11, &[], NONE));
    let admin = able(11, 11, &[], Capabilities::SYS_ADMIN | Capabilities::DAC_OVERRIDE);
    let (eperm, enodata, eacces) = (Some(Errno::EPERM), Some(Errno::ENODATA), Some(Errno::EACCES));
    for (who, file, attribute, read, written) in [
        (&owner, "f", "user.a", None, None),
        (&other, "f", "user.a", None, eacces),
        (&owner, "f", "trusted.a", enodata, eperm),
        (&admin, "f", "trusted.a", None, None),
        (&owner, "f", "security.a", None, eperm),
        (&admin, "f", "security.a", None, None),
        (&owner, "f", "other.a", Some(Errno::EOPNOTSUPP), Some(Errno::EOPNOTSUPP)),
        (&owner, "d", "user.a", None, None),
        (&other, "d", "user.a", None, eperm),
        (&owner, "fifo", "user.a", enodata, eperm),
        (&owner, "f", "", Some(Errno::ERANGE), Some(Errno::ERANGE)),
    ] {
        world.who = who.clone();
        let path = world.look(file).unwrap();
        let (context, name) = (world.context(), attribute.as_bytes());
        assert_eq!(context.xattr(&path, name).err(), read, "{file} {attribute}");
        assert_eq!(context.set_xattr(&path, name, b"value", XattrFlags::REPLACE).err(), written, "{file} {attribute}");
        let removed = context.remove_xattr(&path, name).err();
        assert_eq!(removed, written, "{file} {attribute}");
        if removed.is_none() {
            assert_eq!(context.set_xattr(&path, name, b"value", XattrFlags::CREATE), Ok(()));
        }
    }
    world.become_root();
    let path = world.look("f").unwrap();
    let set = |name: &[u8], length| world.context().set_xattr(&path, name, &vec![1; length], XattrFlags::empty());
    let longest = [b"user.".as_slice(), &[b'n'; 250]].concat();
    assert_eq!(set(&longest, 1), Ok(()));
    assert_eq!(set(&[longest.as_slice(), b"n"].concat(), 1), Err(Errno::ERANGE));
    assert_ne!(set(b"user.long", 65_536), Err(Errno::E2BIG));
    assert_eq!(set(b"user.long", 65_537), Err(Errno::E2BIG));
}

#[test]
fn access_asks_mount_and_mode() {
    let mut world = World::new();
    world.write_file("f", b"");
    world.mkdir("d").unwrap();
    world.context().mknod(&world.root, b"fifo", raw::S_IFIFO | 0o666, 0).unwrap();
    world.context().chmod(&world.look("f").unwrap(), 0o755).unwrap();
    for (name, access, expected) in [
        ("f", Access::EXECUTE, Ok(())),
        ("d", Access::EXECUTE | Access::WRITE, Ok(())),
        ("fifo", Access::EXECUTE, Err(Errno::EACCES)),
    ] {
        assert_eq!(world.may(name, access), expected, "{name}");
    }
    assert_eq!(world.context().check_directory(&world.look("f").unwrap()), Err(Errno::ENOTDIR));
    assert_eq!(world.context().check_directory(&world.look("d").unwrap()), Ok(()));
    let flags = MountFlags::READ_ONLY | MountFlags::NO_EXECUTE;
    world.namespace.remount(&world.root, flags, "", true).unwrap();
    for (name, access, expected) in [
        ("f", Access::EXECUTE, Err(Errno::EACCES)),
        ("d", Access::EXECUTE, Ok(())),
        ("f", Access::READ, Ok(())),
        ("f", Access::WRITE, Err(Errno::EROFS)),
        ("d", Access::WRITE, Err(Errno::EROFS)),
        ("fifo", Access::WRITE, Ok(())),
    ] {
        assert_eq!(world.may(name, access), expected, "{name} {access:?}");
    }
    world.become_user(1000, &[]);
    assert_eq!(world.may("f", Access::WRITE), Err(Errno::EACCES), "the mode is asked first");
}

#[test]
fn truncation_by_name_asks_kind_and_right() {
    let mut world = World::new();
    world.write_file("f", b"0123456789");
    world.mkdir("d").unwrap();
    let truncate = |world: &World, name: &str| {
        let path = world.look(name)?;
        world.context().truncate(&path, 4).and_then(|change| world.complete(change))
    };
    assert_eq!(truncate(&world, "d"), Err(Errno::EISDIR));
    assert_eq!(truncate(&world, "f"), Ok(()));
    assert_eq!(world.stat("f").unwrap().size, 4);
    world.become_user(1000, &[]);
    assert_eq!(truncate(&world, "f"), Err(Errno::EACCES));
}

#[test]
fn what_stat_tells_is_each_in_its_place() {
    let device = DeviceNumber { major: 259, minor: 70_000 };
    let attributes = Attributes {
        device: DeviceNumber { major: 8, minor: 1 }.encode(),
        number: 2,
        mode: raw::S_IFBLK | 0o640,
        links: 3,
        user: 4,
        group: 5,
        represented: device,
        size: 6,
        block_size: 7,
        blocks: 8,
        accessed: Time::new(9, 10),
        modified: Time::new(11, 12),
        changed: Time::new(13, 14),
        created: Some(Time::new(15, 16)),
    };
    let stat = Stat::from(attributes);
    assert_eq!((stat.device, stat.inode, stat.links, stat.mode), (0x801, 2, 3, 0o060640));
    assert_eq!((stat.user, stat.group, stat.size, stat.block_size, stat.blocks), (4, 5, 6, 7, 8));
    // glibc's makedev.
    assert_eq!(stat.represented, 0x0001_1170 & 0xff | 259 << 8 | (70_000 & !0xff) << 12);
    assert_eq!((stat.accessed.seconds, stat.modified.nanoseconds, stat.changed.seconds), (9, 12, 13));
    let statx = Statx::from(attributes);
    assert_eq!((statx.device_major, statx.device_minor), (8, 1));
    assert_eq!((statx.represented_major, statx.represented_minor), (259, 70_000));
    assert_eq!((statx.inode, statx.links, statx.mode, statx.user, statx.group), (2, 3, 0o060640, 4, 5));
    assert_eq!((statx.size, statx.block_size, statx.blocks), (6, 7, 8));
    assert_eq!((statx.accessed.seconds, statx.created.seconds, statx.changed.seconds), (9, 15, 13));
    assert_eq!((statx.modified.seconds, statx.modified.nanoseconds), (11, 12));
    assert_eq!(statx.mask, 0x7ff | 0x800);
    let nameless = Statx::from(Attributes { created: None, ..attributes });
    assert_eq!((nameless.mask, nameless.created.seconds), (0x7ff, 0));
    for kind in [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::Fifo, FileKind::Socket] {
        assert_eq!(FileKind::of_mode(kind.mode() | 0o7777), Some(kind));
    }
}

#[test]
fn statfs_tells_the_flags_of_the_mount() {
    let world = World::new();
    for (flags, bits) in [
        (MountFlags::empty(), 0),
        (MountFlags::READ_ONLY, 1),
        (MountFlags::NO_SET_USER_ID, 2),
        (MountFlags::NO_DEVICES, 4),
        (MountFlags::NO_EXECUTE, 8),
        (MountFlags::NO_ACCESS_TIMES, 1024),
        (MountFlags::NO_DIRECTORY_ACCESS_TIMES, 2048),
        (MountFlags::RELATIVE_ACCESS_TIMES, 4096),
    ] {
        world.namespace.remount(&world.root, flags, "", true).unwrap();
        let told = world.context().statistics(&world.root).unwrap();
        assert_eq!(told.flags, 0x20 | bits, "{flags:?}");
        assert_eq!((told.kind, told.name_length, told.block_size, told.fragment_size), (0x0102_1994, 255, 4096, 4096));
        assert!(told.identity != [0, 0] && told.free <= told.blocks && told.available <= told.free);
    }
}
