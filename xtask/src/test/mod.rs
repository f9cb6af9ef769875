//! `x test`: everything that must hold.
//!
//! | job | what it does |
//! | --- | --- |
//! | `rooms` | the host tests of every crate, with cargo |
//! | `miri` | some of them under Miri, if it is installed: see `x miri` |
//! | `wasm32` | some of them with words of 32 bits, if the target and Node are installed |
//! | `console ...` | boots on every machine with 1, 2 and 4 CPUs, the shell used as a person does, then real programs |
//! | `twin ...` | programs whose output must equal that on Linux |
//! | `bad ...` | damaged archives, strange options, too little memory: a clear line and a failing status |
//! | `every 101st ...`, `what calls draw ...` | kernel memory that is refused, and what of it can't be |
//! | `hostile ...` | programs that do what nobody should |
//! | `git ...` | git and tar of this host on files that take their time |
//! | `load ...` | a thousand processes, a hundred thousand starts |
//! | `polls ...` | how long any call keeps a CPU, and that what takes long can be killed |
//! | `run ...` | `x run` itself: pipes, exit statuses, the terminal left in order |
//!
//! Jobs run side by side as far as there are processors; each reports many checks. The last line is the sum.

mod allocations;
mod bad;
mod batch;
mod boots;
mod damage;
mod hostile;
mod load;
mod polls;
mod report;
mod rooms;
mod run;
mod twins;
mod versions;
mod wasm;

/// What a person does at a console, for soaks too.
pub use boots::{much_output, vi};
pub use hostile::SHORTAGES;
pub use versions::on_slow_files;

use crate::console::Console;
use crate::hosted::Hosted;
use crate::initramfs::Initramfs;
use crate::qemu::{Guest, Machine, Vm};
use crate::run::{Hardware, Place};
use anyhow::Result;
use report::Report;
use std::process::ExitCode;
use std::sync::{Condvar, Mutex};

/// What `x test` is asked for.
#[derive(clap::Args)]
pub struct Test {
    /// Only checks whose name contains this.
    name: Option<String>,
    /// Lists the jobs and checks instead of running them.
    #[arg(long)]
    list: bool,
    /// The kernel to test; with `linux` the tests themselves are tested.
    #[arg(long, value_enum, default_value = "orrery")]
    kernel: Guest,
    /// Asks Linux again, instead of using the twins' output kept in target/.
    #[arg(long)]
    fresh: bool,
}

/// What jobs need to know.
pub struct Context {
    kernel: Guest,
    filter: String,
    fresh: bool,
}

impl Context {
    /// Is a check of this name wanted?
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// A machine to test on.
    fn vm(&self, machine: Machine, cpus: u32, memory: u32, archive: Initramfs, options: &str) -> Result<Vm> {
        let hardware = Hardware { cpus, memory, machine, kernel: self.kernel, accelerator: None };
        hardware.vm(archive, options)
    }

    /// A machine just started, and its console.
    fn boot(&self, place: Place, cpus: u32, memory: u32, archive: Initramfs, options: &str) -> Result<Console> {
        match place.model() {
            Some(machine) => Console::start(&self.vm(machine, cpus, memory, archive, options)?),
            None => Console::start_on_host(&Hosted {
                cpus,
                memory,
                archive,
                options: options.into(),
                engine: None,
                tool: None,
            }),
        }
    }
}

/// What a job does; an error is a failure of the job as a whole.
type Body = Box<dyn Fn(&Context, &Report) -> Result<()> + Send + Sync>;

/// A piece of work with checks of its own.
struct Job {
    name: String,
    /// The names of its checks, for filters and `--list`; what it finds on the way (cargo's tests) need not be here.
    checks: Vec<String>,
    /// How many processors it keeps busy.
    width: usize,
    /// It needs `orrery` instead of a kernel's image.
    on_host: bool,
    body: Body,
}

impl Job {
    fn new(
        name: impl Into<String>,
        checks: Vec<String>,
        width: usize,
        body: impl Fn(&Context, &Report) -> Result<()> + Send + Sync + 'static,
    ) -> Job {
        Job { name: name.into(), checks, width, on_host: false, body: Box::new(body) }
    }

    /// As `new`, for a job at this place with so many CPUs. On the host machine it mostly waits.
    fn at(
        place: Place,
        cpus: u32,
        name: impl Into<String>,
        checks: Vec<String>,
        body: impl Fn(&Context, &Report) -> Result<()> + Send + Sync + 'static,
    ) -> Job {
        let on_host = place == Place::Host;
        Job { on_host, ..Job::new(name, checks, if on_host { 1 } else { cpus as usize }, body) }
    }
}

impl Test {
    /// Runs the tests.
    pub fn run(self) -> Result<ExitCode> {
        let context = Context { kernel: self.kernel, filter: self.name.unwrap_or_default(), fresh: self.fresh };
        let mut jobs = Vec::new();
        // The long ones first, so that none is left alone at the end.
        jobs.extend(rooms::jobs());
        jobs.extend(wasm::jobs());
        jobs.extend(hostile::jobs()?);
        jobs.extend(load::jobs());
        jobs.extend(versions::jobs());
        jobs.extend(boots::jobs()?);
        jobs.extend(twins::jobs()?);
        jobs.extend(polls::jobs());
        jobs.extend(allocations::jobs());
        jobs.extend(bad::jobs());
        jobs.extend(run::jobs());
        jobs.retain(|job| context.wants(&job.name) || job.checks.iter().any(|check| context.wants(check)));
        // Linux is no guest of the host machine.
        jobs.retain(|job| self.kernel == Guest::Orrery || !job.on_host);
        if self.list {
            for job in &jobs {
                println!("{}", job.name);
                job.checks.iter().filter(|check| context.wants(check)).for_each(|check| println!("    {check}"));
            }
            return Ok(ExitCode::SUCCESS);
        }
        // Everything the jobs share is built first, once.
        if self.kernel == Guest::Orrery && jobs.iter().any(|job| !rooms::is_host_test(&job.name) && !job.on_host) {
            crate::build::kernel()?;
        }
        if jobs.iter().any(|job| job.on_host) {
            crate::hosted::orrery()?;
        }
        let report = Report::new();
        run_all(&jobs, &context, &report);
        Ok(report.finish())
    }
}

/// Runs jobs side by side; their widths together are never more than the processors there are.
fn run_all(jobs: &[Job], context: &Context, report: &Report) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let free = Mutex::new(processors);
    let freed = Condvar::new();
    std::thread::scope(|scope| {
        for job in jobs {
            let width = job.width.clamp(1, processors);
            let mut left = free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            while *left < width {
                left = freed.wait(left).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            *left -= width;
            drop(left);
            let (free, freed) = (&free, &freed);
            scope.spawn(move || {
                let running = report.begin(&job.name);
                if let Err(error) = (job.body)(context, report) {
                    report.check(&job.name, Err(error));
                }
                drop(running);
                *free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += width;
                freed.notify_all();
            });
        }
    });
}
