//! One process, as /proc/PID shows it.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;

use abi::limits::ResourceLimit;
use abi::{Errno, Result};
use fs::procfs::{
    Area, Faults, InputOutput, MemoryStatus, ProcessId, ProcessSource, ProcessStatus, Residence, State, ThreadStatus,
};
use machine::memory::FrameSource;
use memory::{Access, AddressSpace, AreaView, PAGE_SIZE};
use process::credentials::Capability;
use process::limits::{RESOURCES, Resource};
use process::{Process, RunState, Thread};
use vfs::{Caller, Descriptor, MountNamespace, OpenFile, Path};

/// A process, for as long as it is not collected.
pub struct Inspected(pub Weak<Process>);

impl Inspected {
    fn process(&self) -> Result<Arc<Process>> {
        self.0.upgrade().ok_or(Errno::ESRCH)
    }

    fn space(&self) -> Result<Arc<AddressSpace>> {
        self.process()?.space().ok_or(Errno::ESRCH)
    }

    fn find_thread(&self, tid: ProcessId) -> Option<Arc<Thread>> {
        self.0.upgrade()?.threads().into_iter().find(|thread| thread.tid() == tid)
    }
}

impl ProcessSource for Inspected {
    fn id(&self) -> Option<ProcessId> {
        Some(self.0.upgrade()?.pid())
    }

    fn status(&self) -> Result<ProcessStatus> {
        let process = self.process()?;
        let terminal = process.kernel().processes().terminal(process.session_id());
        let credentials = process.credentials();
        let (usage, children) = (process.usage(), process.children_usage());
        let (ignored, caught) = process.ignored_and_caught();
        let limits = process.limits();
        let capabilities = credentials.capabilities;
        Ok(ProcessStatus {
            id: process.pid(),
            parent: process.parent_pid(),
            group: process.group_id(),
            session: process.session_id(),
            terminal: terminal.as_ref().map(|terminal| (terminal.number().major, terminal.number().minor)),
            foreground_group: terminal.and_then(|terminal| terminal.foreground_group()),
            threads: process.thread_count().max(1) as u32,
            user_time: usage.user,
            system_time: usage.system,
            children_user_time: children.user,
            children_system_time: children.system,
            faults: Faults { minor: usage.minor_faults, major: usage.major_faults },
            children_faults: Faults { minor: children.minor_faults, major: children.major_faults },
            users: ids(&credentials.users),
            groups: ids(&credentials.groups),
            supplementary_groups: credentials.supplementary().to_vec(),
            capabilities: [
                capabilities.inheritable,
                capabilities.permitted,
                capabilities.effective,
                capabilities.bounding,
                capabilities.ambient,
            ],
            no_new_privileges: process.no_new_privileges(),
            dumpable: process.dumpable() == 1,
            umask: process.working_place().umask(),
            descriptor_slots: process.files().capacity() as u32,
            shared_pending: process.shared_pending().0,
            queued_signals: process.queued_signals(),
            ignored: ignored.0,
            caught: caught.0,
            exit_signal: process.exit_signal(),
            exit_code: process.exit_status().unwrap_or(0) as u32,
            limits: core::array::from_fn(|number| limit(&limits, number)),
            out_of_memory_adjustment: process.out_of_memory_adjustment(),
            personality: process.personality(),
            memory: process.space().map(|space| memory_status(&space)),
        })
    }

    fn thread(&self, thread: ProcessId) -> Option<ThreadStatus> {
        match self.find_thread(thread) {
            Some(thread) => Some(thread_status(&thread)),
            // A zombie has no thread left, but is still listed with its own number.
            None => {
                self.0.upgrade().filter(|process| process.pid() == thread && process.is_zombie()).map(|p| zombie(&p))
            }
        }
    }

    fn next_thread(&self, after: ProcessId) -> Option<ProcessId> {
        let process = self.0.upgrade()?;
        if process.is_zombie() {
            return Some(process.pid()).filter(|pid| *pid > after);
        }
        process.threads().iter().map(|thread| thread.tid()).filter(|tid| *tid > after).min()
    }

    fn has_memory(&self) -> bool {
        self.space().is_ok()
    }

    fn owner(&self) -> (u32, u32) {
        match self.0.upgrade() {
            Some(process) if process.dumpable() == 1 => {
                let credentials = process.credentials();
                (credentials.users.effective, credentials.groups.effective)
            }
            _ => (0, 0),
        }
    }

