//! Copying and clearing untyped memory.
//!
//! A program may write the bytes while they are copied. To the compiler a plain copy of such memory is a data race: it may read a
//! byte twice, before and after a check, or invent a write. So all of it is assembler, to which bytes that change are just
//! bytes: each is read once and written once.
//!
//! Short copies load everything before they store anything. Longer ones go by vectors, the longest by `rep movsb` where the CPU is good at
//! it. On `pc` the same is `copy.s`, which also recovers from faults; here nothing faults.

use super::under_miri;
use crate::memory::PAGE_SIZE;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::LazyLock;

/// Bytes of the longest short copy.
const SHORT: usize = 32;

/// How memory is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Method {
    /// Copies of so many bytes and more go by string instructions: `usize::MAX` for never.
    strings_from: usize,
    /// Others, if they are not short, by AVX; else by string instructions, too.
    avx: bool,
}

static METHOD: LazyLock<Method> = LazyLock::new(|| {
    let has_leaf = __cpuid(0).eax >= 7;
    let erms = has_leaf && __cpuid_count(7, 0).ebx >> 9 & 1 == 1;
    Method { strings_from: if erms { 1024 } else { usize::MAX }, avx: std::is_x86_feature_detected!("avx") }
});

/// Zeroes a frame.
///
/// # Safety
/// `page` is the alias of a frame.
pub unsafe fn clear_page(page: *mut u8) {
    // SAFETY: by contract of the caller.
    unsafe { zero(page, PAGE_SIZE) }
}

/// Copies a frame.
///
/// # Safety
/// Both are aliases of frames, and different.
pub unsafe fn copy_page(to: *mut u8, from: *const u8) {
    // SAFETY: by contract of the caller.
    unsafe { copy(to, from, PAGE_SIZE) }
}

/// Copies `length` bytes, which may overlap, and may be changed by others meanwhile.
///
/// # Safety
/// Both are valid for `length` bytes, or `length` is 0.
#[inline]
pub unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: by contract of the caller; the length decides as each function demands.
    unsafe {
        if cfg!(miri) {
            under_miri::copy(to, from, length);
        } else if length <= SHORT {
            copy_short(to, from, length);
        } else {
            copy_long(to, from, length, *METHOD);
        }
    }
}

/// Zeroes `length` bytes.
///
/// # Safety
/// `to` is valid for `length` bytes, or `length` is 0.
#[inline]
pub unsafe fn zero(to: *mut u8, length: usize) {
    // SAFETY: by contract of the caller.
    unsafe { if cfg!(miri) { under_miri::zero(to, length) } else { zero_by(to, length, *METHOD) } }
}

/// A load or store of one size.
macro_rules! access {
    ($load:ident, $store:ident, $type:ty, $class:ident, $name_of_load:literal, $name_of_store:literal) => {
        #[inline]
        unsafe fn $load(from: *const u8) -> $type {
            let value: $type;
            // SAFETY: by contract of the caller so many bytes can be read.
            unsafe {
                asm!($name_of_load, value = out($class) value, from = in(reg) from,
                    options(nostack, readonly, preserves_flags));
            }
            value
        }

        #[inline]
        unsafe fn $store(to: *mut u8, value: $type) {
            // SAFETY: by contract of the caller so many bytes can be written.
            unsafe {
                asm!($name_of_store, value = in($class) value, to = in(reg) to, options(nostack, preserves_flags));
            }
        }
    };
}

access!(load_1, store_1, u8, reg_byte, "mov {value}, byte ptr [{from}]", "mov byte ptr [{to}], {value}");
access!(load_4, store_4, u32, reg, "mov {value:e}, dword ptr [{from}]", "mov dword ptr [{to}], {value:e}");
access!(load_8, store_8, u64, reg, "mov {value}, qword ptr [{from}]", "mov qword ptr [{to}], {value}");

