//! Whole machines in this process, each started for one small program: its standard streams, its terminal, its status.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod code;

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use abi::Errno;
use abi::raw::{general as raw, ioctl};
use launch::archive::Archive;
use machine::device::Program;
use machine::host::{Configuration, Console, Devices, StandardStream, Terminal, run};

use code::{BUFFER, Code, ROOM};

#[global_allocator]
static HEAP: machine::host::HostHeap = machine::host::HostHeap;

/// What is asked of a machine beside running a program at `/program`.
#[derive(Default)]
struct Setup {
    input: StandardStream,
    output: StandardStream,
    errors: StandardStream,
    terminal: Option<Terminal>,
    cpus: usize,
    folder: &'static str,
}

fn devices(code: Code, setup: Setup) -> Devices {
    let mut archive = Archive::default();
    archive.file("program", 0o755, code.file());
    archive.file("text", 0o644, "no program");
    archive.file("work/here", 0o644, "found");
    let Setup { input, output, errors, terminal, folder, .. } = setup;
    Devices {
        initramfs: Some(archive.bytes()),
        program: Some(Program {
            path: b"/program".to_vec(),
            arguments: vec![b"program".to_vec()],
            environment: Vec::new(),
            working_directory: folder.into(),
        }),
        console: Console { terminal, streams: [input, output, errors] },
        ..Devices::default()
    }
}

/// Runs a machine to its end.
fn finish(devices: Devices, cpus: usize) -> u8 {
    let configuration = Configuration { cpus: cpus.max(1), memory: 32 << 20, devices, ..Configuration::default() };
    run(configuration, orrery::main).unwrap()
}

/// Runs a program to its end, and gives its status.
fn status(code: Code, setup: Setup) -> u8 {
    let cpus = setup.cpus;
    finish(devices(code, setup), cpus)
}

/// Lets a program run.
fn start(code: Code, setup: Setup) -> JoinHandle<u8> {
    thread::spawn(move || status(code, setup))
}

fn host(file: impl Into<OwnedFd>) -> StandardStream {
    StandardStream::Host(file.into())
}

fn from_pipe() -> (PipeWriter, StandardStream) {
    let (reader, writer) = pipe().unwrap();
    (writer, host(reader))
}

fn to_pipe() -> (PipeReader, StandardStream) {
    let (reader, writer) = pipe().unwrap();
    (reader, host(writer))
}

/// What arrives until the end.
fn rest(mut reader: PipeReader) -> Vec<u8> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    all
}

const READ: u32 = raw::__NR_read;
const WRITE: u32 = raw::__NR_write;

/// Copies its input to its output.
fn cat() -> Code {
    let code = Code::default();
    let again = code.here();
    code.call(READ, [0, BUFFER, 50_000]).call_with_result(WRITE, [1, BUFFER]).jump_if_positive(again).exit()
}

/// Writes without end, as long as that goes well.
fn write_for_ever(code: Code) -> Code {
    let again = code.here();
    code.call(WRITE, [1, BUFFER, 3000]).jump_if_positive(again).exit()
}

/// The status of a program that ends with this error.
fn error(errno: Errno) -> u8 {
    (256 - errno.number()) as u8
}

#[test]
fn bytes_pass_as_they_are_both_ways() {
    for cpus in [1, 2] {
        let (mut writer, input) = from_pipe();
        let (reader, output) = to_pipe();
        let machine = start(cat(), Setup { input, output, cpus, ..Setup::default() });
        let bytes: Vec<u8> = (0..3_000_000_usize).map(|index| (index * 31 % 253) as u8).collect();
        let sent = bytes.clone();
        let writing = thread::spawn(move || writer.write_all(&sent).unwrap());
        assert!(rest(reader) == bytes);
        writing.join().unwrap();
        assert_eq!(machine.join().unwrap(), 0);
    }
}

