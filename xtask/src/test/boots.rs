//! Stub.
pub fn jobs() -> anyhow::Result<Vec<super::Job>> { Ok(Vec::new()) }
