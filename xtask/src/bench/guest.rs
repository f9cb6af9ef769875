//! A benchmark program as the session of a guest: both kernels at their best, nothing random in either, and the rows it prints.

use crate::console::Console;
use crate::initramfs::{Initramfs, Session};
use crate::programs;
use crate::qemu::{Accelerator, Clock, Guest, Machine};
use crate::run::Hardware;
use anyhow::{Result, ensure};
use std::time::Duration;

/// Linux at its best.
const LINUX_OPTIONS: &str = "quiet init_on_alloc=0 mitigations=off nokaslr norandmaps";
const ORRERY_OPTIONS: &str = "quiet norandmaps";

/// QEMU emulates `rep movsb` byte by byte, so neither kernel may believe it is quick.
const CPU: &str = "max,-erms,-fsrm";

const LIMIT: Duration = Duration::from_secs(600);

/// A program of `user/bench`, and the machine it is measured on.
pub struct Measured<'a> {
    /// The program's name.
    pub program: &'a str,
    /// Its rows to run; none runs all.
    pub rows: &'a [String],
    /// CPUs of the machine.
    pub cpus: u32,
    /// Its memory in MiB.
    pub memory: u32,
    /// Time that passes by instructions, or as for us.
    pub clock: Clock,
}

/// The fields of a row after the word `row`.
pub type Fields = Vec<String>;

impl Measured<'_> {
    /// Boots `guest` with the program as its session. Gives the rows it printed.
    ///
    /// # Errors
    /// When the program fails, or does not come to its end.
    pub fn run(&self, guest: Guest) -> Result<Vec<Fields>> {
        let mut archive = Initramfs::standard()?;
        for program in programs::compile("user/bench")? {
            archive.program(&format!("bin/{}", program.name), &program)?;
        }
        let mut command = vec![format!("/bin/{}", self.program)];
        command.extend_from_slice(self.rows);
        archive.session(Session { command, terminal: vec!["-opost"], ..Session::default() });
        let accelerator = Some(Accelerator::Tcg).filter(|_| self.clock == Clock::Instructions);
        let hardware =
            Hardware { cpus: self.cpus, memory: self.memory, machine: Machine::Q35, kernel: guest, accelerator };
        let mut vm = hardware.vm(archive, if guest == Guest::Linux { LINUX_OPTIONS } else { ORRERY_OPTIONS })?;
        vm.clock = self.clock;
        if vm.accelerator == Accelerator::Tcg {
            vm.cpu = CPU;
        }
        let (status, screen) = Console::start(&vm)?.end(LIMIT)?;
        ensure!(status == 0, "the benchmark ended with status {status}:\n{screen}");
        let rows: Vec<Fields> = screen.lines().filter_map(row).collect();
        ensure!(!rows.is_empty() && screen.lines().any(|line| line == "end"), "no figures:\n{screen}");
        Ok(rows)
    }
}

/// `row<tab>NAME<tab>FIELD...`.
fn row(line: &str) -> Option<Fields> {
    let rest = line.strip_prefix("row\t")?;
    Some(rest.split('\t').map(|field| field.trim().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn rows_are_read_field_by_field() {
        assert_eq!(row("row\tnull call\t329.0").unwrap(), ["null call", "329.0"]);
        assert_eq!(row("row\tstat behind mounts\t50\t1.5\r").unwrap(), ["stat behind mounts", "50", "1.5"]);
        assert!(row("Linux says hello").is_none());
    }
}
