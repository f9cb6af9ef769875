//! The program's extended state: x87, SSE, AVX, AVX-512 registers, and the bases of FS and GS.
//!
//! The kernel uses none of them, so they stay in the CPU while it runs, and from thread to thread as long as nobody else
//! needs them. Each load of a state into a CPU has a number of its own; a state knows the number of its last load, and a CPU that
//! of the last load into it: if they agree, the CPU has the newest values and nothing need be loaded. `park` copies them
//! to memory, after which both places have them; then the thread may go elsewhere.

use super::block::{self, Block};
use super::features;
use crate::cpu::MAX_CPUS;
use crate::memory::OutOfMemory;
use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::ptr::NonNull;
use spin::Once;
use x86::extended::{WITH_HEADER, X87_AND_SSE, clear, mxcsr_mask, replace};
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{DS, ES, FS, GS, Segment, Segment64};
use x86_64::registers::model_specific::{FsBase, KernelGsBase};
use x86_64::registers::segmentation::SegmentSelector;

/// How the state is saved on this machine.
#[derive(Clone, Copy)]
struct Format {
    size: usize,
    /// XCR0; 0 if there is only `fxsave`.
    components: u64,
    optimised: bool,
    mxcsr_mask: u32,
}

static FORMAT: Once<Format> = Once::new();

/// Finds out the format. Before any program runs, on a CPU with its features on.
pub fn initialise() {
    FORMAT.call_once(|| {
        let features = features::get();
        let size = if features.xcr0 != 0 { __cpuid_count(0xd, 0).ebx as usize } else { WITH_HEADER };
        let mut format = Format {
            size: size.max(WITH_HEADER),
            components: features.xcr0,
            optimised: features.xsaveopt,
            mxcsr_mask: mxcsr_mask(&[]),
        };
        if let Ok(mut image) = Image::new(&format) {
            // SAFETY: the image is large enough and aligned for fxsave.
            unsafe { asm!("fxsave64 [{}]", in(reg) image.address(), options(nostack, preserves_flags)) };
            format.mxcsr_mask = mxcsr_mask(image.bytes());
        }
        format
    });
}

fn format() -> Format {
    FORMAT.get().copied().unwrap_or(Format {
        size: WITH_HEADER,
        components: 0,
        optimised: false,
        mxcsr_mask: mxcsr_mask(&[]),
    })
}

/// The components the state has (XCR0): x87 and SSE at least.
pub fn components() -> u64 {
    format().components | X87_AND_SSE
}

/// The state in memory, in the standard format of `xsave`.
struct Image {
    bytes: NonNull<u8>,
    size: usize,
}

// SAFETY: it owns its bytes.
unsafe impl Send for Image {}
// SAFETY: shared references only read.
unsafe impl Sync for Image {}

impl Image {
    /// The state of a program that has not run.
    fn new(format: &Format) -> Result<Image, OutOfMemory> {
        let layout = Layout::from_size_align(format.size, 64).map_err(|_| OutOfMemory)?;
        // SAFETY: the size is not 0.
        let bytes = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(OutOfMemory)?;
        let mut image = Image { bytes, size: format.size };
        clear(image.bytes_mut());
        Ok(image)
    }

    fn address(&mut self) -> *mut u8 {
        self.bytes.as_ptr()
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: allocated with this size, initialised to zeros at least, and borrowed with us.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr(), self.size) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and we are borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.bytes.as_ptr(), self.size) }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: allocated with this very layout.
        unsafe { dealloc(self.bytes.as_ptr(), Layout::from_size_align_unchecked(self.size, 64)) };
    }
}

/// A program's extended state, in memory or in a CPU.
pub struct State {
    image: Image,
    fs_base: usize,
    gs_base: usize,
    /// The number of its last load into a CPU.
    last_load: u64,
    /// The program may have changed it there since `image` was written.
    live: bool,
}

