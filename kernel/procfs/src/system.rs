//! The texts that show the system as a whole: proc_stat(5), proc_uptime(5), proc_loadavg(5) and their neighbours.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::fmt;

use abi::fallible::try_collect;
use abi::system::{RELEASE, SYSTEM, VERSION};
use abi::{Errno, Result};
use process::Kernel;
use sched::CpuTimes;
use tty::Terminal;
use vfs::{DeviceClass, DeviceNumber};

use crate::subject::Subject;
use crate::text::{Text, ticks};
use crate::{cpuinfo, meminfo};

const SECOND: u64 = 1_000_000_000;

/// Names what a task does by its number: a system call, or one of [`process::activity`].
pub type NameOf = fn(u32) -> &'static str;

/// The system, which no file keeps alive: /proc is one of its file systems.
pub(crate) struct System {
    kernel: Weak<Kernel>,
    boot: Boot,
}

/// What does not change from boot on.
pub(crate) struct Boot {
    /// When that was, in seconds since the epoch.
    time: u64,
    /// Drawn then.
    pub id: [u8; 16],
    console: Option<(String, DeviceNumber)>,
    name_of: NameOf,
}

/// The system while a text is made.
pub(crate) struct View<'a> {
    pub kernel: Arc<Kernel>,
    pub boot: &'a Boot,
}

impl System {
    pub fn new(kernel: &Arc<Kernel>, console: Option<&Terminal>, name_of: NameOf) -> System {
        let mut id = [0; 16];
        kernel.random(&mut id);
        let time = machine::time::wall_clock().saturating_sub(machine::time::now()) / SECOND;
        let console = console.map(|terminal| (terminal.name().into(), terminal.number()));
        System { kernel: Arc::downgrade(kernel), boot: Boot { time, id, console, name_of } }
    }

    /// # Errors
    /// `ESRCH` when there is no kernel any more.
    pub fn view(&self) -> Result<View<'_>> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ESRCH)?;
        Ok(View { kernel, boot: &self.boot })
    }

    /// The process with a number. A thread's number finds its process, without being listed; what belongs to threads is then that one's.
    pub fn subject(&self, number: u32) -> Option<Subject> {
        let kernel = self.kernel.upgrade()?;
        let (pid, processes) = (kernel.namespaces().pids().pid(number)?, kernel.processes());
        let of_thread = || processes.thread(pid).map(|thread| thread.process().clone());
        processes.process(pid).or_else(of_thread).map(|process| Subject::new(&process, number))
    }

    /// The smallest number of a process above `after`.
    pub fn next_process(&self, after: u32) -> Option<u32> {
        let kernel = self.kernel.upgrade()?;
        kernel.namespaces().pids().next_process(kernel.processes(), after)
    }
}

