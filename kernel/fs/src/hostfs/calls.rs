//! Calls of the host that may take long: made by helpers of the machine, and waited for asleep.
//!
//! Each has a ticket, under which is noted here who waits for the answer, and what is to be done when it comes. A task of the kernel,
//! [`HostCalls::serve`], hands answers out; before it [begins](HostCalls::begin), calls are made at once and take as long as they take. A caller that is
//! killed takes his ticket back, and the call with it unless the host is at it already. What is to be done then is done all the same.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::folder::{self, HostError, Node, NodeRequest, OpenNode, Request, SharedFolder, Ticket};
use memory::{PAGE_SIZE, PagerError, ReadRequest};
use sync::{SpinLock, WaitQueue};

use super::errno;

/// What a helper says.
pub(super) type Answer = Result<folder::Answer, HostError>;

/// What is done when the answer comes, before anybody is told.
pub(super) type Then = Box<dyn FnOnce(&Answer) + Send>;

/// See the module's page. Its locks come last: under them none is taken.
pub(super) struct HostCalls {
    folder: SharedFolder,
    waiting: SpinLock<BTreeMap<Ticket, Waiting>>,
    last: AtomicU64,
    answered: Arc<WaitQueue>,
    /// Names and files that are far are waited for.
    far_wait: AtomicBool,
}

/// Who waits for an answer.
struct Waiting {
    call: Option<Arc<Call>>,
    then: Option<Then>,
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
        self.0.give_up(self.1);
    }
}

impl HostCalls {
    pub fn new(folder: &SharedFolder) -> HostCalls {
        let (waiting, last, answered) = (SpinLock::default(), AtomicU64::new(0), Arc::default());
        HostCalls { folder: folder.clone(), waiting, last, answered, far_wait: AtomicBool::new(false) }
    }

    /// Has a helper make a call on an open file, and waits for that. Dropped, it is not waited for.
    ///
    /// # Errors
    /// What the host says.
    pub async fn make(&self, open: &OpenNode, request: &Request, then: Option<Then>) -> Result<folder::Answer> {
        self.wait_for(then, |ticket| open.ask(ticket, request), || open.answer(request)).await
    }

    /// The same for a call by name.
    ///
    /// # Errors
    /// What the host says.
    pub async fn make_by_name(&self, node: &Node, request: NodeRequest, then: Option<Then>) -> Result<folder::Answer> {
        self.wait_for(then, |ticket| node.ask(ticket, &request), || node.answer(request.clone())).await
    }

    /// Has a helper make a call, for which nobody waits.
    pub fn hand_over(&self, open: &OpenNode, request: &Request, then: Then) {
        let ticket = self.enter(Waiting { call: None, then: Some(then) });
        self.ask(ticket, |ticket| open.ask(ticket, request), || open.answer(request));
    }

    /// Has a helper read pages.
    pub fn read_pages(&self, open: &OpenNode, pages: ReadRequest) {
        let (offset, length) = (pages.first() * PAGE_SIZE as u64, pages.frames().len() * PAGE_SIZE);
        self.hand_over(open, &Request::Read { offset, length }, Box::new(move |answer| fill(pages, answer)));
    }

    /// From now on helpers are asked. Somebody has to [serve](HostCalls::serve).
    pub fn begin(&self) {
        let answered = self.answered.clone();
        self.folder.attend(Arc::new(move || {
            answered.wake_one();
        }));
    }

    /// From now on far names and files are waited for.
    pub fn begin_to_wait(&self) {
        self.far_wait.store(true, Ordering::Relaxed);
    }

    /// Nobody waits any more: calls are made at once again.
    pub fn end_to_wait(&self) {
        self.far_wait.store(false, Ordering::Relaxed);
    }

    /// Whether calls that concern this file are left to helpers, whatever they are.
    pub fn is_far(&self, node: &Node) -> bool {
        !node.is_near() && self.far_wait.load(Ordering::Relaxed)
    }

    /// Hands out answers, for ever: to be run by a task of the kernel.
    pub async fn serve(&self) {
        loop {
            let (ticket, answer) = self.answered.wait_until(|| self.folder.take_answer()).await;
            self.tell(ticket, answer);
        }
    }

    async fn wait_for(
        &self,
        then: Option<Then>,
        ask: impl FnOnce(Ticket) -> Result<bool, HostError>,
        answer: impl FnOnce() -> Answer,
    ) -> Result<folder::Answer> {
        let call = Arc::new(Call::default());
        let wanted = Wanted(self, self.enter(Waiting { call: Some(call.clone()), then }));
        self.ask(wanted.1, ask, answer);
        call.over.wait_until(|| call.answer.lock().take()).await.map_err(errno)
    }

    /// Asks a helper; if there is none, the call is made here and now.
    fn ask(
        &self,
        ticket: Ticket,
        ask: impl FnOnce(Ticket) -> Result<bool, HostError>,
        answer: impl FnOnce() -> Answer,
    ) {
        match ask(ticket) {
            Ok(true) => {}
            Ok(false) => self.tell(ticket, answer()),
            Err(error) => self.tell(ticket, Err(error)),
        }
    }

    fn enter(&self, waiting: Waiting) -> Ticket {
        let ticket = Ticket(self.last.fetch_add(1, Ordering::Relaxed));
        // bounded: by those who wait, and the pages that are on their way
        self.waiting.lock().insert(ticket, waiting);
        ticket
    }

    fn leave(&self, ticket: Ticket) -> Option<Waiting> {
        self.waiting.lock().remove(&ticket)
    }

    fn give_up(&self, ticket: Ticket) {
        let finishes = match self.waiting.lock().get(&ticket) {
            None => return,
            Some(waiting) => waiting.then.is_some(),
        };
        let withdrawn = self.folder.withdraw(ticket);
        if withdrawn || !finishes {
            drop(self.leave(ticket));
        }
    }

    fn tell(&self, ticket: Ticket, answer: Answer) {
        let Some(Waiting { call, then }) = self.leave(ticket) else { return };
        if let Some(then) = then {
            then(&answer);
        }
        if let Some(call) = call {
            *call.answer.lock() = Some(answer);
            call.over.wake_all();
        }
    }
}

/// What an answer of another kind than was asked for comes to: there is none.
pub(super) fn unexpected<T>() -> Result<T> {
    Err(Errno::EIO)
}

/// Fills the frames with what was read of the file.
fn fill(pages: ReadRequest, answer: &Answer) {
    let Ok(folder::Answer::Bytes(bytes)) = answer else { return pages.complete(Err(PagerError::Io)) };
    for (frame, part) in pages.frames().iter().zip(bytes.chunks(PAGE_SIZE)) {
        frame.write(0, part);
        frame.zero(part.len()..PAGE_SIZE);
    }
    pages.complete_some(bytes.len());
}
