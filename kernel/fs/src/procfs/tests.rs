use super::source::ResidentFiles;
use super::*;
use abi::Pid;
use alloc::string::String;
use memory::{AddressSpace, Destination, Source};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use vfs::{File, MountFlags, MountNamespace, NotReady, OpenFile, OpenFlags, OpenRequest, Path, Vfs};

#[derive(Clone)]
struct Fake {
    status: ProcessStatus,
    threads: BTreeMap<u32, ThreadStatus>,
    inspectable: bool,
    root: Option<Path>,
    namespace: Option<Arc<MountNamespace>>,
}

fn thread(id: u32) -> ThreadStatus {
    ThreadStatus {
        id,
        name: b"a) (b".to_vec(),
        state: State::Sleeping,
        user_time: 1_230_000_000,
        system_time: 450_000_000,
        start_time: 9_870_000_000,
        faults: Faults { minor: 3, major: 1 },
        nice: 5,
        policy: 0,
        real_time_priority: 0,
        processor: 2,
        allowed_processors: 0b1011_0001.into(),
        pending: 0,
        blocked: 1 << 16,
        voluntary_switches: 11,
        involuntary_switches: 12,
        users: [1000, 1000, 0, 1000],
        groups: [100, 100, 100, 100],
        supplementary_groups: Arc::new(vec![4, 24]),
        capabilities: [0, 0, 0, (1 << 41) - 1, 0],
        no_new_privileges: false,
        queued_signals: 0,
    }
}

fn fake(id: u32) -> Fake {
    let memory = MemoryStatus {
        size: 1024 * 1024,
        stack: 132 * 1024,
        text: 6000,
        resident: 100 * 1024,
        start_code: 0x40_0000,
        ..MemoryStatus::default()
    };
    let status = ProcessStatus {
        id,
        parent: 1,
        group: id,
        session: 1,
        terminal: Some((4, 64)),
        foreground_group: Some(id),
        threads: 2,
        user_time: 2_000_000_000,
        system_time: 500_000_000,
        children_user_time: 70_000_000,
        children_system_time: 0,
        faults: Faults { minor: 30, major: 2 },
        children_faults: Faults::default(),
        dumpable: true,
        umask: 0o22,
        descriptor_slots: 64,
        shared_pending: 0,
        ignored: 0,
        caught: 1 << 1,
        exit_signal: 17,
        exit_code: 0,
        limits: [(u64::MAX, u64::MAX); 16],
        out_of_memory_adjustment: 0,
        personality: 0,
        memory: Some(memory),
    };
    let threads = [id, id + 1].into_iter().map(|number| (number, thread(number))).collect();
    Fake { status, threads, inspectable: true, root: None, namespace: None }
}

struct FakeProcess(Mutex<Fake>);

