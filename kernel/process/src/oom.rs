//! Who has to end when memory is out: Linux's "OOM killer".
//!
//! The process that has most memory mapped, /proc/PID/oom_score_adj taken into account, is killed, and everybody who needs
//! memory waits until it is gone. Init is never chosen. One ends at a time: killing a second before the first has given back what
//! it had would kill for nothing.

use alloc::sync::{Arc, Weak};

use abi::signal::Signal;
use drivers::Level;
use machine::memory::FrameSource;
use memory::{AddressSpace, OomKiller, OomOutcome};
use sync::SpinLock;

use crate::signal::{Information, send};
use crate::{Kernel, Pid, Process};

/// How long one that is ending is waited for before another is chosen, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;

/// How long after its end nobody is chosen while there is memory, in nanoseconds: those who ask may have been refused before.
const GRACE: u64 = 100_000_000;

/// `oom_score_adj` that protects a process.
const NEVER: i32 = -1000;

/// Chooses who has to end. See the module's page.
pub(crate) struct ProcessKiller {
    kernel: Weak<Kernel>,
    ending: SpinLock<Option<Ending>>,
}

/// Who was chosen last, or has ended by now.
struct Ending {
    process: Weak<Process>,
    since: u64,
}

impl Ending {
    /// What it means to who asks now. None if somebody else has to end.
    fn outcome(&mut self, kernel: &Kernel, space: &AddressSpace, now: u64) -> Option<OomOutcome> {
        if let Some(process) = self.process.upgrade() {
            if !process.is_zombie() {
                return (now < self.since.saturating_add(PATIENCE)).then(|| outcome(&process, space));
            }
            *self = Ending { process: Weak::new(), since: now };
        }
        let is_enough = now < self.since.saturating_add(GRACE) && !kernel.memory().frames().is_scarce();
        is_enough.then_some(OomOutcome::Wait)
    }
}

impl ProcessKiller {
    pub fn new(kernel: Weak<Kernel>) -> Arc<ProcessKiller> {
        Arc::new(ProcessKiller { kernel, ending: SpinLock::new(None) })
    }
}

impl OomKiller for ProcessKiller {
    fn out_of_memory(&self, space: &AddressSpace) -> OomOutcome {
        let Some(kernel) = self.kernel.upgrade() else { return OomOutcome::GiveUp };
        let mut ending = self.ending.lock();
        let now = machine::time::now();
        if let Some(outcome) = ending.as_mut().and_then(|ending| ending.outcome(&kernel, space, now)) {
            return outcome;
        }
        let Some(process) = select_victim(&kernel) else { return OomOutcome::GiveUp };
        *ending = Some(Ending { process: Arc::downgrade(&process), since: now });
        drop(ending);
        oom_kill(&kernel, &process);
        outcome(&process, space)
    }
}

/// What it means to who needs memory for `space` that this process ends.
fn outcome(process: &Process, space: &AddressSpace) -> OomOutcome {
    if is_of(process, space) { OomOutcome::GiveUp } else { OomOutcome::Wait }
}

fn is_of(process: &Process, space: &AddressSpace) -> bool {
    process.space().is_some_and(|own| core::ptr::eq(&raw const *own, space))
}

/// The process that is worst by [`badness`], the youngest of several. Those that are ending already don't count.
fn select_victim(kernel: &Kernel) -> Option<Arc<Process>> {
    let total = kernel.memory().frames().total_frames();
    let mut found: Option<(Arc<Process>, usize)> = None;
    let mut next = Pid::NOBODY;
    while let Some(process) = kernel.processes().next(next) {
        next = process.pid().next();
        if process.is_unkillable() || process.is_dead() {
            continue;
        }
        let badness = badness(&process, total);
        if badness > 0 && found.as_ref().is_none_or(|(_, worst)| badness >= *worst) {
            found = Some((process, badness));
        }
    }
    found.map(|(process, _)| process)
}

/// Pages it would give back, roughly: those it has mapped, and a page for what the kernel may keep behind each descriptor.
/// 0 if it is protected.
fn badness(process: &Process, total: usize) -> usize {
    let adjustment = process.out_of_memory_adjustment();
    let Some(space) = process.space().filter(|_| adjustment > NEVER) else { return 0 };
    let pages = space.space().resident() + process.files().capacity();
    let added = total as isize / 1000 * adjustment as isize;
    pages.saturating_add_signed(added).max(1)
}

