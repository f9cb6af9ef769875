//! What /proc shows, as plain data. The rooms that know it (process, memory, sched) lie higher or beside this one, so
//! the traits are stated here and implemented where the kernel is wired together.
//!
//! A source answers from one moment: a snapshot is taken under whatever locks it needs and given as values, and the text is
//! made from it without any lock. Times are nanoseconds, sizes bytes, unless a name says otherwise.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use abi::cpus::CpuSet;
use abi::{Pid, Result};
use vfs::{Caller, MountNamespace, OpenFile, Path};

/// The number of a process or thread, group or session, in the pid namespace that this /proc shows; 0 for who is not in it.
pub type ProcessId = u32;

/// The state letter of proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `R`: running or ready to run.
    Running,
    /// `S`: waiting, and a signal wakes it.
    Sleeping,
    /// `D`: waiting, and nothing but the event wakes it.
    Uninterruptible,
    /// `T`: stopped by a signal.
    Stopped,
    /// `t`: stopped by its tracer.
    Traced,
    /// `Z`: finished, its status not yet collected.
    Zombie,
    /// `X`: gone.
    Dead,
}

/// One thread at one moment.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct ThreadStatus {
    /// Its number.
    pub id: ProcessId,
    /// `comm`: at most 15 bytes.
    pub name: Vec<u8>,
    /// What it is doing.
    pub state: State,
    /// Time spent in user mode.
    pub user_time: u64,
    /// Time spent in the kernel.
    pub system_time: u64,
    /// When it was created, since boot.
    pub start_time: u64,
    /// Page faults served without, and with, reading from a device.
    pub faults: Faults,
    /// The nice value, -20 to 19.
    pub nice: i32,
    /// `SCHED_OTHER` and so on.
    pub policy: u32,
    /// The priority of a real-time policy, otherwise 0.
    pub real_time_priority: u32,
    /// The CPU it last ran on.
    pub processor: u32,
    /// The CPUs it may run on, one bit each.
    pub allowed_processors: CpuSet,
    /// Signals waiting for this thread alone; signal 1 is bit 0.
    pub pending: u64,
    /// Signals it blocks.
    pub blocked: u64,
    /// How often it gave up its CPU by itself.
    pub voluntary_switches: u64,
    /// How often its CPU was taken away.
    pub involuntary_switches: u64,
    /// Real, effective, saved and file system user.
    pub users: [u32; 4],
    /// Real, effective, saved and file system group.
    pub groups: [u32; 4],
    /// Supplementary groups.
    pub supplementary_groups: Arc<Vec<u32>>,
    /// Capability sets: inheritable, permitted, effective, bounding, ambient.
    pub capabilities: [u64; 5],
    /// Whether `PR_SET_NO_NEW_PRIVS` was called.
    pub no_new_privileges: bool,
    /// How many signals are queued for its user.
    pub queued_signals: u64,
}

/// Counts of page faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Served from memory.
    pub minor: u64,
    /// Served from a device.
    pub major: u64,
}

/// One process at one moment.
#[derive(Clone, Debug)]
pub struct ProcessStatus {
    /// Its number.
    pub id: ProcessId,
    /// Its parent's number, 0 for the first process.
    pub parent: ProcessId,
    /// Its process group.
    pub group: ProcessId,
    /// Its session.
    pub session: ProcessId,
    /// Its controlling terminal as (major, minor).
    pub terminal: Option<(u32, u32)>,
    /// The foreground group of that terminal.
    pub foreground_group: Option<ProcessId>,
    /// How many threads it has.
    pub threads: u32,
    /// User and system time of all its threads, also of those that ended.
    pub user_time: u64,
    /// See `user_time`.
    pub system_time: u64,
    /// User time of children it waited for.
    pub children_user_time: u64,
    /// System time of children it waited for.
    pub children_system_time: u64,
    /// Faults of all its threads.
    pub faults: Faults,
    /// Faults of children it waited for.
    pub children_faults: Faults,
    /// Whether others may look into it (`PR_SET_DUMPABLE`): decides who owns its files here.
    pub dumpable: bool,
    /// The file creation mask.
    pub umask: u32,
    /// How many descriptors its table has room for.
    pub descriptor_slots: u32,
    /// Signals waiting for the process as a whole.
    pub shared_pending: u64,
    /// Signals it ignores.
    pub ignored: u64,
    /// Signals it has handlers for.
    pub caught: u64,
    /// The signal its parent gets when it ends.
    pub exit_signal: u32,
    /// Its wait status, once a zombie.
    pub exit_code: u32,
    /// Soft and hard limits in the order of the `RLIMIT_` numbers; `u64::MAX` is none.
    pub limits: [(u64, u64); 16],
    /// -1000 to 1000.
    pub out_of_memory_adjustment: i32,
    /// personality(2).
    pub personality: u32,
    /// Its address space; `None` for a zombie or a kernel task.
    pub memory: Option<MemoryStatus>,
}

