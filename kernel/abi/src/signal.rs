//! Signals as programs see them: signal(7), sigaction(2), sigaltstack(2). The frame a handler runs on is the architecture's ([`crate::arch`]).

use core::fmt;
use core::num::NonZeroU8;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::arch::{NO_RESTORER, Restorer};
use crate::raw::general as raw;
use crate::{Errno, Result};

/// The highest signal number, `SIGRTMAX` as the kernel counts.
pub const MAXIMUM: u8 = 64;

/// A signal: 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(NonZeroU8);

macro_rules! signals {
    ($($name:ident)*) => {
        impl Signal {
            $(
                #[doc = concat!("`SIG", stringify!($name), "`, see signal(7).")]
                pub const $name: Signal = Signal::constant(raw_number::$name);
            )*

            /// `SIGINT` and so on; `None` for real-time signals.
            pub const fn name(self) -> Option<&'static str> {
                match self.0.get() {
                    $(raw_number::$name => Some(concat!("SIG", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

/// The numbers in the width we keep them in.
#[allow(missing_docs, reason = "the names are the signals'")]
mod raw_number {
    use super::raw;

    macro_rules! numbers {
        ($($name:ident = $raw:ident)*) => { $(pub const $name: u8 = raw::$raw as u8;)* };
    }
    numbers! {
        HUP = SIGHUP INT = SIGINT QUIT = SIGQUIT ILL = SIGILL TRAP = SIGTRAP ABRT = SIGABRT BUS = SIGBUS FPE = SIGFPE
        KILL = SIGKILL USR1 = SIGUSR1 SEGV = SIGSEGV USR2 = SIGUSR2 PIPE = SIGPIPE ALRM = SIGALRM TERM = SIGTERM
        STKFLT = SIGSTKFLT CHLD = SIGCHLD CONT = SIGCONT STOP = SIGSTOP TSTP = SIGTSTP TTIN = SIGTTIN TTOU = SIGTTOU
        URG = SIGURG XCPU = SIGXCPU XFSZ = SIGXFSZ VTALRM = SIGVTALRM PROF = SIGPROF WINCH = SIGWINCH IO = SIGIO
        PWR = SIGPWR SYS = SIGSYS
    }
}

signals! {
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU
    XFSZ VTALRM PROF WINCH IO PWR SYS
}

impl Signal {
    const fn constant(number: u8) -> Signal {
        match NonZeroU8::new(number) {
            Some(number) => Signal(number),
            None => Signal(NonZeroU8::MIN),
        }
    }

    /// The signal of a number.
    ///
    /// # Errors
    /// `EINVAL` unless it is 1 to 64.
    pub const fn new(number: i32) -> Result<Signal> {
        if number >= 1 && number <= MAXIMUM as i32 { Ok(Signal::constant(number as u8)) } else { Err(Errno::EINVAL) }
    }

    /// The number, 1 to 64.
    pub const fn number(self) -> u8 {
        self.0.get()
    }

    /// Whether it is queued rather than merged with one that is pending: 32 to 64.
    pub const fn is_real_time(self) -> bool {
        self.number() >= raw::SIGRTMIN as u8
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "SIGRT_{}", self.number() - raw::SIGRTMIN as u8),
        }
    }
}

/// A set of signals, `sigset_t` of the kernel: bit 0 is signal 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: SignalSet = SignalSet(0);
    /// Those that can be neither blocked, caught nor ignored.
    pub const UNBLOCKABLE: SignalSet = SignalSet::of(&[Signal::KILL, Signal::STOP]);
    /// Those whose default is to stop the process.
    pub const STOPPING: SignalSet = SignalSet::of(&[Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU]);
    /// Those the CPU causes, which are delivered before others.
    pub const SYNCHRONOUS: SignalSet =
        SignalSet::of(&[Signal::SEGV, Signal::BUS, Signal::ILL, Signal::TRAP, Signal::FPE, Signal::SYS]);

    /// The set of some signals.
    pub const fn of(signals: &[Signal]) -> SignalSet {
        let mut set = 0;
        let mut rest = signals;
        while let [first, others @ ..] = rest {
            set |= 1 << (first.number() - 1);
            rest = others;
        }
        SignalSet(set)
    }

    /// Whether `signal` is in it.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 >> (signal.number() - 1) & 1 == 1
    }

    /// Adds a signal.
    pub const fn insert(&mut self, signal: Signal) {
        self.0 |= 1 << (signal.number() - 1);
    }

    /// Takes a signal out.
    pub const fn remove(&mut self, signal: Signal) {
        self.0 &= !(1 << (signal.number() - 1));
    }

    /// Signals in either.
    pub const fn union(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 | other.0)
    }

    /// Signals in both.
    pub const fn intersection(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & other.0)
    }

    /// Signals in this one only.
    pub const fn without(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & !other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest signal.
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal::constant(self.0.trailing_zeros() as u8 + 1)) }
    }

    /// Its signals, ascending.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        let mut rest = self;
        core::iter::from_fn(move || {
            let first = rest.first()?;
            rest.remove(first);
            Some(first)
        })
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

