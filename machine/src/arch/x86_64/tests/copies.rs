//! `copy.s` as it is, in an ordinary process: what faults is a page without access, and a handler of SIGSEGV does what the kernel's
//! page fault does, by the same exception table. Every copy is stopped at every byte.
//!
//! Not seen here is how the fix-up tells which side is the program's, by the sign of its address: here both are positive.

use std::arch::{asm, global_asm};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, Once};

global_asm!(
    ".macro exception at, fixup",
    ".pushsection .data.rel.ro.exceptions, \"aw\", @progbits",
    ".quad \\at, \\fixup",
    ".popsection",
    ".endm",
    ".macro label name",
    ".global pc_\\name",
    ".type pc_\\name, @function",
    "pc_\\name:",
    ".endm",
    ".pushsection .data.rel.ro.exceptions, \"aw\", @progbits",
    ".balign 8",
    ".global pc_exceptions",
    "pc_exceptions:",
    ".popsection",
    include_str!("../copy.s"),
    ".global pc_user_copy",
    ".set pc_user_copy, .Luser_copy",
    ".pushsection .data.rel.ro.exceptions, \"aw\", @progbits",
    ".global pc_exceptions_end",
    "pc_exceptions_end:",
    ".popsection",
);

unsafe extern "C" {
    static pc_exceptions: [usize; 2];
    static pc_exceptions_end: [usize; 2];
    fn pc_user_copy(to: *mut u8, from: *const u8, length: usize) -> usize;
    fn pc_machine_user_zero(to: *mut u8, unused: usize, length: usize) -> usize;
    fn pc_machine_user_load_u32(address: usize, value: &mut u32) -> u32;
    fn pc_machine_user_compare_exchange_u32(address: usize, value: &mut u32, new: u32) -> u32;
    fn pc_memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn pc_memset(to: *mut u8, byte: i32, length: usize) -> *mut u8;
    fn pc_memcmp(left: *const u8, right: *const u8, length: usize) -> i32;
}

/// How `copy.s` copies: 0 strings, 1 SSE, 2 AVX.
#[unsafe(export_name = "machine_copy_method")]
static METHOD: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// CR2.
static FAULT: AtomicUsize = AtomicUsize::new(0);
/// The page without access, and whether it is the source's.
static SOURCE_PAGE: AtomicUsize = AtomicUsize::new(0);
static FAULTS: AtomicUsize = AtomicUsize::new(0);

const PAGE: usize = 4096;

/// What the kernel does at a page fault in itself; and reading CR2 for a process that cannot.
extern "C" fn on_fault(_signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    const MOV_RAX_CR2: [u8; 3] = [0x0f, 0x20, 0xd0];
    // SAFETY: what the system hands to a handler; RIP is code of this process; the table lies between its two symbols.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let rip = registers[libc::REG_RIP as usize] as usize;
        let start = &raw const pc_exceptions;
        let table = std::slice::from_raw_parts(start, (&raw const pc_exceptions_end).offset_from_unsigned(start));
        if let Some([_, fixup]) = table.iter().find(|[at, _]| *at == rip) {
            FAULTS.fetch_add(1, Relaxed);
            FAULT.store((*info).si_addr().addr(), Relaxed);
            registers[libc::REG_RIP as usize] = *fixup as i64;
        } else if *(rip as *const [u8; 3]) == MOV_RAX_CR2 {
            let mut fault = FAULT.load(Relaxed);
            if fault / PAGE == SOURCE_PAGE.load(Relaxed) / PAGE {
                // The fix-up takes `rdi` for the program's side: there the address is as far from it.
                let [to, from] = [libc::REG_RDI, libc::REG_RSI].map(|register| registers[register as usize] as usize);
                fault = fault.wrapping_sub(from).wrapping_add(to);
            }
            registers[libc::REG_RAX as usize] = fault as i64;
            registers[libc::REG_RIP as usize] += 3;
        } else {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        }
    }
}

/// One test at a time has the handler and the method.
fn harness() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    static HANDLER: Once = Once::new();
    let guard = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    HANDLER.call_once(|| {
        // SAFETY: the handler touches the interrupted registers and atomics only.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut());
        }
    });
    guard
}

fn methods() -> impl Iterator<Item = u8> {
    (0..=2)
        .filter(|method| *method < 2 || is_x86_feature_detected!("avx"))
        .inspect(|method| METHOD.store(*method, Relaxed))
}

/// Two pages, and one without access behind them.
fn pages() -> *mut u8 {
    // SAFETY: new memory.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let start = libc::mmap(ptr::null_mut(), 3 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(start, libc::MAP_FAILED);
        assert_eq!(libc::mprotect(start.byte_add(2 * PAGE), PAGE, libc::PROT_NONE), 0);
        start.cast()
    }
}

