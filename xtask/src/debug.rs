//! `x debug`: GDB with the kernel's symbols, on a virtual machine that is stopped before its first instruction, or on the
//! process that is the host machine.

use crate::initramfs::Initramfs;
use crate::paths::temporary_folder;
use crate::qemu::{Guest, Machine};
use crate::{build, run};
use anyhow::{Context, Result, ensure};
use std::process::{Command, ExitCode, Stdio};

/// What `x debug` is asked for.
#[derive(clap::Args)]
pub struct Debug {
    #[command(flatten)]
    hardware: run::Hardware,
    /// The machine: QEMU's model of one, or this host's process.
    #[arg(long, value_enum, default_value = "q35")]
    machine: run::Place,
    /// GDB commands to run instead of asking for them (for scripts); may be repeated.
    #[arg(long = "do", value_name = "COMMAND")]
    commands: Vec<String>,
}

impl Debug {
    /// Debugs until GDB ends.
    pub fn run(self) -> Result<ExitCode> {
        match self.machine.model() {
            Some(model) => self.on_vm(model),
            None => self.on_host(),
        }
    }

    /// The guest's console is written to `target/console.log`, since GDB has the terminal.
    fn on_vm(&self, machine: Machine) -> Result<ExitCode> {
        ensure!(self.hardware.kernel == Guest::Orrery, "only Orrery can be debugged: Debian's kernel has no symbols");
        let linked = build::kernel()?.linked;
        let folder = temporary_folder()?;
        let socket = folder.path().join("gdb");
        let mut vm = run::Hardware { machine, ..self.hardware }.vm(Initramfs::standard()?, "")?;
        vm.debugger = Some(socket.clone());
        let log = crate::paths::target().join("console.log");
        let console = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let machine = vm.start(Stdio::piped(), console.into())?;
        println!(
            "The console goes to {}. The machine waits at its first instruction; `continue` boots.",
            log.display()
        );
        let mut gdb = gdb();
        gdb.arg("-ex").arg(format!("target remote {}", socket.display())).args(["-ex", "hbreak kernel_main"]);
        self.carry_out(&mut gdb);
        let ended = finish(gdb.arg(&linked));
        drop(machine);
        ended
    }

    /// The guest shares GDB's terminal: whoever is not stopped has it.
    fn on_host(&self) -> Result<ExitCode> {
        let words = self.hardware.of_host_machine()?;
        let orrery = build::command_line_tool_to_debug()?;
        println!("`run` boots. The guest's shell has the terminal until a breakpoint is hit.");
        let mut gdb = gdb();
        gdb.args(["-ex", "break orrery::boot::main"]);
        self.carry_out(&mut gdb);
        finish(gdb.arg("--args").arg(orrery).args(words).arg(run::standard_archive()?))
    }

    fn carry_out(&self, gdb: &mut Command) {
        for command in &self.commands {
            gdb.arg("-ex").arg(command);
        }
        if !self.commands.is_empty() {
            gdb.arg("-batch");
        }
    }
}

fn gdb() -> Command {
    let mut gdb = Command::new("gdb");
    gdb.args(["-q", "-ex", "set confirm off", "-ex", "set pagination off"]);
    gdb
}

fn finish(gdb: &mut Command) -> Result<ExitCode> {
    let status = gdb.status().context("cannot start gdb")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
