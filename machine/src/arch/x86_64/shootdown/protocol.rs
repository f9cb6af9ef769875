//! [`Shootdown`]: what the CPUs tell each other, over any [`Hardware`].
//!
//! Each CPU states in `loaded` of its [`Slot`] the root of the tables it uses: [`Shootdown::load`]. Whoever has changed entries of a space
//! calls [`Shootdown::flush`] before the frames that were mapped are dropped; locks may be held or not. It flushes this CPU, and
//! writes a request for the others that have the space loaded: into its own slot what to forget, and for each CPU that must, one more in
//! `unanswered` there and the bit of its own number into that CPU's `incoming`; it interrupts each, and waits until all have answered.
//!
//! **No deadlock.** A CPU that has to answer is in user mode or idle (the interrupt makes it serve), or in the kernel with
//! interrupts off, where every loop that waits for another CPU, spin locks and this one included, calls
//! `cpu::relax`, which serves; and where code that does not wait leaves the kernel soon.
//!
//! **No stale translation.** Let A change an entry and flush, and B load the space. In A: exchange of the entry (a full
//! barrier), then the read of `LOADED[B]`. In B: exchange of `LOADED[B]` (a full barrier), then `mov cr3`, then walks.
//! If A reads the old `LOADED[B]`, A's read came before B's exchange in the order of all locked instructions, so A's
//! entry was visible before B's first walk. Otherwise A sees B and asks it. While B changes from one space to another it says
//! `CHANGING`, which everybody takes for their own space: so a CPU that still has the old root in CR3 is
//! asked by the old space too, and answers after the change. Hence, when [`flush`] returns, no CPU uses what was removed,
//! and when [`evict`] returns, none has the root in CR3: the frames may be used for other things.
//!
//! **Requests are not mixed up.** A CPU has one request at a time, and writes it only while none is unanswered. The bit in `incoming` is
//! set (release) after the slot is written and the answer is counted as missing, and taken (acquire) before the slot is read; the
//! answer is counted (release) after the flush, and the last one seen (acquire) before frames are dropped. `asked` is set after the
//! bit and taken back before bits are looked at, so none is left over: it spares who is not asked the look at all words.
//!
//! kernel/models tries all that in every order.

use super::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use core::ops::Range;

/// In `loaded`: no user space.
const NOTHING: usize = 0;
/// In `loaded`: between two spaces. No physical address of a table.
const CHANGING: usize = 1;
/// Bits in a word of [`Slot::incoming`].
const WORD: usize = u64::BITS as usize;
/// Its words.
const WORDS: usize = 4;
/// In a request: the kernel's own half of all spaces. No physical address of a table.
const KERNEL: usize = 2;

/// What a CPU does about its own translations, and how it reaches the others.
pub trait Hardware {
    /// This CPU's number.
    fn current(&self) -> usize;
    /// How many CPUs there are.
    fn count(&self) -> usize;
    /// This CPU's own.
    fn own<'a>(&self, slots: &'a [Slot]) -> &'a Slot;
    /// The root of the kernel's own tables.
    fn kernel_root(&self) -> usize;
    /// Goes on with the tables at `root`, and forgets all translations that are not global.
    fn use_tables(&self, root: usize);
    /// Forgets the translations of `pages` in the tables in use, and what it knows of tables.
    fn forget(&self, pages: &Range<usize>);
    /// Forgets all translations that are not global.
    fn forget_everything(&self);
    /// Interrupts a CPU: in user mode or idle it serves.
    fn interrupt(&self, cpu: usize);
    /// One turn of waiting.
    fn pause(&self);
}

