//! Descriptor tables.

use super::*;
use vfs::{FileTable, LockOwner, RecordLock, RecordLockKind};

const LIMIT: u64 = 1024;

#[test]
fn the_lowest_free_number() {
    let world = World::new();
    let table = FileTable::new();
    let open = world.create("f").unwrap();
    let insert = || table.insert(open.clone(), false, LIMIT);
    for expected in 0..200 {
        assert_eq!(insert(), Ok(expected));
    }
    for descriptor in [3, 70, 199] {
        table.close(descriptor, 1).unwrap();
    }
    assert_eq!((insert(), insert(), insert(), insert()), (Ok(3), Ok(70), Ok(199), Ok(200)));
    assert_eq!(table.insert_from(100, open.clone(), true, LIMIT), Ok(201));
    assert_eq!(table.insert_from(500, open.clone(), true, LIMIT), Ok(500));
    assert_eq!(insert(), Ok(202));
    assert_eq!(table.insert_from(1024, open.clone(), false, LIMIT), Err(Errno::EINVAL));
    assert_eq!(table.insert_from(-1, open.clone(), false, LIMIT), Err(Errno::EINVAL));
    assert_eq!(table.insert(open.clone(), false, 203), Err(Errno::EMFILE));
    assert_eq!(table.insert_two((open.clone(), open.clone()), false, 204).err(), Some(Errno::EMFILE));
    assert_eq!(insert(), Ok(203), "the first of the two was given back");
    for bad in [-1, 204, 100_000, i32::MAX, i32::MIN] {
        assert_eq!(table.get(bad).err(), Some(Errno::EBADF));
        assert_eq!(table.close(bad, 1), Err(Errno::EBADF));
    }
}

#[test]
fn replacing_and_sharing() {
    let world = World::new();
    let table = FileTable::new();
    let (a, b) = (world.create("a").unwrap(), world.create("b").unwrap());
    table.insert(a.clone(), false, LIMIT).unwrap();
    table.replace(0, b.clone(), true, LIMIT).unwrap();
    assert!(Arc::ptr_eq(&table.get(0).unwrap(), &b));
    assert_eq!(Arc::strong_count(&a), 1);
    table.replace(900, a.clone(), false, LIMIT).unwrap();
    assert_eq!(table.replace(1024, a.clone(), false, LIMIT), Err(Errno::EBADF));
    assert_eq!(table.replace(-1, a.clone(), false, LIMIT), Err(Errno::EBADF));
    assert_eq!(table.insert(a.clone(), false, LIMIT), Ok(1));
    let copy = table.duplicate();
    copy.close(0, 1).unwrap();
    assert!(table.get(0).is_ok());
    copy.close_for_exec(1);
    table.close_for_exec(1);
    assert_eq!(table.get(0).err(), Some(Errno::EBADF));
    assert!(table.get(1).is_ok() && table.get(900).is_ok() && copy.get(900).is_ok());
    assert_eq!(Arc::strong_count(&b), 1);
    assert_eq!((table.next_open(0), table.next_open(2), table.next_open(901)), (Some(1), Some(900), None));
    table.set_close_on_exec(1, true).unwrap();
    assert_eq!(
        (table.closes_on_exec(1), table.closes_on_exec(900), table.closes_on_exec(2)),
        (Ok(true), Ok(false), Err(Errno::EBADF))
    );
    copy.mark_range(0, 100);
    copy.close_for_exec(1);
    assert_eq!((copy.get(1).err(), copy.get(900).err()), (Some(Errno::EBADF), None));
    table.close_range(1, u32::MAX, 1);
    assert_eq!(table.next_open(0), None);
    drop(copy);
    assert_eq!(Arc::strong_count(&a), 1);
}

#[test]
fn any_close_drops_the_process_s_record_locks() {
    let world = World::new();
    let (mine, other) = (FileTable::new(), FileTable::new());
    mine.insert(world.create("f").unwrap(), false, LIMIT).unwrap();
    mine.insert(world.create("f").unwrap(), false, LIMIT).unwrap();
    let file = world.create("f").unwrap();
    let locks = file.inode().locks().unwrap();
    let lock = |owner| RecordLock { kind: RecordLockKind::Write, first: 0, last: 9, owner, process: 1 };
    locks.try_set(lock(LockOwner::of_table(&mine))).unwrap();
    assert_eq!(locks.try_set(lock(LockOwner::of_table(&other))), Err(Errno::EAGAIN));
    mine.close(1, 1).unwrap();
    assert_eq!(locks.try_set(lock(LockOwner::of_table(&other))), Ok(()));
    // flock(2)'s belong to the description and go with it.
    locks.release(LockOwner::of_table(&other));
    let open = mine.get(0).unwrap();
    locks.try_flock(LockOwner::of_open_file(&open), vfs::FlockKind::Exclusive).unwrap();
    mine.close(0, 1).unwrap();
    assert_eq!(locks.try_flock(LockOwner::of_open_file(&file), vfs::FlockKind::Shared), Err(Errno::EWOULDBLOCK));
    drop(open);
    assert_eq!(locks.try_flock(LockOwner::of_open_file(&file), vfs::FlockKind::Shared), Ok(()));
}
