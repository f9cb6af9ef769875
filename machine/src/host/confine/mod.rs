//! What the threads of a machine give up before they deal with what programs say.
//!
//! The kernel is memory-safe and has no reason to do anything but compute, move memory, talk to its stubs and use descriptors
//! that were opened before. So its threads keep the system calls they make, of some of them the forms they use ([`setup::calls`]), and lose
//! all others: new programs and processes, sockets, mounts, namespaces, other processes' memory, new identities, code that is written
//! while running. What is refused answers `EPERM`. Files are opened only where a folder is shared. Capabilities go, too,
//! but for those over files where there is such a folder.
//!
//! Signals are for whoever started the machine: a confined thread takes none that is meant for the process. Its handler would run under
//! the filter, and what it does, such as to tell another thread by a socket, would be refused.
//!
//! A thread that could not be confined does not begin: the machine does not start. Only a machine's own threads are confined: whoever
//! called [`super::run`] goes on as before. Threads that a confined thread starts are so from their first instruction.

mod filter;

use super::bpf::Instruction;
use super::frames::checked;
use super::machine::{StartError, current};
use std::cell::Cell;
use std::io;
use std::sync::LazyLock;
use stubs::outside;

/// Capabilities over files, by their numbers: chown, two of dac, fowner, fsetid.
const OVER_FILES: u32 = 0b1_1111;

thread_local! {
    static CONFINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is confined, and so is what it starts.
pub fn is_confined() -> bool {
    CONFINED.get()
}

/// This thread was started by one that is confined.
pub fn inherit() {
    CONFINED.set(true);
}

/// The state of a thread of a stub, as the letter in /proc/PID/task/TID/stat. None if it is no more.
pub fn state_of(process: libc::pid_t, thread: libc::pid_t) -> Option<u8> {
    if is_confined() { current().outside.ask(process, thread) } else { outside::state_of(process, thread) }
}

/// Confines this thread, for good.
///
/// # Errors
/// The host does not take something away. Then nothing that a program says may be listened to.
pub fn confine(has_folders: bool) -> Result<(), StartError> {
    let refused = |step: &'static str, advice: &'static str| move |reason| StartError { step, advice, reason };
    keep_capabilities(if has_folders { OVER_FILES } else { 0 }).map_err(refused(
        "give up capabilities (capset)",
        "let the container's seccomp profile allow it, or run as an ordinary user",
    ))?;
    leave_signals_to_others();
    install(has_folders).map_err(refused(
        "confine the kernel's threads (seccomp)",
        "use a kernel with CONFIG_SECCOMP_FILTER, and let the container's seccomp profile allow prctl",
    ))?;
    CONFINED.set(true);
    Ok(())
}

/// Signals that this thread brings about or that are sent to it alone.
const OWN_SIGNALS: [libc::c_int; 8] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    super::cpu::INTERRUPT,
];

/// Blocks all signals but this thread's own, and so in what it starts.
fn leave_signals_to_others() {
    // SAFETY: a set of signals is plain data, filled before it is used; the calls fail for no signal named here.
    unsafe {
        let mut others: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut others);
        for signal in OWN_SIGNALS {
            libc::sigdelset(&mut others, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &others, std::ptr::null_mut());
    }
}

fn install(has_folders: bool) -> io::Result<()> {
    static FILTERS: LazyLock<[Box<[Instruction]>; 2]> = LazyLock::new(|| {
        [false, true].map(|has_folders| filter::of(&setup::allowed(has_folders, super::cpu::INTERRUPT)))
    });
    let [without_folders, with_folders] = &*FILTERS;
    let filter = if has_folders { with_folders } else { without_folders };
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the host copies the filter; without new privileges anybody may set one.
    unsafe {
        checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        checked(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program))?;
    }
    Ok(())
}

