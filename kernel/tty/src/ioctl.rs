//! ioctl_tty(2): what stty(1), a shell and an editor ask of a terminal.
//!
//! Checks come in Linux's order, and nothing is changed before the last access to the program's memory succeeded.

use alloc::sync::Arc;

use abi::Errno;
use abi::raw::{general as raw, ioctl as request};
use abi::terminal::{Termios, Termios2, WindowSize};
use vfs::{Caller, NotReady};

use crate::discipline::{Discipline, Effects};
use crate::{Member, Terminal, TerminalSignal};

/// An ioctl on a terminal, made through a file that was opened for reading or not.
pub(crate) fn terminal(
    terminal: &Arc<Terminal>,
    readable: bool,
    number: u32,
    argument: usize,
    caller: &dyn Caller,
) -> Result<usize, NotReady> {
    match number {
        request::TCGETS
        | request::TCGETS2
        | request::TCSETS
        | request::TCSETSW
        | request::TCSETSF
        | request::TCSETS2
        | request::TCSETSW2
        | request::TCSETSF2 => settings(terminal, number, argument, caller)?,
        request::TIOCGPGRP
        | request::TIOCSPGRP
        | request::TIOCGSID
        | request::TIOCSCTTY
        | request::TIOCNOTTY
        | request::TIOCVHANGUP => job_control(terminal, readable, number, argument, caller)?,
        request::TIOCOUTQ
        | request::TCFLSH
        | request::TCXONC
        | request::TCSBRK
        | request::TCSBRKP
        | request::TIOCSBRK
        | request::TIOCCBRK => output(terminal, number, argument, caller)?,
        _ => device(terminal, number, argument, caller)?,
    }
    Ok(0)
}

/// What tcgetattr(3) and tcsetattr(3) ask for.
fn settings(terminal: &Terminal, number: u32, argument: usize, caller: &dyn Caller) -> Result<(), NotReady> {
    match number {
        request::TCGETS => caller.write_value(argument, &terminal.termios()),
        request::TCGETS2 => {
            let (termios, speed) = terminal.with_state(|state| (*state.discipline.termios(), state.speed));
            caller.write_value(argument, &Termios2 { termios, c_ispeed: speed, c_ospeed: speed })
        }
        request::TCSETS => set_termios(terminal, When::Now, argument, caller),
        request::TCSETSW => set_termios(terminal, When::AllSent, argument, caller),
        request::TCSETSF => set_termios(terminal, When::AllSentAndInputForgotten, argument, caller),
        request::TCSETS2 => set_termios2(terminal, When::Now, argument, caller),
        request::TCSETSW2 => set_termios2(terminal, When::AllSent, argument, caller),
        request::TCSETSF2 => set_termios2(terminal, When::AllSentAndInputForgotten, argument, caller),
        _ => Err(Errno::ENOTTY.into()),
    }
}

