//! Devices of the host machine: what it was given when it was started ([`Installed`]), and entropy.

use super::{cpu, heap, machine};
use crate::device::{ByteStream, Program, SerialPort, StandardStreams};
use crate::folder::{Lent, SharedFolder};
pub use setup::{Devices, InitramfsImage, Installed, InterruptLine, PortWindow, random_seed};
pub use streams::host::{Console, StandardStream, Terminal};
use streams::host::{Handler, Interrupt};

/// The serial ports: none.
pub fn serial_ports() -> Vec<SerialPort> {
    Vec::new()
}

fn installed() -> &'static Installed {
    &machine::current().devices
}

/// The standard streams.
pub fn standard_streams() -> StandardStreams {
    installed().standard_streams()
}

/// The terminal.
pub fn terminal() -> Option<ByteStream> {
    installed().terminal()
}

/// Makes a handler one of this machine's interrupts.
fn connect(handler: Handler) -> Interrupt {
    let machine = machine::current();
    Box::new(move || cpu::raise(machine, handler.clone()))
}

/// What devices need of the machine.
pub const LENT: Lent = Lent { connect, apart: |body| heap::apart(body) };

/// The kernel's options.
pub fn command_line() -> String {
    installed().command_line()
}

/// What the machine was started to run.
pub fn program() -> Option<Program> {
    installed().program()
}

/// Folders of the host shown to the guest.
pub fn folders() -> Vec<SharedFolder> {
    installed().folders()
}

/// The initramfs, once.
pub fn initramfs() -> Option<InitramfsImage> {
    installed().initramfs()
}
