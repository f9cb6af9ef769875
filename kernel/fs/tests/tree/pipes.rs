//! pipe(7), fifo(7), poll(2), eventfd(2).

use super::*;
use core::cell::Cell;
use std::thread;
use vfs::{FifoOpening, PollEvents, poll};

const NON_BLOCK: OpenFlags = OpenFlags::NON_BLOCK;

fn pipe(world: &World, flags: OpenFlags) -> (Arc<OpenFile>, Arc<OpenFile>) {
    vfs::pipe(flags, &world.who, world).unwrap()
}

fn events(open: &OpenFile) -> PollEvents {
    open.file().poll() & (PollEvents::IN | PollEvents::OUT | PollEvents::ALWAYS)
}

#[test]
fn bytes_go_through_in_order() {
    let world = World::new();
    let (reader, writer) = pipe(&world, NON_BLOCK);
    let mut to = [0; 100];
    assert_eq!(world.read(&reader, &mut to), Err(Errno::EAGAIN));
    assert_eq!(world.read(&reader, &mut []), Ok(0));
    world.write(&writer, b"hello ").unwrap();
    world.write(&writer, b"world").unwrap();
    assert_eq!(reader.file().pipe().unwrap().length(), 11);
    assert_eq!(world.read(&reader, &mut to[..7]), Ok(7));
    assert_eq!(&to[..7], b"hello w");
    assert_eq!(world.read(&reader, &mut to), Ok(4));
    assert_eq!(&to[..4], b"orld");
    assert_eq!(world.read(&writer, &mut to), Err(Errno::EBADF));
    assert_eq!(world.write(&reader, b"x"), Err(Errno::EBADF));
    assert_eq!(block_on(reader.seek(0, vfs::Whence::Current)), Err(Errno::ESPIPE));
    assert_eq!(reader.kind(), Some(vfs::FileKind::Fifo));
    drop(writer);
    assert_eq!(world.read(&reader, &mut to), Ok(0));
}

#[test]
fn sixty_four_kibibytes_and_whole_small_writes() {
    let world = World::new();
    let free = world.free_frames();
    let (reader, writer) = pipe(&world, NON_BLOCK);
    assert_eq!(world.write(&writer, &[1; 100_000]), Ok(65_536));
    assert_eq!(world.write(&writer, b"x"), Err(Errno::EAGAIN));
    assert_eq!(events(&writer), PollEvents::empty());
    let mut to = vec![0; 4096];
    assert_eq!(world.read(&reader, &mut to[..4000]), Ok(4000));
    // No page is free yet, so nothing fits; with one free, up to PIPE_BUF does, whole.
    assert_eq!(world.write(&writer, &[2; 4096]), Err(Errno::EAGAIN));
    assert_eq!(world.read(&reader, &mut to[..96]), Ok(96));
    assert_eq!(events(&writer), PollEvents::OUT);
    assert_eq!(world.write(&writer, &[2; 4096]), Ok(4096));
    // More than PIPE_BUF may be cut.
    world.read(&reader, &mut to).unwrap();
    assert_eq!(world.write(&writer, &[3; 5000]), Ok(4096));
    drop((reader, writer));
    assert_eq!(world.free_frames(), free, "every page went back");
}

#[test]
fn sizes_change() {
    let world = World::new();
    let (reader, writer) = pipe(&world, NON_BLOCK);
    let inner = reader.file().pipe().unwrap();
    assert_eq!(inner.capacity(), 65_536);
    assert_eq!(inner.set_capacity(1, &world.who), Ok(4096));
    assert_eq!(world.write(&writer, &[0; 10_000]), Ok(4096));
    assert_eq!(inner.set_capacity(100_000, &world.who), Ok(131_072));
    assert_eq!(world.write(&writer, &[0; 200_000]), Ok(126_976));
    assert_eq!(inner.set_capacity(4096, &world.who), Err(Errno::EBUSY));
    let mut nobody = world.who.clone();
    nobody.capabilities = Capabilities::empty();
    assert_eq!(inner.set_capacity(2 << 20, &nobody), Err(Errno::EPERM));
    assert_eq!(inner.set_capacity(2 << 20, &world.who), Ok(2 << 20));
}

