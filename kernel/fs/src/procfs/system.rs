//! The texts that show the system as a whole: proc_meminfo(5), proc_stat(5), proc_cpuinfo(5) and their neighbours.

use alloc::vec::Vec;
use core::fmt;

use abi::Result;
use abi::fallible::{TryVec, try_to_vec};

use super::source::{ProcessorTimes, SystemSource};
use super::text::{Text, kib, ticks};

const SECOND: u64 = 1_000_000_000;

/// Makes a text from what the system says.
pub(super) type SystemText = fn(&dyn SystemSource) -> Result<Vec<u8>>;

/// The regular files at the top of /proc, with their permissions.
pub(super) const FILES: &[(&str, u32, SystemText)] = &[
    ("buddyinfo", 0o444, buddyinfo),
    ("cgroups", 0o444, cgroups),
    ("cmdline", 0o444, cmdline),
    ("consoles", 0o444, consoles),
    ("cpuinfo", 0o444, cpuinfo),
    ("devices", 0o444, devices),
    ("diskstats", 0o444, empty),
    ("filesystems", 0o444, filesystems),
    ("interrupts", 0o444, interrupts),
    ("loadavg", 0o444, loadavg),
    ("longest_polls", 0o444, longest_polls),
    ("meminfo", 0o444, meminfo),
    ("modules", 0o444, empty),
    ("partitions", 0o444, empty),
    ("stat", 0o444, stat),
    ("swaps", 0o444, swaps),
    ("uptime", 0o444, uptime),
    ("version", 0o444, version),
    ("vmstat", 0o444, vmstat),
];

/// No devices, no modules: no lines.
fn empty(_system: &dyn SystemSource) -> Result<Vec<u8>> {
    Ok(Vec::new())
}

fn buddyinfo(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let mut text = Text::new();
    text.put(format_args!("Node 0, zone {:>8} ", "Normal"));
    for count in system.memory().free_blocks {
        text.put(format_args!("{count:6} "));
    }
    text.put(format_args!("\n"));
    text.finish()
}

