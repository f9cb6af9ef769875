//! The threads of a process, the oldest first.
//!
//! Each knows its position in the list, so that leaving costs the same among thousands. Who leaves leaves a gap behind; when gaps
//! are more than half of the list, it closes up.

use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::memory::fallible;
use smallvec::SmallVec;

use crate::signal::attention;
use crate::{Pid, ThreadState};

/// The list closes up only from this length on.
const WORTH_CLOSING: usize = 16;

/// See the module's page.
#[derive(Default)]
pub(super) struct Threads {
    list: SmallVec<[Option<Arc<ThreadState>>; 1]>,
    /// How many there are, without the gaps.
    count: usize,
    /// Where the oldest is.
    oldest: usize,
    /// How far in the list they were told to end since that began.
    told: usize,
    /// How far they were told to look whether the process is stopped since that changed.
    nudged: usize,
    /// Somebody goes on to tell them.
    pub nudging: bool,
}

impl Threads {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<ThreadState>> {
        self.list.iter().flatten()
    }

    /// The oldest.
    #[inline]
    pub fn first(&self) -> Option<&Arc<ThreadState>> {
        self.list.get(self.oldest)?.as_ref()
    }

    /// Adds the youngest.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn add(&mut self, thread: Arc<ThreadState>) -> Result<()> {
        fallible(|| self.list.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
        thread.set_position(self.list.len());
        self.list.push(Some(thread));
        self.count += 1;
        Ok(())
    }

    /// Takes out a thread, if it is there.
    pub fn remove(&mut self, thread: &ThreadState) -> Option<Arc<ThreadState>> {
        let place = self.list.get_mut(thread.position())?;
        let gone = place.take_if(|other| core::ptr::eq(&**other, thread))?;
        self.count -= 1;
        while self.list.last().is_some_and(Option::is_none) {
            self.list.pop();
        }
        while self.list.get(self.oldest).is_some_and(Option::is_none) {
            self.oldest += 1;
        }
        if self.list.is_empty() {
            self.oldest = 0;
        }
        if self.list.len() > WORTH_CLOSING.max(2 * self.count) {
            self.close_up();
        }
        Some(gone)
    }

    /// Closes the gaps.
    fn close_up(&mut self) {
        let before = |end: usize| self.list.iter().take(end).flatten().count();
        (self.told, self.nudged, self.oldest) = (before(self.told), before(self.nudged), 0);
        self.list.retain(|thread| thread.is_some());
        self.iter().enumerate().for_each(|(position, thread)| thread.set_position(position));
        self.list.shrink_to_fit();
    }

    /// All are to be told to end, from the oldest on.
    pub fn begin_telling(&mut self) {
        self.told = 0;
    }

    /// Tells some more to end, but not `but`.
    pub fn tell(&mut self, most: usize, but: Option<Pid>) {
        let (threads, end) = self.next(self.told, most);
        for thread in threads.filter(|thread| Some(thread.tid()) != but) {
            thread.raise_attention(attention::EXIT);
            thread.task().interrupt();
        }
        self.told = end;
    }

    /// All are to look whether the process is stopped, from the oldest on.
    pub fn begin_nudging(&mut self) {
        self.nudged = 0;
    }

    /// Tells some more to look whether the process is stopped. True if others are left.
    pub fn nudge(&mut self, most: usize) -> bool {
        let (threads, end) = self.next(self.nudged, most);
        threads.for_each(|thread| thread.task().interrupt());
        self.nudged = end;
        end < self.list.len()
    }

    /// The threads from a position on, at most so many of the list's places, and the position behind them.
    fn next(&self, from: usize, most: usize) -> (impl Iterator<Item = &Arc<ThreadState>>, usize) {
        let end = self.list.len().min(from.saturating_add(most));
        (self.list.get(from..end).unwrap_or_default().iter().flatten(), end)
    }
}
