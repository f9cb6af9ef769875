//! A CPU under simulated time, to test policies with: no clock, no interrupts, the same run every time.

use std::sync::Arc;

use abi::cpus::CpuSet;

use super::{Arrival, Policy};
use crate::{Executor, Parameters, Task};

/// What a simulated task does.
#[derive(Clone, Copy)]
pub enum Behaviour {
    /// Computes for ever.
    Busy,
    /// Computes for `work`, sleeps for `rest`, again.
    Sleeps { work: u64, rest: u64 },
    /// Computes for `work`, then lets others go first.
    GivesWay { work: u64 },
}

struct Actor {
    task: Arc<Task>,
    behaviour: Behaviour,
    time: u64,
    left: u64,
    ready_since: u64,
    longest_wait: u64,
}

/// One CPU, its policy and its tasks.
pub struct Simulation<P> {
    policy: P,
    executor: Arc<Executor>,
    actors: Vec<Actor>,
    /// (time, actor) of those who sleep.
    sleeping: Vec<(u64, usize)>,
    now: u64,
    current: Option<usize>,
    picked_at: u64,
}

impl<P: Policy> Simulation<P> {
    pub fn new(policy: P) -> Self {
        let executor = Executor::new(1);
        Simulation { policy, executor, actors: Vec::new(), sleeping: Vec::new(), now: 0, current: None, picked_at: 0 }
    }

    pub fn task(&self, nice: i8, affinity: CpuSet) -> Arc<Task> {
        let identity = self.actors.len() as u32;
        self.executor.task(&Parameters { nice, affinity, identity, ..Parameters::default() })
    }

    pub fn add(&mut self, nice: i8, behaviour: Behaviour) -> usize {
        let task = self.task(nice, CpuSet::ALL);
        let left = match behaviour {
            Behaviour::Busy => u64::MAX,
            Behaviour::Sleeps { work, .. } | Behaviour::GivesWay { work } => work,
        };
        self.actors.push(Actor {
            task: task.clone(),
            behaviour,
            time: 0,
            left,
            ready_since: self.now,
            longest_wait: 0,
        });
        self.policy.enqueue(task, Arrival::New);
        self.actors.len() - 1
    }

    pub fn renice(&mut self, actor: usize, nice: i8) {
        self.policy.reweigh(&self.actors[actor].task, super::weight_of(nice));
    }

    pub fn time_of(&self, actor: usize) -> u64 {
        self.actors[actor].time
    }

    pub fn longest_wait_of(&self, actor: usize) -> u64 {
        self.actors[actor].longest_wait
    }

    pub fn longest_wait(&self) -> u64 {
        self.actors.iter().map(|actor| actor.longest_wait).max().unwrap_or(0)
    }

    pub fn run(&mut self, length: u64) {
        self.run_watching(length, |_, _| {});
    }

    /// Runs, showing each task to `watch` whenever it stops running.
    pub fn run_watching(&mut self, length: u64, mut watch: impl FnMut(&mut P, &Task)) {
        let end = self.now + length;
        while self.now < end {
            self.wake_sleepers();
            if self.current.is_none() && !self.pick() {
                self.now = self.sleeping.iter().map(|&(time, _)| time).min().unwrap_or(end).min(end);
                continue;
            }
            let index = self.current.unwrap();
            let slice_end = self.policy.slice().map_or(u64::MAX, |slice| self.picked_at + slice);
            let next_wake = self.sleeping.iter().map(|&(time, _)| time).min().unwrap_or(u64::MAX);
            let actor = &mut self.actors[index];
            let step = actor.left.min(end - self.now).min(next_wake - self.now).min(slice_end.saturating_sub(self.now));
            self.now += step;
            actor.time += step;
            actor.left = if actor.left == u64::MAX { u64::MAX } else { actor.left - step };
            self.policy.charge(&actor.task, step);
            let task = actor.task.clone();
            watch(&mut self.policy, &task);
            if self.actors[index].left == 0 {
                self.finish_work(index);
            } else if self.now >= slice_end {
                self.stop(index, false);
            }
        }
    }

    fn finish_work(&mut self, index: usize) {
        match self.actors[index].behaviour {
            Behaviour::Busy => {}
            Behaviour::Sleeps { work, rest } => {
                self.actors[index].left = work;
                self.policy.leave(&self.actors[index].task);
                self.sleeping.push((self.now + rest, index));
                self.current = None;
            }
            Behaviour::GivesWay { work } => {
                self.actors[index].left = work;
                self.stop(index, true);
            }
        }
    }

    fn stop(&mut self, index: usize, gave_way: bool) {
        self.actors[index].ready_since = self.now;
        self.policy.put_back(self.actors[index].task.clone(), gave_way);
        self.current = None;
    }

    fn pick(&mut self) -> bool {
        let Some(task) = self.policy.pick() else { return false };
        let index = task.identity() as usize;
        let actor = &mut self.actors[index];
        actor.longest_wait = actor.longest_wait.max(self.now - actor.ready_since);
        self.current = Some(index);
        self.picked_at = self.now;
        true
    }

    fn wake_sleepers(&mut self) {
        let now = self.now;
        let due: Vec<usize> =
            self.sleeping.extract_if(.., |sleeper| sleeper.0 <= now).map(|sleeper| sleeper.1).collect();
        for index in due {
            let task = self.actors[index].task.clone();
            self.actors[index].ready_since = now;
            let preempts = self.policy.enqueue(task, Arrival::Woken);
            if let Some(current) = self.current.filter(|_| preempts) {
                self.stop(current, false);
            }
        }
    }
}
