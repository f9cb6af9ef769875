//! `x run`: boots Orrery with this terminal as its console, or runs one command there.
//!
//! On a virtual machine, what passes between our standard streams and the guest's serial console is told in
//! `launch::console`. On the host machine the same initramfs is handed to `orrery run`, whose process this one becomes.

use crate::initramfs::{Initramfs, Session};
use crate::qemu::{Accelerator, Guest, Machine, Vm};
use crate::{build, linux, terminal};
use anyhow::{Context, Result, ensure};
use launch::console::{self, Input};
use rustix::stdio::{stdin, stdout};
use rustix::termios::isatty;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// What `x run` is asked for.
#[derive(clap::Args)]
pub struct Run {
    #[command(flatten)]
    hardware: Hardware,
    /// The machine: QEMU's model of one, or this host's process.
    #[arg(long, value_enum, default_value = "q35")]
    machine: Place,
    /// More words for the kernel's command line.
    #[arg(long, default_value = "", value_name = "WORDS", allow_hyphen_values = true)]
    append: String,
    /// Lets the kernel tell what it does while it boots.
    #[arg(long)]
    verbose: bool,
    /// A command to run instead of a shell; its exit status becomes ours.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Where to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// QEMU's PC with PCI Express and firmware.
    Q35,
    /// QEMU's smallest machine.
    Microvm,
    /// An ordinary process, without QEMU.
    Host,
}

impl Place {
    /// QEMU's model, if it is one.
    pub fn model(self) -> Option<Machine> {
        match self {
            Place::Q35 => Some(Machine::Q35),
            Place::Microvm => Some(Machine::Microvm),
            Place::Host => None,
        }
    }
}

/// The virtual machine to boot on.
#[derive(clap::Args, Clone, Copy)]
pub struct Hardware {
    /// How many CPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub cpus: u32,
    /// Memory in MiB (64, 64M) or GiB (1G).
    #[arg(long, default_value = "256M", value_parser = mebibytes)]
    pub memory: u32,
    /// QEMU's model of the machine; what `x run` offers is more than that.
    #[arg(skip = Machine::Q35)]
    pub machine: Machine,
    /// Whose kernel to boot.
    #[arg(long, value_enum, default_value = "orrery")]
    pub kernel: Guest,
    /// Instead of choosing between KVM and translation.
    #[arg(long, value_enum, env = "ORRERY_ACCEL")]
    pub accelerator: Option<Accelerator>,
}

fn mebibytes(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let number: u32 = digits.parse().map_err(|_| format!("'{text}' is no amount of memory: try 64M or 1G"))?;
    number.checked_mul(factor).filter(|&amount| amount > 0).ok_or_else(|| format!("'{text}' is no amount of memory"))
}

impl Hardware {
    /// The same as words for `orrery`.
    ///
    /// # Errors
    /// Something only a virtual machine has was asked for.
    pub fn of_host_machine(&self) -> Result<[String; 3]> {
        ensure!(self.kernel == Guest::Orrery, "only Orrery runs on the host machine");
        ensure!(self.accelerator.is_none(), "the host machine runs programs on the processor itself");
        Ok(["run".into(), format!("--cpus={}", self.cpus), format!("--memory={}M", self.memory)])
    }

    /// The machine with this archive and these boot options, before its kernel's own.
    pub fn vm(&self, archive: Initramfs, options: &str) -> Result<Vm> {
        let mut archive = archive;
        let (kernel, own) = match self.kernel {
            Guest::Orrery => (build::kernel()?.image, String::new()),
            Guest::Linux => {
                linux_extras(&mut archive)?;
                (linux::kernel()?, format!("console=ttyS0 panic=-1 {}", linux::clock_hint(self.machine)))
            }
        };
        let mut vm = Vm::new(self.machine, kernel, archive.bytes(), format!("{own}{options}"));
        vm.cpus = self.cpus;
        vm.memory = self.memory;
        if let Some(accelerator) = self.accelerator {
            vm.accelerator = accelerator;
            vm.cpu = if accelerator == Accelerator::Kvm { "host" } else { "max" };
        }
        Ok(vm)
    }
}

/// The usual initramfs as a file.
pub fn standard_archive() -> Result<PathBuf> {
    build::write_if_changed("initramfs", &Initramfs::standard()?.bytes())
}

/// What only a Linux guest needs: a program that ends the machine with a status.
pub fn linux_extras(archive: &mut Initramfs) -> Result<()> {
    for program in crate::programs::compile("user/linux")? {
        archive.program(&format!("sbin/{}", program.name), &program)?;
    }
    Ok(())
}

impl Run {
    /// Runs the machine to its end.
    pub fn run(mut self) -> Result<ExitCode> {
        let Some(model) = self.machine.model() else { return self.run_on_host() };
        self.hardware.machine = model;
        let one_command = !self.command.is_empty();
        let (input, early) = Input::open(one_command)?;
        let archive = {
            let mut archive = Initramfs::standard()?;
            let mut stty = Vec::new();
            if !isatty(stdout()) {
                stty.extend(["-onlcr"]);
            }
            if !isatty(stdin()) {
                stty.extend(["-echo", "-icrnl", "-isig", "-ixon"]);
            }
            let window = terminal::window().filter(|_| self.hardware.kernel == Guest::Linux);
            archive.session(Session {
                command: self.command.clone(),
                input: early,
                terminal: stty,
                announced: one_command,
                window,
            });
            archive
        };
        let mut options = Vec::new();
        options.extend((!self.verbose).then(|| "quiet".to_string()));
        if self.hardware.kernel == Guest::Orrery {
            options.extend(terminal::window().map(|(rows, columns)| format!("console.size={rows}x{columns}")));
        }
        options.extend(std::env::var("TERM").ok().filter(|name| safe_word(name)).map(|name| format!("TERM={name}")));
        options.extend((!self.append.is_empty()).then_some(self.append));
        let vm = self.hardware.vm(archive, &options.join(" "))?;

        Ok(ExitCode::from(console::attach(&vm, input, one_command)?))
    }

    /// Becomes `orrery run` with the usual initramfs.
    fn run_on_host(&self) -> Result<ExitCode> {
        let mut command = Command::new(build::command_line_tool()?);
        command.args(self.hardware.of_host_machine()?).arg(format!("--append={}", self.append));
        command.args(self.verbose.then_some("--verbose"));
        if !self.command.is_empty() {
            // As /init has it.
            command.arg("--workdir=/root").args(SESSION.map(|variable| format!("--env={variable}")));
        }
        command.arg(standard_archive()?).arg("--").args(&self.command);
        Err(command.exec()).context("cannot start orrery")
    }
}

/// The environment in which /init starts a session.
const SESSION: [&str; 3] = ["PATH=/bin:/sbin:/usr/bin:/usr/sbin", "USER=root", "LOGNAME=root"];

/// May a word stand on the kernel's command line?
fn safe_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_units() {
        assert_eq!(mebibytes("64"), Ok(64));
        assert_eq!(mebibytes("64M"), Ok(64));
        assert_eq!(mebibytes("2G"), Ok(2048));
        assert!(mebibytes("0").is_err() && mebibytes("x").is_err() && mebibytes("9999999999G").is_err());
    }
}
