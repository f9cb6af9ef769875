//! The machine as a whole: uname(2), sysinfo(2), syslog(2), getrandom(2), reboot(2).

use alloc::sync::Arc;
use core::pin::pin;

use abi::Errno;
use abi::arch::MACHINE;
use abi::fallible::try_zeroed;
use abi::raw::general as raw;
use abi::system::{NAME_LENGTH, RELEASE, SYSTEM, SystemInformation, UtsName, VERSION};
use drivers::KernelLog;
use drivers::kernel_log::DEFAULT_CONSOLE_LEVEL;
use machine::memory::FrameSource;
use memory::{PAGE_SIZE, check_range};
use process::credentials::Capability;
use process::{Failure, Shutdown, Thread};
use sync::Budget;
use vfs::NotReady;

use crate::argument::{Address, Flags, InBuffer, Out, OutBuffer};
use crate::flags::RandomFlags;
use crate::user;

/// How much of the log one read takes at most.
const LOG_PIECE: usize = 4096;

/// `LINUX_REBOOT_MAGIC1`: "feel dead".
const REBOOT_MAGIC: u32 = 0xfee1_dead;
/// `LINUX_REBOOT_MAGIC2` and its successors: birthdays of Linus Torvalds and his daughters.
const REBOOT_MAGIC_2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];

/// uname(2)
pub(crate) fn uname(thread: &Arc<Thread>, name: Out<UtsName>) -> Result<(), NotReady> {
    let uts = thread.process().namespaces().uts();
    let text = UtsName {
        system: UtsName::field(SYSTEM.as_bytes()),
        node: UtsName::field(&uts.host_name()),
        release: UtsName::field(RELEASE.as_bytes()),
        version: UtsName::field(VERSION.as_bytes()),
        machine: UtsName::field(MACHINE.as_bytes()),
        domain: UtsName::field(&uts.domain_name()),
    };
    name.write(thread, &text)
}

/// sethostname(2)
pub(crate) fn sethostname(thread: &Arc<Thread>, name: InBuffer<1>, length: i32) -> Result<(), NotReady> {
    with_name(thread, name, length, |name| thread.process().namespaces().uts().set_host_name(name))
}

/// setdomainname(2)
pub(crate) fn setdomainname(thread: &Arc<Thread>, name: InBuffer<1>, length: i32) -> Result<(), NotReady> {
    with_name(thread, name, length, |name| thread.process().namespaces().uts().set_domain_name(name))
}

fn with_name(thread: &Arc<Thread>, name: InBuffer<1>, length: i32, set: impl FnOnce(&[u8])) -> Result<(), NotReady> {
    thread.credentials().require(Capability::SysAdmin)?;
    let mut bytes = [0; NAME_LENGTH];
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    let bytes = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
    user::read_bytes(thread, name.0, bytes)?;
    set(bytes);
    Ok(())
}

/// sysinfo(2)
pub(crate) fn sysinfo(thread: &Arc<Thread>, information: Out<SystemInformation>) -> Result<(), NotReady> {
    let kernel = thread.kernel();
    let frames = kernel.memory().frames();
    // Linux's averages have 11 bits of fraction, sysinfo(2)'s 16.
    let loads = kernel.executor().load_averages().map(|load| load << 5);
    let answer = SystemInformation {
        uptime: (machine::time::now() / 1_000_000_000) as i64,
        loads,
        total_memory: (frames.total_frames() * PAGE_SIZE) as u64,
        free_memory: (frames.free_frames() * PAGE_SIZE) as u64,
        shared_memory: kernel.memory().file_pages() * PAGE_SIZE as u64,
        processes: u16::try_from(kernel.processes().thread_count()).unwrap_or(u16::MAX),
        unit: 1,
        ..SystemInformation::default()
    };
    information.write(thread, &answer)
}

/// getrandom(2). There is only one generator, and it is ready from boot on: the flags make no difference.
pub(crate) async fn getrandom(
    thread: &Arc<Thread>,
    buffer: Address,
    count: usize,
    flags: Flags<RandomFlags>,
) -> Result<usize, Failure> {
    const RANDOM_AND_INSECURE: u32 = raw::GRND_RANDOM | raw::GRND_INSECURE;
    if flags.known()?.has(RANDOM_AND_INSECURE) {
        return Err(Errno::EINVAL.into());
    }
    let mut done = 0;
    let filling = fill_randomly(thread, buffer.0, count.min(i32::MAX as usize), &mut done);
    let result = thread.interruptible(pin!(filling)).await;
    match result {
        _ if done > 0 => Ok(done),
        Ok(filled) => Ok(filled.map(|()| 0)?),
        Err(interrupted) => Err(interrupted.into()),
    }
}

