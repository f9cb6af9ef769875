//! Reading, writing and measuring regular files.

use super::*;
use vfs::Whence;
use vfs::transfer::{self, End};

const PAGE: usize = 4096;

#[test]
fn positions_and_holes() {
    let world = World::new();
    let open = world.create("f").unwrap();
    let seek = |offset, whence| block_on(open.seek(offset, whence));
    assert_eq!(seek(3 * PAGE as i64, Whence::Start), Ok(3 * PAGE as u64));
    assert_eq!(world.write(&open, b"end"), Ok(3));
    assert_eq!(open.attributes().size, 3 * PAGE as u64 + 3);
    if !files_are_slow() {
        assert_eq!(open.attributes().blocks, 8, "only the last page takes memory");
        assert_eq!(seek(0, Whence::Data), Ok(3 * PAGE as u64));
        assert_eq!(seek(0, Whence::Hole), Ok(0));
    }
    assert_eq!(seek(3 * PAGE as i64 + 1, Whence::Hole), Ok(3 * PAGE as u64 + 3));
    assert_eq!(seek(1 << 40, Whence::Data), Err(Errno::ENXIO));
    assert_eq!(seek(-1, Whence::Start), Err(Errno::EINVAL));
    assert_eq!(seek(-3, Whence::End), Ok(3 * PAGE as u64));
    assert_eq!(seek(i64::MAX, Whence::Current), Err(Errno::EOVERFLOW));
    let mut bytes = [9; 10];
    assert_eq!(world.read(&open, &mut bytes), Ok(3));
    assert_eq!(&bytes[..3], b"end");
    assert_eq!(world.read(&open, &mut bytes), Ok(0));
    assert_eq!(seek(-5, Whence::End), Ok(3 * PAGE as u64 - 2));
    assert_eq!(world.read(&open, &mut bytes), Ok(5));
    assert_eq!(&bytes[..5], b"\0\0end");
    world.truncate(&open, 3 * PAGE as u64 + 1).unwrap();
    world.truncate(&open, 4 * PAGE as u64).unwrap();
    let end = block_on(wait::read(&open, At::Offset(3 * PAGE as i64), &mut Destination::kernel(&mut bytes), &world));
    assert_eq!((end, &bytes[..3]), (Ok(10), &b"e\0\0"[..]));
    assert_eq!(
        block_on(wait::read(&open, At::Offset(-1), &mut Destination::kernel(&mut bytes), &world)),
        Err(Errno::EINVAL)
    );
    assert_eq!(world.truncate(&open, u64::MAX), Err(Errno::EINVAL));
    let beyond = block_on(wait::write(&open, At::Offset(i64::MAX), &mut Source::kernel(b"xy"), &world));
    assert_eq!(beyond, Err(Errno::EFBIG));
}

#[test]
fn allocation_and_punching() {
    let world = World::new();
    let open = world.create("f").unwrap();
    world.write(&open, &[1; 4 * PAGE]).unwrap();
    if files_are_slow() {
        // Their store has no holes.
        assert_eq!(block_on(open.allocate(0x3, 0, 1, &world)), Err(Errno::EOPNOTSUPP));
        return;
    }
    assert_eq!(block_on(open.allocate(0x3, PAGE as i64 / 2, 2 * PAGE as i64, &world)), Ok(()));
    assert_eq!(open.attributes().blocks, 3 * 8);
    let bytes = world.read_file("f").unwrap();
    let expected: Vec<u8> = (0..4 * PAGE).map(|at| u8::from(!(PAGE / 2..5 * PAGE / 2).contains(&at))).collect();
    assert_eq!(bytes, expected);
    assert_eq!(block_on(open.allocate(0, 0, 10 * PAGE as i64, &world)), Ok(()));
    assert_eq!((open.attributes().size, open.attributes().blocks), (10 * PAGE as u64, 80));
    assert_eq!(block_on(open.allocate(1, 0, 12 * PAGE as i64, &world)), Ok(()));
    assert_eq!(open.attributes().size, 10 * PAGE as u64);
    assert_eq!(block_on(open.allocate(2, 0, 1, &world)), Err(Errno::EOPNOTSUPP));
    assert_eq!(block_on(open.allocate(0, 0, 0, &world)), Err(Errno::EINVAL));
    assert_eq!(block_on(open.allocate(0, i64::MAX, 1, &world)), Err(Errno::EFBIG));
    assert_eq!(block_on(open.allocate(0x3, 0, i64::MAX, &world)), Ok(()));
    assert_eq!(block_on(world.open("f", READ).unwrap().allocate(0, 0, 1, &world)), Err(Errno::EBADF));
}

