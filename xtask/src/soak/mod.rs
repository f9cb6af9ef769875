//! `x soak NAME`: what finds a fault only after many tries, run for as long as one has time.
//!
//! A soak is a series of *rounds*. A round has a seed of its own, from which everything random in it comes: the first has the seed
//! that was given or chosen, each further one the next number. When one fails, its output is shown with the command that runs that
//! round alone. A round tells how much it did in lines `soak: NUMBER WHAT`, which are summed up.
//!
//! | file | |
//! | --- | --- |
//! | `table` | the soaks: to add one, add an entry |
//! | `round` | running one round of each kind |

mod round;
mod table;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What `x soak` is asked for.
#[derive(clap::Args)]
pub struct Soak {
    /// Which one; without it they are listed.
    name: Option<String>,
    /// For how long. The round that has begun is finished.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The seed of the first round; else one is chosen.
    #[arg(long)]
    seed: Option<u64>,
    /// No more rounds than this.
    #[arg(long)]
    rounds: Option<u64>,
}

/// One soak.
struct Entry {
    name: &'static str,
    /// What it does, in a line.
    what: &'static str,
    round: round::Kind,
}

/// How often the state is printed where no line can move: long work shows that it goes on.
const REPORT: Duration = Duration::from_secs(60);

impl Soak {
    /// Runs the soak that was asked for.
    pub fn run(self) -> Result<ExitCode> {
        let Some(name) = &self.name else {
            table::SOAKS.iter().for_each(|entry| println!("{:<16}{}", entry.name, entry.what));
            return Ok(ExitCode::SUCCESS);
        };
        let entry = table::SOAKS.iter().find(|entry| entry.name == name);
        let entry = entry.with_context(|| format!("there is no soak '{name}'; `./x soak` lists them"))?;
        self.run_rounds(entry)
    }

    fn run_rounds(&self, entry: &Entry) -> Result<ExitCode> {
        let limit = Duration::from_secs(self.minutes * 60);
        entry.round.prepare()?;
        let last = entry.round.rounds()?;
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_millis() as u64);
        let first = self.seed.unwrap_or_else(|| if last.is_some() { 1 } else { clock() });
        let most = last.map_or(u64::MAX, |last| (last + 1).saturating_sub(first)).min(self.rounds.unwrap_or(u64::MAX));
        let progress = Progress::new(entry.name);
        let of = last.map_or(String::new(), |last| format!(" of 1 to {last}"));
        println!("soak {}: seed {first}{of}, {} minutes", entry.name, self.minutes);
        let started = Instant::now();
        let (mut rounds, mut sums) = (0, BTreeMap::new());
        while rounds < most && (rounds == 0 || started.elapsed() < limit) {
            let seed = first.wrapping_add(rounds);
            progress.show(&format!("round {rounds} (seed {seed}); {}", told(&sums)));
            let left = limit.saturating_sub(started.elapsed());
            let done = entry.round.run(seed, left.clamp(Duration::from_secs(5), table::LONGEST_ROUND))?;
            add_up(&mut sums, &done.output);
            if let Err(reason) = done.result {
                progress.end();
                println!("{}\nsoak {}: round {rounds} FAILED: {reason:#}", done.output, entry.name);
                println!("done before and in it: {}", told(&sums));
                println!("the same round again: ./x soak {} --seed {seed} --rounds 1", entry.name);
                return Ok(ExitCode::FAILURE);
            }
            rounds += 1;
        }
        progress.end();
        let last = first.wrapping_add(rounds.saturating_sub(1));
        println!("soak {}: {rounds} rounds passed, seeds {first} to {last}{of}: {}", entry.name, told(&sums));
        Ok(ExitCode::SUCCESS)
    }
}

/// Adds what a round says it did, in lines `soak: NUMBER WHAT`.
fn add_up(sums: &mut BTreeMap<String, u64>, output: &str) {
    for line in output.lines() {
        let Some((_, count)) = line.split_once("soak: ") else { continue };
        let Some((number, what)) = count.trim().split_once(' ') else { continue };
        if let Ok(number) = number.parse::<u64>() {
            *sums.entry(what.into()).or_default() += number;
        }
    }
}

fn told(sums: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = sums.iter().map(|(what, sum)| format!("{sum} {what}")).collect();
    if parts.is_empty() { "nothing counted".into() } else { parts.join(", ") }
}

/// Where the soak is: a line that moves on a terminal, a line now and then elsewhere.
struct Progress {
    name: &'static str,
    line: ProgressBar,
    moves: bool,
    started: Instant,
    told: std::cell::Cell<Option<Instant>>,
}

impl Progress {
    fn new(name: &'static str) -> Progress {
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            line.set_style(style);
        }
        line.enable_steady_tick(Duration::from_millis(200));
        let moves = std::io::stderr().is_terminal();
        Progress { name, line, moves, started: Instant::now(), told: None.into() }
    }

    fn show(&self, text: &str) {
        self.line.set_message(text.to_string());
        if !self.moves && self.told.get().is_none_or(|told| told.elapsed() >= REPORT) {
            self.told.set(Some(Instant::now()));
            eprintln!("soak {}: after {} s: {text}", self.name, self.started.elapsed().as_secs());
        }
    }

    fn end(&self) {
        self.line.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_rounds_are_added_up() {
        let mut sums = BTreeMap::new();
        add_up(&mut sums, "soak: 12 steps\nelse\nsoak: 3 lies\nsoak: x y\n");
        add_up(&mut sums, "noise soak: 30 steps\n");
        assert_eq!(told(&sums), "3 lies, 42 steps");
    }

    #[test]
    fn every_soak_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = table::SOAKS.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), table::SOAKS.len());
    }
}