#[test]
fn what_was_written_arrives_though_the_program_is_gone() {
    let (reader, output) = to_pipe();
    let code = Code::default().call(WRITE, [1, BUFFER, 100_000]).call(raw::__NR_exit_group, [3]);
    let machine = start(code, Setup { output, ..Setup::default() });
    thread::sleep(Duration::from_millis(100));
    assert!(!machine.is_finished(), "a pipe holds less");
    assert_eq!(rest(reader).len(), 100_000);
    assert_eq!(machine.join().unwrap(), 3);
}

#[test]
fn a_reader_that_goes_is_a_broken_pipe() {
    let (reader, output) = to_pipe();
    let machine = start(write_for_ever(Code::default()), Setup { output, ..Setup::default() });
    thread::sleep(Duration::from_millis(30));
    drop(reader);
    assert_eq!(machine.join().unwrap(), 128 + raw::SIGPIPE as u8);

    let (reader, output) = to_pipe();
    drop(reader);
    let (code, action) = Code::default().data(&[1, 0, 0, 0, 0, 0, 0, 0].into_iter().chain([0; 24]).collect::<Vec<_>>());
    let ignores = code.call(raw::__NR_rt_sigaction, [raw::SIGPIPE.into(), action, 0, 8]);
    assert_eq!(status(write_for_ever(ignores), Setup { output, ..Setup::default() }), error(Errno::EPIPE));
}

#[test]
fn the_two_outputs_keep_their_order_in_one_pipe() {
    let (reader, writer) = pipe().unwrap();
    let (mut code, text) = Code::default().data(b"oe");
    for _ in 0..100 {
        code = code.call(WRITE, [1, text, 1]).call(WRITE, [2, text + 1, 1]);
    }
    let errors = host(writer.try_clone().unwrap());
    let machine =
        start(code.call(READ, [0, BUFFER, 1]).exit(), Setup { output: host(writer), errors, ..Setup::default() });
    assert_eq!(rest(reader), b"oe".repeat(100));
    assert_eq!(machine.join().unwrap(), 0, "and input there is not is at its end");
}

#[test]
fn input_is_waited_for_unless_it_may_not_be() {
    let (mut writer, input) = from_pipe();
    let machine = start(Code::default().call(READ, [0, BUFFER, 10]).exit(), Setup { input, ..Setup::default() });
    thread::sleep(Duration::from_millis(50));
    assert!(!machine.is_finished());
    writer.write_all(b"four").unwrap();
    assert_eq!(machine.join().unwrap(), 4);

    let (_writer, input) = from_pipe();
    let flags = u64::from(raw::O_NONBLOCK);
    let code = Code::default().call(raw::__NR_fcntl, [0, raw::F_SETFL.into(), flags]).call(READ, [0, BUFFER, 10]);
    assert_eq!(status(code.exit(), Setup { input, ..Setup::default() }), error(Errno::EAGAIN));
}

/// Waits for any of `events` on descriptor 0 or 1, and ends with what came.
fn poll(descriptor: u8, events: u32) -> Code {
    let (code, entry) = Code::default().data(&[descriptor, 0, 0, 0, events as u8, 0, 0, 0]);
    code.call(raw::__NR_poll, [entry, 1, 10_000]).exit_with_byte_at(entry + 6)
}

#[test]
fn poll_tells_what_a_pipe_would() {
    let (mut writer, input) = from_pipe();
    let machine = start(poll(0, raw::POLLIN), Setup { input, ..Setup::default() });
    thread::sleep(Duration::from_millis(50));
    assert!(!machine.is_finished());
    writer.write_all(b"!").unwrap();
    assert_eq!(u32::from(machine.join().unwrap()), raw::POLLIN);

    let (writer, input) = from_pipe();
    let machine = start(poll(0, raw::POLLIN), Setup { input, ..Setup::default() });
    thread::sleep(Duration::from_millis(50));
    drop(writer);
    assert_eq!(u32::from(machine.join().unwrap()), raw::POLLHUP);

    let (reader, output) = to_pipe();
    assert_eq!(u32::from(status(poll(1, raw::POLLOUT), Setup { output, ..Setup::default() })), raw::POLLOUT);
    drop(reader);

    let (reader, output) = to_pipe();
    let machine = start(poll(1, 0), Setup { output, ..Setup::default() });
    thread::sleep(Duration::from_millis(50));
    assert!(!machine.is_finished());
    drop(reader);
    assert_eq!(u32::from(machine.join().unwrap()), raw::POLLERR, "as tail -f wants to know");
}

