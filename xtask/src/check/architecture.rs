//! The rooms of the kernel know no architecture: registers, and what else x86 has, are named in `kernel/abi/src/arch` only (and in
//! `machine`). Comments may name them, and tests, whose programs are x86's.

use super::{belongs_to, fail_with, files, shown, test_modules};
use anyhow::Result;
use std::path::Path;

/// Words of x86.
const WORDS: [&str; 28] = [
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rip",
    "rflags",
    "orig_rax",
    "fs_base",
    "gs_base",
    "set_fs_base",
    "set_gs_base",
    "cr2",
    "x86_64",
    "riscv64",
    "EM_X86_64",
    "raw_cpuid",
];

/// Where they may stand: the architecture's own folder; /proc/cpuinfo, which says what a CPU says of itself; and the models, which are no part of
/// the kernel and name files of `machine` they run.
const PLACES: [&str; 3] = ["kernel/abi/src/arch/", "kernel/procfs/src/cpuinfo/", "kernel/models/"];

/// Finds them elsewhere.
pub fn check() -> Result<String> {
    let test_modules = test_modules()?;
    let mut complaints = Vec::new();
    for file in files("kernel", &["rs"])? {
        if is_exempt(&file) || test_modules.iter().any(|module| belongs_to(&file, module)) {
            continue;
        }
        for (number, word) in named(&std::fs::read_to_string(&file)?) {
            complaints.push(format!("{}:{number}: {word} is for abi::arch", shown(&file)));
        }
    }
    fail_with(complaints)
}

fn is_exempt(file: &Path) -> bool {
    let name = shown(file);
    file.iter().any(|part| part == "tests") || PLACES.iter().any(|place| name.starts_with(place))
}

/// The words of x86 in the code of a file, and in its texts, each with the number of its line.
fn named(text: &str) -> Vec<(usize, &'static str)> {
    // Test modules stand at the end of a file.
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        found.extend(words.filter_map(|word| Some((number, *WORDS.iter().find(|known| **known == word)?))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_found_in_code_and_not_in_comments_or_tests() {
        let text = "use a::b;\n// rax\nlet a = general.rsp; // why\nlet rspeed = \"x86_64\";\n\
                    #[cfg(test)]\nmod tests {\n    let rax = 1;\n}\n";
        assert_eq!(named(text), [(3, "rsp"), (4, "x86_64")]);
        assert!(is_exempt(Path::new("kernel/abi/src/arch/x86_64/frame.rs")));
        assert!(!is_exempt(Path::new("kernel/abi/src/signal.rs")));
    }
}
