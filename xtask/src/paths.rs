//! Where things are: the repository, what is built, temporary folders.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The repository's root.
pub fn root() -> &'static Path {
    // xtask lies one folder below it, and is always built where it runs.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where everything that is built goes: cargo's own target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A folder that is removed when this value is dropped.
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes an empty folder only we can read.
    pub fn new() -> Result<TemporaryFolder> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("orrery-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(TemporaryFolder(path))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Nothing useful can be done when it fails: the system clears its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
