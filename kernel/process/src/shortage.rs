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
    let name = process.first_thread().map(|thread| thread.name()).unwrap_or_default();
    let pages = process.space().map_or(0, |space| space.space().resident());
    kernel.log().print(
        Level::Error,
        format_args!("Out of memory: killed process {} ({}), {} KiB mapped", process.pid(), name.as_str(), pages * 4),
    );
    let _ = send::post(process, Information::kernel(Signal::KILL));
}
