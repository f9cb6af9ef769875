//! Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2), by path, by link and by descriptor.

use alloc::sync::Arc;

use abi::Errno;
use process::Thread;
use vfs::{Context, Lookup, NotReady, Path, XattrFlags as Xattr};

use crate::argument::{CString, Descriptor, Flags, InBuffer, OutBuffer};
use crate::flags::XattrFlags;
use crate::place::{HERE, resolve, with_file};
use crate::user::{self, PathBuffer};

/// `XATTR_NAME_MAX`
const NAME_MAX: usize = 255;
/// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`
const SIZE_MAX: usize = 65_536;

/// The file whose attributes are meant.
#[derive(Clone, Copy)]
enum Subject {
    Path(CString),
    Link(CString),
    File(Descriptor),
}

impl Subject {
    fn with<R>(
        self,
        thread: &Arc<Thread>,
        act: impl FnOnce(&Context<'_>, &Path) -> Result<R, Errno>,
    ) -> Result<R, NotReady> {
        let (path, how) = match self {
            Subject::Path(path) => (path, Lookup::FOLLOW),
            Subject::Link(path) => (path, Lookup::empty()),
            Subject::File(file) => return Ok(with_file(thread, file, act)?),
        };
        let mut room = PathBuffer::new();
        let path = path.path(thread, &mut room)?;
        Ok(resolve(thread, HERE, path, |context, start| act(context, &context.lookup(start, path, how)?))?)
    }

    fn set(
        self,
        thread: &Arc<Thread>,
        name: CString,
        value: InBuffer<3>,
        size: usize,
        flags: Flags<XattrFlags>,
    ) -> Result<(), NotReady> {
        let flags = Xattr::from_bits(flags.known()?.0).ok_or(Errno::EINVAL)?;
        let name = read_name(thread, name)?;
        if size > SIZE_MAX {
            return Err(Errno::E2BIG.into());
        }
        let value = user::read_array::<u8>(thread, value.0, size)?;
        self.with(thread, |context, path| context.set_xattr(path, &name, &value, flags))
    }

    fn get(self, thread: &Arc<Thread>, name: CString, value: OutBuffer<3>, size: usize) -> Result<usize, NotReady> {
        let name = read_name(thread, name)?;
        let found = self.with(thread, |context, path| context.xattr(path, &name))?;
        give(thread, value.0, size, &found)
    }

    fn list(self, thread: &Arc<Thread>, list: OutBuffer<2>, size: usize) -> Result<usize, NotReady> {
        let found = self.with(thread, |context, path| context.list_xattrs(path))?;
        give(thread, list.0, size, &found)
    }

    fn remove(self, thread: &Arc<Thread>, name: CString) -> Result<(), NotReady> {
        let name = read_name(thread, name)?;
        self.with(thread, |context, path| context.remove_xattr(path, &name))
    }
}

fn read_name(thread: &Arc<Thread>, name: CString) -> Result<PathBuffer, NotReady> {
    let name = name.string(thread, NAME_MAX + 1, Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE.into()) } else { Ok(name) }
}

/// Hands `bytes` out, or only their length if the program has no room at all.
fn give(thread: &Arc<Thread>, address: usize, size: usize, bytes: &[u8]) -> Result<usize, NotReady> {
    if size > 0 {
        if size < bytes.len() {
            return Err(Errno::ERANGE.into());
        }
        user::write(thread, address, bytes)?;
    }
    Ok(bytes.len())
}

macro_rules! calls {
    ($subject:ident($argument:ty): $set:ident $get:ident $list:ident $remove:ident) => {
        /// setxattr(2)
        pub(crate) fn $set(
            thread: &Arc<Thread>,
            subject: $argument,
            name: CString,
            value: InBuffer<3>,
            size: usize,
            flags: Flags<XattrFlags>,
        ) -> Result<(), NotReady> {
            Subject::$subject(subject).set(thread, name, value, size, flags)
        }

        /// getxattr(2)
        pub(crate) fn $get(
            thread: &Arc<Thread>,
            subject: $argument,
            name: CString,
            value: OutBuffer<3>,
            size: usize,
        ) -> Result<usize, NotReady> {
            Subject::$subject(subject).get(thread, name, value, size)
        }

        /// listxattr(2)
        pub(crate) fn $list(
            thread: &Arc<Thread>,
            subject: $argument,
            list: OutBuffer<2>,
            size: usize,
        ) -> Result<usize, NotReady> {
            Subject::$subject(subject).list(thread, list, size)
        }

        /// removexattr(2)
        pub(crate) fn $remove(thread: &Arc<Thread>, subject: $argument, name: CString) -> Result<(), NotReady> {
            Subject::$subject(subject).remove(thread, name)
        }
    };
}

calls!(Path(CString): setxattr getxattr listxattr removexattr);
calls!(Link(CString): lsetxattr lgetxattr llistxattr lremovexattr);
calls!(File(Descriptor): fsetxattr fgetxattr flistxattr fremovexattr);