impl FakeProcess {
    fn with<T>(&self, look: impl FnOnce(&mut Fake) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

fn copy(from: &[u8], offset: usize, to: &mut [u8]) -> usize {
    let rest = from.get(offset..).unwrap_or_default();
    let length = rest.len().min(to.len());
    to[..length].copy_from_slice(&rest[..length]);
    length
}

impl ProcessSource for FakeProcess {
    fn id(&self) -> Option<u32> {
        self.with(|fake| (!fake.threads.is_empty()).then_some(fake.status.id))
    }
    fn status(&self) -> Result<ProcessStatus> {
        self.with(|fake| if fake.threads.is_empty() { Err(Errno::ESRCH) } else { Ok(fake.status.clone()) })
    }
    fn thread(&self, thread: u32) -> Option<ThreadStatus> {
        self.with(|fake| fake.threads.get(&thread).cloned())
    }
    fn next_threads(&self, after: u32, found: &mut [u32]) -> usize {
        self.with(|fake| {
            found.iter_mut().zip(fake.threads.range(after + 1..)).map(|(place, (id, _))| *place = *id).count()
        })
    }
    fn has_memory(&self) -> bool {
        self.with(|fake| fake.status.memory.is_some())
    }
    fn owner(&self, _thread: u32, _always: bool) -> (u32, u32) {
        (1000, 100)
    }
    fn may_be_inspected_by(&self, _thread: u32, _caller: &dyn Caller) -> bool {
        self.with(|fake| fake.inspectable)
    }
    fn is(&self, process: Pid) -> bool {
        self.with(|fake| fake.status.id == process.index())
    }
    fn set_name(&self, thread: u32, name: &[u8]) -> Result<()> {
        self.with(|fake| fake.threads.get_mut(&thread).map(|thread| thread.name = name.to_vec())).ok_or(Errno::ESRCH)
    }
    fn set_out_of_memory_adjustment(&self, value: i32, writer: Pid) -> Result<()> {
        if writer.is_nobody() {
            return Err(Errno::EACCES);
        }
        self.with(|fake| fake.status.out_of_memory_adjustment = value);
        Ok(())
    }
    fn out_of_memory_score(&self) -> u32 {
        667
    }
    fn command_line(&self, offset: usize, to: &mut [u8]) -> Result<usize> {
        Ok(copy(b"sh\0-c\0true\0", offset, to))
    }
    fn environment(&self, offset: usize, to: &mut [u8]) -> Result<usize> {
        Ok(copy(b"PATH=/bin\0", offset, to))
    }
    fn auxiliary_vector(&self) -> Result<Vec<u8>> {
        Ok(vec![0; 16])
    }
    fn area(&self, address: u64) -> Result<Option<Area>> {
        let area = |start: u64, name: &[u8]| Area {
            start,
            end: start + 0x3000,
            read: true,
            write: name.is_empty(),
            execute: false,
            shared: false,
            offset: 0x2000,
            device: (0, 0x15),
            inode: 247_030,
            name: name.to_vec(),
        };
        let areas = [area(0x40_0000, b"/bin/a b\nc"), area(0x7fff_1234_5000, b"")];
        Ok(areas.into_iter().find(|area| area.end > address))
    }
    /// A page of an area has been written, two were read; it takes three looks to see that.
    fn residence(&self, range: core::ops::Range<u64>, budget: &mut usize) -> Result<(Residence, Option<u64>)> {
        *budget = 0;
        let found = match range.end - range.start {
            0x3000 => Residence { private_dirty: 4096, ..Residence::default() },
            _ => Residence { shared_clean: 4096, ..Residence::default() },
        };
        let next = range.start + 0x1000;
        Ok((found, (next < range.end).then_some(next)))
    }
    /// There are 60 KiB, and it takes three looks to see that.
    fn resident_files(&self, address: u64, counted: &mut ResidentFiles) -> Result<Option<u64>> {
        counted.file += 20 * 1024;
        Ok((address < 0x2000).then_some(address + 0x1000))
    }
    fn input_output(&self) -> InputOutput {
        InputOutput { read_bytes: 6976, ..InputOutput::default() }
    }
    fn executable(&self) -> Result<Path> {
        self.root()
    }
    fn working_directory(&self) -> Result<Path> {
        self.root()
    }
    fn root(&self) -> Result<Path> {
        self.with(|fake| fake.root.clone()).ok_or(Errno::ENOENT)
    }
    fn mounts(&self) -> Result<Arc<MountNamespace>> {
        self.with(|fake| fake.namespace.clone()).ok_or(Errno::EINVAL)
    }
    fn descriptor(&self, descriptor: u32) -> Option<(Arc<OpenFile>, bool)> {
        let place = self.with(|fake| fake.root.clone())?;
        let file = place.inode().clone().open(&request(&ME, OpenFlags::empty())).ok()?;
        let open = OpenFile::new(file, vfs::Origin::Path(place), OpenFlags::READ_WRITE);
        [0, 1, 1000].contains(&descriptor).then_some((open, descriptor == 1))
    }
    fn next_descriptor(&self, from: u32) -> Option<u32> {
        [0, 1, 1000].into_iter().find(|&descriptor| descriptor >= from)
    }
}

#[derive(Default)]
struct FakeSystem {
    processes: Mutex<BTreeMap<u32, Arc<FakeProcess>>>,
    host: Mutex<Vec<u8>>,
    reads: Mutex<u64>,
    pid_max: AtomicU32,
}

impl SystemSource for FakeSystem {
    fn longest_polls(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("read", 1_500_000);
        each("page_fault", 2_000_000);
    }

    fn process(&self, id: u32) -> Option<Arc<dyn ProcessSource>> {
        let processes = self.processes.lock().unwrap();
        Some(processes.get(&id)?.clone())
    }
    fn next_process(&self, after: u32) -> Option<u32> {
        self.processes.lock().unwrap().range(after + 1..).next().map(|(id, _)| *id)
    }
    fn uptime(&self) -> u64 {
        *self.reads.lock().unwrap() += 1;
        123_456_789_012 + *self.reads.lock().unwrap() * 1_000_000_000
    }
    fn boot_time(&self) -> u64 {
        1_795_270_583
    }
    fn counters(&self) -> SystemCounters {
        let times = ProcessorTimes { user: 10_000_000, idle: 5_000_000_000, ..ProcessorTimes::default() };
        SystemCounters {
            processors: vec![times, times],
            context_switches: 99,
            forks: 7,
            interrupts: 1234,
            running: 1,
            blocked: 0,
            threads: 5,
            last_process: 42,
            load: [5, 123, 0],
            faults: Faults { minor: 4, major: 2 },
        }
    }
    fn processors(&self) -> Vec<Processor> {
        let cpu = Processor {
            vendor: "AuthenticAMD".into(),
            model_name: "QEMU TCG CPU".into(),
            clock_khz: 2_596_148,
            cache_kib: 512,
            features: "fpu tsc".into(),
            address_bits: (40, 48),
            flush_size: 64,
            ..Processor::default()
        };
        vec![cpu.clone(), cpu]
    }
    fn memory(&self) -> MemoryTotals {
        MemoryTotals { total: 64 << 20, free: 32 << 20, available: 40 << 20, ..MemoryTotals::default() }
    }
    fn interrupts(&self) -> Vec<InterruptCounts> {
        vec![InterruptCounts {
            name: "4".into(),
            counts: vec![14, 2],
            description: "IO-APIC   4-edge      ttyS0".into(),
        }]
    }
    fn name(&self) -> SystemName {
        SystemName {
            system: "Linux".into(),
            node: String::from_utf8(self.host.lock().unwrap().clone()).unwrap(),
            release: "6.12.0".into(),
            version: "#1 SMP".into(),
            domain: "(none)".into(),
            build: "(orrery@host) (rustc)".into(),
        }
    }
    fn set_host_name(&self, name: &[u8]) -> Result<()> {
        *self.host.lock().unwrap() = name.to_vec();
        Ok(())
    }
    fn set_domain_name(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EINVAL)
    }
    fn command_line(&self) -> Vec<u8> {
        b"console=ttyS0".to_vec()
    }
    fn file_systems(&self) -> Result<String> {
        Ok("nodev\tproc\n".into())
    }
    fn character_devices(&self) -> Vec<(u32, &'static str)> {
        vec![(1, "mem"), (136, "pts")]
    }
    fn block_devices(&self) -> Vec<(u32, &'static str)> {
        Vec::new()
    }
    fn consoles(&self) -> Vec<(String, (u32, u32))> {
        vec![("ttyS0".into(), (4, 64))]
    }
    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
    fn boot_id(&self) -> [u8; 16] {
        [1; 16]
    }
    fn randomises_addresses(&self) -> bool {
        true
    }
    fn process_number_limit(&self) -> u32 {
        self.pid_max.load(Ordering::Relaxed)
    }
    fn set_process_number_limit(&self, limit: u64) -> Result<()> {
        self.pid_max.store(u32::try_from(limit).map_err(|_| Errno::EINVAL)?, Ordering::Relaxed);
        Ok(())
    }
    fn thread_limit(&self) -> u32 {
        1000
    }
    fn open_files(&self) -> (u64, u64) {
        (3, 9999)
    }
}

/// A caller with a number and nothing else.
struct Me(u32);
static ME: Me = Me(7);

impl Caller for Me {
    fn process(&self) -> Pid {
        Pid::new(self.0)
    }
    fn broken_pipe(&self) {}
    fn memory(&self) -> Option<&AddressSpace> {
        None
    }
    fn vfs(&self) -> &Vfs {
        unreachable!("procfs opens nothing by name")
    }
}

fn request(caller: &Me, flags: OpenFlags) -> OpenRequest<'_> {
    OpenRequest { flags, caller }
}

