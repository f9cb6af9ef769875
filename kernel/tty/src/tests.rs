//! Terminals with a line and processes made up for the test.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use abi::raw::ioctl as request;
use abi::terminal::{ControlCharacter, InputFlags, LocalFlags, Termios, WindowSize};
use abi::{Errno, Pid, raw::general as raw};
use memory::{AddressSpace, Destination, Source};
use vfs::{Caller, Device, DeviceNumber, File, NotReady, OpenFlags, OpenRequest, Operation, PollEvents, Vfs};

use crate::*;

/// The machine's frames, of which a host process has one set.
static MEMORY: LazyLock<Arc<memory::Memory>> = LazyLock::new(|| memory::Memory::new().unwrap());

/// A line that fetches when told, or is jammed.
#[derive(Default)]
struct Wire {
    terminal: Mutex<Weak<Terminal>>,
    sent: Mutex<Vec<u8>>,
    jammed: Mutex<bool>,
    room_again: Mutex<usize>,
    breaks: Mutex<Vec<bool>>,
    speed: Mutex<u32>,
}

impl Line for Wire {
    fn output_ready(&self) {
        let Some(terminal) = self.terminal.lock().unwrap().upgrade() else { return };
        let mut buffer = [0; 16];
        while !*self.jammed.lock().unwrap() {
            match terminal.fetch_output(&mut buffer) {
                0 => break,
                count => self.sent.lock().unwrap().extend_from_slice(&buffer[..count]),
            }
        }
        terminal.output_fetched();
    }
    fn input_room(&self) {
        *self.room_again.lock().unwrap() += 1;
    }
    fn configure(&self, termios: &Termios) {
        *self.speed.lock().unwrap() = termios.named_speed().unwrap_or(0);
    }
    fn set_break(&self, on: bool) {
        self.breaks.lock().unwrap().push(on);
    }
}

/// Processes: 10 leads session 10 and is a shell; 20 and 30 are jobs of it; 40 leads session 40.
#[derive(Default)]
struct Processes {
    members: Mutex<HashMap<u32, Member>>,
    terminals: Mutex<HashMap<u32, Arc<Terminal>>>,
    signals: Mutex<Vec<(u32, TerminalSignal)>>,
    ignored: Mutex<Vec<TerminalSignal>>,
    orphaned: Mutex<Vec<u32>>,
    administrator: Mutex<bool>,
}

impl JobControl for Processes {
    fn member(&self, process: Pid) -> Option<Member> {
        self.members.lock().unwrap().get(&process.index()).copied()
    }
    fn blocks_or_ignores(&self, _thread: Pid, signal: TerminalSignal) -> bool {
        self.ignored.lock().unwrap().contains(&signal)
    }
    fn is_administrator(&self, _thread: Pid) -> bool {
        *self.administrator.lock().unwrap()
    }
    fn controlling_terminal(&self, session: Pid) -> Option<Arc<Terminal>> {
        self.terminals.lock().unwrap().get(&session.index()).cloned()
    }
    fn set_controlling_terminal(&self, session: Pid, terminal: Option<Arc<Terminal>>) {
        let mut terminals = self.terminals.lock().unwrap();
        match terminal {
            Some(terminal) => drop(terminals.insert(session.index(), terminal)),
            None => drop(terminals.remove(&session.index())),
        }
    }
    fn session_of_group(&self, group: Pid) -> Option<Pid> {
        let members = self.members.lock().unwrap();
        members.values().find(|member| member.group == group).map(|member| member.session)
    }
    fn is_orphaned(&self, group: Pid) -> bool {
        self.orphaned.lock().unwrap().contains(&group.index())
    }
    fn signal_group(&self, group: Pid, signal: TerminalSignal) {
        self.signals.lock().unwrap().push((group.index(), signal));
    }
    fn signal_leader(&self, session: Pid, signal: TerminalSignal) {
        self.signals.lock().unwrap().push((session.index(), signal));
    }
}

#[derive(Default)]
struct Clock(Mutex<Vec<u64>>);

impl Alarms for Clock {
    fn wake_at(&self, deadline: u64, _terminal: Weak<Terminal>) {
        self.0.lock().unwrap().push(deadline);
    }
}

struct Bench {
    wire: Arc<Wire>,
    processes: Arc<Processes>,
    clock: Arc<Clock>,
    terminal: Arc<Terminal>,
    kernel_files: Arc<Vfs>,
}

