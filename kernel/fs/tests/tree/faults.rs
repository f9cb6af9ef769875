//! Programs' memory that is not there when a file operation wants it.

use super::*;
use abi::memory::{MapFlags, Protection};
use memory::{Backing, Limits, MapRequest, UserSlice};

const PAGE: usize = 4096;

struct Program(Arc<AddressSpace>);

impl Program {
    fn new(world: &World) -> Program {
        Program(AddressSpace::new(world.memory, Limits::default(), 3).unwrap())
    }

    /// Pages that will be there when touched.
    fn map(&self, length: usize) -> usize {
        let request = MapRequest {
            address: 0,
            length,
            protection: Protection::READ | Protection::WRITE,
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            backing: Backing::Anonymous,
        };
        self.0.map(&request).unwrap()
    }

    fn put(&self, address: usize, bytes: &[u8]) {
        block_on(self.0.copy_out(address, bytes)).unwrap();
    }

    fn get(&self, address: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        block_on(self.0.copy_in(address, &mut bytes)).unwrap();
        bytes
    }

    fn read(&self, world: &World, open: &OpenFile, address: usize, length: usize) -> Result<usize> {
        block_on(wait::read(open, At::Position, &mut Destination::user(&self.0, address, length), world))
    }

    fn write(&self, world: &World, open: &OpenFile, address: usize, length: usize) -> Result<usize> {
        block_on(wait::write(open, At::Position, &mut Source::user(&self.0, address, length), world))
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 247) as u8).collect()
}

#[test]
fn fresh_buffers_are_filled_whole() {
    let world = World::new();
    let program = Program::new(&world);
    let bytes = pattern(10 * PAGE + 100);
    world.write_file("f", &bytes);
    let open = world.open("f", OpenFlags::READ_WRITE).unwrap();
    // Eleven pages that were never touched: each faults, and the reader gets everything at once.
    let buffer = program.map(12 * PAGE);
    assert_eq!(program.read(&world, &open, buffer + 50, 11 * PAGE), Ok(bytes.len()));
    assert_eq!(program.get(buffer + 50, bytes.len()), bytes);
    assert_eq!(block_on(open.seek(0, vfs::Whence::Current)), Ok(bytes.len() as u64));
    // Untouched pages are written as zeros.
    let zeros = program.map(3 * PAGE);
    assert_eq!(program.write(&world, &open, zeros, 3 * PAGE), Ok(3 * PAGE));
    assert_eq!(open.attributes().size, (bytes.len() + 3 * PAGE) as u64);
    let (reader, writer) = vfs::pipe(OpenFlags::empty(), &world.who, &world).unwrap();
    program.put(buffer, &bytes);
    assert_eq!(program.write(&world, &writer, buffer, bytes.len()), Ok(bytes.len()));
    let fresh = program.map(12 * PAGE);
    assert_eq!(program.read(&world, &reader, fresh + 3, 12 * PAGE - 3), Ok(bytes.len()));
    assert_eq!(program.get(fresh + 3, bytes.len()), bytes);
}

