//! Giving way.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// Lets whoever is more urgent run first, and interrupts be taken: what long work does whenever
/// [`crate::Executor::should_yield`] says so. [`crate::Task::give_way`] also puts the task behind its equals.
pub const fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