/// A process of the bench with a page of memory for the arguments of ioctls.
struct Program {
    id: u32,
    space: Arc<AddressSpace>,
    page: usize,
    kernel_files: Arc<Vfs>,
}

impl Caller for Program {
    fn process(&self) -> Pid {
        Pid::new(self.id)
    }
    fn broken_pipe(&self) {}
    fn memory(&self) -> Option<&AddressSpace> {
        Some(&self.space)
    }
    fn vfs(&self) -> &Vfs {
        &self.kernel_files
    }
}

impl Program {
    fn ioctl(&self, file: &Arc<dyn File>, number: u32, argument: usize) -> Result<usize, NotReady> {
        loop {
            match file.ioctl(number, argument, self) {
                Err(NotReady::Fault(fault)) => ready((self as &dyn Caller).fault_in(fault)).map_err(NotReady::Error)?,
                outcome => return outcome,
            }
        }
    }

    /// An ioctl that passes a value in and gives what stands there afterwards.
    fn exchange<T>(&self, file: &Arc<dyn File>, number: u32, value: T) -> Result<T, NotReady>
    where
        T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
    {
        ready(self.space.write_value(self.page, &value)).unwrap();
        self.ioctl(file, number, self.page)?;
        Ok(ready(self.space.read_value(self.page)).unwrap())
    }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

impl Bench {
    fn new() -> Bench {
        let (wire, processes, clock) =
            (Arc::new(Wire::default()), Arc::new(Processes::default()), Arc::new(Clock::default()));
        for (process, session) in [(10, 10), (20, 10), (30, 10), (40, 40)] {
            let place = Member { process: Pid::new(process), group: Pid::new(process), session: Pid::new(session) };
            processes.members.lock().unwrap().insert(process, place);
        }
        let number = DeviceNumber { major: 4, minor: 64 };
        let terminal =
            Terminal::new(number, "ttyS0", Termios::default(), wire.clone(), processes.clone(), clock.clone());
        *wire.terminal.lock().unwrap() = Arc::downgrade(&terminal);
        Bench { wire, processes, clock, terminal, kernel_files: Vfs::new(1) }
    }

    fn program(&self, id: u32) -> Program {
        let none = u64::MAX;
        let limits = memory::Limits { address_space: none, data: none, stack: none, locked: none };
        let space = AddressSpace::new(&MEMORY, limits, 1).unwrap();
        let page = space.map(&memory::MapRequest {
            address: 0,
            length: 4096,
            protection: abi::memory::Protection::READ | abi::memory::Protection::WRITE,
            flags: abi::memory::MapFlags::PRIVATE | abi::memory::MapFlags::ANONYMOUS,
            backing: memory::Backing::Anonymous,
        });
        Program { id, space, page: page.unwrap(), kernel_files: self.kernel_files.clone() }
    }

    fn open(&self, program: &Program, flags: OpenFlags) -> Arc<dyn File> {
        self.terminal.open(&OpenRequest { flags, caller: program }, false).unwrap()
    }

    /// A shell with the terminal as its controlling one.
    fn shell(&self) -> (Program, Arc<dyn File>) {
        let shell = self.program(10);
        let file = self.open(&shell, OpenFlags::READ_WRITE);
        (shell, file)
    }

    fn keys(&self, keys: &str) {
        let received: Vec<_> = keys.bytes().map(Received::Byte).collect();
        assert_eq!(self.terminal.receive(&received), received.len());
    }

    fn sent(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.wire.sent.lock().unwrap())).unwrap()
    }

    fn signals(&self) -> Vec<(u32, TerminalSignal)> {
        std::mem::take(&mut *self.processes.signals.lock().unwrap())
    }
}

fn read(file: &Arc<dyn File>, program: &Program, length: usize) -> Result<String, NotReady> {
    file.admit(Operation::Read, program)?;
    let mut bytes = vec![0; length];
    let count = file.read(0, &mut Destination::kernel(&mut bytes))?;
    Ok(String::from_utf8(bytes[..count].to_vec()).unwrap())
}

fn write(file: &Arc<dyn File>, program: &Program, text: &str) -> Result<usize, NotReady> {
    file.admit(Operation::Write, program)?;
    file.write(0, &mut Source::kernel(text.as_bytes()))
}