#[test]
fn removing_the_last_name_and_user_frees_the_pages() {
    let world = World::new();
    world.mkdir("d").unwrap();
    let free = world.free_frames();
    world.write_file("d/f", &[1; 1 << 20]);
    let open = world.open("d/f", READ).unwrap();
    let duplicate = open.clone();
    assert_eq!(world.free_frames(), free - 256);
    world.unlink("d/f").unwrap();
    assert_eq!(world.free_frames(), free - 256, "still open");
    drop(open);
    assert_eq!(world.free_frames(), free - 256);
    drop(duplicate);
    assert_eq!(world.free_frames(), free);
    world.write_file("d/f", &[1; 1 << 20]);
    world.open("d/f", OpenFlags::TRUNCATE).unwrap();
    assert_eq!(world.free_frames(), free);
}

#[test]
fn limits_hold() {
    let world = World::new();
    world.mkdir("m").unwrap();
    let types = &world.vfs.file_system_types;
    let small = types.find(b"tmpfs").unwrap().mount(b"", "size=16k,nr_inodes=4", &world).unwrap();
    world.namespace.mount(&world.vfs, small.clone(), b"", &world.look("m").unwrap(), MountFlags::empty()).unwrap();
    let open = world.create("m/f").unwrap();
    // What fits is written, then there is no space.
    assert_eq!(world.write(&open, &[1; 5 * PAGE]), Ok(4 * PAGE));
    assert_eq!(world.write(&open, b"x"), Err(Errno::ENOSPC));
    assert_eq!((small.statistics().blocks, small.statistics().free_blocks), (4, 0));
    world.truncate(&open, PAGE as u64).unwrap();
    assert_eq!(small.statistics().free_blocks, 3);
    assert_eq!(block_on(open.allocate(0, 0, 1 << 40, &world)), Err(Errno::ENOSPC));
    assert_eq!(small.statistics().free_blocks, 3, "it is refused before the first page");
    world.link("m/f", "m/g").unwrap();
    world.mkdir("m/d").unwrap();
    assert_eq!(world.mkdir("m/e"), Err(Errno::ENOSPC));
    assert_eq!(world.link("m/f", "m/h"), Err(Errno::ENOSPC));
    assert_eq!(small.statistics().free_inodes, 0);
    world.unlink("m/g").unwrap();
    world.rmdir("m/d").unwrap();
    assert_eq!(small.statistics().free_inodes, 2);
    // Attributes take from what there is for inodes, as 1024 bytes each.
    let file = world.look("m/f").unwrap();
    let set =
        |name: &[u8], length: usize| world.context().set_xattr(&file, name, &vec![7; length], vfs::XattrFlags::empty());
    assert_eq!((set(b"trusted.a", 1999), set(b"trusted.b", 100)), (Ok(()), Err(Errno::ENOSPC)));
    assert_eq!((small.statistics().free_inodes, world.mkdir("m/d")), (0, Err(Errno::ENOSPC)));
    assert_eq!(
        (set(b"trusted.a", 1999), world.context().remove_xattr(&file, b"trusted.a")),
        (Err(Errno::ENOSPC), Ok(()))
    );
    assert_eq!((small.statistics().free_inodes, set(b"trusted.a", 900), set(b"trusted.a", 800)), (2, Ok(()), Ok(())));
    assert_eq!(small.statistics().free_inodes, 1);
    world.unlink("m/f").unwrap();
    drop((open, file));
    assert_eq!(small.statistics().free_inodes, 3);
    let open = world.create("m/f").unwrap();
    assert_eq!(small.remount("nr_inodes=1"), Err(Errno::EINVAL));
    assert_eq!(small.remount("size=1m"), Ok(()));
    assert_eq!(world.write(&open, &[1; 5 * PAGE]), Ok(5 * PAGE));
    // A limit may be what is used, and no less.
    assert_eq!((small.remount("size=16k"), small.remount("size=20k")), (Err(Errno::EINVAL), Ok(())));
    // The first name of a file without one was counted with it.
    let unnamed = world.open("m", OpenFlags::UNNAMED | OpenFlags::DIRECTORY | OpenFlags::READ_WRITE).unwrap();
    assert_eq!(small.statistics().free_inodes, 1);
    world.context().link(&unnamed.path().unwrap(), &world.root, b"m/named").unwrap();
    assert_eq!(small.statistics().free_inodes, 1);
    world.unlink("m/named").unwrap();
    drop(unnamed);
    assert_eq!(small.statistics().free_inodes, 2);
}

