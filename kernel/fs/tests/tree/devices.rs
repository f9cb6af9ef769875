//! `/dev`.

use super::*;

fn world() -> World {
    let world = World::new();
    world.mkdir("dev").unwrap();
    let dev = world.look("dev").unwrap();
    world.namespace.mount(&world.vfs, world.dev.filesystem(), b"devtmpfs", &dev, MountFlags::empty()).unwrap();
    world
}

#[test]
fn memory_devices() {
    let world = world();
    let open = |name: &str| world.open(&format!("dev/{name}"), OpenFlags::READ_WRITE | OpenFlags::APPEND).unwrap();
    let mut to = [9; 100];
    assert_eq!((world.read(&open("null"), &mut to), world.write(&open("null"), &to)), (Ok(0), Ok(100)));
    assert_eq!((world.read(&open("zero"), &mut to), to), (Ok(100), [0; 100]));
    assert_eq!((world.read(&open("full"), &mut to), world.write(&open("full"), &to)), (Ok(100), Err(Errno::ENOSPC)));
    let mut other = [0; 100];
    assert_eq!((world.read(&open("urandom"), &mut to), world.read(&open("random"), &mut other)), (Ok(100), Ok(100)));
    assert_ne!(to, other);
    assert_eq!(world.write(&open("random"), &[1; 1000]), Ok(1000));
    assert_eq!(block_on(open("null").seek(5, vfs::Whence::End)), Ok(0));
    let null = world.stat("dev/null").unwrap();
    assert_eq!((null.mode, null.represented), (0o020666, vfs::DeviceNumber { major: 1, minor: 3 }));
    assert_eq!(world.context().read_link(&world.look_link("dev/fd").unwrap()).unwrap(), b"/proc/self/fd");
}

#[test]
fn the_files_outlast_the_last_mount() {
    let world = world();
    world.mkdir("dev/own").unwrap();
    world.namespace.unmount(world.look("dev").unwrap(), false).unwrap();
    assert_eq!(world.list("dev"), [".", ".."]);
    let dev = world.look("dev").unwrap();
    world.namespace.mount(&world.vfs, world.dev.filesystem(), b"devtmpfs", &dev, MountFlags::empty()).unwrap();
    assert!(world.open("dev/null", READ).is_ok() && world.look("dev/own").is_ok());
}

#[test]
fn nodes_work_anywhere_unless_the_mount_says_no() {
    let world = world();
    let zero = vfs::DeviceNumber { major: 1, minor: 5 }.encode();
    world.context().mknod(&world.root, b"my-zero", 0o020666, zero).unwrap();
    let mut to = [1; 4];
    assert_eq!((world.read(&world.open("my-zero", READ).unwrap(), &mut to), to), (Ok(4), [0; 4]));
    world.namespace.remount(&world.root, MountFlags::NO_DEVICES, "", true).unwrap();
    assert_eq!(world.open("my-zero", READ).err(), Some(Errno::EACCES));
    assert!(world.open("dev/zero", READ).is_ok());
}

#[test]
fn the_kernel_log() {
    let world = world();
    world.log.append(6, "first \\ line\n");
    world.log.append(3, "second");
    let open = world.open("dev/kmsg", OpenFlags::READ_WRITE | OpenFlags::NON_BLOCK).unwrap();
    let mut to = [0; 200];
    let mut line = |open: &OpenFile| {
        let length = world.read(open, &mut to)?;
        Ok::<_, Errno>(String::from_utf8(to[..length].to_vec()).unwrap())
    };
    let first = line(&open).unwrap();
    assert!(first.starts_with("6,0,") && first.ends_with(",-;first \\x5c line\n"), "{first}");
    assert!(line(&open).unwrap().starts_with("3,1,"));
    assert_eq!(line(&open), Err(Errno::EAGAIN));
    assert_eq!(world.write(&open, b"<4>from a program"), Ok(17));
    assert!(line(&open).unwrap().starts_with("12,2,"));
    assert!(world.log.read_all(10_000).ends_with("from a program\n"));
    // Records a slow reader missed are told, once.
    for number in 0..5000 {
        world.log.append(6, &format!("{number} {}", "x".repeat(90)));
    }
    assert_eq!(line(&open), Err(Errno::EPIPE));
    let next = line(&open).unwrap();
    let sequence: u64 = next.split(',').nth(1).unwrap().parse().unwrap();
    assert!(sequence > 3000, "{next}");
}

#[test]
fn each_mapping_of_zero_is_its_own() {
    let world = world();
    let map =
        |name: &str| world.open(name, OpenFlags::READ_WRITE).unwrap().mapping().map(|mapped| mapped.pager.clone());
    let (one, other) = (map("dev/zero").unwrap(), map("dev/zero").unwrap());
    let mut byte = [9];
    one.page(5, true).unwrap().write(0, &[7]);
    one.page(5, false).unwrap().read(0, &mut byte);
    assert_eq!(byte, [7]);
    other.page(5, false).unwrap().read(0, &mut byte);
    assert_eq!(byte, [0]);
    assert_eq!(map("dev/null").err(), Some(Errno::ENODEV));
}
