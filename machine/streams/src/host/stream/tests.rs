//! Streams over pipes of this process, with the test at the other end.

use super::*;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::Condvar;
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn unconnected(_: Handler) -> Interrupt {
    Box::new(|| {})
}

/// Counts interrupts.
#[derive(Default)]
struct Told {
    times: Mutex<usize>,
    changed: Condvar,
}

impl Told {
    /// Has the interrupts of `stream` counted.
    fn by(stream: &ByteStream) -> Arc<Told> {
        let told = Arc::new(Told::default());
        let counter = told.clone();
        stream.set_interrupt(Box::new(move || {
            *lock(&counter.times) += 1;
            counter.changed.notify_all();
        }));
        told
    }

    /// Waits for the next one that was not waited for.
    fn wait(&self) {
        let times = lock(&self.times);
        let (mut times, late) = self.changed.wait_timeout_while(times, LONG, |times| *times == 0).unwrap();
        assert!(!late.timed_out(), "no interrupt came");
        *times -= 1;
    }

    fn is_silent(&self) -> bool {
        *lock(&self.times) == 0
    }
}

/// How streams go about pipes: as the host's pipes allow, or as with files that allow less.
const WAYS: [bool; 2] = [true, false];

fn over(file: impl Into<OwnedFd>, tries: bool) -> (ByteStream, Arc<Told>) {
    let stream = ByteStream::new(file.into(), unconnected).unwrap();
    if !tries {
        stream.0.input.iter().for_each(Direction::do_not_try);
        stream.0.output.iter().for_each(Direction::do_not_try);
    }
    let told = Told::by(&stream);
    (stream, told)
}

fn reading(tries: bool) -> (ByteStream, PipeWriter, Arc<Told>) {
    let (reader, writer) = pipe().unwrap();
    let (stream, told) = over(reader, tries);
    (stream, writer, told)
}

fn writing(tries: bool) -> (PipeReader, ByteStream, Arc<Told>) {
    let (reader, writer) = pipe().unwrap();
    let (stream, told) = over(writer, tries);
    (reader, stream, told)
}

