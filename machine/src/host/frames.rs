//! Frames of the host machines.
//!
//! The process sets one large range of addresses aside; each machine takes a part of it, its [`Zone`], and shows its memory
//! there: a sparse memfd, which the processes of its programs map too. So a frame's number says where the kernel finds it without
//! asking which machine it belongs to, and costs nothing before it is touched. The records lie in a second range, the
//! same way. Numbers are not used again when a machine ends: a frame that was forgotten can never come to mean another.
//!
//! A zone: first the arena that serves until a source is installed, then what [`usable`] offers. Frame 0 exists nowhere. The memory
//! the machine itself needs (the stubs' code, a page for each stub) lies before the frames in the file, and has no numbers.
//!
//! Miri, which knows no mappings of files, runs all this over one piece of ordinary memory instead.

use super::machine::{current, lock};
use crate::memory::{FrameRecord, FrameSource, MAX_ORDER, PAGE_SIZE};
use setup::host;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::{LazyLock, Mutex};

/// The most frames all machines of a process can have: 1 TiB of addresses. Miri has them in ordinary memory.
pub const MOST_FRAMES: usize = if cfg!(miri) { 1 << 12 } else { 1 << 28 };

/// Frames of the arena of a machine that runs programs: the kernel installs its source before it needs many.
const ARENA_FRAMES: usize = 4096;

/// Zones begin at multiples of the longest run.
pub const ALIGNMENT: usize = 1 << MAX_ORDER;

/// Addresses for the kernel's heap for each frame: those of its own, and as many for memory of frames that are no neighbours.
pub const HEAP_BYTES_PER_FRAME: usize = 2 * PAGE_SIZE;

/// The ranges of addresses, and how much of them is taken.
struct Reservation {
    bytes: usize,
    records: usize,
    /// For the machines' heaps, see [`heap_memory`].
    heap: usize,
    frames: usize,
    taken: Mutex<usize>,
}

static RESERVATION: LazyLock<Reservation> = LazyLock::new(|| {
    // A limit on addresses (ulimit -v) leaves us less, and the rest of the process needs some.
    let allowed = if cfg!(miri) { usize::MAX } else { host::address_limit() } / 5 * 4;
    let mut frames = MOST_FRAMES.min(allowed / (PAGE_SIZE + HEAP_BYTES_PER_FRAME + size_of::<FrameRecord>()));
    loop {
        // One range for all three: a part that the host refuses is not left behind.
        let (bytes, heap) = (frames * PAGE_SIZE, frames * HEAP_BYTES_PER_FRAME);
        if let Ok(start) = reserve(bytes + heap + frames * size_of::<FrameRecord>()) {
            let (heap, records) = (start + bytes, start + bytes + heap);
            return Reservation { bytes: start, records, heap, frames, taken: Mutex::new(ALIGNMENT) };
        }
        frames /= 2;
        if frames < ALIGNMENT {
            return Reservation { bytes: 0, records: 0, heap: 0, frames: 0, taken: Mutex::new(0) };
        }
    }
});

/// Sets addresses aside.
fn reserve(length: usize) -> io::Result<usize> {
    if cfg!(miri) {
        let layout = Layout::from_size_align(length, PAGE_SIZE).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the length is not 0.
        return Ok(unsafe { System.alloc_zeroed(layout) }.expose_provenance());
    }
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
    arena_state: Mutex<ArenaState>,
}

/// Which of the arena's frames are taken, and how many. It needs no memory while it serves the heap.
struct ArenaState {
    frames: Box<[bool]>,
    taken: usize,
    /// No frame before this one is free.
    first_free: usize,
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
        let numbers = start..start + frames;
        let mut own_memory = Own { address: 0, length: own * PAGE_SIZE };
        let memory = if cfg!(miri) { None } else { Some(host::memory_file(((own + frames) * PAGE_SIZE) as u64)?) };
        if let Some(memory) = &memory {
            own_memory = Own::map(memory, own_memory.length)?;
            show(memory, own_memory.length, numbers.clone())?;
        }
        let zone = Zone {
            memory: Mutex::new(memory),
            own: own_memory,
            numbers,
            arena_state: Mutex::new(ArenaState { frames: vec![false; arena].into(), taken: 0, first_free: 0 }),
            arena: start..start + arena,
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

    /// Where a frame lies in the file. None if it is another machine's.
    pub fn offset(&self, number: usize) -> Option<usize> {
        self.contains(number).then(|| self.own.length + (number - self.numbers.start) * PAGE_SIZE)
    }

    /// Whether nothing but frames lies at these bytes of the file.
    pub fn has(&self, offset: usize, length: usize) -> bool {
        let end = self.own.length + self.numbers.len() * PAGE_SIZE;
        offset >= self.own.length && offset <= end && length <= end - offset
    }

    /// The machine's own memory, which begins the file. From [`Zone::release`] on touching it ends the process.
    pub fn own(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.own.address)
    }

    /// How many there are for the kernel to hand out, once it has installed its source.
    pub fn frames(&self) -> usize {
        self.numbers.end - self.arena.end
    }

    /// The frames' numbers.
    pub fn numbers(&self) -> Range<usize> {
        self.numbers.clone()
    }

    /// Gives the host back what it holds for frames that have no owner but the caller. What they hold is lost. A host that does
    /// not do it keeps the memory.
    pub fn empty(&self, first: usize, count: usize) {
        if let (Some(memory), Some(offset)) = (lock(&self.memory).as_ref(), self.offset(first)) {
            let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            let (offset, length) = (offset as libc::off_t, (count * PAGE_SIZE) as libc::off_t);
            // SAFETY: the frames are the caller's alone.
            unsafe { libc::fallocate(memory.as_raw_fd(), how, offset, length) };
        }
    }

