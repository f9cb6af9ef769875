//! The first program of a guest: which file it is, its words, its environment, its folder.
//!
//! A name without a slash is looked for in the guest's PATH, as a shell does, but from here: what is missing is told
//! before anything is started. Where we cannot look (a damaged archive, a host without openat2(2)) the kernel does.

use crate::arguments::{GuestPath, Run, Trace, Variable, Volume};
use crate::failure::Failure;
use crate::root::Root;
use anyhow::{Context, Result, anyhow, bail};
use launch::archive::Index;
use machine::device::Program;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const DEFAULT_PATH: &[u8] = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_HOME: &[u8] = b"HOME=/root";
const SHELL: &[u8] = b"/bin/sh";
/// The name under which a shell reads /etc/profile.
const LOGIN_SHELL: &[u8] = b"-sh";

/// The environment of a command: the usual variables, then those the user sets.
pub fn environment(run: &Run, on_terminal: bool) -> Vec<Vec<u8>> {
    variables(&[DEFAULT_PATH, DEFAULT_HOME], &run.env, on_terminal, |name| std::env::var_os(name))
}

/// These variables, and on a terminal its name, and those the user sets; the last of a name counts.
fn variables(
    defaults: &[&[u8]],
    asked: &[Variable],
    on_terminal: bool,
    ours: impl Fn(&OsStr) -> Option<OsString>,
) -> Vec<Vec<u8>> {
    let copied = |name: &OsStr| Some([name.as_bytes(), b"=", ours(name)?.as_bytes()].concat());
    let mut words: Vec<Vec<u8>> = defaults.iter().map(|word| word.to_vec()).collect();
    if on_terminal {
        words.extend(copied(OsStr::new("TERM")));
    }
    for variable in asked {
        let word = match variable {
            Variable::Set(word) => Some(word.clone()),
            Variable::Copy(name) => copied(name),
        };
        if let Some(word) = word {
            words.retain(|old| name_of(old) != name_of(&word));
            words.push(word);
        }
    }
    words
}

fn name_of(assignment: &[u8]) -> &[u8] {
    assignment.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// The first program of a folder or an archive: the user's words, or a login shell.
pub fn in_root(run: &Run, root: &Root, environment: Vec<Vec<u8>>) -> Result<Program, Failure> {
    let unpacked;
    let view = match root {
        Root::Folder(path) => View::Folder(open_folder(path)?),
        Root::Archive(bytes) | Root::Program(bytes) => {
            unpacked = decompressed(bytes);
            View::Archive(Index::read(unpacked.as_deref().unwrap_or(bytes)))
        }
    };
    let guest = Guest { view, volumes: &run.volumes, name: run.target.display().to_string() };
    let folder = guest.working_folder(run.workdir.as_ref())?;
    let words: Vec<Vec<u8>> = run.words.iter().cloned().map(OsString::into_vec).collect();
    let (path, arguments) = match words.first() {
        Some(name) => (guest.find(name, &folder, &environment)?, words),
        None => (guest.find(SHELL, &folder, &environment)?, vec![LOGIN_SHELL.to_vec()]),
    };
    Ok(Program { path, arguments, environment, working_directory: folder })
}

/// The first program when there is only one, at this path of this archive.
pub fn alone(run: &Run, archive: &[u8], path: Vec<u8>, environment: Vec<Vec<u8>>) -> Result<Program, Failure> {
    let guest = Guest {
        view: View::Archive(Index::read(archive)),
        volumes: &run.volumes,
        name: "a root that holds one program".into(),
    };
    let folder = guest.working_folder(run.workdir.as_ref())?;
    let typed = run.target.as_os_str().as_bytes().to_vec();
    let arguments = std::iter::once(typed).chain(run.words.iter().cloned().map(OsString::into_vec)).collect();
    Ok(Program { path, arguments, environment, working_directory: folder })
}

/// Words for the kernel on any machine, with the window of the terminal if it can't know that by itself.
pub fn for_kernel(run: &Run, window: Option<(u16, u16)>) -> Vec<String> {
    let mut words = vec![if run.verbose { "loglevel=7" } else { "quiet" }.to_string(), "hostname=orrery".to_string()];
    words.extend((run.trace == Some(Trace::Syscalls)).then(|| "strace".to_string()));
    words.extend(window.map(|(rows, columns)| format!("console.size={rows}x{columns}")));
    words.extend((!run.append.is_empty()).then(|| run.append.clone()));
    words
}

/// Words of the kernel's command line that give an initramfs's own init its variables.
pub fn for_init(run: &Run, on_terminal: bool) -> Result<Vec<String>> {
    if run.workdir.is_some() {
        bail!("--workdir is for a command; an initramfs's own init starts in /. Name a command, as in: -- /bin/sh");
    }
    variables(&[], &run.env, on_terminal, |name| std::env::var_os(name)).iter().map(|word| kernel_word(word)).collect()
}

fn kernel_word(variable: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(variable).ok().filter(|text| !text.contains(['"', '\0']));
    let text = text.with_context(|| {
        let name = String::from_utf8_lossy(name_of(variable));
        format!(
            "--env {name}: an initramfs's own init gets its variables through the kernel, which takes no quotes and \
             only UTF-8. Name the command to run, as in: -- /bin/sh"
        )
    })?;
    Ok(if text.contains(|letter: char| letter.is_ascii_whitespace()) { format!("\"{text}\"") } else { text.into() })
}

fn open_folder(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty()).with_context(|| format!("{} cannot be opened", path.display()))?)
}