#[test]
fn a_shell_reads_a_line_and_writes_an_answer() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    assert_eq!(read(&file, &shell, 100), Err(NotReady::WouldBlock));
    bench.keys("echo\r");
    assert_eq!(bench.sent(), "echo\r\n", "echo goes out although nobody reads");
    assert_eq!(file.poll(), PollEvents::READABLE | PollEvents::WRITABLE);
    assert_eq!(read(&file, &shell, 100).unwrap(), "echo\n");
    assert_eq!(write(&file, &shell, "hello\n"), Ok(6));
    assert_eq!(bench.sent(), "hello\r\n");
    assert_eq!(read(&file, &shell, 0).unwrap(), "");
}

#[test]
fn keys_signal_the_foreground_group_though_nobody_reads() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    bench.keys("\x03");
    assert_eq!(bench.signals(), [(10, TerminalSignal::Interrupt)]);
    assert_eq!(shell.exchange(&file, request::TIOCSPGRP, 20u32), Ok(20));
    assert_eq!(shell.exchange(&file, request::TIOCGPGRP, 0u32), Ok(20));
    bench.keys("\x1a\x1c");
    assert_eq!(bench.signals(), [(20, TerminalSignal::Quit), (20, TerminalSignal::Suspend)]);
    assert_eq!(bench.terminal.foreground_group(), Some(Pid::new(20)));
}

#[test]
fn the_background_is_kept_from_reading_and_changing() {
    let bench = Bench::new();
    let (_shell, file) = bench.shell();
    let job = bench.program(20);
    bench.keys("x\n");
    assert_eq!(read(&file, &job, 10), Err(NotReady::Signalled));
    assert_eq!(bench.signals(), [(20, TerminalSignal::BackgroundRead)]);
    assert_eq!(write(&file, &job, "free to write\n"), Ok(14), "without TOSTOP");
    assert_eq!(job.exchange(&file, request::TCSETS, Termios::default()), Err(NotReady::Signalled));
    assert_eq!(bench.signals(), [(20, TerminalSignal::BackgroundWrite)]);
    assert_eq!(job.exchange(&file, request::TIOCSPGRP, 20u32), Err(NotReady::Signalled));
    bench.signals();

    let mut termios = bench.terminal.termios();
    termios.c_lflag |= LocalFlags::TOSTOP.bits();
    bench.terminal.set_termios(termios, 9600);
    assert_eq!(write(&file, &job, "no"), Err(NotReady::Signalled));
    assert_eq!(bench.signals(), [(20, TerminalSignal::BackgroundWrite)]);

    // Who ignores the signals may write and change, but reads only get an error.
    *bench.processes.ignored.lock().unwrap() = vec![TerminalSignal::BackgroundRead, TerminalSignal::BackgroundWrite];
    assert_eq!(write(&file, &job, "yes"), Ok(3));
    assert_eq!(job.exchange(&file, request::TCSETS, termios), Ok(termios));
    assert_eq!(read(&file, &job, 10), Err(Errno::EIO.into()));
    // Nobody could continue an orphan.
    bench.processes.ignored.lock().unwrap().clear();
    bench.processes.orphaned.lock().unwrap().push(20);
    assert_eq!(read(&file, &job, 10), Err(Errno::EIO.into()));
    assert_eq!(job.exchange(&file, request::TIOCSPGRP, 20u32), Err(Errno::ENOTTY.into()));
    assert_eq!(bench.signals(), []);
}

#[test]
fn the_console_device_is_no_matter_of_job_control() {
    let bench = Bench::new();
    let (_shell, _file) = bench.shell();
    let job = bench.program(20);
    let console = ConsoleDevice(bench.terminal.clone());
    let open = OpenRequest { flags: OpenFlags::READ_WRITE, caller: &job };
    let file = console.open(DeviceNumber { major: 5, minor: 1 }, &open).unwrap();
    assert_eq!(read(&file, &job, 10), Err(NotReady::WouldBlock));
    assert_eq!(bench.signals(), []);
    bench.terminal.hang_up();
    assert_eq!(write(&file, &job, "still here"), Ok(10), "hanging up does not silence init");
    assert_eq!(file.poll(), PollEvents::WRITABLE);
}

