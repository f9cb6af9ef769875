//! What the user wants to run: a folder, an initramfs or a program, told apart by content.
//!
//! Everything that can be seen to be wrong is said here, where the file still has the name the user gave it.

use crate::elf;
use crate::failure::Failure;
use anyhow::{Context, anyhow};
use launch::archive::Archive;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The guest's root, as far as it is the user's.
#[derive(Debug)]
pub enum Root {
    /// A folder of this host.
    Folder(PathBuf),
    /// An initramfs, plain or gzip.
    Archive(Vec<u8>),
    /// A program that runs by itself.
    Program(Vec<u8>),
}

/// Folders programs expect, and their permissions.
const USUAL_FOLDERS: [(&str, u32); 14] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var/tmp", 0o1777),
];

/// Looks at what the user named.
pub fn open(path: &Path) -> Result<Root, Failure> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| missing(path, &error))?;
    if metadata.is_dir() {
        return Ok(Root::Folder(path.to_path_buf()));
    }
    if !metadata.is_file() {
        return Err(Failure::not_executable(format!(
            "{shown} is neither a folder nor a regular file: give a root folder, an initramfs or a static program"
        )));
    }
    let content = read(path, metadata.len()).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Failure::not_executable(format!("{shown} cannot be read: {error}")),
        _ => anyhow!("{shown} cannot be read: {error}").into(),
    })?;
    recognise(path, content)
}

fn missing(path: &Path, error: &std::io::Error) -> Failure {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => match on_path(path) {
            Some(found) => Failure::not_found(format!("there is no {shown} here; do you mean {}?", found.display())),
            None => {
                Failure::not_found(format!("there is no {shown}: give a root folder, an initramfs or a static program"))
            }
        },
        ErrorKind::PermissionDenied => Failure::not_executable(format!("{shown} cannot be reached: {error}")),
        _ => anyhow!("{shown} cannot be looked at: {error}").into(),
    }
}

/// A program of this name where a shell would have found it.
fn on_path(name: &Path) -> Option<PathBuf> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return None;
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The whole file, with room for it from the start.
fn read(path: &Path, length: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(1));
    std::fs::File::open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// Tells by its first bytes what a file is.
fn recognise(path: &Path, content: Vec<u8>) -> Result<Root, Failure> {
    let shown = path.display();
    let cannot = |reason: &str| Err(Failure::not_executable(format!("{shown} {reason}")));
    match content.as_slice() {
        [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] | [0x1f, 0x8b, ..] => Ok(Root::Archive(content)),
        file if elf::is_elf(file) => {
            elf::check(file).map_err(|unfit| Failure::not_executable(format!("{shown} {unfit}")))?;
            match access(path, Access::EXEC_OK) {
                Err(Errno::ACCESS) => cannot("is a program that may not be executed: chmod +x it"),
                _ => Ok(Root::Program(content)),
            }
        }
        [b'#', b'!', ..] => cannot(
            "is a script, and its interpreter would not be there: give the folder that holds both as the root (orrery \
             run FOLDER -- COMMAND), or run the interpreter with the script's folder as a volume",
        ),
        [] => cannot("is empty: give a root folder, an initramfs or a static program"),
        [b'0', b'7', b'0', b'7', b'0', b'7', ..] | [0xc7, 0x71, ..] | [0x71, 0xc7, ..] => {
            cannot("is a cpio archive in another format than newc: write it with cpio -o -H newc")
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..]
        | [b'B', b'Z', b'h', ..]
        | [4, 0x22, 0x4d, 0x18, ..] => {
            cannot("is compressed, but not with gzip: decompress it, or compress it with gzip")
        }
        _ => cannot("is neither a program (ELF) nor an initramfs (cpio newc, plain or gzip), and no folder"),
    }
}

/// The file system of a guest that has nothing but a program and the places where something will be mounted. Also gives
/// the program's path in it.
pub fn around(program: Vec<u8>, typed: &Path, mount_points: &[&[u8]]) -> Result<(Archive, Vec<u8>), Failure> {
    let mut archive = Archive::default();
    for (folder, permissions) in USUAL_FOLDERS {
        archive.folder(folder, permissions);
    }
    for point in mount_points {
        let names: Vec<&[u8]> = crate::command::names(point).collect();
        if !names.is_empty() {
            archive.folder(names.join(&b'/'), 0o755);
        }
    }
    let name = typed.file_name().unwrap_or(OsStr::new("program")).as_bytes();
    let path = [b"bin/", name].concat();
    archive.file(&path, 0o755, program);
    Ok((archive, [b"/", path.as_slice()].concat()))
}

/// A whole folder as an archive: regular files, folders and symbolic links; other kinds are left out.
pub fn pack(folder: &Path) -> Result<Archive, Failure> {
    let mut archive = Archive::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let here = folder.join(&below);
        let entries = std::fs::read_dir(&here).with_context(|| format!("{} cannot be read", here.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("{} cannot be read", here.display()))?;
            let path = below.join(entry.file_name());
            pack_one(&mut archive, &entry.path(), &path)?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    Ok(archive)
}

fn pack_one(archive: &mut Archive, file: &Path, path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let reading = || format!("{} cannot be read", file.display());
    let metadata = std::fs::symlink_metadata(file).with_context(reading)?;
    let kind = metadata.file_type();
    let content = if kind.is_symlink() {
        std::fs::read_link(file).with_context(reading)?.as_os_str().as_bytes().to_vec()
    } else if kind.is_file() {
        anyhow::ensure!(
            metadata.len() <= launch::archive::LARGEST_FILE,
            "{} is too large for an initramfs (4 GiB): run the folder on the host machine",
            file.display()
        );
        std::fs::read(file).with_context(reading)?
    } else if kind.is_dir() {
        Vec::new()
    } else {
        return Ok(());
    };
    archive.insert(path.as_os_str().as_bytes(), metadata.mode(), (metadata.uid(), metadata.gid()), content);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(content: &[u8]) -> String {
        let failure = recognise(Path::new("thing"), content.to_vec()).unwrap_err();
        assert_eq!(failure.status, 126);
        failure.to_string()
    }

    #[test]
    fn files_are_told_apart_by_content() {
        assert!(matches!(recognise(Path::new("x"), b"070701...".to_vec()), Ok(Root::Archive(_))));
        assert!(matches!(recognise(Path::new("x"), b"\x1f\x8b\x08".to_vec()), Ok(Root::Archive(_))));
        assert!(refusal(b"\x7fELF\x02\x01").contains("damaged"));
        assert!(refusal(b"#!/bin/sh\n").contains("script"));
        assert!(refusal(b"\x28\xb5\x2f\xfd....").contains("gzip"));
        assert!(refusal(b"070707").contains("newc"));
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(b"hello").contains("neither"));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let failure = open(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(failure.status, 127);
        assert!(failure.to_string().contains("/nowhere/at/all"));
        assert!(open(Path::new("sh")).unwrap_err().to_string().contains("do you mean /"));
        assert_eq!(open(Path::new("/dev/null")).unwrap_err().status, 126);
    }

    #[test]
    fn a_program_alone_has_the_usual_folders_around_it() {
        let (archive, path) = around(b"code".to_vec(), Path::new("./a/hello"), &[b"//src/./lib/"]).unwrap();
        assert_eq!(path, b"/bin/hello");
        let bytes = archive.bytes();
        let index = launch::archive::Index::read(&bytes);
        assert!(index.find(b"/bin/hello").unwrap().is_executable());
        assert!(index.find(b"/proc").unwrap().is_folder() && index.find(b"/src/lib").unwrap().is_folder());
    }
}
