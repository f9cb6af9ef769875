//! How long it takes from the start of the QEMU process to the shell's prompt, on both machines and both kernels, with the
//! same initramfs; what the kernel image weighs; and how little memory is enough.

use super::median;
use crate::console::Console;
use crate::initramfs::Initramfs;
use crate::qemu::{Guest, Machine};
use crate::run::Hardware;
use crate::{build, linux};
use anyhow::Result;
use std::fmt::Write;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// The table of medians.
pub fn measure(runs: u32) -> Result<String> {
    let mut table = format!(
        "Milliseconds from the start of QEMU to the prompt: median (least to most) of {runs}, the kernels in turn. Linux is {}.\n\n\
         | machine | Linux | Orrery |\n| --- | ---: | ---: |\n",
        linux::version(&linux::kernel()?)
    );
    for (machine, name) in [(Machine::Q35, "q35"), (Machine::Microvm, "microvm")] {
        let mut figures: [Vec<f64>; 2] = Default::default();
        for number in 1..=runs {
            eprintln!("x: booting on {name}, pair {number} of {runs}");
            for (guest, figures) in [Guest::Linux, Guest::Orrery].into_iter().zip(&mut figures) {
                figures.push(boot(guest, machine)?.as_secs_f64() * 1000.0);
            }
        }
        let [linux, orrery] = figures.map(|figures| {
            let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
            let most = figures.iter().copied().fold(0.0, f64::max);
            format!("{:.0} ({least:.0} to {most:.0})", median(&figures))
        });
        writeln!(table, "| {name} | {linux} | {orrery} |")?;
    }
    let size = build::kernel()?.image.metadata()?.len();
    writeln!(table, "\nOrrery's kernel image, with its symbol table: {} KiB.", size / 1024)?;
    Ok(table)
}

fn boot(guest: Guest, machine: Machine) -> Result<Duration> {
    let hardware = Hardware { cpus: 1, memory: 256, machine, kernel: guest, accelerator: None };
    let options = if guest == Guest::Linux { "quiet mitigations=off" } else { "quiet" };
    let vm = hardware.vm(Initramfs::standard()?, options)?;
    let mut console = Console::start(&vm)?;
    console.expect_prompt(LIMIT)?;
    Ok(console.elapsed())
}
