//! path_resolution(7).

use super::*;

fn world() -> World {
    filled(World::new())
}

fn filled(world: World) -> World {
    for directory in ["a", "a/b", "a/b/c", "x"] {
        world.mkdir(directory).unwrap();
    }
    world.write_file("a/file", b"contents");
    world.write_file("x/other", b"");
    world
}

#[test]
fn dots_and_slashes_lead_where_they_should() {
    let world = world();
    let b = world.number("a/b");
    for name in
        ["/a/b", "a//b", "a/./b", "a/b/.", "a/b/", "a/b///", "/../a/b", "../../a/b", "a/b/c/..", "./a/../a/b/c/../c/.."]
    {
        assert_eq!(world.stat(name).map(|found| found.number), Ok(b), "{name}");
    }
    let root = world.number("/");
    for name in ["/", "//", ".", "..", "a/..", "a/b/../..", "/..", "a/../.."] {
        assert_eq!(world.number(name), root, "{name}");
    }
}

#[test]
fn relative_paths_begin_at_their_directory() {
    let world = world();
    let a = world.look("a").unwrap();
    let context = world.context();
    let from_a = |name: &str| context.lookup(&a, name.as_bytes(), Lookup::FOLLOW).map(|path| world.text(&path));
    assert_eq!(from_a("b/c").unwrap(), "/a/b/c");
    assert_eq!(from_a("../x/other").unwrap(), "/x/other");
    assert_eq!(from_a("/x").unwrap(), "/x");
    let file = world.look("a/file").unwrap();
    assert_eq!(context.lookup(&file, b"b", Lookup::empty()).err(), Some(Errno::ENOTDIR));
    assert_eq!(context.lookup(&file, b"/a", Lookup::empty()).map(|path| world.text(&path)).unwrap(), "/a");
}

#[test]
fn what_is_missing_and_what_is_no_directory() {
    let world = world();
    for (name, errno) in [
        ("", ENOENT),
        ("nothing", ENOENT),
        ("a/nothing/deeper", ENOENT),
        ("a/file/deeper", Errno::ENOTDIR),
        ("a/file/", Errno::ENOTDIR),
        ("a/file/.", Errno::ENOTDIR),
        ("a/file/..", Errno::ENOTDIR),
        ("a/nothing/", ENOENT),
        ("a/nothing/..", ENOENT),
    ] {
        assert_eq!(world.stat(name).err(), Some(errno), "{name:?}");
    }
    let context = world.context();
    let a = world.look("a").unwrap();
    assert_eq!(context.lookup(&a, b"", Lookup::EMPTY_PATH).map(|path| world.text(&path)).unwrap(), "/a");
    assert_eq!(context.lookup(&a, b"file", Lookup::DIRECTORY).err(), Some(Errno::ENOTDIR));
}

#[test]
fn names_may_have_255_bytes() {
    let world = world();
    let longest = "n".repeat(255);
    world.write_file(&longest, b"");
    assert!(world.stat(&longest).is_ok());
    for name in [format!("{longest}n"), format!("a/{longest}n"), format!("{longest}n/deeper")] {
        assert_eq!(world.stat(&name).err(), Some(Errno::ENAMETOOLONG));
    }
    assert_eq!(world.mkdir(&format!("{longest}n")), Err(Errno::ENAMETOOLONG));
    assert_eq!(world.create(&format!("{longest}n")).err(), Some(Errno::ENAMETOOLONG));
    // What is no directory is found out before the name after it is looked at.
    assert_eq!(world.stat(&format!("a/file/{longest}n")).err(), Some(Errno::ENOTDIR));
}

#[test]
fn links_are_followed() {
    let world = world();
    for (target, name) in [
        ("a", "to-a"),
        ("/a/b", "a/absolute"),
        ("../x", "a/up"),
        ("file", "a/to-file"),
        ("to-file", "a/to-link"),
        ("nowhere", "dangling"),
        ("/", "to-root"),
        ("b/", "a/slashed"),
        ("file/", "a/file-slashed"),
        (".", "a/self"),
    ] {
        world.symlink(target, name).unwrap();
    }
    let is = |name: &str| world.look(name).map(|path| world.text(&path));
    assert_eq!(is("to-a/b").unwrap(), "/a/b");
    assert_eq!(is("to-a/absolute/c").unwrap(), "/a/b/c");
    assert_eq!(is("a/up/other").unwrap(), "/x/other");
    assert_eq!(is("a/up/../a/self/self/b").unwrap(), "/a/b");
    assert_eq!(is("a/to-link").unwrap(), "/a/file");
    assert_eq!(is("to-root/to-root/a").unwrap(), "/a");
    assert_eq!(is("to-root").unwrap(), "/");
    assert_eq!(is("a/slashed").unwrap(), "/a/b");
    assert_eq!(is("a/slashed/c").unwrap(), "/a/b/c");
    assert_eq!(is("a/file-slashed").err(), Some(Errno::ENOTDIR));
    assert_eq!(is("dangling").err(), Some(ENOENT));
    // ".." after a link goes up from where it led.
    assert_eq!(is("a/up/..").unwrap(), "/");
    // Not followed at the end unless asked for, or unless a slash says so.
    let last = |name: &str| world.look_link(name).map(|path| world.text(&path));
    assert_eq!(last("a/to-file").unwrap(), "/a/to-file");
    assert_eq!(last("dangling").unwrap(), "/dangling");
    assert_eq!(last("to-a/").unwrap(), "/a");
    assert_eq!(last("a/to-file/").err(), Some(Errno::ENOTDIR));
    assert_eq!(last("to-a/to-file").unwrap(), "/a/to-file");
}

