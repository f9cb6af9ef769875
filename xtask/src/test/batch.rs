//! Many commands in one boot: each runs in the guest with its output kept apart, and its exit status.
//!
//! The guest's script frames each command's output with lines that begin with an ASCII record separator, which no tested
//! program prints at a line's beginning.

use crate::initramfs::{Initramfs, Session, quote};
use std::collections::BTreeMap;

/// One command of a batch.
pub struct Item {
    /// Its name in the report.
    pub name: String,
    /// What the guest's shell runs.
    pub command: String,
    /// Seconds it may take.
    pub limit: u32,
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub status: u8,
    pub output: String,
}

/// The status of a program that was killed, because its time was up or memory was out.
pub const KILLED: u8 = 128 + 9;

/// The last thing a batch prints.
const END: &str = "end of the batch";

const MARK: char = '\x1e';

/// Makes running these commands the archive's session.
pub fn prepare(archive: &mut Initramfs, items: &[Item]) {
    // When memory is out it must not be those who watch that have to go.
    let mut script = String::from("#!/bin/sh\necho -1000 >/proc/self/oom_score_adj\n");
    for item in items {
        // The program that times out is killed: one that hangs must not take the others with it.
        script.push_str(&format!(
            "printf '\\036begin %s\\n' {name}\n\
             timeout -s KILL {limit} sh -c {command} </dev/null >/tmp/.output 2>&1\n\
             status=$?\n\
             head -c 60000 /tmp/.output\n\
             printf '\\n\\036end %s\\n' $status\n",
            name = quote(&item.name),
            limit = item.limit,
            command = quote(&format!("echo 0 >/proc/self/oom_score_adj; {}", item.command)),
        ));
    }
    script.push_str(&format!("echo '{END}'\nexit 0\n"));
    archive.file("etc/batch", 0o755, script);
    archive.session(Session {
        command: vec!["/etc/batch".into()],
        terminal: vec!["-onlcr", "-echo"],
        ..Session::default()
    });
}

/// The screen's last lines when the batch did not come to its end, as an explanation for what is missing.
pub fn why_unfinished(screen: &str) -> String {
    if screen.contains(END) {
        return "it did not finish, though the batch did".into();
    }
    let lines: Vec<&str> = screen.lines().collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(25)).map(|line| format!("| {line}\n"));
    format!("it did not finish; the screen's end:\n{}", tail.collect::<String>())
}

/// Takes the screen apart again. A command that did not finish is missing.
pub fn results(screen: &str) -> BTreeMap<String, Done> {
    let mut results = BTreeMap::new();
    let begin = format!("{MARK}begin ");
    for piece in screen.split(&begin).skip(1) {
        let Some((name, rest)) = piece.split_once('\n') else { continue };
        let Some((output, rest)) = rest.split_once(&format!("\n{MARK}end ")) else { continue };
        let Some(status) = rest.lines().next().and_then(|number| number.trim().parse().ok()) else { continue };
        results.insert(name.trim().to_string(), Done { status, output: output.to_string() });
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_taken_apart() {
        let screen = "boot\n\x1ebegin one\nhello\n\n\x1eend 0\n\x1ebegin two\n\n\x1eend 137\n\x1ebegin three\nhangs";
        let results = results(screen);
        assert_eq!(results.get("one"), Some(&Done { status: 0, output: "hello\n".into() }));
        assert_eq!(results.get("two"), Some(&Done { status: 137, output: String::new() }));
        assert_eq!(results.len(), 2);
    }
}
