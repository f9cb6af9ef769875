//! Waiting for many files at once: what poll(2) and select(2) have in common.

use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Poll, Waker};

use abi::fallible::TryVec;
use abi::{Errno, Result};
use machine::memory::fallible;
use smallvec::SmallVec;
use sync::{Budget, Kind, Listener, WaitQueue, yield_now};

use crate::file::PollEvents;
use crate::open_file::OpenFile;

/// So many places are taken before others get a turn.
const GROUP: usize = 1024;

/// So many parts are looked at before others get a turn.
const FEW: usize = 32;

/// Units of a budget for looking at a part.
const PART: usize = 8;

/// What a file has to report of what is `wanted`. A descriptor that is not open is an event, too.
pub fn look(file: Option<&OpenFile>, wanted: PollEvents) -> PollEvents {
    match file.map(OpenFile::usable) {
        Some(Ok(file)) => file.poll() & (wanted | PollEvents::ALWAYS),
        _ => PollEvents::INVALID,
    }
}

/// Remembers that it woke the task.
struct Alarm {
    rung: AtomicBool,
    task: Waker,
}

impl Alarm {
    /// An alarm for this task, and the waker that rings it.
    async fn new() -> (Arc<Alarm>, Waker) {
        let task = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let alarm = Arc::new(Alarm { rung: AtomicBool::new(false), task });
        (alarm.clone(), Waker::from(alarm))
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// FsPaths in the queues of several files, which are shared with others: who watches takes nothing from who reads. Few need
/// no heap.
pub struct Watch<'a> {
    /// The last of them, at most [`GROUP`].
    places: FsPaths<'a>,
    /// Groups of those before: no piece of memory becomes large.
    groups: Vec<FsPaths<'a>>,
}

type FsPaths<'a> = SmallVec<[Listener<&'a WaitQueue>; 2]>;

impl<'a> Watch<'a> {
    /// Watches these files for these events, and for errors. No place is taken yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(watched: impl Iterator<Item = (&'a OpenFile, PollEvents)>) -> Result<Watch<'a>> {
        let mut watch = Watch { places: SmallVec::new(), groups: Vec::new() };
        for (file, events) in watched {
            watch.add(file, events)?;
        }
        Ok(watch)
    }

    /// Watches one more.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    pub fn add(&mut self, file: &'a OpenFile, events: PollEvents) -> Result<()> {
        if let Some(queue) = file.file().wait_queue(events | PollEvents::ALWAYS) {
            if self.places.len() == GROUP {
                self.groups.try_push(core::mem::take(&mut self.places))?;
            }
            fallible(|| self.places.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
            self.places.push(Listener::new(queue, Kind::Shared, events.to_wait_for()));
        }
        Ok(())
    }

    /// Waits until looking finds something, and tells how many. What there is to look at has `parts`, of some dozen files each; `look`
    /// looks at one of them. All are looked at after all places have been taken, and whenever one was woken. If they are many, others
    /// run in between.
    ///
    /// # Errors
    /// `ENOMEM`: there is no memory for the places.
    pub async fn until(&mut self, parts: usize, mut look: impl FnMut(usize) -> usize) -> Result<usize> {
        let mut budget = Budget::new();
        // A wake-up that comes while others run would go unnoticed. Where nobody does, it finds us asleep.
        let alarm = if parts > FEW { Some(Alarm::new().await) } else { None };
        loop {
            if let Some((alarm, _)) = &alarm {
                alarm.rung.store(false, Ordering::Relaxed);
            }
            // First take every place, then look: what comes about in between wakes us.
            for group in self.groups.iter_mut().chain([&mut self.places]) {
                let waker = alarm.as_ref().map(|(_, waker)| waker);
                poll_fn(|context| Poll::Ready(take_places(group, waker.unwrap_or(context.waker())))).await?;
                if alarm.is_some() {
                    yield_now().await;
                }
            }
            let mut found = 0;
            for part in 0..parts {
                found += look(part);
                if alarm.is_some() {
                    budget.pace(PART).await;
                }
            }
            if found > 0 {
                return Ok(found);
            }
            match &alarm {
                Some((alarm, _)) => {
                    poll_fn(|_| if alarm.rung.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }).await;
                }
                None => {
                    let mut slept = false;
                    poll_fn(|_| if core::mem::replace(&mut slept, true) { Poll::Ready(()) } else { Poll::Pending })
                        .await;
                    // What woke us is found without taking a place again.
                    let found = (0..parts).map(&mut look).sum();
                    if found > 0 {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Gives the places back. If they are many, others run meanwhile.
    pub async fn leave(mut self) {
        let mut budget = Budget::new();
        loop {
            while let Some(place) = self.places.pop() {
                drop(place);
                budget.pace(1).await;
            }
            match self.groups.pop() {
                Some(group) => self.places = group,
                None => break,
            }
        }
    }
}

fn take_places(places: &mut FsPaths<'_>, waker: &Waker) -> Result<()> {
    places.iter_mut().try_for_each(|place| place.register_with(waker).map_err(|_| Errno::ENOMEM))
}