#[test]
fn forty_links_and_no_more() {
    let world = world();
    world.symlink("file", "a/l1").unwrap();
    for number in 2..=41 {
        world.symlink(&format!("l{}", number - 1), &format!("a/l{number}")).unwrap();
    }
    assert_eq!(world.look("a/l40").map(|path| world.text(&path)).unwrap(), "/a/file");
    assert_eq!(world.stat("a/l41").err(), Some(Errno::ELOOP));
    world.symlink("loop", "loop").unwrap();
    assert_eq!(world.stat("loop").err(), Some(Errno::ELOOP));
    assert_eq!(world.stat("loop/deeper").err(), Some(Errno::ELOOP));
    world.symlink("ping/x", "pong").unwrap();
    world.symlink("pong/x", "ping").unwrap();
    assert_eq!(world.stat("ping").err(), Some(Errno::ELOOP));
    // Forty links side by side count as well.
    world.symlink(".", "here").unwrap();
    assert!(world.stat(&"here/".repeat(40)).is_ok());
    assert_eq!(world.stat(&"here/".repeat(41)).err(), Some(Errno::ELOOP));
}

/// Forty links `name`1 to `name`40 of some thousand steps each, the last of which leads to `target`.
fn long_links(world: &World, name: &str, step: &str, target: &str) {
    let steps = step.repeat(4000 / step.len());
    for number in 1..=40 {
        let next = if number == 40 { target.to_owned() } else { format!("{name}{}", number + 1) };
        world.symlink(&format!("{steps}{next}"), &format!("{name}{number}")).unwrap();
    }
}

/// Makes a call again as long as its walks pause; how often that was.
fn with_pauses<T>(world: &World, call: impl Fn() -> Result<T>) -> (usize, Result<T>) {
    let mut pauses = 0;
    loop {
        match call() {
            Err(Errno::ERESTART) => pauses += 1,
            result => {
                world.paused_walks().unwrap().forget();
                return (pauses, result);
            }
        }
    }
}

#[test]
fn a_walk_that_takes_long_pauses_and_goes_on() {
    let mut world = filled(World::fast());
    long_links(&world, "f", "a/../", "a/file");
    long_links(&world, "d", "./", "a");
    // The kernel's own walks go through.
    assert_eq!(world.look("f1").map(|path| world.text(&path)).unwrap(), "/a/file");
    world.paused_walks = Some(PausedWalks::default());
    let (pauses, found) = with_pauses(&world, || world.look("f1"));
    assert_eq!(world.text(&found.unwrap()), "/a/file");
    assert!((10..=20).contains(&pauses), "{pauses}");
    // Few links are no reason to.
    assert_eq!(with_pauses(&world, || world.look("f39")).0, 0);
    // A walk to the parent is not one to the last component.
    let (pauses, made) = with_pauses(&world, || world.mkdir("d1/new"));
    assert!(made.is_ok() && pauses >= 10, "{pauses}");
    assert_eq!(with_pauses(&world, || world.mkdir("f1")).1.err(), Some(Errno::EEXIST));
    assert_eq!(with_pauses(&world, || world.look("f1/more")).1.err(), Some(Errno::ENOTDIR));
    // Two of one call each go on where they stopped; so does the same path twice.
    for (from, to) in [("d1/new", "d2/moved"), ("d2/moved", "d2/moved")] {
        let (from_name, to_name) = ((&world.root, from.as_bytes()), (&world.root, to.as_bytes()));
        let rename = || world.context().rename(from_name, to_name, RenameFlags::empty());
        let (pauses, moved) = with_pauses(&world, rename);
        assert!(moved.is_ok() && pauses <= 40, "{from} {to}: {pauses}");
    }
    assert!(world.stat("a/moved").is_ok());
    // Two texts are two walks, and the same text from two places is as well.
    let here = world.root.clone();
    let there = world.look("a/b").unwrap();
    world.symlink("../../d2", "a/b/d1").unwrap();
    let mut places = Vec::new();
    for start in [&here, &there] {
        let look = || world.context().lookup(start, b"d1/b", Lookup::FOLLOW);
        places.push(with_pauses(&world, look).1.map(|path| world.text(&path)));
    }
    assert_eq!(places, [Ok("/a/b".to_owned()), Ok("/a/b".to_owned())]);
    // Nothing is held when the call is over.
    let moved = world.look("a/moved").unwrap();
    assert_eq!(Arc::strong_count(&moved.dentry), 2, "the directory's and ours");
}