/// Positions are signed: the last byte there can be is the one before `i64::MAX`.
#[test]
fn the_largest_file() {
    let world = World::new();
    let open = world.create("f").unwrap();
    block_on(open.seek(i64::MAX - 2, Whence::Start)).unwrap();
    assert_eq!(world.write(&open, b"xy"), Ok(2));
    assert_eq!(open.attributes().size, i64::MAX as u64);
    assert_eq!(world.write(&open, b"z"), Err(Errno::EFBIG));
}

#[test]
fn times_tell_what_happened() {
    let world = World::new();
    world.mkdir("d").unwrap();
    let pause = || std::thread::sleep(std::time::Duration::from_millis(2));
    let open = world.create("d/f").unwrap();
    let made = open.attributes();
    assert_eq!(made.created, Some(made.modified));
    pause();
    world.read_file("d/f").unwrap();
    let first = open.attributes();
    assert!(first.accessed > made.accessed, "relatime: nobody has read it since it was made");
    pause();
    world.write(&open, b"x").unwrap();
    let written = open.attributes();
    assert!(written.modified > made.modified && written.changed > made.changed);
    assert_eq!(written.accessed, first.accessed);
    pause();
    world.read_file("d/f").unwrap();
    let read = open.attributes();
    assert!(read.accessed > written.accessed && read.modified == written.modified);
    pause();
    world.read_file("d/f").unwrap();
    assert_eq!(open.attributes().accessed, read.accessed, "relatime: nothing new to tell");
    let directory = world.stat("d").unwrap();
    pause();
    world.context().chmod(&world.look("d/f").unwrap(), 0o600).unwrap();
    assert!(open.attributes().changed > read.changed && open.attributes().modified == read.modified);
    assert_eq!(world.stat("d").unwrap().modified, directory.modified);
    let (file, name) = (world.look("d/f").unwrap(), b"user.colour");
    let mut changed = open.attributes().changed;
    let mut is_later = || open.attributes().changed > core::mem::replace(&mut changed, open.attributes().changed);
    pause();
    world.context().set_xattr(&file, name, b"blue", vfs::XattrFlags::empty()).unwrap();
    assert!(is_later());
    pause();
    world.context().remove_xattr(&file, name).unwrap();
    assert!(is_later());
    world.unlink("d/f").unwrap();
    assert!(world.stat("d").unwrap().modified > directory.modified);
}