/// Fills `count` bytes of the program; `done` tells how far it came.
async fn fill_randomly(thread: &Thread, address: usize, count: usize, done: &mut usize) -> Result<(), Errno> {
    let mut bytes = [0; 256];
    let mut budget = Budget::new();
    while *done < count {
        let part = bytes.get_mut(..(count - *done).min(256)).unwrap_or_default();
        thread.kernel().random(part);
        thread.space().copy_out(address.wrapping_add(*done), part).await?;
        *done += part.len();
        budget.pace(1).await;
    }
    Ok(())
}

/// What syslog(2) is to do.
mod action {
    pub const CLOSE: i32 = 0;
    pub const OPEN: i32 = 1;
    pub const READ: i32 = 2;
    pub const READ_ALL: i32 = 3;
    pub const READ_CLEAR: i32 = 4;
    pub const CLEAR: i32 = 5;
    pub const CONSOLE_OFF: i32 = 6;
    pub const CONSOLE_ON: i32 = 7;
    pub const CONSOLE_LEVEL: i32 = 8;
    pub const SIZE_UNREAD: i32 = 9;
    pub const SIZE_BUFFER: i32 = 10;
}

/// syslog(2): the kernel's log.
pub(crate) async fn syslog(
    thread: &Arc<Thread>,
    action: i32,
    buffer: OutBuffer<2>,
    length: i32,
) -> Result<usize, Failure> {
    // Reading it all and asking for its size is everybody's right (dmesg_restrict is 0).
    if !matches!(action, action::READ_ALL | action::SIZE_BUFFER) {
        thread.credentials().require(Capability::Syslog)?;
    }
    let log = thread.kernel().log();
    match action {
        action::CLOSE | action::OPEN => {}
        action::READ | action::READ_ALL | action::READ_CLEAR => {
            let room = usize::try_from(length).ok().filter(|_| buffer.0 != 0).ok_or(Errno::EINVAL)?;
            if room == 0 {
                return Ok(0);
            }
            check_range(buffer.0, room)?;
            return match action {
                action::READ => read_log(thread, log, buffer.0, room).await,
                _ => read_whole_log(thread, log, buffer.0, room, action == action::READ_CLEAR).await,
            };
        }
        action::CLEAR => log.clear(),
        action::CONSOLE_OFF => log.set_console_level(1),
        action::CONSOLE_ON => log.set_console_level(DEFAULT_CONSOLE_LEVEL),
        action::CONSOLE_LEVEL => match length {
            1..=8 => log.set_console_level(length as u8),
            _ => return Err(Errno::EINVAL.into()),
        },
        action::SIZE_UNREAD => return Ok(log.unread()),
        action::SIZE_BUFFER => return Ok(log.size()),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// Takes what was not read yet; waits for something if there is nothing.
async fn read_log(thread: &Arc<Thread>, log: &KernelLog, address: usize, room: usize) -> Result<usize, Failure> {
    let mut text = try_zeroed(room.min(LOG_PIECE))?;
    let taken = || Some(log.read(&mut text)).filter(|&length| length > 0);
    let length = thread.interruptible(pin!(log.arrived().wait_until(taken))).await?;
    thread.space().copy_out(address, text.get(..length).unwrap_or_default()).await?;
    Ok(length)
}

/// Reads the newest whole lines that fit, without taking them; with `clears`, the next such read begins behind them.
async fn read_whole_log(
    thread: &Arc<Thread>,
    log: &KernelLog,
    address: usize,
    room: usize,
    clears: bool,
) -> Result<usize, Failure> {
    let text = log.read_all(room);
    thread.space().copy_out(address, text.as_bytes()).await?;
    if clears {
        log.clear();
    }
    Ok(text.len())
}

/// reboot(2)
pub(crate) fn reboot(
    thread: &Arc<Thread>,
    magic: u32,
    magic2: u32,
    command: u32,
    _argument: Address,
) -> Result<(), Errno> {
    const RESTART: u32 = 0x0123_4567;
    const HALT: u32 = 0xcdef_0123;
    const CAD_ON: u32 = 0x89ab_cdef;
    const CAD_OFF: u32 = 0;
    const POWER_OFF: u32 = 0x4321_fedc;
    thread.credentials().require(Capability::SysBoot)?;
    if magic != REBOOT_MAGIC || !REBOOT_MAGIC_2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    let kernel = thread.kernel();
    match command {
        RESTART => kernel.shut_down(Shutdown::Restart),
        HALT => kernel.shut_down(Shutdown::Halt),
        POWER_OFF => kernel.shut_down(Shutdown::PowerOff),
        // There is no Ctrl-Alt-Del on a serial line: allowing or forbidding it changes nothing.
        CAD_ON | CAD_OFF => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
