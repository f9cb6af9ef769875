//! A kernel with programs that do what the test says.
//!
//! A program is a script of the host machine that asks the test for its next step. What it must remember it keeps in
//! its registers, so that a fork copies it: `rbx` says which program it is, `r12` what becomes of `rax` when it goes on, and
//! `rip` whether it is behind the call, or before it again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use abi::Errno;
use abi::raw::general as number;
use abi::signal::{SignalAction, SignalSet, action_flags};
use drivers::KernelLog;
use machine::memory::{Access, Space, UserFault};
use machine::user::{General, PageFault, Trap};
use process::stage::shared;
use process::{FirstProgram, Hooks, Kernel, Parts};
use syscalls::Calls;
use vfs::{Context, FileTable, KernelCaller, MountFlags, MountNamespace, OpenFlags, Opening, Vfs};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where the data of programs lies: 60 KiB, zeros at first.
pub const DATA: usize = 0x40_1000;
/// Where the code of programs would be.
const CODE: usize = 0x10_0000;
/// Where the handlers of signals would be.
const HANDLER: usize = 0x20_0000;
/// The word `CLONE_CHILD_CLEARTID` is about.
pub const CHILD_TID: usize = DATA + 0xff8;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// `r12`: nothing is due.
const NOTHING: usize = 0;
/// `r12`: `rax` is the result of a call, for the test. Larger numbers: of a fork, whose child is to be that program.
const RESULT: usize = 1;

type Touch = Box<dyn Fn(&Space) -> Result<(), UserFault> + Send>;

enum Request {
    Call(u32, [usize; 6]),
    /// clone(2) with these flags and this stack, and which program the child is to be.
    Clone(usize, usize, usize),
    Touch(Touch),
}

/// The program's ends of the channels to the test.
struct Player {
    requests: Receiver<Request>,
    answers: Sender<usize>,
    taken: Arc<AtomicBool>,
    /// A step that met a page fault, to be done again.
    again: Option<Request>,
}

#[derive(Default)]
struct Cast {
    players: Mutex<HashMap<usize, Arc<Mutex<Player>>>>,
    last: AtomicUsize,
    /// Signals that were handled, in order.
    handled: Mutex<Vec<usize>>,
}

impl Cast {
    /// A new program, which plays once it is forked.
    fn add(self: &Arc<Cast>) -> (usize, Program) {
        let (ask, requests) = channel();
        let (answers, hear) = channel();
        let role = self.last.fetch_add(1, Ordering::Relaxed) + 2;
        let taken = Arc::new(AtomicBool::new(false));
        let player = Player { requests, answers, taken: taken.clone(), again: None };
        self.players.lock().unwrap().insert(role, Arc::new(Mutex::new(player)));
        (role, Program { requests: ask, answers: hear, taken, cast: self.clone() })
    }

    fn play(&self, general: &mut General, space: &Space) -> Trap {
        if general.rip == HANDLER {
            self.handled.lock().unwrap().push(general.rdi);
            // The handler returns to the restorer, which makes this call.
            general.rsp += 8;
            general.rax = number::__NR_rt_sigreturn as usize;
            return Trap::Syscall;
        }
        if general.rbx == 0 {
            general.rbx = 2;
        }
        if general.r12 > RESULT && general.rax == 0 {
            (general.rbx, general.r12) = (general.r12, NOTHING);
        }
        if general.r12 != NOTHING && general.rip == CODE {
            // The kernel went back to the call: it is made again.
            general.rip = CODE + 2;
            return Trap::Syscall;
        }
        let player = self.players.lock().unwrap()[&general.rbx].clone();
        let mut player = player.lock().unwrap();
        if general.r12 != NOTHING {
            general.r12 = NOTHING;
            let _ = player.answers.send(general.rax);
        }
        let next = player.again.take().map_or_else(|| player.requests.recv_timeout(Duration::from_millis(1)), Ok);
        // Behind the instruction that makes a call.
        general.rip = CODE + 2;
        match next {
            Err(RecvTimeoutError::Timeout) => Trap::Interrupted,
            Err(RecvTimeoutError::Disconnected) => {
                (general.rax, general.rdi) = (number::__NR_exit_group as usize, 0);
                Trap::Syscall
            }
            Ok(Request::Call(call, arguments)) => {
                [general.rdi, general.rsi, general.rdx, general.r10, general.r8, general.r9] = arguments;
                (general.rax, general.r12) = (call as usize, RESULT);
                player.taken.store(true, Ordering::Relaxed);
                Trap::Syscall
            }
            Ok(Request::Clone(role, flags, stack)) => {
                let plain = flags == number::SIGCHLD as usize;
                let call = if plain { number::__NR_fork } else { number::__NR_clone };
                (general.rax, general.r12) = (call as usize, role);
                [general.rdi, general.rsi, general.rdx, general.r10, general.r8] = [flags, stack, 0, CHILD_TID, 0];
                Trap::Syscall
            }
            Ok(Request::Touch(touch)) => match touch(space) {
                Ok(()) => {
                    let _ = player.answers.send(0);
                    Trap::Interrupted
                }
                Err(fault) => {
                    player.again = Some(Request::Touch(touch));
                    let access = if fault.write { Access::WRITE } else { Access::READ };
                    Trap::PageFault(PageFault { address: fault.address, access, present: false })
                }
            },
        }
    }
}