#[test]
fn data_goes_from_file_to_file() {
    let world = World::new();
    let contents: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    world.write_file("from", &contents);
    let (from, to) = (world.open("from", READ).unwrap(), world.create("to").unwrap());
    let end = |open, offset| block_on(End::new(open, offset)).unwrap();
    let (mut input, mut output, mut sent) = (end(&from, None), end(&to, None), 0);
    block_on(transfer::sendfile(&mut output, &mut input, 60_000, &mut sent, &world)).unwrap();
    assert_eq!((sent, block_on(from.seek(0, Whence::Current))), (60_000, Ok(0)));
    block_on(input.finish());
    block_on(output.finish());
    assert_eq!(block_on(from.seek(0, Whence::Current)), Ok(60_000));
    (input, output, sent) = (end(&from, Some(60_000)), end(&to, None), 0);
    block_on(transfer::sendfile(&mut output, &mut input, usize::MAX, &mut sent, &world)).unwrap();
    block_on(input.finish());
    assert_eq!((sent, input.reached()), (40_000, Some(100_000)));
    assert_eq!(block_on(from.seek(0, Whence::Current)), Ok(60_000));
    assert_eq!(world.read_file("to").unwrap(), contents);
    (input, output, sent) = (end(&from, Some(10)), end(&to, Some(5)), 0);
    block_on(transfer::copy_file_range(&mut input, &mut output, 20, &mut sent, &world)).unwrap();
    assert_eq!((input.reached(), output.reached(), sent), (Some(30), Some(25), 20));
    assert_eq!(world.read_file("to").unwrap()[5..25], contents[10..30]);
    (input, output) = (end(&to, Some(30)), end(&to, Some(25)));
    let overlap = transfer::copy_file_range(&mut input, &mut output, 20, &mut sent, &world);
    assert_eq!(block_on(overlap), Err(Errno::EINVAL));
}

/// Neither waits for the position that it holds itself, or for one that the other holds.
#[test]
fn both_ends_of_a_transfer_may_be_one_open_file() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.write(&file, &[7; 100]).unwrap();
    block_on(file.seek(10, Whence::Start)).unwrap();
    let (mut input, mut output, mut sent) =
        (block_on(End::new(&file, None)).unwrap(), block_on(End::new(&file, None)).unwrap(), 0);
    block_on(transfer::sendfile(&mut output, &mut input, 1000, &mut sent, &world)).unwrap();
    assert_eq!((sent, input.reached(), output.reached()), (90, Some(100), Some(100)));
}

#[test]
fn files_stay_within_the_limit_of_who_writes_them() {
    let mut world = World::new();
    world.size_limit = 10;
    let file = world.create("f").unwrap();
    let append = world.open("f", WRITE | OpenFlags::APPEND).unwrap();
    assert_eq!(world.write(&file, b"12345678"), Ok(8));
    assert_eq!(world.write(&append, b"90ab"), Ok(2));
    assert_eq!(world.write(&append, b""), Ok(0));
    assert_eq!(world.too_large.load(Ordering::Relaxed), 0);
    assert_eq!(world.write(&append, b"c"), Err(Errno::EFBIG));
    assert_eq!(world.truncate(&file, 11), Err(Errno::EFBIG));
    assert_eq!(block_on(file.allocate(0, 0, 11, &world)), Err(Errno::EFBIG));
    assert_eq!(world.too_large.load(Ordering::Relaxed), 3);
    assert_eq!((block_on(file.allocate(1, 0, 11, &world)), world.truncate(&file, 9)), (Ok(()), Ok(())));
    assert_eq!(world.read_file("f").unwrap(), b"123456789");
}

#[test]
fn who_changes_a_program_disarms_it() {
    let mut world = World::new();
    let file = world.create("f").unwrap();
    let arm = |world: &World| world.context().chmod(&world.look("f").unwrap(), 0o6777).unwrap();
    arm(&world);
    world.write(&file, b"by root").unwrap();
    assert_eq!(world.stat("f").unwrap().mode, 0o106777);
    world.become_user(1000, &[]);
    world.write(&file, b"").unwrap();
    assert_eq!(world.stat("f").unwrap().mode, 0o106777);
    world.write(&file, b"x").unwrap();
    assert_eq!(world.stat("f").unwrap().mode, 0o100777);
    for change in [&|world: &World| world.truncate(&file, 1), &|world: &World| block_on(file.allocate(1, 0, 1, world))]
        as [&dyn Fn(&World) -> Result<()>; 2]
    {
        world.become_root();
        arm(&world);
        world.become_user(1000, &[]);
        change(&world).unwrap();
        assert_eq!(world.stat("f").unwrap().mode, 0o100777);
    }
}

