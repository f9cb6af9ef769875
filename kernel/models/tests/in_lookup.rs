//! Of those who look one name up one asks, and nobody waits for ever: every order of two and three threads.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test may fail by memory")]

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use models::in_lookup::NamesInLookup;
use models::{SpinLock, every_order};

const NAME: &[u8] = b"name";

/// A directory that has one name.
struct Directory {
    /// What the cache has.
    cached: SpinLock<Option<u32>>,
    in_lookup: std::sync::Arc<NamesInLookup<Result<u32, ()>>>,
    asked: AtomicUsize,
}

impl Directory {
    fn new() -> Arc<Directory> {
        Arc::new(Directory {
            cached: SpinLock::new(None),
            in_lookup: std::sync::Arc::default(),
            asked: AtomicUsize::new(0),
        })
    }

    /// As `Dentry::lookup`; the file system gives `answer`, or, with none, who asks is killed.
    fn look(&self, answer: Option<Result<u32, ()>>) -> Option<Result<u32, ()>> {
        loop {
            let cached = self.cached.lock();
            if let Some(found) = *cached {
                return Some(Ok(found));
            }
            if let Some(asked) = self.in_lookup.find(7, NAME) {
                drop(cached);
                block_on(asked.wait());
                match asked.answer() {
                    None => continue,
                    answer => return answer,
                }
            }
            let asking = self.in_lookup.ask(7, NAME).unwrap();
            drop(cached);
            self.asked.fetch_add(1, Ordering::Relaxed);
            let answer = answer?;
            if let Ok(found) = answer {
                *self.cached.lock() = Some(found);
            }
            asking.tell(answer);
            return Some(answer);
        }
    }
}

/// What `threads` come to, and how often the file system was asked.
fn look_all(directory: &Arc<Directory>, answers: &[Option<Result<u32, ()>>]) -> (Vec<Option<Result<u32, ()>>>, usize) {
    let others: Vec<_> = answers[1..]
        .iter()
        .map(|&answer| {
            let directory = directory.clone();
            thread::spawn(move || directory.look(answer))
        })
        .collect();
    let mut found = vec![directory.look(answers[0])];
    found.extend(others.into_iter().map(|other| other.join().unwrap()));
    (found, directory.asked.load(Ordering::Relaxed))
}

#[test]
fn one_asks_and_all_are_told() {
    every_order(Some(3), || {
        let (found, asked) = look_all(&Directory::new(), &[Some(Ok(1)); 2]);
        assert_eq!((found, asked), (vec![Some(Ok(1)); 2], 1));
    });
}

#[test]
fn three_who_look() {
    every_order(Some(1), || {
        let (found, asked) = look_all(&Directory::new(), &[Some(Ok(1)); 3]);
        assert_eq!((found, asked), (vec![Some(Ok(1)); 3], 1));
    });
}

/// An error is not kept: who comes later asks again.
#[test]
fn an_error_wakes_who_waits() {
    every_order(Some(3), || {
        let (found, asked) = look_all(&Directory::new(), &[Some(Err(())); 2]);
        assert!(found == [Some(Err(())); 2] && (1..=2).contains(&asked));
    });
}

#[test]
fn who_is_killed_hands_over() {
    every_order(Some(3), || {
        let (found, asked) = look_all(&Directory::new(), &[None, Some(Ok(1))]);
        assert_eq!(found[1], Some(Ok(1)));
        assert!((1..=2).contains(&asked));
    });
}
