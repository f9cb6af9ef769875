//! Memory calls: mmap(2), mprotect(2), mremap(2), madvise(2), msync(2), mlock(2).

use bitflags::bitflags;
use linux_raw_sys::general as raw;

bitflags! {
    /// What a program asks to be allowed to do with its pages: the `prot` argument of mmap(2) and mprotect(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u32 {
        /// `PROT_READ`
        const READ = raw::PROT_READ;
        /// `PROT_WRITE`
        const WRITE = raw::PROT_WRITE;
        /// `PROT_EXEC`
        const EXECUTE = raw::PROT_EXEC;
        /// `PROT_SEM`: accepted and without effect on x86
        const SEMAPHORE = raw::PROT_SEM;
        /// `PROT_GROWSDOWN`: mprotect(2) extends the change to the start of a growing area
        const GROWS_DOWN = raw::PROT_GROWSDOWN;
        /// `PROT_GROWSUP`: never valid on x86
        const GROWS_UP = raw::PROT_GROWSUP;
    }

    /// The `flags` argument of mmap(2). Bits Linux ignores may be present; keep them with `from_bits_retain`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// `MAP_SHARED`
        const SHARED = raw::MAP_SHARED;
        /// `MAP_PRIVATE`
        const PRIVATE = raw::MAP_PRIVATE;
        /// `MAP_FIXED`
        const FIXED = raw::MAP_FIXED;
        /// `MAP_ANONYMOUS`
        const ANONYMOUS = raw::MAP_ANONYMOUS;
        /// `MAP_32BIT`, where the architecture has it
        const LOW_2_GIB = crate::arch::MAP_32BIT;
        /// `MAP_GROWSDOWN`
        const GROWS_DOWN = raw::MAP_GROWSDOWN;
        /// `MAP_DENYWRITE`: ignored, as on Linux
        const DENY_WRITE = raw::MAP_DENYWRITE;
        /// `MAP_EXECUTABLE`: ignored, as on Linux
        const EXECUTABLE = raw::MAP_EXECUTABLE;
        /// `MAP_LOCKED`
        const LOCKED = raw::MAP_LOCKED;
        /// `MAP_NORESERVE`
        const NO_RESERVE = raw::MAP_NORESERVE;
        /// `MAP_POPULATE`
        const POPULATE = raw::MAP_POPULATE;
        /// `MAP_NONBLOCK`
        const NON_BLOCK = raw::MAP_NONBLOCK;
        /// `MAP_STACK`: no huge pages
        const STACK = raw::MAP_STACK;
        /// `MAP_HUGETLB`
        const HUGE_TLB = raw::MAP_HUGETLB;
        /// `MAP_SYNC`
        const SYNC = raw::MAP_SYNC;
        /// `MAP_FIXED_NOREPLACE`
        const FIXED_NO_REPLACE = raw::MAP_FIXED_NOREPLACE;
    }

    /// The `flags` argument of mremap(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RemapFlags: u32 {
        /// `MREMAP_MAYMOVE`
        const MAY_MOVE = raw::MREMAP_MAYMOVE;
        /// `MREMAP_FIXED`
        const FIXED = raw::MREMAP_FIXED;
        /// `MREMAP_DONTUNMAP`
        const DONT_UNMAP = raw::MREMAP_DONTUNMAP;
    }

    /// The `flags` argument of msync(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SyncFlags: u32 {
        /// `MS_ASYNC`
        const ASYNC = raw::MS_ASYNC;
        /// `MS_INVALIDATE`
        const INVALIDATE = raw::MS_INVALIDATE;
        /// `MS_SYNC`
        const SYNC = raw::MS_SYNC;
    }

    /// The `flags` argument of mlockall(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LockAllFlags: u32 {
        /// `MCL_CURRENT`
        const CURRENT = raw::MCL_CURRENT;
        /// `MCL_FUTURE`
        const FUTURE = raw::MCL_FUTURE;
        /// `MCL_ONFAULT`
        const ON_FAULT = raw::MCL_ONFAULT;
    }
}

impl MapFlags {
    /// The low bits that say how changes are shared: `MAP_SHARED`, `MAP_PRIVATE` or `MAP_SHARED_VALIDATE`.
    pub const TYPE: u32 = raw::MAP_TYPE;
    /// The type under which unknown flags are an error instead of being ignored.
    pub const SHARED_VALIDATE: u32 = raw::MAP_SHARED_VALIDATE;
}
