//! The kernel as a program for the bare machine: joins `machine`, which calls `kernel_main`, to `orrery`, which is it.

#![cfg_attr(target_os = "none", no_std, no_main)]

/// The kernel's main: called once by the machine, on the boot CPU.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn kernel_main() -> ! {
    orrery::main()
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("The kernel image runs on a bare machine: build it with `./x build`.");
}
