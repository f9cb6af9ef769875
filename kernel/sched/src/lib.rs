//! Scheduling: which future a CPU polls next, for how long, and when it wakes.
//!
//! | module | holds |
//! | --- | --- |
//! | `executor` | [`Executor`]: one queue a CPU, the main loop, wake-up placement, stealing, preemption |
//! | `task` | [`Task`]: one future, its state machine, its accounting |
//! | `policy` | [`Policy`]: the order of a queue; [`Fair`] (the default) and [`Fifo`] |
//! | `timers` | sleeping until a time, on the alarm of a CPU |
//! | `load` | the load averages of `/proc/loadavg` |
//!
//! ## The interface in one page
//!
//! ```text
//! impl Executor {
//!     pub fn new(cpus: usize) -> Arc<Executor>;                    // Fair
//!     pub fn with_policy(cpus, policy: impl Fn(usize) -> Box<dyn Policy>) -> Arc<Executor>;
//!     pub fn task(self: &Arc<Self>, Parameters { name, nice, affinity }) -> Arc<Task>;      // not started
//!     pub fn start(&self, task: &Arc<Task>, future: impl Future<Output = ()> + Send + 'static);
//!     pub fn spawn(self: &Arc<Self>, parameters, future) -> Arc<Task>;   // both; kernel tasks
//!     pub fn run(&self, cpu: usize) -> !;                          // the main loop of a CPU
//!     pub fn sleep_until(self: &Arc<Self>, deadline: u64) -> Sleep;      // future, cancel-safe; ns of machine::time::now()
//!     pub fn timeout(self: &Arc<Self>, deadline: Option<u64>, future) -> Option<Output>     // async; None: time is up
//!     pub fn statistics() -> Statistics { switches, running, cpus: Vec<CpuTimes { user, system, idle }>, .. };
//!     pub fn load_averages() -> [u64; 3] (FIXED_1 = 1 << 11);
//! }
//! impl machine::cpu::Handler for Executor
//! pub fn yield_now() -> impl Future<Output = ()> + Send;
//! impl Task { attention() -> Attention bits; should_yield(); poke(); user_time(); kernel_time(); set_nice(); set_affinity(); cpu(); .. }
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