/// What is on its way out: tcflush(3), tcflow(3), tcdrain(3), breaks.
fn output(terminal: &Arc<Terminal>, number: u32, argument: usize, caller: &dyn Caller) -> Result<(), NotReady> {
    if number == request::TIOCOUTQ {
        return caller.write_value(argument, &(terminal.unsent() as u32));
    }
    check_foreground(terminal, caller)?;
    match number {
        request::TCFLSH => flush(terminal, argument)?,
        request::TCXONC => flow(terminal, argument)?,
        request::TCSBRK | request::TCSBRKP => {
            wait_until_sent(terminal)?;
            // tcdrain(3) is TCSBRK with an argument; without one, and for TCSBRKP always, it is tcsendbreak(3).
            if number == request::TCSBRKP || argument == 0 {
                terminal.send_break();
            }
        }
        request::TIOCSBRK => {
            wait_until_sent(terminal)?;
            terminal.set_break(true);
        }
        request::TIOCCBRK => terminal.set_break(false),
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(())
}

/// Whose terminal it is: tcgetpgrp(3), tcsetpgrp(3), tcgetsid(3), and what leads a session asks for.
fn job_control(
    terminal: &Arc<Terminal>,
    readable: bool,
    number: u32,
    argument: usize,
    caller: &dyn Caller,
) -> Result<(), NotReady> {
    match number {
        request::TIOCGPGRP => {
            controlled(terminal, caller)?;
            let group = terminal.foreground_group().map_or(0, |group| caller.pid_number(group));
            caller.write_value(argument, &group)?;
        }
        request::TIOCSPGRP => set_foreground_group(terminal, argument, caller)?,
        request::TIOCGSID => {
            let member = controlled(terminal, caller)?;
            caller.write_value(argument, &caller.pid_number(member.session))?;
        }
        request::TIOCSCTTY => become_controlling(terminal, readable, argument, caller)?,
        request::TIOCNOTTY => {
            let member = controlled(terminal, caller)?;
            if !member.leads_session() {
                // Linux lets one process leave its session's terminal; here terminals belong to whole sessions.
                return Err(Errno::EPERM.into());
            }
            terminal.leave_session(member.session, false);
        }
        request::TIOCVHANGUP => {
            if !terminal.job_control.is_administrator(caller.thread()) {
                return Err(Errno::EPERM.into());
            }
            terminal.hang_up();
        }
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(())
}

/// What it is, how large it is, what waits in it, and who may open it.
fn device(terminal: &Terminal, number: u32, argument: usize, caller: &dyn Caller) -> Result<(), NotReady> {
    match number {
        request::TIOCGWINSZ => caller.write_value(argument, &terminal.window_size())?,
        request::TIOCSWINSZ => terminal.set_window_size(caller.read_value::<WindowSize>(argument)?),
        request::FIONREAD => {
            let waiting = terminal.with_state(|state| state.discipline.input_waiting());
            caller.write_value(argument, &(waiting as u32))?;
        }
        request::TIOCSTI => {
            // Linux since 6.2: only an administrator puts words into others' mouths.
            if !terminal.job_control.is_administrator(caller.thread()) {
                return Err(Errno::EIO.into());
            }
            let byte = caller.read_value::<u8>(argument)?;
            terminal.receive(&[drivers::Received::Byte(byte)]);
        }
        request::TIOCEXCL => terminal.with_state(|state| state.exclusive = true),
        request::TIOCNXCL => terminal.with_state(|state| state.exclusive = false),
        request::TIOCGEXCL => {
            caller.write_value(argument, &u32::from(terminal.with_state(|state| state.exclusive)))?;
        }
        request::TIOCGDEV => caller.write_value(argument, &(terminal.number().encode() as u32))?,
        // The line discipline is N_TTY, number 0, and no other.
        request::TIOCGETD => caller.write_value(argument, &0u32)?,
        request::TIOCSETD => {
            check_foreground(terminal, caller)?;
            if caller.read_value::<u32>(argument)? != 0 {
                return Err(Errno::EINVAL.into());
            }
        }
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(())
}

/// When new settings begin to hold: the optional actions of tcsetattr(3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Now,
    AllSent,
    AllSentAndInputForgotten,
}

fn set_termios(terminal: &Terminal, when: When, argument: usize, caller: &dyn Caller) -> Result<(), NotReady> {
    check_foreground(terminal, caller)?;
    let termios = caller.read_value::<Termios>(argument)?;
    let speed = termios.named_speed().unwrap_or_else(|| terminal.with_state(|state| state.speed));
    apply(terminal, when, termios, speed)
}

fn set_termios2(terminal: &Terminal, when: When, argument: usize, caller: &dyn Caller) -> Result<(), NotReady> {
    check_foreground(terminal, caller)?;
    let new = caller.read_value::<Termios2>(argument)?;
    let mut termios = new.termios;
    let speed = match termios.named_speed() {
        Some(named) => named,
        None => {
            // A speed given as a number gets its name, if it has one.
            termios.set_speed(new.c_ospeed);
            new.c_ospeed
        }
    };
    apply(terminal, when, termios, speed)
}

fn apply(terminal: &Terminal, when: When, termios: Termios, speed: u32) -> Result<(), NotReady> {
    if when != When::Now {
        wait_until_sent(terminal)?;
    }
    if when == When::AllSentAndInputForgotten {
        terminal.change(Discipline::discard_input);
    }
    terminal.set_termios(termios, speed);
    Ok(())
}

/// [`NotReady::WouldBlock`] while output waits; writers are woken as it is sent. What is in the chip's FIFO counts as sent, and
/// so does all that is shown on the slave of a pseudoterminal: nobody waits for its master.
fn wait_until_sent(terminal: &Terminal) -> Result<(), NotReady> {
    if terminal.is_sent() { Ok(()) } else { Err(NotReady::WouldBlock) }
}

pub(crate) fn flush(terminal: &Terminal, which: usize) -> Result<(), NotReady> {
    match which as u32 {
        raw::TCIFLUSH => terminal.change(Discipline::discard_input),
        raw::TCOFLUSH => terminal.change(Discipline::discard_output),
        raw::TCIOFLUSH => terminal.change(|discipline| discipline.discard_input() | discipline.discard_output()),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(())
}

fn flow(terminal: &Terminal, action: usize) -> Result<(), NotReady> {
    match action as u32 {
        raw::TCOOFF => terminal.change(|discipline| {
            discipline.hold_output();
            Effects::empty()
        }),
        raw::TCOON => terminal.change(Discipline::resume_output),
        raw::TCIOFF => terminal.change(|discipline| discipline.send_flow_control(true)),
        raw::TCION => terminal.change(|discipline| discipline.send_flow_control(false)),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(())
}

fn check_foreground(terminal: &Terminal, caller: &dyn Caller) -> Result<(), NotReady> {
    terminal.check_foreground(caller.process(), caller.thread(), TerminalSignal::BackgroundWrite)
}

/// The caller, if this is the controlling terminal of its session.
///
/// # Errors
/// `ENOTTY`.
fn controlled(terminal: &Terminal, caller: &dyn Caller) -> Result<Member, NotReady> {
    let member = terminal.job_control.member(caller.process()).ok_or(Errno::ENOTTY)?;
    if terminal.session() == Some(member.session) { Ok(member) } else { Err(Errno::ENOTTY.into()) }
}

fn set_foreground_group(terminal: &Terminal, argument: usize, caller: &dyn Caller) -> Result<(), NotReady> {
    check_foreground(terminal, caller).map_err(|stop| match stop {
        NotReady::Error(Errno::EIO) => Errno::ENOTTY.into(),
        other => other,
    })?;
    let group = caller.read_value::<i32>(argument)?;
    let group = u32::try_from(group).map_err(|_| Errno::EINVAL)?;
    let member = controlled(terminal, caller)?;
    let group = caller.pid_of(group).ok_or(Errno::ESRCH)?;
    let session = terminal.job_control.session_of_group(group).ok_or(Errno::ESRCH)?;
    if session != member.session {
        return Err(Errno::EPERM.into());
    }
    terminal.with_state(|state| {
        // The session may have lost the terminal since.
        if state.session != Some(session) {
            return Err(Errno::ENOTTY.into());
        }
        state.foreground = Some(group);
        Ok(())
    })
}

fn become_controlling(
    terminal: &Arc<Terminal>,
    readable: bool,
    argument: usize,
    caller: &dyn Caller,
) -> Result<(), NotReady> {
    let job_control = &terminal.job_control;
    let member = job_control.member(caller.process()).ok_or(Errno::EPERM)?;
    let owner = terminal.session();
    if member.leads_session() && owner == Some(member.session) {
        return Ok(());
    }
    if !member.leads_session() || job_control.controlling_terminal(member.session).is_some() {
        return Err(Errno::EPERM.into());
    }
    let administrator = job_control.is_administrator(caller.thread());
    if let Some(owner) = owner {
        if argument != 1 || !administrator {
            return Err(Errno::EPERM.into());
        }
        job_control.set_controlling_terminal(owner, None);
        terminal.with_state(|state| state.session = None);
    }
    if !(readable || administrator) || !terminal.become_controlling(member) {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}
