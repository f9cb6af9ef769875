//! First come, first served: nobody is interrupted. For experiments, and to show how little a policy is.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use machine::memory::OutOfMemory;

use super::{Arrival, Policy};
use crate::Task;

/// First come, first served, until it sleeps or gives way.
#[derive(Default)]
pub struct Fifo {
    queue: VecDeque<Arc<Task>>,
}

impl Policy for Fifo {
    fn reserve(&mut self, tasks: usize) -> Result<(), OutOfMemory> {
        let more = tasks.saturating_sub(self.queue.len());
        self.queue.try_reserve(more).map_err(|_| OutOfMemory)
    }

    fn enqueue(&mut self, task: Arc<Task>, _arrival: Arrival) -> bool {
        task.share.set_queued(true);
        self.queue.push_back(task);
        false
    }

    fn pick(&mut self) -> Option<Arc<Task>> {
        self.queue.pop_front()
    }

    fn charge(&mut self, _current: &Task, _nanoseconds: u64) {}

    fn put_back(&mut self, current: Arc<Task>, _gave_way: bool) {
        self.queue.push_back(current);
    }

    fn leave(&mut self, current: &Task) {
        current.share.set_queued(false);
    }

    fn steal(&mut self, cpu: usize) -> Option<Arc<Task>> {
        let place = self.queue.iter().position(|task| task.affinity() >> cpu & 1 == 1)?;
        let task = self.queue.remove(place)?;
        task.share.set_queued(false);
        Some(task)
    }

    fn slice(&self) -> Option<u64> {
        None
    }

    fn reweigh(&mut self, task: &Task, weight: u32) {
        task.share.set_weight(weight);
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::{Behaviour, Simulation};
    use super::*;

    #[test]
    fn the_first_runs_until_it_rests() {
        let mut simulation = Simulation::new(Fifo::default());
        let first = simulation.add(0, Behaviour::Sleeps { work: 5_000_000, rest: 10_000_000 });
        let second = simulation.add(0, Behaviour::Sleeps { work: 1_000_000, rest: 10_000_000 });
        simulation.run(5_000_000);
        assert_eq!((simulation.time_of(first), simulation.time_of(second)), (5_000_000, 0));
        simulation.run(1_000_000);
        assert_eq!(simulation.time_of(second), 1_000_000);
    }

    #[test]
    fn a_thief_takes_only_what_may_run_there() {
        let simulation = Simulation::new(Fifo::default());
        let mut queue = Fifo::default();
        let tasks: Vec<_> = [0b01, 0b10].map(|affinity| simulation.task(0, affinity)).into();
        for task in &tasks {
            assert!(!queue.enqueue(task.clone(), Arrival::New));
        }
        let stolen = queue.steal(1).unwrap();
        assert!(Arc::ptr_eq(&stolen, &tasks[1]));
        assert!(queue.steal(1).is_none());
        assert_eq!(queue.waiting(), 1);
    }
}
