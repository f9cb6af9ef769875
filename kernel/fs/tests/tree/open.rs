//! open(2): creation, exclusivity, kinds and permissions.

use super::*;
use vfs::FileKind;

const CREATE: OpenFlags = OpenFlags::CREATE;

#[test]
fn what_may_be_created_and_opened() {
    use Errno as E;
    let world = World::new();
    world.mkdir("d").unwrap();
    world.write_file("f", b"x");
    world.symlink("f", "l").unwrap();
    world.symlink("d/new", "dangling").unwrap();
    world.symlink("d", "ld").unwrap();
    let (exclusive, rw) = (CREATE | OpenFlags::EXCLUSIVE, OpenFlags::READ_WRITE);
    let no_follow = OpenFlags::NO_FOLLOW;
    for (name, flags, errno) in [
        ("missing", READ, E::ENOENT),
        ("", CREATE, E::ENOENT),
        ("d", WRITE, E::EISDIR),
        ("d", rw, E::EISDIR),
        ("d", CREATE, E::EISDIR),
        ("d/", CREATE, E::EISDIR),
        ("new/", CREATE, E::EISDIR),
        (".", CREATE, E::EISDIR),
        ("/", CREATE | WRITE, E::EISDIR),
        ("d", OpenFlags::TRUNCATE, E::EISDIR),
        ("f", exclusive, E::EEXIST),
        ("l", exclusive, E::EEXIST),
        ("dangling", exclusive, E::EEXIST),
        ("d", exclusive, E::EEXIST),
        ("f", OpenFlags::DIRECTORY, E::ENOTDIR),
        ("f/", READ, E::ENOTDIR),
        ("l", no_follow, E::ELOOP),
        ("ld", no_follow | OpenFlags::DIRECTORY, E::ENOTDIR),
        ("d/x", CREATE | OpenFlags::DIRECTORY, E::EINVAL),
        ("missing/x", CREATE, E::ENOENT),
        ("f/x", CREATE, E::ENOTDIR),
    ] {
        assert_eq!(world.open(name, flags).err(), Some(errno), "{name} {flags:?}");
    }
    assert!(world.open("ld/", no_follow).is_ok());
    assert!(world.open("d", READ).is_ok());
    // Through a dangling link, the file it names is made.
    world.open("dangling", CREATE | WRITE).unwrap();
    assert_eq!(world.list("d"), [".", "..", "new"]);
    assert_eq!(world.open("l", READ).unwrap().named_path().map(|path| world.text(path)).unwrap(), "/f");
}

#[test]
fn permissions_of_what_is_there_and_of_what_comes() {
    use Errno as E;
    let mut world = World::new();
    world.context().chmod(&world.root, 0o777).unwrap();
    world.write_file("secret", b"");
    world.context().chmod(&world.look("secret").unwrap(), 0o640).unwrap();
    world.become_user(1000, &[]);
    assert_eq!(world.open("secret", READ).err(), Some(E::EACCES));
    assert_eq!(world.open("secret", OpenFlags::TRUNCATE).err(), Some(E::EACCES));
    assert!(world.open("secret", OpenFlags::PATH).is_ok());
    // What one makes can be written at once, whatever its mode.
    let made = world.opening("mine", CREATE | WRITE, 0o400).unwrap();
    let Opening::Done(made) = made else { panic!("no FIFO") };
    assert_eq!(world.write(&made, b"x"), Ok(1));
    assert_eq!(world.open("mine", WRITE).err(), Some(E::EACCES));
    assert!(world.open("mine", READ).is_ok());
    world.become_user(1001, &[]);
    assert_eq!(world.open("mine", READ).err(), Some(E::EACCES));
    world.become_root();
    world.context().chmod(&world.look("mine").unwrap(), 0o444).unwrap();
    world.become_user(1001, &[]);
    assert_eq!(world.open("mine", OpenFlags::NO_ACCESS_TIME).err(), Some(E::EPERM));
}

