//! That the order of locks is what docs/src/lock-order.md draws.

use super::*;

/// The files that the picture names, outermost first.
fn drawn() -> Vec<&'static str> {
    let page = include_str!("../../../../docs/src/lock-order.md");
    let picture = page.split("```").nth(1).unwrap();
    picture.split_whitespace().filter(|word| word.starts_with("kernel/")).collect()
}

/// The orders that are the other way round than drawn.
fn misplaced(drawn: &[&str], orders: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let place = |file: &str| drawn.iter().position(|other| *other == file);
    let wrong = |(before, after): &&(&str, &str)| place(before).zip(place(after)).is_some_and(|(one, two)| one > two);
    orders.iter().filter(wrong).copied().collect()
}

#[test]
fn locks_are_taken_as_drawn() {
    for slow in [false, true] {
        let world = if slow { World::slow(1, 3).0 } else { World::fast() };
        for directory in ["a", "b", "a/m"] {
            world.mkdir(directory).unwrap();
        }
        world.write_file("a/f", &[1; 100_000]);
        let root = &world.root;
        world.context().rename((root, b"a/f"), (root, b"b/f"), RenameFlags::empty()).unwrap();
        let tmpfs = world.vfs.file_system_types.find(b"tmpfs").unwrap().mount(b"none", "", &world).unwrap();
        world.mount_on(&world.look("a/m").unwrap(), tmpfs).unwrap();
        world.write_file("a/m/f", b"x");
        world.namespace.unmount(world.look("a/m").unwrap(), true).unwrap();
        assert_eq!(world.look("b/none").err(), Some(ENOENT));
        root.mount.super_block().forget_unused(u64::MAX);
        world.unlink("b/f").unwrap();
        world.rmdir("b").unwrap();
    }
    let (drawn, orders) = (drawn(), sync::lock_orders());
    assert_eq!(misplaced(&drawn, &orders), []);
    let checked = orders.iter().filter(|(before, after)| drawn.contains(before) && drawn.contains(after)).count();
    assert!(checked >= 10, "{checked} of {orders:?}");
    // A picture that is wrong is found.
    let upside_down: Vec<_> = drawn.iter().rev().copied().collect();
    assert!(!misplaced(&upside_down, &orders).is_empty());
}
