//! Boots in which one request for kernel memory fails, and what comes of it.
//!
//! A kernel with the feature `fail-allocations` refuses one request of those that can be refused, by the boot option
//! `fail_allocation=N`, and tells at its end how many there were. What can't be refused draws on the reserve; how much is told
//! too, for each system call. A boot may end in three ways: at a prompt whose shell answers; with a program that says
//! that it got `ENOMEM`; or with a line that says that memory does not suffice. All else is a fault of the kernel.

use crate::build;
use crate::console::Console;
use crate::hosted::Hosted;
use crate::initramfs::Initramfs;
use crate::qemu::Vm;
use crate::run::Place;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// MiB of memory: more than enough, so that nothing fails but what is meant to.
const MEMORY: u32 = 512;

/// Time to a prompt, and for all that is asked there.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ways to say that there was no memory: the kernel's own, and those of BusyBox and the C library.
const TOLD: [&str; 11] = [
    "not enough memory to start",
    "not enough memory to start a session",
    // What the calls that change users say, as on Linux.
    "can't be executed: EAGAIN",
    // The program is killed, or somebody else for it.
    "Out of memory: killed process",
    "does not fit into memory",
    "ENOMEM",
    "Cannot allocate memory",
    "an\'t allocate memory",
    "out of memory",
    "Out of memory",
    "memory exhausted",
];

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At a prompt.
    Prompt,
    /// Without one: a program or the kernel said that there was no memory.
    Told,
}

/// Builds what the boots need.
pub fn prepare(place: Place) -> Result<()> {
    if place == Place::Host { build::failing_tool() } else { build::failing_kernel() }.map(drop)
}

/// Starts a machine whose `nth` request that can be refused is; 0 for none.
pub fn start(place: Place, cpus: u32, archive: Initramfs, nth: u64) -> Result<Console> {
    let options = format!("quiet fail_allocation={nth}");
    let Some(model) = place.model() else {
        let tool = Some(build::failing_tool()?);
        return Console::start_on_host(&Hosted { cpus, memory: MEMORY, archive, options, engine: None, tool });
    };
    let mut vm = Vm::new(model, build::failing_kernel()?, archive.bytes(), options);
    (vm.cpus, vm.memory) = (cpus, MEMORY);
    Console::start(&vm)
}

/// How many requests there are that can be refused, up to the first prompt and a little more.
///
/// # Errors
/// The machine did not come so far.
pub fn count(place: Place) -> Result<u64> {
    let mut console = start(place, 1, Initramfs::standard()?, 0)?;
    console.expect_prompt(PATIENCE)?;
    console.send("poweroff -f\r")?;
    let (_, screen) = console.end(PATIENCE)?;
    let told = screen.lines().find_map(|line| line.trim().strip_prefix("refusable allocations: "));
    told.and_then(|count| count.parse().ok()).with_context(|| format!("the kernel told no count:\n{screen}"))
}

/// Lets the `nth` of them fail.
///
/// # Errors
/// The boot ended in no way it may.
pub fn attempt(place: Place, nth: u64) -> Result<End> {
    let mut console = start(place, 1, Initramfs::standard()?, nth)?;
    // A shell may be without its folder's name, and says so.
    let Err(why) = console.expect("# ", PATIENCE) else {
        // What is typed shows on the screen too, but not in these letters; and the next prompt may be without a name again.
        console.send("echo al''ive\r")?;
        console.expect("alive", PATIENCE)?;
        return Ok(End::Prompt);
    };
    let screen = console.screen_at_end(Duration::from_secs(1));
    ensure!(!screen.contains("has not ended"), "neither a prompt nor an end: {why:#}");
    judge(&screen).with_context(|| format!("{why:#}"))
}

/// Whether a boot without a prompt ended as it may.
fn judge(screen: &str) -> Result<End> {
    ensure!(!screen.contains("kernel panic") && !screen.contains("panicked"), "the kernel panicked");
    if TOLD.iter().any(|told| screen.contains(told)) {
        return Ok(End::Told);
    }
    bail!("no prompt, and nobody said that there was no memory")
}

/// The most bytes that each system call drew on the reserve, and how many it may, as the kernel tells at its end.
pub fn drawn(screen: &str) -> Vec<(&str, u64, u64)> {
    let told = screen.lines().filter_map(|line| {
        let mut words = line.trim().strip_prefix("drawn: ")?.split(' ');
        let (call, bytes, _, allowed) = (words.next()?, words.next()?, words.next()?, words.next()?);
        Some((call, bytes.parse().ok()?, allowed.parse().ok()?))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_from_a_fault() {
        assert_eq!(judge("orrery: not enough memory to start: give the machine more").unwrap(), End::Told);
        assert_eq!(judge("sh: out of memory\ninit exited with status 1").unwrap(), End::Told);
        assert!(judge("kernel panic: out of memory").is_err());
        assert!(judge("init was killed by SIGSEGV: the machine stops").is_err());
    }

    #[test]
    fn what_was_drawn_is_read() {
        let screen = "x\ndrawn: clone 83 of 90\r\ndrawn: read 5 of 90\ndrawn: y z\n";
        assert_eq!(drawn(screen), [("clone", 83, 90), ("read", 5, 90)]);
    }
}