/// An address space at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryStatus {
    /// All areas together.
    pub size: u64,
    /// The largest that ever was.
    pub peak_size: u64,
    /// Locked areas.
    pub locked: u64,
    /// Private writable areas that are not stack.
    pub data: u64,
    /// Stack areas.
    pub stack: u64,
    /// Executable areas of the program.
    pub text: u64,
    /// Executable areas of libraries.
    pub libraries: u64,
    /// Resident pages of all kinds.
    pub resident: u64,
    /// The largest resident size that ever was.
    pub peak_resident: u64,
    /// Page tables.
    pub page_tables: u64,
    /// Swapped out.
    pub swap: u64,
    /// Addresses as in `prctl(PR_SET_MM)`.
    pub start_code: u64,
    /// See `start_code`.
    pub end_code: u64,
    /// See `start_code`.
    pub start_data: u64,
    /// See `start_code`.
    pub end_data: u64,
    /// See `start_code`.
    pub start_break: u64,
    /// See `start_code`.
    pub start_stack: u64,
    /// See `start_code`.
    pub arguments: (u64, u64),
    /// See `start_code`.
    pub environment: (u64, u64),
}

/// One line of `maps`.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Area {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
    /// Shared rather than private.
    pub shared: bool,
    /// Where in the file it begins.
    pub offset: u64,
    /// Major and minor number of the file's device, or zeros.
    pub device: (u32, u32),
    /// Inode number, or 0.
    pub inode: u64,
    /// A path, `[heap]`, `[stack]`, `[vdso]`, or nothing.
    pub name: Vec<u8>,
}

/// What of an area is in memory, in bytes. A page is shared when more than one address space maps it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Residence {
    /// Shared, unchanged.
    pub shared_clean: u64,
    /// Shared, changed.
    pub shared_dirty: u64,
    /// Private, unchanged.
    pub private_clean: u64,
    /// Private, changed.
    pub private_dirty: u64,
    /// Used since somebody last looked.
    pub referenced: u64,
    /// Not of a file.
    pub anonymous: u64,
    /// Each page divided by the number of those who map it.
    pub proportional: u64,
    /// Locked.
    pub locked: u64,
}

/// Resident pages of files, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResidentFiles {
    /// Of files.
    pub file: u64,
    /// Of shared memory.
    pub shared: u64,
}

/// Counters of proc_pid_io(5).
#[derive(Clone, Copy, Debug, Default)]
pub struct InputOutput {
    /// Bytes returned by read and its like.
    pub read_bytes: u64,
    /// Bytes taken by write and its like.
    pub written_bytes: u64,
    /// Calls of read and its like.
    pub read_calls: u64,
    /// Calls of write and its like.
    pub write_calls: u64,
    /// Bytes fetched from devices.
    pub device_read_bytes: u64,
    /// Bytes sent to devices.
    pub device_written_bytes: u64,
}

