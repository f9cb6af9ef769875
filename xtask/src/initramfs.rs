//! The archive a guest starts from.
//!
//! [`Initramfs::standard`] holds BusyBox with a symbolic link for each of its applets, `/etc`, the programs of `user/`, and
//! `/init`. What one run is about, its *session*, is an interactive shell, or else what the script `/etc/session` says: it
//! travels in the archive, not on the command line, so any words of any length fit.

use crate::{paths, programs};
use anyhow::{Context, Result, ensure};
use launch::archive::Archive;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;

/// An archive that can be filled with what this repository builds.
#[derive(Clone, Default)]
pub struct Initramfs(Archive);

impl Deref for Initramfs {
    type Target = Archive;

    fn deref(&self) -> &Archive {
        &self.0
    }
}

impl DerefMut for Initramfs {
    fn deref_mut(&mut self) -> &mut Archive {
        &mut self.0
    }
}

impl Initramfs {
    /// The usual guest, whose session is an interactive login shell.
    pub fn standard() -> Result<Initramfs> {
        let mut archive = Initramfs::default();
        for folder in ["bin", "dev", "etc", "home", "mnt", "proc", "root", "sbin", "sys", "usr/bin", "usr/sbin", "var"]
        {
            archive.folder(folder, 0o755);
        }
        archive.folder("tmp", 0o1777);
        let busybox = busybox()?;
        archive.file("bin/busybox", 0o755, std::fs::read(&busybox).context("cannot read BusyBox")?);
        for applet in applets(&busybox)? {
            archive.link(&applet, "/bin/busybox");
        }
        for file in programs::files_of(&paths::root().join("user/etc"))? {
            let name = file.file_name().context("a file without a name")?.to_string_lossy().into_owned();
            archive.file(format!("etc/{name}"), 0o644, std::fs::read(&file)?);
        }
        for program in programs::compile("user/init")? {
            archive.program(&program.name, &program)?;
        }
        for program in programs::compile("user/bin")? {
            archive.program(&format!("bin/{}", program.name), &program)?;
        }
        Ok(archive)
    }

    /// Adds a compiled program.
    pub fn program(&mut self, path: &str, program: &programs::Program) -> Result<()> {
        let content =
            std::fs::read(&program.path).with_context(|| format!("cannot read {}", program.path.display()))?;
        self.file(path, 0o755, content);
        Ok(())
    }

    /// Adds a program of this host, with the shared libraries that ldd(1) tells of, all where they are here.
    pub fn program_of_host(&mut self, path: &str) -> Result<()> {
        let listed = Command::new("ldd").arg(path).output().context("cannot start ldd")?;
        ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        for file in libraries(&String::from_utf8_lossy(&listed.stdout)).chain([path]) {
            let content = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
            self.file(file.trim_start_matches('/'), 0o755, content);
        }
        Ok(())
    }

    /// Sets what this boot is about.
    pub fn session(&mut self, session: Session) {
        if let Some(input) = &session.input {
            self.file("etc/input", 0o644, input.clone());
        }
        match session.script() {
            Some(script) => self.file("etc/session", 0o755, script),
            None => self.remove("etc/session"),
        }
    }
}

/// The paths that ldd(1) names: `libc.so.6 => /lib/libc.so.6 (0x...)`, and the interpreter alone.
fn libraries(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

/// What happens on the console after `/init` has prepared the guest.
#[derive(Clone, Default)]
pub struct Session {
    /// The one command and its arguments; empty: an interactive login shell.
    pub command: Vec<String>,
    /// What the command reads as standard input, instead of the console.
    pub input: Option<Vec<u8>>,
    /// Arguments of stty(1), to prepare the console.
    pub terminal: Vec<&'static str>,
    /// Prints [`Session::ANNOUNCEMENT`] when the console is prepared, just before the command starts.
    pub announced: bool,
    /// The window, for a kernel that is not told on its command line.
    pub window: Option<(u16, u16)>,
}

impl Session {
    /// Separates what the boot printed from what the session prints.
    pub const ANNOUNCEMENT: u8 = launch::console::ANNOUNCEMENT;

    /// The script; none if there is nothing to prepare for a shell, which `/init` then starts by itself.
    fn script(&self) -> Option<String> {
        let mut script = String::from("#!/bin/sh\n");
        let empty = script.len();
        let mut stty: Vec<String> = self.terminal.iter().map(|word| word.to_string()).collect();
        if let Some((rows, columns)) = self.window {
            stty.push(format!("rows {rows} cols {columns}"));
        }
        if !stty.is_empty() {
            script.push_str(&format!("stty {}\n", stty.join(" ")));
        }
        if self.announced {
            script.push_str(&format!("printf '\\{:03o}'\n", Session::ANNOUNCEMENT));
        }
        let quoted: Vec<String> = self.command.iter().map(|word| quote(word)).collect();
        if quoted.is_empty() && self.input.is_none() && script.len() == empty {
            return None;
        }
        let command = if quoted.is_empty() { "/bin/sh -l".into() } else { quoted.join(" ") };
        let input = if self.input.is_some() { " </etc/input" } else { "" };
        script.push_str(&format!("exec {command}{input}\n"));
        Some(script)
    }
}

/// A word as the shell reads it back unchanged.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The static BusyBox that `x` found.
fn busybox() -> Result<PathBuf> {
    Ok(std::env::var_os("ORRERY_BUSYBOX").map_or_else(|| PathBuf::from("/bin/busybox"), PathBuf::from))
}

/// The paths of its applets, as it lists them: `bin/ls`, `usr/bin/awk`.
fn applets(busybox: &PathBuf) -> Result<Vec<String>> {
    let output = Command::new(busybox).arg("--list-full").output().context("cannot start BusyBox")?;
    ensure!(output.status.success(), "BusyBox does not list its applets");
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter(|path| !path.is_empty() && *path != "bin/busybox").map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        let listed = "\tlinux-vdso.so.1 (0x7ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7e)\n";
        assert_eq!(libraries(listed).collect::<Vec<_>>(), ["/lib/x/libc.so.6", "/lib64/ld.so.2"]);
    }

    #[test]
    fn words_survive_the_shell() {
        for word in ["", "plain", "two words", "it's", "$HOME `x` \\ \"", "new\nline"] {
            let script = format!("printf %s {}", quote(word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }
}