/// What a gzip archive holds, if that can be told.
fn decompressed(archive: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read;
    if !archive.starts_with(&[0x1f, 0x8b]) {
        return None;
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(archive).read_to_end(&mut plain).ok()?;
    Some(plain)
}

/// What lies at a path of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Folder,
    Executable,
    Other,
    /// We cannot look there.
    Unknown,
}

/// A root seen from outside.
enum View<'a> {
    Folder(OwnedFd),
    Archive(Index<'a>),
}

/// The guest's files, before it runs.
struct Guest<'a> {
    view: View<'a>,
    volumes: &'a [Volume],
    /// For messages.
    name: String,
}

/// Where the kernel mounts something of its own.
const KERNEL_MOUNTS: [&[u8]; 4] = [b"dev", b"proc", b"sys", b"tmp"];

impl Guest<'_> {
    /// Looks at an absolute path.
    fn look(&self, path: &[u8]) -> Found {
        let names = lexical(path);
        let below = |mount: &[&[u8]]| names.starts_with(mount);
        let volume = self.volumes.iter().filter(|volume| below(&lexical(&volume.guest.0)));
        if let Some(volume) = volume.max_by_key(|volume| lexical(&volume.guest.0).len()) {
            let rest = names.get(lexical(&volume.guest.0).len()..).unwrap_or_default().join(&b'/');
            return open_folder(&volume.host).map_or(Found::Unknown, |folder| look_in(&folder, &rest));
        }
        let found = match &self.view {
            View::Folder(folder) => look_in(folder, path),
            View::Archive(index) => match index.find(path) {
                Some(found) if found.is_folder() => Found::Folder,
                Some(found) if found.is_executable() => Found::Executable,
                Some(_) => Found::Other,
                None if index.is_complete() => Found::Nothing,
                None => Found::Unknown,
            },
        };
        match names.first() {
            Some(first) if found == Found::Nothing && KERNEL_MOUNTS.contains(first) => Found::Unknown,
            _ => found,
        }
    }

    fn working_folder(&self, asked: Option<&GuestPath>) -> Result<Vec<u8>, Failure> {
        let Some(GuestPath(folder)) = asked else { return Ok(b"/".to_vec()) };
        let shown = String::from_utf8_lossy(folder);
        match self.look(folder) {
            Found::Folder | Found::Unknown => Ok(folder.to_vec()),
            Found::Nothing => Err(anyhow!("--workdir: there is no {shown} in {}", self.name).into()),
            Found::Executable | Found::Other => Err(anyhow!("--workdir: {shown} in {} is no folder", self.name).into()),
        }
    }

    /// The file a command means.
    fn find(&self, name: &[u8], folder: &[u8], environment: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
        let shown = String::from_utf8_lossy(name);
        if name.contains(&b'/') {
            let path = if name.starts_with(b"/") { name.to_vec() } else { [folder, b"/", name].concat() };
            return match self.look(&path) {
                Found::Executable | Found::Unknown => Ok(path),
                Found::Nothing => Err(Failure::not_found(format!("there is no {shown} in {}", self.name))),
                Found::Folder => Err(Failure::not_executable(format!("{shown} in {} is a folder", self.name))),
                Found::Other => {
                    Err(Failure::not_executable(format!("{shown} in {} may not be executed: chmod +x it", self.name)))
                }
            };
        }
        let path = environment.iter().find_map(|word| word.strip_prefix(b"PATH=")).unwrap_or_default();
        let candidates = || {
            path.split(|byte| *byte == b':').map(|place| {
                let place = if place.is_empty() { folder } else { place };
                [place, b"/", name].concat()
            })
        };
        let found: Vec<Found> = candidates().map(|candidate| self.look(&candidate)).collect();
        let first = |wanted: &[Found]| {
            candidates().zip(&found).find(|(_, found)| wanted.contains(found)).map(|(candidate, _)| candidate)
        };
        if name.is_empty() {
            return Err(Failure::not_found("the command is an empty word"));
        }
        if let Some(candidate) = first(&[Found::Executable]).or_else(|| first(&[Found::Unknown])) {
            return Ok(candidate);
        }
        match first(&[Found::Other]) {
            Some(other) => Err(Failure::not_executable(format!(
                "{} in {} may not be executed: chmod +x it",
                String::from_utf8_lossy(&other),
                self.name
            ))),
            None => Err(Failure::not_found(format!(
                "there is no {shown} in {}: none of the folders of PATH has it ({})",
                self.name,
                String::from_utf8_lossy(path)
            ))),
        }
    }
}

