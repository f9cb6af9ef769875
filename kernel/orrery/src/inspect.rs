//! One process, as /proc/PID shows it.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;

use abi::cpus::CpuSet;
use abi::fallible::try_to_vec;
use abi::limits::ResourceLimit;
use abi::{Errno, Pid, Result};
use fs::procfs::{
    Area, Faults, InputOutput, MemoryStatus, ProcessId, ProcessSource, ProcessStatus, Residence, ResidentFiles, State,
    ThreadStatus,
};
use machine::memory::FrameSource;
use memory::{Access, AddressSpace, AreaView, PAGE_SIZE};
use process::credentials::Capability;
use process::limits::{RESOURCES, Resource};
use process::{Credentials, PidNamespace, Process, RunState, ThreadState};
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

    fn find_thread(&self, tid: ProcessId) -> Option<Arc<ThreadState>> {
        let process = self.0.upgrade()?;
        let tid = pids(&process).pid(tid)?;
        process.kernel().processes().thread(tid).filter(|thread| Arc::ptr_eq(thread.process(), &process))
    }

    /// Who a thread is; a leader also when it has ended.
    fn credentials(&self, process: &Process, thread: ProcessId) -> Arc<Credentials> {
        if thread == number(process) {
            return process.credentials();
        }
        self.find_thread(thread).map_or_else(|| process.credentials(), |thread| thread.credentials())
    }
}

/// The pid namespace that /proc shows.
fn pids(process: &Process) -> &PidNamespace {
    process.kernel().namespaces().pids()
}

/// The number of a process there.
fn number(process: &Process) -> ProcessId {
    pids(process).number(process.pid())
}

impl ProcessSource for Inspected {
    fn id(&self) -> Option<ProcessId> {
        Some(number(&*self.0.upgrade()?))
    }