/// `struct sigaction` as the kernel takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalAction {
    /// `sa_handler` or `sa_sigaction`: an address, [`SignalAction::DEFAULT`] or [`SignalAction::IGNORE`]
    pub handler: usize,
    /// `sa_flags`, see [`ActionFlags`]
    pub flags: u64,
    /// `sa_restorer`: where a handler returns to, if the architecture leaves that to programs
    pub restorer: Restorer,
    /// `sa_mask`: what is blocked while the handler runs
    pub mask: SignalSet,
}

impl SignalAction {
    /// `SIG_DFL`
    pub const DEFAULT: usize = 0;
    /// `SIG_IGN`
    pub const IGNORE: usize = 1;
    /// `SIG_DFL`, with nothing else set.
    pub const NONE: SignalAction =
        SignalAction { handler: SignalAction::DEFAULT, flags: 0, restorer: NO_RESTORER, mask: SignalSet::EMPTY };

    /// Whether a flag is set.
    pub const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }
}

/// The values of `sa_flags`.
#[allow(missing_docs, reason = "see sigaction(2)")]
pub mod action_flags {
    use super::raw;
    pub const NO_CHILD_STOP: u64 = raw::SA_NOCLDSTOP as u64;
    pub const NO_CHILD_WAIT: u64 = raw::SA_NOCLDWAIT as u64;
    pub const SIGINFO: u64 = raw::SA_SIGINFO as u64;
    pub const ON_STACK: u64 = raw::SA_ONSTACK as u64;
    pub const RESTART: u64 = raw::SA_RESTART as u64;
    pub const NO_DEFER: u64 = raw::SA_NODEFER as u64;
    pub const RESET_HANDLER: u64 = raw::SA_RESETHAND as u64;
    pub const RESTORER: u64 = crate::arch::SA_RESTORER;
    /// What the kernel keeps; unknown bits are cleared, so that programs can find out what is supported.
    pub const KNOWN: u64 =
        NO_CHILD_STOP | NO_CHILD_WAIT | SIGINFO | ON_STACK | RESTART | NO_DEFER | RESET_HANDLER | RESTORER;
}

/// `stack_t`, see sigaltstack(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalStack {
    /// `ss_sp`
    pub base: usize,
    /// `ss_flags`
    pub flags: u32,
    #[doc(hidden)]
    pub padding: u32,
    /// `ss_size`
    pub size: usize,
}

/// `siginfo_t`: 128 bytes, of which the kernel fills the first 48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalInfo {
    /// `si_signo`
    pub signal: i32,
    /// `si_errno`
    pub errno: i32,
    /// `si_code`
    pub code: i32,
    #[doc(hidden)]
    pub padding: i32,
    /// The union that follows: sender, child, fault address, value ...
    pub fields: [u64; 4],
    /// Zeros.
    pub rest: [u64; 10],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_linux_s() {
        assert_eq!((size_of::<SignalAction>(), size_of::<SignalStack>(), size_of::<SignalInfo>()), (32, 24, 128));
    }

    #[test]
    fn signals_have_numbers_and_names() {
        assert_eq!(Signal::new(9), Ok(Signal::KILL));
        assert_eq!((Signal::new(0), Signal::new(65)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
        assert_eq!(format!("{:?} {:?}", Signal::TTOU, Signal::new(34).unwrap()), "SIGTTOU SIGRT_2");
        assert!(Signal::new(32).unwrap().is_real_time() && !Signal::SYS.is_real_time());
    }

    /// `UAPI_SA_FLAGS` of Linux with `SA_RESTORER`, without `SA_EXPOSE_TAGBITS`.
    #[test]
    fn actions_keep_the_flags_that_are_known() {
        assert_eq!(action_flags::KNOWN, 0xdc00_0007);
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let mut set = SignalSet::of(&[Signal::INT, Signal::HUP]);
        set.insert(Signal::new(64).unwrap());
        assert!(set.contains(Signal::HUP) && !set.contains(Signal::QUIT));
        assert_eq!(set.iter().map(Signal::number).collect::<Vec<_>>(), [1, 2, 64]);
        set.remove(Signal::HUP);
        assert_eq!(set.first(), Some(Signal::INT));
        assert_eq!(set.without(set), SignalSet::EMPTY);
        assert_eq!(SignalSet::UNBLOCKABLE.0, 1 << 8 | 1 << 18);
    }
}
