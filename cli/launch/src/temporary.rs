//! Folders for what is needed only while something runs.

use anyhow::{Context, Result};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

pub use tempfile::TempDir as TemporaryFolder;

/// Makes an empty folder that only we can read, with a name nobody can guess. It is removed when the value is dropped.
///
/// # Errors
/// When the system's folder for temporary files cannot be written.
pub fn folder() -> Result<TemporaryFolder> {
    let only_us = Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix("orrery-").permissions(only_us).tempdir();
    made.with_context(|| format!("cannot create a folder in {}", std::env::temp_dir().display()))
}
