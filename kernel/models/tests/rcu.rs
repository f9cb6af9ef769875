//! Nothing is freed under a reader: every order of readers and a writer.
//!
//! What a pointer leads to are cells of loom's: it reports a read that nothing orders before the write by which the writer ends it.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use models::every_order;
use models::rcu::Readers;
use models::rcu::atomic::{AtomicUsize, Ordering};

struct Memory {
    readers: Readers<2>,
    /// Which value is the current one.
    pointer: AtomicUsize,
    values: [UnsafeCell<usize>; 2],
}

impl Memory {
    fn new() -> Arc<Memory> {
        let values = [UnsafeCell::new(7), UnsafeCell::new(7)];
        let memory = Arc::new(Memory { readers: Readers::new(), pointer: AtomicUsize::new(0), values });
        // Made here, before the threads begin: loom orders an object's first value behind the making only.
        memory.pointer.load(Ordering::Relaxed);
        memory.readers.count(0);
        memory.readers.count(1);
        memory
    }

    fn read(&self, cpu: usize) {
        self.readers.enter(cpu);
        let current = self.pointer.load(Ordering::SeqCst);
        self.values[current].with(|_| ());
        self.readers.leave(cpu);
    }

    /// Exchanges the pointer, and ends what it led to.
    fn write(&self) {
        let old = self.pointer.swap(1, Ordering::SeqCst);
        self.readers.wait(2, thread::yield_now);
        self.values[old].with_mut(|_| ());
    }
}

#[test]
fn a_reader_is_waited_for() {
    every_order(None, || {
        let memory = Memory::new();
        let reader = thread::spawn({
            let memory = memory.clone();
            move || memory.read(0)
        });
        memory.write();
        reader.join().unwrap();
    });
}

#[test]
fn so_are_readers_on_two_cpus() {
    every_order(Some(3), || {
        let memory = Memory::new();
        let readers = [0, 1].map(|cpu| {
            let memory = memory.clone();
            thread::spawn(move || memory.read(cpu))
        });
        memory.write();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn threads_that_share_a_slot_are_both_seen() {
    every_order(Some(3), || {
        let memory = Memory::new();
        let readers = [0, 0].map(|cpu| {
            let memory = memory.clone();
            thread::spawn(move || memory.read(cpu))
        });
        memory.write();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
