//! The end of a kernel at fault: one page that says what and where, all CPUs stopped, a failing status.

use super::traps::KernelFrame;
use super::{block, debug, local_apic, power, serial};
use crate::cpu::MAX_CPUS;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use x86::exceptions;
use x86_64::instructions::{hlt, interrupts};

/// The status of a machine whose kernel was at fault, as a Rust program that panics.
const STATUS: u8 = 101;
const NOBODY: usize = usize::MAX;

/// The CPU that prints.
static PRINTING: AtomicUsize = AtomicUsize::new(NOBODY);
/// The CPUs that can take an NMI.
static READY: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::print(format_args!("{text}"));
        Ok(())
    }
}

/// From now on this CPU can take an NMI. Stops it if another has come to its last page meanwhile.
pub fn ready() {
    if let Some(ready) = READY.get(block::current_cpu()) {
        ready.store(true, Ordering::SeqCst);
    }
    stop_if_asked();
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    serial::print(format_args!("\nkernel panic on CPU {}", block::current_cpu()));
    if let Some(place) = info.location() {
        serial::print(format_args!(" at {place}"));
    }
    serial::print(format_args!(":\n    {}\n", info.message()));
    describe();
    serial::print(format_args!("called from:\n"));
    debug::backtrace(&mut Console);
    power::off(STATUS)
}

/// An exception of the kernel's own code.
pub fn kernel_fault(frame: &KernelFrame, address: usize) -> ! {
    begin();
    let name = exceptions::name(frame.vector as u8);
    let (cpu, vector, error) = (block::current_cpu(), frame.vector, frame.error);
    serial::print(format_args!("\nkernel fault on CPU {cpu}: {name} (vector {vector}, error {error:#x}"));
    if frame.vector == u64::from(exceptions::PAGE_FAULT) {
        serial::print(format_args!(", address {address:#x}"));
    }
    serial::print(format_args!(")\n"));
    let f = frame;
    let [flags, segment] = [f.rflags, f.cs];
    let numbered =
        [f.rax, f.rcx, f.rdx, f.rbx, f.rsp, f.rbp, f.rsi, f.rdi, f.r8, f.r9, f.r10, f.r11, f.r12, f.r13, f.r14, f.r15];
    exceptions::write_registers(&mut Console, f.rip, flags, segment, &numbered);
    describe();
    serial::print(format_args!("at:\n"));
    debug::write_place(&mut Console, frame.rip);
    debug::backtrace_from(&mut Console, frame.rbp);
    power::off(STATUS)
}

/// Stops the other CPUs. A fault while printing ends the machine at once; a second CPU at fault waits for the first's page.
fn begin() {
    interrupts::disable();
    let me = block::current_cpu();
    match PRINTING.compare_exchange(NOBODY, me, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => stop_others(me),
        Err(printing) if printing == me => power::off(STATUS),
        Err(_) => stop(),
    }
}

fn stop_others(me: usize) {
    for (cpu, ready) in READY.iter().enumerate() {
        if cpu != me && ready.load(Ordering::SeqCst) {
            local_apic::send_nmi(cpu);
        }
    }
}

fn describe() {
    if let Some(describe) = debug::description() {
        serial::print(format_args!("thread: "));
        describe(&mut Console);
        serial::print(format_args!("\n"));
    }
}

/// At an NMI: stops this CPU if another prints its last page.
pub fn stop_if_asked() {
    if PRINTING.load(Ordering::SeqCst) != NOBODY {
        stop();
    }
}

fn stop() -> ! {
    loop {
        hlt();
    }
}