struct Bench {
    system: Arc<FakeSystem>,
    root: Arc<dyn Inode>,
}

impl Bench {
    fn new(processes: impl IntoIterator<Item = u32>) -> Bench {
        let system = Arc::new(FakeSystem::default());
        for id in processes {
            system.processes.lock().unwrap().insert(id, Arc::new(FakeProcess(Mutex::new(fake(id)))));
        }
        Bench { root: ProcFs::new(system.clone()).root(), system }
    }

    fn process(&self, id: u32) -> Arc<FakeProcess> {
        self.system.processes.lock().unwrap()[&id].clone()
    }

    fn find(&self, path: &str) -> Result<Arc<dyn Inode>> {
        path.split('/').try_fold(self.root.clone(), |inode, name| inode.lookup(name.as_bytes()))
    }

    fn open(&self, path: &str) -> Result<Arc<dyn File>> {
        self.find(path)?.open(&request(&ME, OpenFlags::empty()))
    }

    fn text(&self, path: &str) -> String {
        read_all(&*self.open(path).unwrap()).unwrap()
    }
}

fn read_all(file: &dyn File) -> Result<String, NotReady> {
    let mut bytes = Vec::new();
    let mut part = [0; 100];
    loop {
        match file.read(bytes.len() as u64, &mut Destination::kernel(&mut part)) {
            Ok(0) => return Ok(String::from_utf8(bytes).unwrap()),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(NotReady::Yield) => {}
            Err(stop) => return Err(stop),
        }
    }
}

