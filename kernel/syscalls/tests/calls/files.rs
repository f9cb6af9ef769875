//! Bytes to and from files, and what is refused.

use abi::Errno;
use abi::raw::general as number;
use syscalls::{Calls, Refusal};

use crate::stage::{DATA, Stage};

/// `O_RDWR | O_CREAT`
const CREATE: usize = (number::O_RDWR | number::O_CREAT) as usize;
/// Anonymous private memory, readable and writable.
const ANYWHERE: [usize; 6] = [0, 0x10000, 3, 0x22, usize::MAX, 0];

#[test]
fn large_transfers_bring_in_the_pages_they_need() {
    let (_stage, init) = Stage::start();
    let name = init.string(DATA, "/file");
    let file = init.call(number::__NR_open, [name, CREATE, 0o644]).unwrap();
    let source = init.call(number::__NR_mmap, ANYWHERE).unwrap();
    let pattern: Vec<u8> = (0..0x10000_u32).map(|byte| ((byte * 7) >> 3) as u8).collect();
    init.store(source, pattern.as_slice());
    assert_eq!(init.call(number::__NR_write, [file, source, 0x10000]), Ok(0x10000));
    // Nobody has touched the pages of this one.
    let target = init.call(number::__NR_mmap, ANYWHERE).unwrap();
    assert_eq!(init.call(number::__NR_lseek, [file, 1, 0]), Ok(1));
    assert_eq!(init.call(number::__NR_read, [file, target + 5, 0x10000 - 5]), Ok(0x10000 - 5));
    assert_eq!(init.bytes(target + 5, 0x10000 - 5), pattern[1..0x10000 - 4]);
    assert_eq!(init.call(number::__NR_read, [file, target, 100]), Ok(4));
    assert_eq!(init.call(number::__NR_read, [file, target, 100]), Ok(0));
    assert_eq!(init.call(number::__NR_pread64, [file, target, 3, 0x8000]), Ok(3));
    assert_eq!(init.bytes(target, 3), pattern[0x8000..0x8003]);
    // A buffer that ends before the bytes do.
    let end = target + 0x10000 - 10;
    assert_eq!(init.call(number::__NR_munmap, [target + 0x10000, 0x1000]), Ok(0));
    assert_eq!(init.call(number::__NR_pread64, [file, end, 100, 0]), Ok(10));
    assert_eq!(init.call(number::__NR_pread64, [file, end + 10, 100, 0]), Err(Errno::EFAULT));
}

#[test]
fn vectors_are_one_transfer() {
    let (_stage, init) = Stage::start();
    let name = init.string(DATA, "/file");
    let file = init.call(number::__NR_open, [name, CREATE, 0o644]).unwrap();
    let text = init.string(DATA + 0x100, "one two three");
    let vectors = init.store(DATA + 0x200, &[[text, 3], [text + 3, 0], [text + 8, 5]]);
    assert_eq!(init.call(number::__NR_writev, [file, vectors, 3]), Ok(8));
    assert_eq!(init.call(number::__NR_lseek, [file, 0, 0]), Ok(0));
    let vectors = init.store(DATA + 0x200, &[[DATA + 0x300, 2], [DATA + 0x400, 100]]);
    assert_eq!(init.call(number::__NR_readv, [file, vectors, 2]), Ok(8));
    assert_eq!((init.bytes(DATA + 0x300, 3), init.bytes(DATA + 0x400, 6)), (b"on\0".to_vec(), b"ethree".to_vec()));
    let bad = init.store(DATA + 0x200, &[[text, 3], [text, usize::MAX]]);
    assert_eq!(init.call(number::__NR_writev, [file, bad, 2]), Err(Errno::EINVAL));
    assert_eq!(init.call(number::__NR_writev, [file, bad, 1025]), Err(Errno::EINVAL));
    assert_eq!(init.call(number::__NR_writev, [99, bad, 1025]), Err(Errno::EBADF));
}

#[test]
fn what_is_not_done_is_refused_and_counted() {
    let (stage, init) = Stage::start();
    assert_eq!(init.call(number::__NR_socket, [1, 1, 0]), Err(Errno::ENOSYS));
    assert_eq!(init.call(number::__NR_socket, [1, 1, 0]), Err(Errno::ENOSYS));
    assert_eq!(init.call(5000, [0]), Err(Errno::ENOSYS));
    assert_eq!(init.call(number::__NR_pipe2, [DATA, 0x4000]), Err(Errno::EINVAL));
    assert_eq!(init.call(number::__NR_pipe2, [DATA, 0]), Ok(0));
    let found: Vec<_> = stage.calls.refusals().list();
    let refusal = |number: u32, flags| Refusal { number: number as usize, flags };
    let expected =
        [(refusal(number::__NR_socket, 0), 2), (refusal(number::__NR_pipe2, 0x4000), 1), (refusal(5000, 0), 1)];
    assert_eq!(found, expected);
}

#[test]
fn a_traced_kernel_writes_a_line_for_each_call() {
    let (stage, init) = Stage::start_with(Calls::new(true));
    let name = init.string(DATA, "/file");
    let file = init.call(number::__NR_open, [name, CREATE, 0o640]).unwrap();
    let text = init.string(DATA + 0x100, "hello\n");
    assert_eq!(init.call(number::__NR_write, [file, text, 6]), Ok(6));
    assert_eq!(init.call(number::__NR_rmdir, [name]), Err(Errno::ENOTDIR));
    let (read, _) = init.pipe();
    let (child, _) = init.fork();
    child.begin(number::__NR_read, [read, DATA, 10]);
    assert!(child.waits());
    let log = stage.kernel.log().read_all(100_000);
    for line in [
        "[1] open(\"/file\", O_RDWR|O_CREAT, 0640) = 0\n",
        "[1] write(0, \"hello\\n\", 6) = 6\n",
        "[1] rmdir(\"/file\") = -1 ENOTDIR\n",
        "[1] fork() = 2\n",
    ] {
        assert!(log.contains(line), "no {line} in\n{log}");
    }
    assert!(!log.contains("read("), "{log}");
}