fn cgroups(_system: &dyn SystemSource) -> Result<Vec<u8>> {
    try_to_vec(b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n")
}

fn cmdline(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let mut line = system.command_line();
    line.try_push(b'\n')?;
    Ok(line)
}

/// The console takes messages and reads; it is enabled, the preferred one, and usable at any time.
fn consoles(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let mut text = Text::new();
    for (name, (major, minor)) in system.consoles() {
        text.put(format_args!("{name:<21}-W- (EC p a) {major:>4}:{minor}\n"));
    }
    text.finish()
}

fn cpuinfo(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let mut text = Text::new();
    let processors = system.processors();
    for (index, cpu) in processors.iter().enumerate() {
        let (mhz, khz) = (cpu.clock_khz / 1000, cpu.clock_khz % 1000);
        // Two loops of delay a cycle: what Linux computes from a TSC.
        let bogomips = cpu.clock_khz / 5;
        let count = processors.len();
        text.put(format_args!("processor\t: {index}\nvendor_id\t: {}\n", cpu.vendor));
        text.put(format_args!(
            "cpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\n",
            cpu.family, cpu.model, cpu.model_name
        ));
        text.put(format_args!("stepping\t: {}\ncpu MHz\t\t: {mhz}.{khz:03}\n", cpu.stepping));
        if cpu.cache_kib > 0 {
            text.put(format_args!("cache size\t: {} KB\n", cpu.cache_kib));
        }
        text.put(format_args!("physical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {index}\ncpu cores\t: {count}\n"));
        text.put(format_args!("apicid\t\t: {0}\ninitial apicid\t: {0}\n", cpu.apic));
        text.put(format_args!("fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\n", cpu.cpuid_level));
        text.put(format_args!("flags\t\t: {}\nbugs\t\t: \n", cpu.features));
        text.put(format_args!("bogomips\t: {}.{:02}\n", bogomips / 100, bogomips % 100));
        text.put(format_args!("clflush size\t: {0}\ncache_alignment\t: {0}\n", cpu.flush_size));
        let (physical, virtual_) = cpu.address_bits;
        text.put(format_args!("address sizes\t: {physical} bits physical, {virtual_} bits virtual\n"));
        text.put(format_args!("power management:\n\n"));
    }
    text.finish()
}

fn devices(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let mut text = Text::new();
    text.put(format_args!("Character devices:\n"));
    for (major, name) in system.character_devices() {
        text.put(format_args!("{major:3} {name}\n"));
    }
    text.put(format_args!("\nBlock devices:\n"));
    for (major, name) in system.block_devices() {
        text.put(format_args!("{major:3} {name}\n"));
    }
    text.finish()
}

fn filesystems(system: &dyn SystemSource) -> Result<Vec<u8>> {
    Ok(system.file_systems()?.into_bytes())
}

fn interrupts(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let lines = system.interrupts();
    let mut text = Text::new();
    text.put(format_args!("{:11}", ""));
    for cpu in 0..system.counters().processors.len() {
        text.put(format_args!("CPU{cpu:<8}"));
    }
    text.put(format_args!("\n"));
    for line in lines {
        text.put(format_args!("{:>3}:", line.name));
        for count in line.counts {
            text.put(format_args!(" {count:10}"));
        }
        text.put(format_args!("  {}\n", line.description));
    }
    text.finish()
}

fn loadavg(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let counters = system.counters();
    let mut text = Text::new();
    for load in counters.load {
        text.put(format_args!("{}.{:02} ", load / 100, load % 100));
    }
    text.put(format_args!("{}/{} {}\n", counters.running, counters.threads, counters.last_process));
    text.finish()
}

/// Not Linux's: what kept a CPU in the kernel for longest, and for how many nanoseconds. Only what took above a millisecond.
fn longest_polls(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let mut text = Text::new();
    system.longest_polls(&mut |name, nanoseconds| text.put(format_args!("{name} {nanoseconds}\n")));
    text.finish()
}

fn meminfo(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let memory = system.memory();
    // Shared memory counts as cached, but cannot be dropped: it ages with the anonymous pages.
    let file = memory.cached.saturating_sub(memory.shared);
    let anonymous = memory.anonymous.saturating_add(memory.shared);
    let lines = [
        ("MemTotal", memory.total),
        ("MemFree", memory.free),
        ("MemAvailable", memory.available),
        ("Buffers", memory.buffers),
        ("Cached", memory.cached),
        ("SwapCached", 0),
        ("Active", anonymous.saturating_add(file)),
        ("Inactive", 0),
        ("Active(anon)", anonymous),
        ("Inactive(anon)", 0),
        ("Active(file)", file),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", memory.swap_total),
        ("SwapFree", memory.swap_free),
        ("Dirty", memory.dirty),
        ("Writeback", 0),
        ("AnonPages", memory.anonymous),
        ("Mapped", memory.mapped),
        ("Shmem", memory.shared),
        ("KReclaimable", 0),
        ("Slab", memory.slab),
        ("SReclaimable", 0),
        ("SUnreclaim", memory.slab),
        ("KernelStack", memory.kernel_stacks),
        ("PageTables", memory.page_tables),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", memory.swap_total.saturating_add(memory.total / 2)),
        ("Committed_AS", memory.committed),
        ("VmallocTotal", 34_359_738_367 * 1024),
        ("VmallocUsed", memory.vmalloc),
        ("VmallocChunk", 0),
        ("Percpu", 0),
    ];
    let mut text = Text::new();
    for (name, bytes) in lines {
        field(&mut text, name);
        text.put(format_args!("{:>8} kB\n", kib(bytes)));
    }
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"] {
        field(&mut text, name);
        text.put(format_args!("{:>8}\n", 0));
    }
    for (name, size) in [("Hugepagesize", 2048), ("Hugetlb", 0)] {
        field(&mut text, name);
        text.put(format_args!("{size:>8} kB\n"));
    }
    text.finish()
}

