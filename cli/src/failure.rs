//! Why a guest's program did not run, and the exit status that says so.

use std::fmt;

/// A failure of ours: a wrong option, a missing right of the host.
pub const OURS: u8 = 125;
/// The program was found, but cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
const NOT_FOUND: u8 = 127;

/// What is said to the user, and the exit status.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    reason: anyhow::Error,
}

impl Failure {
    /// The program is there, but cannot be executed.
    pub fn not_executable(reason: impl fmt::Display) -> Failure {
        Failure { status: NOT_EXECUTABLE, reason: anyhow::anyhow!("{reason}") }
    }

    /// There is no such program.
    pub fn not_found(reason: impl fmt::Display) -> Failure {
        Failure { status: NOT_FOUND, reason: anyhow::anyhow!("{reason}") }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(reason: anyhow::Error) -> Failure {
        Failure { status: OURS, reason }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.reason)
    }
}