#[test]
fn ends_that_go_are_told() {
    let world = World::new();
    let (reader, writer) = pipe(&world, OpenFlags::empty());
    assert_eq!((events(&reader), events(&writer)), (PollEvents::empty(), PollEvents::OUT));
    world.write(&writer, b"x").unwrap();
    assert_eq!(events(&reader), PollEvents::IN);
    drop(writer);
    assert_eq!(events(&reader), PollEvents::IN | PollEvents::HANG_UP);
    let (reader, writer) = pipe(&world, OpenFlags::empty());
    drop(reader);
    assert_eq!(events(&writer), PollEvents::OUT | PollEvents::ERROR);
    assert_eq!(world.write(&writer, b"x"), Err(Errno::EPIPE));
    assert_eq!(world.broken_pipes.load(Ordering::Relaxed), 1);
}

#[test]
fn a_reader_waits_and_one_wake_up_suffices() {
    let world = World::new();
    let (reader, writer) = pipe(&world, OpenFlags::empty());
    let (count, mut to) = (Arc::new(Count::default()), [0; 10]);
    {
        let mut cursor = Destination::kernel(&mut to);
        let mut reading = Box::pin(wait::read(&reader, At::Position, &mut cursor, &world));
        assert!(poll_once(reading.as_mut(), &count).is_pending());
        world.write(&writer, b"one").unwrap();
        assert_eq!(count.get(), 1);
        world.write(&writer, b"two").unwrap();
        assert_eq!(count.get(), 1, "it has been woken already");
        assert_eq!(poll_once(reading.as_mut(), &count), Poll::Ready(Ok(6)));
    }
    assert_eq!(&to[..6], b"onetwo");
    // Closing the other side wakes as well.
    let mut cursor = Destination::kernel(&mut to);
    let mut reading = Box::pin(wait::read(&reader, At::Position, &mut cursor, &world));
    assert!(poll_once(reading.as_mut(), &count).is_pending());
    drop(writer);
    assert_eq!(count.get(), 2);
    assert_eq!(poll_once(reading.as_mut(), &count), Poll::Ready(Ok(0)));
}

#[test]
fn a_writer_waits_until_everything_is_through() {
    let world = World::new();
    let (reader, writer) = pipe(&world, OpenFlags::empty());
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 253) as u8).collect();
    let mut source = Source::kernel(&bytes);
    let count = Arc::new(Count::default());
    let mut got = Vec::new();
    {
        let mut writing = Box::pin(wait::write(&writer, At::Position, &mut source, &world));
        loop {
            let done = poll_once(writing.as_mut(), &count);
            let mut to = vec![0; 10_000];
            let length = world.read(&reader, &mut to).unwrap();
            got.extend_from_slice(&to[..length]);
            if let Poll::Ready(result) = done {
                assert_eq!(result, Ok(300_000));
                break;
            }
        }
    }
    while got.len() < bytes.len() {
        let mut to = vec![0; 10_000];
        let length = world.read(&reader, &mut to).unwrap();
        got.extend_from_slice(&to[..length]);
    }
    assert_eq!(got, bytes);
}

#[test]
fn an_interrupted_write_says_how_far_it_came() {
    let world = World::new();
    let (reader, writer) = pipe(&world, OpenFlags::empty());
    let bytes = vec![7; 100_000];
    let mut source = Source::kernel(&bytes);
    let mut writing = Box::pin(wait::write(&writer, At::Position, &mut source, &world));
    assert!(poll_once(writing.as_mut(), &Arc::default()).is_pending());
    drop(writing);
    assert_eq!(source.progress(), 65_536);
    assert_eq!(reader.file().pipe().unwrap().length(), 65_536);
    // When the reader goes with nothing written, that is an error; else what was written counts. Either way the writer
    // is told.
    let mut source = Source::kernel(&bytes);
    let mut writing = Box::pin(wait::write(&writer, At::Position, &mut source, &world));
    assert!(poll_once(writing.as_mut(), &Arc::default()).is_pending());
    drop(reader);
    assert_eq!(poll_once(writing.as_mut(), &Arc::default()), Poll::Ready(Err(Errno::EPIPE)));
    assert_eq!(world.broken_pipes.load(Ordering::Relaxed), 1);
    let (reader, writer) = pipe(&world, OpenFlags::empty());
    let mut source = Source::kernel(&bytes);
    let mut writing = Box::pin(wait::write(&writer, At::Position, &mut source, &world));
    assert!(poll_once(writing.as_mut(), &Arc::default()).is_pending());
    drop(reader);
    assert_eq!(poll_once(writing.as_mut(), &Arc::default()), Poll::Ready(Ok(65_536)));
    assert_eq!(world.broken_pipes.load(Ordering::Relaxed), 2);
}

