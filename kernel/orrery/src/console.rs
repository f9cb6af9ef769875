//! Terminals: the serial port, which is also the place for the kernel's messages, and pseudoterminals.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

use abi::Result;
use abi::terminal::WindowSize;
use drivers::Uart;
use fs::devfs::DevFs;
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

/// Makes a terminal of each serial port, with its nodes in /dev; the first one becomes the console. Lets programs
/// make pseudoterminals, and mount the file system of their slaves.
pub fn open(kernel: &Arc<Kernel>, dev: &DevFs, size: Option<(u16, u16)>) -> Result<Option<Arc<Terminal>>> {
    let job_control: Arc<dyn JobControl> = kernel.clone();
    let alarms: Arc<dyn Alarms> = Arc::new(TaskAlarms(kernel.executor().clone()));
    dev.register("tty", 0o666, TTY, Arc::new(ControllingTerminalDevice(job_control.clone())))?;
    let mut console = None;
    for (index, port) in (0..).zip(machine::device::serial_ports()) {
        let Some(uart) = Uart::new(port.ports) else { continue };
        let handler = uart.clone();
        port.line.connect(Arc::new(move || handler.interrupt()));
        let terminal = tty::serial_terminal(index, &uart, job_control.clone(), alarms.clone());
        dev.register(terminal.name(), 0o600, terminal.number(), Arc::new(TerminalDevice(terminal.clone())))?;
        console.get_or_insert(terminal);
    }
    if let Some(terminal) = &console {
        if let Some((rows, columns)) = size {
            terminal.set_window_size(WindowSize { rows, columns, ..WindowSize::default() });
        }
        dev.register("console", 0o600, CONSOLE, Arc::new(ConsoleDevice(terminal.clone())))?;
        let shown = terminal.clone();
        kernel.log().set_console(Box::new(move |line| shown.print(line.as_bytes())));
    }
    let pseudoterminals = Pseudoterminals::new(job_control, alarms);
    dev.register("ptmx", 0o666, tty::PTMX, pseudoterminals.clone())?;
    let slaves = Arc::new(DevPtsType(DevPts::new(pseudoterminals)));
    kernel.vfs().file_system_types.register(slaves)?;
    Ok(console)
}

/// Time for terminals: a small task of the kernel for each alarm.
struct TaskAlarms(Arc<Executor>);

impl Alarms for TaskAlarms {
    fn wake_at(&self, deadline: u64, terminal: Weak<Terminal>) {
        let sleep = self.0.sleep_until(deadline);
        let task = self.0.spawn(&sched::Parameters { name: "terminal alarm", ..Default::default() }, async move {
            sleep.await;
            if let Some(terminal) = terminal.upgrade() {
                terminal.alarm();
            }
        });
        // Without memory for the alarm, the read that asked for it waits for the next byte instead.
        drop(task);
    }
}
