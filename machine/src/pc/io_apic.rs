//! I/O APICs: the interrupts of devices. Each connected line gets a vector of its own and goes to CPU 0.

use super::traps::vector;
use super::{acpi, cpu, paging, port};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use spin::{Mutex, Once};

const VERSION: u32 = 1;
const REDIRECTIONS: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const LOW: u32 = 1 << 13;

/// What is called at an interrupt.
pub type InterruptHandler = Arc<dyn Fn() + Send + Sync>;

const VECTORS: usize = (vector::DEVICES_END - vector::DEVICES) as usize;
static HANDLERS: [Once<InterruptHandler>; VECTORS] = [const { Once::new() }; VECTORS];
static CONTROLLERS: Once<Mutex<Controllers>> = Once::new();

struct Controllers {
    controllers: Vec<Controller>,
    used_vectors: usize,
}

struct Controller {
    registers: NonNull<u32>,
    base: u32,
    inputs: u32,
}

// SAFETY: the registers are mapped for good and may be used from any CPU; the lock around keeps the two-step accesses whole.
unsafe impl Send for Controller {}

impl Controller {
    fn read(&mut self, register: u32) -> u32 {
        // SAFETY: the select and window registers of the mapped I/O APIC.
        unsafe {
            self.registers.write_volatile(register);
            self.registers.add(4).read_volatile()
        }
    }

    fn write(&mut self, register: u32, value: u32) {
        // SAFETY: as above; only this file chooses what is written, and no interrupt breaks memory safety.
        unsafe {
            self.registers.write_volatile(register);
            self.registers.add(4).write_volatile(value);
        }
    }
}

/// Finds the controllers, masks all their inputs, and the legacy controllers altogether.
pub fn initialise(platform: &acpi::Platform) {
    mask_legacy();
    let mut controllers = Vec::new();
    for found in &platform.io_apics {
        let page = found.address & !0xfff;
        let Some(registers) = paging::map_device(page..page + 4096) else { continue };
        // SAFETY: within the page just mapped, as the registers are aligned.
        let registers = unsafe { registers.byte_add(found.address & 0xff0) }.cast();
        let mut controller = Controller { registers, base: found.base, inputs: 0 };
        let version = controller.read(VERSION);
        if version == u32::MAX {
            continue; // there is nothing
        }
        controller.inputs = (version >> 16 & 0xff) + 1;
        for input in 0..controller.inputs {
            controller.write(REDIRECTIONS + 2 * input, MASKED);
        }
        controllers.push(controller);
    }
    CONTROLLERS.call_once(|| Mutex::new(Controllers { controllers, used_vectors: 0 }));
}

/// The two 8259 controllers: remapped out of the exceptions' way, then masked.
fn mask_legacy() {
    const FIRST: u16 = 0x20;
    const SECOND: u16 = 0xa0;
    // SAFETY: the legacy interrupt controllers' ports, where they exist; masking them.
    unsafe {
        for (controller, base, role) in [(FIRST, vector::LEGACY, 4), (SECOND, vector::LEGACY + 8, 2)] {
            port::write_u8(controller, 0x11);
            port::write_u8(controller + 1, base);
            port::write_u8(controller + 1, role);
            port::write_u8(controller + 1, 1);
            port::write_u8(controller + 1, 0xff);
        }
    }
}

/// Calls the handler of a device's vector.
pub fn serve(vector: u8) {
    let index = usize::from(vector.wrapping_sub(vector::DEVICES));
    if let Some(handler) = HANDLERS.get(index).and_then(Once::get) {
        handler();
    }
}

/// Routes an ISA interrupt to `handler`, on CPU 0. False if no controller has it or all vectors are used.
pub fn connect(interrupt: u8, handler: InterruptHandler) -> bool {
    let Some(controllers) = CONTROLLERS.get() else { return false };
    let mut controllers = controllers.lock();
    let overrides = acpi::get().map_or(&[][..], |platform| &platform.overrides);
    let exception = overrides.iter().find(|exception| exception.source == interrupt);
    let (input, low, level) = exception.map_or((interrupt.into(), false, false), |o| (o.input, o.low, o.level));
    let index = controllers.used_vectors;
    let responsible =
        |controller: &&mut Controller| (controller.base..controller.base + controller.inputs).contains(&input);
    let Some(controller) = controllers.controllers.iter_mut().find(responsible) else { return false };
    let Some(slot) = HANDLERS.get(index) else { return false };
    slot.call_once(|| handler);
    let redirection = REDIRECTIONS + 2 * (input - controller.base);
    let mode = if low { LOW } else { 0 } | if level { LEVEL } else { 0 };
    controller.write(redirection + 1, cpu::apic_id(0).unwrap_or(0) << 24);
    controller.write(redirection, mode | (u32::from(vector::DEVICES) + index as u32));
    controllers.used_vectors += 1;
    true
}
