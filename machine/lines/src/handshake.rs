//! Whose turn it is: the words by which the kernel and a guest thread hand over to each other, the kernel's side of it.
//!
//! ```text
//!            kernel                              guest thread (stub/code.s)
//!   release: SPIN = turns                        it runs the program, until a signal:
//!            TRAPPED = 0 ------------------->    TRAPPED = 1  (xchg, a full fence)
//!            if GUEST_SLEEPS: wake               if KERNEL_SLEEPS: wake
//!   wait:    look at TRAPPED for some turns      look at TRAPPED for SPIN turns
//!            KERNEL_SLEEPS = 1 (fence)           GUEST_SLEEPS = 1 (xchg)
//!            sleep while TRAPPED == 0            sleep while TRAPPED == 1
//! ```
//!
//! Each side announces its sleep before it looks for the last time, the other changes TRAPPED before it looks for a sleeper: one of the two
//! sees the other, so no wake-up is lost (the tests below try all orders). A guest that lies can make the kernel believe that it has stopped,
//! or keep it waiting until the deadline of the caller; it can't do more.

/// One of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// 1 while the guest thread says it is back, 0 while the program runs.
    Trapped,
    /// The kernel may sleep until the first changes.
    KernelSleeps,
    /// The guest thread may.
    GuestSleeps,
    /// Turns for which the guest thread looks before it sleeps.
    Spin,
}

/// The words, and sleeping on the first. All accesses are sequentially consistent.
pub trait Words {
    /// What a word says.
    fn load(&self, word: Word) -> u32;
    /// Sets a word.
    fn store(&self, word: Word, value: u32);
    /// Sleeps while `Trapped` is 0, for a limited time. Returns whether that has passed.
    fn sleep(&self) -> bool;
    /// Wakes who sleeps on `Trapped`.
    fn wake(&self);
}

/// Lets the guest thread go on; when it is back it looks for so many turns before it sleeps. Returns whether it had to be woken.
pub fn release(words: &impl Words, spin: u32) -> bool {
    words.store(Word::Spin, spin);
    words.store(Word::Trapped, 0);
    let slept = words.load(Word::GuestSleeps) != 0;
    if slept {
        words.wake();
    }
    slept
}

/// The guest thread does not come back: who was asked whether to wait on said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

/// Waits until the guest thread says that it is back, awake for so many turns. Each time the limit of a sleep has passed without it
/// `goes_on` is asked whether to wait on. Returns whether the kernel had to sleep for it.
///
/// # Errors
/// It was not to wait on.
pub fn wait(words: &impl Words, spin: u32, mut goes_on: impl FnMut() -> bool) -> Result<bool, Late> {
    let is_back = || words.load(Word::Trapped) != 0;
    for _ in 0..spin {
        if is_back() {
            return Ok(false);
        }
        std::hint::spin_loop();
    }
    words.store(Word::KernelSleeps, 1);
    while !is_back() {
        if words.sleep() && !is_back() && !goes_on() {
            return Err(Late);
        }
    }
    words.store(Word::KernelSleeps, 0);
    Ok(true)
}

#[cfg(test)]
mod tests {
    //! All orders of the kernel's side, which is the code above, and of the guest thread's, which is machine/src/host/stub/code.s in Rust.

