//! What must cost nothing: no allocation on the hot paths, and no time that grows with a directory.

use super::*;
use std::time::Instant;

/// Counts what is allocated.
#[global_allocator]
static HEAP: machine::host::HostHeap = machine::host::HostHeap;

fn allocations<R>(body: impl FnOnce() -> R) -> u64 {
    let before = machine::memory::allocations();
    drop(body());
    machine::memory::allocations() - before
}

#[test]
fn hot_paths_allocate_nothing() {
    let world = World::new();
    world.mkdir("a").unwrap();
    world.mkdir("a/b").unwrap();
    world.write_file("a/b/file", &[1; 100]);
    world.symlink("b", "a/link").unwrap();
    assert_eq!(allocations(|| world.stat("/a/b/../b/file").unwrap()), 0);
    assert_eq!(allocations(|| world.stat("/a/link/file").unwrap()), 0);
    let open = world.open("a/b/file", OpenFlags::READ_WRITE).unwrap();
    assert_eq!(allocations(|| world.open("a/b/file", READ).unwrap()), 1, "the description");
    // The waker of the test's executor is one allocation.
    let mut to = [0; 50];
    assert_eq!(allocations(|| world.read(&open, &mut to).unwrap()), 1);
    assert_eq!(allocations(|| world.write(&open, &to).unwrap()), 1);
    let (reader, writer) = vfs::pipe(OpenFlags::empty(), &world.who, &world).unwrap();
    let exchange = || {
        world.write(&writer, b"x").unwrap();
        world.read(&reader, &mut [0; 1]).unwrap();
    };
    exchange();
    assert_eq!(allocations(exchange), 2);
    let poll = || {
        let mut watch = vfs::poll::Watch::new([(&*writer, vfs::PollEvents::OUT)].into_iter()).unwrap();
        block_on(watch.until(1, |_| usize::from(!vfs::poll::look(Some(&writer), vfs::PollEvents::OUT).is_empty())))
    };
    assert_eq!(allocations(poll), 1);
    let table = vfs::FileTable::new();
    table.insert(open.clone(), false, 10).unwrap();
    assert_eq!(allocations(|| table.get(0).unwrap()), 0);
}

#[test]
fn futures_are_small() {
    let world = World::new();
    let open = world.create("f").unwrap();
    let mut to = [0; 4];
    let mut cursor = Destination::kernel(&mut to);
    assert!(size_of_val(&wait::read(&open, At::Position, &mut cursor, &world)) <= 512);
    let mut source = Source::kernel(b"x");
    assert!(size_of_val(&wait::write(&open, At::Position, &mut source, &world)) <= 512);
}

#[test]
fn large_directories_stay_quick() {
    let world = World::new();
    let time = |count: usize| {
        world.mkdir("d").unwrap();
        let begin = Instant::now();
        for number in 0..count {
            world.context().mknod(&world.root, format!("d/{number}").as_bytes(), 0o644, 0).unwrap();
        }
        assert_eq!(world.list("d").len(), count + 2);
        for number in 0..count {
            world.unlink(&format!("d/{number}")).unwrap();
        }
        world.rmdir("d").unwrap();
        begin.elapsed()
    };
    time(1000);
    let (small, large) = (time(4_000), time(64_000));
    // Sixteen times as many entries: quadratic work would take 256 times as long.
    assert!(large < small * 80, "{small:?} for 4,000 entries, {large:?} for 64,000");
}
