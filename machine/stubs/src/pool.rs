//! [`Pool`]: stubs, made ahead of need, handed out, taken back.
//!
//! A stub that is given back is not cleaned then, but by its next user, in one batch with the first mappings. When the host
//! makes no more processes, or there are [`Host::MOST_STUBS`], a space that does not run gives its stub away.

use crate::processes::ended;
use crate::view::LockedStub;
use crate::{Host, NOBODY, Stub, lock};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Free stubs to keep in stock, and as long as the host may still be asked for the threads of CPUs.
const STOCK: usize = 3;
const STOCK_AT_START: usize = 1;

/// Why there is no stub for a space at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// One is being made.
    Making,
    /// All run: a program must come back first.
    AllRun,
    /// There are none, and will be none.
    Final,
}

/// The stubs of one machine.
pub struct Pool<H: Host> {
    /// Programs run in guest threads.
    has_guests: bool,
    stock: Mutex<Stock<H>>,
    /// All CPUs have their threads.
    has_cpus: AtomicBool,
    /// A stub was made or given back, or can't be made; one is wanted; the machine is off.
    changed: Condvar,
}

struct Stock<H: Host> {
    all: Vec<Arc<H::Stub>>,
    free: Vec<Arc<H::Stub>>,
    /// Numbers whose stub is gone, and how many there are.
    spare_numbers: Vec<usize>,
    numbers: usize,
    uses: u64,
    /// The host makes no more.
    is_final: bool,
    is_over: bool,
}

impl<H: Host> Stock<H> {
    /// Of those `wanted` the stub that was not used for longest and that does not run, with its state.
    fn idle(&self, wanted: impl Fn(&H::Stub) -> bool) -> Option<LockedStub<'_, H>> {
        let idle = self.all.iter().filter(|stub| wanted(stub)).filter_map(|stub| {
            let state = stub.state().try_lock().ok()?;
            state.is_idle().then_some((stub, state))
        });
        idle.min_by_key(|(_, state)| state.last_use())
    }

    /// Ends a stub of the stock, but not the last stub of all.
    fn discard(&mut self) -> bool {
        if self.all.len() < 2 {
            return false;
        }
        let Some(stub) = self.free.pop() else { return false };
        self.all.retain(|other| !Arc::ptr_eq(other, &stub));
        self.end(&stub);
        true
    }

    /// Ends the process of a stub that is in no list any more.
    fn end(&mut self, stub: &H::Stub) {
        // Nobody makes a guest thread in it meanwhile; and its space has it until nobody can do anything there.
        let mut state = lock(stub.state());
        stub.retire();
        stub.end();
        state.abandon();
        drop(state);
        self.spare_numbers.push(stub.number());
    }
}

impl<H: Host> Pool<H> {
    /// None. `has_guests`: programs run in guest threads.
    pub fn new(has_guests: bool) -> Pool<H> {
        let (all, free, spare_numbers) = (Vec::new(), Vec::new(), Vec::new());
        let stock = Stock { all, free, spare_numbers, numbers: 0, uses: 0, is_final: false, is_over: false };
        Pool { has_guests, stock: Mutex::new(stock), has_cpus: AtomicBool::new(false), changed: Condvar::new() }
    }

    /// Whether programs run in guest threads.
    pub fn has_guests(&self) -> bool {
        self.has_guests
    }

