//! The system as a whole, as /proc shows it.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::Result;
use abi::system::{RELEASE, SYSTEM, VERSION};
use fs::procfs::{
    InterruptCounts, MemoryTotals, ProcessId, ProcessSource, Processor, ProcessorTimes, SystemCounters, SystemName,
    SystemSource,
};
use fs::random::Random;
use machine::memory::FrameSource;
use memory::PAGE_SIZE;
use process::{HostName, Kernel, Pid, activity};
use tty::Terminal;
use vfs::{DeviceClass, DeviceNumber};

use crate::inspect::Inspected;
use crate::processors;

/// What /proc asks, answered from the rooms that know it.
pub struct System {
    kernel: Weak<Kernel>,
    random: Arc<Random>,
    boot_id: [u8; 16],
    boot_time: u64,
    console: Option<(String, (u32, u32))>,
}

impl System {
    /// The system of this kernel. /proc is one of its file systems, so it must not keep the kernel alive.
    pub fn new(kernel: &Arc<Kernel>, console: Option<&Terminal>, random: &Arc<Random>) -> System {
        let mut boot_id = [0; 16];
        random.fill(&mut boot_id);
        let boot_time = machine::time::wall_clock().saturating_sub(machine::time::now()) / 1_000_000_000;
        let console = console.map(|terminal| {
            let DeviceNumber { major, minor } = terminal.number();
            (terminal.name().into(), (major, minor))
        });
        System { kernel: Arc::downgrade(kernel), random: random.clone(), boot_id, boot_time, console }
    }

    fn with<R: Default>(&self, ask: impl FnOnce(&Arc<Kernel>) -> R) -> R {
        self.kernel.upgrade().map(|kernel| ask(&kernel)).unwrap_or_default()
    }

    #[expect(clippy::disallowed_methods, reason = "as many as there are CPUs and devices, or 64 bytes")]
    fn devices(&self, class: DeviceClass) -> Vec<(u32, &'static str)> {
        let mut majors = self.with(|kernel| {
            let all = kernel.vfs().devices.list().into_iter();
            all.filter(|(found, ..)| *found == class).map(|(_, number, _)| number.major).collect::<Vec<u32>>()
        });
        majors.sort_unstable();
        majors.dedup();
        majors.into_iter().map(|major| (major, major_name(major))).collect()
    }
}

/// Linux's names of major numbers, devices.txt.
fn major_name(major: u32) -> &'static str {
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

/// What a task does, by its number: a system call or an [`activity`].
pub fn name_of(number: u32) -> &'static str {
    match number {
        activity::FAULT => "page_fault",
        activity::EXCEPTION => "exception",
        activity::INTERRUPTED => "interrupt",
        call => syscalls::name_of(call as usize).unwrap_or("other"),
    }
}