/// One process, as /proc/PID looks into it. Holding one keeps no process alive: once it is collected, methods give
/// `ESRCH` or nothing.
pub trait ProcessSource: Send + Sync {
    /// Its number, `None` once it is collected: cheap, because every lookup asks.
    fn id(&self) -> Option<ProcessId>;
    /// The process as a whole, or `ESRCH`.
    fn status(&self) -> Result<ProcessStatus>;
    /// One of its threads.
    fn thread(&self, thread: ProcessId) -> Option<ThreadStatus>;
    /// Fills `found` with the smallest thread numbers above `after`, in ascending order, and returns how many: directories are
    /// listed step by step.
    fn next_threads(&self, after: ProcessId, found: &mut [ProcessId]) -> usize;
    /// Whether it still has memory, and so a program it executes.
    fn has_memory(&self) -> bool;
    /// Who owns the files of one of its threads here, (user, group): cheap, because every lookup asks. Effective ids, or
    /// root if it is not dumpable and not `always` is asked for.
    fn owner(&self, thread: ProcessId, always: bool) -> (u32, u32);
    /// Whether `caller` may look into one of its threads as `PTRACE_MODE_READ` asks; guards `exe`, `cwd`, `fd`, `maps`,
    /// `environ`.
    fn may_be_inspected_by(&self, thread: ProcessId, caller: &dyn Caller) -> bool;
    /// Whether it is this one.
    fn is(&self, process: Pid) -> bool;
    /// Sets `comm` of a thread: at most 15 bytes. That the writer is of the same process has been checked.
    fn set_name(&self, thread: ProcessId, name: &[u8]) -> Result<()>;
    /// Sets the out-of-memory adjustment, -1000 to 1000, for the thread `writer`. `EACCES` if it may not lower it.
    fn set_out_of_memory_adjustment(&self, value: i32, writer: Pid) -> Result<()>;
    /// How likely the OOM killer takes it, 0 to 2000.
    fn out_of_memory_score(&self) -> u32;
    /// Copies the argument strings as they stand in its memory now, each ended by a zero, from `offset` on, and says how
    /// many bytes there were. None for a zombie.
    fn command_line(&self, offset: usize, to: &mut [u8]) -> Result<usize>;
    /// The same of the environment strings.
    fn environment(&self, offset: usize, to: &mut [u8]) -> Result<usize>;
    /// The auxiliary vector execve gave it, as bytes.
    fn auxiliary_vector(&self) -> Result<Vec<u8>>;
    /// The area at `address`, or the first above it.
    fn area(&self, address: u64) -> Result<Option<Area>>;
    /// Counts what is resident of `range`, all of one area, as long as `budget` pages last; says where to go on then.
    fn residence(&self, range: Range<u64>, budget: &mut usize) -> Result<(Residence, Option<u64>)>;
    /// Counts the resident pages of files from `address` on, for about 100 microseconds; says where to go on then.
    fn resident_files(&self, address: u64, counted: &mut ResidentFiles) -> Result<Option<u64>>;
    /// What it read and wrote.
    fn input_output(&self) -> InputOutput;
    /// The file it executes.
    fn executable(&self) -> Result<Path>;
    /// Its working directory.
    fn working_directory(&self) -> Result<Path>;
    /// Its root directory.
    fn root(&self) -> Result<Path>;
    /// The mounts it sees.
    fn mounts(&self) -> Result<Arc<MountNamespace>>;
    /// The file open under a descriptor, with whether it closes on execve.
    fn descriptor(&self, descriptor: u32) -> Option<(Arc<OpenFile>, bool)>;
    /// The smallest open descriptor that is at least `from`.
    fn next_descriptor(&self, from: u32) -> Option<u32>;
}

/// Times of one CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessorTimes {
    /// In user mode, nice 0 and better.
    pub user: u64,
    /// In user mode, niced.
    pub nice: u64,
    /// In the kernel.
    pub system: u64,
    /// Doing nothing.
    pub idle: u64,
    /// Doing nothing while a device works for somebody.
    pub waiting: u64,
    /// In interrupt handlers.
    pub interrupts: u64,
    /// Taken away by whoever runs this machine.
    pub stolen: u64,
}

/// What one CPU is, for /proc/cpuinfo.
#[derive(Clone, Debug, Default)]
pub struct Processor {
    /// `GenuineIntel` and so on.
    pub vendor: String,
    /// The brand string.
    pub model_name: String,
    /// Family, with the extended part.
    pub family: u32,
    /// Model, with the extended part.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Its clock, in kHz.
    pub clock_khz: u64,
    /// Size of the last-level cache in KiB.
    pub cache_kib: u32,
    /// Local APIC number.
    pub apic: u32,
    /// Highest CPUID leaf.
    pub cpuid_level: u32,
    /// Linux's names of its features, one space between them.
    pub features: String,
    /// Bytes per cache line flush.
    pub flush_size: u32,
    /// Physical and virtual address bits.
    pub address_bits: (u32, u32),
}

/// Memory of the machine, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryTotals {
    /// Usable memory.
    pub total: u64,
    /// Free frames.
    pub free: u64,
    /// What programs could get without swapping.
    pub available: u64,
    /// Cached blocks of devices.
    pub buffers: u64,
    /// Page cache, with shared memory.
    pub cached: u64,
    /// Anonymous pages.
    pub anonymous: u64,
    /// Pages of files that are mapped.
    pub mapped: u64,
    /// tmpfs and shared memory.
    pub shared: u64,
    /// The kernel's heap.
    pub slab: u64,
    /// Of the kernel's heap, what is mapped page by page.
    pub vmalloc: u64,
    /// Kernel stacks.
    pub kernel_stacks: u64,
    /// Page tables.
    pub page_tables: u64,
    /// What all programs were promised.
    pub committed: u64,
    /// Cached pages not yet written back.
    pub dirty: u64,
    /// Swap space.
    pub swap_total: u64,
    /// Free swap space.
    pub swap_free: u64,
    /// Free blocks of each order, for `buddyinfo`.
    pub free_blocks: [u64; 11],
}

