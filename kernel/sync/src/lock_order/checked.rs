//! The order of locks as it has been so far. See the page above.

#![allow(clippy::panic, clippy::disallowed_methods, reason = "in tests only: no kernel that runs has this file")]

extern crate std;

use core::cell::RefCell;
use core::panic::Location;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

/// A place in the source.
type Place = &'static Location<'static>;

/// Where a lock was made.
#[derive(Clone, Copy)]
pub(crate) struct Class(Place);

/// That one class came before another: where the first had been taken, and where the second was.
#[derive(Clone, Copy)]
struct Order {
    held_at: Place,
    taken_at: Place,
}

/// All orders of this process's locks, of whichever kernel: they are the same source. By the class that came before and the one that came after.
static ORDERS: Mutex<Option<HashMap<Place, HashMap<Place, Order>>>> = Mutex::new(None);

/// What a thread holds, and which orders it knows to be noted.
#[derive(Default)]
struct Thread {
    /// Class, place, and a number to find it again.
    held: Vec<(Place, Place, usize)>,
    taken: usize,
    known: HashSet<(Place, Place)>,
}

std::thread_local! {
    static THREAD: RefCell<Thread> = RefCell::default();
}

/// A lock is held, by this thread.
pub(crate) struct Held(usize);

impl Class {
    /// The class of locks that the caller makes.
    #[track_caller]
    pub const fn here() -> Class {
        Class(Location::caller())
    }

    /// The caller waits for a lock of this class, with all it holds.
    ///
    /// # Panics
    /// If that may end in a deadlock.
    #[track_caller]
    pub fn about_to_wait(&self) {
        assert!(!machine::rcu::is_reading(), "a lock is taken in a read section, at {}", Location::caller());
        let place = Location::caller();
        with_thread(|thread| thread.check(self.0, place));
    }

    /// The caller has the lock.
    #[track_caller]
    pub fn hold(&self) -> Held {
        let place = Location::caller();
        let number = with_thread(|thread| {
            thread.taken += 1;
            thread.held.push((self.0, place, thread.taken));
            thread.taken
        });
        Held(number.unwrap_or_default())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        with_thread(|thread| thread.held.retain(|held| held.2 != self.0));
    }
}

/// Does something with this thread's record. Not for a thread that ends, which has none any more; nor for locks that the allocator takes
/// because the record grows.
fn with_thread<R>(action: impl FnOnce(&mut Thread) -> R) -> Option<R> {
    THREAD.try_with(|thread| thread.try_borrow_mut().ok().map(|mut thread| action(&mut thread))).ok().flatten()
}

impl Thread {
    fn check(&mut self, class: Place, place: Place) {
        for &(held, held_at, _) in &self.held {
            if held != class && self.known.insert((held, class)) {
                note(held, class, Order { held_at, taken_at: place });
            }
        }
    }
}

/// Notes that `before` comes before `after`.
fn note(before: Place, after: Place, order: Order) {
    let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    let orders = orders.get_or_insert_default();
    if let Some(other) = way(orders, after, before) {
        panic!(
            "locks in both orders: that of {after} is taken at {} while that of {before} is held since {}; but that of {before}, or one \
             that leads to it, was taken at {} while that of {after} was held since {}",
            order.taken_at, order.held_at, other.taken_at, other.held_at
        );
    }
    orders.entry(before).or_default().entry(after).or_insert(order);
}

/// The orders that were noted so far, as the files in which the locks were made: before and after.
pub fn lock_orders() -> Vec<(&'static str, &'static str)> {
    let orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    let files = |(before, after): (&Place, &HashMap<Place, Order>)| {
        let before = before.file();
        after.keys().map(move |after| (before, after.file())).collect::<Vec<_>>()
    };
    orders.iter().flatten().flat_map(files).collect()
}

/// The first step of a way from one class to another, if there is any.
fn way(orders: &HashMap<Place, HashMap<Place, Order>>, from: Place, to: Place) -> Option<Order> {
    let after = orders.get(from)?;
    after.iter().find(|(next, _)| leads(orders, next, to, &mut HashSet::new())).map(|(_, order)| *order)
}

fn leads(orders: &HashMap<Place, HashMap<Place, Order>>, from: Place, to: Place, seen: &mut HashSet<Place>) -> bool {
    from == to
        || seen.insert(from)
            && orders.get(from).is_some_and(|after| after.keys().any(|next| leads(orders, next, to, seen)))
}
