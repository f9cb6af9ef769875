//! `x debug`: the machine stopped before its first instruction, and GDB attached with the kernel's symbols.

use crate::initramfs::Initramfs;
use crate::paths::TemporaryFolder;
use crate::qemu::{Guest, Machine};
use crate::{build, run};
use anyhow::{Context, Result, ensure};
use std::process::{Command, ExitCode, Stdio};

/// What `x debug` is asked for.
#[derive(clap::Args)]
pub struct Debug {
    #[command(flatten)]
    hardware: run::Hardware,
    /// QEMU's model of the machine.
    #[arg(long, value_enum, default_value = "q35")]
    machine: Machine,
    /// GDB commands to run instead of asking for them (for scripts); may be repeated.
    #[arg(long = "do", value_name = "COMMAND")]
    commands: Vec<String>,
}

impl Debug {
    /// Debugs until GDB ends. The guest's console is written to `target/console.log`, since GDB has the terminal.
    pub fn run(self) -> Result<ExitCode> {
        ensure!(self.hardware.kernel == Guest::Orrery, "only Orrery can be debugged: Debian's kernel has no symbols");
        let linked = build::kernel()?.linked;
        let folder = TemporaryFolder::new()?;
        let socket = folder.path().join("gdb");
        let mut vm = run::Hardware { machine: self.machine, ..self.hardware }.vm(Initramfs::standard()?, "")?;
        vm.debugger = Some(socket.clone());
        let log = crate::paths::target().join("console.log");
        let console = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let machine = vm.start(Stdio::piped(), console.into())?;
        println!(
            "The console goes to {}. The machine waits at its first instruction; `continue` boots.",
            log.display()
        );

        let mut gdb = Command::new("gdb");
        gdb.arg("-q").arg(&linked).args(["-ex", "set confirm off", "-ex", "set pagination off"]);
        gdb.arg("-ex").arg(format!("target remote {}", socket.display()));
        gdb.args(["-ex", "hbreak orrery::main"]);
        for command in &self.commands {
            gdb.arg("-ex").arg(command);
        }
        if !self.commands.is_empty() {
            gdb.arg("-batch");
        }
        let status = gdb.status().context("cannot start gdb")?;
        drop(machine);
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
