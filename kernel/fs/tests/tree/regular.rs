//! Reading, writing and measuring regular files.

use super::*;
use vfs::{Whence, transfer};

const PAGE: usize = 4096;

#[test]
fn positions_and_holes() {
    let world = World::new();
    let open = world.create("f").unwrap();
    let seek = |offset, whence| block_on(open.seek(offset, whence));
    assert_eq!(seek(3 * PAGE as i64, Whence::Start), Ok(3 * PAGE as u64));
    assert_eq!(world.write(&open, b"end"), Ok(3));
    assert_eq!(open.attributes().size, 3 * PAGE as u64 + 3);
    assert_eq!(open.attributes().blocks, 8, "only the last page takes memory");
    assert_eq!(seek(0, Whence::Data), Ok(3 * PAGE as u64));
    assert_eq!(seek(0, Whence::Hole), Ok(0));
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
    open.truncate(3 * PAGE as u64 + 1, &world).unwrap();
    open.truncate(4 * PAGE as u64, &world).unwrap();
    let end = block_on(wait::read_at(&open, 3 * PAGE as i64, &mut Destination::kernel(&mut bytes), &world));
    assert_eq!((end, &bytes[..3]), (Ok(10), &b"e\0\0"[..]));
    assert_eq!(block_on(wait::read_at(&open, -1, &mut Destination::kernel(&mut bytes), &world)), Err(Errno::EINVAL));
    assert_eq!(open.truncate(u64::MAX, &world), Err(Errno::EINVAL));
    let beyond = block_on(wait::write_at(&open, i64::MAX, &mut Source::kernel(b"xy"), &world));
    assert_eq!(beyond, Err(Errno::EFBIG));
}

#[test]
fn allocation_and_punching() {
    let world = World::new();
    let open = world.create("f").unwrap();
    world.write(&open, &[1; 4 * PAGE]).unwrap();
    assert_eq!(open.allocate(0x3, PAGE as i64 / 2, 2 * PAGE as i64, &world), Ok(()));
    assert_eq!(open.attributes().blocks, 3 * 8);
    let bytes = world.read_file("f").unwrap();
    let expected: Vec<u8> = (0..4 * PAGE).map(|at| u8::from(!(PAGE / 2..5 * PAGE / 2).contains(&at))).collect();
    assert_eq!(bytes, expected);
    assert_eq!(open.allocate(0, 0, 10 * PAGE as i64, &world), Ok(()));
    assert_eq!((open.attributes().size, open.attributes().blocks), (10 * PAGE as u64, 80));
    assert_eq!(open.allocate(1, 0, 12 * PAGE as i64, &world), Ok(()));
    assert_eq!(open.attributes().size, 10 * PAGE as u64);
    assert_eq!(open.allocate(2, 0, 1, &world), Err(Errno::EOPNOTSUPP));
    assert_eq!(open.allocate(0, 0, 0, &world), Err(Errno::EINVAL));
    assert_eq!(open.allocate(0, i64::MAX, 1, &world), Err(Errno::EFBIG));
    assert_eq!(open.allocate(0x3, 0, i64::MAX, &world), Ok(()));
    assert_eq!(world.open("f", READ).unwrap().allocate(0, 0, 1, &world), Err(Errno::EBADF));
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
    open.truncate(PAGE as u64, &world).unwrap();
    assert_eq!(small.statistics().free_blocks, 3);
    assert_eq!(open.allocate(0, 0, 1 << 40, &world), Err(Errno::ENOSPC));
    world.link("m/f", "m/g").unwrap();
    world.mkdir("m/d").unwrap();
    assert_eq!(world.mkdir("m/e"), Err(Errno::ENOSPC));
    assert_eq!(world.link("m/f", "m/h"), Err(Errno::ENOSPC));
    assert_eq!(small.statistics().free_inodes, 0);
    world.unlink("m/g").unwrap();
    world.rmdir("m/d").unwrap();
    assert_eq!(small.statistics().free_inodes, 2);
    assert_eq!(small.remount("nr_inodes=1"), Err(Errno::EINVAL));
    assert_eq!(small.remount("size=1m"), Ok(()));
    assert_eq!(world.write(&open, &[1; 5 * PAGE]), Ok(5 * PAGE));
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
    world.write(&open, b"x").unwrap();
    let written = open.attributes();
    assert!(written.modified > made.modified && written.changed > made.changed);
    assert_eq!(written.accessed, made.accessed);
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
    world.unlink("d/f").unwrap();
    assert!(world.stat("d").unwrap().modified > directory.modified);
}

#[test]
fn data_goes_from_file_to_file() {
    let world = World::new();
    let contents: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    world.write_file("from", &contents);
    let (from, to) = (world.open("from", READ).unwrap(), world.create("to").unwrap());
    let mut sent = 0;
    block_on(transfer::sendfile(&to, &from, None, 60_000, &mut sent, &world)).unwrap();
    assert_eq!(sent, 60_000);
    let mut offset = 60_000;
    sent = 0;
    block_on(transfer::sendfile(&to, &from, Some(&mut offset), usize::MAX, &mut sent, &world)).unwrap();
    assert_eq!((sent, offset), (40_000, 100_000));
    assert_eq!(block_on(from.seek(0, Whence::Current)), Ok(60_000));
    assert_eq!(world.read_file("to").unwrap(), contents);
    let (mut input, mut output, mut copied) = (10, 5, 0);
    let copy = transfer::copy_file_range((&from, Some(&mut input)), (&to, Some(&mut output)), 20, &mut copied, &world);
    block_on(copy).unwrap();
    assert_eq!((input, output, copied), (30, 25, 20));
    assert_eq!(world.read_file("to").unwrap()[5..25], contents[10..30]);
    let overlap = transfer::copy_file_range((&to, Some(&mut input)), (&to, Some(&mut output)), 20, &mut copied, &world);
    assert_eq!(block_on(overlap), Err(Errno::EINVAL));
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
    assert_eq!(file.truncate(11, &world), Err(Errno::EFBIG));
    assert_eq!(file.allocate(0, 0, 11, &world), Err(Errno::EFBIG));
    assert_eq!(world.too_large.load(Ordering::Relaxed), 3);
    assert_eq!((file.allocate(1, 0, 11, &world), file.truncate(9, &world)), (Ok(()), Ok(())));
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
    for change in [&|world: &World| file.truncate(1, world), &|world: &World| file.allocate(1, 0, 1, world)]
        as [&dyn Fn(&World) -> Result<()>; 2]
    {
        world.become_root();
        arm(&world);
        world.become_user(1000, &[]);
        change(&world).unwrap();
        assert_eq!(world.stat("f").unwrap().mode, 0o100777);
    }
}
