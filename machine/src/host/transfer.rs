//! Contents of the host's files, straight to and from frames: by address, never by a reference, as programs may change a frame's
//! bytes at any moment.

use crate::memory::{Frame, PAGE_SIZE};
use folders::Page;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

impl Page for Frame {
    fn read(file: BorrowedFd<'_>, offset: u64, to: &[Frame], now: bool) -> Result<usize> {
        let parts = parts(to, to.len().saturating_mul(PAGE_SIZE));
        let (number, count, offset) = (file.as_raw_fd(), parts.len() as libc::c_int, position(offset)?);
        // SAFETY: each part is a whole frame, owned by a reference in `to` for the length of the call.
        length(unsafe { libc::preadv2(number, parts.as_ptr(), count, offset, if now { libc::RWF_NOWAIT } else { 0 }) })
    }

    fn write(file: BorrowedFd<'_>, offset: u64, from: &[Frame], bytes: usize) -> Result<usize> {
        let parts = parts(from, bytes);
        let (number, count, offset) = (file.as_raw_fd(), parts.len() as libc::c_int, position(offset)?);
        // SAFETY: each part lies in a frame owned by a reference in `from` for the length of the call.
        length(unsafe { libc::pwritev(number, parts.as_ptr(), count, offset) })
    }
}

/// The bytes of frames, up to `length`, as the host takes them.
fn parts(frames: &[Frame], length: usize) -> Vec<libc::iovec> {
    let lengths = (0..length).step_by(PAGE_SIZE).map(|start| (length - start).min(PAGE_SIZE));
    let part = |(frame, length): (&Frame, usize)| libc::iovec { iov_base: frame.bytes().cast(), iov_len: length };
    frames.iter().zip(lengths).map(part).collect()
}

fn position(offset: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| Error::from_raw_os_error(libc::EINVAL))
}

/// What a call that counts bytes returned.
fn length(returned: isize) -> Result<usize> {
    usize::try_from(returned).map_err(|_| Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use folders::{HostError, SharedFolder};

    #[test]
    fn frames_are_filled_and_written() {
        let path = std::env::temp_dir().join(format!("orrery-transfer-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let bytes: Vec<u8> = (0..3 * PAGE_SIZE + 5).map(|index| (index % 251) as u8).collect();
        std::fs::write(path.join("f"), &bytes).unwrap();
        let folder = SharedFolder::open(&path, b"/mnt", false).unwrap();
        let status = folder.root().look(b"f").unwrap();
        let file = folder.root().entry(b"f", &status).open(true, true).unwrap();
        let frames: Vec<Frame> = (0..4).map(|_| Frame::zeroed().unwrap()).collect();
        assert_eq!(file.read_frames(0, &frames).unwrap(), Some(bytes.len()));
        let mut page = [0; PAGE_SIZE];
        frames[2].read(0, &mut page);
        assert_eq!(page[..], bytes[2 * PAGE_SIZE..3 * PAGE_SIZE]);
        assert_eq!(file.write_frames(1, &frames, PAGE_SIZE + 7).unwrap(), PAGE_SIZE + 7);
        assert_eq!(std::fs::read(path.join("f")).unwrap()[1..PAGE_SIZE + 8], bytes[..PAGE_SIZE + 7]);
        assert_eq!(file.read_frames(1 << 40, &frames).unwrap(), Some(0));
        assert_eq!(file.read_frames(u64::MAX, &frames), Err(HostError(libc::EINVAL as u16)));
        std::fs::remove_dir_all(&path).unwrap();
    }
}
