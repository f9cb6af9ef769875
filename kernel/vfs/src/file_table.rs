//! Descriptors: a process's numbers for its open files.
//!
//! One spin lock; looking a descriptor up is a clone of an `Arc` under it. Files are let go of outside the lock, since
//! the last reference may have a whole file to give back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use sync::SpinLock;

use crate::file::FileTraits;
use crate::locks::LockOwner;
use crate::open_file::OpenFile;

/// A file descriptor.
pub type Descriptor = i32;

/// The descriptors of a process; threads share one.
#[derive(Default)]
pub struct FileTable {
    slots: SpinLock<Slots>,
}

/// The open files of a table whose lock is held.
#[derive(Clone, Copy)]
pub struct OpenFiles<'a>(&'a [Option<Arc<OpenFile>>]);

impl<'a> OpenFiles<'a> {
    /// The open file behind a descriptor.
    #[inline]
    pub fn get(self, descriptor: Descriptor) -> Option<&'a OpenFile> {
        self.0.get(descriptor as usize)?.as_deref()
    }
}

#[derive(Default)]
struct Slots {
    files: Vec<Option<Arc<OpenFile>>>,
    /// A bit for each descriptor in use, so that the lowest free one is found 64 at a time.
    used: Vec<u64>,
    /// A bit for each descriptor that execve(2) closes.
    close_on_exec: Vec<u64>,
    /// No descriptor below this one is free.
    lowest_free: usize,
}

impl FileTable {
    /// No descriptors.
    pub fn new() -> Arc<FileTable> {
        Arc::new(FileTable::default())
    }

    /// The same files under the same numbers: fork(2), and unshare(CLONE_FILES).
    pub fn duplicate(&self) -> Arc<FileTable> {
        let slots = self.slots.lock();
        let (files, used, close_on_exec) = (slots.files.clone(), slots.used.clone(), slots.close_on_exec.clone());
        let copy = Slots { files, used, close_on_exec, lowest_free: slots.lowest_free };
        drop(slots);
        Arc::new(FileTable { slots: SpinLock::new(copy) })
    }

    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn get(&self, descriptor: Descriptor) -> Result<Arc<OpenFile>> {
        // A negative number becomes one no table reaches.
        self.slots.lock().files.get(descriptor as usize).cloned().flatten().ok_or(Errno::EBADF)
    }

    /// Looks at many open files under one lock and without counting references: what poll(2) and select(2) do first.
    /// `act` must be quick and must not come back to the table.
    pub fn look<R>(&self, act: impl FnOnce(OpenFiles<'_>) -> R) -> R {
        act(OpenFiles(&self.slots.lock().files))
    }

    /// Gives a file the lowest free number. `limit` is `RLIMIT_NOFILE`.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn insert(&self, file: Arc<OpenFile>, close_on_exec: bool, limit: u64) -> Result<Descriptor> {
        self.insert_from(0, file, close_on_exec, limit)
    }

    /// Gives two files the lowest free numbers, or neither: pipe(2).
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn insert_two(
        &self,
        files: (Arc<OpenFile>, Arc<OpenFile>),
        close_on_exec: bool,
        limit: u64,
    ) -> Result<(Descriptor, Descriptor)> {
        let mut slots = self.slots.lock();
        let first = slots.claim(0, limit)?;
        slots.put(first, files.0, close_on_exec);
        let second = match slots.claim(0, limit) {
            Ok(second) => second,
            Err(errno) => {
                let back = slots.remove(first);
                drop(slots);
                drop(back);
                return Err(errno);
            }
        };
        slots.put(second, files.1, close_on_exec);
        Ok((first as Descriptor, second as Descriptor))
    }

    /// Gives a file the lowest free number from `minimum` on: fcntl(F_DUPFD).
    ///
    /// # Errors
    /// `EINVAL` when `minimum` is beyond the limit, `EMFILE`.
    pub fn insert_from(
        &self,
        minimum: Descriptor,
        file: Arc<OpenFile>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Descriptor> {
        let minimum = usize::try_from(minimum).map_err(|_| Errno::EINVAL)?;
        if minimum > 0 && minimum as u64 >= limit {
            return Err(Errno::EINVAL);
        }
        let mut slots = self.slots.lock();
        let descriptor = slots.claim(minimum, limit)?;
        slots.put(descriptor, file, close_on_exec);
        Ok(descriptor as Descriptor)
    }

    /// Gives a file this very number, closing what had it: dup2(2), dup3(2).
    ///
    /// # Errors
    /// `EBADF` when the number is beyond the limit.
    pub fn replace(&self, descriptor: Descriptor, file: Arc<OpenFile>, close_on_exec: bool, limit: u64) -> Result<()> {
        let index = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        if index as u64 >= limit {
            return Err(Errno::EBADF);
        }
        let mut slots = self.slots.lock();
        slots.grow(index);
        let old = slots.remove(index);
        slots.put(index, file, close_on_exec);
        drop(slots);
        self.let_go(old, 0);
        Ok(())
    }

    /// Closes a descriptor. `process` is told to files that want to know.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&self, descriptor: Descriptor, process: u32) -> Result<()> {
        let index = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        let removed = self.slots.lock().remove(index);
        if removed.is_none() {
            return Err(Errno::EBADF);
        }
        self.let_go(removed, process);
        Ok(())
    }

    /// Closes all descriptors from `first` to `last`: close_range(2).
    pub fn close_range(&self, first: u32, last: u32, process: u32) {
        let mut next = first as usize;
        loop {
            let mut slots = self.slots.lock();
            let Some(index) = slots.next_used(next).filter(|&index| index <= last as usize) else { break };
            let removed = slots.remove(index);
            drop(slots);
            self.let_go(removed, process);
            next = index + 1;
        }
    }