fn write(file: &dyn File, text: &str) -> Result<usize, NotReady> {
    file.write(0, &mut Source::kernel(text.as_bytes()))
}

fn list(inode: Arc<dyn Inode>, room: usize) -> Vec<String> {
    let file = inode.open(&request(&ME, OpenFlags::empty())).unwrap();
    let (mut names, mut position) = (Vec::new(), 2);
    loop {
        let mut left = room;
        let before = names.len();
        let mut sink = |entry: DirectoryEntry<'_>| {
            if left == 0 {
                return false;
            }
            left -= 1;
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        };
        file.read_directory(&mut position, &mut sink).unwrap();
        if names.len() == before {
            return names;
        }
    }
}

#[test]
fn stat_has_linux_s_fields() {
    let bench = Bench::new([7]);
    let text = bench.text("7/stat");
    let (head, tail) = text.rsplit_once(") ").unwrap();
    assert_eq!(head, "7 (a) (b");
    let fields: Vec<&str> = tail.trim_end().split(' ').collect();
    let host = std::fs::read_to_string("/proc/self/stat").unwrap();
    assert_eq!(fields.len(), host.rsplit_once(") ").unwrap().1.trim_end().split(' ').count());
    // state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime prio nice threads
    assert_eq!(
        fields[..20],
        [
            "S", "1", "7", "1", "1088", "7", "4194304", "30", "0", "2", "0", "200", "50", "7", "0", "25", "5", "2",
            "0", "987"
        ]
    );
    assert_eq!(fields[20..24], ["1048576", "25", "18446744073709551615", "4194304"]);
    assert_eq!((fields[35], fields[36]), ("17", "2"), "exit signal and processor");
    let thread = bench.text("7/task/8/stat");
    assert!(
        thread.starts_with("8 (") && thread.contains(" 123 45 0 0 25 5 2 "),
        "a thread shows its own times: {thread}"
    );
}

#[test]
fn status_has_linux_s_lines_in_linux_s_order() {
    let bench = Bench::new([7]);
    let ours = bench.text("7/status");
    let host = std::fs::read_to_string("/proc/self/status").unwrap();
    let keys =
        |text: &str| -> Vec<String> { text.lines().map(|line| line.split(':').next().unwrap().into()).collect() };
    let known = keys(&ours);
    // Linux before 6.10 lacks some of ours, and it has more for its mitigations.
    let both: Vec<_> = keys(&host).into_iter().filter(|key| known.contains(key)).collect();
    assert!(both.len() > 50);
    assert_eq!(known.into_iter().filter(|key| both.contains(key)).collect::<Vec<_>>(), both);
    for line in [
        "Name:\ta) (b",
        "Umask:\t0022",
        "State:\tS (sleeping)",
        "Uid:\t1000\t1000\t0\t1000",
        "Groups:\t4 24 ",
        "VmSize:\t    1024 kB",
        "VmRSS:\t     100 kB",
        "SigBlk:\t0000000000010000",
        "CapBnd:\t000001ffffffffff",
        "Cpus_allowed:\tb1",
        "Cpus_allowed_list:\t0,4-5,7",
    ] {
        assert!(ours.lines().any(|ours| ours == line), "{line:?} in {ours}");
    }
}