/// What is known of one CPU.
#[repr(align(128))]
pub struct Slot {
    loaded: AtomicUsize,
    /// It can be interrupted, so it answers.
    joined: AtomicBool,
    /// Somebody asks this CPU.
    asked: AtomicBool,
    /// Who does: a bit each.
    incoming: [AtomicU64; WORDS],
    /// The request this CPU has sent: how many have not answered yet, of which space, which pages, and whether to unload it.
    unanswered: AtomicUsize,
    root: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    unload: AtomicBool,
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            loaded: AtomicUsize::new(NOTHING),
            joined: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            incoming: [const { AtomicU64::new(0) }; WORDS],
            unanswered: AtomicUsize::new(0),
            root: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            unload: AtomicBool::new(false),
        }
    }

    /// Whether the CPU uses the tables at `root`, or may do so in a moment.
    #[inline]
    fn uses(&self, root: usize) -> bool {
        let loaded = self.loaded.load(Ordering::SeqCst);
        loaded == root || loaded == CHANGING
    }
}

/// `CPUS` CPUs, 256 at most.
pub struct Shootdown<H, const CPUS: usize> {
    hardware: H,
    slots: [Slot; CPUS],
}

impl<H: Hardware, const CPUS: usize> Shootdown<H, CPUS> {
    /// CPUs that use the kernel's own tables.
    pub const fn new(hardware: H) -> Self {
        Shootdown { hardware, slots: [const { Slot::new() }; CPUS] }
    }

    #[inline]
    fn this_cpu(&self) -> &Slot {
        self.hardware.own(&self.slots)
    }

    /// True if this CPU uses the tables at `root`.
    #[inline]
    pub fn is_loaded(&self, root: usize) -> bool {
        self.this_cpu().loaded.load(Ordering::Relaxed) == root
    }

    /// Makes this CPU use the tables at `root`, a space's, which is evicted before it is freed.
    #[inline]
    pub fn load(&self, root: usize) {
        if !self.is_loaded(root) {
            self.change(root, root);
        }
    }

    /// Makes this CPU use the kernel's own tables.
    pub fn unload(&self) {
        if !self.is_loaded(NOTHING) {
            self.change(self.hardware.kernel_root(), NOTHING);
        }
    }

    #[inline(never)]
    fn change(&self, root: usize, name: usize) {
        let loaded = &self.this_cpu().loaded;
        loaded.swap(CHANGING, Ordering::SeqCst);
        self.hardware.use_tables(root);
        loaded.store(name, Ordering::Release);
    }

    /// From now on this CPU is asked to forget what the kernel has unmapped in its own half. Called once on each CPU, when others
    /// can interrupt it.
    ///
    /// Whoever asks has removed entries before it looks at `joined`: if it does not see this CPU there, this CPU sees what it removed
    /// after the exchange, and so in all walks after the flush.
    pub fn join(&self) {
        self.this_cpu().joined.swap(true, Ordering::SeqCst);
        self.hardware.forget_everything();
    }

    /// Makes all CPUs forget the translations of `pages` in the space at `root`. An empty range does nothing.
    #[inline]
    pub fn flush(&self, root: usize, pages: Range<usize>) {
        if pages.is_empty() {
            return;
        }
        if self.is_loaded(root) {
            self.hardware.forget(&pages);
        }
        self.ask_users(root, &pages, false);
    }

    /// Makes all CPUs forget what is not global in the kernel's half. Locks may be held: CPUs that wait for them answer.
    pub fn flush_kernel(&self) {
        fence(Ordering::SeqCst); // the entries were changed by plain stores
        self.hardware.forget_everything();
        self.ask(|cpu| cpu.joined.load(Ordering::SeqCst), KERNEL, &(0..0), false);
    }

    /// Makes all CPUs let go of the space at `root`, whose tables are about to be freed or emptied.
    pub fn evict(&self, root: usize) {
        if self.is_loaded(root) {
            self.unload();
        }
        self.ask_users(root, &(0..0), true);
    }

    /// Asks the other CPUs that use the tables at `root`. What was changed in the tables before must have been changed by locked
    /// instructions, or not be in use.
    #[inline]
    fn ask_users(&self, root: usize, pages: &Range<usize>, unload: bool) {
        self.ask(|cpu| cpu.uses(root), root, pages, unload);
    }