#[test]
fn only_a_leader_without_terminal_acquires_one() {
    let bench = Bench::new();
    let device = TerminalDevice(bench.terminal.clone());
    let open = |program: &Program, flags| {
        device.open(DeviceNumber::default(), &OpenRequest { flags, caller: program }).unwrap()
    };
    let (shell, job, other) = (bench.program(10), bench.program(20), bench.program(40));
    let current = ControllingTerminalDevice(bench.processes.clone());
    let request = OpenRequest { flags: OpenFlags::READ_WRITE, caller: &job };
    assert_eq!(current.open(DeviceNumber::default(), &request).err(), Some(Errno::ENXIO));
    let _files = [
        open(&job, OpenFlags::READ_WRITE),
        open(&shell, OpenFlags::READ_WRITE | OpenFlags::NO_CONTROLLING_TERMINAL),
        open(&shell, OpenFlags::WRITE_ONLY),
    ];
    assert_eq!(bench.terminal.session(), None);
    let file = open(&shell, OpenFlags::READ_WRITE);
    assert_eq!((bench.terminal.session(), bench.terminal.foreground_group()), (Some(Pid::new(10)), Some(Pid::new(10))));
    assert!(current.open(DeviceNumber::default(), &request).is_ok());

    let theirs = open(&other, OpenFlags::READ_WRITE);
    assert_eq!(bench.terminal.session(), Some(Pid::new(10)), "it has a session");
    assert_eq!(other.exchange(&theirs, request::TIOCGPGRP, 0u32), Err(Errno::ENOTTY.into()));
    assert_eq!(other.ioctl(&theirs, request::TIOCSCTTY, 1), Err(Errno::EPERM.into()));
    *bench.processes.administrator.lock().unwrap() = true;
    assert_eq!(other.ioctl(&theirs, request::TIOCSCTTY, 1), Ok(0), "an administrator steals it");
    assert_eq!(bench.terminal.session(), Some(Pid::new(40)));
    assert!(bench.processes.controlling_terminal(Pid::new(10)).is_none());
    assert_eq!(shell.exchange(&file, request::TIOCGSID, 0u32), Err(Errno::ENOTTY.into()));
    assert_eq!(other.exchange(&theirs, request::TIOCGSID, 0u32), Ok(40));
    assert_eq!(other.exchange(&theirs, request::TIOCSPGRP, 20u32), Err(Errno::EPERM.into()));
    assert_eq!(other.exchange(&theirs, request::TIOCSPGRP, 999u32), Err(Errno::ESRCH.into()));
    assert_eq!(other.exchange(&theirs, request::TIOCSPGRP, -1i32), Err(Errno::EINVAL.into()));
}

#[test]
fn the_last_close_ends_the_session_s_hold() {
    let bench = Bench::new();
    let (_shell, file) = bench.shell();
    bench.keys("typed ahead\n");
    drop(file);
    assert_eq!((bench.terminal.session(), bench.terminal.foreground_group()), (None, None));
    assert!(bench.processes.controlling_terminal(Pid::new(10)).is_none());
    let (shell, file) = bench.shell();
    assert_eq!(read(&file, &shell, 100), Err(NotReady::WouldBlock));
}

#[test]
fn a_leader_s_exit_hangs_the_terminal_up() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    shell.exchange(&file, request::TIOCSPGRP, 20u32).unwrap();
    bench.terminal.leave_session(Pid::new(99), true);
    assert_eq!(bench.signals(), [], "not its session");
    bench.terminal.leave_session(Pid::new(10), true);
    let expected = [
        (10, TerminalSignal::Hangup),
        (10, TerminalSignal::Continue),
        (20, TerminalSignal::Hangup),
        (20, TerminalSignal::Continue),
    ];
    assert_eq!(bench.signals(), expected);
    assert!(bench.processes.controlling_terminal(Pid::new(10)).is_none());
    assert_eq!(read(&file, &shell, 10).unwrap(), "", "files of before read as ended");
    assert_eq!(write(&file, &shell, "x"), Err(Errno::EIO.into()));
    assert!(file.poll().contains(PollEvents::HANG_UP));
    assert_eq!(shell.exchange(&file, request::TCGETS, Termios::default()), Err(Errno::EIO.into()));
    let fresh = bench.open(&bench.program(40), OpenFlags::READ_WRITE);
    assert_eq!(bench.terminal.session(), Some(Pid::new(40)));
    assert_eq!(fresh.poll(), PollEvents::WRITABLE);
}

/// Writes, and goes on where the file let others run.
fn go_on(file: &dyn File, source: &mut Source<'_>) -> Result<usize, NotReady> {
    loop {
        match file.write(0, source) {
            Err(NotReady::Yield) => {}
            result => return result,
        }
    }
}

