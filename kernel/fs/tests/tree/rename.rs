//! renameat2(2), every kind onto every kind.

use super::*;

fn rename(world: &World, old: &str, new: &str, flags: RenameFlags) -> Result<()> {
    world.context().rename((&world.root, old.as_bytes()), (&world.root, new.as_bytes()), flags)
}

/// Two directories with a file, a link, an empty and a full directory each.
fn world() -> World {
    let world = World::new();
    for side in ["a", "b"] {
        world.mkdir(side).unwrap();
        world.write_file(&format!("{side}/file"), side.as_bytes());
        world.symlink("file", &format!("{side}/link")).unwrap();
        world.mkdir(&format!("{side}/empty")).unwrap();
        world.mkdir(&format!("{side}/full")).unwrap();
        world.write_file(&format!("{side}/full/inside"), b"");
    }
    world
}

#[test]
fn each_kind_onto_each_kind() {
    use Errno as E;
    let none = RenameFlags::empty();
    for (old, new, expected) in [
        ("file", "new", Ok(())),
        ("file", "file", Ok(())),
        ("file", "link", Ok(())),
        ("file", "empty", Err(E::EISDIR)),
        ("file", "full", Err(E::EISDIR)),
        ("link", "new", Ok(())),
        ("link", "file", Ok(())),
        ("link", "empty", Err(E::EISDIR)),
        ("empty", "new", Ok(())),
        ("empty", "file", Err(E::ENOTDIR)),
        ("empty", "link", Err(E::ENOTDIR)),
        ("empty", "empty", Ok(())),
        ("empty", "full", Err(E::ENOTEMPTY)),
        ("full", "new", Ok(())),
        ("full", "empty", Ok(())),
        ("full", "full", Err(E::ENOTEMPTY)),
        ("missing", "new", Err(E::ENOENT)),
        ("missing", "file", Err(E::ENOENT)),
    ] {
        for directory in ["a", "b"] {
            if directory == "a" && old == new {
                continue;
            }
            let world = world();
            let (from, to) = (format!("a/{old}"), format!("{directory}/{new}"));
            let moved = world.look_link(&from).map(|path| path.attributes().number);
            assert_eq!(rename(&world, &from, &to, none), expected, "{from} -> {to}");
            if expected.is_ok() {
                assert_eq!(world.look_link(&from).err(), Some(E::ENOENT));
                assert_eq!(world.look_link(&to).map(|path| path.attributes().number), moved);
                assert!(world.list(directory).contains(&new.to_string()));
                assert!(!world.list("a").contains(&old.to_string()) || directory == "a" && old == new);
            }
            // Whatever happened, the links of every directory fit what is in it.
            for parent in ["a", "b", "/"] {
                let inside = world.list(parent).into_iter().filter(|name| !name.starts_with('.'));
                let directories =
                    inside.filter(|name| world.look_link(&format!("{parent}/{name}")).unwrap().dentry.is_directory());
                assert_eq!(
                    world.stat(parent).unwrap().links as usize,
                    2 + directories.count(),
                    "{from} -> {to}: {parent}"
                );
            }
        }
    }
}

#[test]
fn what_cannot_move() {
    use Errno as E;
    let world = world();
    let none = RenameFlags::empty();
    world.mkdir("a/full/deep").unwrap();
    for (old, new, errno) in [
        ("a", "a/inside", E::EINVAL),
        ("a/full", "a/full/deep/x", E::EINVAL),
        ("a/full/deep", "a", E::ENOTEMPTY),
        ("a/file", ".", E::EBUSY),
        ("a/.", "x", E::EBUSY),
        ("a/..", "x", E::EBUSY),
        ("/", "x", E::EBUSY),
        ("a/file", "b/.", E::EBUSY),
        ("a/file/", "x", E::ENOTDIR),
        ("a/file", "x/", E::ENOTDIR),
        ("a/file", "nothing/x", E::ENOENT),
        ("a/file", "b/file/x", E::ENOTDIR),
        ("", "x", E::ENOENT),
    ] {
        assert_eq!(rename(&world, old, new, none), Err(errno), "{old} -> {new}");
    }
    assert_eq!(rename(&world, "a/full/", "a/moved/", none), Ok(()));
    assert_eq!(world.look("a/moved/deep").map(|path| world.text(&path)).unwrap(), "/a/moved/deep");
    // Two names of one file: nothing happens.
    world.link("a/file", "b/same").unwrap();
    assert_eq!(rename(&world, "a/file", "b/same", none), Ok(()));
    assert_eq!(world.stat("a/file").unwrap().links, 2);
}

