//! A whole kernel in a test: programs are lists of steps that the host machine plays, and system calls are answered by the
//! functions of this room. Rooms above this one have it by the feature `test-hooks`, for tests of their own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "only tests have it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "only tests have it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use abi::Errno;
use abi::raw::general as raw;
use abi::signal::{Signal, SignalAction, SignalSet};
use drivers::KernelLog;
use machine::memory::{Access, Space};
use machine::user::{General, PageFault, Trap};
use memory::Memory;
use sched::Executor;
use vfs::{Context, FileTable, KernelCaller, Lookup, MountFlags, MountNamespace, NotReady, OpenFlags, Opening, Vfs};
use zerocopy::{FromBytes, IntoBytes};

use crate::clone::{CloneRequest, clone};
use crate::exec::{ExecRequest, Strings, execve};
use crate::futex::{ANY, Key, Line};
use crate::signal::{action, frame, mask, send};
use crate::wait::{Target, WaitOptions, wait};
use crate::*;

/// Where the data of a program lies: zeros, writable.
pub const DATA: usize = 0x40_1000;
/// Where steps have their addresses: two bytes each, like a system call.
const CODE: usize = 0x10_0000;

/// One step of a program. `rax` carries results from one to the next.
#[derive(Clone)]
pub enum Step {
    /// A system call with these arguments.
    Call(u32, Vec<Value>),
    /// Keeps `rax` in a register that calls preserve: 0 is `rbx`, 1 `r12`, 2 `r13`.
    Keep(usize),
    /// `rax` becomes this.
    Load(Value),
    /// Goes elsewhere.
    Jump(&'static str),
    /// Goes elsewhere if `rax` is 0.
    IfZero(&'static str),
    /// Goes elsewhere if `rax` is this.
    IfEqual(usize, &'static str),
    /// One less in a kept register; goes elsewhere unless it is 0.
    Loop(usize, &'static str),
    /// Tells the test.
    Say(&'static str),
    /// Tells the test `rax`, as a number.
    Show(&'static str),
    /// Writes to memory.
    Store(usize, Vec<u8>),
    /// Reads a number of 64 bits from memory at an address plus offset.
    Read(Value, usize),
    /// Returns from a handler: takes the address from the stack.
    Return,
    /// Sets the flags of the CPU, as popf does.
    Flags(usize),
    /// Computes for ever.
    Spin,
    /// A name for this place.
    Label(&'static str),
}

/// A number a step uses.
#[derive(Clone, Copy)]
pub enum Value {
    /// This.
    Number(usize),
    /// A kept register, as [`Step::Keep`] numbers them.
    Kept(usize),
    /// The registers of a handler's arguments.
    Rsi,
    /// See `Rsi`.
    Rdx,
    /// The top of the stack.
    Rsp,
    /// The flags of the CPU.
    Flags,
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Value {
        Value::Number(number as isize as usize)
    }
}

/// A call, with anything as arguments.
#[macro_export]
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        $crate::stage::Step::Call(abi::raw::general::$number, vec![$($argument.into()),*])
    };
}

/// What a program told the test.
pub type Told = Vec<(String, i64)>;

struct Player {
    steps: Vec<Step>,
    labels: HashMap<&'static str, usize>,
    told: Arc<Mutex<Told>>,
}

impl Player {
    fn value(&self, general: &General, value: Value) -> usize {
        match value {
            Value::Number(number) => number,
            Value::Kept(index) => [general.rbx, general.r12, general.r13][index],
            Value::Rsi => general.rsi,
            Value::Rdx => general.rdx,
            Value::Rsp => general.rsp,
            Value::Flags => general.rflags,
        }
    }

    fn keep(general: &mut General, index: usize) -> &mut usize {
        [&mut general.rbx, &mut general.r12, &mut general.r13].into_iter().nth(index).unwrap()
    }

    fn goto(&self, general: &mut General, label: &str) {
        general.rip = CODE + 2 * self.labels[label];
    }

    fn fault(address: usize, write: bool) -> Trap {
        let access = if write { Access::WRITE } else { Access::READ };
        Trap::PageFault(PageFault { address: address.into(), access, present: false })
    }

    /// Runs until something traps.
    fn play(&self, general: &mut General, space: &Space) -> Trap {
        loop {
            if general.rip < CODE {
                general.rip = CODE;
            }
            let index = (general.rip - CODE) / 2;
            let Some(step) = self.steps.get(index) else {
                return Self::fault(general.rip, false);
            };
            match step {
                Step::Store(at, bytes) => {
                    if let Err(fault) = space.write(*at, bytes) {
                        return Self::fault(fault.address.into(), true);
                    }
                }
                Step::Read(at, offset) => {
                    let mut bytes = [0; 8];
                    let at = self.value(general, *at) + offset;
                    if let Err(fault) = space.read(at, &mut bytes) {
                        return Self::fault(fault.address.into(), false);
                    }
                    general.rax = usize::from_le_bytes(bytes);
                }
                Step::Return => {
                    let mut bytes = [0; 8];
                    if let Err(fault) = space.read(general.rsp, &mut bytes) {
                        return Self::fault(fault.address.into(), false);
                    }
                    general.rsp += 8;
                    general.rip = usize::from_le_bytes(bytes);
                    continue;
                }
                Step::Spin => {
                    std::thread::yield_now();
                    return Trap::Interrupted;
                }
                _ => {}
            }
            general.rip += 2;
            match step {
                Step::Call(number, arguments) => {
                    let mut registers = [0; 6];
                    for (register, argument) in registers.iter_mut().zip(arguments) {
                        *register = self.value(general, *argument);
                    }
                    [general.rdi, general.rsi, general.rdx, general.r10, general.r8, general.r9] = registers;
                    general.rax = *number as usize;
                    return Trap::Syscall;
                }
                Step::Flags(flags) => general.rflags = *flags,
                Step::Keep(index) => *Self::keep(general, *index) = general.rax,
                Step::Load(value) => general.rax = self.value(general, *value),
                Step::Jump(label) => self.goto(general, label),
                Step::IfZero(label) if general.rax == 0 => self.goto(general, label),
                Step::IfEqual(number, label) if general.rax == *number => self.goto(general, label),
                Step::Loop(index, label) => {
                    let counter = Self::keep(general, *index);
                    *counter -= 1;
                    if *counter != 0 {
                        self.goto(general, label);
                    }
                }
                Step::Say(text) => self.told.lock().unwrap().push((text.to_string(), 0)),
                Step::Show(text) => self.told.lock().unwrap().push((text.to_string(), general.rax as i64)),
                _ => {}
            }
        }
    }
}

/// Answers the calls the scenarios make.
#[derive(Clone)]
struct Calls;

impl SystemCalls for Calls {
    async fn dispatch(&self, thread: &Arc<Thread>, call: Call, _: Attempt) -> Outcome {
        answer(thread, call).await.unwrap_or_else(Outcome::from)
    }
}

async fn read<T: FromBytes + IntoBytes>(thread: &Thread, address: usize) -> Result<Option<T>, Errno> {
    if address == 0 { Ok(None) } else { thread.space().read_value(address).await.map(Some) }
}

fn number_of(thread: &Thread, pid: Pid) -> usize {
    thread.pid_number(pid) as usize
}

async fn answer(thread: &Arc<Thread>, call: Call) -> Result<Outcome, Failure> {
    let [a, b, c, d, e, _] = call.arguments;
    let signal = |number: usize| if number == 0 { Ok(None) } else { Signal::new(number as i32).map(Some) };
    let value = match call.number as u32 {
        raw::__NR_getpid => number_of(thread, thread.process().pid()),
        raw::__NR_gettid => number_of(thread, thread.tid()),
        raw::__NR_getppid => number_of(thread, thread.process().parent_pid()),
        raw::__NR_fork => number_of(thread, clone(thread, CloneRequest::FORK).await?),
        raw::__NR_vfork => number_of(thread, clone(thread, CloneRequest::VFORK).await?),
        raw::__NR_clone => {
            let exit_signal = (a & 0xff) as u32;
            let flags = (a & !0xff) as u64;
            let request = CloneRequest { flags, stack: b, parent_tid: c, child_tid: d, tls: e, exit_signal };
            number_of(thread, clone(thread, request).await?)
        }
        raw::__NR_exit => {
            exit::exit(thread, a as i32);
            0
        }
        raw::__NR_exit_group => {
            exit::exit_group(thread, a as i32);
            0
        }
        raw::__NR_wait4 => {
            let target = Target::from_wait4(a as i32, thread)?;
            match wait(thread, target, WaitOptions(c as u32 | raw::WEXITED)).await? {
                None => 0,
                Some(waited) => {
                    if b != 0 {
                        thread.space().write_value(b, &waited.event.wait_status()).await?;
                    }
                    number_of(thread, waited.pid)
                }
            }
        }
        raw::__NR_execve => {
            let path = thread.space().read_c_string(a, 4096).await?;
            let request = ExecRequest {
                directory: None,
                path: &path,
                lookup: Lookup::FOLLOW,
                name: &path,
                arguments: Strings::Program(thread.space(), b),
                environment: Strings::Program(thread.space(), c),
            };
            return execve(thread, request).await;
        }
        raw::__NR_kill => match a as i32 {
            pid @ 1.. => send::kill(thread, pid, signal(b)?).map(|()| 0)?,
            _ => send::kill_many(thread, a as i32, signal(b)?).await.map(|()| 0)?,
        },
        raw::__NR_tgkill => send::tgkill(thread, Some(a as i32), b as i32, signal(c)?).map(|()| 0)?,
        raw::__NR_rt_sigaction => {
            let new: Option<SignalAction> = read(thread, b).await?;
            action::set(thread, Signal::new(a as i32)?, new).map(|_| 0)?
        }
        raw::__NR_rt_sigprocmask => {
            let new: Option<SignalSet> = read(thread, b).await?;
            let old = mask::get(thread);
            if let Some(new) = new {
                mask::set(thread, mask::changed(old, a as u32, new)?);
            }
            old.0 as usize
        }
        raw::__NR_rt_sigreturn => loop {
            match frame::return_from_handler(thread) {
                Ok(outcome) => return Ok(outcome),
                Err(NotReady::Fault(fault)) => thread.space().fault_in(fault).await?,
                Err(_) => return Err(Errno::EFAULT.into()),
            }
        },
        raw::__NR_rt_sigtimedwait => {
            let set: SignalSet = read(thread, a).await?.unwrap_or_default();
            let deadline = (c != 0).then(|| machine::time::now() + c as u64);
            mask::timed_wait(thread, set, deadline).await?.signal.number() as usize
        }
        raw::__NR_rt_sigsuspend => {
            let set: SignalSet = read(thread, a).await?.unwrap_or_default();
            return Err(mask::suspend(thread, set).await);
        }
        // One that finds something ready at once, while somebody sends the signal `b`.
        raw::__NR_ppoll => {
            mask::set_for_call(thread, read(thread, a).await?.unwrap_or_default());
            send::kill(thread, number_of(thread, thread.process().pid()) as i32, signal(b)?)?;
            mask::restore(thread);
            1
        }
        raw::__NR_sigaltstack => {
            let old = mask::alternate_stack(thread);
            if let Some(new) = read(thread, a).await? {
                mask::set_alternate_stack(thread, mask::checked_stack(thread, new)?);
            }
            old.flags as usize
        }
        raw::__NR_pause => return Err(mask::pause(thread).await),
        raw::__NR_nanosleep => {
            // In nanoseconds.
            let deadline = machine::time::now() + a as u64;
            thread.interruptible(thread.kernel().executor().sleep_until(deadline)).await?;
            0
        }
        raw::__NR_alarm => {
            timers::set(thread, raw::ITIMER_REAL as i32, timers::Setting { value: a as u64, interval: b as u64 })?.value
                as usize
        }
        raw::__NR_setitimer => {
            // In nanoseconds.
            timers::set(thread, a as i32, timers::Setting { value: b as u64, interval: c as u64 })?.value as usize
        }
        raw::__NR_times => thread.process().cpu_time() as usize,
        raw::__NR_setuid => {
            let new = thread.credentials().set_user(a as u32)?;
            thread.set_credentials(new).map(|()| 0)?
        }
        raw::__NR_setgid => {
            let new = thread.credentials().set_group(a as u32)?;
            thread.set_credentials(new).map(|()| 0)?
        }
        raw::__NR_getuid => thread.credentials().users.real as usize,
        raw::__NR_geteuid => thread.credentials().users.effective as usize,
        raw::__NR_getegid => thread.credentials().groups.effective as usize,
        // FUTEX_WAIT whatever the word holds, and FUTEX_REQUEUE of one waiter.
        raw::__NR_futex => {
            let futexes = thread.kernel().futexes();
            let key = Key::new(thread.space(), a, false)?;
            let always = || Ok::<_, memory::UserFault>(true);
            if b as u32 == raw::FUTEX_WAIT {
                let Ok(Some(waiting)) = futexes.enter(key, ANY, always) else { return Err(Errno::ENOMEM.into()) };
                thread.interruptible(waiting).await?;
                0
            } else {
                let to = Key::new(thread.space(), e, false)?;
                let moved = futexes.requeue(key, to, (0, 1), &mut Line::default(), always);
                moved.ok().flatten().map_or(0, |(_, moved)| moved)
            }
        }
        raw::__NR_set_robust_list => {
            thread.set_robust_list(a);
            0
        }
        raw::__NR_setpgid => group::set_group(thread, a as i32, b as i32).map(|()| 0).map_err(later)?,
        raw::__NR_setsid => number_of(thread, group::set_session(thread).map_err(later)?),
        raw::__NR_getpgid => number_of(thread, group::process_of(thread, a as i32)?.group_id()),
        raw::__NR_prctl => {
            thread.process().set_subreaper(a == abi::raw::prctl::PR_SET_CHILD_SUBREAPER as usize);
            0
        }
        raw::__NR_sched_yield => {
            thread.task().give_way().await;
            0
        }
        _ => return Err(Errno::ENOSYS.into()),
    };
    Ok(Outcome::Value(value))
}

/// CPUs, memory and the executor are the machine's, which all tests of one process share.
pub fn shared() -> &'static (Arc<Executor>, Arc<Memory>) {
    static SHARED: OnceLock<(Arc<Executor>, Arc<Memory>)> = OnceLock::new();
    SHARED.get_or_init(|| {
        machine::cpu::set_count(4);
        let memory = Memory::new().unwrap();
        let executor = Executor::new(4);
        machine::cpu::install(executor.clone());
        for cpu in 0..4 {
            let executor = executor.clone();
            std::thread::spawn(move || {
                machine::cpu::set_current(cpu);
                executor.run(cpu)
            });
        }
        (executor, memory)
    })
}

/// A call that has to wait begins anew.
fn later(stop: NotReady) -> Failure {
    match stop {
        NotReady::Error(errno) => errno.into(),
        _ => Interrupted::RestartAlways.into(),
    }
}

/// A program file with one writable segment of 64 KiB at [`DATA`] - 0x1000.
pub fn program_file() -> Vec<u8> {
    let mut file = vec![0; 0x200];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    file[16..18].copy_from_slice(&2_u16.to_le_bytes());
    file[18..20].copy_from_slice(&62_u16.to_le_bytes());
    file[24..32].copy_from_slice(&(CODE as u64).to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[54..56].copy_from_slice(&56_u16.to_le_bytes());
    file[56..58].copy_from_slice(&1_u16.to_le_bytes());
    let header = &mut file[64..120];
    header[..4].copy_from_slice(&1_u32.to_le_bytes());
    header[4..8].copy_from_slice(&6_u32.to_le_bytes());
    header[16..24].copy_from_slice(&0x40_0000_u64.to_le_bytes());
    header[32..40].copy_from_slice(&0x200_u64.to_le_bytes());
    header[40..48].copy_from_slice(&0x1_0000_u64.to_le_bytes());
    header[48..56].copy_from_slice(&0x1000_u64.to_le_bytes());
    file
}

/// A kernel with a root file system, for one test.
pub struct Stage {
    /// The kernel.
    pub kernel: Arc<Kernel>,
    ended: Mutex<mpsc::Receiver<ExitStatus>>,
}

impl Stage {
    /// With these executable files in `/`.
    pub fn new(files: &[(&str, &[u8])]) -> Stage {
        let (executor, memory) = shared().clone();
        let vfs = Vfs::new(1);
        let root = fs::tmpfs::Tmpfs::new(&memory, "rootfs", "", 2).unwrap();
        let mounts = MountNamespace::new(&vfs, root, "rootfs", MountFlags::empty()).unwrap();
        let (tell, ended) = mpsc::channel();
        let hooks = Hooks {
            init_exited: Box::new(move |status| tell.send(status).unwrap()),
            shut_down: Box::new(|_| {}),
            random: Box::new(|bytes| bytes.fill(7)),
        };
        let log = Arc::new(KernelLog::default());
        let kernel = Kernel::new(Parts { executor, memory, vfs, mounts, log, hooks }, Calls).unwrap();
        let stage = Stage { kernel, ended: Mutex::new(ended) };
        stage.put("/init", &program_file());
        files.iter().for_each(|(name, bytes)| stage.put(name, bytes));
        stage
    }

    /// Makes an executable file.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.put_as(name, bytes, 0o755);
    }

    /// Makes a file with these permissions.
    pub fn put_as(&self, name: &str, bytes: &[u8], permissions: u32) {
        let root = self.kernel.namespaces().mounts().root().unwrap();
        let credentials = vfs::Credentials::superuser();
        let caller = KernelCaller(self.kernel.vfs());
        let context = Context { root: &root, credentials: &credentials, caller: &caller, umask: 0 };
        let flags = OpenFlags::from_bits_retain(raw::O_CREAT | raw::O_WRONLY);
        let Ok(Opening::Done(file)) = context.open(&root, name.as_bytes(), flags, 0o755) else { panic!("{name}") };
        let mut source = memory::Source::kernel(bytes);
        file.file().write(0, &mut source).map_err(|_| ()).unwrap();
        context.chmod(&context.lookup(&root, name.as_bytes(), Lookup::FOLLOW).unwrap(), permissions).unwrap();
    }

    /// How many references there are to what a name stands for.
    pub fn references(&self, name: &str) -> usize {
        let root = self.kernel.namespaces().mounts().root().unwrap();
        let credentials = vfs::Credentials::superuser();
        let caller = KernelCaller(self.kernel.vfs());
        let context = Context { root: &root, credentials: &credentials, caller: &caller, umask: 0 };
        let path = context.lookup(&root, name.as_bytes(), Lookup::FOLLOW).unwrap();
        Arc::strong_count(path.inode())
    }

    /// Starts the first process, which plays `steps`.
    pub fn start_as(&self, role: Role, steps: Vec<Step>) -> Arc<Mutex<Told>> {
        let told = Arc::new(Mutex::new(Told::new()));
        let labels = steps.iter().enumerate().filter_map(|(index, step)| match step {
            Step::Label(name) => Some((*name, index)),
            _ => None,
        });
        let player = Player { labels: labels.collect(), steps, told: told.clone() };
        let script: machine::user::Script = Arc::new(move |general, space| player.play(general, space));
        let (kernel, executor) = (self.kernel.clone(), self.kernel.executor().clone());
        let (done, started) = mpsc::channel();
        executor.spawn(&sched::Parameters::default(), async move {
            let program = FirstProgram {
                path: b"/init",
                arguments: &[b"init".to_vec()],
                environment: &[],
                files: FileTable::new(),
                working_directory: None,
                role,
            };
            let process = kernel.start_init_playing(program, |registers| registers.play(script)).await;
            done.send(process.map(|_| ())).unwrap();
        });
        started.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
        told
    }

    /// Plays a program as init, to its end.
    pub fn play(&self, steps: Vec<Step>) -> (ExitStatus, Told) {
        self.play_as(Role::Init, steps)
    }

    /// Plays a program as the first process, to its end.
    pub fn play_as(&self, role: Role, steps: Vec<Step>) -> (ExitStatus, Told) {
        let told = self.start_as(role, steps);
        let Ok(status) = self.ended.lock().unwrap().recv_timeout(Duration::from_secs(60)) else {
            panic!("goes on for ever: {:?}, {:?}", told.lock().unwrap(), self.kernel.executor().statistics());
        };
        let told = told.lock().unwrap().clone();
        (status, told)
    }
}

/// Waits for something that other threads bring about.
pub fn until(happened: impl Fn() -> bool) {
    for _ in 0..6000 {
        if happened() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never happens");
}

/// A `struct sigaction`.
pub fn action_bytes(handler: usize, flags: u64, restorer: usize) -> Vec<u8> {
    SignalAction { handler, flags, restorer, mask: SignalSet::EMPTY }.as_bytes().to_vec()
}

/// The address a label has in a program.
pub fn address(steps: &[Step], label: &str) -> usize {
    CODE + 2 * steps.iter().position(|step| matches!(step, Step::Label(name) if *name == label)).unwrap()
}
