//! The texts about one process: proc_pid_stat(5), proc_pid_status(5) and their neighbours.

use alloc::sync::Arc;

use abi::cpus::CpuSet;
use abi::signal::SignalSet;
use abi::{Errno, Result};
use memory::{AddressSpace, PAGE_SIZE, ResidentFiles};
use process::credentials::Ids;
use process::limits::Resource;
use process::usage::Usage;
use process::{Credentials, Name, Process, RunState, ThreadState};
use tty::Terminal;

use crate::node::{Cursor, Step, Writer};
use crate::subject::{Subject, number};
use crate::text::{Text, ticks};

/// `PF_RANDOMIZE`, which every program has, and `PF_KTHREAD`.
const FLAGS_OF_PROGRAM: u32 = 0x0040_0000;
const FLAGS_OF_KERNEL_TASK: u32 = 0x0020_0000;

/// One thread at one moment: the same for one that runs and for a leader that has ended.
struct ThreadStatus {
    number: u32,
    name: Name,
    state: RunState,
    usage: Usage,
    /// Since boot, in nanoseconds.
    started: u64,
    nice: i8,
    /// The CPU it last ran on, and those it may run on.
    cpu: usize,
    allowed: CpuSet,
    pending: SignalSet,
    blocked: SignalSet,
    credentials: Arc<Credentials>,
}

impl ThreadStatus {
    /// # Errors
    /// `ESRCH` when it has ended.
    fn of(subject: &Subject, process: &Process) -> Result<ThreadStatus> {
        match subject.find_thread(process) {
            Some(thread) => Ok(ThreadStatus::of_living(subject.thread, &thread)),
            None if subject.is_leader(process) => Ok(ThreadStatus::of_zombie(subject.thread, process)),
            None => Err(Errno::ESRCH),
        }
    }

    fn of_living(number: u32, thread: &ThreadState) -> ThreadStatus {
        let (pending, blocked) = thread.pending_and_blocked();
        let task = thread.task();
        ThreadStatus {
            number,
            name: thread.name(),
            state: thread.run_state(),
            usage: thread.usage(),
            started: thread.started(),
            nice: task.nice(),
            cpu: task.cpu(),
            allowed: task.affinity().intersection(&all_cpus()),
            pending,
            blocked,
            credentials: thread.credentials(),
        }
    }

    /// A leader that has ended is there until its process is collected.
    fn of_zombie(number: u32, process: &Process) -> ThreadStatus {
        ThreadStatus {
            number,
            name: process.name(),
            state: RunState::Zombie,
            usage: process.usage(),
            started: process.started(),
            nice: 0,
            cpu: 0,
            allowed: all_cpus(),
            pending: SignalSet::EMPTY,
            blocked: SignalSet::EMPTY,
            credentials: process.credentials(),
        }
    }
}

fn all_cpus() -> CpuSet {
    CpuSet::first(machine::cpu::count())
}

/// What `status` calls a state.
const fn word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Sleeping => "sleeping",
        RunState::Uninterruptible => "disk sleep",
        RunState::Stopped => "stopped",
        RunState::Zombie => "zombie",
    }
}

/// The thread's name, as `comm` has it.
pub(crate) fn comm(subject: &Subject, process: &Process, text: &mut Text) -> Result<()> {
    text.bytes(ThreadStatus::of(subject, process)?.name.as_bytes());
    text.bytes(b"\n");
    Ok(())
}

/// A process may rename its own threads, nobody else's.
pub(crate) fn set_comm(subject: &Subject, process: &Process, bytes: &[u8], writer: Writer) -> Result<()> {
    if process.pid() != writer.process {
        return Err(Errno::EINVAL);
    }
    let thread = subject.find_thread(process).ok_or(Errno::ESRCH)?;
    thread.set_name(bytes.strip_suffix(b"\n").unwrap_or(bytes));
    Ok(())
}

/// The device number of a terminal as field 7 of `stat` packs it.
fn packed_device(terminal: &Terminal) -> u32 {
    let device = terminal.number();
    (device.minor & 0xff) | (device.major << 8) | ((device.minor & !0xff) << 12)
}

