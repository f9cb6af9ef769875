//! Descriptor tables.

use super::*;
use vfs::{FileLocks, FileTable, LockOwner, RecordLock, RecordLockKind, Setting, TableUse};

const LIMIT: u64 = 1024;
/// Who closes.
const CLOSER: Pid = Pid::new(1);

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
        table.close(descriptor, CLOSER).map(drop).unwrap();
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
        assert_eq!(table.close(bad, CLOSER).map(drop), Err(Errno::EBADF));
    }
}

#[test]
fn replacing_and_sharing() {
    let world = World::new();
    let table = FileTable::new();
    let (a, b) = (world.create("a").unwrap(), world.create("b").unwrap());
    table.insert(a.clone(), false, LIMIT).unwrap();
    table.replace(0, b.clone(), true, LIMIT).map(drop).unwrap();
    assert!(Arc::ptr_eq(&table.get(0).unwrap(), &b));
    assert_eq!(Arc::strong_count(&a), 1);
    table.replace(900, a.clone(), false, LIMIT).map(drop).unwrap();
    assert_eq!(table.replace(1024, a.clone(), false, LIMIT).map(drop), Err(Errno::EBADF));
    assert_eq!(table.replace(-1, a.clone(), false, LIMIT).map(drop), Err(Errno::EBADF));
    assert_eq!(table.insert(a.clone(), false, LIMIT), Ok(1));
    let copy = block_on(table.duplicate()).unwrap();
    copy.close(0, CLOSER).map(drop).unwrap();
    assert!(table.get(0).is_ok());
    block_on(copy.close_for_exec(CLOSER));
    block_on(table.close_for_exec(CLOSER));
    assert_eq!(table.get(0).err(), Some(Errno::EBADF));
    assert!(table.get(1).is_ok() && table.get(900).is_ok() && copy.get(900).is_ok());
    assert_eq!(Arc::strong_count(&b), 1);
    assert_eq!((table.next_open(0), table.next_open(2), table.next_open(901)), (Some(1), Some(900), None));
    table.set_close_on_exec(1, true).unwrap();
    assert_eq!(
        (table.closes_on_exec(1), table.closes_on_exec(900), table.closes_on_exec(2)),
        (Ok(true), Ok(false), Err(Errno::EBADF))
    );
    block_on(copy.mark_range(0, 100));
    block_on(copy.close_for_exec(CLOSER));
    assert_eq!((copy.get(1).err(), copy.get(900).err()), (Some(Errno::EBADF), None));
    block_on(table.close_range(1, u32::MAX, CLOSER));
    assert_eq!(table.next_open(0), None);
    drop(copy);
    assert_eq!(Arc::strong_count(&a), 1);
}

#[test]
fn the_copy_of_a_large_table_is_of_one_moment_and_made_in_slices() {
    let world = World::new();
    let (a, b) = (world.create("a").unwrap(), world.create("b").unwrap());
    let table = FileTable::new();
    let limit = 1 << 20;
    table.replace(300_000, a.clone(), true, limit).map(drop).unwrap();
    while table.insert(a.clone(), false, limit).unwrap() < 200_000 {}
    let mut copying = Box::pin(table.duplicate());
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    assert!(copying.as_mut().poll(&mut context).is_pending(), "at once");
    // Before and behind what has been copied by now.
    table.replace(0, b.clone(), true, limit).map(drop).unwrap();
    table.replace(199_999, b.clone(), true, limit).map(drop).unwrap();
    table.close(1, CLOSER).map(drop).unwrap();
    table.close(199_998, CLOSER).map(drop).unwrap();
    table.set_close_on_exec(199_997, true).unwrap();
    block_on(table.mark_range(190_000, 190_001));
    table.replace(300_000, b.clone(), false, limit).map(drop).unwrap();
    table.replace(250_000, b.clone(), false, limit).map(drop).unwrap();
    table.replace(900_000, b.clone(), false, limit).map(drop).unwrap();
    let copy = block_on(copying).unwrap();
    for number in (0..=200_000).chain([300_000]) {
        assert!(Arc::ptr_eq(&copy.get(number).unwrap(), &a), "{number}");
        assert_eq!(copy.closes_on_exec(number), Ok(number == 300_000));
    }
    assert_eq!((copy.next_open(200_001), copy.next_open(300_001)), (Some(300_000), None));
    assert_eq!(copy.insert(b.clone(), false, limit), Ok(200_001));
    assert_eq!(table.insert(b.clone(), false, limit), Ok(1), "what came meanwhile stays");
    assert!(Arc::ptr_eq(&table.get(900_000).unwrap(), &b));
    block_on(copy.end());
    // One that is given up leaves nothing behind.
    let count = Arc::strong_count(&a);
    let mut given_up = Box::pin(table.duplicate());
    assert!(given_up.as_mut().poll(&mut context).is_pending());
    drop(given_up);
    assert_eq!(Arc::strong_count(&a), count);
    block_on(table.close_range(0, u32::MAX, CLOSER));
    assert_eq!((Arc::strong_count(&a), Arc::strong_count(&b)), (1, 1));
}

