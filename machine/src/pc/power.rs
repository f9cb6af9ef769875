//! Switching off and starting again.

use super::acpi::{Platform, Register};
use super::{paging, port};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::DescriptorTablePointer;

/// QEMU's `debugcon`: reads back its own number.
const DEBUG_CONSOLE: u16 = 0xe9;
/// QEMU's `isa-debug-exit`: ends QEMU with status (value << 1) | 1.
pub const DEBUG_EXIT: u16 = 0xf4;

/// The registers that lie in memory, mapped at boot: to switch off, to reset.
static OFF: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static RESET: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Maps what will be needed.
pub fn initialise(platform: &Platform) {
    let map = |register: Option<Register>| match register {
        Some(Register::Memory(address)) => {
            let page = address & !0xfff;
            let mapped = paging::map_device(page..page + 4096)?;
            // SAFETY: within the page just mapped.
            Some(unsafe { mapped.add(address & 0xfff) })
        }
        _ => None,
    };
    let store = |slot: &AtomicPtr<u8>, mapped: Option<NonNull<u8>>| {
        slot.store(mapped.map_or(ptr::null_mut(), NonNull::as_ptr), Ordering::Relaxed);
    };
    store(&OFF, map(platform.off.first().map(|(register, _)| *register)));
    store(&RESET, map(platform.reset.map(|(register, _)| register)));
}

/// Writes to a register of the power management.
fn write(register: Register, mapped: &AtomicPtr<u8>, value: u16) {
    // SAFETY: the firmware says that this register ends the machine; a mapped one is one byte.
    unsafe {
        match (register, NonNull::new(mapped.load(Ordering::Relaxed))) {
            (Register::Port(port), _) if value < 0x100 => port::write_u8(port, value as u8),
            (Register::Port(port), _) => port::write_u16(port, value),
            (Register::Memory(_), Some(mapped)) => mapped.write_volatile(value as u8),
            (Register::Memory(_), None) => {}
        }
    }
}

/// Tells whoever started QEMU how the machine ends.
fn tell<'a>(line: impl Iterator<Item = &'a u8>) {
    // SAFETY: on a QEMU without this device, and on other PCs, nothing listens to this port.
    unsafe {
        if port::read_u8(DEBUG_CONSOLE) == DEBUG_CONSOLE as u8 {
            line.for_each(|byte| port::write_u8(DEBUG_CONSOLE, *byte));
        }
    }
}

/// Switches the machine off. Ways to tell the status first, then the way of PCs; at last the CPU just halts.
pub fn off(status: u8) -> ! {
    interrupts::disable();
    let digits = [b'0' + status / 100, b'0' + status / 10 % 10, b'0' + status % 10];
    let leading = if status < 10 { 2 } else { usize::from(status < 100) };
    tell(b"exit ".iter().chain(digits.iter().skip(leading)).chain(b"\n"));
    // SAFETY: on a QEMU without this device, and on other PCs, nothing listens to this port.
    unsafe {
        port::write_u8(DEBUG_EXIT, status);
    }
    if let Some(platform) = super::acpi::get() {
        for (register, value) in &platform.off {
            write(*register, &OFF, *value);
        }
    }
    loop {
        hlt();
    }
}

/// Starts the machine again: as the firmware says, as PCs do, by the keyboard controller, by a fault the CPU cannot report.
pub fn reset() -> ! {
    interrupts::disable();
    tell(b"restart\n".iter());
    if let Some((register, value)) = super::acpi::get().and_then(|platform| platform.reset) {
        write(register, &RESET, value.into());
    }
    // SAFETY: the ports that reset PCs; an empty interrupt table makes the next exception reset the CPU.
    unsafe {
        port::write_u8(0xcf9, 0x06);
        port::write_u8(0x64, 0xfe);
        lidt(&DescriptorTablePointer { limit: 0, base: VirtAddr::zero() });
        core::arch::asm!("ud2", options(noreturn));
    }
}
