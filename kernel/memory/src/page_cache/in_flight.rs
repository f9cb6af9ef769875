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

use alloc::collections::{BTreeMap, BTreeSet};

use crate::pager::PagerError;

/// See the module's page.
#[derive(Default)]
pub(super) struct InFlight {
    /// The pages that are being read, each with the number of the frame that is filled.
    reading: BTreeMap<u64, usize>,
    /// Pages whose read failed, and who asked has not been told yet.
    failed: BTreeSet<u64>,
    /// Requests the backing has not completed.
    pub requests: usize,
    /// What is to become of the end of the file.
    pub cut: CutState,
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
        self.reading.contains_key(&index)
    }

    /// Whether no request may begin.
    pub fn is_cutting(&self) -> bool {
        self.cut != CutState::None
    }

    /// The page is being read into this frame.
    pub fn begin_read(&mut self, index: u64, frame: usize) {
        // bounded: by what is read ahead, and by the frames there are
        self.reading.insert(index, frame);
        self.failed.remove(&index);
    }

    /// The read of the page into this frame ended. True if it still counts.
    pub fn end_read(&mut self, index: u64, frame: usize) -> bool {
        if self.reading.get(&index) != Some(&frame) {
            return false;
        }
        self.reading.remove(&index);
        true
    }

    /// Whoever waits for the page is to be told that it can't be read.
    pub fn fail(&mut self, index: u64) {
        // bounded: by those who wait
        self.failed.insert(index);
    }

    /// Whether the page could not be read; said once.
    pub fn take_failure(&mut self, index: u64) -> bool {
        self.failed.remove(&index)
    }

    /// The page comes from elsewhere: what is being read is for nobody.
    pub fn overtake(&mut self, index: u64) {
        self.reading.remove(&index);
        self.failed.remove(&index);
    }

    /// The same for all pages from `first` on.
    pub fn overtake_from(&mut self, first: u64) {
        self.reading.split_off(&first);
        self.failed.split_off(&first);
    }
}
