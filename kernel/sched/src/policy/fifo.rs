//! First come, first served: nobody is interrupted. For experiments, and to show how little a policy is.

use alloc::sync::Arc;

use super::queue::TaskQueue;
use super::{Arrival, Demand, Policy};
use crate::Task;

/// First come, first served, until it sleeps or gives way.
#[derive(Default)]
pub struct Fifo {
    queue: TaskQueue,
    tickets: u64,
    /// Weights of all, the current task included.
    load: u64,
}

impl Fifo {
    fn push(&mut self, task: Arc<Task>) {
        self.tickets += 1;
        self.queue.insert((self.tickets, 0), task);
    }

    fn remove(&mut self, task: &Task) {
        self.load -= u64::from(task.share.weight());
        task.share.set_queued(false);
    }
}

impl Policy for Fifo {
    fn enqueue(&mut self, task: Arc<Task>, _arrival: Arrival) -> bool {
        self.load += u64::from(task.share.weight());
        task.share.set_queued(true);
        self.push(task);
        false
    }

    fn pick(&mut self) -> Option<Arc<Task>> {
        self.queue.pop_first().map(|(_, task)| task)
    }

    fn charge(&mut self, _current: &Task, _nanoseconds: u64) {}

    fn put_back(&mut self, current: Arc<Task>, _gave_way: bool) {
        self.push(current);
    }

    fn leave(&mut self, current: &Task) {
        self.remove(current);
    }

    fn take(&mut self, most: usize, wanted: &dyn Fn(&Task) -> bool) -> Option<Arc<Task>> {
        let task = self.queue.take(most, wanted)?;
        self.remove(&task);
        Some(task)
    }

    fn slice(&self) -> Option<u64> {
        None
    }

    fn reweigh(&mut self, task: &Task, weight: u32) {
        self.load = self.load + u64::from(weight) - u64::from(task.share.weight());
        task.share.set_weight(weight);
    }

    fn demand(&self) -> Demand {
        Demand { waiting: self.queue.len(), load: self.load }
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
        let stolen = queue.take(usize::MAX, &allowed).unwrap();
        assert!(Arc::ptr_eq(&stolen, &tasks[1]));
        assert!(queue.take(usize::MAX, &allowed).is_none());
        assert_eq!(queue.waiting(), 1);
    }

    #[test]
    fn who_is_put_back_comes_last_and_is_still_there() {
        let simulation = Simulation::new(Fifo::default());
        let mut queue = Fifo::default();
        let tasks = [(); 2].map(|()| simulation.task(0, CpuSet::ALL));
        for task in &tasks {
            assert!(!queue.enqueue(task.clone(), Arrival::Woken));
        }
        let first = queue.pick().unwrap();
        assert!(first.share.is_queued());
        queue.put_back(first, true);
        assert_eq!((queue.waiting(), queue.slice()), (2, None));
        assert!(Arc::ptr_eq(&queue.pick().unwrap(), &tasks[1]) && Arc::ptr_eq(&queue.pick().unwrap(), &tasks[0]));
        let one = u64::from(tasks[1].share.weight());
        assert_eq!(queue.demand().load, 2 * one);
        queue.reweigh(&tasks[0], 77);
        assert_eq!((tasks[0].share.weight(), queue.demand().load), (77, one + 77));
        queue.leave(&tasks[0]);
        assert_eq!(queue.demand().load, one);
        assert!(!tasks[0].share.is_queued());
    }
}
