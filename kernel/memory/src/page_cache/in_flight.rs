//! What a file's backing is doing at this moment: which pages are being read, how many requests it has, and whether the file is
//! being cut.
//!
//! ```text
//!                 begin_read                 up to date
//!   not here  ------------------>  reading ------------------>  in the tree, clean
//!      ^   ^                        |    |                        |  ^        |
//!      |   '------ cut, or written -'    | failed                 |  | clean  | written to
//!      |                                 v                        |  |        v
//!      '--------------- told once ---- failed     under write-back <------- dirty
//! ```
//!
//! A read that is overtaken (its pages were cut off, or written as a whole) ends for nobody: its frames are no longer those noted
//! here, and are dropped.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

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
    /// Pages whose read failed, and who asked has not been told yet.
    failed: BTreeSet<u64>,
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
        reads.failed.remove(&index);
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

    /// Whoever waits for the page is to be told that it can't be read.
    pub fn fail(&mut self, index: u64) {
        // bounded: by those who wait
        self.reads.get_or_insert_default().failed.insert(index);
    }

    /// Whether the page could not be read; said once.
    pub fn take_failure(&mut self, index: u64) -> bool {
        self.reads.as_mut().is_some_and(|reads| reads.failed.remove(&index))
    }

    /// The page comes from elsewhere: what is being read is for nobody.
    pub fn overtake(&mut self, index: u64) {
        if let Some(reads) = &mut self.reads {
            reads.under_way.remove(&index);
            reads.failed.remove(&index);
        }
    }

    /// The same for all pages from `first` on.
    pub fn overtake_from(&mut self, first: u64) {
        if let Some(reads) = &mut self.reads {
            reads.under_way.split_off(&first);
            reads.failed.split_off(&first);
        }
    }
}
