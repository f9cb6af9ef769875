//! The fair policy: earliest virtual deadline first.
//!
//! Every task has a *virtual time* that passes, while it runs, at a speed inverse to its weight. `V`, the average virtual
//! time of the queue weighted by weight, is where a task would be that got exactly its share; `V - virtual time` is its
//! *lag*: positive when it is owed. A task asks for a slice of [`SLICE`]; its *deadline* is when, in virtual time, it
//! would have got that slice under ideal sharing. The earliest deadline runs. (See Stoica and Abdel-Wahab, "Earliest
//! Eligible Virtual Deadline First"; all tasks ask for equal slices here, and then the test of eligibility changes
//! nothing about the bound: no task is ever more than about one slice ahead or behind.)
//!
//! A task that sleeps takes its lag with it and is placed at `V - lag` when it wakes: sleeping earns nothing and costs
//! nothing. The queue is a balanced tree, and `V` is kept up to date by sums.

use alloc::sync::Arc;

use super::queue::TaskQueue;
use super::weight::NICE_0;
use super::{Arrival, Demand, Policy};
use crate::Task;

/// Nanoseconds a task runs before another one has its turn.
pub const SLICE: u64 = 3_000_000;

/// Where virtual time starts, so that a task owed much can be placed before the start.
const ORIGIN: u64 = 1 << 48;

/// Earliest virtual deadline first.
pub struct Fair {
    /// By deadline; equal deadlines go by arrival.
    queue: TaskQueue,
    tickets: u64,
    /// Weights of all, the current task included.
    load: i64,
    /// A virtual time near `V`; what follows is relative to it, so that it stays small.
    base: u64,
    /// Sum of weight * (virtual time - base).
    moment: i64,
    /// The current task's deadline.
    current: Option<u64>,
}

impl Default for Fair {
    fn default() -> Self {
        Fair { queue: TaskQueue::default(), tickets: 0, load: 0, base: ORIGIN, moment: 0, current: None }
    }
}

/// Real nanoseconds as virtual ones.
fn scale(nanoseconds: u64, weight: u32) -> u64 {
    if weight == NICE_0 {
        return nanoseconds;
    }
    nanoseconds.saturating_mul(u64::from(NICE_0)) / u64::from(weight.max(1))
}

impl Fair {
    /// `V`. Moves the base there.
    fn average(&mut self) -> u64 {
        if self.load > 0 {
            let step = self.moment / self.load;
            self.base = self.base.wrapping_add_signed(step);
            self.moment -= step * self.load;
        }
        self.base
    }

    fn key(&self, task: &Task) -> i64 {
        task.share.virtual_time().wrapping_sub(self.base) as i64
    }

    /// Counts a task in.
    fn add(&mut self, task: &Task) {
        let weight = i64::from(task.share.weight());
        self.load += weight;
        self.moment = self.moment.saturating_add(weight.saturating_mul(self.key(task)));
        task.share.set_queued(true);
    }

    /// Counts a task out and lets it take its lag along.
    fn remove(&mut self, task: &Task) {
        let weight = task.share.weight();
        let limit = scale(SLICE, weight) as i64;
        let lag = self.average().wrapping_sub(task.share.virtual_time()) as i64;
        task.share.set_lag(lag.clamp(-limit, limit));
        self.moment = self.moment.saturating_sub(i64::from(weight).saturating_mul(self.key(task)));
        self.load -= i64::from(weight);
        task.share.set_queued(false);
    }

    fn push(&mut self, task: Arc<Task>) {
        self.tickets += 1;
        self.queue.insert((task.share.deadline(), self.tickets), task);
    }
}

impl Policy for Fair {
    fn enqueue(&mut self, task: Arc<Task>, arrival: Arrival) -> bool {
        let share = &task.share;
        let slice = scale(SLICE, share.weight());
        let start = self.average().wrapping_add_signed(share.lag().wrapping_neg());
        share.set_virtual_time(start);
        // A new task competes with tasks that are on average halfway through their slices.
        let deadline = start + if arrival == Arrival::New { slice / 2 } else { slice };
        share.set_deadline(deadline);
        self.add(&task);
        self.push(task);
        self.current.is_some_and(|current| deadline < current)
    }

    fn pick(&mut self) -> Option<Arc<Task>> {
        let ((deadline, _), next) = self.queue.pop_first()?;
        self.current = Some(deadline);
        Some(next)
    }

