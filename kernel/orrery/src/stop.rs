//! The ends of the machine: init is over, a program called reboot(2), or there was never anything to run.

#![expect(clippy::disallowed_methods, reason = "as many as there are folders; a line")]

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use drivers::{KernelLog, Level};
use fs::hostfs::HostFs;
use process::{ExitStatus, Shutdown, activity};
use sync::SpinLock;
use syscalls::Calls;

use crate::console::Console;
use crate::options::Options;

/// The exit status when the kernel could not start a system: the person who started it must change something.
pub const NO_SYSTEM: u8 = 125;
/// As a shell says that a program is there and can't be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// As a shell says that there is no such program.
pub const NOT_FOUND: u8 = 127;

/// Knows how to stop, and what to say before.
pub struct Ending {
    calls: Calls,
    log: Arc<KernelLog>,
    report_unknown: bool,
    /// The machine was started for one program: how it ends is told by the status, in its own words.
    runs_program: bool,
    console: SpinLock<Option<Arc<Console>>>,
    folders: SpinLock<Vec<Arc<HostFs>>>,
}

impl Ending {
    /// An ending with the reports the options ask for.
    pub fn new(options: &Options, runs_program: bool, calls: Calls, log: Arc<KernelLog>) -> Ending {
        let report_unknown = options.report_unknown;
        Ending { calls, log, report_unknown, runs_program, console: SpinLock::new(None), folders: SpinLock::default() }
    }

    /// The console, whose output is sent before the machine stops.
    pub fn set_console(&self, console: Console) {
        *self.console.lock() = Some(Arc::new(console));
    }

    /// One more folder of the host, which outlives the machine: what programs wrote to it is there in the end, even if they
    /// had no time to close it.
    pub fn add_folder(&self, folder: Arc<HostFs>) {
        self.folders.lock().push(folder);
    }

    /// There is nothing to run.
    pub fn no_system(&self, reason: fmt::Arguments<'_>, status: u8) -> ! {
        if self.runs_program {
            self.tell(format_args!("orrery: {reason}\n"));
        } else {
            self.log.print(Level::Critical, format_args!("{reason}"));
        }
        self.off(status)
    }

    /// The first program is over, and with it the system: its status is the machine's.
    pub fn init_exited(&self, status: ExitStatus) {
        let number = match status {
            ExitStatus::Exited(number) if self.runs_program => number,
            ExitStatus::Killed(signal) if self.runs_program => 128 + signal.number(),
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

    /// Says something to whoever waits for the program, not as a message of a kernel.
    fn tell(&self, text: fmt::Arguments<'_>) {
        let console = self.console.lock().clone();
        match console.filter(|console| console.shows_messages) {
            Some(console) => console.terminal.print(alloc::fmt::format(text).as_bytes()),
            None => machine::debug::emergency_print(text),
        }
    }

    fn off(&self, status: u8) -> ! {
        self.finish();
        machine::power::off(status)
    }

    /// From now on folders that are far are waited for.
    pub fn begin_to_wait(&self) {
        self.folders.lock().iter().for_each(|folder| folder.begin_to_wait());
    }

    /// Reports what was asked to be reported, and lets folders and the console have what is meant for them.
    fn finish(&self) {
        if self.report_unknown {
            for (refusal, count) in self.calls.refusals().list() {
                self.log.print(Level::Error, format_args!("not done here: {refusal}; asked for {count} times"));
            }
        }
        let folders = core::mem::take(&mut *self.folders.lock());
        for folder in folders {
            if let Err(errno) = folder.write_back() {
                self.log.print(Level::Error, format_args!("files of a shared folder were not written: {errno}"));
            }
        }
        let console = self.console.lock().clone();
        if let Some(console) = console {
            console.finish();
        }
        #[cfg(feature = "fail-allocations")]
        tell_allocations();
    }
}

/// What a task does, by its number: a system call or an [`activity`].
pub fn name_of(number: u32) -> &'static str {
    match number {
        activity::FAULT => "page_fault",
        activity::EXCEPTION => "exception",
        activity::INTERRUPTED => "interrupt",
        call => syscalls::name_of(call as usize).unwrap_or("other"),
    }
}

/// Tells whoever tests how many requests for kernel memory could be refused, and what the others drew on the reserve for each call.
#[cfg(feature = "fail-allocations")]
fn tell_allocations() {
    let requests = machine::memory::refusable_allocations();
    machine::debug::emergency_print(format_args!("refusable allocations: {requests}\n"));
    let allowed = machine::memory::MOST_DRAWN;
    machine::memory::most_drawn(|activity, bytes| {
        let name = name_of(activity);
        machine::debug::emergency_print(format_args!("drawn: {name} {bytes} of {allowed}\n"));
    });
}