    /// Whether other CPUs use the tables at `root`. Changes of the tables before as for [`Shootdown::flush`].
    #[inline]
    pub fn is_used_elsewhere(&self, root: usize) -> bool {
        let (this, count) = (self.hardware.current(), self.hardware.count());
        let mut cpus = self.slots.iter().take(count).enumerate();
        count > 1 && cpus.any(|(number, cpu)| number != this && cpu.uses(root))
    }

    /// Asks the other CPUs of which `which` is true, and waits until all have answered.
    #[inline]
    fn ask(&self, which: impl Fn(&Slot) -> bool, root: usize, pages: &Range<usize>, unload: bool) {
        let (this, count) = (self.hardware.current(), self.hardware.count());
        if count == 1 {
            return;
        }
        let mut is_written = false;
        for (number, cpu) in self.slots.iter().take(count).enumerate() {
            if number != this && which(cpu) {
                if !is_written {
                    self.write(root, pages, unload);
                    is_written = true;
                }
                self.send(number, cpu);
            }
        }
        if is_written {
            self.wait();
        }
    }

    /// Writes this CPU's request.
    #[cold]
    fn write(&self, root: usize, pages: &Range<usize>, unload: bool) {
        let this = self.this_cpu();
        this.root.store(root, Ordering::Relaxed);
        this.start.store(pages.start, Ordering::Relaxed);
        this.end.store(pages.end, Ordering::Relaxed);
        this.unload.store(unload, Ordering::Relaxed);
    }

    /// Sends what was written to one more CPU.
    #[cold]
    fn send(&self, number: usize, cpu: &Slot) {
        let this = self.hardware.current();
        self.this_cpu().unanswered.fetch_add(1, Ordering::Relaxed);
        if let Some(word) = cpu.incoming.get(this / WORD) {
            word.fetch_or(1 << (this % WORD), Ordering::Release);
        }
        cpu.asked.store(true, Ordering::Release);
        self.hardware.interrupt(number);
    }

    /// Waits until all who were asked have answered.
    #[cold]
    fn wait(&self) {
        while self.this_cpu().unanswered.load(Ordering::Acquire) != 0 {
            self.serve(false);
            self.hardware.pause();
        }
    }

    /// Does what other CPUs have asked this one to do. `idle` says that it runs no program: then it lets go of the space
    /// altogether, and is not asked again.
    #[inline]
    pub fn serve(&self, idle: bool) {
        if self.this_cpu().asked.load(Ordering::Relaxed) {
            self.answer_all(idle);
        }
    }

    /// Answers all who ask. Who comes after `asked` was taken back sets it again.
    #[cold]
    fn answer_all(&self, idle: bool) {
        self.this_cpu().asked.swap(false, Ordering::Acquire);
        for (word, first) in self.this_cpu().incoming.iter().zip((0..self.hardware.count()).step_by(WORD)) {
            if word.load(Ordering::Relaxed) != 0 {
                self.answer(word.swap(0, Ordering::Acquire), first, idle);
            }
        }
    }

    /// Answers `senders`, bits of the CPUs from `first` on.
    fn answer(&self, senders: u64, first: usize, idle: bool) {
        for (bit, sender) in self.slots.iter().skip(first).take(WORD).enumerate() {
            if senders >> bit & 1 == 0 {
                continue;
            }
            let root = sender.root.load(Ordering::Relaxed);
            if root == KERNEL {
                self.hardware.forget_everything();
            } else if self.is_loaded(root) {
                if idle || sender.unload.load(Ordering::Relaxed) {
                    self.unload();
                } else {
                    self.hardware.forget(&(sender.start.load(Ordering::Relaxed)..sender.end.load(Ordering::Relaxed)));
                }
            }
            sender.unanswered.fetch_sub(1, Ordering::Release);
        }
    }
}
