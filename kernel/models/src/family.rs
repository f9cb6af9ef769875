//! Families and groups of processes, which are no more than that here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool as Fixed;

use abi::Pid;
use loom::sync::atomic::{AtomicBool, Ordering};

use crate::SpinLock;
use crate::wait_queue::WaitQueue;

#[path = "../../process/src/process/children.rs"]
mod children;
#[path = "../../process/src/process/family.rs"]
pub mod tree;

#[path = "../../process/src/pid/group.rs"]
mod group;

pub use children::{Children, Siblings};
pub use group::{Members, ProcessGroup};

/// Sessions play no part here.
mod session {
    /// As in kernel/process.
    pub struct Session;

    impl Session {
        pub fn id(&self) -> abi::Pid {
            abi::Pid::NOBODY
        }

        pub fn join(&self) {}
    }
}

pub use session::Session;

/// What of a process its family and its group ask for.
pub struct Process {
    pid: Pid,
    parent: SpinLock<Option<Arc<Process>>>,
    siblings: SpinLock<Siblings>,
    children: SpinLock<Children>,
    group: SpinLock<Option<Arc<ProcessGroup>>>,
    zombie: AtomicBool,
    /// Its end has begun.
    dead: AtomicBool,
    reaps: Fixed,
    /// A signal has reached it.
    pub signalled: AtomicBool,
    /// Woken when a child has something to report.
    pub child_event: WaitQueue,
}

#[allow(missing_docs, reason = "as in kernel/process")]
impl Process {
    /// A child of `parent`. To be made before there are other threads, or by one that nobody waits for.
    pub fn new(pid: u32, parent: Option<&Arc<Process>>) -> Arc<Process> {
        let process = Arc::new(Process {
            pid: Pid::new(pid),
            parent: SpinLock::default(),
            siblings: SpinLock::default(),
            children: SpinLock::default(),
            group: SpinLock::default(),
            zombie: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            reaps: Fixed::new(false),
            signalled: AtomicBool::new(false),
            child_event: WaitQueue::new(),
        });
        // Every lock is used once before others come.
        let _ = (process.parent(), process.siblings.lock(), process.group.lock(), process.child_event.sequence());
        assert!(!process.children.lock().is_closed());
        if let Some(parent) = parent {
            assert_eq!(tree::adopt(parent, &process, || Ok::<_, ()>(())), Ok(true));
        }
        process
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn parent(&self) -> Option<Arc<Process>> {
        self.parent.lock().clone()
    }

    pub fn set_parent(&self, parent: Option<Arc<Process>>) {
        *self.parent.lock() = parent;
    }

    pub fn is_child_of(&self, parent: &Arc<Process>) -> bool {
        self.parent.lock().as_ref().is_some_and(|own| Arc::ptr_eq(own, parent))
    }

    pub fn children(&self) -> &SpinLock<Children> {
        &self.children
    }

    pub fn siblings(&self) -> &SpinLock<Siblings> {
        &self.siblings
    }

    pub fn is_zombie(&self) -> bool {
        self.zombie.load(Ordering::Acquire)
    }

    pub fn become_zombie(&self) {
        self.zombie.store(true, Ordering::Release);
    }

    /// As exit_group(2) begins it.
    pub fn begin_exit(&self) {
        self.dead.store(true, Ordering::Release);
    }

    pub fn is_dead(&self) -> bool {
        self.is_zombie() || self.dead.load(Ordering::Acquire)
    }

    pub fn is_init(&self) -> bool {
        self.pid == Pid::new(1)
    }

    pub fn is_unkillable(&self) -> bool {
        self.is_init()
    }

    pub fn is_subreaper(&self) -> bool {
        self.reaps.load(Ordering::Relaxed)
    }

    /// `PR_SET_CHILD_SUBREAPER`, before there are other threads.
    pub fn reap(&self) {
        self.reaps.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        false
    }

    /// Its group. It has one where it is asked for it.
    pub fn group(&self) -> Arc<ProcessGroup> {
        self.group.lock().clone().unwrap()
    }

    pub fn is_in(&self, group: &Arc<ProcessGroup>) -> bool {
        self.group.lock().as_ref().is_some_and(|own| Arc::ptr_eq(own, group))
    }

    pub fn set_group(&self, group: &Arc<ProcessGroup>) {
        *self.group.lock() = Some(group.clone());
    }

    pub fn group_id(&self) -> Pid {
        self.group().id()
    }

    pub fn session_id(&self) -> Pid {
        Pid::NOBODY
    }
}
