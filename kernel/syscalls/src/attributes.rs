//! What a thread sets about itself by number: prctl(2), arch_prctl(2).

use alloc::sync::Arc;

use abi::Errno;
#[cfg(of_x86)]
use abi::arch::{self, Answer};
use abi::raw::prctl as option;
use abi::signal::Signal;
use process::Thread;
use process::credentials::Credentials;
use vfs::NotReady;

use crate::argument::Address;
use crate::user;

/// `TASK_COMM_LEN`: a name with its zero.
const NAME_SIZE: usize = 16;

/// The slack of timers Linux has at first, in nanoseconds. Ours have none, so nobody can change it.
const TIMER_SLACK: usize = 50_000;

/// The highest number of a capability.
const LAST_CAPABILITY: usize = 40;

/// prctl(2)
pub(crate) fn prctl(
    thread: &Arc<Thread>,
    number: i32,
    second: usize,
    third: usize,
    fourth: usize,
    fifth: usize,
) -> Result<usize, NotReady> {
    let process = thread.process();
    let unused = third | fourth | fifth == 0;
    match number as u32 {
        option::PR_SET_NAME => {
            let mut name = [0; NAME_SIZE];
            read_name(thread, second, &mut name)?;
            thread.set_name(&name);
        }
        option::PR_GET_NAME => {
            let name = thread.name();
            let mut bytes = [0; NAME_SIZE];
            bytes.iter_mut().zip(name.as_bytes()).for_each(|(to, from)| *to = *from);
            user::write(thread, second, &bytes)?;
        }
        option::PR_SET_PDEATHSIG => {
            let signal = if second == 0 { None } else { Some(Signal::new(i32::try_from(second).unwrap_or(-1))?) };
            thread.set_parent_death_signal(signal);
        }
        option::PR_GET_PDEATHSIG => {
            let signal = thread.parent_death_signal().map_or(0, |signal| i32::from(signal.number()));
            user::write(thread, second, &signal.to_le_bytes())?;
        }
        option::PR_GET_DUMPABLE => return Ok(process.dumpable() as usize),
        option::PR_SET_DUMPABLE => match second {
            0 | 1 => process.set_dumpable(second as u32),
            _ => return Err(Errno::EINVAL.into()),
        },
        option::PR_GET_THP_DISABLE if second == 0 && unused => {
            return Ok(usize::from(process.space().is_some_and(|space| space.forbids_huge_pages())));
        }
        option::PR_SET_THP_DISABLE if unused => {
            if let Some(space) = process.space() {
                space.forbid_huge_pages(second != 0);
            }
        }
        option::PR_GET_KEEPCAPS => return Ok(usize::from(thread.credentials().keep_capabilities)),
        option::PR_SET_KEEPCAPS => match second {
            0 | 1 => {
                let mut new = Credentials::clone(&thread.credentials());
                new.keep_capabilities = second == 1;
                thread.set_credentials(new)?;
            }
            _ => return Err(Errno::EINVAL.into()),
        },
        option::PR_SET_CHILD_SUBREAPER => process.set_subreaper(second != 0),
        option::PR_GET_CHILD_SUBREAPER => {
            user::write(thread, second, &i32::from(process.is_subreaper()).to_le_bytes())?;
        }
        option::PR_SET_NO_NEW_PRIVS if second == 1 && unused => {
            let mut new = Credentials::clone(&thread.credentials());
            new.no_new_privileges = true;
            thread.set_credentials(new)?;
        }
        option::PR_GET_NO_NEW_PRIVS if second == 0 && unused => {
            return Ok(usize::from(thread.credentials().no_new_privileges));
        }
        option::PR_CAPBSET_READ if second <= LAST_CAPABILITY => {
            return Ok((thread.credentials().capabilities.bounding >> second & 1) as usize);
        }
        option::PR_CAPBSET_DROP => {
            let dropped = thread.credentials().drop_bounding(second.min(63) as u8)?;
            if second > LAST_CAPABILITY {
                return Err(Errno::EINVAL.into());
            }
            thread.set_credentials(dropped)?;
        }
        option::PR_GET_TIMERSLACK => return Ok(TIMER_SLACK),
        // Nobody is confined, nothing is locked.
        option::PR_GET_SECCOMP | option::PR_GET_SECUREBITS => return Ok(0),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// Reads a name up to its zero, or as much as counts.
fn read_name(thread: &Arc<Thread>, address: usize, name: &mut [u8; NAME_SIZE]) -> Result<(), NotReady> {
    let (_, bytes) = name.split_last_mut().unwrap_or((&mut 0, &mut []));
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = user::read::<u8>(thread, address.wrapping_add(index))?;
        if *byte == 0 {
            break;
        }
    }
    Ok(())
}

/// arch_prctl(2)
#[cfg(of_x86)]
pub(crate) fn arch_prctl(thread: &Arc<Thread>, code: i32, argument: Address) -> Result<usize, NotReady> {
    match thread.with_registers(|registers| arch::arch_prctl(registers, code as u32, argument.0))? {
        Answer::Returned(value) => Ok(value),
        Answer::Told(value) => user::write(thread, argument.0, &value.to_le_bytes()).map(|()| 0),
    }
}
