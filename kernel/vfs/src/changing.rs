//! Changes of directories that may have to wait for their file system ([`crate::waiting`]).
//!
//! **A call that waits is made again.** The functions of [`crate::change`] and [`crate::open`] stay plain: one that finds a lock taken, or
//! gets a [`Pending`] from the file system, leaves what it waits for with its thread ([`crate::paused_walk`]) and says so; when that has come
//! about it is called again. Locks stay with the thread meanwhile. What a change came to is left there too: the next attempt
//! of the call finds it, and is done.
//!
//! **A change goes through.** It carries its locks ([`crate::directory_locks`]), asks the file system, and then changes the cache. If its caller is killed after the
//! file system was asked, the kernel completes it ([`UnfinishedChanges`]): so the cache never guesses what became of it, as on
//! Linux, where such a caller can't be killed.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context as Task, Poll};

use abi::{Errno, Result};
use machine::memory::fallible;
use sync::{Events, Kind, Listener, SpinLock, WaitQueue};

use crate::mount::Path;

/// What a change came to: where the file is that was made, if one was.
pub(crate) type Changed = Result<Option<Path>>;

/// What does a change.
type Changing = Pin<Box<dyn Future<Output = Changed> + Send>>;

/// A change the file system is asked for. Dropped half way, it is completed by the kernel.
pub(crate) struct Change {
    future: Option<Changing>,
    begun: bool,
    unfinished: Arc<UnfinishedChanges>,
}

impl Change {
    /// `change` asks the file system, and changes the cache when it has answered.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(
        unfinished: &Arc<UnfinishedChanges>,
        change: impl Future<Output = Changed> + Send + 'static,
    ) -> Result<Change> {
        unfinished.make_room()?;
        Ok(Change { future: Some(Box::pin(change)), begun: false, unfinished: unfinished.clone() })
    }
}

impl Future for Change {
    type Output = Changed;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Changed> {
        self.begun = true;
        let Some(future) = &mut self.future else { return Poll::Pending };
        let result = future.as_mut().poll(task);
        if result.is_ready() {
            self.future = None;
        }
        result
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.unfinished.leave(self.future.take().filter(|_| self.begun));
    }
}

/// The changes whose callers were killed.
#[derive(Default)]
pub struct UnfinishedChanges {
    changes: SpinLock<Unfinished>,
    arrived: WaitQueue,
}

#[derive(Default)]
struct Unfinished {
    /// With room for all that are under way.
    waiting: Vec<Changing>,
    under_way: usize,
}

impl UnfinishedChanges {
    /// Makes room for one more that may come.
    fn make_room(&self) -> Result<()> {
        let mut changes = self.changes.lock();
        let all = changes.under_way + 1;
        fallible(|| changes.waiting.try_reserve(all)).map_err(|_| Errno::ENOMEM)?;
        changes.under_way = all;
        Ok(())
    }

    /// A change is over, or left here by a caller who was killed.
    fn leave(&self, change: Option<Changing>) {
        let left = change.is_some();
        let mut changes = self.changes.lock();
        changes.under_way -= 1;
        // bounded: room was made when it began
        changes.waiting.extend(change);
        drop(changes);
        if left {
            self.arrived.wake_one();
        }
    }

    /// Completes them, for ever: to be run by a task of the kernel.
    pub async fn complete(&self) {
        let mut changes: Vec<Changing> = Vec::new();
        let mut listener = Listener::new(&self.arrived, Kind::Exclusive, Events::ALL);
        poll_fn(|task| {
            let mut short = listener.register_with(task.waker()).is_err();
            while !short && let Some(change) = self.next() {
                short = self.begin(&mut changes, change);
            }
            if short {
                task.waker().wake_by_ref();
            }
            changes.retain_mut(|change| change.as_mut().poll(task).is_pending());
            Poll::<()>::Pending
        })
        .await;
    }

    fn next(&self) -> Option<Changing> {
        self.changes.lock().waiting.pop()
    }

    /// Takes one among those that are polled. True if there is no memory for it now: it waits on.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn begin(&self, changes: &mut Vec<Changing>, change: Changing) -> bool {
        let short = fallible(|| changes.try_reserve(1)).is_err();
        if short {
            self.changes.lock().waiting.push(change)
        } else {
            changes.push(change)
        }
        short
    }
}