#[test]
fn no_replace_and_exchange() {
    use Errno as E;
    let world = world();
    let (keep, swap) = (RenameFlags::NO_REPLACE, RenameFlags::EXCHANGE);
    assert_eq!(rename(&world, "a/file", "b/file", keep), Err(E::EEXIST));
    assert_eq!(rename(&world, "a/file", "b/.", keep), Err(E::EEXIST));
    assert_eq!(rename(&world, "a/file", "b/new", keep), Ok(()));
    assert_eq!(rename(&world, "b/new", "nowhere", swap), Err(E::ENOENT));
    assert_eq!(rename(&world, "b/new", "b/file", keep | swap), Err(E::EINVAL));
    let (file, full) = (world.number("b/file"), world.number("a/full"));
    assert_eq!(rename(&world, "b/file", "a/full", swap), Ok(()));
    assert_eq!((world.number("a/full"), world.number("b/file")), (file, full));
    assert_eq!(world.stat("b/file/inside").map(|found| found.size), Ok(0));
    assert_eq!((world.stat("a").unwrap().links, world.stat("b").unwrap().links), (3, 5));
    // A directory may not change places with what lies below it.
    world.mkdir("b/file/deep").unwrap();
    assert_eq!(rename(&world, "b/file", "b/file/deep", swap), Err(E::EINVAL));
    assert_eq!(rename(&world, "b/file/deep", "b/file", swap), Err(E::EINVAL));
    // In place, within one directory.
    let (first, second) = (world.number("b/new"), world.number("b/empty"));
    assert_eq!(rename(&world, "b/new", "b/empty", swap), Ok(()));
    assert_eq!((world.number("b/empty"), world.number("b/new")), (first, second));
}

#[test]
fn permissions_of_both_sides() {
    let mut world = world();
    for name in ["a", "a/full", "b", "b/file"] {
        world.context().chown(&world.look(name).unwrap(), Some(1000), None).unwrap();
    }
    let none = RenameFlags::empty();
    world.become_user(1000, &[]);
    // Leaving a directory changes the "..", for which one must be able to write.
    assert_eq!(rename(&world, "a/empty", "b/e2", none), Err(Errno::EACCES));
    assert_eq!(rename(&world, "a/empty", "a/e2", none), Ok(()));
    assert_eq!(rename(&world, "a/full", "b/f2", none), Ok(()));
    assert_eq!(rename(&world, "a/file", "top", none), Err(Errno::EACCES));
    world.become_root();
    world.context().chown(&world.look("b").unwrap(), Some(0), None).unwrap();
    world.context().chmod(&world.look("b").unwrap(), 0o1777).unwrap();
    world.become_user(1000, &[]);
    // Sticky: one's own may go, another's may not be replaced.
    assert_eq!(rename(&world, "b/file", "a/came", none), Ok(()));
    assert_eq!(rename(&world, "a/came", "b/link", none), Err(Errno::EPERM));
    assert_eq!(rename(&world, "b/link", "a/x", none), Err(Errno::EPERM));
}

#[test]
fn replaced_files_live_on_while_open() {
    let world = world();
    let old = world.open("b/file", READ).unwrap();
    rename(&world, "a/file", "b/file", RenameFlags::empty()).unwrap();
    let mut bytes = [0; 4];
    assert_eq!(world.read(&old, &mut bytes), Ok(1));
    assert_eq!(&bytes[..1], b"b");
    assert_eq!(old.attributes().links, 0);
    assert_eq!(world.text(&old.path().unwrap()), "/b/file (deleted)");
    assert_eq!(world.read_file("b/file").unwrap(), b"a");
    // A directory that was replaced is dead.
    let empty = world.look("b/empty").unwrap();
    rename(&world, "a/full", "b/empty", RenameFlags::empty()).unwrap();
    assert_eq!(world.context().mkdir(&empty, b"x", 0o777), Err(ENOENT));
    assert!(world.stat("b/empty/inside").is_ok());
}
