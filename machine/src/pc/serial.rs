//! COM1 by polling: for a kernel in trouble. The real driver is in the kernel.

use super::port;
use core::fmt::{self, Write};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMITTER_EMPTY: u8 = 0x20;
/// Enough for a byte at 9,600 baud; then the port is dead, and the byte is lost.
const PATIENCE: u32 = 1_000_000;

struct Com1;

impl Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}

fn send(byte: u8) {
    for _ in 0..PATIENCE {
        // SAFETY: reading the line status and writing the data register of a UART touches no memory; without a UART
        // nothing happens.
        unsafe {
            if port::read_u8(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                return port::write_u8(COM1, byte);
            }
        }
        spin_loop();
    }
}

/// Prints without memory. Waits for another CPU that is printing, but not for ever: it may have been stopped.
pub fn print(text: fmt::Arguments<'_>) {
    static IN_USE: AtomicBool = AtomicBool::new(false);
    for _ in 0..PATIENCE {
        if !IN_USE.swap(true, Ordering::Acquire) {
            break;
        }
        spin_loop();
    }
    let _ = Com1.write_fmt(text);
    IN_USE.store(false, Ordering::Release);
}
