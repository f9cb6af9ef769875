//! Calls that wait: pipes, poll, select, FIFOs.

use std::time::Instant;

use abi::Errno;
use abi::files::PollDescriptor;
use abi::raw::general as number;
use abi::time::{Timespec, Timeval};

use crate::stage::{DATA, Stage};

#[test]
fn a_read_of_an_empty_pipe_waits_for_a_write() {
    let (_stage, init) = Stage::start();
    let (read, write) = init.pipe();
    let (child, _) = init.fork();
    child.begin(number::__NR_read, [read, DATA, 10]);
    assert!(child.waits());
    let text = init.string(DATA, "text");
    assert_eq!(init.call(number::__NR_write, [write, text, 4]), Ok(4));
    assert_eq!(child.result(), Ok(4));
    assert_eq!(child.bytes(DATA, 4), b"text");
}

#[test]
fn a_write_to_a_full_pipe_goes_on_behind_what_it_wrote() {
    const LENGTH: usize = 0x2_8000;
    let (_stage, init) = Stage::start();
    let (read, write) = init.pipe();
    let (child, _) = init.fork();
    let memory = child.call(number::__NR_mmap, [0, LENGTH, 3, 0x22, usize::MAX, 0]).unwrap();
    let pattern: Vec<u8> = (0..LENGTH).map(|byte| ((byte / 3) ^ (byte >> 9)) as u8).collect();
    child.store(memory, pattern.as_slice());
    // In two vectors, the first of which the pipe holds whole.
    let vectors = child.store(DATA, &[[memory, 0x5000], [memory + 0x5000, LENGTH - 0x5000]]);
    child.begin(number::__NR_writev, [write, vectors, 2]);
    assert!(child.waits());
    let mut got = Vec::new();
    while got.len() < LENGTH {
        let length = init.call(number::__NR_read, [read, DATA + 0x1000, 0xb000]).unwrap();
        got.extend(init.bytes(DATA + 0x1000, length));
    }
    assert_eq!(child.result(), Ok(LENGTH));
    assert!(got == pattern);
}

#[test]
fn poll_waits_for_the_first_of_many_or_the_time() {
    let (_stage, init) = Stage::start();
    let pipes: Vec<_> = (0..40).map(|_| init.pipe()).collect();
    let wanted = |descriptor| PollDescriptor { descriptor, events: 1, ready: 0xff };
    let mut entries: Vec<_> = pipes.iter().map(|pipe| wanted(pipe.0 as i32)).collect();
    entries.push(wanted(-1));
    let array = init.store(DATA + 0x2000, entries.as_slice());
    let count = entries.len();
    assert_eq!(init.call(number::__NR_poll, [array, count, 0]), Ok(0));
    let start = Instant::now();
    assert_eq!(init.call(number::__NR_poll, [array, count, 20]), Ok(0));
    assert!(start.elapsed().as_millis() >= 20);
    let (child, _) = init.fork();
    child.begin(number::__NR_poll, [array, count, usize::MAX]);
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_write, [pipes[33].1, DATA, 1]), Ok(1));
    assert_eq!(child.result(), Ok(1));
    let ready = |index: usize| child.load::<PollDescriptor>(array + index * 8).ready;
    assert_eq!((ready(32), ready(33), ready(40)), (0, 1, 0));
    let closed = init.store(DATA, &PollDescriptor { descriptor: 999, events: 0, ready: 0 });
    assert_eq!(init.call(number::__NR_poll, [closed, 1, usize::MAX]), Ok(1));
    assert_eq!(init.load::<PollDescriptor>(closed).ready, number::POLLNVAL as u16);
    assert_eq!(init.call(number::__NR_poll, [0, 1, 0]), Err(Errno::EFAULT));
    assert_eq!(init.call(number::__NR_poll, [0, 1_000_000, 0]), Err(Errno::EINVAL));
}

#[test]
fn select_tells_which_and_how_much_time_is_left() {
    let (_stage, init) = Stage::start();
    let (read, write) = init.pipe();
    let bit = |descriptor: usize| 1_u64 << descriptor;
    let (reading, writing) = (DATA, DATA + 0x100);
    init.store(reading, &bit(read));
    init.store(writing, &bit(write));
    let select = |sets: [usize; 2], timeout| [write + 1, sets[0], sets[1], 0, timeout];
    assert_eq!(init.call(number::__NR_select, select([reading, writing], 0)), Ok(1));
    assert_eq!((init.load::<u64>(reading), init.load::<u64>(writing)), (0, bit(write)));
    let (child, _) = init.fork();
    child.store(reading, &bit(read));
    let time = child.store(DATA + 0x200, &Timeval { seconds: 20, microseconds: 0 });
    child.begin(number::__NR_select, select([reading, 0], time));
    assert!(child.waits());
    assert_eq!(init.call(number::__NR_write, [write, DATA, 1]), Ok(1));
    assert_eq!(child.result(), Ok(1));
    assert_eq!(child.load::<u64>(reading), bit(read));
    assert!((10..20).contains(&child.load::<Timeval>(time).seconds));
    // Nothing happens on a descriptor nobody has.
    init.store(reading, &bit(63));
    assert_eq!(init.call(number::__NR_select, [64, reading, 0, 0, 0]), Err(Errno::EBADF));
    let time = init.store(DATA + 0x200, &Timespec { seconds: 0, nanoseconds: 1_000_000 });
    assert_eq!(init.call(number::__NR_pselect6, [0, 0, 0, 0, time, 0]), Ok(0));
    assert_eq!(init.load::<Timespec>(time), Timespec::default());
}

#[test]
fn a_fifo_is_open_when_both_ends_are() {
    let (_stage, init) = Stage::start();
    let name = init.string(DATA, "/fifo");
    assert_eq!(init.call(number::__NR_mknod, [name, (number::S_IFIFO | 0o600) as usize, 0]), Ok(0));
    let (child, _) = init.fork();
    child.begin(number::__NR_open, [name, number::O_RDONLY as usize]);
    assert!(child.waits());
    let write = init.call(number::__NR_open, [name, number::O_WRONLY as usize]).unwrap();
    let read = child.result().unwrap();
    assert_eq!(init.call(number::__NR_write, [write, name, 5]), Ok(5));
    assert_eq!(child.call(number::__NR_read, [read, DATA + 0x100, 100]), Ok(5));
    assert_eq!(init.call(number::__NR_close, [write]), Ok(0));
    assert_eq!(child.call(number::__NR_read, [read, DATA + 0x100, 100]), Ok(0));
}

#[test]
fn the_last_child_is_waited_for() {
    let (_stage, init) = Stage::start();
    let (child, pid) = init.fork();
    init.begin(number::__NR_wait4, [usize::MAX, DATA, 0, 0]);
    assert!(init.waits());
    child.begin(number::__NR_exit_group, [3]);
    assert_eq!(init.result(), Ok(pid));
    assert_eq!(init.load::<i32>(DATA), 0x300);
    assert_eq!(init.call(number::__NR_wait4, [usize::MAX, DATA, 0, 0]), Err(Errno::ECHILD));
}
