//! Descriptors: a process's numbers for its open files.
//!
//! One spin lock; looking a descriptor up is a clone of an `Arc` under it. Files are let go of outside the lock, since
//! the last reference may have a whole file to give back.
//!
//! Who *uses* a table and who only looks at one for a moment (a call in progress, /proc) are told apart: a process holds a
//! [`TableUse`], everybody else an `Arc`. The last use closes everything, whoever may be looking, so record locks end with
//! their process; and the table keeps its address for as long as anybody can name it as the owner of a lock.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Pid, Result};
use machine::memory::fallible;
use sync::{Budget, Mutex, SpinLock};

use crate::file::FileTraits;
use crate::locks::{FileLocks, LockOwner};
use crate::open::OpenFlags;
use crate::open_file::OpenFile;

/// A file descriptor.
pub type Descriptor = i32;

/// The descriptors of a process; threads share one.
#[derive(Default)]
pub struct FileTable {
    slots: SpinLock<Slots>,
    /// Who makes a copy of a large table.
    copying: Mutex<()>,
    /// How many processes use it: the [`TableUse`]s there are.
    users: AtomicU32,
}

/// A process's use of a table. Cloning it shares the table (`CLONE_FILES`); dropping the last one closes every file.
pub struct TableUse {
    table: Arc<FileTable>,
}

impl TableUse {
    /// Begins to use a table.
    pub fn new(table: Arc<FileTable>) -> TableUse {
        table.users.fetch_add(1, Ordering::Relaxed);
        TableUse { table }
    }

    /// The table, to be looked at.
    pub const fn table(&self) -> &Arc<FileTable> {
        &self.table
    }

    /// Ends the use. The last closes every file, letting others run meanwhile.
    pub async fn end(self) {
        if self.users() == 1 {
            self.table.close_range(0, u32::MAX, Pid::NOBODY).await;
            self.table.shrink().await;
        }
    }

    /// How many uses there are of the table, this one included.
    pub fn users(&self) -> u32 {
        self.table.users.load(Ordering::Acquire)
    }
}

impl Clone for TableUse {
    fn clone(&self) -> TableUse {
        TableUse::new(self.table.clone())
    }
}

impl Deref for TableUse {
    type Target = Arc<FileTable>;

    fn deref(&self) -> &Arc<FileTable> {
        &self.table
    }
}

impl Drop for TableUse {
    fn drop(&mut self) {
        // All that other users did with the table comes before its end.
        if self.table.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.table.close_all(Pid::NOBODY);
        }
    }
}

/// The open files of a table whose lock is held.
#[derive(Clone, Copy)]
pub struct OpenFiles<'a>(&'a [Option<Arc<OpenFile>>]);

/// The place of a descriptor, which a program chose. A negative number becomes one no table reaches.
#[inline]
fn slot(files: &[Option<Arc<OpenFile>>], descriptor: Descriptor) -> Option<&Option<Arc<OpenFile>>> {
    files.get(machine::cpu::index_below(descriptor as usize, files.len())?)
}

impl<'a> OpenFiles<'a> {
    /// The open file behind a descriptor.
    #[inline]
    pub fn get(self, descriptor: Descriptor) -> Option<&'a OpenFile> {
        slot(self.0, descriptor)?.as_deref()
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
    /// The copy that is being made of it.
    copy: Option<Box<Copying>>,
}

/// Slots of one word of `used`: what is copied together.
const GROUP: usize = 64;

/// Tables of so many slots are copied at once.
const FEW: usize = 4096;

/// A copy of a table in the making, of the moment it was begun: who changes a group of slots that is not in it yet, copies the group
/// first.
struct Copying {
    slots: Slots,
    /// A bit for each group that is in it.
    copied: Vec<u64>,
}

impl Copying {
    /// Copies a group of `slots` unless it is there already.
    fn take(&mut self, slots: Contents<'_>, group: usize) {
        let begin = group * GROUP;
        let to = self.slots.files.iter_mut().skip(begin).take(GROUP);
        if bit(&self.copied, group) || to.len() == 0 {
            return;
        }
        to.zip(slots.files.iter().skip(begin)).for_each(|(to, from)| to.clone_from(from));
        for (to, from) in [(&mut self.slots.used, slots.used), (&mut self.slots.close_on_exec, slots.close_on_exec)] {
            if let (Some(to), Some(from)) = (to.get_mut(group), from.get(group)) {
                *to = *from;
            }
        }
        set_bit(&mut self.copied, group, true);
    }

    /// The copy is whole.
    fn finish(self) -> TableUse {
        TableUse::new(Arc::new(FileTable {
            slots: SpinLock::new(self.slots),
            copying: Mutex::default(),
            users: AtomicU32::new(0),
        }))
    }
}

