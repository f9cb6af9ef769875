//! The texts about one process: proc_pid_stat(5), proc_pid_status(5) and their neighbours.

use alloc::vec::Vec;

use abi::cpus::CpuSet;
use abi::raw::general as raw;
use abi::{Errno, Result};

use super::node::{Cursor, Step};
use super::process::Subject;
use super::source::{MemoryStatus, ProcessStatus, ResidentFiles, State, ThreadStatus};
use super::text::{Text, kib, pages, ticks};

/// `PF_RANDOMIZE`, which every program has, and `PF_KTHREAD`.
const FLAGS_OF_PROGRAM: u32 = 0x0040_0000;
const FLAGS_OF_KERNEL_TASK: u32 = 0x0020_0000;

impl State {
    fn letter_and_word(self) -> (char, &'static str) {
        match self {
            State::Running => ('R', "running"),
            State::Sleeping => ('S', "sleeping"),
            State::Uninterruptible => ('D', "disk sleep"),
            State::Stopped => ('T', "stopped"),
            State::Traced => ('t', "tracing stop"),
            State::Zombie => ('Z', "zombie"),
            State::Dead => ('X', "dead"),
        }
    }
}

impl Subject {
    fn both(&self) -> Result<(ProcessStatus, ThreadStatus)> {
        let process = self.process.status()?;
        let thread = self.process.thread(self.thread).ok_or(Errno::ESRCH)?;
        Ok((process, thread))
    }
}

/// A device number as field 7 of `stat` packs it.
fn packed_device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The priority as `stat` shows it: nice values from 0 to 39, real-time ones below 0.
fn priority(thread: &ThreadStatus) -> i32 {
    match thread.policy {
        raw::SCHED_FIFO | raw::SCHED_RR => -1 - thread.real_time_priority.cast_signed(),
        _ => 20 + thread.nice,
    }
}

pub(super) fn stat(subject: &Subject) -> Result<Vec<u8>> {
    let (process, thread) = subject.both()?;
    let memory = process.memory.unwrap_or_default();
    let of_thread = subject.is_thread;
    let (faults, user, system) = if of_thread {
        (thread.faults, thread.user_time, thread.system_time)
    } else {
        (process.faults, process.user_time, process.system_time)
    };
    let children = |value: u64| if of_thread { 0 } else { value };
    let mut text = Text::new();
    text.put(format_args!("{} (", thread.id));
    text.bytes(&thread.name);
    let terminal = process.terminal.map_or(0, packed_device);
    let foreground = process.foreground_group.map_or(-1, i64::from);
    let flags = if process.memory.is_some() { FLAGS_OF_PROGRAM } else { FLAGS_OF_KERNEL_TASK };
    let flags = if thread.state == State::Zombie { 0 } else { flags };
    text.put(format_args!(
        ") {} {} {} {} {terminal} {foreground} {flags}",
        thread.state.letter_and_word().0,
        process.parent,
        process.group,
        process.session,
    ));
    text.put(format_args!(
        " {} {} {} {}",
        faults.minor,
        children(process.children_faults.minor),
        faults.major,
        children(process.children_faults.major),
    ));
    text.put(format_args!(
        " {} {} {} {}",
        ticks(user),
        ticks(system),
        ticks(children(process.children_user_time)),
        ticks(children(process.children_system_time)),
    ));
    text.put(format_args!(
        " {} {} {} 0 {} {} {} {}",
        priority(&thread),
        thread.nice,
        process.threads,
        ticks(thread.start_time),
        memory.size,
        pages(memory.resident),
        process.limits.get(raw::RLIMIT_RSS as usize).map_or(u64::MAX, |limit| limit.0),
    ));
    let waits = !matches!(thread.state, State::Running | State::Zombie | State::Dead);
    let low = |set: u64| set & 0x7fff_ffff;
    text.put(format_args!(
        " {} {} {} 0 0 {} {} {} {} {}",
        memory.start_code,
        memory.end_code,
        memory.start_stack,
        low(thread.pending),
        low(thread.blocked),
        low(process.ignored),
        low(process.caught),
        u32::from(waits),
    ));
    text.put(format_args!(
        " 0 0 {} {} {} {} 0 0 0",
        process.exit_signal, thread.processor, thread.real_time_priority, thread.policy
    ));
    text.put(format_args!(
        " {} {} {} {} {} {} {} {}\n",
        memory.start_data,
        memory.end_data,
        memory.start_break,
        memory.arguments.0,
        memory.arguments.1,
        memory.environment.0,
        memory.environment.1,
        process.exit_code,
    ));
    text.finish()
}

/// Counts the pages of files, up to `cursor.at`. False if there was too much to count at once.
fn count_files(subject: &Subject, cursor: &mut Cursor) -> Result<bool> {
    let next = subject.process.resident_files(cursor.at, &mut cursor.files)?;
    cursor.at = next.unwrap_or(cursor.at);
    Ok(next.is_none())
}

pub(super) fn statm(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    if !count_files(subject, cursor)? {
        return Ok(Step::Pause);
    }
    let memory = subject.process.status()?.memory.unwrap_or_default();
    let shared = cursor.files.file.saturating_add(cursor.files.shared);
    let resident = memory.resident.max(shared);
    let code = memory.text.div_ceil(4096);
    let data = pages(memory.data.saturating_add(memory.stack));
    let (size, resident) = (pages(memory.size), pages(resident));
    text.put(format_args!("{size} {resident} {} {code} 0 {data} 0\n", pages(shared)));
    Ok(Step::End)
}

