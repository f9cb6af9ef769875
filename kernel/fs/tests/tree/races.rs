//! Threads that change one tree at once.

use super::*;
use std::thread;

fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Eight threads make, move and remove the same few names. Nobody may hang, and in the end the tree must be whole.
#[test]
fn a_tree_everybody_changes() {
    let world = World::new();
    let free = world.free_frames();
    for directory in ["a", "b", "a/c"] {
        world.mkdir(directory).unwrap();
    }
    let names = ["a/x", "b/x", "a/c/x", "a/c", "b/c", "a/y", "b/y", "a/c/y", "b/c/x"];
    let world_ref = &world;
    thread::scope(|scope| {
        for seed in 1..=8_u64 {
            scope.spawn(move || {
                let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for _ in 0..4000 {
                    let first = names[(step(&mut state) % names.len() as u64) as usize];
                    let second = names[(step(&mut state) % names.len() as u64) as usize];
                    let root = &world_ref.root;
                    let rename =
                        |flags| world_ref.context().rename((root, first.as_bytes()), (root, second.as_bytes()), flags);
                    // Any of these may fail with an error of its own; what counts is the state afterwards.
                    let _: Result<()> = match step(&mut state) % 8 {
                        0 => world_ref.mkdir(first),
                        1 => world_ref.create(first).and_then(|open| world_ref.write(&open, b"data")).map(|_| ()),
                        2 => world_ref.unlink(first),
                        3 => world_ref.rmdir(first),
                        4 => rename(RenameFlags::empty()),
                        5 => rename(RenameFlags::EXCHANGE),
                        6 => world_ref.link(first, second),
                        _ => world_ref.look(first).map(|path| drop(path.text(root))),
                    };
                }
            });
        }
    });
    // What directories list, what lookups find and what links count must agree.
    let mut pending = vec![String::new()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        let mut subdirectories = 0;
        for name in world.list(&format!("{directory}/.")).into_iter().filter(|name| !name.starts_with('.')) {
            let path = format!("{directory}/{name}");
            let at = world.look_link(&path).unwrap();
            assert_eq!(world.text(&at), path);
            if at.dentry.is_directory() {
                subdirectories += 1;
                pending.push(path.clone());
            }
            found.push(path);
        }
        assert_eq!(world.stat(&format!("{directory}/.")).unwrap().links, 2 + subdirectories);
    }
    for path in found.iter().rev() {
        let removed =
            if world.look_link(path).unwrap().dentry.is_directory() { world.rmdir(path) } else { world.unlink(path) };
        assert_eq!(removed, Ok(()), "{path}");
    }
    assert_eq!(world.list("/"), [".", ".."]);
    assert_eq!(world.free_frames(), free);
}

/// Appending writers never overwrite one another.
#[test]
fn appends_do_not_mix() {
    let world = World::new();
    let world = &world;
    world.write_file("log", b"");
    thread::scope(|scope| {
        for letter in b'a'..b'e' {
            scope.spawn(move || {
                let open = world.open("log", WRITE | OpenFlags::APPEND).unwrap();
                for _ in 0..500 {
                    assert_eq!(world.write(&open, &[letter; 100]), Ok(100));
                }
            });
        }
    });
    let log = world.read_file("log").unwrap();
    assert_eq!(log.len(), 4 * 500 * 100);
    assert!(log.chunks(100).all(|line| line.iter().all(|byte| *byte == line[0])));
}

/// A description shared by threads gives each byte to one of them.
#[test]
fn a_shared_position_moves_once() {
    let world = World::new();
    let world = &world;
    let contents: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    world.write_file("f", &contents);
    let open = world.open("f", READ).unwrap();
    let open = &open;
    let mut all: Vec<u32> = thread::scope(|scope| {
        let reader = || {
            let mut seen = Vec::new();
            let mut word = [0; 4];
            while world.read(open, &mut word) == Ok(4) {
                seen.push(u32::from_le_bytes(word));
            }
            seen
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(reader)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_unstable();
    assert!(all.into_iter().eq(0..50_000));
}

/// One thread mounts on a directory while another one removes it, or puts another in its place: one of them is too late.
#[test]
fn nothing_is_mounted_on_what_is_removed() {
    let world = World::new();
    let rounds = if files_are_slow() { 3000 } else { 30_000 };
    let barrier = std::sync::Barrier::new(2);
    let mounted = std::sync::Mutex::new(Ok(()));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                barrier.wait();
                let target = world.look("m").unwrap();
                let kind = world.vfs.file_system_types.find(b"tmpfs").unwrap();
                let filesystem = kind.mount(b"none", "", &world).unwrap();
                barrier.wait();
                let result = world.mount_on(&target, filesystem);
                *mounted.lock().unwrap() = result;
                drop(target);
                barrier.wait();
            }
        });
        for round in 0..rounds {
            world.mkdir("m").unwrap();
            world.mkdir("other").unwrap();
            barrier.wait();
            barrier.wait();
            // Not always at the same moment.
            (0..round % 64 * 20).for_each(|_| core::hint::spin_loop());
            let removed = if round % 2 == 0 {
                world.rmdir("m")
            } else {
                let root = &world.root;
                world.context().rename((root, b"other"), (root, b"m"), RenameFlags::empty())
            };
            barrier.wait();
            let mounted = *mounted.lock().unwrap();
            match removed {
                Ok(()) => assert_eq!(mounted, Err(Errno::ENOENT), "round {round}"),
                Err(errno) => {
                    assert_eq!((errno, mounted), (Errno::EBUSY, Ok(())), "round {round}");
                    world.namespace.unmount(world.look("m").unwrap(), true).unwrap();
                    world.rmdir("m").unwrap();
                }
            }
            assert_eq!(world.namespace.count(), 1);
            let _ = (world.rmdir("m"), world.rmdir("other"));
        }
    });
}

/// One thread walks into what another mounts and unmounts: as long as it is in there, nobody unmounts it.
#[test]
fn who_is_in_a_mount_keeps_it_mounted() {
    let world = World::new();
    world.mkdir("m").unwrap();
    let (world, done) = (&world, &std::sync::atomic::AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            machine::cpu::set_current(1);
            let outside = world.root.mount.id();
            let mut inside = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let path = world.look("m").unwrap();
                if path.mount.id() != outside {
                    inside += 1;
                    (0..inside % 64 * 20).for_each(|_| core::hint::spin_loop());
                    assert!(path.mount.mount_point().is_some(), "unmounted under who is in there");
                }
            }
        });
        // Until they have met.
        let (mut busy, rounds) = (0, if files_are_slow() { 1000 } else { 20_000 });
        for round in 0.. {
            if round >= rounds && busy > 0 {
                break;
            }
            let filesystem = world.vfs.file_system_types.find(b"tmpfs").unwrap().mount(b"none", "", world).unwrap();
            let target = world.look("m").unwrap();
            world.mount_on(&target, filesystem).unwrap();
            drop(target);
            while let Err(errno) = world.namespace.unmount(world.look("m").unwrap(), false) {
                assert_eq!(errno, Errno::EBUSY);
                busy += 1;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