/// What is copied of [`Slots`].
#[derive(Clone, Copy)]
struct Contents<'a> {
    files: &'a [Option<Arc<OpenFile>>],
    used: &'a [u64],
    close_on_exec: &'a [u64],
}

/// The copy is given up when this is dropped.
struct GivesUp<'a>(&'a FileTable);

impl Drop for GivesUp<'_> {
    fn drop(&mut self) {
        let copy = self.0.slots.lock().copy.take();
        drop(copy);
    }
}

impl FileTable {
    /// No descriptors.
    pub fn new() -> Arc<FileTable> {
        Arc::new(FileTable::default())
    }

    /// The same files under the same numbers, as they are at one moment: fork(2), and unshare(CLONE_FILES). Not to be given up: what
    /// was copied would have to be closed.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub async fn duplicate(&self) -> Result<TableUse> {
        match self.duplicate_few()? {
            Some(copy) => Ok(copy),
            None => self.duplicate_many().await,
        }
    }

    /// A copy, if there are not many slots.
    fn duplicate_few(&self) -> Result<Option<TableUse>> {
        if self.slots.lock().files.len() > FEW {
            return Ok(None);
        }
        let mut copy = self.room_for_copy()?;
        let slots = self.slots.lock();
        if slots.files.len() > copy.slots.files.len() {
            return Ok(None);
        }
        (0..slots.used.len()).for_each(|group| copy.take(slots.contents(), group));
        copy.slots.lowest_free = slots.lowest_free;
        drop(slots);
        Ok(Some(copy.finish()))
    }

    /// A copy that is made in slices. Who changes the table meanwhile copies what he changes first.
    async fn duplicate_many(&self) -> Result<TableUse> {
        let _turn = self.copying.lock().await;
        let groups = loop {
            let mut copy = Box::new(self.room_for_copy()?);
            let mut slots = self.slots.lock();
            if slots.files.len() <= copy.slots.files.len() {
                copy.slots.lowest_free = slots.lowest_free;
                slots.copy = Some(copy);
                break slots.used.len();
            }
        };
        let given_up = GivesUp(self);
        let mut budget = Budget::new();
        for group in 0..groups {
            self.slots.lock().before_change(group * GROUP);
            budget.pace(1).await;
        }
        let copy = self.slots.lock().copy.take();
        drop(given_up);
        copy.map(|copy| copy.finish()).ok_or(Errno::ENOMEM)
    }

    /// Room for a copy. Memory is not asked for under the lock; so the original may have grown afterwards.
    fn room_for_copy(&self) -> Result<Copying> {
        let wanted = self.slots.lock().files.len();
        let mut copy = Copying { slots: Slots::default(), copied: Vec::new() };
        copy.slots.grow_to(wanted)?;
        extend(&mut copy.copied, wanted.div_ceil(GROUP).div_ceil(u64::BITS as usize), 0)?;
        Ok(copy)
    }

    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn get(&self, descriptor: Descriptor) -> Result<Arc<OpenFile>> {
        slot(&self.slots.lock().files, descriptor).cloned().flatten().ok_or(Errno::EBADF)
    }

    /// Whether a descriptor still stands for `file`: it may have been closed by another thread since it was looked up.
    pub fn holds(&self, descriptor: Descriptor, file: &Arc<OpenFile>) -> bool {
        let slots = self.slots.lock();
        slots.files.get(descriptor as usize).is_some_and(|slot| slot.as_ref().is_some_and(|now| Arc::ptr_eq(now, file)))
    }

    /// Looks at many open files under one lock and without counting references: what poll(2) and select(2) do first.
    /// `act` must be quick and must not come back to the table.
    pub fn look<R>(&self, act: impl FnOnce(OpenFiles<'_>) -> R) -> R {
        act(OpenFiles(&self.slots.lock().files))
    }

    /// Gives a file the lowest free number. `limit` is `RLIMIT_NOFILE`.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub fn insert(&self, file: Arc<OpenFile>, close_on_exec: bool, limit: u64) -> Result<Descriptor> {
        self.insert_from(0, file, close_on_exec, limit)
    }

    /// Gives two files the lowest free numbers, or neither: pipe(2).
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
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
    /// `EINVAL` when `minimum` is beyond the limit, `EMFILE`, `ENOMEM`.
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
    /// `EBADF` when the number is beyond the limit, `ENOMEM`.
    pub fn replace(
        &self,
        descriptor: Descriptor,
        file: Arc<OpenFile>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Closing<'_>> {
        let index = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        if index as u64 >= limit {
            return Err(Errno::EBADF);
        }
        let mut slots = self.slots.lock();
        slots.grow_to(index + 1)?;
        let old = slots.remove(index);
        slots.put(index, file, close_on_exec);
        drop(slots);
        Ok(Closing { table: self, file: old, process: Pid::NOBODY })
    }

    /// Closes a descriptor, unless that takes long: false then, and nothing is done. `process` is told to files that want to know.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn close_quickly(&self, descriptor: Descriptor, process: Pid) -> Result<bool> {
        let index = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.lock();
        let file = slots.files.get(index).and_then(Option::as_ref).ok_or(Errno::EBADF)?;
        let locks = file.inode().locks().filter(|locks| locks.are_used());
        if locks.is_some_and(FileLocks::are_many) {
            return Ok(false);
        }
        // Who sets the first from here on finds the descriptor closed, and removes it himself.
        let has_locks = locks.is_some();
        let file = slots.remove(index).ok_or(Errno::EBADF)?;
        drop(slots);
        if has_locks {
            self.release_locks(&file);
        }
        tell_closed(&file, process);
        Ok(true)
    }

    /// Whether closing a descriptor takes long.
    pub fn closes_slowly(&self, descriptor: Descriptor) -> bool {
        let Ok(index) = usize::try_from(descriptor) else { return false };
        self.slots.lock().files.get(index).and_then(Option::as_ref).is_some_and(has_many_locks)
    }

    /// Closes a descriptor. `process` is told to files that want to know.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&self, descriptor: Descriptor, process: Pid) -> Result<Closing<'_>> {
        let index = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        let file = self.slots.lock().remove(index).ok_or(Errno::EBADF)?;
        Ok(Closing { table: self, file: Some(file), process })
    }

    /// Closes all descriptors from `first` to `last`: close_range(2).
    pub async fn close_range(&self, first: u32, last: u32, process: Pid) {
        let mut budget = Budget::new();
        let mut next = first as usize;
        while let Some((closed, closing)) = self.close_next(next, last, process) {
            closing.finish().await;
            next = closed + 1;
            budget.pace(1).await;
        }
    }

    /// Gives back the slots of a table in which nothing is open: to look at very many at its end would take long.
    async fn shrink(&self) {
        let mut budget = Budget::new();
        while self.shrink_some() {
            budget.pace(FEW / 64).await;
        }
    }

    fn shrink_some(&self) -> bool {
        let mut slots = self.slots.lock();
        let length = slots.files.len().saturating_sub(FEW);
        let none_used = slots.next_used(length).is_none();
        if none_used {
            slots.files.truncate(length);
        }
        none_used && length > 0
    }

    /// Closes the first descriptor in use of a range, and returns it.
    fn close_next(&self, from: usize, last: u32, process: Pid) -> Option<(usize, Closing<'_>)> {
        let mut slots = self.slots.lock();
        let index = slots.next_used(from).filter(|&index| index <= last as usize)?;
        let file = slots.remove(index);
        Some((index, Closing { table: self, file, process }))
    }

    /// Marks all descriptors from `first` to `last`: close_range(CLOSE_RANGE_CLOEXEC).
    pub async fn mark_range(&self, first: u32, last: u32) {
        let mut budget = Budget::new();
        let mut next = first as usize;
        while let Some(marked) = self.mark_next(next, last) {
            next = marked + 1;
            budget.pace(1).await;
        }
    }

    /// Marks the next descriptors in use of a range, those of one group, and returns the last of them.
    fn mark_next(&self, from: usize, last: u32) -> Option<usize> {
        let mut slots = self.slots.lock();
        let mut marked = None;
        let mut next = from;
        while let Some(index) = slots.next_used(next).filter(|&index| index <= last as usize)
            && marked.is_none_or(|marked| marked / GROUP == index / GROUP)
        {
            slots.before_change(index);
            set_bit(&mut slots.close_on_exec, index, true);
            marked = Some(index);
            next = index + 1;
        }
        marked
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
        slots.before_change(index);
        set_bit(&mut slots.close_on_exec, index, on);
        Ok(())
    }

    /// Closes what is marked for it: execve(2), whose process has the table for itself by then.
    pub async fn close_for_exec(&self, process: Pid) {
        let mut budget = Budget::new();
        let mut next = 0;
        while let Some((closed, closing)) = self.close_next_marked(next, process) {
            closing.finish().await;
            next = closed + 1;
            budget.pace(1).await;
        }
    }

    /// Closes the first descriptor from `from` on that is marked, and returns it.
    fn close_next_marked(&self, from: usize, process: Pid) -> Option<(usize, Closing<'_>)> {
        let mut slots = self.slots.lock();
        let index = next_bit(&slots.close_on_exec, from)?;
        let file = slots.remove(index);
        Some((index, Closing { table: self, file, process }))
    }

    /// Closes everything: exit(2).
    pub fn close_all(&self, process: Pid) {
        let mut next = 0;
        while let Some((closed, closing)) = self.close_next(next, u32::MAX, process) {
            drop(closing);
            next = closed + 1;
        }
    }

    /// The first descriptor in use from `from` on: `/proc/PID/fd`.
    pub fn next_open(&self, from: Descriptor) -> Option<Descriptor> {
        let from = usize::try_from(from).ok()?;
        self.slots.lock().next_used(from).and_then(|index| Descriptor::try_from(index).ok())
    }

    /// How many descriptors are in use.
    pub fn count(&self) -> usize {
        self.slots.lock().used.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many slots there are, used or not: `FDSize` in `/proc/PID/status`.
    pub fn capacity(&self) -> usize {
        self.slots.lock().used.len() * 64
    }

    /// Lets a closed file go.
    fn let_go(&self, file: Option<Arc<OpenFile>>, process: Pid) {
        let Some(file) = file else { return };
        self.release_locks(&file);
        tell_closed(&file, process);
    }

    /// As POSIX has it, closing a file drops the process's record locks on it, whatever other descriptors it has.
    fn release_locks(&self, file: &Arc<OpenFile>) {
        // What is open by name only was never in a position to lock.
        if !file.flags().contains(OpenFlags::PATH)
            && let Some(locks) = file.inode().locks()
        {
            locks.release(LockOwner::of_table(self));
        }
    }
}

