//! The room's tests, a file a topic, on the host machine's frames and spaces.

mod access;
mod areas;
mod backed;
mod cache;
mod calls;
mod faults;
mod forks;
mod frames;

mod long;
mod maps;
mod reverse_map;
mod shortage;
mod stored;
mod swap;
mod vdso;

use core::future::Future;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use abi::Errno;
use abi::memory::{MapFlags, Protection};
use machine::memory::FrameSource;

use crate::{
    Access, AddressSpace, Backing, FileIdentity, FrameAllocator, Limits, MapRequest, MappedFile, Memory, PAGE_SIZE,
    PageBudget, PageCache, Source,
};

pub const PAGE: usize = PAGE_SIZE;
pub const READ: Protection = Protection::READ;
pub const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);
pub const PRIVATE: MapFlags = MapFlags::PRIVATE;
pub const FIXED: MapFlags = MapFlags::PRIVATE.union(MapFlags::FIXED);

/// The frames, of which so many more are handed out: as if others took the rest at that moment.
struct Store {
    frames: Arc<FrameAllocator>,
    left: AtomicUsize,
}

/// The frames are handed out as long as there are any.
pub const ALL: usize = usize::MAX;

impl FrameSource for Store {
    fn allocate(&self, order: u8) -> Option<usize> {
        let one_less = |left: usize| if left == ALL { Some(ALL) } else { left.checked_sub(1) };
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
        self.frames.allocate(order)
    }
    fn free(&self, first: usize, order: u8) {
        self.frames.free(first, order);
    }
    fn free_frames(&self) -> usize {
        self.frames.free_frames()
    }
    fn total_frames(&self) -> usize {
        self.frames.total_frames()
    }
    fn has_room_for(&self, frames: usize) -> bool {
        self.frames.has_room_for(frames)
    }
}

/// The kernel memory of this process, for one test at a time: they count frames.
pub struct Kernel {
    pub memory: &'static Arc<Memory>,
    store: &'static Store,
    _alone: MutexGuard<'static, ()>,
}

pub fn kernel() -> Kernel {
    static ALONE: Mutex<()> = Mutex::new(());
    static MEMORY: OnceLock<(Arc<Memory>, Arc<Store>)> = OnceLock::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (memory, store) = MEMORY.get_or_init(|| {
        let frames = FrameAllocator::new();
        let store = Arc::new(Store { frames: frames.clone(), left: AtomicUsize::new(ALL) });
        machine::memory::install(store.clone());
        let memory = Memory::over(frames).unwrap();
        memory.set_randomise(false);
        (memory, store)
    });
    store.left.store(ALL, Ordering::Relaxed);
    Kernel { memory, store, _alone: alone }
}

impl Kernel {
    /// Refuses frames after so many more, or [`ALL`].
    pub fn allow(&self, frames: usize) {
        self.store.left.store(frames, Ordering::Relaxed);
    }

    pub fn space(&self) -> Arc<AddressSpace> {
        self.space_with(Limits::default())
    }

    pub fn space_with(&self, limits: Limits) -> Arc<AddressSpace> {
        AddressSpace::new(self.memory, limits, 7).unwrap()
    }

    pub fn budget(&self) -> Arc<PageBudget> {
        PageBudget::new(self.memory, u64::MAX)
    }

    pub fn free(&self) -> usize {
        self.memory.frames().free_frames()
    }
}

/// Runs a future to its end, by polling.
pub fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("the future never became ready");
}

struct Named;

impl FileIdentity for Named {
    fn path(&self) -> Result<Vec<u8>, abi::Errno> {
        Ok(b"/bin/test".to_vec())
    }
    fn device(&self) -> (u32, u32) {
        (8, 1)
    }
    fn inode(&self) -> u64 {
        42
    }
}

/// A file of `pages` pages; page i is filled with the byte i + 1.
pub fn file(kernel: &Kernel, pages: usize) -> (Arc<PageCache>, Arc<MappedFile>) {
    let cache = Arc::new(PageCache::new(kernel.budget()));
    let bytes: Vec<u8> = (0..pages * PAGE).map(|at| (at / PAGE + 1) as u8).collect();
    cache.write_at(0, &mut Source::kernel(&bytes)).unwrap();
    let file = MappedFile {
        pager: cache.clone(),
        identity: Arc::new(Named),
        readable: true,
        writable: true,
        executable: true,
    };
    (cache, Arc::new(file))
}

pub trait Shortcuts {
    fn anonymous(&self, address: usize, pages: usize, protection: Protection, flags: MapFlags) -> Result<usize, Errno>;
    fn map_file(
        &self,
        address: usize,
        pages: usize,
        protection: Protection,
        flags: MapFlags,
        file: &Arc<MappedFile>,
        first: u64,
    ) -> Result<usize, Errno>;
    fn byte(&self, address: usize) -> Result<u8, Errno>;
    fn set_byte(&self, address: usize, value: u8) -> Result<(), Errno>;
    /// The areas as lines: start and end in pages from `base`, rights, kind.
    fn lines(&self, base: usize) -> Vec<String>;
}

impl Shortcuts for AddressSpace {
    fn anonymous(&self, address: usize, pages: usize, protection: Protection, flags: MapFlags) -> Result<usize, Errno> {
        let flags = flags | MapFlags::ANONYMOUS;
        self.map(&MapRequest { address, length: pages * PAGE, protection, flags, backing: Backing::Anonymous })
    }

    fn map_file(
        &self,
        address: usize,
        pages: usize,
        protection: Protection,
        flags: MapFlags,
        file: &Arc<MappedFile>,
        first: u64,
    ) -> Result<usize, Errno> {
        let backing = Backing::File { file: file.clone(), offset: first * PAGE as u64 };
        self.map(&MapRequest { address, length: pages * PAGE, protection, flags, backing })
    }

    fn byte(&self, address: usize) -> Result<u8, Errno> {
        wait(self.read_value::<u8>(address))
    }

    fn set_byte(&self, address: usize, value: u8) -> Result<(), Errno> {
        wait(self.write_value(address, &value))
    }

    fn lines(&self, base: usize) -> Vec<String> {
        self.areas()
            .map(|area| {
                let right = |right, letter| if area.access.contains(right) { letter } else { '-' };
                format!(
                    "{}-{} {}{}{}{}{}",
                    (area.range.start - base) / PAGE,
                    (area.range.end - base) / PAGE,
                    right(Access::READ, 'r'),
                    right(Access::WRITE, 'w'),
                    right(Access::EXECUTE, 'x'),
                    if area.shared { 's' } else { 'p' },
                    if area.file.is_some() { format!(" @{}", area.offset as usize / PAGE) } else { String::new() },
                )
            })
            .collect()
    }
}