#[test]
fn a_poller_leaves_the_data_to_the_reader() {
    let world = World::new();
    let (reader, writer) = pipe(&world, OpenFlags::empty());
    let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let look = |file: &OpenFile| usize::from(poll::look(Some(file), PollEvents::IN) == PollEvents::IN);
    let mut watch = poll::Watch::new([(&*reader, PollEvents::IN)].into_iter()).unwrap();
    let mut to = [0; 4];
    let mut cursor = Destination::kernel(&mut to);
    let mut reading = Box::pin(wait::read(&reader, At::Position, &mut cursor, &world));
    let mut polling = Box::pin(watch.until(1, |_| look(&reader)));
    assert!(poll_once(polling.as_mut(), &first).is_pending());
    assert!(poll_once(reading.as_mut(), &second).is_pending());
    world.write(&writer, b"x").unwrap();
    assert_eq!((first.get(), second.get()), (1, 1), "both are woken: who polls takes nothing");
    assert_eq!(poll_once(reading.as_mut(), &second), Poll::Ready(Ok(1)));
    // The byte is gone: the poller waits again.
    assert!(poll_once(polling.as_mut(), &first).is_pending());
    world.write(&writer, b"x").unwrap();
    assert_eq!(first.get(), 2);
    assert_eq!(poll_once(polling.as_mut(), &first), Poll::Ready(Ok(1)));
}

#[test]
fn poll_watches_many() {
    let world = World::new();
    let pipes: Vec<_> = (0..3000).map(|_| pipe(&world, OpenFlags::empty())).collect();
    const PART: usize = 32;
    let look = |part: usize| {
        // It takes time, so that others get turns in between.
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_micros(20) {}
        let ready = |reader: &OpenFile| poll::look(Some(reader), PollEvents::IN) == PollEvents::IN;
        pipes.iter().skip(part * PART).take(PART).filter(|(reader, _)| ready(reader)).count()
    };
    let mut watch = poll::Watch::new(pipes.iter().map(|(reader, _)| (&**reader, PollEvents::IN))).unwrap();
    let parts = pipes.len().div_ceil(PART);
    let count = Arc::new(Count::default());
    let mut polling = Box::pin(watch.until(parts, look));
    // It lets others have turns while it takes its places, and while it looks; then it sleeps.
    let mut turns = 0;
    loop {
        let before = count.get();
        assert!(poll_once(polling.as_mut(), &count).is_pending());
        if count.get() == before {
            break;
        }
        turns += 1;
    }
    assert!(turns > pipes.len() / 1024 + 1, "{turns}");
    world.write(&pipes[42].1, b"x").unwrap();
    world.write(&pipes[2777].1, b"x").unwrap();
    let mut found = Poll::Pending;
    while found.is_pending() {
        found = poll_once(polling.as_mut(), &count);
    }
    assert_eq!(found, Poll::Ready(Ok(2)));
    drop(polling);
    world.read(&pipes[42].0, &mut [0; 1]).unwrap();
    world.read(&pipes[2777].0, &mut [0; 1]).unwrap();
    // What comes about behind its back, when it has looked there and let others run, is seen in the next round.
    let looked = Cell::new(0);
    let mut polling = Box::pin(watch.until(parts, |part| {
        looked.set(part);
        look(part)
    }));
    let mut wrote = false;
    let found = loop {
        let before = count.get();
        if let Poll::Ready(found) = poll_once(polling.as_mut(), &count) {
            break found;
        }
        assert!(count.get() > before, "it sleeps");
        if looked.get() > 1 && !core::mem::replace(&mut wrote, true) {
            assert!(looked.get() < parts - 1, "it never let anybody run");
            world.write(&pipes[0].1, b"x").unwrap();
        }
    };
    assert_eq!(found, Ok(1));
    drop(polling);
    block_on(watch.leave());
    let file = world.create("f").unwrap();
    assert_eq!(poll::look(Some(&file), PollEvents::IN), PollEvents::IN);
    assert_eq!(poll::look(None, PollEvents::IN), PollEvents::INVALID);
}

