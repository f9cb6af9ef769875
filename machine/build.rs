//! Says what this is built for; the build script of each crate that wants to know.
//!
//! | cfg | |
//! | --- | --- |
//! | `machine` | which machine: `pc`, `host`, or `sim` on every target that is neither bare x86-64 nor Linux on it |
//! | `guest` | which architecture's programs it runs: `riscv64` on riscv64, and `x86_64` elsewhere, also where the target is none that Linux has |
//! | `old_calls` | that architecture has fork(2), open(2) and others that newer ones leave to clone(2), openat(2) ... |
//! | `of_x86` | it has what only x86 has: arch_prctl(2), `MAP_32BIT` |

fn main() {
    // It depends on the target only.
    println!("cargo::rerun-if-env-changed=CARGO_CFG_TARGET_ARCH");
    println!("cargo::rustc-check-cfg=cfg(machine, values(\"pc\", \"host\", \"sim\"))");
    println!("cargo::rustc-check-cfg=cfg(guest, values(\"riscv64\", \"x86_64\"))");
    println!("cargo::rustc-check-cfg=cfg(old_calls, of_x86)");
    let [architecture, system] =
        ["CARGO_CFG_TARGET_ARCH", "CARGO_CFG_TARGET_OS"].map(|key| std::env::var(key).unwrap_or_default());
    let machine = match (architecture.as_str(), system.as_str()) {
        ("x86_64", "none") => "pc",
        ("x86_64", "linux") => "host",
        _ => "sim",
    };
    println!("cargo::rustc-cfg=machine=\"{machine}\"");
    if architecture == "riscv64" {
        println!("cargo::rustc-cfg=guest=\"riscv64\"");
    } else {
        println!("cargo::rustc-cfg=guest=\"x86_64\"\ncargo::rustc-cfg=old_calls\ncargo::rustc-cfg=of_x86");
    }
}