/// Calls a copy with a program's vector register in place; it must be there afterwards.
///
/// # Safety
/// As for the function called.
unsafe fn call(function: *const (), to: *mut u8, from: *const u8, length: usize) -> usize {
    let before: [u8; 32] = std::array::from_fn(|at| at as u8 ^ 0x5a);
    let mut after = [0_u8; 32];
    let left;
    // SAFETY: by contract of the caller; the functions keep to the C calling convention.
    unsafe {
        if is_x86_feature_detected!("avx") {
            asm!("vmovdqu ymm0, [{before}]", "call {function}", "vmovdqu [{after}], ymm0", "vzeroupper",
                before = in(reg) &before, after = in(reg) &mut after, function = in(reg) function,
                inout("rdi") to => _, inout("rsi") from => _, inout("rdx") length => _, out("rax") left,
                out("rcx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("ymm0") _);
        } else {
            asm!("movdqu xmm0, [{before}]", "call {function}", "movdqu [{after}], xmm0",
                before = in(reg) &before, after = in(reg) &mut after, function = in(reg) function,
                inout("rdi") to => _, inout("rsi") from => _, inout("rdx") length => _, out("rax") left,
                out("rcx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("xmm0") _);
            after[16..].copy_from_slice(&before[16..]);
        }
    }
    assert_eq!(before, after, "a program's register is lost, method {}, length {length}", METHOD.load(Relaxed));
    left
}

fn lengths() -> impl Iterator<Item = usize> {
    (0..=70).chain([95, 127, 128, 129, 160, 255, 256, 257, 290, 333, 512, 545, 700, 1100])
}

#[test]
fn a_copy_stops_at_the_very_byte() {
    let _harness = harness();
    let (user, pattern) = (pages(), (0..2 * PAGE).map(|at| (at * 7 + at / 251 + 1) as u8).collect::<Vec<u8>>());
    for method in methods() {
        for length in lengths() {
            for done in (0..=length).filter(|done| length < 300 || done % 13 == 0 || length - done < 40) {
                let start = user.wrapping_add(2 * PAGE - done);
                let mut kernel = vec![0xee_u8; length + 1];
                // SAFETY: the process's own memory; what lies beyond it faults.
                unsafe {
                    SOURCE_PAGE.store(0, Relaxed);
                    let left = call(pc_user_copy as *const (), start, pattern.as_ptr(), length);
                    assert_eq!(left, length - done, "write of {length}, method {method}");
                    assert!(std::slice::from_raw_parts(start, done) == &pattern[..done]);
                    SOURCE_PAGE.store(user.addr() + 2 * PAGE, Relaxed);
                    let left = call(pc_user_copy as *const (), kernel.as_mut_ptr(), start, length);
                    assert_eq!(left, length - done, "read of {length}, method {method}");
                    assert!(kernel[..done] == pattern[..done] && kernel[done..].iter().all(|byte| *byte == 0xee));
                    SOURCE_PAGE.store(0, Relaxed);
                    let left = call(pc_machine_user_zero as *const (), start, ptr::null(), length);
                    assert_eq!(left, length - done, "zeroing {length}, method {method}");
                    assert!(std::slice::from_raw_parts(start, done).iter().all(|byte| *byte == 0));
                }
            }
        }
    }
    assert!(FAULTS.load(Relaxed) > 10_000);
}

#[test]
fn words_fault_or_are_whole() {
    let _harness = harness();
    let user = pages();
    SOURCE_PAGE.store(0, Relaxed);
    for offset in [2 * PAGE - 4, 2 * PAGE] {
        let address = user.addr() + offset;
        let fails = u32::from(offset == 2 * PAGE);
        let mut value = 7;
        // SAFETY: the process's own memory, or a fault.
        unsafe {
            assert_eq!(pc_machine_user_compare_exchange_u32(address, &mut 0, 5), fails);
            assert_eq!(pc_machine_user_load_u32(address, &mut value), fails);
            assert_eq!(value, if fails == 1 { 7 } else { 5 });
            value = 6;
            assert_eq!(pc_machine_user_compare_exchange_u32(address, &mut value, 9), fails);
            assert_eq!(value, if fails == 1 { 6 } else { 5 }, "what was found");
        }
    }
}

#[test]
fn what_the_compiler_calls_is_right() {
    let _harness = harness();
    let pattern: Vec<u8> = (0..4000).map(|at| (at * 13 + at / 256) as u8).collect();
    for _ in methods() {
        for length in lengths() {
            for (from, to) in [(0, 1500), (500, 501), (501, 500), (500, 516), (540, 500), (500, 600), (700, 500)] {
                let (mut bytes, mut expected) = (pattern.clone(), pattern.clone());
                expected.copy_within(from..from + length, to);
                let start = bytes.as_mut_ptr();
                // SAFETY: both lie in the vector.
                let result =
                    unsafe { call(pc_memmove as *const (), start.wrapping_add(to), start.wrapping_add(from), length) };
                assert!(bytes == expected && result == start.addr() + to, "{length} from {from} to {to}");
            }
            let mut bytes = pattern.clone();
            let byte = ptr::without_provenance(0xa5);
            // SAFETY: it lies in the vector.
            let result = unsafe { call(pc_memset as *const (), bytes.as_mut_ptr().wrapping_add(3), byte, length) };
            assert_eq!(result, bytes.as_ptr().addr() + 3);
            let expected =
                pattern.iter().enumerate().map(|(at, old)| if (3..3 + length).contains(&at) { 0xa5 } else { *old });
            assert!(bytes.iter().copied().eq(expected));
        }
    }
    for length in 0..40 {
        for differs in 0..length {
            for change in [1, 0x80] {
                let mut other = pattern.clone();
                other[differs] ^= change;
                // SAFETY: both are as long.
                let order = unsafe { pc_memcmp(pattern.as_ptr(), other.as_ptr(), length) };
                assert_eq!(order.signum(), pattern[..length].cmp(&other[..length]) as i32);
            }
        }
        // SAFETY: as above.
        assert_eq!(unsafe { pc_memcmp(pattern.as_ptr(), pattern.clone().as_ptr(), length) }, 0);
    }
}
