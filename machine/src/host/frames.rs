//! Frames of the host machines.
//!
//! The process sets one large range of addresses aside; each machine takes a part of it, its [`Zone`], and shows its memory
//! there: a sparse memfd, which the processes of its programs map too. So a frame's number says where the kernel finds it without
//! asking which machine it belongs to, and costs nothing before it is touched. The records lie in a second range, the
//! same way. Numbers are not used again when a machine ends: a frame that was forgotten can never come to mean another.
//!
//! A zone: first the arena that serves until a source is installed, then what [`usable`] offers. Frame 0 exists nowhere. The memory
//! the machine itself needs (the stubs' code, a page for each stub) lies before the frames in the file, and has no numbers.

use super::machine::{current, lock};
use crate::memory::{FrameRecord, FrameSource, MAX_ORDER, PAGE_SIZE};
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::{LazyLock, Mutex};

/// The most frames all machines of a process can have: 1 TiB of addresses.
const MOST_FRAMES: usize = 1 << 28;

/// Frames of the arena of a machine that runs programs: the kernel installs its source before it needs many.
const ARENA_FRAMES: usize = 2048;

/// Zones begin at multiples of the longest run.
const ALIGNMENT: usize = 1 << MAX_ORDER;

/// The ranges of addresses, and how much of them is taken.
struct Reservation {
    bytes: usize,
    records: usize,
    frames: usize,
    taken: Mutex<usize>,
}

static RESERVATION: LazyLock<Reservation> = LazyLock::new(|| {
    // A limit on addresses (ulimit -v) leaves us less, and the rest of the process needs some.
    let allowed = usize::try_from(limit(libc::RLIMIT_AS)).unwrap_or(usize::MAX) / 4 * 3;
    let mut frames = MOST_FRAMES.min(allowed / PAGE_SIZE);
    loop {
        let reserve = |length: usize| reserve(length).ok();
        if let Some(bytes) = reserve(frames * PAGE_SIZE)
            && let Some(records) = reserve(frames * size_of::<FrameRecord>())
        {
            return Reservation { bytes, records, frames, taken: Mutex::new(ALIGNMENT) };
        }
        frames /= 2;
        if frames < ALIGNMENT {
            return Reservation { bytes: 0, records: 0, frames: 0, taken: Mutex::new(0) };
        }
    }
});

/// Sets addresses aside.
fn reserve(length: usize) -> io::Result<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, at an address of the host's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start.expose_provenance()) }
}

/// The result of a call of the host that gives -1 for an error.
pub fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The frames of one machine.
pub struct Zone {
    /// None when the machine is over.
    memory: Mutex<Option<OwnedFd>>,
    own: Own,
    numbers: Range<usize>,
    arena: Range<usize>,
    /// The free blocks of the arena: first frame -> count.
    free: Mutex<BTreeMap<usize, usize>>,
}

impl Zone {
    /// A zone for a machine that runs programs, with `frames` frames for the kernel to hand out, and `own` pages for the machine itself.
    ///
    /// # Errors
    /// The host gives no memory or no addresses.
    pub fn for_programs(frames: usize, own: usize) -> io::Result<Zone> {
        Zone::with_own(frames + ARENA_FRAMES, own, ARENA_FRAMES)
    }

    /// A zone of `frames` frames of which `arena` serve before a source is installed.
    ///
    /// # Errors
    /// As [`Zone::for_programs`].
    pub fn new(frames: usize, arena: usize) -> io::Result<Zone> {
        Zone::with_own(frames, 0, arena)
    }

