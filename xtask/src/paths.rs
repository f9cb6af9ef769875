//! Where things are: the repository, and what is built.

use std::path::{Path, PathBuf};

pub use launch::temporary::{TemporaryFolder, folder as temporary_folder};

/// The repository's root.
pub fn root() -> &'static Path {
    // xtask lies one folder below it, and is always built where it runs.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where everything that is built goes: cargo's own target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