pub(crate) fn stat(subject: &Subject, process: &Process, text: &mut Text) -> Result<()> {
    let thread = ThreadStatus::of(subject, process)?;
    let (space, limits) = (process.space(), process.limits());
    let (ignored, caught) = process.ignored_and_caught();
    let (usage, children) =
        if subject.is_thread { (thread.usage, Usage::default()) } else { (process.usage(), process.children_usage()) };
    let terminal = process.kernel().processes().terminal(process.session_id());
    let foreground = terminal.as_ref().and_then(|terminal| terminal.foreground_group());
    let flags = match thread.state {
        RunState::Zombie => 0,
        _ if space.is_none() => FLAGS_OF_KERNEL_TASK,
        _ => FLAGS_OF_PROGRAM,
    };
    text.put(format_args!("{} (", thread.number));
    text.bytes(thread.name.as_bytes());
    text.put(format_args!(
        ") {} {} {} {} {} {} {flags}",
        thread.state.letter(),
        number(process, process.parent_pid()),
        number(process, process.group_id()),
        number(process, process.session_id()),
        terminal.as_deref().map_or(0, packed_device),
        foreground.map_or(-1, |group| i64::from(number(process, group))),
    ));
    text.put(format_args!(
        " {} {} {} {} {} {} {} {}",
        usage.minor_faults,
        children.minor_faults,
        usage.major_faults,
        children.major_faults,
        ticks(usage.user),
        ticks(usage.system),
        ticks(children.user),
        ticks(children.system),
    ));
    // Nice values from 0 to 39; there are no other policies.
    let (priority, threads) = (20 + thread.nice, process.thread_count().max(1));
    let memory = space.as_ref().map(|space| space.usage()).unwrap_or_default();
    text.put(format_args!(
        " {priority} {} {threads} 0 {} {} {} {}",
        thread.nice,
        ticks(thread.started),
        memory.size * PAGE_SIZE,
        memory.resident,
        limits.soft(Resource::Resident),
    ));
    let program = space.as_ref().map(|space| space.program()).unwrap_or_default();
    let heap = space.as_ref().map(|space| space.heap()).unwrap_or_default();
    let waits = !matches!(thread.state, RunState::Running | RunState::Zombie);
    let low = |set: SignalSet| set.0 & 0x7fff_ffff;
    text.put(format_args!(
        " {} {} {} 0 0 {} {} {} {} {}",
        program.code.start,
        program.code.end,
        program.stack,
        low(thread.pending),
        low(thread.blocked),
        low(ignored),
        low(caught),
        u32::from(waits),
    ));
    text.put(format_args!(" 0 0 {} {} 0 0 0 0 0", process.exit_signal(), thread.cpu));
    text.put(format_args!(
        " {} {} {} {} {} {} {} {}\n",
        program.data.start,
        program.data.end,
        heap.start,
        program.arguments.start,
        program.arguments.end,
        program.environment.start,
        program.environment.end,
        process.exit_status().unwrap_or(0).cast_unsigned(),
    ));
    Ok(())
}

/// Counts the pages of files, up to `cursor.at`. False if there was too much to count at once.
fn count_files(space: Option<&AddressSpace>, cursor: &mut Cursor) -> bool {
    let next = space.and_then(|space| space.count_files(cursor.at as usize, &mut cursor.files));
    cursor.at = next.map_or(cursor.at, |next| next as u64);
    next.is_none()
}

pub(crate) fn statm(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    let space = process.space();
    if !count_files(space.as_deref(), cursor) {
        return Ok(Step::Pause);
    }
    let memory = space.map(|space| space.usage()).unwrap_or_default();
    let shared = cursor.files.file + cursor.files.shared;
    let (resident, data) = (memory.resident.max(shared), memory.data + memory.stack);
    text.put(format_args!("{} {resident} {shared} {} 0 {data} 0\n", memory.size, memory.code));
    Ok(Step::End)
}