/// # Safety
/// As [`copy`], and `length` is at most [`SHORT`].
unsafe fn copy_short(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: all offsets are below `length` by the size that is accessed.
    unsafe {
        match length {
            16.. => {
                let first = (load_8(from), load_8(from.add(8)));
                let last = (load_8(from.add(length - 16)), load_8(from.add(length - 8)));
                store_8(to, first.0);
                store_8(to.add(8), first.1);
                store_8(to.add(length - 16), last.0);
                store_8(to.add(length - 8), last.1);
            }
            8.. => {
                let (first, last) = (load_8(from), load_8(from.add(length - 8)));
                store_8(to, first);
                store_8(to.add(length - 8), last);
            }
            4.. => {
                let (first, last) = (load_4(from), load_4(from.add(length - 4)));
                store_4(to, first);
                store_4(to.add(length - 4), last);
            }
            1.. => {
                let middle = length / 2;
                let bytes = (load_1(from), load_1(from.add(middle)), load_1(from.add(length - 1)));
                store_1(to, bytes.0);
                store_1(to.add(middle), bytes.1);
                store_1(to.add(length - 1), bytes.2);
            }
            0 => {}
        }
    }
}

/// # Safety
/// As [`copy`], and `length` is more than [`SHORT`].
unsafe fn copy_long(to: *mut u8, from: *const u8, length: usize, method: Method) {
    // SAFETY: by contract of the caller.
    unsafe {
        if to.addr().wrapping_sub(from.addr()) < length {
            copy_backward(to, from, length);
        } else if method.avx && length < method.strings_from {
            copy_by_avx(to, from, length);
        } else {
            asm!("rep movsb", inout("rcx") length => _, inout("rsi") from => _, inout("rdi") to => _,
                options(nostack, preserves_flags));
        }
    }
}

/// The target begins inside the source: from the end to the start.
///
/// # Safety
/// As [`copy`], and `length` is not 0.
#[cold]
unsafe fn copy_backward(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: by contract of the caller. The direction flag is clear again at the end.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") length => _, inout("rsi") from.add(length - 1) => _,
            inout("rdi") to.add(length - 1) => _, options(nostack));
    }
}

/// Forward by blocks of 64 bytes, then the last 64, or the last 32, which were loaded first: the target may lie before the source and
/// overlap it.
///
/// # Safety
/// As [`copy`]. `length` is more than 32, the CPU has AVX, and the target does not begin inside the source.
unsafe fn copy_by_avx(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: by contract of the caller. A block is copied while at least 64 bytes are left; of the last 64, the first 32 are written
    // only if there are so many.
    unsafe {
        asm!(
            "vmovdqu ymm2, [{from} + {length} - 32]",
            "lea {to_end}, [{to} + {length}]",
            "mov {left}, {length}",
            "cmp {left}, 64",
            "jb 3f",
            "vmovdqu ymm3, [{from} + {length} - 64]",
            "2:",
            "vmovdqu ymm0, [{from}]",
            "vmovdqu ymm1, [{from} + 32]",
            "vmovdqu [{to}], ymm0",
            "vmovdqu [{to} + 32], ymm1",
            "add {from}, 64",
            "add {to}, 64",
            "sub {left}, 64",
            "cmp {left}, 64",
            "jae 2b",
            "vmovdqu [{to_end} - 64], ymm3",
            "jmp 4f",
            "3:",
            "vmovdqu ymm0, [{from}]",
            "vmovdqu [{to}], ymm0",
            "4:",
            "vmovdqu [{to_end} - 32], ymm2",
            "vzeroupper",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            length = in(reg) length,
            to_end = out(reg) _,
            left = out(reg) _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack)
        );
    }
}