    fn may_be_inspected_by(&self, caller: &dyn Caller) -> bool {
        let Some(process) = self.0.upgrade() else { return false };
        if caller.process() == 0 || caller.process() == process.pid() {
            return true;
        }
        let Some(asking) = process.kernel().processes().process(caller.process()) else { return false };
        let (asking, asked) = (asking.credentials(), process.credentials());
        let same_user =
            [asked.users.real, asked.users.effective, asked.users.saved].iter().all(|user| *user == asking.users.files);
        let same_group = [asked.groups.real, asked.groups.effective, asked.groups.saved]
            .iter()
            .all(|group| *group == asking.groups.files);
        let within = asked.capabilities.permitted & !asking.capabilities.effective == 0;
        asking.has(Capability::SysPtrace) || (same_user && same_group && within && process.dumpable() == 1)
    }

    fn set_name(&self, thread: ProcessId, name: &[u8]) -> Result<()> {
        self.find_thread(thread).ok_or(Errno::ESRCH)?.set_name(name);
        Ok(())
    }

    fn set_out_of_memory_adjustment(&self, value: i32, writer: ProcessId) -> Result<()> {
        let process = self.process()?;
        let writer = process.kernel().processes().process(writer).ok_or(Errno::ESRCH)?;
        if value < process.out_of_memory_adjustment() && !writer.credentials().has(Capability::SysResource) {
            return Err(Errno::EACCES);
        }
        process.set_out_of_memory_adjustment(value);
        Ok(())
    }

    fn out_of_memory_score(&self) -> u32 {
        let Some(process) = self.0.upgrade() else { return 0 };
        let Some(space) = process.space() else { return 0 };
        let total = process.kernel().memory().frames().total_frames().max(1);
        let thousandths = (space.usage().resident * 1000 / total) as i64;
        // As Linux has it: two thirds of (1000 + share + adjustment).
        let score = (1000 + thousandths + i64::from(process.out_of_memory_adjustment())) * 2 / 3;
        if process.out_of_memory_adjustment() == -1000 { 0 } else { score.clamp(0, 2000) as u32 }
    }

    fn command_line(&self) -> Result<Vec<u8>> {
        match self.process()?.space() {
            Some(space) => Ok(read(&space, space.program().arguments)),
            None => Ok(Vec::new()),
        }
    }

    fn environment(&self) -> Result<Vec<u8>> {
        match self.process()?.space() {
            Some(space) => Ok(read(&space, space.program().environment)),
            None => Ok(Vec::new()),
        }
    }

    fn auxiliary_vector(&self) -> Result<Vec<u8>> {
        Ok(self.process()?.program().auxiliary.to_vec())
    }

    fn areas(&self, detailed: bool) -> Result<Vec<Area>> {
        let Some(space) = self.process()?.space() else { return Ok(Vec::new()) };
        Ok(space.areas().iter().map(|view| area(&space, view, detailed)).collect())
    }

    /// What goes through descriptors is not counted by process.
    fn input_output(&self) -> InputOutput {
        InputOutput::default()
    }

    fn executable(&self) -> Result<Path> {
        self.space()?;
        self.process()?.program().executable.ok_or(Errno::ENOENT)
    }

    fn working_directory(&self) -> Result<Path> {
        self.space()?;
        Ok(self.process()?.working_place().working())
    }

    fn root(&self) -> Result<Path> {
        self.space()?;
        Ok(self.process()?.working_place().root())
    }

    fn mounts(&self) -> Result<Arc<MountNamespace>> {
        Ok(self.process()?.kernel().mounts().clone())
    }

    fn descriptor(&self, descriptor: u32) -> Option<(Arc<OpenFile>, bool)> {
        let files = self.0.upgrade()?.files();
        let descriptor = Descriptor::try_from(descriptor).ok()?;
        let file = files.get(descriptor).ok()?;
        Some((file, files.closes_on_exec(descriptor).unwrap_or(false)))
    }

    fn next_descriptor(&self, from: u32) -> Option<u32> {
        let next = self.0.upgrade()?.files().next_open(Descriptor::try_from(from).ok()?)?;
        u32::try_from(next).ok()
    }
}

fn ids(ids: &process::credentials::Ids) -> [u32; 4] {
    [ids.real, ids.effective, ids.saved, ids.files]
}

fn limit(limits: &process::limits::Limits, number: usize) -> (u64, u64) {
    debug_assert!(number < RESOURCES);
    let limit = Resource::new(number as u32).map(|resource| limits.get(resource));
    let limit = limit.unwrap_or(ResourceLimit { soft: u64::MAX, hard: u64::MAX });
    (limit.soft, limit.hard)
}

fn state(state: RunState) -> State {
    match state {
        RunState::Running => State::Running,
        RunState::Sleeping => State::Sleeping,
        RunState::Uninterruptible => State::Uninterruptible,
        RunState::Stopped => State::Stopped,
        RunState::Zombie => State::Zombie,
    }
}

