//! The local APIC: interrupts to this CPU, to others, and the timer. Both generations: x2APIC by MSRs, xAPIC by memory.
//!
//! Manual: Intel SDM volume 3, chapter 11.

use super::traps::vector;
use super::{cpu, features, paging};
use core::hint::spin_loop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use x86_64::registers::model_specific::Msr;

const APIC_BASE: u32 = 0x1b;
const GLOBAL_ENABLE: u64 = 1 << 11;
const X2APIC_ENABLE: u64 = 1 << 10;
const X2APIC_MSRS: u32 = 0x800;
const TSC_DEADLINE: u32 = 0x6e0;

/// Registers, as offsets in memory; in x2APIC mode the MSR is `offset / 16` on.
mod register {
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const END_OF_INTERRUPT: u32 = 0xb0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const COMMAND: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
    pub const TIMER: u32 = 0x320;
    pub const LINE0: u32 = 0x350;
    pub const LINE1: u32 = 0x360;
    pub const ERROR: u32 = 0x370;
    pub const TIMER_START: u32 = 0x380;
    pub const TIMER_NOW: u32 = 0x390;
    pub const TIMER_DIVISOR: u32 = 0x3e0;
}

const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
const BY_DEADLINE: u32 = 2 << 17;
const DIVIDE_BY_1: u32 = 0xb;
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// The registers in memory; null in x2APIC mode. Set once, on the boot CPU.
static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// Maps the registers if the CPU has only the older generation. False if that is impossible.
pub fn initialise() -> bool {
    if features::get().x2apic {
        return true;
    }
    // SAFETY: the MSR exists on every 64-bit CPU.
    let base = unsafe { Msr::new(APIC_BASE).read() } as usize & 0xf_ffff_f000;
    let mapped = paging::map_device(base..base + 4096);
    REGISTERS.store(mapped.map_or(core::ptr::null_mut(), NonNull::as_ptr), Ordering::Relaxed);
    mapped.is_some()
}

/// Switches this CPU's on: everything masked but what the kernel sends itself.
pub fn enable() {
    let mode = if features::get().x2apic { GLOBAL_ENABLE | X2APIC_ENABLE } else { GLOBAL_ENABLE };
    // SAFETY: enabling the APIC, in the mode that `initialise` prepared.
    unsafe {
        let mut base = Msr::new(APIC_BASE);
        let before = base.read();
        base.write(before | mode);
    }
    write(register::TASK_PRIORITY, 0);
    write(register::LINE0, MASKED);
    write(register::LINE1, DELIVER_NMI);
    write(register::ERROR, MASKED);
    write(register::TIMER_DIVISOR, DIVIDE_BY_1);
    set_timer_mode();
    write(register::SPURIOUS, SOFTWARE_ENABLE | u32::from(vector::SPURIOUS));
}

/// The timer's interrupt, by deadline or by count.
fn set_timer_mode() {
    let mode = if features::get().tsc_deadline { BY_DEADLINE } else { 0 };
    write(register::TIMER, u32::from(vector::ALARM) | mode);
}

fn read(register: u32) -> u32 {
    let registers = REGISTERS.load(Ordering::Relaxed);
    // SAFETY: registers of the mapped APIC, or MSRs that exist in x2APIC mode.
    unsafe {
        match NonNull::new(registers) {
            Some(registers) => registers.byte_add(register as usize).cast().read_volatile(),
            None => Msr::new(X2APIC_MSRS + register / 16).read() as u32,
        }
    }
}

#[inline]
fn write(register: u32, value: u32) {
    let registers = REGISTERS.load(Ordering::Relaxed);
    // SAFETY: as in `read`. Only this file chooses what is written, and no interrupt breaks memory safety.
    unsafe {
        match NonNull::new(registers) {
            Some(registers) => registers.byte_add(register as usize).cast().write_volatile(value),
            None => Msr::new(X2APIC_MSRS + register / 16).write(value.into()),
        }
    }
}

/// Lets the next interrupt through.
#[inline]
pub fn end_of_interrupt() {
    write(register::END_OF_INTERRUPT, 0);
}

/// Sends an interrupt command to the CPU with this APIC number.
fn send(apic_id: u32, command: u32) {
    if features::get().x2apic {
        // Stores the other CPU must see have to be out before; writing this MSR does not wait for them.
        core::sync::atomic::fence(Ordering::SeqCst);
        // SAFETY: as in `write`.
        unsafe { Msr::new(X2APIC_MSRS + register::COMMAND / 16).write(u64::from(apic_id) << 32 | u64::from(command)) };
    } else {
        while read(register::COMMAND) & PENDING != 0 {
            spin_loop();
        }
        write(register::COMMAND_HIGH, apic_id << 24);
        write(register::COMMAND, command);
    }
}

/// Interrupts `cpu` with `vector`.
pub fn send_vector(cpu: usize, vector: u8) {
    command(cpu, ASSERT | u32::from(vector));
}

/// Asks `cpu` to forget translations.
pub fn send_shootdown(cpu: usize) {
    send_vector(cpu, vector::SHOOTDOWN);
}

/// Sends `cpu` an NMI.
pub fn send_nmi(cpu: usize) {
    command(cpu, ASSERT | DELIVER_NMI);
}

fn command(cpu: usize, command: u32) {
    if let Some(apic_id) = cpu::apic_id(cpu) {
        send(apic_id, command);
    }
}

/// The first step of starting a CPU.
pub fn send_init(apic_id: u32) {
    send(apic_id, ASSERT | DELIVER_INIT);
}

/// The second: the CPU starts in real mode at `page << 12`.
pub fn send_startup(apic_id: u32, page: u8) {
    send(apic_id, ASSERT | DELIVER_STARTUP | u32::from(page));
}

/// Sets the timer to go off when the TSC reaches `deadline`; 0 clears it.
#[inline]
pub fn set_deadline(deadline: u64) {
    // The MSR write is not ordered after stores, but nothing here depends on them.
    // SAFETY: the CPU has the feature, and the timer's interrupt is ours.
    unsafe { Msr::new(TSC_DEADLINE).write(deadline) };
}

/// Sets the timer to go off after `count` of its ticks; 0 clears it.
#[inline]
pub fn set_count(count: u32) {
    write(register::TIMER_START, count);
}

/// Lets the timer count down from the top without an interrupt, for [`counted`].
pub fn start_counting() {
    write(register::TIMER, MASKED);
    set_count(u32::MAX);
}

/// Ticks since [`start_counting`].
pub fn counted() -> u32 {
    u32::MAX - read(register::TIMER_NOW)
}

/// The timer is for alarms again.
pub fn stop_counting() {
    set_count(0);
    set_timer_mode();
}