pub(super) fn status(subject: &Subject, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    if !count_files(subject, cursor)? {
        return Ok(Step::Pause);
    }
    let (process, thread) = subject.both()?;
    text.put(format_args!("Name:\t"));
    text.escaped(&thread.name, b"\n");
    let (letter, word) = thread.state.letter_and_word();
    text.put(format_args!("\nUmask:\t{:04o}\nState:\t{letter} ({word})\n", process.umask));
    text.put(format_args!("Tgid:\t{}\nNgid:\t0\nPid:\t{}\n", process.id, thread.id));
    text.put(format_args!("PPid:\t{}\nTracerPid:\t0\n", process.parent));
    for (name, [real, effective, saved, file]) in [("Uid", thread.users), ("Gid", thread.groups)] {
        text.put(format_args!("{name}:\t{real}\t{effective}\t{saved}\t{file}\n"));
    }
    text.put(format_args!("FDSize:\t{}\nGroups:\t", process.descriptor_slots));
    thread.supplementary_groups.iter().for_each(|group| text.put(format_args!("{group} ")));
    if thread.supplementary_groups.is_empty() {
        text.put(format_args!(" "));
    }
    text.put(format_args!("\nNStgid:\t{}\nNSpid:\t{}\n", process.id, thread.id));
    text.put(format_args!("NSpgid:\t{}\nNSsid:\t{}\n", process.group, process.session));
    let is_kernel_task = process.memory.is_none() && thread.state != State::Zombie;
    text.put(format_args!("Kthread:\t{}\n", u32::from(is_kernel_task)));
    if let Some(memory) = process.memory {
        memory_lines(&memory, cursor.files, text);
    }
    signal_lines(&process, &thread, text);
    let [inheritable, permitted, effective, bounding, ambient] = thread.capabilities;
    for (name, set) in
        [("Inh", inheritable), ("Prm", permitted), ("Eff", effective), ("Bnd", bounding), ("Amb", ambient)]
    {
        text.put(format_args!("Cap{name}:\t{set:016x}\n"));
    }
    text.put(format_args!("NoNewPrivs:\t{}\n", u32::from(thread.no_new_privileges)));
    text.put(format_args!("Seccomp:\t0\nSeccomp_filters:\t0\n"));
    processor_lines(&thread, text);
    text.put(format_args!("Mems_allowed:\t1\nMems_allowed_list:\t0\n"));
    text.put(format_args!("voluntary_ctxt_switches:\t{}\n", thread.voluntary_switches));
    text.put(format_args!("nonvoluntary_ctxt_switches:\t{}\n", thread.involuntary_switches));
    Ok(Step::End)
}

fn memory_lines(memory: &MemoryStatus, files: ResidentFiles, text: &mut Text) {
    // Counted at different moments; the sum agrees all the same.
    let anonymous = memory.resident.saturating_sub(files.file.saturating_add(files.shared));
    let resident = anonymous.saturating_add(files.file).saturating_add(files.shared);
    for (name, bytes) in [
        ("VmPeak", memory.peak_size.max(memory.size)),
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
        ("VmExe", memory.text),
        ("VmLib", memory.libraries),
        ("VmPTE", memory.page_tables),
        ("VmSwap", memory.swap),
        ("HugetlbPages", 0),
    ] {
        text.put(format_args!("{name}:\t{:8} kB\n", kib(bytes)));
    }
    text.put(format_args!("CoreDumping:\t0\nTHP_enabled:\t0\nuntag_mask:\t0xffffffffffffffff\n"));
}

fn signal_lines(process: &ProcessStatus, thread: &ThreadStatus, text: &mut Text) {
    let queue = process.limits.get(raw::RLIMIT_SIGPENDING as usize).map_or(0, |limit| limit.0);
    text.put(format_args!("Threads:\t{}\nSigQ:\t{}/{queue}\n", process.threads, thread.queued_signals));
    for (name, set) in [
        ("SigPnd", thread.pending),
        ("ShdPnd", process.shared_pending),
        ("SigBlk", thread.blocked),
        ("SigIgn", process.ignored),
        ("SigCgt", process.caught),
    ] {
        text.put(format_args!("{name}:\t{set:016x}\n"));
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
fn processor_lines(thread: &ThreadStatus, text: &mut Text) {
    let allowed = &thread.allowed_processors;
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

pub(super) fn limits(subject: &Subject) -> Result<Vec<u8>> {
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
    let mut text = Text::new();
    text.put(format_args!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units"));
    for ((name, unit), (soft, hard)) in NAMES.into_iter().zip(subject.process.status()?.limits) {
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
    text.finish()
}

pub(super) fn input_output(subject: &Subject) -> Result<Vec<u8>> {
    subject.process.status()?;
    let counts = subject.process.input_output();
    let mut text = Text::new();
    for (name, count) in [
        ("rchar", counts.read_bytes),
        ("wchar", counts.written_bytes),
        ("syscr", counts.read_calls),
        ("syscw", counts.write_calls),
        ("read_bytes", counts.device_read_bytes),
        ("write_bytes", counts.device_written_bytes),
        ("cancelled_write_bytes", 0),
    ] {
        text.put(format_args!("{name}: {count}\n"));
    }
    text.finish()
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