fn oom_kill(kernel: &Kernel, process: &Arc<Process>) {
    tell(kernel, process);
    let _ = send::post(process, Information::kernel(Signal::KILL));
}

/// Tells who has to end for want of memory: who was chosen, or who asked when there was nobody to choose.
pub(crate) fn tell(kernel: &Kernel, process: &Process) {
    let name = process.first_thread().map(|thread| thread.name()).unwrap_or_default();
    let pages = process.space().map_or(0, |space| space.space().resident());
    kernel.log().print(
        Level::Error,
        format_args!("Out of memory: killed process {} ({}), {} KiB mapped", process.pid(), name.as_str(), pages * 4),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::families::{error, told};
    use crate::stage::Step::*;
    use crate::stage::{DATA, Stage, Step, Told, Value, program_file, until};
    use crate::{Role, call};
    use abi::Errno;
    use machine::memory::Frame;

    /// Who has to end when memory is out: who has most, as /proc/PID/oom_score_adj weighs it; of equals the youngest; never init.
    #[test]
    fn the_largest_ends_when_memory_is_out() {
        let stage = Stage::new(&[]);
        let mut steps = Vec::new();
        let pages = |count: usize| (0..count).map(|page| Store(DATA + 4096 * page, vec![1])).collect::<Vec<_>>();
        for label in ["small", "large", "large too"] {
            steps.extend([call!(__NR_fork), IfZero(label)]);
        }
        steps.extend(pages(15));
        steps.extend([Say("ready"), Label("wait"), call!(__NR_pause), Jump("wait"), Label("small")]);
        steps.extend(pages(2));
        steps.extend([Say("ready"), call!(__NR_pause), Label("large"), Label("large too")]);
        steps.extend(pages(12));
        steps.extend([Say("ready"), call!(__NR_pause)]);
        let told = stage.start_as(Role::Init, steps);
        until(|| told.lock().unwrap().len() == 4);
        let total = stage.kernel.memory().frames().total_frames() as i32;
        let process = |pid| stage.kernel.processes().next(Pid::new(pid)).unwrap();
        let victim = || select_victim(&stage.kernel).map(|process| process.pid().index());
        assert_eq!(victim(), Some(4), "the youngest of equals");
        // A fiftieth of all memory is more than these programs have.
        assert!(total / 50 > 100);
        process(2).set_out_of_memory_adjustment(20);
        assert_eq!(victim(), Some(2));
        process(2).set_out_of_memory_adjustment(0);
        process(4).set_out_of_memory_adjustment(-20);
        assert_eq!(victim(), Some(3));
        // Also who counts for nothing can be chosen, but who is protected.
        process(3).set_out_of_memory_adjustment(-1000);
        process(2).set_out_of_memory_adjustment(-1000);
        assert_eq!(victim(), Some(4));
        process(4).set_out_of_memory_adjustment(-999);
        assert_eq!(victim(), Some(4));
        process(4).set_out_of_memory_adjustment(-1000);
        assert_eq!(victim(), None);
    }

    /// Writes to pages of its data.
    fn write(pages: core::ops::Range<usize>) -> impl Iterator<Item = Step> {
        pages.map(|page| Store(DATA + 4096 * page, vec![page as u8]))
    }

    /// Says that it is ready, and goes on when it gets `SIGUSR1`.
    fn wait_for_go() -> [Step; 4] {
        let mask = (1_u64 << (Signal::USR1.number() - 1)).to_le_bytes();
        [
            Store(DATA, mask.to_vec()),
            call!(__NR_rt_sigprocmask, 0, DATA, 0, 8),
            Say("ready"),
            call!(__NR_rt_sigtimedwait, DATA, 0, 0, 8),
        ]
    }

    /// Init, with a child that has 800 pages (2) and one that has 10 (3). When there is nothing left but the reserve, those of `order`
    /// go on, each when the one before it has ended, with what `large` does, or with 200 pages more and what they hold. Returns what
    /// became of the children, and what the kernel said.
    fn at_the_brink(large: Vec<Step>, order: &[u32], prepare: fn(&Stage)) -> (Told, String) {
        let mut file = program_file();
        file[64 + 40..64 + 48].copy_from_slice(&(8_u64 << 20).to_le_bytes());
        let stage = Stage::new(&[]);
        stage.put("/init", &file);
        let mut steps = vec![call!(__NR_fork), IfZero("large"), call!(__NR_fork), IfZero("small")];
        for (pid, name) in [(2, "large ended"), (3, "small ended")] {
            steps.extend([call!(__NR_wait4, pid, DATA, 0, 0), Read(Value::Number(DATA), 0), Show(name)]);
        }
        steps.extend([call!(__NR_exit_group, 0), Label("large")]);
        steps.extend(write(1..801));
        steps.extend(wait_for_go());
        steps.extend(large);
        steps.extend([call!(__NR_exit_group, 0), Label("small")]);
        steps.extend(write(1..11));
        steps.extend(wait_for_go());
        steps.extend(write(11..211));
        steps.extend(
            [7, 207]
                .map(|page| Read(Value::Number(DATA + 4096 * page), 0))
                .into_iter()
                .flat_map(|read| [read, Show("has")]),
        );
        steps.push(call!(__NR_exit_group, 0));
        let told = stage.start_as(Role::Init, steps);
        until(|| told.lock().unwrap().len() == 2);
        prepare(&stage);
        let frames = stage.kernel.memory().frames();
        let taken: Vec<_> =
            core::iter::from_fn(|| if frames.is_scarce() { None } else { Frame::allocate_dirty() }).collect();
        let ended = || told.lock().unwrap().iter().filter(|(what, _)| what.ends_with("ended")).count();
        for (before, pid) in order.iter().enumerate() {
            until(|| ended() == before);
            let process = stage.kernel.processes().next(Pid::new(*pid)).unwrap();
            send::post(&process, Information::kernel(Signal::USR1)).unwrap();
        }
        until(|| ended() == 2);
        drop(taken);
        let mut told = told.lock().unwrap()[2..].to_vec();
        told.sort();
        (told, stage.kernel.log().read_all(10_000))
    }

    const KILLED: i64 = 9;

    /// Who needs little gets it from who has most, and keeps what it had.
    #[test]
    fn who_asks_for_little_goes_on() {
        let (said, log) = at_the_brink(Vec::new(), &[3], |_| ());
        let expected = [("has", 7), ("has", 207), ("large ended", KILLED), ("small ended", 0)];
        assert_eq!(said, told(&expected));
        assert_eq!(log.matches("Out of memory: killed process 2 (").count(), 1, "{log}");
        assert_eq!(log.matches("Out of memory").count(), 1, "{log}");
    }
    /// Who has most ends whoever asks, also if it is who asks: by a fault, or where the memory is for another space, that of the program
    /// it is about to execute. Nobody else ends for it, and the kernel says it once.
    #[test]
    fn who_has_most_ends_by_what_it_asks_for() {
        const STRINGS: usize = DATA + 4096;
        let name = [b"/init\0".as_slice(), &[0; 2], &STRINGS.to_le_bytes(), &[0; 8]].concat();
        for (what, large) in
            [("a fault", write(801..1000).collect()), ("execve", vec![call!(__NR_execve, STRINGS, STRINGS + 8, 0)])]
        {
            let steps = [vec![Store(STRINGS, name.clone())], large].concat();
            let (said, log) = at_the_brink(steps, &[2, 3], |_| ());
            let expected = [("has", 7), ("has", 207), ("large ended", KILLED), ("small ended", 0)];
            assert_eq!(said, told(&expected), "{what}");
            assert_eq!(log.matches("Out of memory: killed process 2 (").count(), 1, "{what}: {log}");
            assert_eq!(log.matches("Out of memory").count(), 1, "{what}: {log}");
        }
    }

    /// Whoever was refused before the memory of the one that ended was there tries again, before anybody else has to end.
    #[test]
    fn who_asks_too_late_ends_nobody() {
        let stage = Stage::new(&[]);
        let mut steps = vec![call!(__NR_fork), IfZero("small"), call!(__NR_fork), IfZero("large"), Label("wait")];
        steps.extend([
            call!(__NR_pause),
            Jump("wait"),
            Label("small"),
            Say("ready"),
            call!(__NR_pause),
            Label("large"),
        ]);
        steps.extend(write(1..10));
        steps.extend([Say("ready"), call!(__NR_pause)]);
        let told = stage.start_as(Role::Init, steps);
        until(|| told.lock().unwrap().len() == 2);
        let killer = ProcessKiller::new(Arc::downgrade(&stage.kernel));
        let [small, large] = [2, 3].map(|pid| stage.kernel.processes().next(Pid::new(pid)).unwrap());
        let space = small.space().unwrap();
        assert_eq!(killer.out_of_memory(&space), OomOutcome::Wait);
        until(|| large.is_zombie());
        assert_eq!(killer.out_of_memory(&space), OomOutcome::Wait);
        assert!(!small.is_dead());
        // Memory is out nevertheless.
        let frames = stage.kernel.memory().frames();
        let left = || if frames.is_scarce() { None } else { Frame::allocate_dirty() };
        let taken: Vec<_> = core::iter::from_fn(left).collect();
        assert_eq!(killer.out_of_memory(&space), OomOutcome::GiveUp);
        drop(taken);
        until(|| small.is_zombie());
    }

    /// There is memory, but it can't be had: somebody has to end nevertheless, after a while.
    #[test]
    fn who_is_refused_again_ends_somebody() {
        let stage = Stage::new(&[]);
        stage.start_as(Role::Init, vec![Label("wait"), call!(__NR_pause), Jump("wait")]);
        let init = stage.kernel.processes().next(Pid::new(1)).unwrap();
        let mut over = Ending { process: Weak::new(), since: 5 };
        let space = init.space().unwrap();
        assert_eq!(over.outcome(&stage.kernel, &space, 4 + GRACE), Some(OomOutcome::Wait));
        assert_eq!(over.outcome(&stage.kernel, &space, 5 + GRACE), None);
        let mut ending = Ending { process: Arc::downgrade(&init), since: 5 };
        assert_eq!(ending.outcome(&stage.kernel, &space, 4 + PATIENCE), Some(OomOutcome::GiveUp));
        assert_eq!(ending.outcome(&stage.kernel, &space, 5 + PATIENCE), None);
    }

    /// Nobody can be ended: a call fails with `EFAULT`, a fault ends who asked.
    #[test]
    fn who_cannot_be_helped_fails() {
        let far = DATA + 4096 * 900;
        let large = vec![call!(__NR_wait4, -1, 0, 0, 0), Show("nobody"), call!(__NR_sigaltstack, far), Show("call")];
        let prepare = |stage: &Stage| {
            let protect =
                |pid| stage.kernel.processes().next(Pid::new(pid)).unwrap().set_out_of_memory_adjustment(NEVER);
            [2, 3].into_iter().for_each(protect);
        };
        let fault = write(900..901).collect();
        let (said, log) = at_the_brink([large, fault].concat(), &[2, 3], prepare);
        let expected = [
            ("call", error(Errno::EFAULT)),
            ("has", 7),
            ("has", 207),
            ("large ended", KILLED),
            ("nobody", error(Errno::ECHILD)),
            ("small ended", 0),
        ];
        assert_eq!(said, told(&expected));
        assert_eq!(log.matches("Out of memory: killed process 2 (").count(), 1, "{log}");
    }

    /// Each unit of /proc/PID/oom_score_adj is a thousandth of all memory.
    #[test]
    fn an_adjustment_is_a_part_of_all_memory() {
        let stage = Stage::new(&[]);
        stage.start_as(Role::Init, vec![Label("wait"), call!(__NR_pause), Jump("wait")]);
        let init = stage.kernel.processes().next(Pid::new(1)).unwrap();
        let with = |adjustment| {
            init.set_out_of_memory_adjustment(adjustment);
            badness(&init, 4_000_000)
        };
        let pages = with(0);
        assert!((1..4000).contains(&pages));
        assert_eq!([with(1), with(250), with(1000)], [4_000, 1_000_000, 4_000_000].map(|more| pages + more));
        assert_eq!([with(-1), with(-999), with(-1000)], [1, 1, 0]);
    }
}
