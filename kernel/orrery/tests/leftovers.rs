//! What a machine leaves behind in the process it ran in: no thread, no descriptor. Alone in its process, to count.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

#[allow(dead_code, reason = "shared with the tests of programs")]
#[path = "programs/code.rs"]
mod code;

use std::io::{Read, Write, pipe};
use std::time::{Duration, Instant};
use std::{fs, thread};

use abi::raw::general as raw;
use launch::archive::Archive;
use machine::device::Program;
use machine::host::{Configuration, Console, Devices, StandardStream, run};

use code::{BUFFER, Code};

#[global_allocator]
static HEAP: machine::host::HostHeap = machine::host::HostHeap;

/// Threads, descriptors and child processes of this process. The file that was a machine's memory does not count: it stays,
/// empty, as its addresses do.
fn inventory() -> [usize; 3] {
    let threads: Vec<_> = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path()).collect();
    let children = threads.iter().filter_map(|thread| fs::read_to_string(thread.join("children")).ok());
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let descriptors = links.filter(|link| !link.to_string_lossy().starts_with("/memfd:")).count();
    [threads.len(), descriptors, children.map(|list| list.split_whitespace().count()).sum()]
}

/// A machine whose program copies a few bytes, with a process of its own that it does not wait for.
fn once() {
    let child = Code::default().call(raw::__NR_fork, []).call(raw::__NR_read, [0, BUFFER, 100]);
    let program = child.call_with_result(raw::__NR_write, [1, BUFFER]).call(raw::__NR_exit_group, [5]);
    let mut archive = Archive::default();
    archive.file("program", 0o755, program.file());
    let (input, mut writer) = pipe().unwrap();
    let (mut reader, output) = pipe().unwrap();
    let streams = [StandardStream::Host(input.into()), StandardStream::Host(output.into()), StandardStream::Nothing];
    let devices = Devices {
        initramfs: Some(archive.bytes()),
        program: Some(Program { path: b"/program".to_vec(), ..Program::default() }),
        console: Console { terminal: None, streams },
        ..Devices::default()
    };
    let machine = thread::spawn(|| {
        run(Configuration { cpus: 2, memory: 16 << 20, devices, ..Configuration::default() }, orrery::main).unwrap()
    });
    thread::sleep(Duration::from_millis(5));
    writer.write_all(b"bytes").unwrap();
    writer.write_all(b"bytes").unwrap();
    drop(writer);
    assert_eq!(machine.join().unwrap(), 5);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    // Which of the two reads what, and whether the child comes to write it, is chance.
    assert!("bytesbytes".starts_with(&text), "{text}");
}

#[test]
fn a_machine_leaves_no_thread_no_descriptor_and_no_process_behind() {
    once();
    settle(inventory(), 1);
    let before = inventory();
    for _ in 0..20 {
        once();
    }
    settle(before, 20);
}

/// Threads that were told to end may still be at it.
fn settle(expected: [usize; 3], machines: usize) {
    let late = Instant::now() + Duration::from_secs(60);
    while inventory().iter().zip(expected).any(|(now, before)| *now > before) {
        assert!(Instant::now() < late, "after {machines} machines {:?} instead of {expected:?}", inventory());
        thread::sleep(Duration::from_millis(5));
    }
}
