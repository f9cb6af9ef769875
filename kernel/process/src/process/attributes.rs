//! What a process says about itself: the switches of prctl(2) and their kin.

use core::sync::atomic::Ordering;

use super::Process;

impl Process {
    pub(crate) fn is_unkillable(&self) -> bool {
        self.unkillable.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unkillable(&self, unkillable: bool) {
        self.unkillable.store(unkillable, Ordering::Relaxed);
    }

    /// Whether it has executed a program of its own.
    pub fn has_executed(&self) -> bool {
        self.executed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_executed(&self) {
        self.executed.store(true, Ordering::Relaxed);
    }

    /// `PR_GET_CHILD_SUBREAPER`
    pub fn is_subreaper(&self) -> bool {
        self.reaps.load(Ordering::Relaxed)
    }

    /// `PR_SET_CHILD_SUBREAPER`
    pub fn set_subreaper(&self, reaps: bool) {
        self.reaps.store(reaps, Ordering::Relaxed);
    }

    /// `PR_GET_DUMPABLE`: 0, 1 or 2.
    pub fn dumpable(&self) -> u32 {
        self.dumpable.load(Ordering::Relaxed)
    }

    /// `PR_SET_DUMPABLE`
    pub fn set_dumpable(&self, dumpable: u32) {
        self.dumpable.store(dumpable, Ordering::Relaxed);
    }

    /// personality(2)
    pub fn personality(&self) -> u32 {
        self.personality.load(Ordering::Relaxed)
    }

    /// personality(2)
    pub fn set_personality(&self, personality: u32) {
        self.personality.store(personality, Ordering::Relaxed);
    }

    /// /proc/PID/oom_score_adj, -1000 to 1000.
    pub fn out_of_memory_adjustment(&self) -> i32 {
        self.out_of_memory_adjustment.load(Ordering::Relaxed) as i32
    }

    /// Sets what [`Process::out_of_memory_adjustment`] gives.
    pub fn set_out_of_memory_adjustment(&self, adjustment: i32) {
        self.out_of_memory_adjustment.store(adjustment as u32, Ordering::Relaxed);
    }

    /// What a child takes over, beyond what its maker names.
    pub(crate) fn inherit(&self, parent: &Process) {
        self.dumpable.store(parent.dumpable(), Ordering::Relaxed);
        self.personality.store(parent.personality(), Ordering::Relaxed);
        self.set_out_of_memory_adjustment(parent.out_of_memory_adjustment());
    }
}
