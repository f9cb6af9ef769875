//! Device drivers: from registers to what a room above can use.
//!
//! | file | what it drives |
//! | --- | --- |
//! | `serial` | what a serial line is to its user: [`SerialUser`], [`Received`], [`LineSettings`] |
//! | `kernel_log` | [`KernelLog`]: the kernel's own messages, for the console, dmesg and /dev/kmsg |
//! | `host_console` | [`HostConsole`]: the terminal a machine was started from that is a process |
//! | `one_at_a_time` | how both of these see to their input |
//! | `uart_16550` | [`Uart`]: the 16550 and its kin, COM1 of every PC |
//!
//! A driver is handed its device's registers and interrupt line by the kernel's wiring, from `machine::device`, and owns
//! them from then on. It knows nothing of who uses it: it states a trait, and the room above (tty) implements it.
//! Drivers never sleep, and their interrupt handlers allocate nothing.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod host_console;
pub mod kernel_log;
mod one_at_a_time;
mod serial;
mod uart_16550;

pub use host_console::{ConsoleUser, HostConsole, HostTerminal};
pub use kernel_log::{KernelLog, Level};
pub use serial::{LineSettings, Parity, Received, SerialCounters, SerialUser};
pub use uart_16550::{Register, Registers, Uart};
