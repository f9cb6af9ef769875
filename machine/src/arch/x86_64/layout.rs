//! The kernel's address space.
//!
//! ```text
//! 0000000000000000  the program's half
//! ffff800000000000  direct map: physical address + DIRECT_MAP, all RAM, read-write, never executable
//! ffffc00000000000  kernel stacks, each above an unmapped guard page
//! ffffd00000000000  device registers, uncached
//! ffffe00000000000  mapped memory of the heap, 1.6 TiB
//! ffffffff80000000  the kernel image: physical address + IMAGE_BASE; text R-X, rodata R--, data RW-, symbols R--
//! ```
//!
//! Text and rodata (and symbols) are read-only in the direct map too. Until `boot` has loaded the real tables, the
//! first 4 GiB are mapped at 0 and at [`DIRECT_MAP`], the first GiB at [`IMAGE_BASE`], all with every right. The
//! other CPUs pass through those tables on their way up.

use core::ops::Range;

/// Where physical memory is mapped.
pub const DIRECT_MAP: usize = 0xffff_8000_0000_0000;
/// Where stacks are mapped.
pub const STACKS: usize = 0xffff_c000_0000_0000;
/// Where device registers are mapped.
pub const DEVICES: usize = 0xffff_d000_0000_0000;
/// Where the heap maps memory that need not lie side by side.
pub const VMALLOC: usize = 0xffff_e000_0000_0000;
/// Where the image is linked, before its physical address.
pub const IMAGE_BASE: usize = 0xffff_ffff_8000_0000;

/// Bytes of a CPU's stack.
pub const STACK: usize = 64 << 10;
/// Bytes of the stack before the boot CPU has its own.
pub const BOOT_STACK: usize = 32 << 10;

/// What a part of the image may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Read and execute.
    Text,
    /// Read only.
    Constant,
    /// Read and write.
    Data,
}

/// The alias of a physical address in the direct map.
#[inline]
pub const fn direct(physical: usize) -> *mut u8 {
    (DIRECT_MAP + physical) as *mut u8
}

macro_rules! linker_symbols {
    ($($function:ident = $symbol:ident;)*) => {
        $(
            /// The address of the linker's symbol of this name.
            pub fn $function() -> usize {
                unsafe extern "C" {
                    static $symbol: u8;
                }
                (&raw const $symbol).addr()
            }
        )*
    };
}

linker_symbols! {
    text_start = __text_start;
    text_end = __text_end;
    rodata_start = __rodata_start;
    rodata_end = __rodata_end;
    data_start = __data_start;
    data_end = __data_end;
    bss_start = __bss_start;
    bss_end = __bss_end;
    symbols_start = __symbols_start;
}

/// The parts of the image as virtual addresses, page-aligned, in order. Between data and bss one page is left out: the guard
/// of the boot stack, with which bss begins.
pub fn image_parts() -> [(Range<usize>, Rights); 5] {
    let symbols = symbols_start()..symbols_start() + super::symbols::length().next_multiple_of(4096);
    [
        (text_start()..text_end(), Rights::Text),
        (rodata_start()..rodata_end(), Rights::Constant),
        (data_start()..data_end(), Rights::Data),
        (bss_start()..bss_end(), Rights::Data),
        (symbols, Rights::Constant),
    ]
}

/// The physical memory of the image, symbols included.
pub fn image() -> Range<usize> {
    let [first, .., last] = image_parts();
    first.0.start - IMAGE_BASE..last.0.end.max(bss_end()) - IMAGE_BASE
}
