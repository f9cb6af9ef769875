//! System calls from end to end: a whole kernel on the host machine, whose programs are played by the test, one call at a
//! time. What is expected is what Linux does.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod files;
mod futexes;
mod interrupted;
mod processes;
mod signals;
mod stage;
mod waiting;