pub(crate) fn status(subject: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    let space = process.space();
    if !count_files(space.as_deref(), cursor) {
        return Ok(Step::Pause);
    }
    let thread = ThreadStatus::of(subject, process)?;
    identity_lines(process, &thread, text);
    let is_kernel_task = space.is_none() && thread.state != RunState::Zombie;
    text.put(format_args!("Kthread:\t{}\n", u32::from(is_kernel_task)));
    if let Some(space) = space {
        memory_lines(&space.usage(), &cursor.files, text);
    }
    signal_lines(process, &thread, text);
    let sets = thread.credentials.capabilities;
    for (name, set) in [
        ("Inh", sets.inheritable),
        ("Prm", sets.permitted),
        ("Eff", sets.effective),
        ("Bnd", sets.bounding),
        ("Amb", sets.ambient),
    ] {
        text.put(format_args!("Cap{name}:\t{set:016x}\n"));
    }
    text.put(format_args!("NoNewPrivs:\t{}\n", u32::from(thread.credentials.no_new_privileges)));
    text.put(format_args!("Seccomp:\t0\nSeccomp_filters:\t0\n"));
    processor_lines(&thread.allowed, text);
    text.put(format_args!("Mems_allowed:\t1\nMems_allowed_list:\t0\n"));
    text.put(format_args!("voluntary_ctxt_switches:\t{}\n", thread.usage.voluntary_switches));
    text.put(format_args!("nonvoluntary_ctxt_switches:\t{}\n", thread.usage.involuntary_switches));
    Ok(Step::End)
}

/// Who it is, by name and numbers.
fn identity_lines(process: &Process, thread: &ThreadStatus, text: &mut Text) {
    let number = |pid| number(process, pid);
    let (own, credentials) = (number(process.pid()), &thread.credentials);
    text.put(format_args!("Name:\t"));
    text.escaped(thread.name.as_bytes(), b"\n");
    let (letter, word) = (thread.state.letter(), word(thread.state));
    text.put(format_args!("\nUmask:\t{:04o}\nState:\t{letter} ({word})\n", process.fs_context().umask()));
    text.put(format_args!("Tgid:\t{own}\nNgid:\t0\nPid:\t{}\n", thread.number));
    text.put(format_args!("PPid:\t{}\nTracerPid:\t0\n", number(process.parent_pid())));
    for (name, ids) in [("Uid", &credentials.users), ("Gid", &credentials.groups)] {
        let Ids { real, effective, saved, files } = ids;
        text.put(format_args!("{name}:\t{real}\t{effective}\t{saved}\t{files}\n"));
    }
    text.put(format_args!("FDSize:\t{}\nGroups:\t", process.files().capacity()));
    let groups = credentials.supplementary();
    groups.iter().for_each(|group| text.put(format_args!("{group} ")));
    if groups.is_empty() {
        text.put(format_args!(" "));
    }
    text.put(format_args!("\nNStgid:\t{own}\nNSpid:\t{}\n", thread.number));
    text.put(format_args!("NSpgid:\t{}\nNSsid:\t{}\n", number(process.group_id()), number(process.session_id())));
}

fn memory_lines(memory: &memory::Usage, files: &ResidentFiles, text: &mut Text) {
    // Counted at different moments; the sum agrees all the same.
    let of_files = files.file + files.shared;
    let anonymous = memory.resident.saturating_sub(of_files);
    let resident = anonymous + of_files;
    // One table for every 2 MiB that is used, and those above it.
    let page_tables = memory.resident.div_ceil(512) + 3;
    for (name, pages) in [
        ("VmPeak", memory.peak.max(memory.size)),
        ("VmSize", memory.size),
        ("VmLck", memory.locked),
        ("VmPin", 0),
        ("VmHWM", memory.peak_resident.max(resident)),
        ("VmRSS", resident),
        ("RssAnon", anonymous),
        ("RssFile", files.file),
        ("RssShmem", files.shared),
        ("VmData", memory.data),
        ("VmStk", memory.stack),
        ("VmExe", memory.code),
        ("VmLib", memory.libraries),
        ("VmPTE", page_tables),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ] {
        text.put(format_args!("{name}:\t{:8} kB\n", pages * (PAGE_SIZE / 1024)));
    }
    let huge_pages = u8::from(memory.huge_pages);
    text.put(format_args!("CoreDumping:\t0\nTHP_enabled:\t{huge_pages}\nuntag_mask:\t0xffffffffffffffff\n"));
}