#[test]
fn a_long_write_lets_others_run() {
    let bench = Bench::new();
    let leader = bench.program(40);
    let (_all, master, slave) = pair(&bench, &leader);
    // A full line takes byte after byte, each in the place of the last.
    let line = "x".repeat(32 << 10);
    let (mut source, mut turns) = (Source::kernel(line.as_bytes()), 0);
    while source.remaining() > 0 {
        match master.write(0, &mut source) {
            Err(NotReady::Yield) => turns += 1,
            result => assert!(result.is_ok() || !drain(&master).is_empty(), "{result:?}"),
        }
    }
    assert!(turns > 2, "{turns}");
    // And what a program shows, where everything is taken at once.
    let (shell, file) = bench.shell();
    let text = line.repeat(32);
    let (mut source, mut turns) = (Source::kernel(text.as_bytes()), 0);
    file.admit(Operation::Write, &shell).unwrap();
    while source.remaining() > 0 {
        match file.write(0, &mut source) {
            Err(NotReady::Yield) => turns += 1,
            result => drop(result.unwrap()),
        }
    }
    assert!(turns > 2, "{turns}");
    drop(slave);
}

/// What the slave shows is read from the master.
fn drain(master: &Arc<dyn File>) -> Vec<u8> {
    let mut bytes = vec![0; 65536];
    let mut destination = Destination::kernel(&mut bytes);
    let _ = master.read(0, &mut destination);
    let length = destination.progress();
    bytes.truncate(length);
    bytes
}

#[test]
fn writing_waits_for_room_and_goes_on() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    *bench.wire.jammed.lock().unwrap() = true;
    let text = "0123456789".repeat(1000);
    let mut source = Source::kernel(text.as_bytes());
    file.admit(Operation::Write, &shell).unwrap();
    assert_eq!(go_on(&*file, &mut source), Err(NotReady::WouldBlock));
    let first = source.progress();
    assert!(first > 3000 && first < 4096, "{first}");
    assert_eq!(file.poll(), PollEvents::empty());
    assert_eq!(shell.exchange(&file, request::TIOCOUTQ, 0u32), Ok(first as u32));
    assert_eq!(shell.ioctl(&file, request::TCSBRK, 1), Err(NotReady::WouldBlock), "tcdrain");
    *bench.wire.jammed.lock().unwrap() = false;
    bench.wire.output_ready();
    while source.remaining() > 0 {
        go_on(&*file, &mut source).unwrap();
    }
    assert_eq!(bench.sent(), text);
    assert_eq!(shell.ioctl(&file, request::TCSBRK, 1), Ok(0));
}

#[test]
fn settings_are_read_back_and_reach_the_line() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    let mut termios = shell.exchange(&file, request::TCGETS, Termios::default()).unwrap();
    termios.c_lflag &= !(LocalFlags::ICANON | LocalFlags::ECHO).bits();
    termios.c_iflag |= InputFlags::from_bits_retain(1 << 20).bits();
    termios.set_speed(115_200);
    shell.exchange(&file, request::TCSETS, termios).unwrap();
    assert_eq!(shell.exchange(&file, request::TCGETS, Termios::default()), Ok(termios), "unknown bits too");
    assert_eq!(*bench.wire.speed.lock().unwrap(), 115_200);
    let empty = abi::terminal::Termios2 { termios: Termios::default(), c_ispeed: 0, c_ospeed: 0 };
    let second = shell.exchange(&file, request::TCGETS2, empty).unwrap();
    assert_eq!((second.termios, second.c_ospeed), (termios, 115_200));
    bench.keys("ab");
    assert_eq!(shell.exchange(&file, request::FIONREAD, 0u32), Ok(2));
    shell.exchange(&file, request::TCSETSF, termios).unwrap();
    assert_eq!(shell.exchange(&file, request::FIONREAD, 0u32), Ok(0), "TCSETSF forgets input");
    assert_eq!(shell.ioctl(&file, request::TCGETS, 8), Err(Errno::EFAULT.into()));
    assert_eq!(shell.ioctl(&file, 0x1234, 0), Err(Errno::ENOTTY.into()));
    assert_eq!(shell.ioctl(&file, request::TCFLSH, 7), Err(Errno::EINVAL.into()));
}