#[test]
fn a_path_that_is_exchanged_all_the_time_comes_to_an_end() {
    let mut world = filled(World::fast());
    long_links(&world, "f", "./", "a/file");
    world.paused_walks = Some(PausedWalks::default());
    let calls = AtomicUsize::new(0);
    // Neither of three paths is found among the two whose walks are kept.
    let name = || ["f1", "./f1", "././f1"][calls.fetch_add(1, Ordering::Relaxed) % 3];
    let (pauses, result) = with_pauses(&world, || world.look(name()));
    assert_eq!(result.err(), Some(Errno::ELOOP));
    assert!((100..10_000).contains(&pauses), "{pauses}");
    // The next call starts anew.
    assert!(with_pauses(&world, || world.look("f1")).1.is_ok());
}

#[test]
fn searching_needs_permission_at_every_step() {
    let mut world = world();
    world.context().chmod(&world.look("a/b").unwrap(), 0o700).unwrap();
    world.become_user(1000, &[]);
    assert!(world.stat("a/b").is_ok());
    for name in ["a/b/c", "a/b/.", "a/b/..", "a/b/nothing", "a/b/c/"] {
        assert_eq!(world.stat(name).err(), Some(Errno::EACCES), "{name}");
    }
    world.become_root();
    world.context().chown(&world.look("a/b").unwrap(), Some(1000), None).unwrap();
    world.become_user(1000, &[]);
    assert!(world.stat("a/b/c").is_ok());
}

#[test]
fn nobody_leaves_a_root() {
    let world = world();
    world.symlink("/b/c", "a/link").unwrap();
    world.symlink("../../../x", "a/out").unwrap();
    let a = world.look("a").unwrap();
    let context = Calls(Context { root: &a, ..*world.context() });
    let inside = |name: &str| context.lookup(&a, name.as_bytes(), Lookup::FOLLOW).map(|path| path.text(&a).unwrap());
    assert_eq!(inside("/..").unwrap(), b"/");
    assert_eq!(inside("../../b").unwrap(), b"/b");
    assert_eq!(inside("/link").unwrap(), b"/b/c");
    assert_eq!(inside("out").err(), Some(ENOENT));
    // A working directory outside the root is still one, and shows as unreachable.
    let x = world.look("x").unwrap();
    assert_eq!(context.lookup(&x, b"other", Lookup::empty()).map(|path| world.text(&path)).unwrap(), "/x/other");
    assert_eq!(x.working_directory(&a).unwrap(), b"(unreachable)/x");
    assert_eq!(x.working_directory(&world.root).unwrap(), b"/x");
}

#[test]
fn removed_directories_are_dead_but_stand() {
    let world = world();
    let c = world.look("a/b/c").unwrap();
    world.rmdir("a/b/c").unwrap();
    assert_eq!(world.text(&c), "/a/b/c (deleted)");
    assert_eq!(c.working_directory(&world.root), Err(ENOENT));
    let context = world.context();
    assert!(context.lookup(&c, b".", Lookup::empty()).is_ok());
    assert_eq!(context.lookup(&c, b"..", Lookup::empty()).map(|path| world.text(&path)).unwrap(), "/a/b");
    assert_eq!(context.lookup(&c, b"new", Lookup::empty()).err(), Some(ENOENT));
    assert_eq!(context.mkdir(&c, b"new", 0o777), Err(ENOENT));
    assert_eq!(context.symlink(b"x", &c, b"new"), Err(ENOENT));
}

#[test]
fn a_very_deep_tree_comes_and_goes() {
    let world = World::new();
    let mut at = world.root.clone();
    let mut chain = Vec::new();
    for _ in 0..50_000 {
        world.context().mkdir(&at, b"d", 0o777).unwrap();
        at = world.context().lookup(&at, b"d", Lookup::empty()).unwrap();
        chain.push(at.clone());
    }
    assert_eq!(at.text(&world.root).unwrap().len(), 100_000);
    // Removed from below while the deepest is kept: then the whole chain hangs on one reference.
    while chain.pop().is_some() {
        let parent = chain.last().unwrap_or(&world.root);
        world.context().rmdir(parent, b"d").unwrap();
    }
    drop(at);
    // And once more, to be taken apart with the file system.
    let mut at = world.root.clone();
    for _ in 0..50_000 {
        world.context().mkdir(&at, b"d", 0o777).unwrap();
        at = world.context().lookup(&at, b"d", Lookup::empty()).unwrap();
    }
}
