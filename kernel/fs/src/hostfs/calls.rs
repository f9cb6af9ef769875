//! Calls of the host that may take long: made by helpers of the machine, and waited for asleep.
//!
//! Each has a ticket, under which is noted here who waits for the answer. A task of the kernel, [`HostCalls::serve`], hands answers out; before
//! it [begins](HostCalls::begin), calls are made at once and take as long as they take. A caller that is killed takes his ticket back, and the call with it
//! unless the host is at it already.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Result;
use machine::folder::{HostError, OpenNode, Request, SharedFolder, Ticket};
use memory::{PAGE_SIZE, PagerError, ReadRequest};
use sync::{SpinLock, WaitQueue};

use super::errno;

/// What a helper says.
type Answer = Result<Vec<u8>, HostError>;

/// See the module's page. Its locks come last: under them none is taken.
pub(super) struct HostCalls {
    folder: SharedFolder,
    waiting: SpinLock<BTreeMap<Ticket, Waiting>>,
    last: AtomicU64,
    answered: Arc<WaitQueue>,
}

/// Who waits for an answer.
enum Waiting {
    Caller(Arc<Call>),
    Pages(ReadRequest),
}

/// A call somebody waits for.
#[derive(Default)]
struct Call {
    answer: SpinLock<Option<Answer>>,
    over: WaitQueue,
}

/// The right to the answer of a call. Dropped, it is not wanted any more.
struct Wanted<'a>(&'a HostCalls, Ticket);

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if self.0.leave(self.1).is_some() {
            self.0.folder.withdraw(self.1);
        }
    }
}

impl HostCalls {
    pub fn new(folder: &SharedFolder) -> HostCalls {
        let (waiting, last, answered) = (SpinLock::default(), AtomicU64::new(0), Arc::default());
        HostCalls { folder: folder.clone(), waiting, last, answered }
    }

    /// Has a helper make the call, and waits for that. Dropped, it is not waited for.
    ///
    /// # Errors
    /// What the host says.
    pub async fn make(&self, open: &OpenNode, request: Request) -> Result<Vec<u8>> {
        let call = Arc::new(Call::default());
        let wanted = Wanted(self, self.enter(Waiting::Caller(call.clone())));
        if !open.ask(wanted.1, request) {
            return open.answer(&request).map_err(errno);
        }
        call.over.wait_until(|| call.answer.lock().take()).await.map_err(errno)
    }

    /// Has a helper read pages.
    pub fn read_pages(&self, open: &OpenNode, pages: ReadRequest) {
        let (offset, length) = (pages.first() * PAGE_SIZE as u64, pages.frames().len() * PAGE_SIZE);
        let request = Request::Read { offset, length };
        let ticket = self.enter(Waiting::Pages(pages));
        if !open.ask(ticket, request) {
            self.tell(ticket, open.answer(&request));
        }
    }

    /// From now on helpers are asked. Somebody has to [serve](HostCalls::serve).
    pub fn begin(&self) {
        let answered = self.answered.clone();
        self.folder.attend(Arc::new(move || {
            answered.wake_one();
        }));
    }

    /// Hands out answers, for ever: to be run by a task of the kernel.
    pub async fn serve(&self) {
        loop {
            let (ticket, answer) = self.answered.wait_until(|| self.folder.take_answer()).await;
            self.tell(ticket, answer);
        }
    }

    fn enter(&self, waiting: Waiting) -> Ticket {
        let ticket = Ticket(self.last.fetch_add(1, Ordering::Relaxed));
        // bounded: by those who wait, and the pages that are being read
        self.waiting.lock().insert(ticket, waiting);
        ticket
    }

    fn leave(&self, ticket: Ticket) -> Option<Waiting> {
        self.waiting.lock().remove(&ticket)
    }

    fn tell(&self, ticket: Ticket, answer: Answer) {
        match self.leave(ticket) {
            Some(Waiting::Caller(call)) => {
                *call.answer.lock() = Some(answer);
                call.over.wake_all();
            }
            Some(Waiting::Pages(pages)) => match answer {
                Ok(bytes) => fill(pages, &bytes),
                Err(_) => pages.complete(Err(PagerError::Io)),
            },
            None => {}
        }
    }
}

/// Fills the frames with what was read of the file.
fn fill(pages: ReadRequest, bytes: &[u8]) {
    for (frame, part) in pages.frames().iter().zip(bytes.chunks(PAGE_SIZE)) {
        frame.write(0, part);
        frame.zero(part.len()..PAGE_SIZE);
    }
    pages.complete_some(bytes.len());
}