/// The three ways to set a terminal have two forms each, the second with speeds as numbers: all set the same, and the F forget
/// what was typed.
#[test]
fn settings_are_set_in_six_ways() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    let mut termios = shell.exchange(&file, request::TCGETS, Termios::default()).unwrap();
    termios.c_lflag &= !(LocalFlags::ICANON | LocalFlags::ECHO).bits();
    shell.exchange(&file, request::TCSETS, termios).unwrap();
    let ways = [
        (request::TCSETS, false, false),
        (request::TCSETSW, false, false),
        (request::TCSETSF, false, true),
        (request::TCSETS2, true, false),
        (request::TCSETSW2, true, false),
        (request::TCSETSF2, true, true),
    ];
    for (index, (number, second, forgets)) in ways.into_iter().enumerate() {
        // A character that nobody types tells them apart.
        termios.set_character(ControlCharacter::Kill, 0x80 + index as u8);
        bench.keys("ab");
        if second {
            let termios2 = abi::terminal::Termios2 { termios, c_ispeed: 9600, c_ospeed: 9600 };
            shell.exchange(&file, number, termios2).unwrap();
        } else {
            shell.exchange(&file, number, termios).unwrap();
        }
        let now = shell.exchange(&file, request::TCGETS, Termios::default()).unwrap();
        assert_eq!((now.c_cc, now.c_lflag), (termios.c_cc, termios.c_lflag), "{index}");
        let left = if forgets { 0 } else { 2 };
        assert_eq!(shell.exchange(&file, request::FIONREAD, 0u32), Ok(left), "{index}");
        shell.exchange(&file, request::TCSETSF, termios).unwrap();
    }
}

#[test]
fn a_new_window_size_is_announced_once() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    let size = WindowSize { rows: 24, columns: 80, pixels_wide: 0, pixels_high: 0 };
    shell.exchange(&file, request::TIOCSWINSZ, size).unwrap();
    assert_eq!(bench.signals(), [(10, TerminalSignal::WindowChange)]);
    bench.terminal.set_window_size(size);
    assert_eq!(bench.signals(), [], "it is the same");
    assert_eq!(shell.exchange(&file, request::TIOCGWINSZ, WindowSize::default()), Ok(size));
}

#[test]
fn timed_reads_ask_for_an_alarm_and_end_with_it() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    let mut termios = bench.terminal.termios();
    termios.c_lflag &= !LocalFlags::ICANON.bits();
    termios.set_character(ControlCharacter::Min, 0);
    termios.set_character(ControlCharacter::Time, 1);
    bench.terminal.set_termios(termios, 9600);
    file.admit(Operation::Read, &shell).unwrap();
    let mut bytes = [0; 10];
    let mut once = || file.read(0, &mut Destination::kernel(&mut bytes));
    assert_eq!(once(), Err(NotReady::WouldBlock));
    let deadline = bench.clock.0.lock().unwrap()[0];
    let now = machine::time::now();
    assert!(deadline > now && deadline <= now + 100_000_000);
    std::thread::sleep(std::time::Duration::from_nanos(deadline - now));
    assert_eq!(once(), Ok(0));
    file.flags_changed(OpenFlags::READ_WRITE | OpenFlags::NON_BLOCK);
    assert_eq!(read(&file, &shell, 10), Err(NotReady::WouldBlock));
    assert_eq!(bench.clock.0.lock().unwrap().len(), 1, "who does not wait needs no alarm");
}

#[test]
fn a_break_is_ended_by_the_alarm() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    assert_eq!(shell.ioctl(&file, request::TCSBRK, 0), Ok(0));
    bench.terminal.alarm();
    assert_eq!(*bench.wire.breaks.lock().unwrap(), [true], "not yet");
    let end = bench.clock.0.lock().unwrap()[0];
    std::thread::sleep(std::time::Duration::from_nanos(end.saturating_sub(machine::time::now())));
    bench.terminal.alarm();
    assert_eq!(*bench.wire.breaks.lock().unwrap(), [true, false]);
}

#[test]
fn a_line_without_room_hears_when_there_is_some() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    bench.keys(&"x\n".repeat(2047));
    assert_eq!(bench.terminal.input_room(), 1);
    bench.keys("\n");
    assert_eq!(bench.terminal.input_room(), 0);
    assert_eq!(bench.terminal.receive(&[Received::Byte(b'y')]), 0);
    assert_eq!(*bench.wire.room_again.lock().unwrap(), 0);
    read(&file, &shell, 10).unwrap();
    read(&file, &shell, 10).unwrap();
    assert_eq!(*bench.wire.room_again.lock().unwrap(), 1, "told once");
}

