//! The clock is the TSC; the alarm is the local APIC's timer.
//!
//! Frequencies come from where they are known exactly (KVM's clock page, CPUID), else from a comparison with a clock whose
//! frequency is known (HPET, ACPI timer, PIT). [`begin`] notes where the clocks stand, [`finish`] looks again a few
//! milliseconds later; what was done in between cost nothing.
//!
//! `now = (TSC - TSC at boot) * multiplier / 2^32`; the other way round, deadlines become ticks. The numbers are set at boot,
//! once, in the [`Clock`] that programs read too (the vDSO); after that only the wall clock's distance changes.

use super::reference::{Reference, Sample};
use super::{acpi, block, cpu, features, local_apic, rtc};
use crate::vdso::Clock;
use clocks::{from_nanoseconds, scale, to_nanoseconds};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};
use x86::frequency;
use x86_64::registers::model_specific::Msr;

/// How long the clocks are compared at least.
const COMPARISON: u64 = 4_000_000;
/// `alarm` of the block when none is set.
const NEVER: u64 = u64::MAX;
const SECOND: u64 = 1_000_000_000;

pub(crate) use crate::vdso::ticks;

/// The base is the TSC at boot, and 0 ns.
static CLOCK: Clock = Clock::new();
/// Ticks of the alarm's timer (the TSC where it compares with that) per nanosecond, in 2^-32.
static ALARM_TICKS: AtomicU64 = AtomicU64::new(0);

/// The clock programs read too.
pub fn clock() -> &'static Clock {
    &CLOCK
}

pub fn own() -> Option<u64> {
    None
}

/// Nanoseconds since boot.
#[inline]
pub fn now() -> u64 {
    CLOCK.since_base()
}

/// Nanoseconds since the epoch.
#[inline]
pub fn wall_clock() -> u64 {
    CLOCK.epoch().wrapping_add(now())
}

/// Sets what [`wall_clock`] shows.
pub fn set_wall_clock(nanoseconds: u64) {
    CLOCK.change(|line| line.epoch = nanoseconds.wrapping_sub(line.at(ticks())));
}

/// Notes that the machine has started.
pub fn start() {
    CLOCK.change(|line| line.base_ticks = ticks());
}

/// A comparison of clocks under way.
pub struct Comparison {
    reference: Reference,
    first: Sample,
}

/// Begins to compare clocks. The local APIC of this CPU is on, and its timer unused.
pub fn begin(platform: &acpi::Platform) -> Comparison {
    local_apic::start_counting();
    let mut reference = Reference::find(platform);
    let first = reference.sample();
    Comparison { reference, first }
}

/// Ends the comparison: from here on the clock runs and alarms can be set.
pub fn finish(mut comparison: Comparison) {
    let known = known_frequency();
    let least = if known.is_some() && features::get().tsc_deadline { 0 } else { COMPARISON };
    let (first, last) = loop {
        let last = comparison.reference.sample();
        match comparison.reference.nanoseconds(&comparison.first, &last) {
            Some(passed) if passed >= least => break (&comparison.first, last),
            Some(_) => spin_loop(),
            // The reference clock wrapped around: an unlucky pause. Once more.
            None => {
                local_apic::start_counting();
                comparison.first = comparison.reference.sample();
            }
        }
    };
    let passed = comparison.reference.nanoseconds(first, &last).unwrap_or(1).max(1);
    let frequency = |ticks: u64| (u128::from(ticks) * u128::from(SECOND) / u128::from(passed)) as u64;
    let tsc = known.unwrap_or_else(|| frequency(last.tsc.saturating_sub(first.tsc)));
    let timer = frequency(last.timer.wrapping_sub(first.timer).into());
    local_apic::stop_counting();
    let alarm = if features::get().tsc_deadline { tsc } else { timer };
    ALARM_TICKS.store(from_nanoseconds(alarm), Ordering::Relaxed);
    let seconds = rtc::seconds();
    CLOCK.change(|line| {
        line.multiplier = to_nanoseconds(tsc);
        line.epoch = (seconds * SECOND).saturating_sub(line.at(ticks()));
    });
}

/// The frequency of the TSC, from who knows it: KVM, or the CPU.
fn known_frequency() -> Option<u64> {
    if frequency::has_kvm_clock() { kvm_frequency() } else { frequency::by_cpuid() }
}

/// KVM writes into a page of ours how the TSC becomes nanoseconds (`struct pvclock_vcpu_time_info`). All virtual CPUs have
/// the same scale, so it is read once.
fn kvm_frequency() -> Option<u64> {
    const SYSTEM_TIME: u32 = 0x4b56_4d01;
    #[repr(C, align(64))]
    struct Clock([AtomicU64; 4]);
    static CLOCK: Clock = Clock([const { AtomicU64::new(0) }; 4]);
    let physical = (&raw const CLOCK).addr() - super::layout::IMAGE_BASE;
    // SAFETY: the MSR exists (checked by CPUID); KVM writes 32 bytes of a static made for this, only until it is told to stop.
    let scale = unsafe {
        Msr::new(SYSTEM_TIME).write(physical as u64 | 1);
        let scale = CLOCK.0[3].load(Ordering::Acquire);
        Msr::new(SYSTEM_TIME).write(0);
        scale
    };
    frequency::by_kvm_scale(scale as u32, (scale >> 32) as i8)
}

/// Sets or clears this CPU's alarm.
#[inline]
pub fn set_alarm(deadline: Option<u64>) {
    let block = block::current();
    let deadline = deadline.unwrap_or(NEVER);
    block.alarm.set(deadline);
    arm(deadline);
}

/// Sets the timer for `deadline`, or as far towards it as it reaches.
fn arm(deadline: u64) {
    let ticks_left = || scale(deadline.saturating_sub(now()), ALARM_TICKS.load(Ordering::Relaxed)) + 1;
    match (features::get().tsc_deadline, deadline == NEVER) {
        (true, true) => local_apic::set_deadline(0),
        (true, false) => local_apic::set_deadline(ticks().saturating_add(ticks_left())),
        (false, true) => local_apic::set_count(0),
        (false, false) => local_apic::set_count(u32::try_from(ticks_left()).unwrap_or(u32::MAX)),
    }
}

/// The timer went off.
pub fn alarm_interrupt() {
    let block = block::current();
    let deadline = block.alarm.get();
    if deadline == NEVER {
        return; // it was cleared too late
    }
    if now() < deadline {
        return arm(deadline);
    }
    block.alarm.set(NEVER);
    if let Some(handler) = cpu::handler() {
        handler.alarm();
    }
}

/// See [`crate::time::MAY_BE_TAKEN`].
pub const MAY_BE_TAKEN: bool = false;

/// See [`crate::time::worked`].
#[inline]
pub fn worked(user: u64, kernel: u64) -> (u64, u64) {
    (user, kernel)
}

/// See [`crate::time::working`].
#[inline]
pub fn working(_cpu: usize, user: u64, kernel: u64) -> (u64, u64) {
    (user, kernel)
}
