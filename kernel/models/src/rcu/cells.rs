//! As `machine::rcu`, over the real counts of readers. A cell keeps what it ever had, as nothing unsafe is done here: that a *frame* is not freed
//! too early is what can be seen ([`Frame`](crate::memory::Frame)).

use std::sync::{Arc, OnceLock};

use super::Readers;
use super::atomic::{AtomicUsize, Ordering};

loom::lazy_static! {
    /// All threads share a slot.
    static ref READERS: Readers<1> = Readers::new();
}

/// As the machine's.
pub struct ReadSection(());

/// Begins to read.
pub fn read() -> ReadSection {
    READERS.enter(0);
    ReadSection(())
}

impl Drop for ReadSection {
    fn drop(&mut self) {
        READERS.leave(0);
    }
}

/// As the machine's. Called before there are threads, too: loom orders an object's first value behind its making only.
pub fn wait_for_readers() {
    READERS.wait(1, loom::thread::yield_now);
}

/// Values a cell may have in one run.
const MOST: usize = 4;

/// As the machine's.
pub struct RcuCell<T> {
    /// The place of what is in it, from 1 on; 0 if nothing is.
    current: AtomicUsize,
    had: [OnceLock<Arc<T>>; MOST],
}

impl<T> Default for RcuCell<T> {
    fn default() -> Self {
        RcuCell { current: AtomicUsize::new(0), had: Default::default() }
    }
}

#[allow(missing_docs, reason = "as the machine's")]
impl<T> RcuCell<T> {
    fn at(&self, place: usize) -> Option<&Arc<T>> {
        self.had.get(place.checked_sub(1)?)?.get()
    }

    pub fn read<'s>(&'s self, _section: &'s ReadSection) -> Option<Shared<'s, T>> {
        self.at(self.current.load(Ordering::SeqCst)).map(|value| Shared(value))
    }

    pub fn get(&self) -> Option<Arc<T>> {
        let section = read();
        self.read(&section).map(|shared| shared.0.clone())
    }

    pub fn is_empty(&self) -> bool {
        self.current.load(Ordering::Relaxed) == 0
    }

    pub fn replace(&self, new: Option<Arc<T>>) -> Option<Retired<T>> {
        let place = new.map_or(0, |new| {
            let free = self.had.iter().position(|had| had.get().is_none()).unwrap();
            assert!(self.had[free].set(new).is_ok());
            free + 1
        });
        self.at(self.current.swap(place, Ordering::SeqCst)).cloned().map(Retired)
    }

    pub fn take(&mut self) -> Option<Arc<T>> {
        self.at(self.current.load(Ordering::Relaxed)).cloned()
    }
}

/// As the machine's.
pub struct Shared<'s, T>(&'s Arc<T>);

#[allow(missing_docs, reason = "as the machine's")]
impl<'s, T> Shared<'s, T> {
    pub fn get(self) -> &'s T {
        self.0
    }
}

/// As the machine's.
pub struct Retired<T>(Arc<T>);

#[allow(missing_docs, reason = "as the machine's")]
impl<T> Retired<T> {
    pub fn into_arc(self) -> Arc<T> {
        self.0.clone()
    }
}

impl<T> Drop for Retired<T> {
    fn drop(&mut self) {
        wait_for_readers();
    }
}
