//! `x bench`.
use anyhow::Result;
use std::process::ExitCode;
#[derive(clap::Args)]
pub struct Bench {}
impl Bench { pub fn run(self) -> Result<ExitCode> { Ok(ExitCode::SUCCESS) } }