/// # Safety
/// As [`zero`].
unsafe fn zero_by(to: *mut u8, length: usize, method: Method) {
    // SAFETY: by contract of the caller; blocks of 32 bytes are written while so many are left, the last one at the end.
    unsafe {
        if length < 32 || !method.avx || length >= method.strings_from {
            asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") 0_u8,
                options(nostack, preserves_flags));
            return;
        }
        asm!(
            "vxorps xmm0, xmm0, xmm0",
            "lea {end}, [{to} + {left}]",
            "2:",
            "vmovdqu [{to}], ymm0",
            "add {to}, 32",
            "sub {left}, 32",
            "cmp {left}, 32",
            "jae 2b",
            "vmovdqu [{end} - 32], ymm0",
            "vzeroupper",
            to = inout(reg) to => _,
            left = inout(reg) length => _,
            end = out(reg) _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 9000;

    fn methods() -> impl Iterator<Item = Method> {
        let avx = std::is_x86_feature_detected!("avx");
        let all = [(0, false), (usize::MAX, false), (1024, true), (usize::MAX, true)];
        all.into_iter().filter(move |(_, wants)| avx || !wants).map(|(strings_from, avx)| Method { strings_from, avx })
    }

    fn lengths() -> impl Iterator<Item = usize> {
        (0..300).chain([511, 512, 1023, 1024, 1025, 2047, 4095, 4096, 4097, 8000])
    }

    fn pattern() -> Vec<u8> {
        (0..ROOM).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    unsafe fn copy_by(to: *mut u8, from: *const u8, length: usize, method: Method) {
        // SAFETY: by contract of the caller.
        unsafe {
            match length {
                ..=SHORT => copy_short(to, from, length),
                _ => copy_long(to, from, length, method),
            }
        }
    }

    #[test]
    fn every_length_is_copied_at_every_alignment() {
        let source = pattern();
        for method in methods() {
            for length in lengths() {
                for (from, to) in [(0, 0), (1, 0), (0, 1), (3, 17), (31, 33), (64, 95)] {
                    let mut target = vec![0xee; ROOM];
                    // SAFETY: both lie in their vectors.
                    unsafe { copy_by(target.as_mut_ptr().add(to), source.as_ptr().add(from), length, method) };
                    let end = to + length;
                    assert_eq!(
                        target[to..end],
                        source[from..from + length],
                        "{method:?}, {length} from {from} to {to}"
                    );
                    assert!(
                        target[..to].iter().chain(&target[end..]).all(|byte| *byte == 0xee),
                        "{method:?}, {length}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_overlaps_is_copied_as_if_by_way_of_another_place() {
        let source = pattern();
        for method in methods() {
            for length in lengths().filter(|length| *length <= 4097) {
                for (from, to) in [(500, 501), (501, 500), (500, 516), (516, 500), (500, 540), (540, 500), (700, 500)] {
                    let mut bytes = source.clone();
                    let start = bytes.as_mut_ptr();
                    // SAFETY: both lie in the vector.
                    unsafe { copy_by(start.add(to), start.add(from), length, method) };
                    let mut expected = source.clone();
                    expected.copy_within(from..from + length, to);
                    assert!(bytes == expected, "{method:?}, {length} from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn exactly_what_is_named_is_zeroed() {
        for method in methods() {
            for length in lengths() {
                for to in [0, 1, 31, 64] {
                    let mut bytes = vec![0xee_u8; ROOM];
                    // SAFETY: it lies in the vector.
                    unsafe { zero_by(bytes.as_mut_ptr().add(to), length, method) };
                    let zeroed = bytes.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
                    assert!(zeroed.eq(to..to + length), "{method:?}, {length} at {to}");
                }
            }
        }
    }

    /// Memory that others write is copied by this file's assembler, or word by word by atomics and volatile accesses; references to it
    /// are never made. What may use plain copies deals with memory of the kernel's own, and says so here.
    #[test]
    fn no_plain_copy_of_shared_memory_is_left() {
        const PLAIN: [&str; 8] = [
            "ptr::copy",
            "copy_nonoverlapping",
            "copy_from_nonoverlapping",
            "copy_to(",
            "copy_from(",
            "write_bytes",
            "from_raw_parts",
            "ptr::read(",
        ];
        const OWN: [(&str, &str); 5] = [
            ("host/under_miri.rs", "Miri, under which no program runs"),
            ("host/heap.rs", "the kernel's heap"),
            ("host/frames.rs", "the frames' records, which no program has"),
            ("host/stub/code.rs", "the code's page, before there is a stub"),
            ("heap/", "the kernel's heap"),
        ];
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![root.join("host"), root.join("memory"), root.join("heap")];
        let (mut files, mut offences) = (0, Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                if path.is_dir() {
                    folders.push(path);
                } else if !name.contains("tests") && !OWN.iter().any(|(own, _)| name.starts_with(own)) {
                    files += 1;
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                    let plain = code.lines().filter(|line| PLAIN.iter().any(|plain| line.contains(plain)));
                    offences.extend(plain.map(|line| format!("{name}: {}", line.trim())));
                }
            }
        }
        assert!(files > 20 && offences.is_empty(), "{offences:#?}");
    }
}