/// A program that does what the test says.
pub struct Program {
    requests: Sender<Request>,
    answers: Receiver<usize>,
    /// The call that was begun has been made.
    taken: Arc<AtomicBool>,
    cast: Arc<Cast>,
}

impl Program {
    fn answer(&self) -> usize {
        self.answers.recv_timeout(LONG).expect("the program makes no progress")
    }

    /// Lets it make a call, and gives what that returns.
    pub fn call<const N: usize>(&self, call: u32, arguments: [usize; N]) -> Result<usize, Errno> {
        self.begin(call, arguments);
        self.result()
    }

    /// Lets it make a call.
    pub fn begin<const N: usize>(&self, call: u32, arguments: [usize; N]) {
        let mut registers = [0; 6];
        registers[..N].copy_from_slice(&arguments);
        self.taken.store(false, Ordering::Relaxed);
        self.requests.send(Request::Call(call, registers)).unwrap();
    }

    /// What the call that was begun returns.
    pub fn result(&self) -> Result<usize, Errno> {
        let value = self.answer();
        Errno::of_return_value(value).map_or(Ok(value), Err)
    }

    /// Whether the call that was begun is still not over after a while. A stopped program does not even make it.
    pub fn waits(&self) -> bool {
        let late = Instant::now() + Duration::from_secs(1);
        while !self.taken.load(Ordering::Relaxed) && Instant::now() < late {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.answers.recv_timeout(Duration::from_millis(30)).is_err()
    }

    /// A child of it; and its number.
    pub fn fork(&self) -> (Program, usize) {
        self.try_clone(number::SIGCHLD, 0).unwrap()
    }

    /// Another thread of it; and its number.
    pub fn thread(&self, stack: usize) -> (Program, usize) {
        let flags = number::CLONE_VM | number::CLONE_FS | number::CLONE_FILES | number::CLONE_SIGHAND;
        self.try_clone(flags | number::CLONE_THREAD | number::CLONE_CHILD_CLEARTID, stack).unwrap()
    }

    /// What clone(2) makes with these flags, and its number.
    pub fn try_clone(&self, flags: u32, stack: usize) -> Result<(Program, usize), Errno> {
        let (role, child) = self.cast.add();
        self.requests.send(Request::Clone(role, flags as usize, stack)).unwrap();
        Ok((child, self.result()?))
    }

    /// Computes for so many milliseconds of its own time.
    pub fn compute(&self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.begin_computing(1);
            assert_eq!(self.answer(), 0);
        }
    }

    /// Begins to compute for so long, with an interrupt after each millisecond.
    pub fn begin_computing(&self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.requests
                .send(Request::Touch(Box::new(|_| {
                    let start = machine::time::own().unwrap_or_default();
                    while machine::time::own().unwrap_or_default() < start + 1_000_000 {}
                    Ok(())
                })))
                .unwrap();
        }
    }

    fn touch(&self, touch: impl Fn(&Space) -> Result<(), UserFault> + Send + 'static) {
        self.requests.send(Request::Touch(Box::new(touch))).unwrap();
        assert_eq!(self.answer(), 0);
    }

    /// Writes to its memory, and gives the address.
    pub fn store<T: IntoBytes + Immutable + ?Sized>(&self, address: usize, value: &T) -> usize {
        let bytes = value.as_bytes().to_vec();
        self.touch(move |space| space.write(address, &bytes));
        address
    }

    /// Writes a string with its zero to its memory, and gives the address.
    pub fn string(&self, address: usize, text: &str) -> usize {
        self.store(address, [text.as_bytes(), &[0]].concat().as_slice())
    }

    /// Reads from its memory.
    pub fn load<T: FromBytes + IntoBytes + Send + Copy + 'static>(&self, address: usize) -> T {
        let value = Arc::new(Mutex::new(T::new_zeroed()));
        let place = value.clone();
        self.touch(move |space| space.read(address, place.lock().unwrap().as_mut_bytes()));
        *value.lock().unwrap()
    }

    /// Reads bytes from its memory.
    pub fn bytes(&self, address: usize, length: usize) -> Vec<u8> {
        let value = Arc::new(Mutex::new(vec![0; length]));
        let place = value.clone();
        self.touch(move |space| space.read(address, &mut place.lock().unwrap()));
        value.lock().unwrap().clone()
    }

    /// Gives a signal a handler, which notes it and returns.
    pub fn handle(&self, signal: u32, flags: u64) {
        let flags = flags | action_flags::RESTORER;
        let action = SignalAction { handler: HANDLER, flags, restorer: HANDLER + 8, mask: SignalSet::EMPTY };
        let at = self.store(DATA + 0xf00, &action);
        assert_eq!(self.call(number::__NR_rt_sigaction, [signal as usize, at, 0, 8]), Ok(0));
    }

    /// The signals that were handled by all programs.
    pub fn handled(&self) -> Vec<usize> {
        self.cast.handled.lock().unwrap().clone()
    }

    /// Both ends of a new pipe.
    pub fn pipe(&self) -> (usize, usize) {
        assert_eq!(self.call(number::__NR_pipe2, [DATA + 0xe00, 0]), Ok(0));
        let [read, write] = self.load::<[i32; 2]>(DATA + 0xe00);
        (read as usize, write as usize)
    }
}

