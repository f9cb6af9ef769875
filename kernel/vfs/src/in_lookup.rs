//! Names about which a file system is being asked: dentries in lookup, as Linux calls them.
//!
//! Where a file system may have to wait ([`crate::waiting`]), one walker asks for a name and all others who want it wait for what he is told.
//! Each of them is handed the answer, an error as well as a dentry, so nobody asks the file system, or the cache, a second time. A walker that
//! is killed ends the lookup without an answer: those who waited are woken, and the first of them asks.
//!
//! A name that is being made is in lookup as well, by who makes it: so nobody finds half of it.
//!
//! A name is entered here under the lock of its directory, by who found that the cache does not have it; the cache has the answer before the name
//! is taken out. The list has a lock of its own, which is taken under that of the directory, and the answer has another; under them none is taken.
//!
//! kernel/models tries every order of this file's steps.

use alloc::sync::Arc;

use abi::Result;
use sync::{SpinLock, WaitQueue};

use crate::hash_tree::HashTree;
use crate::name::{self, Name, to_name};

/// The names of a directory that are in lookup; an answer is an `A`.
pub struct NamesInLookup<A>(SpinLock<HashTree<Arc<InLookup<A>>>>);

impl<A> Default for NamesInLookup<A> {
    fn default() -> NamesInLookup<A> {
        NamesInLookup(SpinLock::new(HashTree::new()))
    }
}

/// A name in lookup.
pub struct InLookup<A> {
    hash: u64,
    name: Name,
    state: SpinLock<State<A>>,
    over: WaitQueue,
}

#[derive(Clone)]
enum State<A> {
    /// The file system is being asked.
    Asked,
    /// This is what it said.
    Answered(A),
    /// Who asked has gone, or the name was made: look again.
    Ended,
}

impl<A> NamesInLookup<A> {
    /// The lookup of this name, if there is one. The caller holds the lock of the directory.
    pub fn find(&self, hash: u64, name: &[u8]) -> Option<Arc<InLookup<A>>> {
        self.0.lock().find(hash, |asked| asked.is_called(name)).cloned()
    }

    /// Begins to ask for `name`, about which nobody asks yet. The caller holds the lock of the directory.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn ask(self: &Arc<Self>, hash: u64, name: &[u8]) -> Result<Asking<A>> {
        let name = to_name(name)?;
        let asked = Arc::new(InLookup { hash, name, state: SpinLock::new(State::Asked), over: WaitQueue::new() });
        self.0.lock().insert(hash, asked.clone())?;
        Ok(Asking { names: self.clone(), asked })
    }
}

impl<A> InLookup<A> {
    /// Whether it is this name's.
    pub fn is_called(&self, name: &[u8]) -> bool {
        name::same(&self.name, name)
    }

    /// Waits until it is over.
    pub async fn wait(&self) {
        self.over.wait_until(|| (!matches!(*self.state.lock(), State::Asked)).then_some(())).await;
    }
}

impl<A: Clone> InLookup<A> {
    /// What the file system said; none if that was never told.
    pub fn answer(&self) -> Option<A> {
        match self.state.lock().clone() {
            State::Answered(answer) => Some(answer),
            State::Asked | State::Ended => None,
        }
    }
}

/// The right to ask about a name, and the duty to tell. Dropped, it ends the lookup without an answer.
pub struct Asking<A> {
    names: Arc<NamesInLookup<A>>,
    asked: Arc<InLookup<A>>,
}

impl<A> Asking<A> {
    /// What others wait for.
    pub fn asked(&self) -> &Arc<InLookup<A>> {
        &self.asked
    }

    /// The hash of the name, and the name.
    pub fn name(&self) -> (u64, &[u8]) {
        (self.asked.hash, &self.asked.name)
    }

    /// Tells all who wait. The cache has the answer.
    pub fn tell(self, answer: A) {
        self.end(State::Answered(answer));
    }

    fn end(&self, state: State<A>) {
        let listed = self.names.0.lock().remove(self.asked.hash, |other| Arc::ptr_eq(other, &self.asked));
        if listed.is_some() {
            *self.asked.state.lock() = state;
            self.asked.over.wake_all();
        }
    }
}

impl<A> Drop for Asking<A> {
    fn drop(&mut self) {
        self.end(State::Ended);
    }
}
