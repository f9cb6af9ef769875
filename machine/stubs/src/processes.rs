//! The end of processes of ours, and of their threads. Whoever is killed here is a child of this process, or traced by it, so its number can't
//! mean another before it was waited for; here alone that is done.

use rustix::io::Errno;
use rustix::process::{
    Pid, RawPid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, waitid, waitpgid,
    waitpid,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Waits for threads, too, that are no processes of their own: __WALL of waitpid(2).
const ALL: WaitOptions = WaitOptions::from_bits_retain(libc::__WALL as u32);

/// Processes and threads that were waited for: where it has grown, the host had room for another meanwhile.
static ENDED: AtomicU64 = AtomicU64::new(0);

/// See [`ENDED`].
pub fn ended() -> u64 {
    ENDED.load(Ordering::SeqCst)
}

/// Ends a process of ours and waits until it is gone.
pub fn kill(process: RawPid) {
    kill_thread(process, process);
}

/// Sends `SIGKILL`. A process that is gone needs none.
fn send_kill(process: RawPid) {
    if let Some(process) = Pid::from_raw(process) {
        let _ = kill_process(process, Signal::KILL);
    }
}

/// Ends a process of ours and waits until this thread of it is gone, which is a child too, or traced.
pub fn kill_thread(process: RawPid, thread: RawPid) {
    send_kill(process);
    let Some(thread) = Pid::from_raw(thread) else { return };
    loop {
        match waitpid(Some(thread), ALL) {
            // A stop from before may be told first.
            Ok(Some((_, status))) if status.stopped() => {}
            Ok(None) | Err(Errno::INTR) => {}
            Ok(_) | Err(_) => break,
        }
    }
    ENDED.fetch_add(1, Ordering::SeqCst);
}

/// Ends a process and all that came from it, which are its group, and waits until they are gone. There may be some that nobody knows of: a
/// process that is killed in the instant in which it makes another does not tell the other's number.
pub fn kill_group(leader: RawPid) {
    let Some(group) = Pid::from_raw(leader) else { return };
    let _ = kill_process_group(group, Signal::KILL);
    while matches!(waitpgid(group, ALL), Ok(_) | Err(Errno::INTR)) {}
}

/// Ends a process of ours, and waits until a thread of it runs no more, of which `state` tells. [`kill`] is still to be called.
pub fn stop(process: RawPid, state: impl Fn() -> Option<u8>) {
    send_kill(process);
    // One that has ended and was not waited for is a zombie; others are not there any more.
    while state().is_some_and(|state| !b"ZX".contains(&state)) {
        std::thread::yield_now();
    }
}

/// Whether a child of ours has ended. It is not waited for then, so its number stays its own.
pub fn has_ended(process: RawPid) -> bool {
    let all = WaitIdOptions::from_bits_retain(ALL.bits());
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT | all;
    let Some(process) = Pid::from_raw(process) else { return true };
    !matches!(waitid(WaitId::Pid(process), options), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::state_of;
    use std::process::{Command, Stdio};

    fn child() -> RawPid {
        Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap().id() as RawPid
    }

    #[test]
    fn what_is_killed_is_gone_and_can_be_killed_again() {
        let (process, before) = (child(), ended());
        assert!(!has_ended(process));
        stop(process, || state_of(process, process));
        assert!(has_ended(process) && state_of(process, process) == Some(b'Z'), "it was not waited for");
        kill(process);
        assert!(ended() > before && has_ended(process) && state_of(process, process).is_none());
        kill(process);
    }
}