/// Appends a text.
pub(crate) type SystemText = fn(&View<'_>, &mut Text) -> Result<()>;

/// The regular files at the top of /proc, with their permissions.
pub(crate) const FILES: &[(&str, u32, SystemText)] = &[
    ("buddyinfo", 0o444, meminfo::buddyinfo),
    ("cgroups", 0o444, cgroups),
    ("cmdline", 0o444, cmdline),
    ("consoles", 0o444, consoles),
    ("cpuinfo", 0o444, cpuinfo::cpuinfo),
    ("devices", 0o444, devices),
    ("diskstats", 0o444, empty),
    ("filesystems", 0o444, filesystems),
    ("interrupts", 0o444, interrupts),
    ("loadavg", 0o444, loadavg),
    ("longest_polls", 0o444, longest_polls),
    ("meminfo", 0o444, meminfo::meminfo),
    ("modules", 0o444, empty),
    ("partitions", 0o444, empty),
    ("stat", 0o444, stat),
    ("swaps", 0o444, swaps),
    ("uptime", 0o444, uptime),
    ("version", 0o444, version),
    ("vmstat", 0o444, meminfo::vmstat),
];

/// No devices, no modules: no lines.
fn empty(_: &View<'_>, _: &mut Text) -> Result<()> {
    Ok(())
}

fn cgroups(_: &View<'_>, text: &mut Text) -> Result<()> {
    text.bytes(b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
    Ok(())
}

fn cmdline(_: &View<'_>, text: &mut Text) -> Result<()> {
    text.put(format_args!("{}\n", machine::device::command_line()));
    Ok(())
}

/// The console takes messages and reads; it is enabled, the preferred one, and usable at any time.
fn consoles(system: &View<'_>, text: &mut Text) -> Result<()> {
    if let Some((name, DeviceNumber { major, minor })) = &system.boot.console {
        text.put(format_args!("{name:<21}-W- (EC p a) {major:>4}:{minor}\n"));
    }
    Ok(())
}

fn devices(system: &View<'_>, text: &mut Text) -> Result<()> {
    text.put(format_args!("Character devices:\n"));
    majors(system, DeviceClass::Character, text)?;
    text.put(format_args!("\nBlock devices:\n"));
    majors(system, DeviceClass::Block, text)
}

fn majors(system: &View<'_>, class: DeviceClass, text: &mut Text) -> Result<()> {
    let all = system.kernel.vfs().devices.list().into_iter();
    let mut majors = try_collect(all.filter(|(found, ..)| *found == class).map(|(_, number, _)| number.major))?;
    majors.sort_unstable();
    majors.dedup();
    majors.iter().for_each(|major| text.put(format_args!("{major:3} {}\n", major_name(*major))));
    Ok(())
}

/// Linux's names of major numbers, devices.txt.
const fn major_name(major: u32) -> &'static str {
    match major {
        1 => "mem",
        4 => "ttyS",
        5 => "/dev/tty",
        10 => "misc",
        136 => "pts",
        229 => "hvc",
        _ => "unknown",
    }
}

fn filesystems(system: &View<'_>, text: &mut Text) -> Result<()> {
    text.bytes(system.kernel.vfs().file_system_types.list()?.as_bytes());
    Ok(())
}

/// They are not counted: there is the line that names the CPUs.
fn interrupts(_: &View<'_>, text: &mut Text) -> Result<()> {
    text.put(format_args!("{:11}", ""));
    for cpu in 0..machine::cpu::count() {
        text.put(format_args!("CPU{cpu:<8}"));
    }
    text.put(format_args!("\n"));
    Ok(())
}

fn loadavg(system: &View<'_>, text: &mut Text) -> Result<()> {
    let (executor, processes) = (system.kernel.executor(), system.kernel.processes());
    for average in executor.load_averages() {
        let hundredths = average * 100 / sched::FIXED_ONE;
        text.put(format_args!("{}.{:02} ", hundredths / 100, hundredths % 100));
    }
    let last = system.kernel.namespaces().pids().number(processes.last_pid());
    text.put(format_args!("{}/{} {last}\n", executor.statistics().running, processes.thread_count()));
    Ok(())
}

/// Not Linux's: what kept a CPU in the kernel for longest, and for how many nanoseconds. Only what took above a millisecond.
fn longest_polls(system: &View<'_>, text: &mut Text) -> Result<()> {
    let name_of = system.boot.name_of;
    let line = |activity, nanoseconds| text.put(format_args!("{} {nanoseconds}\n", name_of(activity)));
    system.kernel.executor().longest_polls(line);
    Ok(())
}

fn stat(system: &View<'_>, text: &mut Text) -> Result<()> {
    let statistics = system.kernel.executor().statistics();
    cpu_lines(&statistics.cpus, text);
    text.put(format_args!("intr 0\nctxt {}\nbtime {}\n", statistics.switches, system.boot.time));
    text.put(format_args!("processes {}\n", system.kernel.processes().forks()));
    text.put(format_args!("procs_running {}\nprocs_blocked 0\n", statistics.running));
    text.put(format_args!("softirq 0 0 0 0 0 0 0 0 0 0 0\n"));
    Ok(())
}

fn cpu_lines(cpus: &[CpuTimes], text: &mut Text) {
    let sum = |part: fn(&CpuTimes) -> u64| cpus.iter().map(part).fold(0, u64::saturating_add);
    let total = CpuTimes {
        user: sum(|cpu| cpu.user),
        system: sum(|cpu| cpu.system),
        idle: sum(|cpu| cpu.idle),
        stolen: sum(|cpu| cpu.stolen),
    };
    let mut line = |name: fmt::Arguments<'_>, times: &CpuTimes| {
        let [user, system, idle, stolen] = [times.user, times.system, times.idle, times.stolen].map(ticks);
        // Niced, waiting for devices, interrupts, guests: not told apart here.
        text.put(format_args!("{name} {user} 0 {system} {idle} 0 0 0 {stolen} 0 0\n"));
    };
    line(format_args!("cpu "), &total);
    cpus.iter().enumerate().for_each(|(index, times)| line(format_args!("cpu{index}"), times));
}

fn swaps(_: &View<'_>, text: &mut Text) -> Result<()> {
    text.bytes(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    Ok(())
}

fn uptime(system: &View<'_>, text: &mut Text) -> Result<()> {
    let idle = system.kernel.executor().statistics().cpus.iter().map(|cpu| cpu.idle).sum();
    times(machine::time::now(), idle, text);
    Ok(())
}

fn times(up: u64, idle: u64, text: &mut Text) {
    let hundredths = |time: u64| (time / SECOND, time % SECOND / (SECOND / 100));
    let ((up, up_rest), (idle, idle_rest)) = (hundredths(up), hundredths(idle));
    text.put(format_args!("{up}.{up_rest:02} {idle}.{idle_rest:02}\n"));
}

fn version(_: &View<'_>, text: &mut Text) -> Result<()> {
    text.put(format_args!("{SYSTEM} version {RELEASE} (orrery) (rustc) {VERSION}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(make: impl FnOnce(&mut Text)) -> String {
        let mut text = Text::new();
        make(&mut text);
        String::from_utf8(text.finish().unwrap()).unwrap()
    }

    #[test]
    fn times_are_hundredths_of_seconds() {
        assert_eq!(text(|text| times(124_456_789_012, 10_000_000_000, text)), "124.45 10.00\n");
    }

    #[test]
    fn the_first_line_of_stat_is_the_sum_of_the_others() {
        let cpu = CpuTimes { user: 10_000_000, system: 20_000_000, idle: 5_000_000_000, stolen: 15_000_000 };
        let other = CpuTimes { user: 5_000_000, ..cpu };
        let expected = "cpu  1 0 4 1000 0 0 0 3 0 0\ncpu0 1 0 2 500 0 0 0 1 0 0\ncpu1 0 0 2 500 0 0 0 1 0 0\n";
        assert_eq!(text(|text| cpu_lines(&[cpu, other], text)), expected);
    }
}
