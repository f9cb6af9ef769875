//! Terminals: the machine's console, which is a serial port or the host's terminal and also a place for the kernel's messages,
//! and pseudoterminals.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

use abi::Result;
use abi::terminal::WindowSize;
use drivers::{HostConsole, Uart};
use fs::devfs::DevFs;
use machine::device::StandardStream;
use process::Kernel;
use sched::Executor;
use tty::{
    Alarms, ConsoleDevice, ControllingTerminalDevice, DevPts, DevPtsType, JobControl, Pseudoterminals, Terminal,
    TerminalDevice,
};
use vfs::DeviceNumber;

/// `/dev/tty` and `/dev/console`.
const TTY: DeviceNumber = DeviceNumber { major: 5, minor: 0 };
const CONSOLE: DeviceNumber = DeviceNumber { major: 5, minor: 1 };

/// How often to look whether a serial port has sent everything, and for how long, before the machine stops.
const DRAIN_PATIENCE: u64 = 500_000_000;

/// The machine's console.
pub struct Console {
    /// The terminal on it.
    pub terminal: Arc<Terminal>,
    /// The kernel's messages are shown on it.
    pub shows_messages: bool,
    /// The host's terminal, if that carries it and no serial port.
    host: Option<Arc<HostConsole>>,
}

impl Console {
    /// Sends what the terminal has: the machine is about to stop.
    pub fn finish(&self) {
        if let Some(host) = &self.host {
            return host.flush();
        }
        let give_up = machine::time::now() + DRAIN_PATIENCE;
        while self.terminal.output_ready() && machine::time::now() < give_up {
            self.terminal.print(b"");
            machine::cpu::relax();
        }
    }
}

/// Makes a terminal of each serial port, or else of the host's terminal, with its nodes in /dev; the first one becomes the
/// console. Lets programs make pseudoterminals, and mount the file system of their slaves.
///
/// `error_stream` is the first program's standard error stream: the kernel's messages go where it goes.
pub fn open(
    kernel: &Arc<Kernel>,
    dev: &DevFs,
    size: Option<(u16, u16)>,
    error_stream: StandardStream,
) -> Result<Option<Console>> {
    let job_control: Arc<dyn JobControl> = kernel.clone();
    let alarms: Arc<dyn Alarms> = Arc::new(TaskAlarms(kernel.executor().clone()));
    dev.register("tty", 0o666, TTY, Arc::new(ControllingTerminalDevice(job_control.clone())))?;
    // Otherwise messages stay with the machine, which writes them to the host's error stream, too.
    let shows_messages = !matches!(error_stream, StandardStream::Stream(_));
    let mut console = None;
    let register = |terminal: &Arc<Terminal>| {
        dev.register(terminal.name(), 0o600, terminal.number(), Arc::new(TerminalDevice(terminal.clone())))
    };
    for (index, port) in (0..).zip(machine::device::serial_ports()) {
        let Some(uart) = Uart::new(port.ports) else { continue };
        let handler = uart.clone();
        port.line.connect(Arc::new(move || handler.interrupt()));
        let terminal = tty::serial_terminal(index, &uart, job_control.clone(), alarms.clone());
        register(&terminal)?;
        console.get_or_insert(Console { terminal, shows_messages, host: None });
    }
    if let (None, Some(stream)) = (&console, machine::device::terminal()) {
        let host = HostConsole::new(stream.clone());
        let handler = host.clone();
        stream.connect(Arc::new(move || handler.interrupt()));
        let terminal = tty::host_terminal(&host, job_control.clone(), alarms.clone());
        register(&terminal)?;
        console = Some(Console { terminal, shows_messages, host: Some(host) });
    }
    if let Some(Console { terminal, .. }) = &console {
        if let Some((rows, columns)) = size {
            terminal.set_window_size(WindowSize { rows, columns, ..WindowSize::default() });
        }
        dev.register("console", 0o600, CONSOLE, Arc::new(ConsoleDevice(terminal.clone())))?;
        if shows_messages {
            let shown = terminal.clone();
            kernel.log().set_console(Box::new(move |line| shown.print(line.as_bytes())));
        }
    }
    let pseudoterminals = Pseudoterminals::new(job_control, alarms);
    dev.register("ptmx", 0o666, tty::PTMX, pseudoterminals.clone())?;
    tty::register_slaves(&pseudoterminals, &kernel.vfs().devices)?;
    let slaves = Arc::new(DevPtsType(DevPts::new(pseudoterminals)));
    kernel.vfs().file_system_types.register(slaves)?;
    Ok(console)
}

/// Time for terminals: a small task of the kernel for each alarm.
struct TaskAlarms(Arc<Executor>);

impl Alarms for TaskAlarms {
    fn wake_at(&self, deadline: u64, terminal: Weak<Terminal>) {
        let sleep = self.0.sleep_until(deadline);
        self.0.spawn(&sched::Parameters { name: "terminal alarm", ..Default::default() }, async move {
            sleep.await;
            if let Some(terminal) = terminal.upgrade() {
                terminal.alarm();
            }
        });
    }
}