/// An ELF file with one writable segment of 64 KiB at `DATA - 0x1000`.
fn program_file() -> Vec<u8> {
    let mut file = vec![0; 0x200];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01\0");
    put(16, &[2, 0, 62, 0]);
    put(24, &CODE.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &[56, 0, 1, 0]);
    put(64, &[1, 0, 0, 0, 6, 0, 0, 0]);
    put(80, &(DATA - 0x1000).to_le_bytes());
    put(96, &0x200_u64.to_le_bytes());
    put(104, &0x1_0000_u64.to_le_bytes());
    put(112, &0x1000_u64.to_le_bytes());
    file
}

/// A kernel, and what can be asked of it.
pub struct Stage {
    pub kernel: Arc<Kernel>,
    pub calls: Calls,
}

impl Stage {
    /// A kernel and its first program.
    pub fn start() -> (Stage, Program) {
        Self::start_with(Calls::new(false))
    }

    /// The same with other calls.
    pub fn start_with(calls: Calls) -> (Stage, Program) {
        let (executor, memory) = shared().clone();
        let vfs = Vfs::new(1);
        let root = fs::tmpfs::Tmpfs::new(&memory, "rootfs", "", 2).unwrap();
        let mounts = MountNamespace::new(&vfs, root, "rootfs", MountFlags::empty()).unwrap();
        let hooks = Hooks {
            init_exited: Box::new(|_| {}),
            shut_down: Box::new(|_| {}),
            random: Box::new(|bytes| bytes.fill(7)),
        };
        let log = Arc::new(KernelLog::default());
        let kernel = Kernel::new(Parts { executor, memory, vfs, mounts, log, hooks }, calls.clone()).unwrap();
        let stage = Stage { kernel, calls };
        stage.put("/init", &program_file());
        let program = stage.run_init();
        (stage, program)
    }

    /// Makes an executable file.
    fn put(&self, name: &str, bytes: &[u8]) {
        let root = self.kernel.namespaces().mounts().root().unwrap();
        let credentials = vfs::Credentials::superuser();
        let caller = KernelCaller(self.kernel.vfs());
        let context = Context { root: &root, credentials: &credentials, caller: &caller, umask: 0 };
        let flags = OpenFlags::CREATE | OpenFlags::WRITE_ONLY;
        let Ok(Opening::Done(file)) = context.open(&root, name.as_bytes(), flags, 0o755) else { panic!("{name}") };
        assert!(file.file().write(0, &mut memory::Source::kernel(bytes)).is_ok());
    }

    fn run_init(&self) -> Program {
        let cast = Arc::new(Cast::default());
        let (_, program) = cast.add();
        let script: machine::user::Script = Arc::new(move |general, space| cast.play(general, space));
        let kernel = self.kernel.clone();
        let (done, started) = channel();
        let start = async move {
            let arguments = [b"init".to_vec()];
            let first = FirstProgram {
                path: b"/init",
                arguments: &arguments,
                environment: &[],
                files: FileTable::new(),
                working_directory: None,
                role: process::Role::Init,
            };
            let process = kernel.start_init_playing(first, |registers| registers.play(script)).await;
            done.send(process.map(drop)).unwrap();
        };
        self.kernel.executor().clone().spawn(&sched::Parameters::default(), start);
        started.recv_timeout(LONG).unwrap().unwrap();
        program
    }
}