/// F_SETLK of one of few.
fn try_set(locks: &FileLocks, wanted: RecordLock) -> Result<(), Errno> {
    match locks.try_set(wanted)? {
        Setting::Done => Ok(()),
        Setting::Conflict(_) => Err(Errno::EAGAIN),
        Setting::Begun(change) => block_on(change.finish()),
    }
}

#[test]
fn any_close_drops_the_process_s_record_locks() {
    let world = World::new();
    let (mine, other) = (FileTable::new(), FileTable::new());
    mine.insert(world.create("f").unwrap(), false, LIMIT).unwrap();
    mine.insert(world.create("f").unwrap(), false, LIMIT).unwrap();
    let file = world.create("f").unwrap();
    let locks = file.inode().locks().unwrap();
    let lock = |owner| RecordLock { kind: RecordLockKind::Write, first: 0, last: 9, owner, process: Some(CLOSER) };
    try_set(locks, lock(LockOwner::of_table(&mine))).unwrap();
    assert_eq!(try_set(locks, lock(LockOwner::of_table(&other))), Err(Errno::EAGAIN));
    mine.close(1, CLOSER).map(drop).unwrap();
    assert_eq!(try_set(locks, lock(LockOwner::of_table(&other))), Ok(()));
    // flock(2)'s belong to the description and go with it.
    locks.release(LockOwner::of_table(&other));
    let open = mine.get(0).unwrap();
    locks.try_flock(LockOwner::of_open_file(&open), vfs::FlockKind::Exclusive).unwrap();
    mine.close(0, CLOSER).map(drop).unwrap();
    assert_eq!(locks.try_flock(LockOwner::of_open_file(&file), vfs::FlockKind::Shared), Err(Errno::EWOULDBLOCK));
    drop(open);
    assert_eq!(locks.try_flock(LockOwner::of_open_file(&file), vfs::FlockKind::Shared), Ok(()));
}

#[test]
fn the_last_use_of_a_table_closes_it_whoever_looks() {
    let world = World::new();
    let (table, other) = (FileTable::new(), FileTable::new());
    let first = TableUse::new(table.clone());
    let second = first.clone();
    let file = world.create("f").unwrap();
    table.insert(file.clone(), false, LIMIT).unwrap();
    let locks = file.inode().locks().unwrap();
    let lock = |owner| RecordLock { kind: RecordLockKind::Write, first: 0, last: 9, owner, process: Some(CLOSER) };
    try_set(locks, lock(LockOwner::of_table(&table))).unwrap();
    drop(first);
    assert_eq!((second.users(), try_set(locks, lock(LockOwner::of_table(&other)))), (1, Err(Errno::EAGAIN)));
    drop(second);
    assert_eq!(try_set(locks, lock(LockOwner::of_table(&other))), Ok(()), "`table` itself is still there");
    assert_eq!(table.get(0).err(), Some(Errno::EBADF));
}

#[test]
fn a_descriptor_that_is_closed_or_replaced_is_held_no_more() {
    let world = World::new();
    let table = FileTable::new();
    let (file, other) = (world.create("f").unwrap(), world.create("f").unwrap());
    table.insert(file.clone(), false, LIMIT).unwrap();
    assert!(table.holds(0, &file) && !table.holds(0, &other) && !table.holds(1, &file) && !table.holds(-1, &file));
    table.replace(0, other.clone(), false, LIMIT).map(drop).unwrap();
    assert!(!table.holds(0, &file) && table.holds(0, &other));
    table.close(0, CLOSER).map(drop).unwrap();
    assert!(!table.holds(0, &other));
}

/// The descriptors of a table as they should be: which file, and whether execve(2) closes it.
type Model = std::collections::BTreeMap<i32, (usize, bool)>;

/// The lowest number from `minimum` on that is free.
fn free(model: &Model, minimum: i32) -> i32 {
    (minimum..).find(|number| !model.contains_key(number)).unwrap()
}

