//! Waiting for many files at once: poll(2), and select(2) on top of it.

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use smallvec::SmallVec;
use sync::Listener;

use crate::file::PollEvents;
use crate::open_file::OpenFile;

/// One file to watch: an element of poll(2)'s array.
pub struct Interest<'a> {
    /// The file; `None` when its descriptor is not open, which is an event itself.
    pub file: Option<&'a OpenFile>,
    /// What is waited for.
    pub events: PollEvents,
    /// What was found: always a part of `events` and [`PollEvents::ALWAYS`].
    pub ready: PollEvents,
}

impl<'a> Interest<'a> {
    /// Nothing found yet.
    pub const fn new(file: Option<&'a OpenFile>, events: PollEvents) -> Interest<'a> {
        Interest { file, events, ready: PollEvents::empty() }
    }
}

/// Looks at each file once and returns how many have something to report.
pub fn check(entries: &mut [Interest<'_>]) -> usize {
    let mut found = 0;
    for entry in entries {
        let events = match entry.file.map(OpenFile::usable) {
            Some(Ok(file)) => file.poll(),
            _ => PollEvents::INVALID,
        };
        entry.ready = events & (entry.events | PollEvents::ALWAYS);
        found += usize::from(!entry.ready.is_empty());
    }
    found
}

/// Waits until something is there to report or `timeout` is over, and returns how many files have something. Nothing is
/// registered or allocated when something is there at once.
pub async fn poll(entries: &mut [Interest<'_>], timeout: impl Future<Output = ()>) -> usize {
    let found = check(entries);
    if found > 0 {
        return found;
    }
    let mut listeners: SmallVec<[Listener<'_>; 4]> = entries.iter().filter_map(listener).collect();
    let mut timeout = pin!(timeout);
    let mut registered = false;
    poll_fn(|context| {
        // A wake-up found true stays noted in its listener, and is handed on when that is dropped: polling takes
        // nothing.
        let mut found = if registered { check(entries) } else { 0 };
        if found == 0 {
            for listener in &mut listeners {
                listener.register_with(context.waker());
            }
            registered = true;
            found = check(entries);
        }
        match found {
            0 => timeout.as_mut().poll(context).map(|()| 0),
            found => Poll::Ready(found),
        }
    })
    .await
}

/// A place in the queue of one file, not yet taken.
fn listener<'a>(entry: &Interest<'a>) -> Option<Listener<'a>> {
    let file: &'a OpenFile = entry.file?;
    file.file().wait_queue(entry.events | PollEvents::ALWAYS).map(|queue| queue.listen())
}
