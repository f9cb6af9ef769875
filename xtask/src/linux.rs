//! Debian's Linux cloud kernel: the oracle for twin programs and the yardstick for measurements.
//!
//! `ORRERY_LINUX=PATH` names a kernel (a bzImage) to use instead. Otherwise the newest package is fetched once with
//! apt-get and unpacked to `target/linux`; nothing is installed.

use crate::paths;
use crate::qemu::Machine;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernel's bzImage.
pub fn kernel() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ORRERY_LINUX") {
        return Ok(PathBuf::from(path));
    }
    let folder = paths::target().join("linux");
    if let Some(kernel) = unpacked(&folder) {
        return Ok(kernel);
    }
    std::fs::create_dir_all(&folder)?;
    eprintln!("x: fetching Debian's Linux cloud kernel to {}", folder.display());
    fetch(&folder).context("no Linux kernel to compare with; ORRERY_LINUX=PATH can name a bzImage")?;
    unpacked(&folder).context("the package holds no kernel")
}

/// A short name of the kernel for tables and caches.
pub fn version(kernel: &Path) -> String {
    kernel.file_name().map_or_else(String::new, |name| name.to_string_lossy().replace("vmlinuz-", ""))
}

/// A boot option for microvm, which has no timer that Linux trusts for measuring the time-stamp counter: on a busy host it
/// hangs while trying. Translated guests see the host's counter, so the host's own word for its speed is right.
pub fn clock_hint(machine: Machine) -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let speed = info.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split_once(": ")?.1.parse::<f64>().ok());
    match (machine, speed) {
        (Machine::Microvm, Some(megahertz)) => format!("tsc_early_khz={} ", (megahertz * 1000.0) as u64),
        _ => String::new(),
    }
}

fn unpacked(folder: &Path) -> Option<PathBuf> {
    let files = crate::programs::files_of(&folder.join("boot")).ok()?;
    files.into_iter().find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
}

fn fetch(folder: &Path) -> Result<()> {
    let package = match newest() {
        Ok(package) => package,
        // A fresh container has no package lists yet.
        Err(_) => {
            let _ = Command::new("apt-get").args(["update", "-qq"]).status();
            newest()?
        }
    };
    run(Command::new("apt-get").args(["download", "-qq", &package]).current_dir(folder))?;
    let archive = crate::programs::files_of(folder)?
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded nothing")?;
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(folder))?;
    std::fs::remove_file(archive)?;
    // Modules and documentation are most of the package and of no use here.
    for unused in ["lib", "usr"] {
        let _ = std::fs::remove_dir_all(folder.join(unused));
    }
    Ok(())
}

/// The package that `linux-image-cloud-amd64` stands for today.
fn newest() -> Result<String> {
    let output =
        Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]).output().context("no apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-image-"))
        .map(String::from)
        .context("apt knows no linux-image-cloud-amd64")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr).trim());
    }
    ensure!(output.status.success());
    Ok(())
}
