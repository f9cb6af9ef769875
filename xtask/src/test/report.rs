//! What has passed and failed so far: a line that moves on a terminal, a line per job elsewhere.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Collects results from all jobs.
pub struct Report {
    state: Mutex<State>,
    line: ProgressBar,
    started: Instant,
}

#[derive(Default)]
struct State {
    passed: usize,
    failed: usize,
    running: Vec<String>,
    failures: Vec<String>,
}

/// A job that is running, until dropped.
pub struct Running<'a> {
    report: &'a Report,
    name: String,
    started: Instant,
}

impl Report {
    /// Nothing has happened yet.
    pub fn new() -> Report {
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            line.set_style(style);
        }
        line.enable_steady_tick(Duration::from_millis(200));
        Report { state: Mutex::default(), line, started: Instant::now() }
    }

    /// A job begins.
    pub fn begin(&self, name: &str) -> Running<'_> {
        self.change(|state| state.running.push(name.into()));
        Running { report: self, name: name.into(), started: Instant::now() }
    }

    /// One check's result. A failure is shown at once, with its reason.
    pub fn check(&self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.change(|state| state.passed += 1),
            Err(error) => {
                self.say(&format!("FAILED {name}\n{}", indented(&format!("{error:#}"))));
                self.change(|state| {
                    state.failed += 1;
                    state.failures.push(name.into());
                });
            }
        }
    }

    /// Counts that another program (cargo) reported.
    pub fn count(&self, passed: usize, failed: usize) {
        self.change(|state| {
            state.passed += passed;
            state.failed += failed;
        });
    }

    /// Prints above the moving line.
    pub fn say(&self, text: &str) {
        self.line.suspend(|| println!("{text}"));
    }

    /// The last lines.
    pub fn finish(self) -> ExitCode {
        self.line.finish_and_clear();
        let state = self.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !state.failures.is_empty() {
            println!("failures: {}", state.failures.join(", "));
        }
        println!("after {:.0} s", self.started.elapsed().as_secs_f64());
        println!("{} passed, {} failed", state.passed, state.failed);
        // A run that checked nothing has shown nothing.
        if state.failed == 0 && state.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        change(&mut state);
        let running = state.running.join(", ");
        self.line.set_message(format!("{} passed, {} failed; running {running}", state.passed, state.failed));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.report.change(|state| state.running.retain(|name| *name != self.name));
        self.report.say(&format!("{} ({:.1} s)", self.name, self.started.elapsed().as_secs_f64()));
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