    /// Makes stubs by `make` whenever there are few, until the machine is off. Each gets a number, from 1 to [`Host::MOST_STUBS`], that no
    /// other has that is there. `refuse` is told why none can be made, if there is none at all.
    pub fn serve(
        &self,
        is_off: impl Fn() -> bool,
        make: impl Fn(usize) -> io::Result<Arc<H::Stub>>,
        refuse: impl Fn(io::Error),
    ) {
        let mut stock = lock(&self.stock);
        while !is_off() {
            if stock.is_final || stock.free.len() >= self.wanted() || stock.all.len() >= H::MOST_STUBS {
                stock = self.changed.wait(stock).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let number = stock.spare_numbers.pop().unwrap_or_else(|| {
                stock.numbers += 1;
                stock.numbers
            });
            drop(stock);
            let made = make(number);
            stock = lock(&self.stock);
            match made {
                Ok(stub) => {
                    stock.all.push(stub.clone());
                    stock.free.push(stub);
                }
                Err(reason) => {
                    // Spaces take turns from now on, as long as there are stubs at all. Guest threads need room, too.
                    stock.spare_numbers.push(number);
                    stock.is_final = true;
                    if self.has_guests {
                        stock.discard();
                    }
                    if stock.all.is_empty() {
                        drop(stock);
                        refuse(reason);
                        stock = lock(&self.stock);
                    }
                }
            }
            self.changed.notify_all();
        }
        stock.is_over = true;
        self.changed.notify_all();
    }

    /// Free stubs to keep in stock now.
    fn wanted(&self) -> usize {
        if self.has_cpus.load(Ordering::SeqCst) { STOCK } else { STOCK_AT_START }
    }

    /// To be called when the host has been asked for the threads of all CPUs: what it allows beyond them is for stubs.
    pub fn cpus_are_started(&self) {
        self.has_cpus.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Wakes [`Pool::serve`], and whoever waits for a stub.
    pub fn wake(&self) {
        drop(lock(&self.stock));
        self.changed.notify_all();
    }

    /// A stub for `space`: a free one, or one whose space does not run.
    ///
    /// # Errors
    /// There is none now. [`Pool::wait`] waits until it is worth trying again, and is to be called with nothing locked.
    pub fn take(&self, space: u64) -> Result<Arc<H::Stub>, Shortage> {
        let mut stock = lock(&self.stock);
        stock.uses += 1;
        let now = stock.uses;
        if let Some(stub) = stock.free.pop() {
            if stock.free.len() < self.wanted() {
                self.changed.notify_all();
            }
            lock(stub.state()).hand_to(space, now);
            return Ok(stub);
        }
        if !stock.is_final && stock.all.len() < H::MOST_STUBS {
            return Err(if stock.is_over { Shortage::Final } else { Shortage::Making });
        }
        if stock.all.is_empty() {
            return Err(Shortage::Final);
        }
        let (stub, mut state) = stock.idle(|_| true).ok_or(Shortage::AllRun)?;
        if H::retires() {
            stub.retire();
        }
        H::note_handed_on();
        state.hand_to(space, now);
        Ok(stub.clone())
    }

    /// Waits for a change for the better, for a moment at most. `turn` counts the tries; `kick` makes all programs come back. False if there
    /// will be none.
    pub fn wait(&self, shortage: Shortage, turn: u32, kick: impl FnOnce()) -> bool {
        match shortage {
            Shortage::Making => {
                let stock = lock(&self.stock);
                if stock.free.is_empty() && !stock.is_final && !stock.is_over && stock.all.len() < H::MOST_STUBS {
                    drop(self.changed.wait_timeout(stock, Duration::from_millis(100)));
                }
            }
            Shortage::AllRun => {
                // They are fewer than there are CPUs: their programs come back for a moment now and then.
                if turn.is_multiple_of(1024) {
                    kick();
                }
                std::thread::yield_now();
            }
            Shortage::Final => return false,
        }
        true
    }

    /// The host refused a guest thread, which was asked for when [`ended`] was `before`: a stub in stock, or the guest threads
    /// of one that does not run make room for it.
    ///
    /// # Errors
    /// None makes room now; [`Shortage::Final`]: there are none, and so will never be any.
    pub fn make_room(&self, before: u64) -> Result<(), Shortage> {
        let mut stock = lock(&self.stock);
        if ended() != before || stock.discard() {
            return Ok(());
        }
        if let Some((stub, _state)) = stock.idle(H::Stub::has_guests) {
            stub.retire();
            return Ok(());
        }
        // Another CPU may just get the last thread there is, which is not in the stub's books before it has stopped.
        let may_get_one = |stub: &H::Stub| stub.state().try_lock().is_err();
        if stock.is_final && !stock.all.iter().any(|stub| may_get_one(stub) || stub.has_guests()) {
            return Err(Shortage::Final);
        }
        // A stub is being made, which may be one too many; or all run.
        Err(Shortage::AllRun)
    }

    /// Takes back the stub of a space that is gone: when this returns nothing shows the space's frames any more.
    pub fn give_back(&self, stub: Arc<H::Stub>, space: u64) {
        let Some(mut state) = stub.lock_for(space) else { return };
        stub.retire();
        stub.empty(&mut state);
        drop(state);
        let mut stock = lock(&self.stock);
        // Another space may have taken it in this instant.
        let Some(mut state) = stub.lock_for(space) else { return };
        state.hand_to(NOBODY, 0);
        drop(state);
        H::note_handed_on();
        stock.free.push(stub);
    }

    /// Forgets a stub whose process is gone.
    pub fn bury(&self, stub: &Arc<H::Stub>) {
        let mut stock = lock(&self.stock);
        // Several CPUs may find out; the number of a process that has been waited for may mean another, and is not killed twice.
        let Some(index) = stock.all.iter().position(|other| Arc::ptr_eq(other, stub)) else { return };
        stock.all.swap_remove(index);
        stock.end(stub);
        // With one process less the host may well make another.
        stock.is_final = false;
        self.changed.notify_all();
    }

    /// Takes all stubs out, for the end of the machine. They are nobody's then.
    pub fn take_all(&self) -> Vec<Arc<H::Stub>> {
        let stubs = std::mem::take(&mut lock(&self.stock).all);
        for stub in &stubs {
            stub.retire();
            lock(stub.state()).abandon();
        }
        stubs
    }

    /// The free stubs, for a test, once none is being made.
    #[cfg(any(test, feature = "test-hooks"))]
    pub fn stock(&self) -> Option<Vec<Arc<H::Stub>>> {
        let stock = lock(&self.stock);
        (stock.free.len() >= self.wanted()).then(|| stock.free.clone())
    }

    /// Ends the free stubs and makes no more, as on a host that has no process left, once none is being made.
    #[cfg(any(test, feature = "test-hooks"))]
    pub fn use_up(&self) -> bool {
        let mut stock = lock(&self.stock);
        stock.is_final = stock.free.len() >= self.wanted();
        while stock.is_final && stock.discard() {}
        stock.is_final
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Gone, State};
    use boundary::OutOfMemory;
    use pages::Owned;
    use std::sync::atomic::AtomicUsize;

    const MOST: usize = 5;

    #[derive(Clone)]
    struct NoFrame;

    impl Owned for NoFrame {
        fn number(&self) -> usize {
            0
        }

        fn references(&self) -> u32 {
            1
        }

        fn copied(&self) -> Option<NoFrame> {
            None
        }

        fn set_tag(&self, _: u64) {}
    }

    struct Model;

    impl Host for Model {
        type Frame = NoFrame;
        type Stub = Process;
        const END: usize = 0;
        const AROUND: usize = 1;
        const MOST_AT_ONCE: usize = 1;
        const MOST_STUBS: usize = MOST;

        fn apart<R>(body: impl FnOnce() -> R) -> R {
            body()
        }

        fn offset(_: usize) -> Option<usize> {
            None
        }

        fn most_mappings() -> usize {
            10
        }

        fn charge(_: usize) -> Result<(), OutOfMemory> {
            Ok(())
        }

        fn uncharge(_: usize) {}
    }

    struct Process {
        number: usize,
        state: Mutex<State<Model>>,
        retired: AtomicUsize,
        is_over: AtomicBool,
    }

    impl Stub<Model> for Process {
        fn state(&self) -> &Mutex<State<Model>> {
            &self.state
        }

        fn number(&self) -> usize {
            self.number
        }

        fn make(&self, _: &[Change]) -> Result<bool, Gone> {
            Ok(true)
        }

        fn stop(&self) {}

        fn has_guests(&self) -> bool {
            false
        }

        fn retire(&self) {
            self.retired.fetch_add(1, Ordering::SeqCst);
        }

        fn end(&self) {
            assert!(!self.is_over.swap(true, Ordering::SeqCst), "it is ended once");
        }
    }

    /// A pool that a thread serves, on a host that makes no more than `processes` at a time.
    struct Served {
        pool: Pool<Model>,
        alive: Mutex<Vec<Arc<Process>>>,
        processes: usize,
        is_off: AtomicBool,
        refused: AtomicUsize,
    }

    impl Served {
        fn new(processes: usize) -> Served {
            let (alive, is_off, refused) = (Mutex::default(), AtomicBool::new(false), AtomicUsize::new(0));
            Served { pool: Pool::new(false), alive, processes, is_off, refused }
        }

        fn make(&self, number: usize) -> io::Result<Arc<Process>> {
            let mut alive = lock(&self.alive);
            alive.retain(|stub| !stub.is_over.load(Ordering::SeqCst));
            assert!((1..=MOST).contains(&number) && alive.iter().all(|stub| stub.number != number));
            if alive.len() == self.processes {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let (retired, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
            let stub = Arc::new(Process { number, state: Mutex::new(State::new()), retired, is_over });
            alive.push(stub.clone());
            Ok(stub)
        }

        fn during(&self, body: impl FnOnce()) {
            let refuse = |_| {
                self.refused.fetch_add(1, Ordering::SeqCst);
            };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    self.pool.serve(|| self.is_off.load(Ordering::SeqCst), |number| self.make(number), &refuse)
                });
                body();
                self.is_off.store(true, Ordering::SeqCst);
                self.pool.wake();
            });
        }

        /// A stub for a space that waits for one, if it can be had without one of the others coming back.
        fn take(&self, space: u64) -> Result<Arc<Process>, Shortage> {
            loop {
                match self.pool.take(space) {
                    Err(Shortage::Making) => assert!(self.pool.wait(Shortage::Making, 1, || ())),
                    taken => return taken,
                }
            }
        }
    }

