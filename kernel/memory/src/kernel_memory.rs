//! What all address spaces of one kernel share.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use abi::Errno;
use machine::memory::{Frame, FrameSource};

use sync::RwSpinLock;

use crate::discard::Discards;
use crate::family::Families;
use crate::frames::FrameAllocator;
use crate::oom::{Cache, OomKiller};
use crate::swap::Swap;
use crate::vdso::Vdso;

/// The memory of a kernel: its frames, the page of zeros everybody reads, and how much has been promised.
pub struct Memory {
    frames: Arc<FrameAllocator>,
    zero: Frame,
    randomise: AtomicBool,
    committed: AtomicUsize,
    file_pages: AtomicU64,
    next_space: AtomicU64,
    oom_killer: RwSpinLock<Option<Arc<dyn OomKiller>>>,
    caches: RwSpinLock<Vec<Weak<dyn Cache>>>,
    discards: Discards,
    families: Arc<Families>,
    swap: Arc<Swap>,
    vdso: Option<Vdso>,
}

impl Memory {
    /// Takes charge of the machine's frames. Once, at boot. `ENOMEM` if there is not a single one.
    pub fn new() -> Result<Arc<Memory>, Errno> {
        let frames = FrameAllocator::new();
        machine::memory::install(frames.clone());
        Memory::over(frames)
    }

    /// The memory whose frames these are, which the machine has by now.
    pub(crate) fn over(frames: Arc<FrameAllocator>) -> Result<Arc<Memory>, Errno> {
        Ok(Arc::new(Memory {
            frames,
            zero: Frame::zeroed().ok_or(Errno::ENOMEM)?,
            randomise: AtomicBool::new(true),
            committed: AtomicUsize::new(0),
            file_pages: AtomicU64::new(0),
            next_space: AtomicU64::new(1),
            oom_killer: RwSpinLock::new(None),
            caches: RwSpinLock::default(),
            discards: Discards::default(),
            families: Arc::default(),
            swap: Arc::default(),
            vdso: Vdso::new(),
        }))
    }

    /// The allocator, for its statistics.
    pub fn frames(&self) -> &Arc<FrameAllocator> {
        &self.frames
    }

    pub(crate) fn discards(&self) -> &Discards {
        &self.discards
    }

    /// What of programs lies elsewhere.
    #[inline]
    pub(crate) fn swap(&self) -> &Arc<Swap> {
        &self.swap
    }

    pub(crate) fn families(&self) -> &Arc<Families> {
        &self.families
    }

    /// Whether only the kernel's reserve is left, even when what nobody needs any more is freed first.
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        self.frames.is_scarce() && self.stays(FrameAllocator::is_scarce)
    }

    /// Whether so little is left that no new process should begin. As [`Memory::is_scarce`].
    pub fn is_low(&self) -> bool {
        self.frames.is_low() && self.stays(FrameAllocator::is_low)
    }

    #[cold]
    fn stays(&self, short: impl Fn(&FrameAllocator) -> bool) -> bool {
        // A few slices: what is shared gives nothing back.
        for _ in 0..4 {
            if !self.free_slice() {
                break;
            }
            if !short(&self.frames) {
                return false;
            }
        }
        true
    }

    /// Who makes room when memory is out. Without anybody, what needs memory fails.
    pub fn set_rescue(&self, oom_killer: Arc<dyn OomKiller>) {
        *self.oom_killer.write() = Some(oom_killer);
    }

    pub(crate) fn oom_killer(&self) -> Option<Arc<dyn OomKiller>> {
        self.oom_killer.read().clone()
    }

    /// Who keeps pages that can be had again.
    pub(crate) fn caches(&self) -> &RwSpinLock<Vec<Weak<dyn Cache>>> {
        &self.caches
    }

    /// Whether new programs get their stack, mappings and heap at random places (boot option `norandmaps`,
    /// /proc/sys/kernel/randomize_va_space).
    pub fn set_randomise(&self, on: bool) {
        self.randomise.store(on, Ordering::Relaxed);
    }

    /// As set by [`Memory::set_randomise`]; on at boot.
    pub fn randomise(&self) -> bool {
        self.randomise.load(Ordering::Relaxed)
    }

    /// Pages that programs were promised: Committed_AS in /proc/meminfo.
    pub fn committed(&self) -> usize {
        self.committed.load(Ordering::Relaxed)
    }

    /// Linux's heuristic overcommit (mode 0): only what could never be backed is refused.
    pub(crate) fn may_commit(&self, pages: usize) -> Result<(), Errno> {
        if pages > self.frames.total_frames() { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Replaces a promise of `before` pages by one of `after`.
    #[inline]
    pub(crate) fn recommit(&self, before: usize, after: usize) {
        if before != after {
            self.committed.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// Pages of files in RAM, shared memory included: Cached in /proc/meminfo.
    pub fn file_pages(&self) -> u64 {
        self.file_pages.load(Ordering::Relaxed)
    }

    pub(crate) fn add_file_page(&self) {
        self.file_pages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_file_pages(&self, pages: u64) {
        self.file_pages.fetch_sub(pages, Ordering::Relaxed);
    }

    /// A page of zeros for a program; none if only the kernel's reserve is left.
    #[inline]
    pub(crate) fn zeroed(&self) -> Option<Frame> {
        if self.is_scarce() { None } else { Frame::zeroed() }
    }

    /// A copy of a page for a program, as [`Memory::zeroed`].
    #[inline]
    pub(crate) fn copy_of(&self, frame: &Frame) -> Option<Frame> {
        if self.is_scarce() { None } else { Frame::copy_of(frame) }
    }

    /// The page of zeros.
    #[inline]
    pub(crate) fn zero(&self) -> &Frame {
        &self.zero
    }

    /// The vDSO, if there was memory for it.
    pub(crate) fn vdso(&self) -> Option<&Vdso> {
        self.vdso.as_ref()
    }

    /// A number no other address space has.
    pub(crate) fn next_space(&self) -> u64 {
        self.next_space.fetch_add(1, Ordering::Relaxed)
    }
}