#[test]
fn a_stream_is_a_pipe_to_look_at() {
    let (_writer, input) = from_pipe();
    const MODE: u64 = 24;
    let code = Code::default().call(raw::__NR_fstat, [0, BUFFER]).exit_with_byte_at(BUFFER + MODE + 1);
    assert_eq!(u32::from(status(code, Setup { input, ..Setup::default() })) << 8 & raw::S_IFMT, raw::S_IFIFO);
    let (_writer, input) = from_pipe();
    let code = Code::default().call(raw::__NR_lseek, [0, 0, 0]).exit();
    assert_eq!(status(code, Setup { input, ..Setup::default() }), error(Errno::ESPIPE));
}

#[test]
fn a_stream_can_be_opened_by_its_name() {
    let (reader, output) = to_pipe();
    let (code, name) = Code::default().data(b"/dev/stdout\0");
    let (code, text) = code.data(b"by name\n");
    let code = code.call(raw::__NR_open, [name, raw::O_WRONLY.into()]).call(WRITE, [3, text, 8]).exit();
    let machine = start(code, Setup { output, ..Setup::default() });
    assert_eq!(rest(reader), b"by name\n");
    assert_eq!(machine.join().unwrap(), 8);
}

#[test]
fn descriptors_without_a_stream_are_dev_null() {
    let code = Code::default().call(WRITE, [2, BUFFER, 7]).exit();
    assert_eq!(status(code, Setup::default()), 7);
    assert_eq!(status(cat(), Setup::default()), 0);
}

/// Opens a file, and ends with what that gave.
fn probe(path: &str) -> Code {
    let (code, name) = Code::default().data(format!("{path}\0").as_bytes());
    code.call(raw::__NR_open, [name, 0]).exit()
}

#[test]
fn a_program_finds_the_usual_places() {
    for path in ["/proc/self/status", "/dev/null", "/dev/pts/ptmx", "/dev/shm", "/tmp", "/etc", "/root", "/program"] {
        assert_eq!(status(probe(path), Setup::default()), 3, "{path}");
    }
    let code = Code::default().call(raw::__NR_getpid, []).exit();
    assert_eq!(status(code, Setup::default()), 1);
    let code = Code::default().call(raw::__NR_getsid, [0]).exit();
    assert_eq!(status(code, Setup::default()), 1, "it leads a session");
}

#[test]
fn it_starts_where_it_was_told() {
    assert_eq!(status(probe("here"), Setup { folder: "/work", ..Setup::default() }), 3);
    assert_eq!(status(probe("here"), Setup::default()), error(Errno::ENOENT));
    assert_eq!(status(probe("here"), Setup { folder: "/nowhere", ..Setup::default() }), 125);
}

#[test]
fn what_cannot_be_executed_has_a_shell_s_status() {
    for (path, expected) in [("/nothing", 127), ("/text", 126), ("/work", 126)] {
        let mut devices = devices(cat(), Setup::default());
        devices.program.as_mut().unwrap().path = path.into();
        assert_eq!(finish(devices, 1), expected, "{path}");
    }
}

#[test]
fn a_signal_s_number_is_in_the_status() {
    let code = Code::default().call(raw::__NR_kill, [1, raw::SIGTERM.into()]);
    let forever = code.here();
    assert_eq!(status(code.jump(forever), Setup::default()), 128 + raw::SIGTERM as u8);
}

