//! The ends of the machine: init is over, a program called reboot(2), or there was never anything to run.

use alloc::sync::Arc;
use core::fmt;

use drivers::{KernelLog, Level};
use process::{ExitStatus, Shutdown};
use sync::SpinLock;
use syscalls::Calls;
use tty::Terminal;

use crate::options::Options;

/// The exit status when the kernel could not start a system: the person who started it must change something.
pub const NO_SYSTEM: u8 = 125;

/// How often to look whether the console has sent everything, and for how long, before the machine stops.
const DRAIN_PATIENCE: u64 = 500_000_000;

/// Knows how to stop, and what to say before.
pub struct Ending {
    calls: Calls,
    log: Arc<KernelLog>,
    report_unknown: bool,
    terminal: SpinLock<Option<Arc<Terminal>>>,
}

impl Ending {
    /// An ending with the reports the options ask for.
    pub fn new(options: &Options, calls: Calls, log: Arc<KernelLog>) -> Ending {
        Ending { calls, log, report_unknown: options.report_unknown, terminal: SpinLock::new(None) }
    }

    /// The console, whose output is sent before the machine stops.
    pub fn set_terminal(&self, terminal: Arc<Terminal>) {
        *self.terminal.lock() = Some(terminal);
    }

    /// There is nothing to run.
    pub fn no_system(&self, reason: fmt::Arguments<'_>) -> ! {
        self.log.print(Level::Critical, format_args!("{reason}"));
        self.off(NO_SYSTEM)
    }

    /// The first program is over, and with it the system: its status is the machine's.
    pub fn init_exited(&self, status: ExitStatus) {
        let number = match status {
            ExitStatus::Exited(number) => {
                // Meant as the end, as a container's first program means it: worth a line, but no error.
                self.log.print(Level::Notice, format_args!("init exited with status {number}: the machine stops"));
                number
            }
            ExitStatus::Killed(signal) => {
                self.log.print(Level::Critical, format_args!("init was killed by {signal:?}: the machine stops"));
                128 + signal.number()
            }
        };
        self.off(number)
    }

    /// reboot(2).
    pub fn shut_down(&self, how: Shutdown) {
        match how {
            Shutdown::PowerOff => self.off(0),
            Shutdown::Halt => {
                self.log.print(Level::Notice, format_args!("System halted"));
                self.off(0)
            }
            Shutdown::Restart => {
                self.finish();
                machine::power::reset()
            }
        }
    }

    fn off(&self, status: u8) -> ! {
        self.finish();
        machine::power::off(status)
    }

    /// Reports what was asked to be reported, and lets the console send what it has.
    fn finish(&self) {
        if self.report_unknown {
            for (refusal, count) in self.calls.refusals().list() {
                self.log.print(Level::Error, format_args!("not done here: {refusal}; asked for {count} times"));
            }
        }
        let Some(terminal) = self.terminal.lock().clone() else { return };
        let give_up = machine::time::now() + DRAIN_PATIENCE;
        while terminal.output_ready() && machine::time::now() < give_up {
            terminal.print(b"");
            machine::cpu::relax();
        }
    }
}