    #[test]
    fn spaces_take_turns_when_there_are_no_more_stubs() {
        for processes in [1, 3, MOST + 3] {
            let (served, most) = (Served::new(processes), processes.min(MOST));
            served.during(|| {
                let stubs: Vec<_> = (1..=most as u64).map(|space| served.take(space).unwrap()).collect();
                stubs.iter().for_each(|stub| lock(stub.state()).begin());
                assert_eq!(served.take(100).err(), Some(Shortage::AllRun));
                // The one that was used longest ago, of those that do not run.
                stubs.iter().for_each(|stub| lock(stub.state()).end());
                let next = served.take(100).unwrap();
                assert!(Arc::ptr_eq(&next, &stubs[0]) && next.retired.load(Ordering::SeqCst) == 1);
                assert!(next.lock_for(1).is_none() && next.lock_for(100).is_some());
                // A space that lost its stub has nothing to give back.
                served.pool.give_back(next.clone(), 1);
                assert!(next.lock_for(100).is_some());
                served.pool.give_back(next.clone(), 100);
                assert!(Arc::ptr_eq(&served.take(101).unwrap(), &next), "it is free again");
                // One that is gone makes room for another, under its number.
                served.pool.bury(&next);
                served.pool.bury(&next);
                let other = served.take(102).unwrap();
                assert!(!Arc::ptr_eq(&other, &next) && next.lock_for(101).is_none());
            });
            assert_eq!(served.refused.load(Ordering::SeqCst), 0);
            let left = served.pool.take_all();
            assert!(left.len() == most && left.iter().all(|stub| lock(stub.state()).is_of(NOBODY)));
        }
    }

    #[test]
    fn a_host_without_processes_is_told_of_once() {
        let served = Served::new(0);
        served.during(|| {
            assert_eq!(served.take(1).err(), Some(Shortage::Final));
            assert_eq!(served.pool.make_room(ended()).err(), Some(Shortage::Final));
            assert!(!served.pool.wait(Shortage::Final, 1, || unreachable!("nobody runs")));
        });
        assert_eq!(served.refused.load(Ordering::SeqCst), 1);
    }
}