/// A terminal of the host, and who sits at it.
fn terminal() -> (OwnedFd, Terminal, PipeWriter) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let seat = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&seat).unwrap();
    unlockpt(&seat).unwrap();
    let name = ptsname(&seat, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    let mut settings = rustix::termios::tcgetattr(&terminal).unwrap();
    settings.make_raw();
    rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Now, &settings).unwrap();
    resize(&seat, 33);
    let (resized, handler) = pipe().unwrap();
    let output = terminal.try_clone().unwrap();
    (seat, Terminal { input: terminal, output, resized: Some(resized.into()) }, handler)
}

fn resize(seat: &OwnedFd, rows: u16) {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(seat, size).unwrap();
}

/// Reads what is shown until it ends in `expected`.
fn see(seat: &OwnedFd, expected: &[u8]) {
    let mut shown = Vec::new();
    let late = Instant::now() + Duration::from_secs(60);
    while !shown.ends_with(expected) {
        assert!(Instant::now() < late, "{:?}", String::from_utf8_lossy(&shown));
        let mut bytes = [0; 64];
        let count = rustix::io::read(seat, &mut bytes).unwrap();
        shown.extend_from_slice(&bytes[..count]);
    }
}

fn at_terminal(terminal: Terminal) -> Setup {
    let [input, output, errors] = [(); 3].map(|()| StandardStream::Terminal);
    Setup { input, output, errors, terminal: Some(terminal), ..Setup::default() }
}

#[test]
fn a_terminal_edits_echoes_and_ends_lines() {
    let (seat, terminal, _handler) = terminal();
    let (code, prompt) = Code::default().data(b"> \n");
    let code = code.call(WRITE, [1, prompt, 3]).call(READ, [0, BUFFER, ROOM]).call_with_result(WRITE, [2, BUFFER]);
    let machine = start(code.exit(), at_terminal(terminal));
    see(&seat, b"> \r\n");
    rustix::io::write(&seat, b"helo\x7flo\r").unwrap();
    see(&seat, b"hello\r\n");
    assert_eq!(machine.join().unwrap(), 6);
}

#[test]
fn keys_send_signals_and_a_hang_up_ends_the_session() {
    let waiting = || Code::default().call(WRITE, [1, BUFFER, 1]).call(raw::__NR_pause, []).exit();
    let (seat, at, _handler) = terminal();
    let machine = start(waiting(), at_terminal(at));
    see(&seat, b"\0");
    rustix::io::write(&seat, b"\x03").unwrap();
    assert_eq!(machine.join().unwrap(), 128 + raw::SIGINT as u8);

    let (seat, at, _handler) = terminal();
    let machine = start(waiting(), at_terminal(at));
    see(&seat, b"\0");
    drop(seat);
    assert_eq!(machine.join().unwrap(), 128 + raw::SIGHUP as u8);
}

#[test]
fn the_window_s_size_is_known_and_follows() {
    let (seat, at, mut handler) = terminal();
    let ask = |code: Code| code.call(raw::__NR_ioctl, [0, ioctl::TIOCGWINSZ.into(), BUFFER]);
    let code = ask(Code::default()).call(WRITE, [1, BUFFER, 1]);
    // A line by the keyboard says when to look again; the change was announced before.
    let code = ask(code.call(READ, [0, BUFFER + 100, 1])).exit_with_byte_at(BUFFER);
    let machine = start(code, at_terminal(at));
    see(&seat, &[33]);
    resize(&seat, 44);
    handler.write_all(b"!").unwrap();
    thread::sleep(Duration::from_millis(50));
    rustix::io::write(&seat, b"\r").unwrap();
    assert_eq!(machine.join().unwrap(), 44);
}

#[test]
fn the_controlling_terminal_is_there_though_input_is_a_pipe() {
    let (seat, at, _handler) = terminal();
    let (_writer, input) = from_pipe();
    let (code, name) = Code::default().data(b"/dev/tty\0");
    let code = code.call(raw::__NR_open, [name, raw::O_RDWR.into()]).call(WRITE, [3, name, 8]).exit();
    let machine = start(code, Setup { input, ..at_terminal(at) });
    see(&seat, b"/dev/tty");
    assert_eq!(machine.join().unwrap(), 8);
}
