//! Gives the linker the layout of the kernel image.

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{folder}/kernel.ld");
        for option in ["--build-id=none", "-znoexecstack", "-zmax-page-size=4096"] {
            println!("cargo:rustc-link-arg-bins={option}");
        }
    }
}