    /// Marks all descriptors from `first` to `last`: close_range(CLOSE_RANGE_CLOEXEC).
    pub fn mark_range(&self, first: u32, last: u32) {
        let mut slots = self.slots.lock();
        let mut next = first as usize;
        while let Some(index) = slots.next_used(next).filter(|&index| index <= last as usize) {
            set_bit(&mut slots.close_on_exec, index, true);
            next = index + 1;
        }
    }

    /// Whether execve(2) closes it: fcntl(F_GETFD).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn closes_on_exec(&self, descriptor: Descriptor) -> Result<bool> {
        let slots = self.slots.lock();
        let index = slots.check(descriptor)?;
        Ok(bit(&slots.close_on_exec, index))
    }

    /// Decides whether execve(2) closes it: fcntl(F_SETFD).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&self, descriptor: Descriptor, on: bool) -> Result<()> {
        let mut slots = self.slots.lock();
        let index = slots.check(descriptor)?;
        set_bit(&mut slots.close_on_exec, index, on);
        Ok(())
    }

    /// Closes what is marked for it: execve(2), whose process has the table for itself by then.
    pub fn close_for_exec(&self, process: u32) {
        let mut next = 0;
        loop {
            let mut slots = self.slots.lock();
            let marked = slots.close_on_exec.clone();
            let Some(index) = next_bit(&marked, next) else { break };
            let removed = slots.remove(index);
            drop(slots);
            self.let_go(removed, process);
            next = index + 1;
        }
    }

    /// Closes everything: exit(2).
    pub fn close_all(&self, process: u32) {
        self.close_range(0, u32::MAX, process);
    }

    /// The first descriptor in use from `from` on: `/proc/PID/fd`.
    pub fn next_open(&self, from: Descriptor) -> Option<Descriptor> {
        let from = usize::try_from(from).ok()?;
        self.slots.lock().next_used(from).and_then(|index| Descriptor::try_from(index).ok())
    }

    /// How many slots there are, used or not: `FDSize` in `/proc/PID/status`.
    pub fn capacity(&self) -> usize {
        self.slots.lock().used.len() * 64
    }

    /// Lets a closed file go. As POSIX has it, that drops the process's record locks on it, whatever other descriptors
    /// it has.
    fn let_go(&self, file: Option<Arc<OpenFile>>, process: u32) {
        let Some(file) = file else { return };
        if let Some(locks) = file.inode().locks() {
            locks.release(LockOwner::of_table(self));
        }
        if file.traits().contains(FileTraits::TELL_CLOSED) {
            file.file().closed(process);
        }
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        let files = core::mem::take(&mut self.slots.get_mut().files);
        files.into_iter().for_each(|file| self.let_go(file, 0));
    }
}

impl Slots {
    fn check(&self, descriptor: Descriptor) -> Result<usize> {
        let index = descriptor as usize;
        if bit(&self.used, index) { Ok(index) } else { Err(Errno::EBADF) }
    }

    /// The lowest free slot from `minimum` on, with room made for it.
    fn claim(&mut self, minimum: usize, limit: u64) -> Result<usize> {
        let from = minimum.max(self.lowest_free);
        let index = next_clear_bit(&self.used, from);
        if index as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        if from == self.lowest_free {
            self.lowest_free = index;
        }
        self.grow(index);
        Ok(index)
    }

    fn grow(&mut self, index: usize) {
        if index >= self.files.len() {
            let words = index / 64 + 1;
            self.used.resize(words.max(self.used.len()), 0);
            self.close_on_exec.resize(words.max(self.close_on_exec.len()), 0);
            self.files.resize(words * 64, None);
        }
    }

    fn put(&mut self, index: usize, file: Arc<OpenFile>, close_on_exec: bool) {
        if let Some(slot) = self.files.get_mut(index) {
            *slot = Some(file);
            set_bit(&mut self.used, index, true);
            set_bit(&mut self.close_on_exec, index, close_on_exec);
            if index == self.lowest_free {
                self.lowest_free += 1;
            }
        }
    }

    fn remove(&mut self, index: usize) -> Option<Arc<OpenFile>> {
        let file = self.files.get_mut(index)?.take()?;
        set_bit(&mut self.used, index, false);
        set_bit(&mut self.close_on_exec, index, false);
        self.lowest_free = self.lowest_free.min(index);
        Some(file)
    }

    fn next_used(&self, from: usize) -> Option<usize> {
        next_bit(&self.used, from)
    }
}

fn bit(bits: &[u64], index: usize) -> bool {
    bits.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
}

fn set_bit(bits: &mut [u64], index: usize, on: bool) {
    if let Some(word) = bits.get_mut(index / 64) {
        let mask = 1 << (index % 64);
        *word = if on { *word | mask } else { *word & !mask };
    }
}

/// The first set bit from `from` on.
fn next_bit(bits: &[u64], from: usize) -> Option<usize> {
    let first = from / 64;
    let mut mask = u64::MAX << (from % 64);
    for (index, word) in bits.iter().enumerate().skip(first) {
        if word & mask != 0 {
            return Some(index * 64 + (word & mask).trailing_zeros() as usize);
        }
        mask = u64::MAX;
    }
    None
}

/// The first clear bit from `from` on; beyond the end all are clear.
fn next_clear_bit(bits: &[u64], from: usize) -> usize {
    let first = from / 64;
    let mut mask = u64::MAX << (from % 64);
    for (index, word) in bits.iter().enumerate().skip(first) {
        if !word & mask != 0 {
            return index * 64 + (!word & mask).trailing_zeros() as usize;
        }
        mask = u64::MAX;
    }
    from.max(bits.len() * 64)
}