/// The shape of a line: numbers become one `#`, spaces one blank.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for letter in line.chars() {
        let letter = if letter.is_ascii_digit() { '#' } else { letter };
        if !(matches!(letter, '#' | ' ') && shape.ends_with(letter)) {
            shape.push(letter);
        }
    }
    shape.trim_end().into()
}

#[test]
fn texts_have_the_shape_of_the_host_s() {
    let bench = Bench::new([7]);
    for (ours, host) in [
        ("7/limits", "/proc/self/limits"),
        ("7/statm", "/proc/self/statm"),
        ("7/io", "/proc/self/io"),
        ("uptime", "/proc/uptime"),
        ("loadavg", "/proc/loadavg"),
        ("swaps", "/proc/swaps"),
    ] {
        let host: Vec<String> = std::fs::read_to_string(host).unwrap().lines().map(shape).collect();
        for (line, host) in bench.text(ours).lines().zip(&host) {
            let line = shape(line).replace("unlimited", "#");
            assert_eq!(line.replace("# #", "#"), host.replace("unlimited", "#").replace("# #", "#"), "{ours}");
        }
    }
    for (ours, host) in [("meminfo", "/proc/meminfo"), ("stat", "/proc/stat"), ("vmstat", "/proc/vmstat")] {
        let host = std::fs::read_to_string(host).unwrap();
        let host: Vec<String> = host.lines().map(shape).collect();
        for line in bench.text(ours).lines() {
            if line.starts_with("intr") || line.starts_with("NFS") {
                continue;
            }
            assert!(host.contains(&shape(line)), "{ours}: {line:?} is not Linux's");
        }
    }
}

#[test]
fn meminfo_aligns_as_linux_does() {
    let text = Bench::new([]).text("meminfo");
    assert!(
        text.starts_with("MemTotal:          65536 kB\nMemFree:           32768 kB\nMemAvailable:      40960 kB\n")
    );
    assert!(text.contains("\nHugePages_Total:       0\n"));
}

#[test]
fn cpuinfo_has_a_paragraph_for_every_cpu() {
    let text = Bench::new([]).text("cpuinfo");
    assert_eq!(text.matches("processor\t: ").count(), 2);
    assert!(text.contains("model name\t: QEMU TCG CPU\n") && text.contains("cpu MHz\t\t: 2596.148\n"));
    assert!(text.contains("bogomips\t: 5192.29\n") && text.ends_with("power management:\n\n"));
}

#[test]
fn other_texts_of_the_system() {
    let bench = Bench::new([]);
    assert_eq!(bench.text("uptime"), "124.45 10.00\n");
    assert_eq!(bench.text("loadavg"), "0.05 1.23 0.00 1/5 42\n");
    assert_eq!(bench.text("version"), "Linux version 6.12.0 (orrery@host) (rustc) #1 SMP\n");
    assert_eq!(bench.text("consoles"), "ttyS0                -W- (EC p a)    4:64\n");
    assert_eq!(bench.text("devices"), "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n");
    assert_eq!(
        bench.text("interrupts"),
        "           CPU0       CPU1       \n  4:         14          2  IO-APIC   4-edge      ttyS0\n"
    );
    let stat = bench.text("stat");
    assert!(stat.starts_with("cpu  2 0 0 1000 0 0 0 0 0 0\ncpu0 1 0 0 500 0 0 0 0 0 0\ncpu1 "));
}

#[test]
fn an_open_text_is_one_moment_and_a_look_at_the_start_a_new_one() {
    let bench = Bench::new([]);
    let file = bench.open("uptime").unwrap();
    let read = |position, length| {
        let mut part = vec![0; length];
        let count = file.read(position, &mut Destination::kernel(&mut part)).unwrap();
        String::from_utf8(part[..count].to_vec()).unwrap()
    };
    assert_eq!(read(0, 3) + &read(3, 4) + &read(7, 100), "124.45 10.00\n");
    assert_eq!(read(13, 10), "");
    assert_eq!(read(0, 6), "125.45");
    assert_eq!(read(u64::MAX, 6), "");
}