/// Reads once; waits for it if need be.
fn get(stream: &ByteStream, told: &Told, wanted: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let result = stream.read(wanted, |there| {
            bytes.extend_from_slice(&there[..there.len().min(wanted)]);
            bytes.len()
        });
        match result {
            Ok(count) => {
                assert_eq!(count, bytes.len());
                return bytes;
            }
            Err(StreamStop::WouldBlock) => told.wait(),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_more_is_fetched_than_was_asked_for() {
    for tries in WAYS {
        let (reader, mut writer) = pipe().unwrap();
        let mut shared = reader.try_clone().unwrap();
        let (stream, told) = over(reader, tries);
        writer.write_all(b"one two three").unwrap();
        assert_eq!(stream.readiness(), Readiness::INPUT, "looking takes nothing");
        assert_eq!(stream.waiting(), 13);
        assert_eq!(get(&stream, &told, 4), b"one ");
        let mut rest = [0; 9];
        shared.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"two three", "the rest is there for whoever else has the file");
    }
}

#[test]
fn what_was_not_taken_is_there_the_next_time() {
    for tries in WAYS {
        let (stream, mut writer, told) = reading(tries);
        writer.write_all(b"abcdef").unwrap();
        while stream.read(6, |_| 0) == Err(StreamStop::WouldBlock) {
            told.wait();
        }
        assert_eq!(stream.read(6, |_| 0), Ok(0), "a page of the program was missing");
        assert_eq!(stream.read(6, |there| there[..2].len()), Ok(2));
        assert_eq!(get(&stream, &told, 100), b"cdef");
    }
}

#[test]
fn the_end_is_told_each_time_it_is_asked_for() {
    for tries in WAYS {
        let (stream, mut writer, told) = reading(tries);
        assert_eq!(stream.readiness(), Readiness::empty());
        writer.write_all(b"x").unwrap();
        told.wait();
        drop(writer);
        assert!(stream.readiness().contains(Readiness::INPUT));
        assert_eq!(get(&stream, &told, 10), b"x");
        for _ in 0..3 {
            assert_eq!(get(&stream, &told, 10), b"");
            assert_eq!(stream.readiness(), Readiness::INPUT_ENDED);
        }
    }
}

#[test]
fn one_who_waits_for_a_word_is_told_once_and_nothing_is_read() {
    for tries in WAYS {
        let (stream, mut writer, told) = reading(tries);
        assert_eq!(stream.readiness(), Readiness::empty());
        writer.write_all(b"key").unwrap();
        told.wait();
        assert_eq!(stream.readiness(), Readiness::INPUT);
        thread::sleep(Duration::from_millis(20));
        assert!(told.is_silent(), "nobody asked again");
        assert_eq!(stream.waiting(), 3);
    }
}

#[test]
fn a_slow_reader_holds_the_writer_back_and_gets_everything_in_order() {
    for tries in WAYS {
        const TOTAL: usize = 3 << 20;
        let (mut reader, stream, told) = writing(tries);
        let slow = thread::spawn(move || {
            let mut all = Vec::new();
            let mut chunk = [0; 10_000];
            loop {
                match reader.read(&mut chunk).unwrap() {
                    0 => return all,
                    count => all.extend_from_slice(&chunk[..count]),
                }
                thread::sleep(Duration::from_micros(50));
            }
        });
        let bytes: Vec<u8> = (0..TOTAL).map(|index| (index * 7 % 251) as u8).collect();
        let (mut sent, mut refusals) = (0, 0);
        while sent < TOTAL {
            match stream.write(&bytes[sent..TOTAL.min(sent + 5000)]) {
                Ok(count) => sent += count,
                Err(StreamStop::WouldBlock) => {
                    refusals += 1;
                    told.wait();
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(refusals > 0, "the buffer is bounded");
        stream.finish();
        stream.close();
        assert!(slow.join().unwrap() == bytes);
    }
}

#[test]
fn small_writes_are_taken_whole_or_not_at_all() {
    for tries in WAYS {
        let (mut reader, stream, told) = writing(tries);
        // Until the buffer is full, and the pipe behind it, so that nobody makes room any more.
        let mut quiet = 0;
        while quiet < 10 {
            match stream.write(&[b'-'; 1000]) {
                Ok(count) => assert_eq!(count, 1000),
                Err(_) => {
                    thread::sleep(Duration::from_millis(5));
                    quiet += 1;
                }
            }
        }
        assert!(!stream.readiness().contains(Readiness::OUTPUT));
        *lock(&told.times) = 0;
        let mut most = vec![0; 256 << 10];
        assert!(reader.read(&mut most).unwrap() > 0);
        told.wait();
        assert!(stream.readiness().contains(Readiness::OUTPUT));
    }
}

#[test]
fn a_reader_that_goes_is_noticed_though_nobody_writes() {
    for tries in WAYS {
        let (mut reader, stream, told) = writing(tries);
        assert_eq!(stream.write(b"hello\n"), Ok(6));
        let mut line = [0; 6];
        reader.read_exact(&mut line).unwrap();
        assert_eq!(stream.readiness(), Readiness::OUTPUT);
        drop(reader);
        told.wait();
        assert_eq!(stream.write(b"again\n"), Err(StreamStop::Closed));
        assert!(stream.readiness().contains(Readiness::OUTPUT_CLOSED));
        stream.finish();
    }
}

#[test]
fn what_nobody_will_read_does_not_hold_up_the_end() {
    for tries in WAYS {
        let (reader, stream, _told) = writing(tries);
        stream.write_last(&[0; 3 * CAPACITY]);
        let finished = {
            let stream = stream.clone();
            thread::spawn(move || stream.finish())
        };
        thread::sleep(Duration::from_millis(20));
        assert!(!finished.is_finished(), "there is still somebody who could read");
        drop(reader);
        finished.join().unwrap();
    }
}

#[test]
fn last_words_are_taken_whole() {
    for tries in WAYS {
        let (mut reader, stream, _told) = writing(tries);
        stream.write_last(&[7; 3 * CAPACITY]);
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all.len()
        });
        stream.finish();
        stream.close();
        assert_eq!(reading.join().unwrap(), 3 * CAPACITY, "closed though the stream is still there");
        assert!(stream.is_writable());
    }
}

#[test]
fn files_are_read_and_written_at_once_and_tell_their_errors() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let full = ByteStream::new(full.into(), unconnected).unwrap();
    assert_eq!(full.write(b"x"), Err(StreamStop::Failed(Errno::NOSPC.raw_os_error())));
    let zeros = ByteStream::new(File::open("/dev/zero").unwrap().into(), unconnected).unwrap();
    assert_eq!(zeros.read(5, <[u8]>::len), Ok(5));
    let directory = ByteStream::new(File::open("/").unwrap().into(), unconnected).unwrap();
    assert_eq!(directory.read(5, <[u8]>::len), Err(StreamStop::Failed(Errno::ISDIR.raw_os_error())));
    let text = ByteStream::new(File::open("/proc/self/status").unwrap().into(), unconnected).unwrap();
    let mut all = Vec::new();
    let take = |all: &mut Vec<u8>| {
        text.read(100, |there| {
            all.extend_from_slice(there);
            there.len()
        })
    };
    while take(&mut all).unwrap() > 0 {}
    assert!(all.starts_with(b"Name:") && all.len() > 500);
    assert_eq!(full.readiness() | zeros.readiness(), Readiness::OUTPUT | Readiness::INPUT);
}

#[test]
fn the_descriptor_s_flags_stay_as_they_are() {
    let (reader, writer) = pipe().unwrap();
    let others = writer.try_clone().unwrap();
    let stream = ByteStream::new(writer.into(), unconnected).unwrap();
    stream.write(b"x").unwrap();
    stream.finish();
    assert!(!fcntl_getfl(&others).unwrap().contains(OFlags::NONBLOCK));
    drop(reader);
}

#[test]
fn a_change_of_the_window_is_told_though_no_key_is_awaited() {
    let (input, _keys) = pipe().unwrap();
    let (_screen, output) = pipe().unwrap();
    let (resized, mut handler) = pipe().unwrap();
    let terminal = ByteStream::terminal(input.into(), output.into(), Some(resized.into()), unconnected);
    let told = Told::by(&terminal);
    assert_eq!(terminal.read(10, <[u8]>::len), Err(StreamStop::WouldBlock));
    for _ in 0..3 {
        handler.write_all(b"!").unwrap();
        told.wait();
    }
    drop(handler);
    assert_eq!(terminal.window_size(), None, "a pipe has none");
    terminal.close();
}

#[test]
fn a_terminal_whose_keys_come_from_a_pipe_outlives_it() {
    let (input, mut keys) = pipe().unwrap();
    let (_screen, output) = pipe().unwrap();
    let terminal = ByteStream::terminal(input.into(), output.into(), None, unconnected);
    let told = Told::by(&terminal);
    keys.write_all(b"ls\n").unwrap();
    drop(keys);
    assert_eq!(get(&terminal, &told, 100), b"ls\n");
    for _ in 0..3 {
        assert_eq!(terminal.read(100, <[u8]>::len), Err(StreamStop::WouldBlock));
    }
    thread::sleep(Duration::from_millis(20));
    assert!(told.is_silent());
}