/// Gives up every capability but those of a mask that we have.
///
/// # Errors
/// Some are left.
pub fn keep_capabilities(mask: u32) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; then the same for capabilities from 32 on.
    let mut sets = [0_u32; 6];
    // SAFETY: capget(2) and capset(2) read the header and read or fill the six words.
    unsafe {
        checked(libc::syscall(libc::SYS_capget, &header, &mut sets) as libc::c_int)?;
        let [effective, permitted, ..] = sets;
        if sets == [effective & mask, permitted & mask, 0, 0, 0, 0] {
            return Ok(());
        }
        sets = [effective & mask, permitted & mask, 0, 0, 0, 0];
        checked(libc::syscall(libc::SYS_capset, &header, &sets) as libc::c_int)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Configuration, run};
    use std::net::UdpSocket;

    /// A host that refuses a call in any form, or in the form in which its first argument is `argument`, on this thread and those it
    /// starts.
    fn refuse(number: libc::c_long, argument: Option<u32>) {
        use crate::platform::bpf::{self, ALLOW, NUMBER, answer, if_equal, load};
        let others = if argument.is_some() { 3 } else { 1 };
        let mut filter = vec![load(NUMBER), if_equal(number as u32, 0, others)];
        if let Some(value) = argument {
            filter.extend([load(bpf::argument(0)), if_equal(value, 0, 1)]);
        }
        filter.extend([answer(libc::SECCOMP_RET_ERRNO | libc::EACCES as u32), ALLOW]);
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the host copies the filter.
        unsafe {
            checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)).unwrap();
            checked(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)).unwrap();
        }
    }

    /// Runs `body` on a thread of its own.
    fn apart<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(body).join().unwrap()
    }

    const SECCOMP: Option<u32> = Some(libc::PR_SET_SECCOMP as u32);

    #[test]
    fn a_thread_that_cannot_be_confined_says_so() {
        for (number, argument, step) in [
            (libc::SYS_prctl, SECCOMP, "seccomp"),
            (libc::SYS_prctl, Some(libc::PR_SET_NO_NEW_PRIVS as u32), "seccomp"),
            (libc::SYS_capget, None, "capset"),
        ] {
            for has_folders in [false, true] {
                let error = apart(move || {
                    refuse(number, argument);
                    confine(has_folders).map(|()| is_confined())
                });
                let text = error.unwrap_err().to_string();
                assert!(text.contains(step) && text.contains("docs/src/host-machine.md"), "{text}");
                assert!(text.contains("Permission denied"), "{text}");
            }
        }
    }

    /// No program and no kernel begins on a host without seccomp.
    #[test]
    fn a_machine_that_cannot_be_confined_does_not_start() {
        fn kernel() -> ! {
            eprintln!("the kernel runs");
            std::process::abort()
        }
        let result = apart(|| {
            refuse(libc::SYS_prctl, SECCOMP);
            run(Configuration { cpus: 2, memory: 32 << 20, ..Configuration::default() }, kernel)
        });
        let text = result.unwrap_err().to_string();
        assert!(text.contains("docs/src/host-machine.md"), "{text}");
    }

    #[test]
    fn a_confined_thread_and_what_it_starts_can_open_nothing() {
        apart(|| {
            assert!(UdpSocket::bind("127.0.0.1:0").is_ok() && !is_confined());
            confine(false).unwrap();
            let check = || {
                assert!(UdpSocket::bind("127.0.0.1:0").is_err());
                assert!(std::fs::read("/proc/self/status").is_err() && std::fs::read("/etc/passwd").is_err());
                assert!(std::process::Command::new("/bin/true").status().is_err());
                // SAFETY: asks for memory that is code; none is given.
                let code = unsafe {
                    libc::mmap(std::ptr::null_mut(), 4096, 7, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
                };
                assert_eq!(code, libc::MAP_FAILED);
                vec![1_u8; 10 << 20].len()
            };
            assert_eq!(check(), 10 << 20);
            assert_eq!(std::thread::spawn(check).join().unwrap(), 10 << 20);
        });
        assert!(UdpSocket::bind("127.0.0.1:0").is_ok());
    }

    #[test]
    fn the_x32_calls_are_refused() {
        apart(|| {
            confine(true).unwrap();
            // SAFETY: getpid(2), by the number the x32 interface has for it.
            let result = unsafe { libc::syscall(libc::SYS_getpid | 1 << 30) };
            assert_eq!((result, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
            // SAFETY: the same by the usual number.
            assert!(unsafe { libc::syscall(libc::SYS_getpid) } > 0);
        });
    }
}