#[test]
fn maps_pad_names_to_one_column_and_escape_them() {
    let bench = Bench::new([7]);
    let text = bench.text("7/maps");
    let expected = format!("{:<73}/bin/a b\\012c\n", "00400000-00403000 r--p 00002000 00:15 247030 ");
    assert_eq!(text, expected + "7fff12345000-7fff12348000 rw-p 00002000 00:15 247030 \n");
    let smaps = bench.text("7/smaps");
    assert!(smaps.contains("\nRss:                  12 kB\n") && smaps.contains("\nPrivate_Dirty:         4 kB\n"));
    let rollup = bench.text("7/smaps_rollup");
    assert!(rollup.starts_with("00400000-7fff12348000 ---p 00000000 00:00 0"));
    assert!(rollup.contains("[rollup]\nRss:                  24 kB\n"));
}

/// So many lines, of which the file counts how many were made.
struct Lines(Mutex<u64>);

impl Contents for Lines {
    fn show(&self, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
        while text.len() < node::PART {
            if cursor.at == 100_000 {
                return Ok(Step::End);
            }
            *self.0.lock().unwrap() += 1;
            text.put(format_args!("line {:05}\n", cursor.at));
            cursor.at += 1;
        }
        // Now and then it takes long.
        Ok(if cursor.at.is_multiple_of(3) { Step::Pause } else { Step::More })
    }
}

#[test]
fn a_long_text_costs_what_is_read() {
    let lines = Arc::new(Lines(Mutex::new(0)));
    let inode = TextInode(Head { number: 1, permissions: 0o444, owner: (0, 0) }, lines.clone());
    let file = Arc::new(inode).open(&request(&ME, OpenFlags::empty())).unwrap();
    let read = |position: u64| {
        let mut bytes = [0; 11];
        loop {
            match file.read(position, &mut Destination::kernel(&mut bytes)) {
                Ok(count) => break String::from_utf8(bytes[..count].to_vec()).unwrap(),
                Err(stop) => assert_eq!(stop, NotReady::Yield),
            }
        }
    };
    let made = || core::mem::take(&mut *lines.0.lock().unwrap());
    assert_eq!(read(0), "line 00000\n");
    assert!(made() < 1000);
    // On from there, and back, and over the whole of it.
    assert_eq!(read(11 * 50_000), "line 50000\n");
    assert!((49_000..52_000).contains(&made()));
    assert_eq!(read(11 * 50_001), "line 50001\n");
    assert!(made() < 1000);
    assert_eq!(read(11 * 7 + 5), "00007\nline ");
    assert_eq!(read(11 * 100_000), "");
    assert_eq!(read(u64::MAX), "");
    assert_eq!(read_all(&*file).unwrap().len(), 1_100_000);
}

#[test]
fn names_and_adjustments_can_be_written() {
    let bench = Bench::new([7, 9]);
    assert_eq!(write(&*bench.open("7/comm").unwrap(), "a name longer than fifteen\n"), Ok(27));
    assert_eq!(bench.text("7/comm"), "a name longer t\n");
    assert_eq!(write(&*bench.open("9/comm").unwrap(), "x"), Err(Errno::EINVAL.into()), "not the caller's");
    assert_eq!(write(&*bench.open("7/oom_score_adj").unwrap(), "-17\n"), Ok(4));
    assert_eq!(bench.text("7/oom_score_adj"), "-17\n");
    assert_eq!(write(&*bench.open("7/oom_score_adj").unwrap(), "1001"), Err(Errno::EINVAL.into()));
    assert_eq!(write(&*bench.open("7/stat").unwrap(), "x"), Err(Errno::EIO.into()));
    assert_eq!(write(&*bench.open("7/comm").unwrap(), &"x".repeat(5000)), Err(Errno::EINVAL.into()));
}