    fn status(&self) -> Result<ProcessStatus> {
        let process = self.process()?;
        let terminal = process.kernel().processes().terminal(process.session_id());
        let (usage, children) = (process.usage(), process.children_usage());
        let (ignored, caught) = process.ignored_and_caught();
        let limits = process.limits();
        let pids = pids(&process);
        Ok(ProcessStatus {
            id: number(&process),
            parent: pids.number(process.parent_pid()),
            group: pids.number(process.group_id()),
            session: pids.number(process.session_id()),
            terminal: terminal.as_ref().map(|terminal| (terminal.number().major, terminal.number().minor)),
            foreground_group: terminal.and_then(|terminal| terminal.foreground_group()).map(|group| pids.number(group)),
            threads: process.thread_count().max(1) as u32,
            user_time: usage.user,
            system_time: usage.system,
            children_user_time: children.user,
            children_system_time: children.system,
            faults: Faults { minor: usage.minor_faults, major: usage.major_faults },
            children_faults: Faults { minor: children.minor_faults, major: children.major_faults },
            dumpable: process.dumpable() == 1,
            umask: process.fs_context().umask(),
            descriptor_slots: process.files().capacity() as u32,
            shared_pending: process.shared_pending().0,
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
            // A leader that has ended is still listed with its number until its process is collected.
            None => self.0.upgrade().filter(|process| number(process) == thread).map(|process| zombie(&process)),
        }
    }

    fn next_threads(&self, after: ProcessId, found: &mut [ProcessId]) -> usize {
        let Some(process) = self.0.upgrade() else { return 0 };
        if !process.is_zombie() {
            return process.next_threads(pids(&process), after, found);
        }
        match found.first_mut().filter(|_| number(&process) > after) {
            Some(first) => {
                *first = number(&process);
                1
            }
            None => 0,
        }
    }

    fn has_memory(&self) -> bool {
        self.space().is_ok()
    }

    fn owner(&self, thread: ProcessId, always: bool) -> (u32, u32) {
        match self.0.upgrade() {
            Some(process) if always || process.dumpable() == 1 => {
                let credentials = self.credentials(&process, thread);
                (credentials.users.effective, credentials.groups.effective)
            }
            _ => (0, 0),
        }
    }

    fn may_be_inspected_by(&self, thread: ProcessId, caller: &dyn Caller) -> bool {
        let Some(process) = self.0.upgrade() else { return false };
        if caller.process().is_nobody() || caller.process() == process.pid() {
            return true;
        }
        let Some(asking) = process.kernel().processes().thread(caller.thread()) else { return false };
        asking.credentials().may_inspect(&self.credentials(&process, thread), process.dumpable() == 1)
    }

    fn set_name(&self, thread: ProcessId, name: &[u8]) -> Result<()> {
        self.find_thread(thread).ok_or(Errno::ESRCH)?.set_name(name);
        Ok(())
    }

    fn is(&self, process: Pid) -> bool {
        self.0.upgrade().is_some_and(|own| own.pid() == process)
    }

    fn set_out_of_memory_adjustment(&self, value: i32, writer: Pid) -> Result<()> {
        let process = self.process()?;
        let writer = process.kernel().processes().thread(writer).ok_or(Errno::ESRCH)?;
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

    fn command_line(&self, offset: usize, to: &mut [u8]) -> Result<usize> {
        let space = self.process()?.space();
        Ok(space.map_or(0, |space| read(&space, space.program().arguments, offset, to)))
    }

    fn environment(&self, offset: usize, to: &mut [u8]) -> Result<usize> {
        let space = self.process()?.space();
        Ok(space.map_or(0, |space| read(&space, space.program().environment, offset, to)))
    }

    fn auxiliary_vector(&self) -> Result<Vec<u8>> {
        try_to_vec(&self.process()?.program().auxiliary)
    }

    fn area(&self, address: u64) -> Result<Option<Area>> {
        let Some(space) = self.process()?.space() else { return Ok(None) };
        space.area_from(address as usize).map(|view| area(&view)).transpose()
    }

    fn residence(&self, range: Range<u64>, budget: &mut usize) -> Result<(Residence, Option<u64>)> {
        let Some(space) = self.process()?.space() else { return Ok((Residence::default(), None)) };
        let anonymous = space.area_from(range.start as usize).is_none_or(|view| view.file.is_none());
        Ok(residence(&space, range.start as usize..range.end as usize, anonymous, budget))
    }

    fn resident_files(&self, address: u64, counted: &mut ResidentFiles) -> Result<Option<u64>> {
        let Some(space) = self.process()?.space() else { return Ok(None) };
        let mut pages = memory::ResidentFiles::default();
        let next = space.count_files(address as usize, &mut pages);
        counted.file += (pages.file * PAGE_SIZE) as u64;
        counted.shared += (pages.shared * PAGE_SIZE) as u64;
        Ok(next.map(|next| next as u64))
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
        Ok(self.process()?.fs_context().working())
    }

    fn root(&self) -> Result<Path> {
        self.space()?;
        Ok(self.process()?.fs_context().root())
    }

    fn mounts(&self) -> Result<Arc<MountNamespace>> {
        Ok(self.process()?.namespaces().mounts().clone())
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

fn sets(credentials: &Credentials) -> [u64; 5] {
    let sets = credentials.capabilities;
    [sets.inheritable, sets.permitted, sets.effective, sets.bounding, sets.ambient]
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

#[expect(clippy::disallowed_methods, reason = "15 bytes")]
fn thread_status(thread: &ThreadState) -> ThreadStatus {
    let usage = thread.usage();
    let (pending, blocked) = thread.pending_and_blocked();
    let (task, credentials) = (thread.task(), thread.credentials());
    ThreadStatus {
        id: pids(thread.process()).number(thread.tid()),
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
        allowed_processors: task.affinity().intersection(&all_cpus()),
        pending: pending.0,
        blocked: blocked.0,
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
        users: ids(&credentials.users),
        groups: ids(&credentials.groups),
        supplementary_groups: credentials.supplementary().clone(),
        capabilities: sets(&credentials),
        no_new_privileges: credentials.no_new_privileges,
        queued_signals: u64::from(credentials.counts().signals()),
    }
}

/// The leader of a process, after its end.
#[expect(clippy::disallowed_methods, reason = "15 bytes")]
fn zombie(process: &Process) -> ThreadStatus {
    let (usage, credentials) = (process.usage(), process.credentials());
    ThreadStatus {
        id: number(process),
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
        users: ids(&credentials.users),
        groups: ids(&credentials.groups),
        supplementary_groups: credentials.supplementary().clone(),
        capabilities: sets(&credentials),
        no_new_privileges: credentials.no_new_privileges,
        queued_signals: u64::from(credentials.counts().signals()),
    }
}

fn all_cpus() -> CpuSet {
    CpuSet::first(machine::cpu::count())
}

fn memory_status(space: &AddressSpace) -> MemoryStatus {
    let bytes = |pages: usize| (pages * PAGE_SIZE) as u64;
    let (usage, program, heap) = (space.usage(), space.program(), space.heap());
    let pair = |range: &Range<usize>| (range.start as u64, range.end as u64);
    MemoryStatus {
        size: bytes(usage.size),
        peak_size: bytes(usage.peak),
        locked: bytes(usage.locked),
        data: bytes(usage.data),
        stack: bytes(usage.stack),
        text: bytes(usage.code),
        libraries: bytes(usage.libraries),
        resident: bytes(usage.resident),
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

fn area(view: &AreaView) -> Result<Area> {
    let identity = view.file.as_ref().map(|file| &file.identity);
    Ok(Area {
        start: view.range.start as u64,
        end: view.range.end as u64,
        read: view.access.contains(Access::READ),
        write: view.access.contains(Access::WRITE),
        execute: view.access.contains(Access::EXECUTE),
        shared: view.shared,
        offset: view.offset,
        device: identity.map_or((0, 0), |file| file.device()),
        inode: identity.map_or(0, |file| file.inode()),
        name: match identity {
            Some(file) => file.path()?,
            None => try_to_vec(view.name.unwrap_or_default().as_bytes())?,
        },
    })
}

/// Looks at the pages of a range that are mapped, as long as the budget lasts; says where to go on then.
fn residence(
    space: &AddressSpace,
    mut range: Range<usize>,
    anonymous: bool,
    budget: &mut usize,
) -> (Residence, Option<u64>) {
    let page = PAGE_SIZE as u64;
    let mut sum = Residence::default();
    while let Some((address, mapping)) = space.space().next_mapped(range.clone()) {
        if *budget == 0 {
            return (sum, Some(address as u64));
        }
        *budget -= 1;
        range.start = address + PAGE_SIZE;
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
        if anonymous {
            sum.anonymous += page;
        }
        sum.proportional += page / u64::from(mapping.references.max(1));
    }
    (sum, None)
}

/// Copies bytes of a program's memory from `offset` in `range` on, as far as they can be read without waiting.
fn read(space: &AddressSpace, range: Range<usize>, offset: usize, to: &mut [u8]) -> usize {
    let rest = range.len().saturating_sub(offset).min(to.len());
    let mut done = 0;
    while let Some(rest) = to.get_mut(done..rest).filter(|rest| !rest.is_empty()) {
        match space.space().read(range.start + offset + done, rest) {
            Ok(()) => done += rest.len(),
            Err(fault) => {
                done += fault.copied;
                if space.resolve(fault.address, Access::READ).is_err() {
                    break;
                }
            }
        }
    }
    done
}