/// sendfile(2), copy_file_range(2): which files, which offsets, and where both are afterwards.
#[test]
fn transfers_ask_for_kinds_and_move_the_offsets_they_were_given() {
    let world = World::new();
    world.write_file("from", b"0123456789");
    world.mkdir("d").unwrap();
    let open = |name: &str, flags: OpenFlags| world.open(name, flags).unwrap();
    let (reader, writer) = vfs::pipe(OpenFlags::NON_BLOCK, &world.who, &world).unwrap();
    let read_only = open("from", READ);
    let write_only = open("to", WRITE | OpenFlags::CREATE);
    let appends = open("to", WRITE | OpenFlags::APPEND);
    let directory = open("d", READ);
    type Result = std::result::Result<(usize, Option<i64>, Option<i64>), Errno>;
    let send = |output: &OpenFile, to: Option<i64>, input: &OpenFile, from: Option<i64>, count: usize| -> Result {
        let (mut output, mut input) = (block_on(End::new(output, to))?, block_on(End::new(input, from))?);
        let mut sent = 0;
        block_on(transfer::sendfile(&mut output, &mut input, count, &mut sent, &world))?;
        Ok((sent, output.reached(), input.reached()))
    };
    let range = |output: &OpenFile, to: i64, input: &OpenFile, from: i64, count: usize| -> Result {
        let (mut output, mut input) = (block_on(End::new(output, Some(to)))?, block_on(End::new(input, Some(from)))?);
        let mut copied = 0;
        block_on(transfer::copy_file_range(&mut input, &mut output, count, &mut copied, &world))?;
        Ok((copied, output.reached(), input.reached()))
    };
    assert_eq!(send(&write_only, None, &read_only, Some(2), 3), Ok((3, Some(3), Some(5))));
    assert_eq!(send(&write_only, Some(1), &read_only, Some(7), 100), Ok((3, Some(4), Some(10))));
    assert_eq!(send(&writer, None, &read_only, Some(9), 5), Ok((1, None, Some(10))));
    assert_eq!(send(&write_only, None, &read_only, Some(10), 5), Ok((0, Some(0), Some(10))));
    assert_eq!(send(&write_only, None, &reader, None, 5), Err(Errno::EINVAL));
    assert_eq!(send(&write_only, None, &reader, Some(0), 5), Err(Errno::ESPIPE));
    assert_eq!(send(&appends, None, &read_only, None, 5), Err(Errno::EINVAL));
    assert_eq!(send(&read_only, None, &read_only, None, 5), Err(Errno::EBADF));
    assert_eq!(send(&write_only, None, &write_only, None, 5), Err(Errno::EBADF));
    assert_eq!(world.read_file("to").unwrap(), b"2789");
    assert_eq!(range(&write_only, 0, &read_only, 4, 2), Ok((2, Some(2), Some(6))));
    assert_eq!(world.read_file("to").unwrap(), b"4589");
    assert_eq!(range(&appends, 0, &read_only, 0, 2), Err(Errno::EBADF));
    assert_eq!(range(&write_only, 0, &directory, 0, 2), Err(Errno::EISDIR));
    assert_eq!(range(&writer, 0, &read_only, 0, 2), Err(Errno::EINVAL));
    assert_eq!(
        [range(&write_only, -1, &read_only, 0, 2), range(&write_only, 0, &read_only, -1, 2)],
        [Err(Errno::EINVAL); 2]
    );
    // Within one file, the two ranges may touch.
    let both = open("from", OpenFlags::READ_WRITE);
    assert_eq!(range(&both, 3, &both, 0, 4), Err(Errno::EINVAL));
    assert_eq!(range(&both, 0, &both, 3, 4), Err(Errno::EINVAL));
    assert_eq!(range(&both, 4, &both, 0, 4), Ok((4, Some(8), Some(4))));
    assert_eq!(world.read_file("from").unwrap(), b"0123012389");
}