#[test]
fn modes_of_access_bind() {
    let world = World::new();
    world.write_file("f", b"12345");
    let (reader, writer) = (world.open("f", READ).unwrap(), world.open("f", WRITE).unwrap());
    let neither = world.open("f", OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE).unwrap();
    let name = world.open("f", OpenFlags::PATH | OpenFlags::READ_WRITE).unwrap();
    let mut byte = [0];
    for open in [&writer, &neither, &name] {
        assert_eq!(world.read(open, &mut byte), Err(Errno::EBADF));
    }
    for open in [&reader, &neither, &name] {
        assert_eq!(world.write(open, b"x"), Err(Errno::EBADF));
    }
    assert_eq!(world.truncate(&reader, 0), Err(Errno::EINVAL));
    assert_eq!(world.truncate(&name, 0), Err(Errno::EBADF));
    assert_eq!(world.truncate(&writer, 2), Ok(()));
    assert_eq!(name.attributes().size, 2);
    assert_eq!(name.flags(), OpenFlags::PATH);
    assert_eq!(reader.flags(), OpenFlags::LARGE_FILE);
    // A link itself can be named.
    world.symlink("f", "l").unwrap();
    let link = world.open("l", OpenFlags::PATH | OpenFlags::NO_FOLLOW).unwrap();
    assert_eq!(link.kind(), Some(FileKind::Symlink));
    assert_eq!(world.context().read_link(link.named_path().unwrap()).unwrap(), b"f");
}

#[test]
fn truncation_and_appending() {
    let world = World::new();
    world.write_file("f", b"12345");
    let append = world.open("f", WRITE | OpenFlags::APPEND).unwrap();
    assert_eq!(block_on(append.seek(0, vfs::Whence::Start)), Ok(0));
    world.write(&append, b"6").unwrap();
    assert_eq!(world.read_file("f").unwrap(), b"123456");
    assert_eq!(block_on(append.seek(0, vfs::Whence::Current)), Ok(6));
    world.open("f", READ | OpenFlags::TRUNCATE).unwrap();
    assert_eq!(world.read_file("f").unwrap(), b"");
    world.write(&append, b"7").unwrap();
    assert_eq!(world.read_file("f").unwrap(), b"7");
    append.set_flags(OpenFlags::empty(), &world.who).unwrap();
    block_on(append.seek(0, vfs::Whence::Start)).unwrap();
    world.write(&append, b"8").unwrap();
    assert_eq!(world.read_file("f").unwrap(), b"8");
}

#[test]
fn files_without_a_name() {
    let world = World::new();
    world.mkdir("d").unwrap();
    let unnamed = OpenFlags::UNNAMED | OpenFlags::DIRECTORY;
    assert_eq!(world.open("d", unnamed).err(), Some(Errno::EINVAL));
    let open = world.open("d", unnamed | OpenFlags::READ_WRITE).unwrap();
    world.write(&open, b"hidden").unwrap();
    assert_eq!((open.attributes().links, world.list("d").len()), (0, 2));
    assert!(world.text(&open.path().unwrap()).ends_with(" (deleted)"));
    // linkat(AT_EMPTY_PATH) gives it a name after all.
    world.context().link(&open.path().unwrap(), &world.root, b"d/shown").unwrap();
    assert_eq!(world.read_file("d/shown").unwrap(), b"hidden");
    assert_eq!(open.attributes().links, 1);
}

#[test]
fn programs() {
    let world = World::new();
    world.mkdir("d").unwrap();
    world.write_file("p", b"#!");
    let open = |name: &str| world.context().open_program(&world.root, name.as_bytes(), Lookup::FOLLOW).map(|_| ());
    assert_eq!(open("d"), Err(Errno::EACCES));
    assert_eq!(open("p"), Err(Errno::EACCES));
    world.context().chmod(&world.look("p").unwrap(), 0o100).unwrap();
    assert_eq!(open("p"), Ok(()));
    world.namespace.remount(&world.root, MountFlags::NO_EXECUTE, "", true).unwrap();
    assert_eq!(open("p"), Err(Errno::EACCES));
    assert_eq!(world.may("p", Access::EXECUTE), Err(Errno::EACCES));
}

#[test]
fn programs_are_not_written_while_they_run() {
    use Errno as E;
    let world = World::new();
    world.write_file("f", b"program");
    world.context().chmod(&world.look("f").unwrap(), 0o755).unwrap();
    let execute = || world.context().open_program(&world.root, b"f", vfs::Lookup::FOLLOW);
    let writer = world.open("f", WRITE).unwrap();
    assert_eq!(execute().err(), Some(E::ETXTBSY));
    drop(writer);
    let (program, other) = (execute().unwrap(), execute().unwrap());
    assert_eq!(world.open("f", WRITE).err(), Some(E::ETXTBSY));
    assert_eq!(world.open("f", READ | OpenFlags::TRUNCATE).err(), Some(E::ETXTBSY));
    assert_eq!(world.context().truncate(&world.look("f").unwrap(), 0).err(), Some(E::ETXTBSY));
    assert!(world.open("f", READ).is_ok());
    drop(program);
    assert_eq!(world.open("f", WRITE).err(), Some(E::ETXTBSY));
    drop(other);
    assert!(world.open("f", WRITE).is_ok());
    assert_eq!(world.read_file("f").unwrap(), b"program");
}