    fn charge(&mut self, current: &Task, nanoseconds: u64) {
        let passed = scale(nanoseconds, current.share.weight());
        current.share.set_virtual_time(current.share.virtual_time().wrapping_add(passed));
        self.moment = self.moment.saturating_add((passed as i64).saturating_mul(i64::from(current.share.weight())));
    }

    fn put_back(&mut self, current: Arc<Task>, gave_way: bool) {
        let share = &current.share;
        if gave_way || share.virtual_time() >= share.deadline() {
            // The slice is used up: ask for the next one, from where this one was to end if given up early.
            let from = if gave_way { share.deadline().max(share.virtual_time()) } else { share.virtual_time() };
            share.set_deadline(from + scale(SLICE, share.weight()));
        }
        self.current = None;
        self.push(current);
    }

    fn leave(&mut self, current: &Task) {
        self.current = None;
        self.remove(current);
    }

    fn take(&mut self, most: usize, wanted: &dyn Fn(&Task) -> bool) -> Option<Arc<Task>> {
        let found = self.queue.take(most, wanted)?;
        self.remove(&found);
        Some(found)
    }

    fn slice(&self) -> Option<u64> {
        Some(SLICE)
    }

    fn reweigh(&mut self, task: &Task, weight: u32) {
        let change = i64::from(weight) - i64::from(task.share.weight());
        self.load += change;
        self.moment = self.moment.saturating_add(change.saturating_mul(self.key(task)));
        task.share.set_weight(weight);
    }