fn thread_status(thread: &Thread) -> ThreadStatus {
    let usage = thread.usage();
    let (pending, blocked) = thread.pending_and_blocked();
    let task = thread.task();
    ThreadStatus {
        id: thread.tid(),
        name: thread.name().as_bytes().to_vec(),
        state: state(thread.run_state()),
        user_time: usage.user,
        system_time: usage.system,
        start_time: thread.started(),
        faults: Faults { minor: usage.minor_faults, major: usage.major_faults },
        nice: i32::from(task.nice()),
        policy: 0,
        real_time_priority: 0,
        processor: task.cpu() as u32,
        allowed_processors: task.affinity() & all_cpus(),
        pending: pending.0,
        blocked: blocked.0,
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
    }
}

/// A process without threads, as one.
fn zombie(process: &Process) -> ThreadStatus {
    let usage = process.usage();
    ThreadStatus {
        id: process.pid(),
        name: process.name().as_bytes().to_vec(),
        state: State::Zombie,
        user_time: usage.user,
        system_time: usage.system,
        start_time: process.started(),
        faults: Faults { minor: usage.minor_faults, major: usage.major_faults },
        nice: 0,
        policy: 0,
        real_time_priority: 0,
        processor: 0,
        allowed_processors: all_cpus(),
        pending: 0,
        blocked: 0,
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
    }
}

fn all_cpus() -> u64 {
    u64::MAX >> (64 - machine::cpu::count().clamp(1, 64))
}

fn memory_status(space: &AddressSpace) -> MemoryStatus {
    let bytes = |pages: usize| (pages * PAGE_SIZE) as u64;
    let (usage, program, heap) = (space.usage(), space.program(), space.heap());
    let resident = space.resident_by_kind();
    let pair = |range: &Range<usize>| (range.start as u64, range.end as u64);
    MemoryStatus {
        size: bytes(usage.size),
        peak_size: bytes(usage.peak),
        locked: bytes(usage.locked),
        data: bytes(usage.data),
        stack: bytes(usage.stack),
        text: bytes(usage.code),
        libraries: bytes(usage.libraries),
        resident_anonymous: bytes(resident.anonymous),
        resident_file: bytes(resident.file),
        resident_shared: bytes(resident.shared),
        peak_resident: bytes(usage.peak_resident),
        // One table for every 2 MiB that is used, and those above it.
        page_tables: bytes(usage.resident.div_ceil(512) + 3),
        swap: 0,
        start_code: program.code.start as u64,
        end_code: program.code.end as u64,
        start_data: program.data.start as u64,
        end_data: program.data.end as u64,
        start_break: heap.start as u64,
        start_stack: program.stack as u64,
        arguments: pair(&program.arguments),
        environment: pair(&program.environment),
    }
}

fn area(space: &AddressSpace, view: &AreaView, detailed: bool) -> Area {
    let identity = view.file.as_ref().map(|file| &file.identity);
    Area {
        start: view.range.start as u64,
        end: view.range.end as u64,
        read: view.access.contains(Access::READ),
        write: view.access.contains(Access::WRITE),
        execute: view.access.contains(Access::EXECUTE),
        shared: view.shared,
        offset: view.offset,
        device: identity.map_or((0, 0), |file| file.device()),
        inode: identity.map_or(0, |file| file.inode()),
        name: identity.map_or_else(|| view.name.unwrap_or_default().as_bytes().to_vec(), |file| file.path()),
        residence: if detailed { residence(space, view) } else { Residence::default() },
    }
}

/// Looks at every page of an area.
fn residence(space: &AddressSpace, view: &AreaView) -> Residence {
    let page = PAGE_SIZE as u64;
    let mut sum = Residence::default();
    for mapping in view.range.clone().step_by(PAGE_SIZE).filter_map(|address| space.space().lookup(address)) {
        let shared = mapping.references > 1;
        *match (shared, mapping.dirty) {
            (true, true) => &mut sum.shared_dirty,
            (true, false) => &mut sum.shared_clean,
            (false, true) => &mut sum.private_dirty,
            (false, false) => &mut sum.private_clean,
        } += page;
        if mapping.accessed {
            sum.referenced += page;
        }
        if view.file.is_none() {
            sum.anonymous += page;
        }
        sum.proportional += page / u64::from(mapping.references.max(1));
    }
    sum
}

/// The bytes of a program's memory as far as they can be read without waiting.
fn read(space: &AddressSpace, range: Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(range.len()).is_err() {
        return bytes;
    }
    bytes.resize(range.len(), 0);
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match space.space().read(range.start + done, rest) {
            Ok(()) => return bytes,
            Err(fault) => {
                done += fault.copied;
                if space.resolve(fault.address, Access::READ).is_err() {
                    break;
                }
            }
        }
    }
    bytes.truncate(done);
    bytes
}