#[test]
fn an_exclusive_terminal_opens_for_administrators_only() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    assert_eq!(shell.ioctl(&file, request::TIOCEXCL, 0), Ok(0));
    let again = || bench.terminal.open(&OpenRequest { flags: OpenFlags::READ_WRITE, caller: &shell }, false).err();
    assert_eq!(again(), Some(Errno::EBUSY));
    *bench.processes.administrator.lock().unwrap() = true;
    assert_eq!(again(), None);
}

#[test]
fn messages_of_the_kernel_share_the_screen() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    bench.terminal.print(b"booted\n");
    write(&file, &shell, "$ ").unwrap();
    assert_eq!(bench.sent(), "booted\r\n$ ");
    *bench.wire.jammed.lock().unwrap() = true;
    bench.terminal.print(&[b'x'; 10_000]);
    assert!(bench.terminal.output_ready(), "a dead line takes no messages, and holds up nobody");
}

#[test]
fn waiters_are_woken_through_the_queue_of_their_interest() {
    let bench = Bench::new();
    let (shell, file) = bench.shell();
    let woken = |interest: PollEvents, happen: &dyn Fn()| {
        let queue = file.wait_queue(interest).unwrap();
        let mut listener = queue.listen();
        listener.register_with(Waker::noop()).unwrap();
        happen();
        listener.poll_woken(Waker::noop()).is_ready()
    };
    assert!(woken(PollEvents::READABLE, &|| bench.keys("a\n")));
    assert!(woken(PollEvents::all(), &|| bench.keys("b\n")));
    assert!(!woken(PollEvents::READABLE, &|| assert_eq!(write(&file, &shell, "x"), Ok(1))));
    assert!(woken(PollEvents::WRITABLE, &|| assert_eq!(
        shell.ioctl(&file, request::TCFLSH, raw::TCOFLUSH as usize),
        Ok(0)
    )));
}

/// A pair: its master, and the slave opened by a session leader.
fn pair(bench: &Bench, leader: &Program) -> (Arc<Pseudoterminals>, Arc<dyn File>, Arc<dyn File>) {
    let all = Pseudoterminals::new(bench.processes.clone(), bench.clock.clone());
    register_slaves(&all, &bench.kernel_files.devices).unwrap();
    let request = OpenRequest { flags: OpenFlags::READ_WRITE, caller: leader };
    let master = all.open(DeviceNumber { major: 5, minor: 2 }, &request).unwrap();
    let number = leader.exchange(&master, request::TIOCGPTN, 99u32).unwrap();
    let slave = || {
        let device = DeviceNumber { major: 136, minor: number };
        bench.kernel_files.devices.open(vfs::DeviceClass::Character, device, &request)
    };
    assert_eq!(slave().err(), Some(Errno::EIO), "it is locked");
    leader.exchange(&master, request::TIOCSPTLCK, 0u32).unwrap();
    let slave = slave().unwrap();
    (all, master, slave)
}

#[test]
fn what_is_typed_at_the_master_is_read_from_the_slave_and_back() {
    let bench = Bench::new();
    let leader = bench.program(40);
    let (_all, master, slave) = pair(&bench, &leader);
    assert_eq!(read(&master, &leader, 100), Err(NotReady::WouldBlock));
    assert_eq!(write(&master, &leader, "date\r"), Ok(5));
    assert_eq!(read(&master, &leader, 3).unwrap(), "dat");
    assert!(master.poll().contains(PollEvents::READABLE), "bytes set aside count");
    assert_eq!(read(&master, &leader, 100).unwrap(), "e\r\n");
    assert_eq!(read(&slave, &leader, 100).unwrap(), "date\n");
    assert_eq!(write(&slave, &leader, &"x".repeat(3000)), Ok(3000));
    assert_eq!(read(&master, &leader, 5000).unwrap().len(), 3000);
    assert_eq!(write(&master, &leader, "\x03"), Ok(1));
    assert_eq!(bench.signals(), [(40, TerminalSignal::Interrupt)], "the slave became the leader's terminal");
    let size = WindowSize { rows: 50, columns: 132, pixels_wide: 0, pixels_high: 0 };
    leader.exchange(&master, request::TIOCSWINSZ, size).unwrap();
    assert_eq!(leader.exchange(&slave, request::TIOCGWINSZ, WindowSize::default()), Ok(size));
}

