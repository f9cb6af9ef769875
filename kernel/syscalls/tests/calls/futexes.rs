//! futex(2) between processes that share memory.

use abi::Errno;
use abi::raw::general as number;
use abi::time::Timespec;

use crate::stage::{DATA, Program, Stage};

const WAIT: usize = number::FUTEX_WAIT as usize;
const WAKE: usize = number::FUTEX_WAKE as usize;
const REQUEUE: usize = number::FUTEX_CMP_REQUEUE as usize;

/// A page that children share.
fn shared_page(program: &Program) -> usize {
    program.call(number::__NR_mmap, [0, 4096, 3, 0x21, usize::MAX, 0]).unwrap()
}

fn wake(program: &Program, word: usize, count: usize) -> usize {
    program.call(number::__NR_futex, [word, WAKE, count]).unwrap()
}

#[test]
fn who_waits_is_woken_across_processes() {
    let (_stage, init) = Stage::start();
    let word = shared_page(&init);
    let children: Vec<_> = (0..3).map(|_| init.fork().0).collect();
    for child in &children {
        child.begin(number::__NR_futex, [word, WAIT, 0, 0]);
        assert!(child.waits());
    }
    init.store(word, &1_u32);
    assert_eq!(init.call(number::__NR_futex, [word, WAIT, 0, 0]), Err(Errno::EAGAIN));
    assert_eq!(wake(&init, word, 1), 1);
    assert_eq!(children[0].result(), Ok(0));
    assert!(children[1].waits());
    assert_eq!(wake(&init, word, 10), 2);
    assert_eq!((children[1].result(), children[2].result()), (Ok(0), Ok(0)));
    assert_eq!(wake(&init, word, 10), 0);
}

#[test]
fn waiters_are_moved_to_another_word() {
    let (_stage, init) = Stage::start();
    let word = shared_page(&init);
    let children: Vec<_> = (0..3).map(|_| init.fork().0).collect();
    for child in &children {
        child.begin(number::__NR_futex, [word, WAIT, 0, 0]);
        assert!(child.waits());
    }
    assert_eq!(init.call(number::__NR_futex, [word, REQUEUE, 1, 10, word + 64, 9]), Err(Errno::EAGAIN));
    assert_eq!(init.call(number::__NR_futex, [word, REQUEUE, 1, 1, word + 64, 0]), Ok(2));
    assert_eq!(children[0].result(), Ok(0));
    assert_eq!(wake(&init, word + 64, 10), 1);
    assert_eq!(children[1].result(), Ok(0));
    assert_eq!(wake(&init, word, 10), 1);
    assert_eq!(children[2].result(), Ok(0));
}

/// More than are moved at once: what is told, and what is still to be done, counts from the first to the last.
#[test]
fn many_waiters_are_woken_and_moved_in_slices() {
    let (_stage, init) = Stage::start();
    let word = shared_page(&init);
    let children: Vec<_> = (0..45).map(|_| init.fork().0).collect();
    for child in &children {
        child.begin(number::__NR_futex, [word, WAIT, 0, 0]);
        assert!(child.waits());
    }
    assert_eq!(init.call(number::__NR_futex, [word, REQUEUE, 20, 20, word + 64, 0]), Ok(40));
    assert!(children[..20].iter().all(|child| child.result() == Ok(0)));
    assert_eq!((wake(&init, word + 64, 100), wake(&init, word, 100)), (20, 5));
    assert!(children[20..].iter().all(|child| child.result() == Ok(0)));
}

#[test]
fn private_words_are_apart_and_times_run_out() {
    let (_stage, init) = Stage::start();
    let (child, _) = init.fork();
    let time = child.store(DATA + 0x100, &Timespec { seconds: 0, nanoseconds: 50_000_000 });
    child.begin(number::__NR_futex, [DATA, WAIT, 0, time]);
    // The same address in another process is another word.
    assert_eq!(wake(&init, DATA, 10), 0);
    assert_eq!(child.result(), Err(Errno::ETIMEDOUT));
    assert_eq!(init.call(number::__NR_futex, [DATA + 1, WAIT, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(init.call(number::__NR_futex, [8, WAIT, 0, 0]), Err(Errno::EFAULT));
    let bad = init.store(DATA, &Timespec { seconds: 0, nanoseconds: -1 });
    assert_eq!(init.call(number::__NR_futex, [DATA, WAIT, 0, bad]), Err(Errno::EINVAL));
}