/// `last_load` of a state that is in no CPU.
const NOWHERE: u64 = 0;
/// Load numbers of one CPU differ by this, so that no two CPUs have the same: each begins with its own number + 1.
const LOAD_STEP: u64 = 1 << 8;
const _: () = assert!(MAX_CPUS < LOAD_STEP as usize);

impl State {
    /// The state of a program that has not run.
    pub fn new() -> Result<State, OutOfMemory> {
        Ok(State { image: Image::new(&format())?, fs_base: 0, gs_base: 0, last_load: NOWHERE, live: false })
    }

    /// Makes this the state in the CPU, about to be used by the program.
    #[inline]
    pub fn bring(&mut self, block: &Block) {
        if !self.is_in(block) {
            self.load(block);
        }
        self.live = true;
    }

    fn load(&mut self, block: &Block) {
        let format = format();
        // SAFETY: the image is as long as this format is. One that no CPU could have made, whoever looked at it, the CPU refuses.
        if !unsafe { restore(&format, self.image.address()) } {
            clear(self.image.bytes_mut());
            // SAFETY: as above.
            unsafe { restore(&format, self.image.address()) };
        }
        clear_selectors();
        write_fs_base(self.fs_base);
        write_gs_base(self.gs_base);
        self.last_load = block.last_load.get() + LOAD_STEP;
        block.last_load.set(self.last_load);
    }

    /// True if this CPU has our values.
    #[inline]
    fn is_in(&self, block: &Block) -> bool {
        block.last_load.get() == self.last_load
    }

    /// True if the newest values are in this CPU only.
    fn is_live_here(&self) -> bool {
        self.live && self.is_in(block::current())
    }

    /// Copies the values to memory if they are in this CPU only. Must be called before the thread changes CPUs.
    pub fn park(&mut self) {
        if self.is_live_here() {
            self.save(format().optimised);
        }
    }

    fn save(&mut self, optimised: bool) {
        // SAFETY: the image has the size for all components in use, and is aligned.
        unsafe { save(&format(), optimised, self.image.address()) };
        self.fs_base = read_fs_base();
        self.gs_base = read_gs_base();
        self.live = false;
    }

    /// The image, up to date, all components written out.
    pub fn image(&mut self) -> &[u8] {
        // xsaveopt leaves out what is in its initial state; xsave does not.
        self.bring(block::current());
        self.save(false);
        self.image.bytes()
    }

    /// Replaces the state with an image from a program: in whole, or only the part of `fxsave`. False, and nothing
    /// changes, if no CPU could have made it.
    pub fn replace(&mut self, image: &[u8]) -> bool {
        self.park();
        if !replace(self.image.bytes_mut(), image, components(), format().mxcsr_mask) {
            return false;
        }
        self.last_load = NOWHERE;
        true
    }

    /// Starts anew, for another program.
    pub fn reset(&mut self) {
        clear(self.image.bytes_mut());
        (self.fs_base, self.gs_base) = (0, 0);
        (self.last_load, self.live) = (NOWHERE, false);
    }

    /// A copy for a fork.
    pub fn duplicate(&mut self) -> Result<State, OutOfMemory> {
        let mut copy = State::new()?;
        self.park();
        copy.image.bytes_mut().copy_from_slice(self.image.bytes());
        (copy.fs_base, copy.gs_base) = (self.fs_base, self.gs_base);
        Ok(copy)
    }

    /// The base of FS.
    pub fn fs_base(&self) -> usize {
        if self.is_live_here() { read_fs_base() } else { self.fs_base }
    }

    /// The base of GS.
    pub fn gs_base(&self) -> usize {
        if self.is_live_here() { read_gs_base() } else { self.gs_base }
    }

    /// Sets the base of FS. Addresses outside the lower half are taken as 0.
    pub fn set_fs_base(&mut self, base: usize) {
        self.fs_base = lower_half(base);
        if self.is_in(block::current()) {
            write_fs_base(self.fs_base);
        }
    }