    use super::*;
    use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst, fence};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// The words, and the host's futex: who sleeps looks at the word under the lock under which others wake.
    struct Model {
        words: [AtomicU32; 4],
        futex: Mutex<()>,
        changed: Condvar,
        /// The limits of all sleeps have passed.
        is_late: AtomicBool,
        /// How often the program has run.
        runs: AtomicU32,
    }

    impl Model {
        fn new() -> Arc<Model> {
            Arc::new(Model {
                words: std::array::from_fn(|_| AtomicU32::new(0)),
                futex: Mutex::new(()),
                changed: Condvar::new(),
                is_late: AtomicBool::new(false),
                runs: AtomicU32::new(0),
            })
        }

        fn word(&self, word: Word) -> &AtomicU32 {
            &self.words[word as usize]
        }

        /// `xchg`, which is a fence: loom knows fences, and takes other accesses for weaker than they are.
        fn exchange(&self, word: Word, value: u32) {
            self.word(word).swap(value, SeqCst);
            fence(SeqCst);
        }

        fn sleep_while(&self, value: u32) {
            let guard = self.futex.lock().unwrap();
            if self.load(Word::Trapped) == value && !self.is_late.load(SeqCst) {
                drop(self.changed.wait(guard).unwrap());
            }
        }

        fn wake_one(&self) {
            let _guard = self.futex.lock().unwrap();
            self.changed.notify_one();
        }

        /// The time that sleeps are limited to has passed.
        fn be_late(&self) {
            self.is_late.store(true, SeqCst);
            let _guard = self.futex.lock().unwrap();
            self.changed.notify_all();
        }

        /// The handler of a guest thread's signals, up to where it goes on with the program.
        fn trap(&self) {
            self.exchange(Word::Trapped, 1);
            if self.load(Word::KernelSleeps) != 0 {
                self.wake_one();
            }
            let mut spin = self.load(Word::Spin);
            while self.load(Word::Trapped) != 0 {
                if spin == 0 {
                    self.exchange(Word::GuestSleeps, 1);
                    while self.load(Word::Trapped) != 0 && !self.is_late.load(SeqCst) {
                        self.sleep_while(1);
                    }
                    break;
                }
                spin -= 1;
            }
            self.store(Word::GuestSleeps, 0);
        }
    }

    impl Words for Model {
        fn load(&self, word: Word) -> u32 {
            self.word(word).load(SeqCst)
        }

        fn store(&self, word: Word, value: u32) {
            // That is `xchg`, too.
            self.exchange(word, value);
        }

        fn sleep(&self) -> bool {
            self.sleep_while(0);
            self.is_late.load(SeqCst)
        }

        fn wake(&self) {
            self.wake_one();
        }
    }

    /// There and back: each waits for the other once. Whoever is not woken never ends, which loom finds.
    fn two_parties(kernel_spins: u32, guest_spins: u32) {
        let model = Model::new();
        model.store(Word::Spin, guest_spins);
        let guest = model.clone();
        let guest = thread::spawn(move || {
            guest.runs.fetch_add(1, SeqCst);
            guest.trap();
        });
        wait(&*model, kernel_spins, || unreachable!("nobody is late")).unwrap();
        assert_eq!(model.runs.load(SeqCst), 1, "the program has run");
        release(&*model, guest_spins);
        guest.join().unwrap();
    }

    /// A third kills the guest thread, at any moment: the kernel comes back all the same.
    fn three_parties() {
        let model = Model::new();
        let (guest, killer) = (model.clone(), model.clone());
        let guest = thread::spawn(move || guest.trap());
        let killer = thread::spawn(move || killer.be_late());
        if wait(&*model, 0, || false).is_ok() {
            release(&*model, 0);
        }
        killer.join().unwrap();
        guest.join().unwrap();
    }

    /// A sibling that writes the words at any moment: the kernel comes back with a claim, true or not, or is told that it is late.
    fn a_liar() {
        let model = Model::new();
        let liar = model.clone();
        let liar = thread::spawn(move || {
            liar.store(Word::Trapped, 1);
            liar.store(Word::KernelSleeps, 0);
            liar.store(Word::Trapped, 0);
            liar.be_late();
        });
        let _ = wait(&*model, 1, || false);
        release(&*model, 1);
        liar.join().unwrap();
    }

    /// Tries all orders in which threads are stopped in the middle so often, or all there are.
    fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = preemptions;
        builder.check(model);
    }

    fn explore_all(preemptions: Option<usize>) {
        for (kernel, guest) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            explore(preemptions, move || two_parties(kernel, guest));
        }
        explore(preemptions, three_parties);
        explore(preemptions, a_liar);
    }

    #[test]
    fn no_wake_up_is_lost() {
        explore_all(Some(3));
    }

    /// For `./x soak handshake`.
    #[test]
    #[ignore = "takes minutes"]
    fn no_wake_up_is_lost_in_any_order() {
        explore_all(None);
        println!("soak: 6 models explored");
    }
}
