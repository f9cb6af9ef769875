//! Device files that lead to terminals, to be registered in `vfs::Vfs::devices`.

use alloc::sync::Arc;

use abi::{Errno, Result};
use vfs::{Device, DeviceNumber, File, OpenRequest};

use crate::{JobControl, Terminal};

/// `/dev/ttyS0` and its like: one terminal.
pub struct TerminalDevice(pub Arc<Terminal>);

impl Device for TerminalDevice {
    fn open(&self, _number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        self.0.open(request, false)
    }
}

/// `/dev/console`, 5:1: the terminal the kernel's messages go to. It never becomes a controlling terminal by being opened.
pub struct ConsoleDevice(pub Arc<Terminal>);

impl Device for ConsoleDevice {
    fn open(&self, _number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        self.0.open(request, true)
    }
}

/// `/dev/tty`, 5:0: the controlling terminal of whoever opens it; `ENXIO` without one.
pub struct ControllingTerminalDevice(pub Arc<dyn JobControl>);

impl Device for ControllingTerminalDevice {
    fn open(&self, _number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let member = self.0.member(request.caller.process()).ok_or(Errno::ENXIO)?;
        let terminal = self.0.controlling_terminal(member.session).ok_or(Errno::ENXIO)?;
        terminal.open(request, false)
    }
}
