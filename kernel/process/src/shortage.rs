//! Who has to end when memory is out: Linux's "OOM killer".
//!
//! The process that has most memory mapped, /proc/PID/oom_score_adj taken into account, is killed, and everybody who needs
//! memory waits until it is gone. Init is never chosen. One ends at a time: killing a second before the first has given back what
//! it had would kill for nothing.

use alloc::sync::{Arc, Weak};

use abi::signal::Signal;
use drivers::Level;
use machine::memory::FrameSource;
use memory::{AddressSpace, Relief, Rescue};
use sync::SpinLock;

use crate::signal::{Information, send};
use crate::{Kernel, Process};

/// How long one that is ending is waited for before another is chosen, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;

/// `oom_score_adj` that protects a process.
const NEVER: i32 = -1000;

/// Chooses who has to end. See the module's page.
pub(crate) struct Shortage {
    kernel: Weak<Kernel>,
    ending: SpinLock<Option<Ending>>,
}

/// Who was chosen last.
struct Ending {
    process: Weak<Process>,
    since: u64,
}

impl Shortage {
    pub fn new(kernel: Weak<Kernel>) -> Arc<Shortage> {
        Arc::new(Shortage { kernel, ending: SpinLock::new(None) })
    }
}

impl Rescue for Shortage {
    fn make_room(&self, space: &AddressSpace) -> Relief {
        let Some(kernel) = self.kernel.upgrade() else { return Relief::GiveUp };
        let relief = |process: &Process| if is_of(process, space) { Relief::GiveUp } else { Relief::Wait };
        let mut ending = self.ending.lock();
        let now = machine::time::now();
        if let Some(Ending { process, since }) = &*ending
            && now < since.saturating_add(PATIENCE)
            && let Some(process) = process.upgrade().filter(|process| !process.is_zombie())
        {
            return relief(&process);
        }
        let Some(process) = largest(&kernel) else { return Relief::GiveUp };
        *ending = Some(Ending { process: Arc::downgrade(&process), since: now });
        drop(ending);
        end(&kernel, &process);
        relief(&process)
    }
}

fn is_of(process: &Process, space: &AddressSpace) -> bool {
    process.space().is_some_and(|own| core::ptr::eq(&raw const *own, space))
}

/// The process that is worst by [`badness`], the youngest of several. Those that are ending already don't count.
fn largest(kernel: &Kernel) -> Option<Arc<Process>> {
    let total = kernel.memory().frames().total_frames();
    let mut found: Option<(Arc<Process>, usize)> = None;
    let mut next = 1;
    while let Some(process) = kernel.processes().next(next) {
        next = process.pid() + 1;
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

fn end(kernel: &Kernel, process: &Arc<Process>) {
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
    use crate::scenarios::families::until;
    use crate::scenarios::stage::Step::*;
    use crate::scenarios::stage::{DATA, Stage};
    use crate::{Role, call};

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
        let process = |pid| stage.kernel.processes().next(pid).unwrap();
        let victim = || largest(&stage.kernel).map(|process| process.pid());
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

    /// Each unit of /proc/PID/oom_score_adj is a thousandth of all memory.
    #[test]
    fn an_adjustment_is_a_part_of_all_memory() {
        let stage = Stage::new(&[]);
        stage.start_as(Role::Init, vec![Label("wait"), call!(__NR_pause), Jump("wait")]);
        let init = stage.kernel.processes().next(1).unwrap();
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