/// Looks at a path below a folder of this host, which is the root for links and `..`.
fn look_in(folder: &OwnedFd, path: &[u8]) -> Found {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(folder, OsStr::from_bytes(path), flags, Mode::empty(), ResolveFlags::IN_ROOT);
    match opened.and_then(fstat) {
        Ok(status) => match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => Found::Folder,
            FileType::RegularFile if status.st_mode & 0o111 != 0 => Found::Executable,
            _ => Found::Other,
        },
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Found::Nothing,
        Err(_) => Found::Unknown,
    }
}

/// The names of a path, without those that mean nothing.
pub fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// The same, with `..` taken for the folder before it.
fn lexical(path: &[u8]) -> Vec<&[u8]> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for name in names(path) {
        if name == b".." {
            kept.pop();
        } else {
            kept.push(name);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use launch::archive::Archive;

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let asked = [
            Variable::Set(b"PATH=/x".to_vec()),
            Variable::Copy("A".into()),
            Variable::Copy("MISSING".into()),
            Variable::Set(b"A=2".to_vec()),
        ];
        let ours = |name: &OsStr| match name.as_bytes() {
            b"A" => Some("1".into()),
            b"TERM" => Some("xterm".into()),
            _ => None,
        };
        let text =
            |words: Vec<Vec<u8>>| words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>();
        let defaults = [DEFAULT_PATH, DEFAULT_HOME];
        assert_eq!(text(variables(&defaults, &asked, true, ours)), ["HOME=/root", "TERM=xterm", "PATH=/x", "A=2"]);
        assert_eq!(text(variables(&[], &[], true, ours)), ["TERM=xterm"]);
        assert_eq!(text(variables(&defaults, &[], false, ours)).len(), 2);
    }

    #[test]
    fn variables_for_init_are_words_of_the_kernel() {
        let word = |variable: &str| kernel_word(variable.as_bytes());
        assert_eq!(word("A=1").unwrap(), "A=1");
        assert_eq!(word("A=one two").unwrap(), "\"A=one two\"");
        assert!(word("A=\"").unwrap_err().to_string().contains("--env A"));
    }

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.file("bin/busybox", 0o755, "program");
        archive.link("bin/ls", "busybox");
        archive.file("bin/notes", 0o644, "text");
        archive.folder("work", 0o755);
        archive.bytes()
    }

    fn find(name: &str, volumes: &[Volume]) -> Result<String, u8> {
        let bytes = sample();
        let guest = Guest { view: View::Archive(Index::read(&bytes)), volumes, name: "sample".into() };
        let found = guest.find(name.as_bytes(), b"/bin", &[b"PATH=/sbin:/bin".to_vec()]);
        found.map(|path| String::from_utf8(path).unwrap()).map_err(|failure| failure.status)
    }

    #[test]
    fn commands_are_looked_for_as_a_shell_does() {
        assert_eq!(find("ls", &[]), Ok("/bin/ls".into()));
        assert_eq!(find("/bin/ls", &[]), Ok("/bin/ls".into()));
        assert_eq!(find("./busybox", &[]), Ok("/bin/./busybox".into()));
        assert_eq!(find("cat", &[]), Err(127));
        assert_eq!(find("", &[]), Err(127));
        assert_eq!(find("/bin/cat", &[]), Err(127));
        assert_eq!(find("notes", &[]), Err(126));
        assert_eq!(find("/bin/notes", &[]), Err(126));
        assert_eq!(find("/work", &[]), Err(126));
        assert_eq!(find("/proc/self/exe", &[]), Ok("/proc/self/exe".into()));
    }

    #[test]
    fn commands_are_found_in_volumes_too() {
        let volumes = [Volume { host: "/".into(), guest: GuestPath(b"/host/".to_vec()), read_only: true }];
        assert_eq!(find("/host/bin/sh", &volumes), Ok("/host/bin/sh".into()));
        assert_eq!(find("/host/nowhere", &volumes), Err(127));
        assert_eq!(find("/host/bin", &volumes), Err(126));
    }
}
