//! The archive a guest starts from: newc cpio (cpio(5)), written here so that the same input gives the same bytes.
//!
//! [`Initramfs::standard`] holds BusyBox with a symbolic link for each of its applets, `/etc`, the programs of `user/`, and
//! `/init`. What one run is about, its *session*, is an interactive shell, or else what the script `/etc/session` says: it
//! travels in the archive, not on the command line, so any words of any length fit.

use crate::{paths, programs};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// A file system to be, by path without the leading slash.
#[derive(Clone, Default)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    mode: u32,
    content: Vec<u8>,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

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
            archive.file(&format!("etc/{name}"), 0o644, std::fs::read(&file)?);
        }
        for program in programs::compile("user/init")? {
            archive.program(&program.name, &program)?;
        }
        for program in programs::compile("user/bin")? {
            archive.program(&format!("bin/{}", program.name), &program)?;
        }
        Ok(archive)
    }

    /// Adds a regular file, and the folders it lies in.
    pub fn file(&mut self, path: &str, permissions: u32, content: impl Into<Vec<u8>>) {
        self.insert(path, Entry { mode: FILE | permissions, content: content.into() });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Entry { mode: LINK | 0o777, content: target.into() });
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str, permissions: u32) {
        self.insert(path, Entry { mode: FOLDER | permissions, content: Vec::new() });
    }

    /// Adds a compiled program.
    pub fn program(&mut self, path: &str, program: &programs::Program) -> Result<()> {
        let content =
            std::fs::read(&program.path).with_context(|| format!("cannot read {}", program.path.display()))?;
        self.file(path, 0o755, content);
        Ok(())
    }

    /// Removes an entry.
    pub fn remove(&mut self, path: &str) {
        self.entries.remove(path);
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

    fn insert(&mut self, path: &str, entry: Entry) {
        for (slash, _) in path.match_indices('/') {
            let folder = path.get(..slash).unwrap_or_default();
            self.entries.entry(folder.into()).or_insert(Entry { mode: FOLDER | 0o755, content: Vec::new() });
        }
        self.entries.insert(path.into(), entry);
    }

    /// The archive: entries sorted by path, owned by root, from the beginning of time.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            append(&mut bytes, inode, path, entry.mode, &entry.content);
        }
        append(&mut bytes, 0, "TRAILER!!!", 0, &[]);
        bytes
    }
}

/// One record of the newc format: a header of hexadecimal numbers, the name, the content, each padded to four bytes.
fn append(bytes: &mut Vec<u8>, inode: u32, path: &str, mode: u32, content: &[u8]) {
    let links = if mode & 0o170_000 == FOLDER { 2 } else { 1 };
    let fields = [inode, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
    bytes.extend(b"070701");
    for field in fields {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(path.bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
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
    /// Separates what the boot printed from what the session prints: ASCII's record separator.
    pub const ANNOUNCEMENT: u8 = 0x1e;

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
    fn an_archive_has_headers_of_110_bytes_and_ends_with_a_trailer() {
        let mut archive = Initramfs::default();
        archive.file("etc/motd", 0o644, "hi\n");
        let bytes = archive.bytes();
        assert!(bytes.starts_with(b"070701"));
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 3);
        assert!(text.find("etc\0").unwrap() < text.find("etc/motd\0").unwrap());
        assert!(text.contains("TRAILER!!!\0"));
        assert_eq!(bytes.get(110..114), Some(&b"etc\0"[..]));
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
