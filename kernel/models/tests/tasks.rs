//! No wake-up of a task is lost, on CPUs that run and CPUs that halt: every order of two and three threads.
//!
//! The queue, the kick and the loop of the CPU are the model's, and as small as can be; the state of the task and the announcement of
//! who halts are the real ones, used as `Executor::enqueue`, `halt` and `settle` use them.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use models::every_order;
use models::halted::Halted;
use models::state::{State, Woken};

/// The state of a task that has begun and waits.
fn idle() -> State {
    let state = State::new();
    state.enqueue();
    state.begin();
    assert!(state.end());
    state
}

/// One CPU with one task, which waits until `wanted` things have come about.
struct Machine {
    task: State,
    /// How often the task stands in the queue.
    queue: Mutex<usize>,
    /// The length of the queue, for those who look without the lock.
    waiting: AtomicUsize,
    halted: Halted,
    /// An interrupt that is pending.
    kick: Mutex<bool>,
    kicked: Condvar,
    things: AtomicUsize,
}

impl Machine {
    fn new() -> Arc<Machine> {
        let machine = Machine {
            task: idle(),
            queue: Mutex::new(0),
            waiting: AtomicUsize::new(0),
            halted: Halted::new(),
            kick: Mutex::new(false),
            kicked: Condvar::new(),
            things: AtomicUsize::new(0),
        };
        assert_eq!((machine.task.get(), machine.halted.cpus().word(0)), (0, 0));
        Arc::new(machine)
    }

    fn queue(&self, more: bool) -> bool {
        let mut queue = self.queue.lock().unwrap();
        let found = *queue > 0;
        *queue = if more { *queue + 1 } else { queue.saturating_sub(1) };
        assert!(*queue <= 1, "a task stands in the queue once");
        self.waiting.store(*queue, Ordering::Relaxed);
        found
    }

    /// What an event does, from another CPU.
    fn happen(&self) {
        self.things.fetch_add(1, Ordering::Relaxed);
        if self.task.wake() == Woken::MustQueue {
            self.queue(true);
            if self.halted.claim(0) {
                *self.kick.lock().unwrap() = true;
                self.kicked.notify_one();
            }
        }
    }

    /// The main loop of the CPU, until the task is over.
    fn run(&self, wanted: usize) {
        loop {
            if self.queue(false) {
                self.task.begin();
                if self.things.load(Ordering::Relaxed) == wanted {
                    return self.task.finish();
                }
                if !self.task.end() {
                    self.queue(true);
                }
            } else {
                self.halted.announce(0);
                if self.waiting.load(Ordering::Relaxed) == 0 {
                    let mut kick = self.kick.lock().unwrap();
                    while !*kick {
                        kick = self.kicked.wait(kick).unwrap();
                    }
                    *kick = false;
                }
                self.halted.withdraw(0);
            }
        }
    }
}

#[test]
fn a_halting_cpu_and_a_waker() {
    every_order(None, || {
        let machine = Machine::new();
        let other = machine.clone();
        let waker = thread::spawn(move || other.happen());
        machine.run(1);
        waker.join().unwrap();
    });
}

#[test]
fn two_wakers() {
    every_order(Some(2), || {
        let machine = Machine::new();
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let other = machine.clone();
                thread::spawn(move || other.happen())
            })
            .collect();
        machine.run(2);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

/// Whoever wakes a task that has no future yet leaves it to the start to queue it.
#[test]
fn a_task_that_is_woken_before_it_starts_is_queued_once() {
    every_order(None, || {
        let task = Arc::new(State::new());
        assert_ne!(task.get(), 0);
        let other = task.clone();
        let waker = thread::spawn(move || usize::from(other.wake() == Woken::MustQueue));
        task.enqueue();
        task.begin();
        let again = usize::from(!task.end());
        let woken = waker.join().unwrap();
        assert!(again + woken <= 1);
        assert_eq!(task.get() != 0, again + woken == 1, "what is woken stands in the queue");
    });
}

/// Of several wakers one puts the task in a queue, and after it is over none does.
#[test]
fn one_of_several_wakers_queues_the_task() {
    every_order(None, || {
        let task = Arc::new(idle());
        assert_eq!(task.get(), 0);
        let other = task.clone();
        let waker = thread::spawn(move || usize::from(other.wake() == Woken::MustQueue));
        let here = usize::from(task.wake() == Woken::MustQueue);
        assert_eq!(here + waker.join().unwrap(), 1);
        task.begin();
        task.finish();
        assert_eq!(task.wake(), Woken::Already);
    });
}