#[test]
fn bad_addresses_stop_where_they_are() {
    let world = World::new();
    let program = Program::new(&world);
    world.write_file("f", &pattern(3 * PAGE));
    let open = world.open("f", OpenFlags::READ_WRITE).unwrap();
    let buffer = program.map(2 * PAGE);
    block_on(program.0.unmap(buffer + PAGE, PAGE)).unwrap();
    assert_eq!(program.read(&world, &open, 0x1000, 10), Err(Errno::EFAULT));
    assert_eq!(program.read(&world, &open, usize::MAX - 5, 10), Err(Errno::EFAULT));
    assert_eq!(block_on(open.seek(0, vfs::Whence::Current)), Ok(0));
    // What reached the program counts, and the position moved by as much.
    assert_eq!(program.read(&world, &open, buffer + PAGE - 10, 100), Ok(10));
    assert_eq!(block_on(open.seek(0, vfs::Whence::Current)), Ok(10));
    assert_eq!(program.get(buffer + PAGE - 10, 10), pattern(10));
    assert_eq!(program.write(&world, &open, buffer + PAGE - 4, 100), Ok(4));
    let before = open.attributes().modified;
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(program.write(&world, &open, buffer, 0), Ok(0));
    assert_eq!(open.attributes().modified, before, "nothing was to be written");
    assert_eq!(program.write(&world, &open, buffer + PAGE, 100), Err(Errno::EFAULT));
    assert!(open.attributes().modified > before, "as on Linux, the attempt counts");
    // A pipe loses nothing to a reader whose memory is not there.
    let (reader, writer) = vfs::pipe(OpenFlags::NON_BLOCK, &world.who, &world).unwrap();
    world.write(&writer, b"precious").unwrap();
    assert_eq!(program.read(&world, &reader, 0x1000, 8), Err(Errno::EFAULT));
    assert_eq!(program.read(&world, &reader, buffer + PAGE - 3, 8), Ok(3));
    assert_eq!(program.get(buffer + PAGE - 3, 3), b"pre");
    assert_eq!(program.read(&world, &reader, buffer, 8), Ok(5));
    // A small write is all or nothing.
    assert_eq!(program.write(&world, &writer, buffer + PAGE - 6, 12), Err(Errno::EFAULT));
    assert_eq!(reader.file().pipe().unwrap().length(), 0);
    assert_eq!(program.write(&world, &writer, buffer, 2 * PAGE), Ok(PAGE));
}

#[test]
fn a_reader_that_fails_hands_its_wake_up_on() {
    let world = World::new();
    let program = Program::new(&world);
    let (reader, writer) = vfs::pipe(OpenFlags::empty(), &world.who, &world).unwrap();
    let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
    let mut bad = Destination::user(&program.0, 0x1000, 4);
    let mut to = [0; 4];
    let mut good = Destination::kernel(&mut to);
    let mut first = Box::pin(wait::read(&reader, At::Position, &mut bad, &world));
    let mut second = Box::pin(wait::read(&reader, At::Position, &mut good, &world));
    assert!(poll_once(first.as_mut(), &counts[0]).is_pending());
    assert!(poll_once(second.as_mut(), &counts[1]).is_pending());
    world.write(&writer, b"data").unwrap();
    assert_eq!((counts[0].get(), counts[1].get()), (1, 0));
    assert_eq!(poll_once(first.as_mut(), &counts[0]), Poll::Ready(Err(Errno::EFAULT)));
    drop(first);
    assert_eq!(counts[1].get(), 1);
    assert_eq!(poll_once(second.as_mut(), &counts[1]), Poll::Ready(Ok(4)));
}

#[test]
fn pieces_are_gathered_and_scattered() {
    let world = World::new();
    let program = Program::new(&world);
    let open = world.create("f").unwrap();
    let memory = program.map(4 * PAGE);
    let bytes = pattern(3 * PAGE);
    program.put(memory, &bytes);
    let slices = [
        UserSlice { address: memory + 100, length: 10 },
        UserSlice { address: memory, length: 0 },
        UserSlice { address: memory, length: 2 * PAGE },
        UserSlice { address: memory + 7, length: 1 },
    ];
    let total = 11 + 2 * PAGE;
    assert_eq!(block_on(wait::write(&open, At::Position, &mut Source::vector(&program.0, &slices), &world)), Ok(total));
    let expected = [&bytes[100..110], &bytes[..2 * PAGE], &bytes[7..8]].concat();
    assert_eq!(world.read_file("f").unwrap(), expected);
    let fresh = program.map(4 * PAGE);
    let slices =
        [UserSlice { address: fresh + PAGE, length: 5 }, UserSlice { address: fresh + 2 * PAGE, length: 2 * PAGE }];
    let moved = block_on(wait::read(&open, At::Offset(3), &mut Destination::vector(&program.0, &slices), &world));
    assert_eq!(moved, Ok(5 + 2 * PAGE));
    assert_eq!(program.get(fresh + PAGE, 5), expected[3..8]);
    assert_eq!(program.get(fresh + 2 * PAGE, 2 * PAGE), expected[8..8 + 2 * PAGE]);
}