    fn with_own(frames: usize, own: usize, arena: usize) -> io::Result<Zone> {
        let start = {
            let mut taken = lock(&RESERVATION.taken);
            let end = taken.checked_add(frames.next_multiple_of(ALIGNMENT));
            let Some(end) = end.filter(|end| *end <= RESERVATION.frames) else {
                return Err(io::ErrorKind::OutOfMemory.into());
            };
            std::mem::replace(&mut *taken, end)
        };
        let memory = memory_file(own + frames)?;
        let own = Own::map(&memory, own * PAGE_SIZE)?;
        let records_length = ((start + frames) * size_of::<FrameRecord>()).next_multiple_of(PAGE_SIZE);
        // SAFETY: both ranges lie in our reservation. The bytes are a part that nobody else was given; records that are already
        // there stay as they are.
        unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let bytes = ptr::with_exposed_provenance_mut(RESERVATION.bytes + start * PAGE_SIZE);
            let offset = own.length as libc::off_t;
            if libc::mmap(bytes, frames * PAGE_SIZE, rights, flags, memory.as_raw_fd(), offset) == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            checked(libc::mprotect(record_address(0).cast(), records_length, rights))?;
        }
        let arena = start..start + arena;
        let zone = Zone {
            memory: Mutex::new(Some(memory)),
            own,
            numbers: start..start + frames,
            free: Mutex::new(BTreeMap::from([(arena.start, arena.len())])),
            arena,
        };
        // Fresh records say "free". What is not the source's to hand out must say otherwise.
        for number in start..zone.arena.end {
            // SAFETY: the record was just mapped, and nobody else has seen it.
            unsafe { record_address(number).write(FrameRecord::reserved()) };
        }
        Ok(zone)
    }

    /// A descriptor of the file: first the machine's own memory, then the frames.
    ///
    /// # Errors
    /// The machine is over, or there are too many descriptors.
    pub fn file(&self) -> io::Result<OwnedFd> {
        lock(&self.memory).as_ref().ok_or(io::ErrorKind::NotFound)?.try_clone()
    }

    /// Where a frame of the zone lies in the file.
    pub fn offset(&self, number: usize) -> usize {
        self.own.length + (number - self.numbers.start) * PAGE_SIZE
    }

    /// The machine's own memory, which begins the file. From [`Zone::release`] on touching it ends the process.
    pub fn own(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.own.address)
    }

    /// How many there are for the kernel to hand out, once it has installed its source.
    pub fn frames(&self) -> usize {
        self.numbers.end - self.arena.end
    }

    /// The zone's frames.
    pub fn contains(&self, number: usize) -> bool {
        self.numbers.contains(&number)
    }

    /// Gives the memory back to the host. Frames that somebody still has lose their bytes: touching them ends the process.
    pub fn release(&self) {
        // SAFETY: the zone's own ranges. No kernel runs on it any more, and its stubs are gone.
        unsafe {
            take_bytes_away(RESERVATION.bytes + self.numbers.start * PAGE_SIZE, self.numbers.len() * PAGE_SIZE);
            take_bytes_away(self.own.address, self.own.length);
        }
        *lock(&self.memory) = None;
    }
}

/// Memory of the machine's own.
struct Own {
    address: usize,
    length: usize,
}

impl Own {
    fn map(memory: &OwnedFd, length: usize) -> io::Result<Own> {
        if length == 0 {
            return Ok(Own { address: 0, length });
        }
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the host's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, rights, libc::MAP_SHARED, memory.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Own { address: start.expose_provenance(), length })
    }
}

/// Leaves nothing of a mapping but its addresses, which nobody else is given.
///
/// # Safety
/// Nobody may rely on the bytes any more.
unsafe fn take_bytes_away(address: usize, length: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    if length > 0 {
        // SAFETY: by contract of the caller.
        unsafe { libc::mmap(ptr::with_exposed_provenance_mut(address), length, libc::PROT_NONE, flags, -1, 0) };
    }
}

/// An unnamed file for `frames` frames, whose size is fixed.
fn memory_file(frames: usize) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string; the descriptor is new and ours.
    let memory = unsafe {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        OwnedFd::from_raw_fd(checked(libc::memfd_create(c"orrery memory".as_ptr(), flags))?)
    };
    let length = libc::off_t::try_from(frames * PAGE_SIZE).map_err(|_| io::ErrorKind::OutOfMemory)?;
    if !may_have_files_of(length as u64) {
        return Err(io::Error::from_raw_os_error(libc::EFBIG)); // trying would send a signal that ends us
    }
    // SAFETY: our own descriptor.
    unsafe {
        checked(libc::ftruncate(memory.as_raw_fd(), length))?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        checked(libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, seals))?;
    }
    Ok(memory)
}

/// Whether the limit on the size of files (ulimit -f) allows one so long.
fn may_have_files_of(length: u64) -> bool {
    limit(libc::RLIMIT_FSIZE) >= length
}

/// A limit of this process; infinite if there is none.
fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: fills the two numbers.
    unsafe { libc::getrlimit(resource, &mut limit) };
    limit.rlim_cur
}