/// The name of a value, padded.
fn field(text: &mut Text, name: &str) {
    let start = text.len();
    text.put(format_args!("{name}:"));
    text.pad(start, 16);
}

fn stat(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let counters = system.counters();
    let total = counters.processors.iter().fold(ProcessorTimes::default(), |sum, cpu| ProcessorTimes {
        user: sum.user.saturating_add(cpu.user),
        nice: sum.nice.saturating_add(cpu.nice),
        system: sum.system.saturating_add(cpu.system),
        idle: sum.idle.saturating_add(cpu.idle),
        waiting: sum.waiting.saturating_add(cpu.waiting),
        interrupts: sum.interrupts.saturating_add(cpu.interrupts),
        stolen: sum.stolen.saturating_add(cpu.stolen),
    });
    let mut text = Text::new();
    let mut line = |name: fmt::Arguments<'_>, times: &ProcessorTimes| {
        let [user, nice, kernel, idle, waiting, interrupts] =
            [times.user, times.nice, times.system, times.idle, times.waiting, times.interrupts].map(ticks);
        let stolen = ticks(times.stolen);
        // Soft interrupts and time of guests: not told apart here.
        text.put(format_args!("{name} {user} {nice} {kernel} {idle} {waiting} {interrupts} 0 {stolen} 0 0\n"));
    };
    line(format_args!("cpu "), &total);
    for (index, times) in counters.processors.iter().enumerate() {
        line(format_args!("cpu{index}"), times);
    }
    text.put(format_args!("intr {}\n", counters.interrupts));
    text.put(format_args!("ctxt {}\nbtime {}\n", counters.context_switches, system.boot_time()));
    text.put(format_args!("processes {}\n", counters.forks));
    text.put(format_args!("procs_running {}\nprocs_blocked {}\n", counters.running, counters.blocked));
    text.put(format_args!("softirq 0 0 0 0 0 0 0 0 0 0 0\n"));
    text.finish()
}

fn swaps(_system: &dyn SystemSource) -> Result<Vec<u8>> {
    try_to_vec(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
}

fn uptime(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let idle: u64 = system.counters().processors.iter().map(|cpu| cpu.idle).sum();
    let hundredths = |time: u64| (time / SECOND, time % SECOND / (SECOND / 100));
    let ((up, up_rest), (idle, idle_rest)) = (hundredths(system.uptime()), hundredths(idle));
    Text::of(format_args!("{up}.{up_rest:02} {idle}.{idle_rest:02}\n"))
}

fn version(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let name = system.name();
    Text::of(format_args!("{} version {} {} {}\n", name.system, name.release, name.build, name.version))
}

fn vmstat(system: &dyn SystemSource) -> Result<Vec<u8>> {
    let (memory, faults) = (system.memory(), system.counters().faults);
    let page = super::text::pages;
    let lines = [
        ("nr_free_pages", page(memory.free)),
        ("nr_mlock", 0),
        ("nr_anon_pages", page(memory.anonymous)),
        ("nr_mapped", page(memory.mapped)),
        ("nr_file_pages", page(memory.cached.saturating_add(memory.buffers))),
        ("nr_dirty", page(memory.dirty)),
        ("nr_writeback", 0),
        ("nr_shmem", page(memory.shared)),
        ("nr_kernel_stack", kib(memory.kernel_stacks)),
        ("nr_page_table_pages", page(memory.page_tables)),
        ("nr_slab_reclaimable", 0),
        ("nr_slab_unreclaimable", page(memory.slab)),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", faults.minor.saturating_add(faults.major)),
        ("pgmajfault", faults.major),
        ("oom_kill", 0),
    ];
    let mut text = Text::new();
    lines.iter().for_each(|(name, value)| text.put(format_args!("{name} {value}\n")));
    text.finish()
}