fn signal_lines(process: &Process, thread: &ThreadStatus, text: &mut Text) {
    let (queued, most) = (thread.credentials.counts().signals(), process.limits().soft(Resource::PendingSignals));
    text.put(format_args!("Threads:\t{}\nSigQ:\t{queued}/{most}\n", process.thread_count().max(1)));
    let (ignored, caught) = process.ignored_and_caught();
    for (name, set) in [
        ("SigPnd", thread.pending),
        ("ShdPnd", process.shared_pending()),
        ("SigBlk", thread.blocked),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ] {
        text.put(format_args!("{name}:\t{:016x}\n", set.0));
    }
}

/// A mask as Linux prints it: words of 32 bits, the highest first.
fn mask(set: &CpuSet, text: &mut Text) {
    let highest = (0..CpuSet::CAPACITY).rfind(|&cpu| set.contains(cpu)).map_or(0, |last| last / 32);
    for index in (0..=highest).rev() {
        let word = set.0.get(index / 2).map_or(0, |word| (word >> (index % 2 * 32)) as u32);
        if index == highest {
            text.put(format_args!("{word:x}"));
        } else {
            text.put(format_args!(",{word:08x}"));
        }
    }
}

/// The CPUs as a mask and as a list of ranges.
fn processor_lines(allowed: &CpuSet, text: &mut Text) {
    text.put(format_args!("Cpus_allowed:\t"));
    mask(allowed, text);
    text.put(format_args!("\nCpus_allowed_list:\t"));
    let is_in = |cpu: usize| allowed.contains(cpu);
    let starts = (0..CpuSet::CAPACITY).filter(|&cpu| is_in(cpu) && (cpu == 0 || !is_in(cpu - 1)));
    for (index, start) in starts.enumerate() {
        let end = (start..CpuSet::CAPACITY).take_while(|&cpu| is_in(cpu)).last().unwrap_or(start);
        text.put(format_args!("{}{start}", if index > 0 { "," } else { "" }));
        if end > start {
            text.put(format_args!("-{end}"));
        }
    }
    text.put(format_args!("\n"));
}

pub(crate) fn limits(_: &Subject, process: &Process, text: &mut Text) -> Result<()> {
    /// In the order of the table, which is that of the numbers.
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    text.put(format_args!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units"));
    for ((name, unit), (soft, hard)) in NAMES.into_iter().zip(process.limits().all()) {
        text.put(format_args!("{name:<25} "));
        for limit in [soft, hard] {
            match limit {
                u64::MAX => text.put(format_args!("{:<20} ", "unlimited")),
                _ => text.put(format_args!("{limit:<20} ")),
            }
        }
        if unit.is_empty() {
            text.put(format_args!("\n"));
        } else {
            text.put(format_args!("{unit:<10}\n"));
        }
    }
    Ok(())
}

/// What goes through descriptors is not counted by process.
pub(crate) fn input_output(_: &Subject, _: &Process, text: &mut Text) -> Result<()> {
    for name in ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"] {
        text.put(format_args!("{name}: 0\n"));
    }
    Ok(())
}

/// personality(2).
pub(crate) fn personality(_: &Subject, process: &Process, text: &mut Text) -> Result<()> {
    text.put(format_args!("{:08x}\n", process.personality()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_words_of_32_bits_the_highest_first() {
        let shown = |set: CpuSet| {
            let mut text = Text::new();
            mask(&set, &mut text);
            String::from_utf8(text.finish().unwrap()).unwrap()
        };
        assert_eq!((shown(CpuSet::EMPTY), shown(CpuSet::first(4))), ("0".into(), "f".into()));
        assert_eq!(shown(CpuSet([1 << 33, 0, 0b101, 0])), "5,00000000,00000000,00000002,00000000");
    }
}
