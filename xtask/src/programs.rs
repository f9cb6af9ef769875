//! The C programs that run in the guest: one file, one program, linked statically with the host's compiler.
//!
//! A program is compiled again when its source, a header beside it, or the flags changed; the sum of these is kept in a
//! file beside the program.

use crate::paths;
use anyhow::{Context, Result, bail};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Hostile pointers and broken stacks are the very topic of some programs: the warnings about those are off, and the
/// compiler may not conclude anything from them.
const FLAGS: [&str; 15] = [
    "-std=gnu17",
    "-g0",
    "-static",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-array-bounds",
    "-Wno-missing-field-initializers",
    "-Wno-nonnull",
    "-Wno-stringop-overflow",
    "-Wno-stringop-overread",
    "-Wno-unused-result",
    "-fno-delete-null-pointer-checks",
    "-fno-stack-protector",
];

/// A compiled program.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
}

/// Compiles every `*.c` of a folder of the repository, sorted by name.
pub fn compile(folder: &str) -> Result<Vec<Program>> {
    let source_folder = paths::root().join(folder);
    let output_folder = paths::target().join("guest").join(folder);
    std::fs::create_dir_all(&output_folder).context("cannot create the folder for programs")?;
    // Tests are what is written, in that order; what users run and what is measured is optimised. init stands alone.
    let flags: &[&str] = match folder {
        "user/init" => &["-O2", "-s", "-nostdlib"],
        _ if folder.starts_with("user/") => &["-O2", "-s"],
        _ => &["-O0"],
    };
    let files = files_of(&source_folder)?;
    let headers: Vec<Vec<u8>> =
        files.iter().filter(|file| has_extension(file, "h")).map(std::fs::read).collect::<Result<_, _>>()?;
    let sources: Vec<PathBuf> = files.into_iter().filter(|file| has_extension(file, "c")).collect();

    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = compile_one(source, &headers, flags, &output_folder)
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(sources
        .iter()
        .filter_map(|source| Some(source.file_stem()?.to_string_lossy().into_owned()))
        .map(|name| Program { path: output_folder.join(&name), name })
        .collect())
}

/// A folder's files, sorted by name.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

fn compile_one(source: &Path, headers: &[Vec<u8>], flags: &[&str], output_folder: &Path) -> Result<()> {
    let name = source.file_stem().context("a source file without a name")?;
    let program = output_folder.join(name);
    let sum_file = output_folder.join(format!("{}.sum", name.to_string_lossy()));
    let mut hasher = DefaultHasher::new();
    (std::fs::read(source)?, headers, flags, FLAGS).hash(&mut hasher);
    let sum = format!("{:016x}", hasher.finish());
    if program.is_file() && std::fs::read_to_string(&sum_file).is_ok_and(|known| known == sum) {
        return Ok(());
    }
    let output = Command::new("cc")
        .args(FLAGS)
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(source)
        .output()
        .context("cannot start cc")?;
    if !output.status.success() {
        bail!("{} does not compile:\n{}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    std::fs::write(sum_file, sum).context("cannot write the program's sum")
}
