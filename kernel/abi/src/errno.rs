//! Error numbers, as errno(3) lists them.
//!
//! Everything that can fail on behalf of a program fails with an [`Errno`]; the system call layer negates it into `rax`.
//! The values come from Linux's own headers through `linux-raw-sys`, and the kernel's private restart codes are *not*
//! here: being interrupted is a value of its own type in the process room, never an errno in flight.

use core::fmt;
use core::num::NonZeroU16;

/// A Linux error number: 1 to 4095. One word smaller than it looks: `Result<(), Errno>` is two bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(NonZeroU16);

/// What most operations return.
pub type Result<T, E = Errno> = core::result::Result<T, E>;

macro_rules! errno_table {
    ($($name:ident,)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`, see errno(3).")]
                pub const $name: Errno = Errno::new(linux_raw_sys::errno::$name);
            )*

            /// The symbolic name (`"ENOENT"`), or `None` for a number Linux has no name for.
            pub fn name(self) -> Option<&'static str> {
                match u32::from(self.0.get()) {
                    $(linux_raw_sys::errno::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errno_table! {
    EPERM, ENOENT, ESRCH, EINTR, EIO, ENXIO, E2BIG, ENOEXEC, EBADF, ECHILD, EAGAIN, ENOMEM, EACCES, EFAULT, ENOTBLK,
    EBUSY, EEXIST, EXDEV, ENODEV, ENOTDIR, EISDIR, EINVAL, ENFILE, EMFILE, ENOTTY, ETXTBSY, EFBIG, ENOSPC, ESPIPE,
    EROFS, EMLINK, EPIPE, EDOM, ERANGE, EDEADLK, ENAMETOOLONG, ENOLCK, ENOSYS, ENOTEMPTY, ELOOP, ENOMSG, EIDRM,
    ECHRNG, EL2NSYNC, EL3HLT, EL3RST, ELNRNG, EUNATCH, ENOCSI, EL2HLT, EBADE, EBADR, EXFULL, ENOANO, EBADRQC,
    EBADSLT, EBFONT, ENOSTR, ENODATA, ETIME, ENOSR, ENONET, ENOPKG, EREMOTE, ENOLINK, EADV, ESRMNT, ECOMM, EPROTO,
    EMULTIHOP, EDOTDOT, EBADMSG, EOVERFLOW, ENOTUNIQ, EBADFD, EREMCHG, ELIBACC, ELIBBAD, ELIBSCN, ELIBMAX, ELIBEXEC,
    EILSEQ, ERESTART, ESTRPIPE, EUSERS, ENOTSOCK, EDESTADDRREQ, EMSGSIZE, EPROTOTYPE, ENOPROTOOPT, EPROTONOSUPPORT,
    ESOCKTNOSUPPORT, EOPNOTSUPP, EPFNOSUPPORT, EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH,
    ENETRESET, ECONNABORTED, ECONNRESET, ENOBUFS, EISCONN, ENOTCONN, ESHUTDOWN, ETOOMANYREFS, ETIMEDOUT,
    ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EALREADY, EINPROGRESS, ESTALE, EUCLEAN, ENOTNAM, ENAVAIL, EISNAM,
    EREMOTEIO, EDQUOT, ENOMEDIUM, EMEDIUMTYPE, ECANCELED, ENOKEY, EKEYEXPIRED, EKEYREVOKED, EKEYREJECTED, EOWNERDEAD,
    ENOTRECOVERABLE, ERFKILL, EHWPOISON,
}

impl Errno {
    /// `EWOULDBLOCK` is another name of `EAGAIN` on Linux.
    pub const EWOULDBLOCK: Errno = Errno::EAGAIN;
    /// `ENOTSUP` is another name of `EOPNOTSUPP` on Linux.
    pub const ENOTSUP: Errno = Errno::EOPNOTSUPP;

    const fn new(number: u32) -> Errno {
        // The table holds only numbers from 1 to 133, so neither the cast nor the fallback loses anything.
        match NonZeroU16::new(number as u16) {
            Some(number) => Errno(number),
            None => Errno(NonZeroU16::MAX),
        }
    }

    /// The number as errno(3) gives it, positive.
    pub const fn number(self) -> u16 {
        self.0.get()
    }

    /// The error in what a system call left in `rax`; `None` if it succeeded. The last page of numbers are errors.
    #[inline]
    pub const fn of_return_value(value: usize) -> Option<Errno> {
        if value <= usize::MAX - 4095 {
            return None;
        }
        match NonZeroU16::new(value.wrapping_neg() as u16) {
            Some(number) => Some(Errno(number)),
            None => None,
        }
    }

    /// What a system call that failed so leaves in `rax`: the negated number.
    pub const fn as_return_value(self) -> usize {
        (self.0.get() as isize).wrapping_neg() as usize
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_linux_s() {
        assert_eq!(Errno::ENOENT.number(), 2);
        assert_eq!(Errno::EAGAIN.as_return_value(), usize::MAX - 10);
        assert_eq!(Errno::of_return_value(usize::MAX - 10), Some(Errno::EAGAIN));
        assert_eq!((Errno::of_return_value(0), Errno::of_return_value(usize::MAX - 4095)), (None, None));
        assert_eq!(Errno::EHWPOISON.number(), 133);
        assert_eq!(format!("{}", Errno::EOPNOTSUPP), "EOPNOTSUPP");
        assert_eq!(size_of::<Result<()>>(), 2);
    }
}