#[test]
fn settings_are_read_and_the_host_name_set() {
    let bench = Bench::new([]);
    assert_eq!(write(&*bench.open("sys/kernel/hostname").unwrap(), "orrery\n"), Ok(7));
    assert_eq!(bench.text("sys/kernel/hostname"), "orrery\n");
    let pid_max = bench.open("sys/kernel/pid_max").unwrap();
    assert_eq!(write(&*pid_max, " 4194304\n"), Ok(9));
    assert_eq!(bench.text("sys/kernel/pid_max"), "4194304\n");
    for wrong in ["", "many", "-1", "99999999999999999999"] {
        assert_eq!(write(&*pid_max, wrong), Err(Errno::EINVAL.into()), "{wrong}");
    }
    assert_eq!(write(&*bench.open("sys/kernel/osrelease").unwrap(), "7"), Err(Errno::EPERM.into()));
    assert_eq!(bench.text("sys/fs/file-nr"), "3\t0\t9999\n");
    assert_eq!(bench.text("sys/kernel/random/boot_id"), "01010101-0101-4101-8101-010101010101\n");
    assert_eq!(list(bench.find("sys").unwrap(), 1), ["fs", "kernel", "vm"]);
    let mut numbers = std::collections::BTreeSet::new();
    for (directory, names) in [("sys/kernel", 40), ("sys/fs", 40), ("sys/kernel/random", 40)] {
        for name in list(bench.find(directory).unwrap(), names) {
            assert!(numbers.insert(bench.find(&format!("{directory}/{name}")).unwrap().number()), "{name}");
        }
    }
}

#[test]
fn a_thousand_processes_are_listed_once_each_in_pieces() {
    let bench = Bench::new((1..=1000).map(|id| id * 3));
    let names = list(bench.root.clone(), 7);
    let numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    assert_eq!(numbers, (1..=1000).map(|id| id * 3).collect::<Vec<_>>());
    for fixed in ["self", "meminfo", "sys", "mounts", "net"] {
        assert_eq!(names.iter().filter(|name| *name == fixed).count(), 1, "{fixed}");
    }
    for name in &names {
        assert!(bench.root.lookup(name.as_bytes()).is_ok(), "{name} is listed and not found");
    }
    assert_eq!(bench.root.lookup(b"03").err(), Some(Errno::ENOENT));
    assert_eq!(bench.root.lookup(b"4").err(), Some(Errno::ENOENT));
}

#[test]
fn everything_a_process_lists_can_be_found_and_has_its_own_number() {
    let bench = Bench::new([7]);
    let mut numbers = std::collections::BTreeSet::new();
    for directory in ["7", "7/task/7", "7/task/8"] {
        for name in list(bench.find(directory).unwrap(), 3) {
            let inode = bench.find(&format!("{directory}/{name}")).unwrap();
            assert!(numbers.insert(inode.number()), "{directory}/{name}");
            assert_eq!(inode.permissions().user, 1000);
        }
    }
    assert_eq!(list(bench.find("7/task").unwrap(), 1), ["7", "8"]);
    assert_eq!(bench.find("7/task/9").err(), Some(Errno::ENOENT));
    assert_eq!(bench.find("7/task/7/task").err(), Some(Errno::ENOENT));
}

