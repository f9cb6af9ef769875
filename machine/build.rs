//! Says which machine this is built for: `cfg(machine = "...")` is `pc`, `host`, or `sim` on every target that is neither bare x86-64 nor
//! Linux on it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(machine, values(\"pc\", \"host\", \"sim\"))");
    let of_target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let machine = match (of_target("ARCH").as_str(), of_target("OS").as_str()) {
        ("x86_64", "none") => "pc",
        ("x86_64", "linux") => "host",
        _ => "sim",
    };
    println!("cargo::rustc-cfg=machine=\"{machine}\"");
}