    /// Sets the base of GS, likewise.
    pub fn set_gs_base(&mut self, base: usize) {
        self.gs_base = lower_half(base);
        if self.is_in(block::current()) {
            write_gs_base(self.gs_base);
        }
    }
}

fn lower_half(address: usize) -> usize {
    if address >> 47 == 0 { address } else { 0 }
}

/// Saves the CPU's state.
///
/// # Safety
/// `image` must be aligned to 64 and of the format's size.
unsafe fn save(format: &Format, optimised: bool, image: *mut u8) {
    let (low, high) = (format.components as u32, (format.components >> 32) as u32);
    // SAFETY: the caller's promise; the instructions exist by the format.
    unsafe {
        if format.components == 0 {
            asm!("fxsave64 [{}]", in(reg) image, options(nostack, preserves_flags));
        } else if optimised {
            asm!("xsaveopt64 [{}]", in(reg) image, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        } else {
            asm!("xsave64 [{}]", in(reg) image, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        }
    }
}

/// Loads the CPU's state. False if the CPU refused the image.
///
/// # Safety
/// As `save`.
unsafe fn restore(format: &Format, image: *const u8) -> bool {
    let (low, high) = (format.components as u32, (format.components >> 32) as u32);
    let refused: u32;
    // SAFETY: the caller's promise. A general protection fault ends at label 3 (see traps::fixup).
    unsafe {
        asm!(
            "test {components}, {components}",
            "jz 4f",
            "2: xrstor64 [{image}]",
            "jmp 5f",
            "4: fxrstor64 [{image}]",
            "5: xor {refused:e}, {refused:e}",
            "jmp 6f",
            "3: mov {refused:e}, 1",
            "6:",
            ".pushsection .exception_table, \"a\"",
            ".quad 2b, 3b, 4b, 3b",
            ".popsection",
            components = in(reg) format.components,
            image = in(reg) image,
            refused = out(reg) refused,
            in("eax") low,
            in("edx") high,
            options(nostack),
        );
    }
    refused == 0
}

/// A program may load DS, ES, FS and GS with a selector; nobody needs it, and the next program shall not see it.
fn clear_selectors() {
    if DS::get_reg().0 | ES::get_reg().0 | FS::get_reg().0 | GS::get_reg().0 == 0 {
        return;
    }
    // SAFETY: loading null selectors only changes the bases of FS (written next) and, between two swapgs, of the
    // program's GS (also written next).
    unsafe {
        DS::set_reg(SegmentSelector(0));
        ES::set_reg(SegmentSelector(0));
        FS::set_reg(SegmentSelector(0));
        GS::swap();
        GS::set_reg(SegmentSelector(0));
        GS::swap();
    }
}

fn read_fs_base() -> usize {
    let base = if features::get().fsgsbase { FS::read_base() } else { FsBase::read() };
    base.as_u64() as usize
}

fn write_fs_base(base: usize) {
    let base = VirtAddr::new_truncate(base as u64);
    if features::get().fsgsbase {
        // SAFETY: the kernel does not use FS.
        unsafe { FS::write_base(base) };
    } else {
        FsBase::write(base);
    }
}

// While the kernel runs the program's GS base is in the MSR, or in the register between two `swapgs`, which is quicker.
fn read_gs_base() -> usize {
    if !features::get().fsgsbase {
        return KernelGsBase::read().as_u64() as usize;
    }
    let base;
    // SAFETY: the instructions exist by the check; nothing in between uses GS, and an NMI puts it back as it was.
    unsafe { asm!("swapgs", "rdgsbase {}", "swapgs", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

fn write_gs_base(base: usize) {
    if !features::get().fsgsbase {
        return KernelGsBase::write(VirtAddr::new_truncate(base as u64));
    }
    // SAFETY: as above; the base is canonical: it is in the lower half or was read from the CPU.
    unsafe { asm!("swapgs", "wrgsbase {}", "swapgs", in(reg) base, options(nomem, nostack, preserves_flags)) };
}
