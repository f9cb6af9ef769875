//! As `machine::memory`: frames by their real counts, in cells that are read without a lock. The bytes are a cell of loom's, which reports uses of
//! which one writes and that nothing orders; and a frame tells who uses it when it is free.

use std::sync::atomic::{AtomicBool, Ordering as Plain};
use std::sync::{Arc, OnceLock};

use loom::cell::UnsafeCell;

use crate::atomic::{AtomicU32, Ordering, fence};
use crate::count::Count;
use crate::rcu::{self, ReadSection};

struct Memory {
    number: usize,
    count: Count,
    bytes: UnsafeCell<u32>,
    is_free: AtomicBool,
}

/// A counted reference to a frame.
pub struct Frame(Arc<Memory>);

impl Frame {
    /// A new one, with this number.
    pub fn new(number: usize) -> Frame {
        let count = Count::reserved();
        count.set(1);
        Frame(Arc::new(Memory { number, count, bytes: UnsafeCell::new(0), is_free: AtomicBool::new(false) }))
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.0.number
    }

    /// How many own it.
    pub fn references(&self) -> u32 {
        self.0.count.owners()
    }

    /// Uses the bytes.
    pub fn read(&self) {
        assert!(!self.0.is_free.load(Plain::SeqCst), "used when it was free");
        self.0.bytes.with(|_| ());
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        self.0.count.add();
        Frame(self.0.clone())
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if self.0.count.remove() {
            self.0.is_free.store(true, Plain::SeqCst);
            self.0.bytes.with_mut(|_| ());
        }
    }
}

/// Frames a cell may have in one run.
const MOST: usize = 3;

/// As the machine's.
#[derive(Default)]
pub struct FrameCell {
    /// The place of what is in it, from 1 on; 0 if nothing is.
    current: AtomicU32,
    had: [OnceLock<Arc<Memory>>; MOST],
}

#[allow(missing_docs, reason = "as the machine's")]
impl FrameCell {
    fn at(&self, place: u32) -> Option<&Arc<Memory>> {
        self.had.get((place as usize).checked_sub(1)?)?.get()
    }

    pub fn get(&self, _section: &ReadSection) -> Option<Frame> {
        let memory = self.at(self.current.load(Ordering::SeqCst))?;
        memory.count.add();
        Some(Frame(memory.clone()))
    }

    pub fn number(&self) -> Option<usize> {
        self.at(self.current.load(Ordering::Relaxed)).map(|memory| memory.number)
    }

    pub fn replace(&self, new: Option<Frame>) -> Option<RetiredFrame> {
        let place = new.map_or(0, |frame| {
            let free = self.had.iter().position(|had| had.get().is_none()).unwrap();
            assert!(self.had[free].set(frame.0.clone()).is_ok());
            // The cell has the reference.
            core::mem::forget(frame);
            free as u32 + 1
        });
        let before = self.current.swap(place, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.at(before).map(|memory| RetiredFrame(Frame(memory.clone())))
    }
}

/// As the machine's.
pub struct RetiredFrame(#[expect(dead_code, reason = "held to be dropped")] Frame);

impl Drop for RetiredFrame {
    fn drop(&mut self) {
        rcu::wait_for_readers();
    }
}
