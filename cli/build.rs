//! Builds the program that a virtual machine's guest starts with, `user/init`, for `--machine vm`.
//!
//! It is C and needs a compiler. Without one the command is built all the same, and says so when the program is wanted.

use std::path::Path;
use std::process::Command;

const FLAGS: [&str; 8] =
    ["-std=gnu17", "-O2", "-s", "-static", "-nostdlib", "-fno-stack-protector", "-fno-builtin", "-o"];

fn main() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../user/init/init.c");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CC");
    let Some(output) = std::env::var_os("OUT_DIR").map(|folder| Path::new(&folder).join("init")) else {
        println!("cargo::error=cargo gave no OUT_DIR");
        return;
    };
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let compiled = Command::new(&compiler).args(FLAGS).arg(&output).arg(&source).output();
    let problem = match compiled {
        Ok(result) if result.status.success() => return,
        Ok(result) => String::from_utf8_lossy(&result.stderr).lines().next().unwrap_or("it failed").to_string(),
        Err(error) => error.to_string(),
    };
    println!("cargo::warning=--machine vm will not run single commands: {}: {problem}", compiler.display());
    if let Err(error) = std::fs::write(&output, []) {
        println!("cargo::error={} cannot be written: {error}", output.display());
    }
}