    /// Free frames of the arena.
    pub fn arena_left(&self) -> usize {
        self.arena.len() - lock(&self.arena_state).taken
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

/// Shows the frames of a new zone where their numbers say: they begin at `offset` of the file. Their records and the heap's addresses
/// become usable.
fn show(memory: &OwnedFd, offset: usize, numbers: Range<usize>) -> io::Result<()> {
    let records_length = (numbers.end * size_of::<FrameRecord>()).next_multiple_of(PAGE_SIZE);
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let (bytes, length) = (RESERVATION.bytes + numbers.start * PAGE_SIZE, numbers.len() * PAGE_SIZE);
    let bytes = ptr::with_exposed_provenance_mut(bytes);
    // SAFETY: all ranges lie in our reservation. The bytes are a part that nobody else was given; records that are already
    // there stay as they are.
    unsafe {
        if libc::mmap(bytes, length, rights, flags, memory.as_raw_fd(), offset as libc::off_t) == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        checked(libc::mprotect(record_address(0).cast(), records_length, rights))?;
        let heap = heap_memory(numbers);
        let length = heap.len();
        let heap = ptr::with_exposed_provenance_mut(heap.start);
        checked(libc::mprotect(heap, length, rights))?;
        // Memory is what was asked for, page by page. Hosts without large pages refuse, and need not be told.
        libc::madvise(heap, length, libc::MADV_NOHUGEPAGE);
    }
    Ok(())
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

/// Frames that all zones can have.
pub fn reserved() -> usize {
    RESERVATION.frames
}

/// The addresses for the heap of a machine with these frames: first the frames' own, in order, then as many more. The memory there is
/// the process's own, not the file's: no program's process could ever map it.
pub fn heap_memory(numbers: Range<usize>) -> Range<usize> {
    let of = |number: usize| RESERVATION.heap + number * HEAP_BYTES_PER_FRAME;
    of(numbers.start)..of(numbers.end)
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

/// A run from the arena, owned once: first fit. Called by the heap: it may not allocate.
pub fn take_from_arena(order: u8) -> Option<NonZeroU32> {
    if order > MAX_ORDER {
        return None;
    }
    let zone = &current().zone;
    let state = &mut *lock(&zone.arena_state);
    // The arena begins where the longest run may.
    let mut runs = state.frames.chunks_exact_mut(1 << order).enumerate().skip(state.first_free >> order);
    let (index, run) = runs.find(|(_, run)| !run.contains(&true))?;
    run.fill(true);
    state.taken += 1 << order;
    if order == 0 {
        state.first_free = index + 1;
    }
    let first = zone.arena.start + (index << order);
    records().iter().skip(first).take(1 << order).for_each(FrameRecord::make_owned);
    NonZeroU32::new(first as u32)
}

/// Takes a run back. A frame of another machine is forgotten: its memory goes with that machine.
pub fn give_to_arena(first: u32, order: u8) {
    let zone = &current().zone;
    if zone.arena.contains(&(first as usize)) {
        let start = first as usize - zone.arena.start;
        let state = &mut *lock(&zone.arena_state);
        state.first_free = state.first_free.min(start);
        for frame in state.frames.iter_mut().skip(start).take(1 << order) {
            state.taken -= usize::from(std::mem::take(frame));
        }
    }
}

/// The arena of the host machine stays with it.
pub fn release_arena() {}

/// True if the frame does not go to the installed source: the arena's, and other machines'.
pub fn is_arena(number: u32) -> bool {
    let zone = &current().zone;
    zone.arena.contains(&(number as usize)) || !zone.contains(number as usize)
}

#[cfg(test)]
mod tests {
    use super::super::machine::Configuration;
    use super::*;
    use crate::memory::{Access, Frame, OutOfMemory, Space};
    use crate::power;

    /// A frame of this test's own machine, and one of a machine that ran later, whose numbers are above.
    static LENT: Mutex<Vec<Frame>> = Mutex::new(Vec::new());

    fn refuse(frame: &Frame) {
        let zone = &current().zone;
        assert!(!zone.contains(frame.number()) && zone.offset(frame.number()).is_none());
        let space = Space::new().unwrap();
        assert_eq!(space.map(0x40_0000_usize, frame.clone(), Access::READ), Err(OutOfMemory));
        assert_eq!(space.resident(), 0);
    }

    #[test]
    fn frames_of_another_machine_are_refused() {
        lock(&LENT).push(Frame::zeroed().unwrap());
        let configuration = || Configuration { cpus: 1, memory: 32 << 20, ..Configuration::default() };
        let status = super::super::run(configuration(), || {
            let own = Frame::zeroed().unwrap();
            let zone = &current().zone;
            assert_eq!(
                zone.offset(own.number()),
                Some(zone.own.length + (own.number() - zone.numbers.start) * PAGE_SIZE)
            );
            assert!(zone.offset(zone.numbers.end).is_none() && zone.offset(zone.numbers.start - 1).is_none());
            let lent = lock(&LENT).first().cloned().unwrap();
            refuse(&lent); // lies below
            lock(&LENT).push(own);
            power::off(0)
        });
        assert_eq!(status.unwrap(), 0);
        let later = lock(&LENT).pop().unwrap();
        refuse(&later); // lies above
    }
}