#[test]
fn either_side_notices_when_the_other_closes() {
    let bench = Bench::new();
    let leader = bench.program(40);
    let (all, master, slave) = pair(&bench, &leader);
    write(&slave, &leader, "last words").unwrap();
    drop(slave);
    assert!(master.poll().contains(PollEvents::HANG_UP | PollEvents::READABLE));
    assert_eq!(read(&master, &leader, 100).unwrap(), "last words");
    assert_eq!(read(&master, &leader, 100), Err(Errno::EIO.into()));
    drop(master);
    assert_eq!(all.next(0), None, "the number is free again");

    let bench = Bench::new();
    let leader = bench.program(40);
    let (all, master, slave) = pair(&bench, &leader);
    drop(master);
    assert_eq!(bench.signals()[0], (40, TerminalSignal::Hangup));
    assert_eq!(read(&slave, &leader, 100).unwrap(), "");
    assert_eq!(write(&slave, &leader, "x"), Err(Errno::EIO.into()));
    assert_eq!(all.next(0), None, "its name has vanished");
}

/// A writer may be on its way when the master closes: nothing of what it adds waits for a reader who will never come.
#[test]
fn what_is_shown_after_the_master_has_closed_is_dropped() {
    let bench = Bench::new();
    let leader = bench.program(40);
    let (_all, master, _slave) = pair(&bench, &leader);
    let terminal = bench.processes.controlling_terminal(Pid::new(40)).unwrap();
    terminal.print(b"early");
    assert_eq!(read(&master, &leader, 100).unwrap(), "early", "the master is there to read it");
    drop(master);
    terminal.print(&[b'y'; 1000]);
    assert_eq!(terminal.fetch_output(&mut [0; 8]), 0);
}

#[test]
fn a_master_that_nobody_reads_for_waits() {
    let bench = Bench::new();
    let leader = bench.program(40);
    let (_all, master, slave) = pair(&bench, &leader);
    let lines = "y\n".repeat(3000);
    let mut source = Source::kernel(lines.as_bytes());
    assert_eq!(go_on(&*master, &mut source), Err(NotReady::WouldBlock));
    assert!(!master.poll().contains(PollEvents::WRITABLE));
    let queue = master.wait_queue(PollEvents::WRITABLE).unwrap();
    let mut listener = queue.listen();
    listener.register_with(Waker::noop()).unwrap();
    assert_eq!(read(&slave, &leader, 100).unwrap(), "y\n");
    assert!(listener.poll_woken(Waker::noop()).is_ready());
    let mut count = 1;
    while source.remaining() > 0 || slave.poll().contains(PollEvents::READABLE) {
        let _ = master.write(0, &mut source);
        while slave.poll().contains(PollEvents::READABLE) {
            assert_eq!(read(&slave, &leader, 100).unwrap(), "y\n");
            count += 1;
        }
    }
    assert_eq!(count, 3000);
}

#[test]
fn devpts_shows_the_slaves_there_are() {
    use vfs::FileSystem;
    let bench = Bench::new();
    let leader = bench.program(40);
    let (all, _master, _slave) = pair(&bench, &leader);
    let root = DevPts::new(all).root();
    let inode = root.lookup(b"0").unwrap();
    assert_eq!(inode.device(), DeviceNumber { major: 136, minor: 0 });
    assert_eq!(inode.permissions().mode, raw::S_IFCHR | 0o600);
    let mode = vfs::SetAttributes { permissions: Some(0o640), ..Default::default() };
    inode.set_attributes(&mode).unwrap();
    assert_eq!(root.lookup(b"0").unwrap().permissions().mode, raw::S_IFCHR | 0o640, "it is remembered");
    assert_eq!(root.lookup(b"00").err(), Some(Errno::ENOENT));
    assert_eq!(root.lookup(b"1").err(), Some(Errno::ENOENT));
    let ptmx = root.lookup(b"ptmx").unwrap();
    assert_eq!((ptmx.device(), ptmx.permissions().mode), (PTMX, raw::S_IFCHR));

    // Read with room for one entry at a time, as by a program with a small buffer.
    let list = root.open(&vfs::OpenRequest { flags: vfs::OpenFlags::empty(), caller: &leader }).unwrap();
    let (mut position, mut names) = (2, Vec::new());
    for _ in 0..4 {
        let mut room = 1;
        let mut take = |entry: vfs::DirectoryEntry<'_>| {
            if room == 0 {
                return false;
            }
            room -= 1;
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            true
        };
        list.read_directory(&mut position, &mut take).unwrap();
    }
    assert_eq!(names, ["ptmx", "0"]);
}
