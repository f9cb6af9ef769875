//! Files whose pages are on their way: what vfs makes of it, and all other tests of this program on such files.

use super::*;
use std::process::Command;

const PAGE: usize = 4096;

/// Files that take up to 9 steps, so long as nothing is to fail.
fn slow_world() -> (World, Arc<SlowStore>) {
    let (world, store, _) = World::slow(1, 9);
    (world, store)
}

/// A file with these bytes, none of which is in memory.
fn cold_file(world: &World, store: &SlowStore, bytes: &[u8]) {
    world.write_file("f", bytes);
    block_on(store.flusher().write_back(u64::MAX));
    let cache = store.flusher();
    while memory::Cache::give_back(&**cache, u64::MAX) != Some(0) {}
}

#[test]
fn a_read_waits_for_its_pages_whatever_o_nonblock_says() {
    let (world, store) = slow_world();
    let bytes: Vec<u8> = (0..10 * PAGE).map(|at| (at / 100) as u8).collect();
    cold_file(&world, &store, &bytes);
    let open = world.open("f", READ | OpenFlags::NON_BLOCK).unwrap();
    let mut read = vec![0; 10 * PAGE];
    assert!(
        wait::try_read(&open, At::Position, &mut Destination::kernel(&mut read), &world).is_err(),
        "it isn't there yet"
    );
    assert_eq!(world.read(&open, &mut read), Ok(10 * PAGE));
    assert!(read == bytes);
    assert!(wait::try_read(&open, At::Offset(0), &mut Destination::kernel(&mut read), &world).is_ok(), "now it is");
}

#[test]
fn who_is_killed_while_he_waits_leaves_the_file_to_others() {
    let (world, store) = slow_world();
    cold_file(&world, &store, &[7; 3 * PAGE]);
    let open = world.open("f", OpenFlags::READ_WRITE).unwrap();
    let count = Arc::new(Count::default());
    {
        let mut byte = [0];
        let mut to = Destination::kernel(&mut byte);
        let mut reader = pin!(wait::read(&open, At::Offset(0), &mut to, &world));
        assert!(poll_once(reader.as_mut(), &count).is_pending());
        let mut from = Source::kernel(b"x");
        let mut writer = pin!(wait::write(&open, At::Offset(5), &mut from, &world));
        assert!(poll_once(writer.as_mut(), &count).is_pending());
    }
    assert_eq!(world.read_file("f").unwrap(), [7; 3 * PAGE]);
    assert_eq!(world.write(&open, b"y"), Ok(1));
}

#[test]
fn each_open_file_is_told_once_by_fsync_what_could_not_be_written() {
    let (world, store) = slow_world();
    let [first, second] = [(); 2].map(|()| world.create("f").unwrap());
    world.write(&first, b"kept").unwrap();
    store.queue().set_failing(0, 256);
    assert_eq!(block_on(wait::synchronise(&first, false)), Err(Errno::EIO));
    store.queue().set_failing(0, 0);
    assert_eq!(block_on(wait::synchronise(&first, false)), Ok(()));
    assert_eq!(block_on(wait::synchronise(&second, false)), Err(Errno::EIO));
    assert_eq!([&first, &second].map(|open| block_on(wait::synchronise(open, true))), [Ok(()); 2]);
    let later = world.open("f", READ).unwrap();
    assert_eq!(block_on(wait::synchronise(&later, false)), Ok(()));
    assert_eq!(world.read_file("f").unwrap(), b"kept");
}

#[test]
fn what_cannot_be_read_is_an_error_and_may_be_tried_again() {
    let (world, store) = slow_world();
    cold_file(&world, &store, b"text");
    let open = world.open("f", READ).unwrap();
    store.queue().set_failing(256, 0);
    assert_eq!(world.read(&open, &mut [0; 4]), Err(Errno::EIO));
    store.queue().set_failing(0, 0);
    assert_eq!(world.read(&open, &mut [0; 4]), Ok(4));
}

#[test]
fn a_file_that_is_removed_takes_no_memory_though_it_was_never_written_back() {
    let (world, store) = slow_world();
    world.write_file("before", &[1; 9 * PAGE]);
    let free = world.free_frames();
    world.write_file("f", &[1; 50 * PAGE]);
    world.unlink("f").unwrap();
    while store.queue().step() {}
    assert_eq!((world.free_frames(), store.flusher().unwritten()), (free, 9));
}

/// Runs the tests of this program that are about files, on slow ones.
fn run_all(seed: u64) {
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args([
        "--skip",
        "slow::",
        "--skip",
        "slow_names::",
        "--skip",
        "cost::",
        "--skip",
        "hostfs::",
        "--skip",
        "hostfs_far::",
        "--skip",
        "stalled::",
        // Long, and never on slow files.
        "--skip",
        "walk::a_walk_that_takes_long",
        "--test-threads",
        "2",
    ]);
    let output = tests.env("SLOW_FILES", seed.to_string()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "SLOW_FILES={seed}\n{text}");
    let passed = text.rsplit("ok. ").next().and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    println!("soak: {passed} tests on slow files");
}

#[test]
fn all_that_works_on_files_works_on_slow_ones() {
    run_all(1);
}

/// `./x soak slow-files`
#[test]
#[ignore = "one seed of many"]
fn from_the_environment() {
    run_all(std::env::var("SOAK_SEED").unwrap().parse().unwrap());
}
