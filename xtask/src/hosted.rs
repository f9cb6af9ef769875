//! Orrery on the host machine, for tests and measurements: `orrery run` with an archive of ours, on a pseudoterminal, as a
//! person would have it.

use crate::build;
use crate::initramfs::Initramfs;
use crate::paths::{TemporaryFolder, temporary_folder};
use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;

/// A machine that can be started.
pub struct Hosted {
    pub cpus: u32,
    /// In MiB.
    pub memory: u32,
    pub archive: Initramfs,
    /// The kernel's options.
    pub options: String,
    /// How it runs programs, as `orrery run --engine` names it; else as it chooses.
    pub engine: Option<&'static str>,
    /// The command that runs it; else `orrery` as it is built.
    pub tool: Option<PathBuf>,
}

/// A started one. Dropping it ends the process.
pub struct Running {
    pub child: Child,
    _folder: TemporaryFolder,
}

impl Hosted {
    /// Starts it. The file is the side of its terminal where the person sits.
    pub fn start(&self) -> Result<(Running, File)> {
        let folder = temporary_folder()?;
        let archive = folder.path().join("initramfs");
        std::fs::write(&archive, self.archive.bytes()).context("cannot write the initramfs")?;
        let (ours, theirs) = terminal(24, 80)?;
        let mut command = Command::new(self.tool.clone().map_or_else(orrery, Ok)?);
        command.arg("run").arg(format!("--cpus={}", self.cpus)).arg(format!("--memory={}M", self.memory));
        command.args(self.engine.map(|engine| format!("--engine={engine}")));
        command.arg(format!("--append={}", self.options)).arg(archive);
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
        let child = command.spawn().context("cannot start orrery")?;
        Ok((Running { child, _folder: folder }, ours))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No more than that it is over: it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command, built once.
pub fn orrery() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    Ok(built.insert(build::command_line_tool()?).clone())
}

/// A pseudoterminal's two sides: ours, and that of a program which takes it for a terminal.
pub fn terminal(rows: u16, columns: u16) -> Result<(File, File)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let path = Path::new(OsStr::from_bytes(name.as_bytes()));
    let slave = OpenOptions::new().read(true).write(true).open(path)?;
    tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((File::from(master), slave))
}