    fn demand(&self) -> Demand {
        Demand { waiting: self.queue.len(), load: self.load as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::{Behaviour, Simulation};
    use super::*;
    use abi::cpus::CpuSet;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn equal_tasks_get_equal_time() {
        let mut simulation = Simulation::new(Fair::default());
        let tasks: Vec<_> = (0..7).map(|_| simulation.add(0, Behaviour::Busy)).collect();
        simulation.run(7 * SECOND);
        for task in tasks {
            let time = simulation.time_of(task);
            assert!(time.abs_diff(SECOND) <= 2 * SLICE, "{time}");
        }
    }

    #[test]
    fn weights_divide_the_time() {
        let mut simulation = Simulation::new(Fair::default());
        let nices = [-10, -5, 0, 5, 19];
        let tasks: Vec<_> = nices.iter().map(|&nice| simulation.add(nice, Behaviour::Busy)).collect();
        simulation.run(100 * SECOND);
        let all: u64 = nices.iter().map(|&nice| u64::from(weight(nice))).sum();
        for (&task, &nice) in tasks.iter().zip(&nices) {
            let ideal = 100.0 * SECOND as f64 * f64::from(weight(nice)) / all as f64;
            let time = simulation.time_of(task) as f64;
            assert!((time - ideal).abs() <= (ideal * 0.01).max(2.0 * SLICE as f64), "nice {nice}: {time} of {ideal}");
        }
    }

    #[test]
    fn nobody_waits_longer_than_a_round() {
        let mut simulation = Simulation::new(Fair::default());
        for _ in 0..20 {
            simulation.add(0, Behaviour::Busy);
        }
        simulation.run(10 * SECOND);
        assert!(simulation.longest_wait() <= 21 * SLICE, "{}", simulation.longest_wait());
    }

    #[test]
    fn a_sleeper_neither_hoards_nor_starves() {
        let mut simulation = Simulation::new(Fair::default());
        let busy = simulation.add(0, Behaviour::Busy);
        let sleeper = simulation.add(0, Behaviour::Sleeps { work: SLICE / 10, rest: SLICE });
        simulation.run(10 * SECOND);
        assert!(simulation.time_of(busy) > 8 * SECOND);
        // Wants 1 of 11; it is never made to wait for more than one slice of the other.
        assert!(simulation.time_of(sleeper) > SECOND / 25, "{}", simulation.time_of(sleeper));
        assert!(simulation.longest_wait_of(sleeper) <= 2 * SLICE);
    }

    #[test]
    fn lag_stays_within_two_slices_whatever_comes_and_goes() {
        let mut simulation = Simulation::new(Fair::default());
        for index in 0..12u64 {
            let nice = [0, 0, -3, 4][index as usize % 4];
            let behaviour = match index % 3 {
                0 => Behaviour::Busy,
                1 => Behaviour::Sleeps { work: SLICE * (index + 1) / 3, rest: SLICE * 2 },
                _ => Behaviour::Sleeps { work: SLICE / (index + 1), rest: SLICE / 2 },
            };
            simulation.add(nice, behaviour);
        }
        simulation.run_watching(20 * SECOND, |policy, task| {
            let lag = policy.average().wrapping_sub(task.share.virtual_time()) as i64;
            let limit = 2 * scale(SLICE, task.share.weight()) as i64 + 2 * SLICE as i64;
            assert!(lag.abs() <= limit, "lag {lag} of weight {}", task.share.weight());
        });
    }

    #[test]
    fn giving_way_lets_the_others_go_first() {
        let mut simulation = Simulation::new(Fair::default());
        let polite = simulation.add(0, Behaviour::GivesWay { work: SLICE / 100 });
        let busy = simulation.add(0, Behaviour::Busy);
        simulation.run(SECOND);
        assert!(simulation.time_of(busy) > 5 * simulation.time_of(polite));
        assert!(simulation.time_of(polite) > 0);
    }

    #[test]
    fn a_new_weight_counts_from_now_on() {
        let mut simulation = Simulation::new(Fair::default());
        let (first, second) = (simulation.add(0, Behaviour::Busy), simulation.add(0, Behaviour::Busy));
        simulation.run(SECOND);
        simulation.renice(second, 5);
        let before = (simulation.time_of(first), simulation.time_of(second));
        simulation.run(10 * SECOND);
        let first = simulation.time_of(first) - before.0;
        let second = simulation.time_of(second) - before.1;
        let ratio = first as f64 / second as f64;
        assert!((ratio - 1024.0 / 335.0).abs() < 0.1, "{ratio}");
    }

    /// A queue, and tasks of these nice values that are in none.
    fn queue<const N: usize>(nices: [i8; N]) -> (Fair, [Arc<Task>; N]) {
        let simulation = Simulation::new(Fair::default());
        (Fair::default(), nices.map(|nice| simulation.task(nice, CpuSet::ALL)))
    }

    #[test]
    fn who_is_owed_more_than_the_current_task_preempts_it() {
        let (mut queue, [current, equal, new, owed, ahead]) = queue([0; 5]);
        assert!(!queue.enqueue(current.clone(), Arrival::Woken), "nobody runs");
        queue.pick();
        assert!(!queue.enqueue(equal, Arrival::Woken), "an equal claim is no reason");
        assert!(queue.enqueue(new, Arrival::New), "a new task counts as halfway through a slice");
        owed.share.set_lag(1);
        assert!(queue.enqueue(owed, Arrival::Woken));
        ahead.share.set_lag(-1);
        assert!(!queue.enqueue(ahead.clone(), Arrival::Moved));
        assert_eq!(queue.waiting(), 4);
        // Whoever has left, or was put back, is no measure any more.
        queue.leave(&current);
        current.share.set_lag(SLICE as i64);
        assert!(!queue.enqueue(current.clone(), Arrival::Woken));
        queue.pick();
        queue.put_back(current, false);
        ahead.share.set_lag(SLICE as i64);
        assert!(!queue.enqueue(ahead, Arrival::Woken));
    }

    #[test]
    fn who_leaves_takes_his_lag_along_and_changes_nothing_for_the_others() {
        let (mut queue, [first, second, heavy]) = queue([0, 0, -5]);
        for task in [&first, &second, &heavy] {
            queue.enqueue(task.clone(), Arrival::Woken);
        }
        let all = 2 * i64::from(weight(0)) + i64::from(weight(-5));
        assert_eq!((queue.load, queue.average()), (all, ORIGIN));
        let current = queue.pick().unwrap();
        let ran = 2_000_000;
        queue.charge(&current, ran);
        // The average passes by the share of who ran.
        let passed = scale(ran, current.share.weight()) as i64 * i64::from(current.share.weight()) / all;
        assert_eq!(queue.average(), ORIGIN + passed as u64);
        queue.leave(&current);
        let lag = passed - scale(ran, current.share.weight()) as i64;
        assert_eq!(current.share.lag(), lag);
        assert!(lag < 0 && !current.share.is_queued());
        assert_eq!((queue.load, queue.average()), (all - i64::from(current.share.weight()), ORIGIN));
        // It comes back as far ahead as it left.
        queue.enqueue(current.clone(), Arrival::Woken);
        assert_eq!(current.share.virtual_time(), ORIGIN.wrapping_add_signed(-lag));
        assert_eq!(current.share.deadline(), current.share.virtual_time() + scale(SLICE, current.share.weight()));
        assert!(current.share.is_queued());
    }

    #[test]
    fn lag_that_is_taken_along_is_at_most_a_slice() {
        let (mut queue, [first, second]) = queue([0, 0]);
        queue.enqueue(first.clone(), Arrival::Woken);
        queue.enqueue(second, Arrival::Woken);
        let current = queue.pick().unwrap();
        queue.charge(&current, 100 * SLICE);
        queue.leave(&current);
        assert_eq!(current.share.lag(), -(SLICE as i64));
        let other = queue.pick().unwrap();
        queue.enqueue(current, Arrival::Woken);
        queue.charge(&other, 100 * SLICE);
        queue.put_back(other, false);
        let owed = queue.pick().unwrap();
        queue.leave(&owed);
        assert_eq!(owed.share.lag(), SLICE as i64);
    }

    #[test]
    fn who_is_taken_was_the_next_of_those_wanted() {
        let (mut from, [first, second, third]) = queue([0, 3, 0]);
        for (task, lag) in [(&first, 500_000), (&second, 0), (&third, -1000)] {
            task.share.set_lag(lag);
            from.enqueue(task.clone(), Arrival::Woken);
        }
        let load = from.load;
        let average = from.average();
        let is =
            |wanted: &[&Arc<Task>], task: &Task| wanted.iter().any(|other| core::ptr::eq(&raw const ***other, task));
        assert!(from.take(usize::MAX, &|_| false).is_none());
        let taken = from.take(usize::MAX, &|task| is(&[&third, &first], task)).unwrap();
        assert!(Arc::ptr_eq(&taken, &first));
        assert_eq!((from.waiting(), from.load), (2, load - i64::from(weight(0))));
        let lag = average.wrapping_sub(first.share.virtual_time()) as i64;
        assert!(!first.share.is_queued() && first.share.lag().abs_diff(lag) <= 1);
        // Where it comes to, it is owed as much.
        let (mut to, [there]) = queue([0]);
        to.enqueue(there.clone(), Arrival::Woken);
        to.pick();
        to.charge(&there, 1_000_000);
        let lag = first.share.lag();
        to.enqueue(first.clone(), Arrival::Moved);
        assert_eq!(first.share.virtual_time(), (ORIGIN + 1_000_000).wrapping_add_signed(-lag));
        // Those who stayed keep their order.
        let order: Vec<_> = core::iter::from_fn(|| from.pick()).collect();
        assert!(order.len() == 2 && is(&[&third], &order[0]) && is(&[&second], &order[1]));
    }

    #[test]
    fn a_slice_that_is_not_used_up_goes_on() {
        let (mut queue, [task]) = queue([0]);
        queue.enqueue(task.clone(), Arrival::Woken);
        let deadline = task.share.deadline();
        queue.pick();
        queue.charge(&task, SLICE - 1);
        queue.put_back(task.clone(), false);
        assert_eq!(task.share.deadline(), deadline);
        queue.pick();
        queue.charge(&task, 1);
        queue.put_back(task.clone(), false);
        assert_eq!(task.share.deadline(), deadline + SLICE, "from where the first one ended");
        queue.pick();
        queue.put_back(task.clone(), true);
        assert_eq!(task.share.deadline(), deadline + 2 * SLICE, "given up, it is as if used");
    }

    #[test]
    fn a_new_weight_changes_load_and_average() {
        let (mut queue, [first, second]) = queue([0, 0]);
        queue.enqueue(first.clone(), Arrival::Woken);
        queue.enqueue(second.clone(), Arrival::Woken);
        let current = queue.pick().unwrap();
        queue.charge(&current, 1_000_000);
        queue.reweigh(&current, 3 * NICE_0);
        assert_eq!((queue.load, current.share.weight()), (4 * i64::from(NICE_0), 3 * NICE_0));
        assert_eq!(queue.average(), ORIGIN + 750_000, "three of four are where it is");
        queue.reweigh(&current, NICE_0);
        assert_eq!((queue.load, queue.average()), (2 * i64::from(NICE_0), ORIGIN + 500_000));
    }

    fn weight(nice: i8) -> u32 {
        super::super::weight_of(nice)
    }
}
