//! Stops of a whole process, in every order of their steps.

use super::*;

/// A process of two or three threads in a model: what the locks make atomic is one step, and every order of the steps is tried.
#[derive(Clone)]
struct World {
    stop: GroupStop,
    threads: Vec<Member>,
    /// The stops and continuations that are still to come.
    script: Vec<Order>,
    /// The stops that were told of, by their numbers.
    told: Vec<u64>,
}

#[derive(Clone, Copy, Default)]
struct Member {
    joined: u64,
    /// Its attention bit: it was told to look.
    told: bool,
    parked: bool,
    ended: bool,
    /// It may end, or clone a thread, in this scenario.
    ends: bool,
    clones: bool,
}

#[derive(Clone, Copy)]
enum Order {
    Stop,
    Continue,
}

impl World {
    fn new(threads: &[Member], script: &[Order]) -> World {
        let script = script.iter().rev().copied().collect();
        World { stop: GroupStop::default(), threads: threads.to_vec(), script, told: Vec::new() }
    }

    /// What `Process::stop_all` and `Process::continue_all` do under the lock.
    fn order(&mut self, order: Order) {
        match order {
            Order::Stop if !self.stop.is_stopped() => {
                self.stop.begin(Signal::STOP);
                for member in self.threads.iter_mut().filter(|member| !member.ended) {
                    self.stop.count_in(&mut member.joined);
                    member.told = true;
                }
            }
            Order::Stop => {}
            Order::Continue => {
                self.stop.end();
            }
        }
    }

    /// One poll of a thread's future in `park_stopped`.
    fn park(&mut self, index: usize) {
        let member = &mut self.threads[index];
        member.parked = self.stop.is_stopped();
        member.told = member.parked;
        if member.parked && self.stop.count_out(&mut member.joined) {
            self.told.push(self.stop.number);
        }
    }

    fn end(&mut self, index: usize) {
        let member = &mut self.threads[index];
        (member.ended, member.parked) = (true, false);
        if self.stop.count_out(&mut member.joined) {
            self.told.push(self.stop.number);
        }
    }

    /// What `GroupStop::join` does.
    fn clone_thread(&mut self, index: usize) {
        self.threads[index].clones = false;
        let mut new = Member::default();
        if self.stop.is_stopped() {
            if self.stop.running == 0 {
                new.joined = self.stop.number;
            }
            self.stop.count_in(&mut new.joined);
            new.told = true;
        }
        self.threads.push(new);
    }

    /// Whether polling a thread would change anything.
    fn is_restless(&self, index: usize) -> bool {
        let member = &self.threads[index];
        let counted = !self.stop.is_stopped() || member.joined == self.stop.number;
        !member.ended && member.told && (!self.stop.is_stopped() || !member.parked || !counted)
    }

    /// Tries every order of what may happen next; calls `at_rest` where nothing more can. Returns how many ends there were.
    fn explore(&self, at_rest: &impl Fn(&World)) -> usize {
        let mut ends = 0;
        let mut branch = |act: &dyn Fn(&mut World)| {
            let mut next = self.clone();
            act(&mut next);
            ends += next.explore(at_rest);
        };
        if !self.script.is_empty() {
            branch(&|world| {
                let order = world.script.pop().unwrap();
                world.order(order);
            });
        }
        for (index, member) in self.threads.iter().enumerate() {
            if self.is_restless(index) {
                branch(&|world| world.park(index));
            }
            // A parked thread neither ends nor clones.
            if !member.ended && !member.parked && member.ends {
                branch(&|world| world.end(index));
            }
            if !member.ended && !member.parked && member.clones {
                branch(&|world| world.clone_thread(index));
            }
        }
        if ends == 0 {
            at_rest(self);
            return 1;
        }
        ends
    }
}

const PLAIN: Member = Member { joined: 0, told: false, parked: false, ended: false, ends: false, clones: false };

fn every_stop_is_told(threads: &[Member], script: &[Order]) -> usize {
    World::new(threads, script).explore(&|world| {
        assert!(world.told.is_sorted_by(|one, next| one < next), "a stop is told once");
        let living = || world.threads.iter().filter(|member| !member.ended);
        if world.stop.is_stopped() && living().count() > 0 {
            assert_eq!(world.told.last(), Some(&world.stop.number), "the last stop was never told");
            assert_eq!(world.stop.running, 0);
            assert!(living().all(|member| member.parked), "a thread runs on");
        } else {
            assert!(living().all(|member| !member.parked), "a thread stays parked");
        }
    })
}

#[test]
fn a_stop_after_a_continuation_counts_who_never_ran() {
    let script = [Order::Stop, Order::Continue, Order::Stop];
    assert!(every_stop_is_told(&[PLAIN; 2], &script) >= 30);
    assert!(every_stop_is_told(&[PLAIN; 3], &script) >= 798);
    every_stop_is_told(&[PLAIN; 2], &[Order::Stop, Order::Continue, Order::Stop, Order::Continue]);
}

#[test]
fn threads_end_and_come_in_the_middle_of_a_stop() {
    let script = [Order::Stop, Order::Continue, Order::Stop];
    let ends = Member { ends: true, ..PLAIN };
    let clones = Member { clones: true, ..PLAIN };
    assert!(every_stop_is_told(&[PLAIN, ends], &script) >= 71);
    assert!(every_stop_is_told(&[PLAIN, clones], &script) >= 2048);
    assert!(every_stop_is_told(&[ends, clones], &script[..1]) >= 39);
}
