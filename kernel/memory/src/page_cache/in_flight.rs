//! What a file's backing is doing at this moment: which pages are being read, how many requests it has, and whether the file is
//! being cut.
//!
//! ```text
//!                 begin_read                 up to date
//!   not here  ------------------>  reading ------------------>  in the tree, clean
//!      ^   ^                        |    |                        |  ^        |
//!      |   '------ cut, or written -'    | failed                 |  | clean  | written to
//!      |                                 v                        |  |        v
//!      '------- told to who waits ---- failed     under write-back <------- dirty
//! ```
//!
//! A read that is overtaken (its pages were cut off, or written as a whole) ends for nobody: its frames are no longer those noted
//! here, and are dropped.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::pager::PagerError;

/// See the module's page.
#[derive(Default)]
pub(super) struct InFlight {
    /// None until the first page is read: a file in RAM never has it.
    reads: Option<Box<Reads>>,
    /// Requests the backing has not completed.
    pub requests: usize,
    /// What is to become of the end of the file.
    pub cut: CutState,
}

/// The reads of a file.
#[derive(Default)]
struct Reads {
    /// The pages that are being read, each with the number of the frame that is filled.
    under_way: BTreeMap<u64, usize>,
    /// The pages somebody waits for.
    watched: BTreeMap<u64, Watched>,
}

/// A page somebody waits for.
#[derive(Default)]
struct Watched {
    /// By how many.
    by: usize,
    /// How often its read failed since the first of them came.
    failures: u32,
}

/// How far a change of the length has come in the backing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CutState {
    /// There is none.
    #[default]
    None,
    /// The pages are gone from the cache. The backing is told when it has nothing else to do with the file, and begins nothing new.
    Waiting(u64),
    /// The backing is at it.
    Begun,
    /// It is done, or failed.
    Ended(Result<(), PagerError>),
}

impl InFlight {
    /// Whether the page is being read.
    pub fn is_read(&self, index: u64) -> bool {
        self.reads.as_ref().is_some_and(|reads| reads.under_way.contains_key(&index))
    }

    /// Whether no request may begin.
    pub fn is_cutting(&self) -> bool {
        self.cut != CutState::None
    }

    /// The page is being read into this frame.
    pub fn begin_read(&mut self, index: u64, frame: usize) {
        let reads = self.reads.get_or_insert_default();
        // bounded: by what is read ahead, and by the frames there are
        reads.under_way.insert(index, frame);
    }

    /// The read of the page into this frame ended. True if it still counts.
    pub fn end_read(&mut self, index: u64, frame: usize) -> bool {
        let Some(reads) = &mut self.reads else { return false };
        let counts = reads.under_way.get(&index) == Some(&frame);
        if counts {
            reads.under_way.remove(&index);
        }
        counts
    }

    /// The page could not be read: who waits for it is told.
    pub fn fail(&mut self, index: u64) {
        if let Some(watched) = self.reads.as_mut().and_then(|reads| reads.watched.get_mut(&index)) {
            watched.failures = watched.failures.wrapping_add(1);
        }
    }

    /// Somebody waits for the page from now on. Returns what [`unwatch`](Self::unwatch) wants.
    pub fn watch(&mut self, index: u64) -> u32 {
        // bounded: by those who wait
        let watched = self.reads.get_or_insert_default().watched.entry(index).or_default();
        watched.by += 1;
        watched.failures
    }

    /// He doesn't any more. Whether the page could not be read since.
    pub fn unwatch(&mut self, index: u64, since: u32) -> bool {
        let Some(reads) = &mut self.reads else { return false };
        let Some(watched) = reads.watched.get_mut(&index) else { return false };
        let has_failed = watched.failures != since;
        watched.by -= 1;
        if watched.by == 0 {
            reads.watched.remove(&index);
        }
        has_failed
    }

    /// The page comes from elsewhere: what is being read is for nobody.
    pub fn overtake(&mut self, index: u64) {
        if let Some(reads) = &mut self.reads {
            reads.under_way.remove(&index);
        }
    }

    /// The same for all pages from `first` on.
    pub fn overtake_from(&mut self, first: u64) {
        if let Some(reads) = &mut self.reads {
            reads.under_way.split_off(&first);
        }
    }
}
