//! A virtual machine as a value, the QEMU line that starts it, and the status it ends with.
//!
//! The machine has no disk and no network: a kernel, an initramfs, one serial port on QEMU's standard input and output,
//! and two devices to end with: `debugcon` (port 0xe9), where the guest writes `exit STATUS`, and `isa-debug-exit`
//! (port 0xf4), which ends QEMU. The first carries all eight bits of the status, which the second cannot.

use crate::temporary::{self, TemporaryFolder};
use anyhow::{Context, Error, Result, bail};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// QEMU's model of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Machine {
    /// A PC with PCI Express and firmware.
    Q35,
    /// The smallest: no PCI, hardly any firmware.
    Microvm,
}

/// Whose kernel runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Guest {
    /// Ours.
    Orrery,
    /// Debian's Linux cloud kernel, to compare with.
    Linux,
}

/// How guest instructions are executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// KVM when the processor can and we may, else TCG. That /dev/kvm opens is not enough: inside some virtual machines
    /// it opens and then hangs, so the processor's own word is asked first.
    pub fn detect() -> Accelerator {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let virtualises = flags
            .lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
        let opens = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        if virtualises && opens() { Accelerator::Kvm } else { Accelerator::Tcg }
    }
}

/// How time passes for the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// As for us.
    Wall,
    /// One nanosecond, and one tick of the time-stamp counter, for each instruction: whole runs are bit-identical.
    Instructions,
}

/// A machine that can be started.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Its model.
    pub machine: Machine,
    /// Who executes its instructions.
    pub accelerator: Accelerator,
    /// QEMU's name of the processor.
    pub cpu: &'static str,
    /// How many it has.
    pub cpus: u32,
    /// In MiB.
    pub memory: u32,
    /// The image to boot, through PVH.
    pub kernel: PathBuf,
    /// The archive's bytes; none starts the kernel without one.
    pub initramfs: Option<Vec<u8>>,
    /// The kernel's options.
    pub command_line: String,
    /// Its time.
    pub clock: Clock,
    /// Waits for a debugger on this socket before the first instruction.
    pub debugger: Option<PathBuf>,
}

impl Vm {
    /// A machine of usual size for `kernel`.
    pub fn new(machine: Machine, kernel: PathBuf, initramfs: Vec<u8>, command_line: impl Into<String>) -> Vm {
        let accelerator = Accelerator::detect();
        Vm {
            machine,
            accelerator,
            cpu: if accelerator == Accelerator::Kvm { "host" } else { "max" },
            cpus: 1,
            memory: 256,
            kernel,
            initramfs: Some(initramfs),
            command_line: command_line.into(),
            clock: Clock::Wall,
            debugger: None,
        }
    }

    /// Starts QEMU with these standard streams.
    ///
    /// # Errors
    /// When QEMU is not there, or the archive cannot be written for it.
    pub fn start(&self, input: Stdio, output: Stdio) -> Result<Running> {
        let folder = temporary::folder()?;
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.arg("-machine").arg(match self.machine {
            Machine::Q35 => "q35,vmport=off,smm=off,usb=off",
            Machine::Microvm => "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on",
        });
        match (self.accelerator, self.clock) {
            (Accelerator::Kvm, _) => command.args(["-accel", "kvm"]),
            (Accelerator::Tcg, Clock::Wall) => command.args(["-accel", "tcg"]),
            (Accelerator::Tcg, Clock::Instructions) => {
                command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-seed", "1"]);
                command.args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"])
            }
        };
        command.arg("-cpu").arg(self.cpu);
        command.arg("-smp").arg(self.cpus.to_string());
        command.arg("-m").arg(format!("{}M", self.memory));
        command.arg("-kernel").arg(&self.kernel);
        if let Some(archive) = &self.initramfs {
            let path = folder.path().join("initramfs");
            std::fs::write(&path, archive).context("cannot write the initramfs")?;
            command.arg("-initrd").arg(path);
        }
        command.arg("-append").arg(&self.command_line);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        command.arg("-debugcon").arg(format!("file:{}", folder.path().join("status").display()));
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        if let Some(socket) = &self.debugger {
            command.arg("-S").arg("-gdb").arg(format!("unix:{},server=on,wait=off", socket.display()));
        }
        command.stdin(input).stdout(output).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(error)
                .context("there is no qemu-system-x86_64: install it (Debian: apt-get install qemu-system-x86)"),
            _ => Error::new(error).context("cannot start qemu-system-x86_64"),
        })?;
        Ok(Running { child, folder, finished: false })
    }
}

/// A started QEMU. Dropping it ends the process.
#[derive(Debug)]
pub struct Running {
    /// QEMU.
    pub child: Child,
    folder: TemporaryFolder,
    finished: bool,
}

impl Running {
    /// Waits for the end, and gives the guest's exit status: 0 when it asked for a restart.
    ///
    /// # Errors
    /// When QEMU failed, or the guest stopped without a status: a triple fault, a killed QEMU.
    pub fn wait(mut self) -> Result<u8> {
        // QEMU says why it failed on its standard error; it says little, so the pipe cannot fill up before.
        let ended = self.child.wait().context("waiting for QEMU")?;
        self.finished = true;
        let said = std::fs::read_to_string(self.folder.path().join("status")).unwrap_or_default();
        if let Some(status) = said.lines().rev().find_map(|line| line.strip_prefix("exit ")?.trim().parse().ok()) {
            return Ok(status);
        }
        if said.lines().any(|line| line == "restart") {
            let _ = writeln!(std::io::stderr(), "the guest asked for a restart; a machine of ours runs once");
            return Ok(0);
        }
        let mut complaint = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut complaint);
        }
        if ended.success() || !complaint.is_empty() {
            bail!("the machine stopped without an exit status ({ended}) {}", complaint.trim());
        }
        bail!("QEMU ended without the guest's exit status: {ended}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