#[test]
fn mappings_are_the_file() {
    let world = World::new();
    let program = Program::new(&world);
    let free = world.free_frames();
    world.write_file("f", &pattern(3 * PAGE));
    let open = world.open("f", OpenFlags::READ_WRITE).unwrap();
    let map = |flags| {
        let request = MapRequest {
            address: 0,
            length: 3 * PAGE,
            protection: Protection::READ | Protection::WRITE,
            flags,
            backing: Backing::File { file: open.mapping().unwrap(), offset: 0 },
        };
        program.0.map(&request).unwrap()
    };
    let (shared, private) = (map(MapFlags::SHARED), map(MapFlags::PRIVATE));
    program.put(shared + PAGE, b"seen by all");
    assert_eq!(&world.read_file("f").unwrap()[PAGE..PAGE + 11], b"seen by all");
    assert_eq!(program.get(private + PAGE, 4), b"seen");
    program.put(private + PAGE, b"mine");
    assert_eq!(program.get(shared + PAGE, 4), b"seen");
    assert_eq!(program.0.areas().count(), 2);
    assert_eq!(world.open("f", WRITE).unwrap().mapping().err(), Some(Errno::EACCES));
    world.mkdir("d").unwrap();
    assert_eq!(world.open("d", READ).unwrap().mapping().err(), Some(Errno::ENODEV));
    // Beyond a new end there is nothing any more.
    world.truncate(&open, PAGE as u64).unwrap();
    assert_eq!(block_on(program.0.copy_in(shared + PAGE, &mut [0; 1])), Err(Errno::EFAULT));
    world.unlink("f").unwrap();
    drop(open);
    drop(program);
    assert_eq!(world.free_frames(), free);
}

#[test]
fn long_transfers_give_way_and_can_be_given_up() {
    const LENGTH: usize = 8 << 20;
    let world = World::new();
    let program = Program::new(&world);
    let buffer = program.map(LENGTH);
    let open = world.create("f").unwrap();
    let other = world.open("f", OpenFlags::WRITE_ONLY | OpenFlags::APPEND).unwrap();
    let (count, waiting) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut source = Source::user(&program.0, buffer, LENGTH);
    {
        let mut writing = pin!(wait::write(&open, At::Position, &mut source, &world));
        assert!(poll_once(writing.as_mut(), &count).is_pending());
        assert_eq!(count.get(), 1, "it is polled again soon");
        // Until it is over, nobody else writes the file or cuts it.
        let mut bytes = Source::kernel(b"other");
        let mut appending = pin!(wait::write(&other, At::Position, &mut bytes, &world));
        assert!(poll_once(appending.as_mut(), &waiting).is_pending());
        assert!(open.truncate(0, &world).unwrap().try_now().is_none());
        assert!(matches!(world.opening("f", OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE, 0), Ok(Opening::Busy(..))));
    }
    let written = source.progress();
    assert!(written > 0 && written < LENGTH && written.is_multiple_of(wait::PIECE), "{written}");
    assert_eq!(open.attributes().size, written as u64);
    assert_eq!(world.truncate(&open, 0), Ok(()));
    // Not given up, they end.
    block_on(open.seek(0, vfs::Whence::Start)).unwrap();
    assert_eq!(program.write(&world, &open, buffer, LENGTH), Ok(LENGTH));
    assert_eq!(world.write(&other, b"other"), Ok(5));
    assert_eq!(open.attributes().size, LENGTH as u64 + 5);
    let mut destination = Destination::user(&program.0, buffer, LENGTH);
    {
        let mut reading = pin!(wait::read(&open, At::Offset(0), &mut destination, &world));
        assert!(poll_once(reading.as_mut(), &count).is_pending());
    }
    // Of a slow file not even the first page may be there.
    assert!((destination.progress() > 0 || files_are_slow()) && destination.progress() < LENGTH);
    let end = LENGTH - PAGE;
    let mut destination = Destination::user(&program.0, buffer, LENGTH);
    assert_eq!(block_on(wait::read(&open, At::Offset(end as i64), &mut destination, &world)), Ok(PAGE + 5));
}