/// Counters of the whole system.
#[derive(Debug, Default)]
pub struct SystemCounters {
    /// One for every CPU.
    pub processors: Vec<ProcessorTimes>,
    /// Context switches since boot.
    pub context_switches: u64,
    /// Processes and threads ever made.
    pub forks: u64,
    /// Interrupts since boot.
    pub interrupts: u64,
    /// Threads that run or are ready.
    pub running: u32,
    /// Threads that wait uninterruptibly.
    pub blocked: u32,
    /// All threads.
    pub threads: u32,
    /// The number given last.
    pub last_process: ProcessId,
    /// The averages of one, five and fifteen minutes, in hundredths.
    pub load: [u32; 3],
    /// Page faults, for `vmstat`.
    pub faults: Faults,
}

/// One line of /proc/interrupts.
#[derive(Debug)]
pub struct InterruptCounts {
    /// `4`, `LOC`, `RES`.
    pub name: String,
    /// One count for every CPU.
    pub counts: Vec<u64>,
    /// The controller and the device.
    pub description: String,
}

/// uname(2)'s strings.
#[derive(Debug)]
pub struct SystemName {
    /// `Linux`: what programs expect.
    pub system: String,
    /// The host name.
    pub node: String,
    /// The release of Linux whose behaviour this is.
    pub release: String,
    /// The build.
    pub version: String,
    /// The NIS domain.
    pub domain: String,
    /// The line of /proc/version up to the version: compiler and builder in brackets.
    pub build: String,
}

/// The system as a whole.
pub trait SystemSource: Send + Sync {
    /// A process by its number, or by the number of one of its threads.
    fn process(&self, id: ProcessId) -> Option<Arc<dyn ProcessSource>>;
    /// The smallest process number above `after`: the directory is listed step by step, in logarithmic time each.
    fn next_process(&self, after: ProcessId) -> Option<ProcessId>;
    /// Nanoseconds since boot.
    fn uptime(&self) -> u64;
    /// Boot, in seconds since the epoch.
    fn boot_time(&self) -> u64;
    /// Counters of CPUs and threads.
    fn counters(&self) -> SystemCounters;
    /// The CPUs.
    fn processors(&self) -> Vec<Processor>;
    /// Memory.
    fn memory(&self) -> MemoryTotals;
    /// Interrupts.
    fn interrupts(&self) -> Vec<InterruptCounts>;
    /// uname(2).
    fn name(&self) -> SystemName;
    /// sethostname(2), by somebody who may. `EINVAL` for a name that is too long.
    fn set_host_name(&self, name: &[u8]) -> Result<()>;
    /// setdomainname(2), likewise.
    fn set_domain_name(&self, name: &[u8]) -> Result<()>;
    /// The boot command line, without newline.
    fn command_line(&self) -> Vec<u8>;
    /// The text of /proc/filesystems: `vfs::FileSystemTypes::list`.
    fn file_systems(&self) -> Result<String>;
    /// Character devices: major number and name, ascending.
    fn character_devices(&self) -> Vec<(u32, &'static str)>;
    /// Block devices likewise.
    fn block_devices(&self) -> Vec<(u32, &'static str)>;
    /// Consoles: name (`ttyS0`) and device number.
    fn consoles(&self) -> Vec<(String, (u32, u32))>;
    /// Fills `bytes` with random ones.
    fn random(&self, bytes: &mut [u8]);
    /// 16 random bytes drawn once, at boot.
    fn boot_id(&self) -> [u8; 16];
    /// Whether programs are loaded at random addresses.
    fn randomises_addresses(&self) -> bool;
    /// Largest process number plus one.
    fn process_number_limit(&self) -> u32;
    /// Sets it for processes to come.
    ///
    /// # Errors
    /// `EINVAL` if it can't be that.
    fn set_process_number_limit(&self, limit: u64) -> Result<()>;
    /// How many threads there may be.
    fn thread_limit(&self) -> u32;
    /// Open files of the system: in use, and how many there may be.
    fn open_files(&self) -> (u64, u64);
    /// What kept a CPU in the kernel for longest: system calls by name, and others; and for how many nanoseconds.
    fn longest_polls(&self, each: &mut dyn FnMut(&'static str, u64));
}
