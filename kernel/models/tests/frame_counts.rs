//! The bytes of a frame have one user at a time who may change them, by the frame's count alone: every order of two and three threads.
//!
//! The bytes are a cell of loom's, which reports any two uses of which one writes and that nothing orders. What the kernel does with a frame
//! that is given back is left out on purpose: its lock would order what the count must order by itself.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use models::count::Count;
use models::every_order;

/// A frame.
struct Frame {
    count: Count,
    bytes: Bytes,
    /// How often it was given back.
    given_back: AtomicUsize,
}

/// Memory that loom watches.
type Bytes = UnsafeCell<u32>;

impl Frame {
    /// One with so many owners.
    fn new(owners: u32) -> Arc<Frame> {
        let frame = Frame { count: Count::reserved(), bytes: UnsafeCell::new(0), given_back: AtomicUsize::new(0) };
        frame.count.set(owners);
        Arc::new(frame)
    }

    fn read(&self) {
        self.bytes.with(|_| ());
    }

    fn write(&self) {
        self.bytes.with_mut(|_| ());
    }

    /// Drops a reference.
    fn give_up(&self) -> bool {
        let is_last = self.count.remove();
        if is_last {
            self.given_back.fetch_add(1, Ordering::Relaxed);
        }
        is_last
    }

    /// A write to a page that may be shared: in place by a sole owner, else to a copy.
    fn write_or_copy(&self) {
        if self.count.owners() == 1 {
            self.write();
        } else {
            self.read();
        }
        let _ = self.give_up();
    }
}

/// The last owner may do anything with the bytes before the frame goes back, as let the host forget them.
fn last_owner_writes(frame: &Frame) {
    frame.read();
    if frame.give_up() {
        frame.write();
    }
}

/// Runs a thread for each.
fn together(frame: &Arc<Frame>, bodies: &[fn(&Frame)]) {
    let threads: Vec<_> = bodies
        .iter()
        .map(|body| {
            let (frame, body) = (frame.clone(), *body);
            thread::spawn(move || body(&frame))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn reader(frame: &Frame) {
    frame.read();
    let _ = frame.give_up();
}

/// Takes the frame anew if it is free, and writes.
fn next_owner(frame: &Frame) {
    if frame.count.claim() {
        frame.write();
        let _ = frame.give_up();
    }
}

#[test]
fn the_last_owner_comes_after_all_others() {
    every_order(None, || {
        let frame = Frame::new(2);
        together(&frame, &[last_owner_writes, last_owner_writes]);
        assert_eq!(frame.given_back.load(Ordering::Relaxed), 1, "given back once");
        assert_eq!(frame.count.glance(), 0);
    });
}

#[test]
fn the_last_of_three_owners_comes_after_all_others() {
    every_order(Some(2), || {
        let frame = Frame::new(3);
        together(&frame, &[last_owner_writes, last_owner_writes, last_owner_writes]);
        assert_eq!((frame.given_back.load(Ordering::Relaxed), frame.count.glance()), (1, 0));
    });
}

#[test]
fn the_next_owner_comes_after_the_last() {
    every_order(Some(2), || {
        let frame = Frame::new(2);
        together(&frame, &[reader, reader, next_owner]);
        let owned_again = frame.given_back.load(Ordering::Relaxed);
        assert!(owned_again == 1 || owned_again == 2);
        assert_eq!(frame.count.glance(), 0);
    });
}

#[test]
fn who_claims_a_frame_has_it_alone() {
    every_order(Some(2), || {
        let frame = Frame::new(0);
        together(&frame, &[next_owner, next_owner, next_owner]);
        assert_eq!(frame.count.glance(), 0);
    });
}

#[test]
fn a_sole_owner_writes_in_place_when_the_others_have_read() {
    every_order(None, || {
        let frame = Frame::new(2);
        together(&frame, &[Frame::write_or_copy, Frame::write_or_copy]);
        assert_eq!(frame.given_back.load(Ordering::Relaxed), 1);
    });
    every_order(Some(2), || {
        let frame = Frame::new(3);
        together(&frame, &[reader, Frame::write_or_copy, Frame::write_or_copy]);
        assert_eq!(frame.given_back.load(Ordering::Relaxed), 1);
    });
}

/// Owners that count further ones: one under its space's lock, one anywhere.
#[test]
fn no_owner_is_lost_while_others_come_and_go() {
    fn shares(frame: &Arc<Frame>, add: fn(&Count)) {
        add(&frame.count);
        let other = frame.clone();
        let other = thread::spawn(move || last_owner_writes(&other));
        last_owner_writes(frame);
        other.join().unwrap();
    }
    for add in [Count::add, Count::add_alone] {
        every_order(Some(2), move || {
            let frame = Frame::new(2);
            let one = frame.clone();
            let one = thread::spawn(move || last_owner_writes(&one));
            shares(&frame, add);
            one.join().unwrap();
            assert_eq!((frame.given_back.load(Ordering::Relaxed), frame.count.glance()), (1, 0));
        });
    }
}

/// The one that is left counts another owner by plain words: what was done before is done for that one, too.
#[test]
fn who_is_left_alone_comes_after_the_others() {
    fn shares_and_drops_both(frame: &Frame) {
        frame.count.add_alone();
        let _ = frame.give_up();
        last_owner_writes(frame);
    }
    every_order(None, || {
        let frame = Frame::new(2);
        together(&frame, &[reader, shares_and_drops_both]);
        assert_eq!((frame.given_back.load(Ordering::Relaxed), frame.count.glance()), (1, 0));
    });
}