/// Lets the process end with a word when the host has no memory for a frame the kernel touches. There is nothing else to be
/// done: the touch may be anywhere.
pub fn expect_shortage() {
    // SAFETY: the handler only makes calls that are safe in one. Nobody else's handler is replaced.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGBUS, ptr::null(), &mut action);
        if action.sa_sigaction != libc::SIG_DFL {
            return;
        }
        action.sa_sigaction = no_memory as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
    }
}

/// Handles `SIGBUS`: in our range it means that the host could not fill a page.
extern "C" fn no_memory(_signal: libc::c_int, information: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    const WORDS: &[u8] =
        b"orrery: the host has no memory left for the guest; give the guest less (--memory), or the host more\n";
    const FAILED: libc::c_int = 125;
    // SAFETY: the host hands over the information; writing and exiting are safe in a handler. Any other bus error happens again
    // when the handler returns, and ends the process as it would have.
    unsafe {
        let address = (*information).si_addr().addr().wrapping_sub(RESERVATION.bytes);
        if address < RESERVATION.frames * PAGE_SIZE {
            libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len());
            libc::_exit(FAILED);
        }
    }
}

fn record_address(number: usize) -> *mut FrameRecord {
    ptr::with_exposed_provenance_mut(RESERVATION.records + number * size_of::<FrameRecord>())
}

/// The records of all frames up to the end of this machine's.
pub fn records() -> &'static [FrameRecord] {
    let zone = &current().zone;
    // SAFETY: `with_own` mapped them, from the very first on, for as long as the process lives; zeros are valid records.
    unsafe { std::slice::from_raw_parts(record_address(0), zone.numbers.end) }
}

/// The record of a frame.
///
/// # Safety
/// `number` was found in [`records`].
#[inline]
pub unsafe fn record(number: u32) -> &'static FrameRecord {
    // SAFETY: by contract of the caller.
    unsafe { &*record_address(number as usize) }
}

/// The alias of a frame found in [`records`].
#[inline]
pub fn bytes(number: u32) -> *mut u8 {
    ptr::with_exposed_provenance_mut(RESERVATION.bytes + number as usize * PAGE_SIZE)
}

/// What a source may hand out.
pub fn usable() -> Vec<Range<usize>> {
    let zone = &current().zone;
    std::iter::once(zone.arena.end..zone.numbers.end).collect()
}

/// The source of this thread's machine.
#[inline]
pub fn source() -> Option<&'static dyn FrameSource> {
    current().source.get().copied()
}

/// Makes `source` the machine's; false if it has one.
pub fn install(source: &'static dyn FrameSource) -> bool {
    current().source.set(source).is_ok()
}

/// A run from the arena, owned once: first fit.
pub fn take_from_arena(order: u8) -> Option<NonZeroU32> {
    if order > MAX_ORDER {
        return None;
    }
    let count = 1_usize << order;
    let mut free = lock(&current().zone.free);
    let (block, length, first) = free.iter().find_map(|(&block, &length)| {
        let first = block.next_multiple_of(count);
        (first + count <= block + length).then_some((block, length, first))
    })?;
    free.remove(&block);
    if first > block {
        free.insert(block, first - block);
    }
    if first + count < block + length {
        free.insert(first + count, block + length - first - count);
    }
    records().iter().skip(first).take(count).for_each(FrameRecord::make_owned);
    NonZeroU32::new(first as u32)
}

/// Takes a run back. A frame of another machine is forgotten: its memory goes with that machine.
pub fn give_to_arena(first: u32, order: u8) {
    let zone = &current().zone;
    let mut start = first as usize;
    let mut length = 1_usize << order;
    if !zone.arena.contains(&start) {
        return;
    }
    let mut free = lock(&zone.free);
    if let Some((&before, &its)) = free.range(..start).next_back()
        && before + its == start
    {
        free.remove(&before);
        (start, length) = (before, its + length);
    }
    if let Some(its) = free.remove(&(start + length)) {
        length += its;
    }
    free.insert(start, length);
}

/// The arena of the host machine stays with it.
pub fn release_arena() {}

/// True if the frame does not go to the installed source: the arena's, and other machines'.
pub fn is_arena(number: u32) -> bool {
    let zone = &current().zone;
    zone.arena.contains(&(number as usize)) || !zone.contains(number as usize)
}