#[test]
fn threads_pass_a_megabyte_on() {
    let world = World::new();
    let world = &world;
    let (reader, writer) = pipe(world, OpenFlags::empty());
    let (back_reader, back_writer) = pipe(world, OpenFlags::empty());
    thread::scope(|scope| {
        scope.spawn(move || {
            // Echoes in pieces of odd sizes.
            let mut size = 1;
            loop {
                let mut buffer = vec![0; size % 7000 + 1];
                let length = world.read(&reader, &mut buffer).unwrap();
                if length == 0 {
                    break;
                }
                assert_eq!(world.write(&back_writer, &buffer[..length]), Ok(length));
                size += 977;
            }
        });
        scope.spawn(move || {
            let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 241) as u8).collect();
            for chunk in bytes.chunks(12_345) {
                assert_eq!(world.write(&writer, chunk), Ok(chunk.len()));
            }
        });
        let mut sum = 0;
        let mut buffer = vec![0; 5000];
        loop {
            let length = world.read(&back_reader, &mut buffer).unwrap();
            if length == 0 {
                break;
            }
            for &byte in &buffer[..length] {
                assert_eq!(byte, (sum % 241) as u8);
                sum += 1;
            }
        }
        assert_eq!(sum, 1_000_000);
    });
}

#[test]
fn many_readers_and_writers_lose_nothing() {
    let world = World::new();
    let world = &world;
    let (reader, writer) = pipe(world, OpenFlags::empty());
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            let (reader, total) = (reader.clone(), &total);
            scope.spawn(move || {
                let mut buffer = [0; 100];
                while let Ok(length) = world.read(&reader, &mut buffer)
                    && length > 0
                {
                    total.fetch_add(length, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..4 {
            let writer = writer.clone();
            scope.spawn(move || {
                for _ in 0..3000 {
                    assert_eq!(world.write(&writer, &[1; 37]), Ok(37));
                }
            });
        }
        drop(writer);
    });
    assert_eq!(total.into_inner(), 4 * 3000 * 37);
}

fn fifo(world: &World, name: &str, flags: OpenFlags) -> Result<FifoOpening> {
    match world.opening(name, flags, 0)? {
        Opening::Fifo(opening) => Ok(opening),
        _ => panic!("{name} is no FIFO"),
    }
}

#[test]
fn fifos_wait_for_the_other_side() {
    let world = World::new();
    world.context().mknod(&world.root, b"fifo", 0o010666, 0).unwrap();
    let count = Arc::new(Count::default());
    let open = |flags| fifo(&world, "fifo", flags).unwrap().complete();
    assert_eq!(block_on(open(WRITE | NON_BLOCK)).err(), Some(Errno::ENXIO));
    let mut reading = Box::pin(open(READ));
    assert!(poll_once(reading.as_mut(), &count).is_pending());
    let writer = block_on(open(WRITE)).unwrap();
    assert_eq!(count.get(), 1);
    let Poll::Ready(Ok(reader)) = poll_once(reading.as_mut(), &count) else { panic!("both sides are there") };
    drop(reading);
    world.write(&writer, b"through").unwrap();
    let mut to = [0; 10];
    assert_eq!(world.read(&reader, &mut to), Ok(7));
    drop(writer);
    assert_eq!(world.read(&reader, &mut to), Ok(0));
    drop(reader);
    // Giving up leaves it as it was; opened for both it never waits; and a writer that came and went was there.
    let mut writing = Box::pin(open(WRITE));
    assert!(poll_once(writing.as_mut(), &count).is_pending());
    drop(writing);
    assert_eq!(block_on(open(WRITE | NON_BLOCK)).err(), Some(Errno::ENXIO));
    drop(block_on(open(OpenFlags::READ_WRITE)).unwrap());
    let mut reading = Box::pin(open(READ));
    assert!(poll_once(reading.as_mut(), &count).is_pending());
    drop(block_on(open(WRITE | NON_BLOCK)).unwrap());
    assert!(poll_once(reading.as_mut(), &count).is_ready());
}

#[test]
fn a_fifo_nobody_wrote_to_has_not_hung_up() {
    let world = World::new();
    world.context().mknod(&world.root, b"fifo", 0o010666, 0).unwrap();
    let open = |flags| block_on(fifo(&world, "fifo", flags).unwrap().complete()).unwrap();
    let reader = open(READ | NON_BLOCK);
    assert_eq!(events(&reader), PollEvents::empty());
    assert_eq!(world.read(&reader, &mut [0; 4]), Ok(0));
    let writer = open(WRITE | NON_BLOCK);
    assert_eq!(world.read(&reader, &mut [0; 4]), Err(Errno::EAGAIN));
    drop(writer);
    assert_eq!(events(&reader), PollEvents::HANG_UP);
    // Another way in to the same pipe: what /proc/PID/fd/N gives for one without a name.
    let (inner, outer) = pipe(&world, OpenFlags::empty());
    let path = inner.path().unwrap();
    assert!(path.text(&world.root).unwrap().starts_with(b"pipe:["));
    let Opening::Fifo(opening) = world.context().open_path(path, READ).unwrap() else { panic!("a pipe") };
    let again = block_on(opening.complete()).unwrap();
    world.write(&outer, b"x").unwrap();
    assert_eq!(world.read(&again, &mut [0; 4]), Ok(1));
}

#[test]
fn event_counters() {
    let world = World::new();
    let event = vfs::event(3, NON_BLOCK.bits(), &world).unwrap();
    let mut to = [0; 8];
    assert_eq!(world.read(&event, &mut to[..4]), Err(Errno::EINVAL));
    assert_eq!(world.read(&event, &mut to), Ok(8));
    assert_eq!(u64::from_ne_bytes(to), 3);
    assert_eq!(world.read(&event, &mut to), Err(Errno::EAGAIN));
    assert_eq!(world.write(&event, &u64::MAX.to_ne_bytes()), Err(Errno::EINVAL));
    assert_eq!(world.write(&event, &(u64::MAX - 1).to_ne_bytes()), Ok(8));
    assert_eq!(events(&event), PollEvents::IN);
    assert_eq!(world.write(&event, &1_u64.to_ne_bytes()), Err(Errno::EAGAIN));
    let semaphore = vfs::event(2, 1 | NON_BLOCK.bits(), &world).unwrap();
    for expected in [Ok(8), Ok(8), Err(Errno::EAGAIN)] {
        assert_eq!(world.read(&semaphore, &mut to), expected);
    }
    assert_eq!(vfs::event(0, 0x40, &world).err(), Some(Errno::EINVAL));
}

/// eventfd(2)
#[test]
fn an_event_s_count_is_added_to_taken_from_and_polled() {
    let world = World::new();
    let most = u64::MAX - 1;
    for (start, added, result, polled) in [
        (0, 0, Ok(8), PollEvents::OUT),
        (0, 1, Ok(8), PollEvents::IN | PollEvents::OUT),
        (5, most - 6, Ok(8), PollEvents::IN | PollEvents::OUT),
        (5, most - 5, Ok(8), PollEvents::IN),
        (5, most - 4, Err(Errno::EAGAIN), PollEvents::IN | PollEvents::OUT),
        (5, u64::MAX, Err(Errno::EINVAL), PollEvents::IN | PollEvents::OUT),
    ] {
        let event = vfs::event(start, NON_BLOCK.bits(), &world).unwrap();
        assert_eq!(world.write(&event, &added.to_ne_bytes()), result, "{start} {added}");
        assert_eq!(events(&event), polled, "{start} {added}");
        let total = u64::from(start) + if result.is_ok() { added } else { 0 };
        let mut to = [0; 16];
        let read = world.read(&event, &mut to);
        assert_eq!(read, if total == 0 { Err(Errno::EAGAIN) } else { Ok(8) });
        assert_eq!(u64::from_ne_bytes(to[..8].try_into().unwrap()), total);
    }
    let event = vfs::event(0, 0, &world).unwrap();
    assert_eq!(world.write(&event, &[0; 7]), Err(Errno::EINVAL));
    assert_eq!((world.write(&event, &[1; 9]), event.flags().contains(NON_BLOCK)), (Ok(8), false));
    let semaphore = vfs::event(2, 1 | NON_BLOCK.bits(), &world).unwrap();
    let mut to = [0; 8];
    assert_eq!(world.read(&semaphore, &mut to), Ok(8));
    assert_eq!((u64::from_ne_bytes(to), events(&semaphore)), (1, PollEvents::IN | PollEvents::OUT));
    let found = event.attributes();
    assert_eq!((found.mode, found.links, found.size, found.block_size), (0o600, 1, 0, 4096));
    assert_ne!(found.number, semaphore.attributes().number);
    assert_eq!(event.path().unwrap().text(&world.root).unwrap(), b"anon_inode:[eventfd]");
    // A reader that waits is woken by what is added, a writer by what is taken.
    let count = Arc::new(Count::default());
    let full = vfs::event(0, 0, &world).unwrap();
    assert_eq!(world.write(&full, &most.to_ne_bytes()), Ok(8));
    let bytes = 1_u64.to_ne_bytes();
    let mut source = Source::kernel(&bytes);
    let mut writing = Box::pin(wait::write(&full, At::Position, &mut source, &world));
    assert!(poll_once(writing.as_mut(), &count).is_pending());
    assert_eq!((world.read(&full, &mut to), count.get()), (Ok(8), 1));
    assert_eq!(poll_once(writing.as_mut(), &count), Poll::Ready(Ok(8)));
}
