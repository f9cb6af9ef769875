//! Formats that the bare machine reads, as safe code without a machine, so that they are tested on the host.

pub mod acpi;
pub mod calendar;
pub mod symbols;