#[test]
fn links_lead_to_the_caller() {
    let bench = Bench::new([7]);
    let follow = |name: &str, caller: &Me| match bench.find(name).unwrap().read_link(caller) {
        Ok(Link::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
        Ok(Link::Path(path)) => String::from_utf8(path.text(&path).unwrap()).unwrap(),
        Err(errno) => format!("{errno}"),
    };
    assert_eq!(follow("self", &ME), "7");
    assert_eq!(follow("thread-self", &ME), "7/task/7");
    assert_eq!(follow("mounts", &ME), "self/mounts");
    assert_eq!(follow("self", &Me(0)), "ENOENT", "the kernel has no process");
}

#[test]
fn places_and_descriptors_lead_to_files() {
    let bench = Bench::new([7]);
    let kernel_vfs = Vfs::new(1);
    let procfs = ProcFs::new(bench.system.clone());
    let namespace = MountNamespace::new(&kernel_vfs, procfs, "proc", MountFlags::empty()).unwrap();
    let process = bench.process(7);
    process.with(|fake| {
        fake.root = namespace.root().ok();
        fake.namespace = Some(namespace);
    });
    let text = |path: &str| match bench.find(path).unwrap().read_link(&ME) {
        Ok(Link::Path(path)) => String::from_utf8(path.text(&path).unwrap()).unwrap(),
        Ok(Link::Text(_)) => "text".into(),
        Err(errno) => format!("{errno}"),
    };
    assert_eq!((text("7/cwd"), text("7/exe"), text("7/fd/1000")), ("/".into(), "/".into(), "/".into()));
    assert_eq!(list(bench.find("7/fd").unwrap(), 2), ["0", "1", "1000"]);
    assert_eq!(bench.find("7/fd").unwrap().attributes().size, 3);
    assert_eq!(bench.find("7/fd/0").unwrap().permissions().mode & 0o777, 0o700);
    assert_eq!(bench.find("7/fd/2").err(), Some(Errno::ENOENT));
    let info = bench.text("7/fdinfo/1");
    assert!(info.starts_with("pos:\t0\nflags:\t02000002\nmnt_id:\t1\nino:\t1\n"), "{info}");
    assert!(bench.text("7/mounts").starts_with("proc / proc rw"));
    assert_eq!(bench.text("7/mountstats"), "device proc mounted on / with fstype proc\n");
    process.with(|fake| fake.inspectable = false);
    assert_eq!((text("7/cwd"), text("7/fd/0")), ("EACCES".into(), "EACCES".into()));
    assert_eq!(bench.open("7/maps").err(), Some(Errno::EACCES));
    assert_eq!(bench.open("7/environ").err(), Some(Errno::EACCES));
    assert!(bench.open("7/stat").is_ok());
    process.with(|fake| (fake.inspectable, fake.status.memory) = (true, None));
    assert_eq!(text("7/exe"), "ENOENT", "a zombie executes nothing");
}

#[test]
fn a_process_that_is_gone_answers_so() {
    let bench = Bench::new([7]);
    let (directory, file) = (bench.find("7").unwrap(), bench.open("7/stat").unwrap());
    bench.process(7).with(|fake| fake.threads.clear());
    assert_eq!(read_all(&*file), Err(Errno::ESRCH.into()));
    let stat = directory.lookup(b"stat").unwrap().open(&request(&ME, OpenFlags::empty())).unwrap();
    assert_eq!(read_all(&*stat), Err(Errno::ESRCH.into()));
}

/// Runs `act` with a kernel's worth of /proc alone, mounted as the root.
fn with_proc_mounted(act: impl FnOnce(&Vfs, &Arc<MountNamespace>, &dyn Fn(&str) -> Path)) {
    let bench = Bench::new([7]);
    let kernel_vfs = Vfs::new(1);
    let procfs = ProcFs::new(bench.system.clone());
    let namespace = MountNamespace::new(&kernel_vfs, procfs, "proc", MountFlags::empty()).unwrap();
    let root = namespace.root().unwrap();
    let credentials = vfs::Credentials::superuser();
    let context = vfs::Context { root: &root, credentials: &credentials, caller: &ME, umask: 0 };
    let look = |name: &str| context.lookup(&root, name.as_bytes(), vfs::Lookup::FOLLOW).unwrap();
    act(&kernel_vfs, &namespace, &look);
}

/// The dentries from a path's up to the root, which stays.
fn way_up(path: Path) -> Vec<alloc::sync::Weak<vfs::Dentry>> {
    let dentries = core::iter::successors(Some(path.dentry), |dentry| dentry.parent());
    let mut way: Vec<_> = dentries.map(|dentry| Arc::downgrade(&dentry)).collect();
    way.pop();
    way
}

#[test]
fn nothing_of_a_walk_stays() {
    with_proc_mounted(|_, _, look| {
        for name in ["sys/kernel/random/uuid", "sys/vm", "net", "7/task/7/comm", "7/fdinfo"] {
            let way = way_up(look(name));
            assert!(!way.is_empty() && way.iter().all(|dentry| dentry.strong_count() == 0), "{name}");
        }
    });
}

#[test]
fn the_way_to_a_mount_stays_as_long_as_the_mount() {
    with_proc_mounted(|kernel_vfs, namespace, look| {
        for name in ["sys/kernel", "sys/vm"] {
            namespace.bind(kernel_vfs, &look("net"), &look(name)).unwrap();
        }
        let way: Vec<_> = ["sys/kernel", "sys/vm"].map(look).into_iter().collect();
        assert!(way.iter().all(|path| path.mount.mount_point().is_some()));
        let points: Vec<_> = way.iter().flat_map(|path| way_up(path.mount.mount_point().unwrap())).collect();
        for path in way {
            namespace.unmount(path, true).unwrap();
        }
        assert!(points.len() == 4 && points.iter().all(|dentry| dentry.strong_count() == 0));
        assert!(look("sys/kernel").mount.mount_point().is_none());
    });
}