fn tell_closed(file: &Arc<OpenFile>, process: Pid) {
    if file.traits().contains(FileTraits::TELL_CLOSED) {
        file.file().closed(process);
    }
}

/// Whether a file has so many locks that those of one owner are better removed in slices.
fn has_many_locks(file: &Arc<OpenFile>) -> bool {
    file.inode().locks().is_some_and(FileLocks::are_many)
}

/// A file that has left a table, and is let go when this is dropped. Its locks may be many: they go in slices when that is awaited.
#[must_use = "letting go of many locks takes long"]
pub struct Closing<'a> {
    table: &'a FileTable,
    file: Option<Arc<OpenFile>>,
    process: Pid,
}

impl Closing<'_> {
    /// Lets it go, others running meanwhile if that takes long.
    #[inline]
    pub async fn finish(self) {
        if self.file.as_ref().is_some_and(has_many_locks) {
            self.release_locks().await;
        }
    }

    async fn release_locks(&self) {
        if let Some(file) = &self.file
            && let Some(locks) = file.inode().locks()
        {
            if !file.flags().contains(OpenFlags::PATH) {
                locks.release_slowly(LockOwner::of_table(self.table)).await;
            }
            if Arc::strong_count(file) == 1 {
                locks.release_slowly(LockOwner::of_open_file(file)).await;
            }
        }
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.table.let_go(self.file.take(), self.process);
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        let files = core::mem::take(&mut self.slots.get_mut().files);
        files.into_iter().for_each(|file| self.let_go(file, Pid::NOBODY));
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
        self.grow_to(index + 1)?;
        Ok(index)
    }

    fn contents(&self) -> Contents<'_> {
        Contents { files: &self.files, used: &self.used, close_on_exec: &self.close_on_exec }
    }

    /// A slot is about to change: a copy that is being made gets it as it was.
    #[inline]
    fn before_change(&mut self, index: usize) {
        if let Some(copy) = &mut self.copy {
            let contents = Contents { files: &self.files, used: &self.used, close_on_exec: &self.close_on_exec };
            copy.take(contents, index / GROUP);
        }
    }

    /// Makes room for at least so many descriptors.
    fn grow_to(&mut self, count: usize) -> Result<()> {
        if count > self.files.len() {
            let words = count.div_ceil(64);
            extend(&mut self.used, words, 0)?;
            extend(&mut self.close_on_exec, words, 0)?;
            extend(&mut self.files, words * 64, None)?;
        }
        Ok(())
    }

    fn put(&mut self, index: usize, file: Arc<OpenFile>, close_on_exec: bool) {
        self.before_change(index);
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
        self.before_change(index);
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

/// Makes a list at least so long, at a cost that stays constant for each element however slowly it grows.
#[expect(clippy::disallowed_methods, reason = "room was made before")]
fn extend<T: Clone>(list: &mut Vec<T>, length: usize, value: T) -> Result<()> {
    fallible(|| list.try_reserve(length.saturating_sub(list.len()))).map_err(|_| Errno::ENOMEM)?;
    list.resize(length.max(list.len()), value);
    Ok(())
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
