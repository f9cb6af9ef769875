//! First come, first served: nobody is interrupted. For experiments, and to show how little a policy is.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use machine::memory::{OutOfMemory, fallible};

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
        fallible(|| self.queue.try_reserve(more)).map_err(|_| OutOfMemory)
    }

    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn enqueue(&mut self, task: Arc<Task>, _arrival: Arrival) -> bool {
        task.share.set_queued(true);
        self.queue.push_back(task);
        false
    }

    fn pick(&mut self) -> Option<Arc<Task>> {
        self.queue.pop_front()
    }

    fn charge(&mut self, _current: &Task, _nanoseconds: u64) {}

    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn put_back(&mut self, current: Arc<Task>, _gave_way: bool) {
        self.queue.push_back(current);
    }

    fn leave(&mut self, current: &Task) {
        current.share.set_queued(false);
    }

    fn take(&mut self, wanted: &dyn Fn(&Task) -> bool) -> Option<Arc<Task>> {
        let place = self.queue.iter().position(|task| wanted(task))?;
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
    use abi::cpus::CpuSet;

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
        let tasks: Vec<_> = [0b01, 0b10].map(|affinity| simulation.task(0, CpuSet::from(affinity))).into();
        for task in &tasks {
            assert!(!queue.enqueue(task.clone(), Arrival::New));
        }
        let allowed = |task: &Task| task.affinity().contains(1);
        let stolen = queue.take(&allowed).unwrap();
        assert!(Arc::ptr_eq(&stolen, &tasks[1]));
        assert!(queue.take(&allowed).is_none());
        assert_eq!(queue.waiting(), 1);
    }

    #[test]
    fn who_is_put_back_comes_last_and_is_still_there() {
        let simulation = Simulation::new(Fifo::default());
        let mut queue = Fifo::default();
        queue.reserve(10).unwrap();
        assert!(queue.queue.capacity() >= 10);
        let tasks = [(); 2].map(|()| simulation.task(0, CpuSet::ALL));
        for task in &tasks {
            assert!(!queue.enqueue(task.clone(), Arrival::Woken));
        }
        queue.reserve(10).unwrap();
        assert!(queue.queue.capacity() >= 10);
        let first = queue.pick().unwrap();
        assert!(first.share.is_queued());
        queue.put_back(first, true);
        assert_eq!((queue.waiting(), queue.slice()), (2, None));
        assert!(Arc::ptr_eq(&queue.pick().unwrap(), &tasks[1]) && Arc::ptr_eq(&queue.pick().unwrap(), &tasks[0]));
        queue.reweigh(&tasks[0], 77);
        assert_eq!(tasks[0].share.weight(), 77);
        queue.leave(&tasks[0]);
        assert!(!tasks[0].share.is_queued());
    }
}
