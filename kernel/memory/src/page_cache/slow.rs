//! A backing that takes its time, for tests and for whoever wants to see what waiting does: Linux's dm-delay and dm-flakey in one.
//!
//! A [`SlowBacking`] stands before another one. Each request waits in a [`SlowQueue`] for a number of steps drawn from a seed; so they
//! go on out of order, as those of a disk do. Some fail instead.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::fallible::TryVec;
use sync::{SpinLock, WaitQueue};

use super::{Backing, CutRequest, ReadRequest, WriteRequest};
use crate::pager::PagerError;

/// Of so many requests [`SlowQueue::set_failing`] names those that fail.
const ALL: u64 = 256;

/// Requests that wait for their time.
pub struct SlowQueue {
    random: AtomicU64,
    /// Steps a request takes at most; 0 for none.
    slowness: u64,
    failing_reads: AtomicU64,
    failing_writes: AtomicU64,
    failing_turns: AtomicU64,
    waiting: SpinLock<Vec<Waiting>>,
    arrived: WaitQueue,
}

/// A request, and what it still has to wait.
struct Waiting {
    steps: u64,
    request: Request,
}

enum Request {
    Read(Arc<dyn Backing>, ReadRequest),
    Write(Arc<dyn Backing>, WriteRequest),
    Cut(Arc<dyn Backing>, CutRequest),
    Turn(Arc<Turn>),
}

/// A request of somebody who does the rest himself.
#[derive(Default)]
struct Turn {
    result: SpinLock<Option<Result<(), PagerError>>>,
    over: WaitQueue,
}

impl Turn {
    fn complete(&self, result: Result<(), PagerError>) {
        *self.result.lock() = Some(result);
        self.over.wake_all();
    }
}

impl SlowQueue {
    /// A queue in which requests wait for up to `slowness` steps, as `seed` says.
    pub fn new(seed: u64, slowness: u64) -> Arc<SlowQueue> {
        Arc::new(SlowQueue {
            random: AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            slowness,
            failing_reads: AtomicU64::new(0),
            failing_writes: AtomicU64::new(0),
            failing_turns: AtomicU64::new(0),
            waiting: SpinLock::default(),
            arrived: WaitQueue::new(),
        })
    }

    /// Lets so many of 256 reads and writes fail.
    pub fn set_failing(&self, reads: u64, writes: u64) {
        self.failing_reads.store(reads, Ordering::Relaxed);
        self.failing_writes.store(writes, Ordering::Relaxed);
    }

    /// Lets so many of 256 turns fail.
    pub fn set_failing_turns(&self, turns: u64) {
        self.failing_turns.store(turns, Ordering::Relaxed);
    }

    /// Waits for its turn, as a request does.
    ///
    /// # Errors
    /// [`PagerError::Io`] if it is to fail.
    pub async fn turn(&self) -> Result<(), PagerError> {
        let turn = Arc::new(Turn::default());
        self.take(Request::Turn(turn.clone()));
        turn.over.wait_until(|| *turn.result.lock()).await
    }

    /// The next number of the seed's, below `end`.
    pub fn draw(&self, end: u64) -> u64 {
        // xorshift64
        let next = |state: u64| {
            let state = state ^ (state << 13);
            let state = state ^ (state >> 7);
            state ^ (state << 17)
        };
        let before = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(next(state)));
        (next(before.unwrap_or_default()) >> 16) % end.max(1)
    }

    /// Requests that wait.
    pub fn in_flight(&self) -> usize {
        self.waiting.lock().len()
    }

    fn take(&self, request: Request) {
        let waiting = Waiting { steps: self.slowness, request };
        if self.slowness == 0 {
            return self.finish(waiting);
        }
        let steps = 1 + self.draw(self.slowness);
        let kept = self.waiting.lock().try_push(Waiting { steps, ..waiting });
        if kept.is_ok() {
            self.arrived.wake_one();
        }
    }

    /// A step of time, after which those that are due go on, in any order. False if nothing waited.
    pub fn step(&self) -> bool {
        let any = {
            let mut waiting = self.waiting.lock();
            waiting.iter_mut().for_each(|request| request.steps = request.steps.saturating_sub(1));
            !waiting.is_empty()
        };
        while let Some(request) = self.take_due() {
            self.finish(request);
        }
        any
    }

    fn take_due(&self) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        let due = waiting.iter().filter(|request| request.steps == 0).count();
        let chosen = self.draw(due as u64) as usize;
        let place = waiting.iter().enumerate().filter(|(_, request)| request.steps == 0).nth(chosen)?.0;
        Some(waiting.swap_remove(place))
    }

    /// Lets time pass, for ever: to be run by a task. `sleep` waits for as long as a step takes.
    pub async fn run<S: Future<Output = ()>>(&self, sleep: impl Fn() -> S) {
        loop {
            self.arrived.wait_until(|| (self.in_flight() > 0).then_some(())).await;
            sleep().await;
            self.step();
        }
    }

    fn finish(&self, waiting: Waiting) {
        let fails = |of: &AtomicU64| self.draw(ALL) < of.load(Ordering::Relaxed);
        match waiting.request {
            Request::Read(_, request) if fails(&self.failing_reads) => request.complete(Err(PagerError::Io)),
            Request::Read(backing, request) => backing.read(request),
            Request::Write(_, request) if fails(&self.failing_writes) => request.complete(Err(PagerError::Io)),
            Request::Write(backing, request) => backing.write(request),
            Request::Cut(backing, request) => backing.cut(request),
            Request::Turn(turn) if fails(&self.failing_turns) => turn.complete(Err(PagerError::Io)),
            Request::Turn(turn) => turn.complete(Ok(())),
        }
    }
}

/// A file whose requests wait before they reach the file's own backing.
pub struct SlowBacking {
    queue: Arc<SlowQueue>,
    inner: Arc<dyn Backing>,
}

impl SlowBacking {
    /// `inner`, behind a queue.
    pub fn new(queue: &Arc<SlowQueue>, inner: Arc<dyn Backing>) -> Arc<SlowBacking> {
        Arc::new(SlowBacking { queue: queue.clone(), inner })
    }
}

impl Backing for SlowBacking {
    fn read(&self, request: ReadRequest) {
        self.queue.take(Request::Read(self.inner.clone(), request));
    }

    fn write(&self, request: WriteRequest) {
        self.queue.take(Request::Write(self.inner.clone(), request));
    }

    fn cut(&self, request: CutRequest) {
        self.queue.take(Request::Cut(self.inner.clone(), request));
    }
}