impl SystemSource for System {
    fn longest_polls(&self, each: &mut dyn FnMut(&'static str, u64)) {
        self.with(|kernel| kernel.executor().longest_polls(|number, nanoseconds| each(name_of(number), nanoseconds)));
    }

    fn process(&self, id: ProcessId) -> Option<Arc<dyn ProcessSource>> {
        let kernel = self.kernel.upgrade()?;
        let processes = kernel.processes();
        let pid = kernel.namespaces().pids().pid(id)?;
        let process =
            processes.process(pid).or_else(|| processes.thread(pid).map(|thread| thread.process().clone()))?;
        Some(Arc::new(Inspected(Arc::downgrade(&process))))
    }

    fn next_process(&self, after: ProcessId) -> Option<ProcessId> {
        let kernel = self.kernel.upgrade()?;
        kernel.namespaces().pids().next_process(kernel.processes(), after)
    }

    fn uptime(&self) -> u64 {
        machine::time::now()
    }

    fn boot_time(&self) -> u64 {
        self.boot_time
    }

    #[expect(clippy::disallowed_methods, reason = "as many as there are CPUs and devices, or 64 bytes")]
    fn counters(&self) -> SystemCounters {
        self.with(|kernel| {
            let statistics = kernel.executor().statistics();
            let processes = kernel.processes();
            let times = |cpu: &sched::CpuTimes| ProcessorTimes {
                user: cpu.user,
                system: cpu.system,
                idle: cpu.idle,
                stolen: cpu.stolen,
                ..ProcessorTimes::default()
            };
            let load = kernel.executor().load_averages();
            SystemCounters {
                processors: statistics.cpus.iter().map(times).collect(),
                context_switches: statistics.switches,
                forks: processes.forks(),
                running: statistics.running as u32,
                threads: processes.thread_count() as u32,
                last_process: kernel.namespaces().pids().number(processes.last_pid()),
                load: load.map(|average| (average * 100 / sched::FIXED_ONE) as u32),
                ..SystemCounters::default()
            }
        })
    }

    fn processors(&self) -> Vec<Processor> {
        processors::describe(machine::cpu::count())
    }

    fn memory(&self) -> MemoryTotals {
        let bytes = |frames: usize| (frames * PAGE_SIZE) as u64;
        self.with(|kernel| {
            let (memory, frames) = (kernel.memory(), kernel.memory().frames());
            let heap = machine::memory::heap_usage();
            let slab = heap.slabs.iter().map(|slab| slab.frames).sum::<usize>() + heap.large_frames;
            let file_pages = bytes(memory.file_pages() as usize);
            let used = frames.total_frames().saturating_sub(frames.free_frames());
            MemoryTotals {
                total: bytes(frames.total_frames()),
                free: bytes(frames.free_frames()),
                // Files live in tmpfs only: their pages can't be had back.
                available: bytes(frames.free_frames()),
                cached: file_pages,
                shared: file_pages,
                anonymous: bytes(used.saturating_sub(slab + heap.vmalloc_table_frames + heap.stack_frames))
                    .saturating_sub(file_pages),
                slab: bytes(slab),
                kernel_stacks: bytes(heap.stack_frames),
                vmalloc: bytes(heap.vmalloc_frames),
                committed: bytes(memory.committed()),
                free_blocks: frames.free_by_order().map(|blocks| blocks as u64),
                ..MemoryTotals::default()
            }
        })
    }

    /// Not counted.
    fn interrupts(&self) -> Vec<InterruptCounts> {
        Vec::new()
    }

    #[expect(clippy::disallowed_methods, reason = "as many as there are CPUs and devices, or 64 bytes")]
    fn name(&self) -> SystemName {
        // bounded: 64 bytes
        let text = |bytes: HostName| String::from_utf8_lossy(&bytes).into_owned();
        SystemName {
            system: SYSTEM.into(),
            node: text(self.with(|kernel| kernel.namespaces().uts().host_name())),
            release: RELEASE.into(),
            version: VERSION.into(),
            domain: text(self.with(|kernel| kernel.namespaces().uts().domain_name())),
            build: "(orrery) (rustc)".into(),
        }
    }

    fn set_host_name(&self, name: &[u8]) -> Result<()> {
        self.with(|kernel| kernel.namespaces().uts().set_host_name(name));
        Ok(())
    }

    fn set_domain_name(&self, name: &[u8]) -> Result<()> {
        self.with(|kernel| kernel.namespaces().uts().set_domain_name(name));
        Ok(())
    }

    fn command_line(&self) -> Vec<u8> {
        machine::device::command_line().into_bytes()
    }

    fn file_systems(&self) -> Result<String> {
        self.kernel.upgrade().map_or_else(|| Ok(String::new()), |kernel| kernel.vfs().file_system_types.list())
    }

    fn character_devices(&self) -> Vec<(u32, &'static str)> {
        self.devices(DeviceClass::Character)
    }

    fn block_devices(&self) -> Vec<(u32, &'static str)> {
        self.devices(DeviceClass::Block)
    }

    #[expect(clippy::disallowed_methods, reason = "as many as there are CPUs and devices, or 64 bytes")]
    fn consoles(&self) -> Vec<(String, (u32, u32))> {
        self.console.iter().cloned().collect()
    }

    fn random(&self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }

    fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    fn randomises_addresses(&self) -> bool {
        self.with(|kernel| kernel.memory().randomise())
    }

    fn process_number_limit(&self) -> u32 {
        self.with(|kernel| kernel.processes().limit())
    }

    fn set_process_number_limit(&self, limit: u64) -> Result<()> {
        self.kernel.upgrade().map_or(Ok(()), |kernel| kernel.processes().set_limit(limit))
    }

    fn thread_limit(&self) -> u32 {
        self.with(|kernel| (kernel.memory().frames().total_frames() / 16) as u32)
    }

    fn open_files(&self) -> (u64, u64) {
        let Some(kernel) = self.kernel.upgrade() else { return (0, 1 << 20) };
        let next = |after: Pid| kernel.processes().next(after.next());
        let processes = core::iter::successors(next(Pid::NOBODY), |process| next(process.pid()));
        (processes.map(|process| process.files().count() as u64).sum(), 1 << 20)
    }
}