fn check(table: &FileTable, model: &Model, files: &[Arc<OpenFile>]) {
    assert_eq!(table.count(), model.len());
    assert!(table.capacity().is_multiple_of(64));
    assert!(model.last_key_value().is_none_or(|(last, _)| (*last as usize) < table.capacity()));
    let mut next = 0;
    for (&number, &(file, closes)) in model {
        assert_eq!(table.next_open(next), Some(number));
        next = number + 1;
        assert!(table.holds(number, &files[file]) && Arc::ptr_eq(&table.get(number).unwrap(), &files[file]));
        assert!(!table.holds(number, &files[(file + 1) % files.len()]));
        assert_eq!(table.closes_on_exec(number), Ok(closes));
        assert!(table.look(|open| open.get(number).is_some()));
    }
    assert_eq!(table.next_open(next), None);
    let nobody = free(model, 0);
    assert_eq!((table.get(nobody).err(), table.closes_on_exec(nobody)), (Some(Errno::EBADF), Err(Errno::EBADF)));
    assert_eq!(
        (table.close(nobody, CLOSER).map(drop), table.close(-1, CLOSER).map(drop)),
        (Err(Errno::EBADF), Err(Errno::EBADF))
    );
    assert_eq!(table.set_close_on_exec(nobody, true), Err(Errno::EBADF));
}

#[test]
fn a_table_of_descriptors_is_a_map_whatever_is_done_to_it() {
    let world = World::new();
    let files: Vec<Arc<OpenFile>> = (0..5).map(|number| world.create(&format!("f{number}")).unwrap()).collect();
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    for limit in [3_u64, 64, 65, 200] {
        let (mut table, mut model) = (TableUse::new(FileTable::new()), Model::new());
        let highest = limit as i32 + 3;
        for step in 0..1500 {
            let (file, closes) = (next(files.len()), next(2) == 0);
            let (number, other) = (next(highest as usize) as i32, next(highest as usize) as i32);
            let fits = |wanted: i32| if (wanted as u64) < limit { Ok(wanted) } else { Err(Errno::EMFILE) };
            match next(if step < 700 { 8 } else { 12 }) {
                0..=2 => {
                    let expected = fits(free(&model, 0));
                    assert_eq!(table.insert(files[file].clone(), closes, limit), expected);
                    model.extend(expected.into_iter().map(|number| (number, (file, closes))));
                }
                3 => {
                    let expected = if number > 0 && number as u64 >= limit {
                        Err(Errno::EINVAL)
                    } else {
                        fits(free(&model, number))
                    };
                    assert_eq!(table.insert_from(number, files[file].clone(), closes, limit), expected);
                    model.extend(expected.into_iter().map(|number| (number, (file, closes))));
                    let negative = table.insert_from(-1, files[file].clone(), closes, limit);
                    assert_eq!(negative, Err(Errno::EINVAL));
                }
                4 | 5 => {
                    let expected = if (number as u64) < limit { Ok(()) } else { Err(Errno::EBADF) };
                    assert_eq!(table.replace(number, files[file].clone(), closes, limit).map(drop), expected);
                    model.extend(expected.into_iter().map(|()| (number, (file, closes))));
                    assert_eq!(table.replace(-1, files[file].clone(), closes, limit).map(drop), Err(Errno::EBADF));
                }
                6 => {
                    let first = free(&model, 0);
                    let second = free(&model, first + 1);
                    let pair = (files[file].clone(), files[(file + 1) % 5].clone());
                    let expected = fits(first).and_then(|first| Ok((first, fits(second)?)));
                    assert_eq!(table.insert_two(pair, closes, limit), expected);
                    if expected.is_ok() {
                        model.extend([(first, (file, closes)), (second, ((file + 1) % 5, closes))]);
                    }
                }
                7 => {
                    let expected = model.contains_key(&number);
                    assert_eq!(table.set_close_on_exec(number, closes).is_ok(), expected);
                    model.entry(number).and_modify(|entry| entry.1 = closes);
                }
                8 => {
                    let expected = model.remove(&number).map(|_| ()).ok_or(Errno::EBADF);
                    assert_eq!(table.close(number, CLOSER).map(drop), expected);
                }
                9 => {
                    let (first, last) = (number.min(other), number.max(other).min(number.min(other) + 9));
                    if closes {
                        block_on(table.mark_range(first as u32, last as u32));
                        model.range_mut(first..=last).for_each(|(_, entry)| entry.1 = true);
                    } else {
                        block_on(table.close_range(first as u32, last as u32, CLOSER));
                        model.retain(|number, _| !(first..=last).contains(number));
                    }
                }
                10 if next(8) == 0 => {
                    block_on(table.close_for_exec(CLOSER));
                    model.retain(|_, entry| !entry.1);
                }
                _ => {
                    let copy = block_on(table.duplicate()).unwrap();
                    check(&table, &model, &files);
                    table = copy;
                }
            }
            check(&table, &model, &files);
        }
        let sharer = table.clone();
        assert_eq!((table.users(), sharer.users()), (2, 2));
        block_on(table.end());
        check(&sharer, &model, &files);
        let looker = sharer.table().clone();
        block_on(sharer.end());
        check(&looker, &Model::new(), &files);
    }
    assert!(files.iter().all(|file| Arc::strong_count(file) == 1));
}
