//! The kernel image: cargo for `x86_64-unknown-none`, with the compiler that `x` chose and the linker found here.

use crate::{image, paths};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

/// A built kernel.
pub struct Kernel {
    /// What QEMU loads: the image with its symbol table for backtraces.
    pub image: PathBuf,
    /// The ELF file as linked, with line tables for GDB.
    pub linked: PathBuf,
}

/// Builds the kernel, if anything changed. cargo's progress is shown on a terminal. `ORRERY_KERNEL=PATH` names an image to
/// use as it is instead.
pub fn kernel() -> Result<Kernel> {
    if let Some(image) = std::env::var_os("ORRERY_KERNEL").map(PathBuf::from) {
        return Ok(Kernel { linked: image.clone(), image });
    }
    let target = kernel_target();
    let status = cargo_build(&target)?.status().context("cannot start cargo")?;
    ensure!(status.success(), "the kernel does not build");

    let linked = target.join("x86_64-unknown-none/release/orrery-kernel");
    let image = target.join("orrery");
    if newer(&linked, &image) {
        let elf = std::fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
        std::fs::write(&image, image::add_symbols(&elf)?).context("cannot write the kernel image")?;
    }
    Ok(Kernel { image, linked })
}

/// Where the kernel is built: apart from the host's programs, which have other flags.
fn kernel_target() -> PathBuf {
    paths::target().join("kernel")
}

/// The line that builds the kernel to a target folder.
fn cargo_build(target: &Path) -> Result<Command> {
    let cargo = std::env::var("ORRERY_CARGO").unwrap_or_else(|_| "cargo".into());
    let rustc = std::env::var("ORRERY_RUSTC").unwrap_or_else(|_| "rustc".into());
    let mut command = Command::new(cargo);
    command.current_dir(paths::root()).args(["build", "--release", "--package", "image"]);
    command.args(["--target", "x86_64-unknown-none"]).arg("--target-dir").arg(target);
    if std::env::var("ORRERY_BUILD_STD").is_ok_and(|value| value == "1") {
        // Without ready-made core and alloc they are built from source, which stable compilers only do when told so.
        command.arg("-Zbuild-std=core,alloc,compiler_builtins").env("RUSTC_BOOTSTRAP", "1");
    }
    if !rustix::termios::isatty(rustix::stdio::stderr()) {
        command.arg("--quiet");
    }
    command.env("RUSTC", &rustc).env("CARGO_ENCODED_RUSTFLAGS", flags(&rustc)?.join("\x1f"));
    command.env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
    Ok(command)
}

/// Builds the kernel; warnings are errors. cargo repeats the warnings of what is already built.
pub fn check_for_warnings() -> Result<()> {
    let output = cargo_build(&kernel_target())?.output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !text.contains("warning: "), "{text}");
    Ok(())
}

/// Is `made` missing, or older than `from`?
fn newer(from: &Path, made: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    time(made).is_none() || time(from) > time(made)
}

/// The kernel's image with the feature `fail-allocations`, for tests; built once, without what takes long.
pub fn failing_kernel() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let target = paths::target().join("failing/kernel");
    let mut command = cargo_build(&target)?;
    command.args(["--features", "image/fail-allocations"]);
    let status = in_a_hurry(&mut command).status().context("cannot start cargo")?;
    ensure!(status.success(), "the kernel with failing allocations does not build");
    let image = target.join("orrery");
    let elf = std::fs::read(target.join("x86_64-unknown-none/release/orrery-kernel"))?;
    std::fs::write(&image, image::add_symbols(&elf)?).context("cannot write the kernel image")?;
    Ok(built.insert(image).clone())
}

/// `orrery`, the command, with that feature.
pub fn failing_tool() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let target = paths::target().join("failing/tool");
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.current_dir(paths::root()).args(["build", "--quiet", "--release", "--package", "orrery-cli"]);
    command.args(["--features", "fail-allocations"]).arg("--target-dir").arg(&target).stdin(Stdio::null());
    let status = in_a_hurry(&mut command).status().context("cannot start cargo")?;
    ensure!(status.success(), "orrery-cli with failing allocations does not build");
    Ok(built.insert(target.join("release/orrery")).clone())
}

/// Optimised, but not as a whole.
fn in_a_hurry(command: &mut Command) -> &mut Command {
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
}

/// Compiler flags of the kernel: frame pointers for backtraces, no relocation, and the linker that is there.
fn flags(rustc: &str) -> Result<Vec<String>> {
    let mut flags: Vec<String> = ["-Cforce-frame-pointers=yes", "-Crelocation-model=static"].map(String::from).to_vec();
    flags.extend(linker(rustc)?);
    Ok(flags)
}

/// LLVM's linker of the toolchain or the system, else GNU's.
fn linker(rustc: &str) -> Result<Vec<String>> {
    let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output().context("cannot start rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    let bundled = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
    let on_path = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|dir| dir.join(name))
            .find(|p| p.is_file())
    };
    if bundled.is_file() {
        Ok(vec![format!("-Clinker={}", bundled.display())])
    } else if let Some(lld) = on_path("ld.lld") {
        Ok(vec![format!("-Clinker={}", lld.display())])
    } else if let Some(ld) = on_path("ld") {
        Ok(vec![format!("-Clinker={}", ld.display()), "-Clinker-flavor=ld".into()])
    } else {
        bail!("no linker: install binutils or lld")
    }
}

/// Builds `orrery`, the command, with what runs on the host machine. `ORRERY_COMMAND=PATH` names one to use as it is instead.
pub fn command_line_tool() -> Result<PathBuf> {
    match std::env::var_os("ORRERY_COMMAND") {
        Some(tool) => Ok(tool.into()),
        None => build_command_line_tool(&["--release"], "release"),
    }
}

/// The same for a debugger: not optimised.
pub fn command_line_tool_to_debug() -> Result<PathBuf> {
    build_command_line_tool(&[], "debug")
}

fn build_command_line_tool(profile: &[&str], folder: &str) -> Result<PathBuf> {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.current_dir(paths::root()).args(["build", "--package", "orrery-cli"]).args(profile).stdin(Stdio::null());
    let tool = paths::target().join(folder).join("orrery");
    // The first build takes a while, and shows that it does.
    if tool.is_file() || !rustix::termios::isatty(rustix::stdio::stderr()) {
        command.arg("--quiet");
    }
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "orrery-cli does not build");
    Ok(tool)
}

/// Writes a file of the target folder, unless it is the same already.
pub fn write_if_changed(name: &str, content: &[u8]) -> Result<PathBuf> {
    let path = paths::target().join(name);
    if !std::fs::read(&path).is_ok_and(|old| old == content) {
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path)
}

/// `x build`.
pub fn report() -> Result<ExitCode> {
    let kernel = kernel()?;
    let size = kernel.image.metadata()?.len();
    println!("kernel    {} ({} KiB)", kernel.image.display(), size / 1024);
    let archive = crate::initramfs::Initramfs::standard()?.bytes();
    let path = write_if_changed("initramfs", &archive)?;
    println!("initramfs {} ({} KiB)", path.display(), archive.len() / 1024);
    Ok(ExitCode::SUCCESS)
}
